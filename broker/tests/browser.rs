//! What browsers do with a broker: the page to try HTTP, and pages of other origins.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use serde_json::json;
use support::Brokers;
use support::browser::Browser;
use support::http::{get, post_json, send};
use support::operator::{CLUSTER, Operator, epoch, key, page};

const MESSAGES: &str = "/v1/topics/events/messages";

async fn one(flags: &[&str]) -> (Brokers, Operator) {
    let brokers = Brokers::start_with(1, flags);
    let operator = brokers.operator(0, CLUSTER).await;
    let me = operator.replica();
    operator.push(&page(1, &[me], me, 1), 1).await;
    operator.leads(key(0), epoch(1)).await;
    (brokers, operator)
}

/// Fills the form of an operation, and sends it.
fn fill(operation: &str, fields: &[(&str, &str)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("form.querySelector({}).value = {};", json!(name), json!(value)))
        .collect();
    format!(
        "{{ const form = document.getElementById({}).querySelector('form'); {} form.querySelector('button:not([type])').click(); }}",
        json!(operation),
        fields.concat()
    )
}

/// Whether the last answer to an operation has these words.
fn answers(operation: &str, words: &str) -> String {
    format!(
        "document.getElementById({}).querySelector('.answer').textContent.includes({})",
        json!(operation),
        json!(words)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_publishes_and_reads_with_the_page() {
    let (brokers, _operator) = one(&[]).await;
    let address = brokers.ports[0].http;
    let mut browser = Browser::start();
    browser.open(&format!("http://{address}/docs")).await;
    browser.becomes("document.querySelectorAll('details').length === 8").await;
    let (publish, read) = ("post/v1/topics/{topic}/messages", "get/v1/topics/{topic}/messages");
    let message = r#"{"key": "k", "value": "by <b>hand</b>"}"#;
    browser.run(&fill(publish, &[("[name=topic]", "events"), ("textarea", message)]));
    browser.becomes(&answers(publish, r#""offset":1"#)).await;
    browser.run(&fill(read, &[("[name=topic]", "events"), ("[name=offset]", "earliest")]));
    browser.becomes(&answers(read, r#""value":"by <b>hand</b>""#)).await;
    assert_eq!(get(address, MESSAGES).json()["messages"][0]["value"], "by <b>hand</b>");
    let told = browser.run("document.querySelector('.command:not([hidden])').textContent");
    assert!(
        told.as_str().unwrap().starts_with(&format!("curl 'http://{address}/v1/topics/events")),
        "{told}"
    );
    // What curl would take for a file is sent as it is.
    browser.run(&fill(publish, &[("[name=topic]", "events"), ("textarea", "@/etc/hostname")]));
    let told =
        browser.run(&format!("document.getElementById('{publish}').querySelector('.command').textContent"));
    assert!(told.as_str().unwrap().ends_with(" --data-raw '@/etc/hostname'"), "{told}");
    // A stream goes on until it is stopped.
    let follow = "get/v1/topics/{topic}/stream";
    browser.run(&fill(follow, &[("[name=topic]", "events"), ("[name=from]", "earliest")]));
    browser.becomes(&answers(follow, "by <b>hand</b>")).await;
    assert_eq!(post_json(address, MESSAGES, r#"{"value": "later"}"#).status, 200);
    browser.becomes(&answers(follow, "later")).await;
    browser.run(&format!("document.getElementById('{follow}').querySelector('button[type=button]').click()"));
    browser.becomes(&answers(follow, "stopped")).await;
    // What is wrong is told.
    browser.run(&fill(read, &[("[name=topic]", "nothing")]));
    browser.becomes(&answers(read, "UNKNOWN_TOPIC")).await;
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_runs_no_script_but_its_own() {
    let (brokers, _operator) = one(&[]).await;
    let address = brokers.ports[0].http;
    let mut browser = Browser::start();
    browser.open(&format!("http://{address}/docs")).await;
    browser.run(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.foreign = 1'}))",
    );
    assert_eq!(browser.run("window.foreign === undefined"), true);
    assert!(
        browser.complaints.iter().any(|said| said.contains("Content Security Policy")),
        "{:?}",
        browser.complaints
    );
    let elsewhere = "fetch('http://127.0.0.1:9/').then(() => 'went', (error) => String(error))";
    assert!(browser.run(elsewhere).as_str().unwrap().contains("TypeError"));
}

/// Serves an empty page, of an origin of its own.
fn empty_page() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut socket, _)) = listener.accept() {
            // A browser may open one more than it uses.
            std::thread::spawn(move || {
                let _asked = socket.read(&mut [0; 4096]);
                let _gone = socket.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 7\r\nConnection: close\r\n\r\n<p></p>",
                );
            });
        }
    });
    address
}

/// Publishes by gRPC-web: `PublishRequest{topic: "events", value: "web"}`. Comes to how the call ended, or to the error.
fn call(grpc: SocketAddr, topic: &str) -> String {
    format!(
        r"(async () => {{
            const field = (tag, text) => [tag, text.length, ...new TextEncoder().encode(text)];
            const message = [...field(0x0a, {topic}), ...field(0x1a, 'web')];
            const answer = await fetch('http://{grpc}/fulmar.v1.PubSub/Publish', {{
                method: 'POST',
                headers: {{'content-type': 'application/grpc-web+proto', 'x-grpc-web': '1', 'grpc-timeout': '20S', 'x-mine': 'y'}},
                body: new Uint8Array([0, 0, 0, 0, message.length, ...message]),
            }});
            const status = answer.headers.get('grpc-status');
            if (status !== null) return status + (answer.headers.get('grpc-status-details-bin') ? ' with details' : '');
            const body = new Uint8Array(await answer.arrayBuffer());
            return new TextDecoder().decode(body.slice(body.indexOf(0x80) + 5)).trim();
        }})().catch((error) => String(error))",
        topic = json!(topic)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_use_grpc_web_and_http_and_others_do_not() {
    let (allowed, other) = (empty_page(), empty_page());
    let (brokers, _operator) =
        one(&["--cors-allow-origins", &format!("https://shop.example,http://{allowed}")]).await;
    let ports = brokers.ports[0];
    let topics = format!(
        "fetch('http://{}/v1/topics', {{headers: {{'x-mine': 'y'}}}}).then(async (answer) => (await answer.json()).topics[0].name, (error) => String(error))",
        ports.http
    );
    let mut browser = Browser::start();
    browser.open(&format!("http://{allowed}/")).await;
    assert_eq!(browser.run(&call(ports.grpc, "events")), "grpc-status:0");
    assert_eq!(
        browser.run(&call(ports.grpc, "nothing")),
        "5 with details",
        "a head that says how it ended is shown"
    );
    assert_eq!(browser.run(&topics), "events");
    browser.open(&format!("http://{other}/")).await;
    for script in [call(ports.grpc, "events"), topics] {
        let said = browser.run(&script);
        assert!(said.as_str().unwrap().contains("TypeError: Failed to fetch"), "{said}");
    }
    assert_eq!(get(ports.http, MESSAGES).json()["next_offset"], 2, "the other page was not even let ask");
}

fn preflight(address: SocketAddr, target: &str, origin: &str) -> support::http::Answer {
    let head = format!(
        "OPTIONS {target} HTTP/1.1\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type,x-grpc-web"
    );
    send(address, &head, b"")
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_for_programs_is_opened_and_only_where_it_was_asked_for() {
    const CALL: &str = "/fulmar.v1.PubSub/Publish";
    let (shop, other) = ("https://shop.example", "https://other.example");
    let says = |answer: &support::http::Answer, header: &str| answer.head.contains(&format!("{header}\r\n"));
    let (closed, _operator) = one(&[]).await;
    let ports = closed.ports[0];
    assert_eq!(preflight(ports.http, MESSAGES, shop).status, 405);
    assert_eq!(preflight(ports.grpc, CALL, shop).status, 415);
    let asked = send(ports.http, &format!("GET /v1/topics HTTP/1.1\r\nOrigin: {shop}"), b"");
    assert!(asked.status == 200 && !asked.head.contains("access-control"), "{asked:?}");
    drop(closed);
    let (open, _operator) = one(&["--cors-allow-origins", shop]).await;
    let ports = open.ports[0];
    for (address, target) in [(ports.http, MESSAGES), (ports.grpc, CALL)] {
        let told = preflight(address, target, shop);
        assert!(
            told.status == 200 && says(&told, &format!("access-control-allow-origin: {shop}")),
            "{told:?}"
        );
        assert!(says(&told, "access-control-allow-headers: content-type,x-grpc-web"), "{told:?}");
        assert!(told.head.contains("post") && !told.head.contains("credentials"), "{told:?}");
        let told = preflight(address, target, other);
        assert!(!told.head.contains("access-control-allow-origin"), "{told:?}");
    }
    for target in ["/metrics", "/livez", "/log-level", "/docs"] {
        let told = preflight(ports.http, target, shop);
        assert!(
            matches!(told.status, 403 | 405) && !told.head.contains("access-control"),
            "{target}: {told:?}"
        );
    }
    let refused = send(ports.http, &format!("DELETE /v1/topics HTTP/1.1\r\nOrigin: {shop}"), b"");
    assert!(refused.tells(405, "is not answered at"), "{refused:?}");
    drop(open);
    let (every, _operator) = one(&["--cors-allow-origins", "*"]).await;
    let told = preflight(every.ports[0].http, MESSAGES, other);
    assert!(says(&told, "access-control-allow-origin: *"), "{told:?}");
}
