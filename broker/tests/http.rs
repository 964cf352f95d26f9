//! What HTTP serves to people and scripts: `/publish`, probes, metrics.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use fulmar_proto::internal::v1::Ask;
use fulmar_proto::internal::v1::from_operator::Message as Down;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{Earliest, Start, SubscribeRequest};
use support::http::{get, post, send};
use support::operator::{CLUSTER, Operator, epoch, hello, key, page};
use support::{Brokers, eventually};

async fn one() -> (Brokers, Operator) {
    let brokers = Brokers::start(1);
    let operator = brokers.operator(0, CLUSTER).await;
    let me = operator.replica();
    operator.push(&page(1, &[me], me, 1), 1).await;
    operator.leads(key(0), epoch(1)).await;
    (brokers, operator)
}

async fn values(brokers: &Brokers, count: usize) -> Vec<Vec<u8>> {
    let request = SubscribeRequest {
        topics: vec!["events".to_owned()],
        start: Some(Start { at: Some(At::Earliest(Earliest {})) }),
        partitions: Vec::new(),
    };
    let mut stream = brokers.pubsub(0).await.subscribe(request).await.unwrap().into_inner();
    let mut values = Vec::new();
    while values.len() < count {
        let messages = stream.message().await.unwrap().unwrap().messages;
        values.extend(messages.into_iter().map(|message| message.value.to_vec()));
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn the_query_or_the_body_is_published_as_it_is() {
    let (brokers, _operator) = one().await;
    let address = brokers.ports[0].http;
    let first = get(address, "/publish?topic=events&msg=hello&key=k");
    assert_eq!((first.status, first.body.as_str()), (200, r#"{"topic":"events","partition":0,"offset":1}"#));
    assert_eq!(get(address, "/publish?msg=1+%2B+1%26%C3%A9&topic=events").status, 200);
    assert_eq!(post(address, "/publish?topic=events", b"a body \xff").status, 200);
    assert_eq!(post(address, "/publish?topic=events&msg=in+the+query", b"").status, 200);
    assert_eq!(post(address, "/publish?topic=events&key=k", b"").status, 200, "an empty body is a message");
    let form = "POST /publish?topic=events HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
    let chunked = format!("{form}\r\nTransfer-Encoding: chunked");
    assert_eq!(send(address, &chunked, b"3\r\na=b\r\n2\r\n+c\r\n0\r\n\r\n").status, 200);
    let published = values(&brokers, 6).await;
    let expected: [&[u8]; 6] =
        [b"hello", "1 + 1&\u{e9}".as_bytes(), b"a body \xff", b"in the query", b"", b"a=b+c"];
    assert_eq!(published, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_and_nothing_is_published() {
    let (brokers, _operator) = one().await;
    let address = brokers.ports[0].http;
    for (target, status, words) in [
        ("/publish?topic=nothing&msg=hello", 404, "UNKNOWN_TOPIC"),
        ("/publish?msg=hello", 400, "topic: the name of a topic is needed"),
        ("/publish?topic=events", 400, "msg: the message is needed"),
        (
            "/publish?topic=events&msg=x&colour=red",
            400,
            "colour: there is no such parameter; there are topic, msg, key",
        ),
        ("/publish?topic=events&msg=x&msg=y", 400, "msg: it is there twice"),
        ("/publish?topic=events&msg=%ff", 400, "msg: byte 0 of it is no UTF-8 (0xff)"),
        ("/publish?topic=ev%fents&msg=x", 400, "topic: byte 2 of it is no UTF-8"),
        ("/publish?topic=events&msg=100%", 400, "msg: % is no percent-encoded byte"),
        ("/nothing", 404, "there is nothing at /nothing; there are /publish"),
    ] {
        let answer = get(address, target);
        assert!(answer.tells(status, words), "{target}: {answer:?}");
    }
    let both = post(address, "/publish?topic=events&msg=x", b"y");
    assert!(both.tells(400, "not in both"), "{both:?}");
    let large = post(address, "/publish?topic=events", &vec![b'a'; (1 << 20) + 1]);
    assert!(large.tells(413, "topic \\\"events\\\" allows 1048576"), "{large:?}");
    let giant = send(address, "POST /publish?topic=events HTTP/1.1\r\nContent-Length: 99999999999", b"");
    assert!(giant.tells(413, "body: it has more than 8388608 bytes"), "{giant:?}");
    for (method, target, allowed) in [
        ("DELETE", "/publish", "get, post"),
        ("HEAD", "/publish?topic=events&msg=x", "get, post"),
        ("POST", "/livez", "get, head"),
    ] {
        let answer = send(address, &format!("{method} {target} HTTP/1.1"), b"");
        assert_eq!(answer.status, 405, "{method} {target}: {answer:?}");
        assert!(answer.head.contains(&format!("\r\nallow: {allowed}")), "{answer:?}");
        assert!(method == "HEAD" || answer.tells(405, "is not answered at"), "{answer:?}");
    }
    let last = get(address, "/publish?topic=events&msg=last");
    assert!(last.body.contains("\"offset\":1"), "nothing before it: {last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_answer() {
    let (brokers, _operator) = one().await;
    let address = brokers.ports[0].http;
    assert_eq!(get(address, "/publish?topic=events&msg=hello").status, 200);
    assert_eq!(get(address, "/livez").status, 200);
    eventually("ready", async || get(address, "/readyz").status == 200).await;
    let metrics = get(address, "/metrics");
    assert!(
        metrics.status == 200
            && metrics.body.contains("fulmar_publishes_total 1")
            && metrics.body.ends_with("# EOF\n"),
        "{metrics:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_refused_for_ever_is_not_ready_until_an_operator_accepts_it() {
    let (brokers, operator) = one().await;
    let address = brokers.ports[0].http;
    eventually("ready", async || get(address, "/readyz").status == 200).await;
    let lost_incarnation = operator.hello.incarnation.clone();
    let refusing = fulmar_proto::internal::v1::OperatorHello { lost_incarnation, ..hello(0, CLUSTER, 2) };
    let refusing = brokers.greet(0, refusing).await.unwrap();
    let is_refused = || {
        let answer = get(address, "/readyz");
        answer.status == 503 && answer.body.starts_with("refused: ")
    };
    eventually("refused", async || is_refused()).await;
    eventually("said so", async || brokers.log(0).contains("the operator refuses this volume for ever"))
        .await;
    drop(refusing);
    let greeting = brokers.try_operator(0, CLUSTER, 3).await.unwrap();
    assert!(is_refused(), "an operator that is away or only greets has accepted nobody");
    greeting.say(Down::Ask(Ask { request: 1 })).await;
    eventually("ready again", async || get(address, "/readyz").status == 200).await;
    let of_another = fulmar_proto::internal::v1::OperatorHello {
        lost_incarnation: "00000000-0000-0000-0000-000000000007".to_owned(),
        ..hello(0, CLUSTER, 4)
    };
    let _attending = brokers.greet(0, of_another).await.unwrap();
    assert_eq!(get(address, "/readyz").status, 200, "another life of this broker is lost");
    let other = "01a20065-861d-748b-88b8-7d14b1b3ed0d";
    let _refused = brokers.try_operator(0, other, 5).await;
    eventually("refused as another Cluster's", async || is_refused()).await;
}

/// What `fulmar-broker log-level` prints of a broker that runs.
fn log_level(brokers: &Brokers, arguments: &[&str]) -> Result<String, String> {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_fulmar-broker"))
        .arg("log-level")
        .args(arguments)
        .args(["--http-address", &brokers.ports[0].http.to_string()])
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_is_changed_while_a_broker_runs_and_goes_back_by_itself() {
    let (brokers, _operator) = one().await;
    let address = brokers.ports[0].http;
    let configured = "info,fulmar_broker=debug, as configured\n";
    assert_eq!(log_level(&brokers, &[]).unwrap(), configured);
    assert!(!brokers.log(0).contains(" h2::"), "the noise is not there by itself");
    let told = log_level(&brokers, &["info,h2=trace", "--for", "1h"]).unwrap();
    assert!(
        told.starts_with("info,h2=trace for ") && told.ends_with(", then info,fulmar_broker=debug\n"),
        "{told}"
    );
    eventually("lines of the changed level", async || {
        drop(brokers.channel(0).await);
        brokers.log(0).contains(" h2::")
    })
    .await;
    let error = log_level(&brokers, &["info,h2=loud"]).unwrap_err();
    assert!(error.contains("directive 2, \"h2=loud\", is neither a level"), "{error}");
    let refused = send(address, "PUT /log-level HTTP/1.1\r\nContent-Length: 5", b"debgu");
    assert!(refused.status == 400 && refused.body.contains("directive 1, \"debgu\""), "{refused:?}");
    let refused = send(address, "POST /log-level HTTP/1.1\r\nContent-Length: 5", b"debug");
    assert!(refused.status == 405 && refused.head.contains("allow: get, head, put, delete"), "{refused:?}");
    let page = "PUT /log-level HTTP/1.1\r\nOrigin: http://example.org\r\nContent-Length: 5";
    assert_eq!(send(address, page, b"debug").status, 403, "a page in a browser changes nothing");
    assert!(
        log_level(&brokers, &[]).unwrap().starts_with("info,h2=trace for "),
        "what was refused changes nothing"
    );
    log_level(&brokers, &["warn", "--for", "1s"]).unwrap();
    eventually("the end of the change", async || log_level(&brokers, &[]).unwrap() == configured).await;
    assert!(brokers.log(0).contains("the log level is as configured again"));
    log_level(&brokers, &["debug"]).unwrap();
    assert_eq!(log_level(&brokers, &["--reset"]).unwrap(), configured);
}
