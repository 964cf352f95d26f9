//! What HTTP serves to programs: messages, streams of events, topics, the Cluster, and the document that tells of it all.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use fulmar_core::id::ReplicaId;
use serde_json::{Value, json};
use support::http::{Events, get, post, post_json, send};
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::{Brokers, eventually};

const MESSAGES: &str = "/v1/topics/events/messages";

/// The first leads all partitions.
async fn brokers(count: usize, partitions: u32) -> (Brokers, Vec<Operator>) {
    let brokers = Brokers::start(count);
    let mut operators = Vec::new();
    for ordinal in 0..count {
        operators.push(brokers.operator(ordinal, CLUSTER).await);
    }
    let replicas: Vec<ReplicaId> = operators.iter().map(Operator::replica).collect();
    let page = page(partitions, &replicas, replicas[0], 1);
    for operator in &operators {
        operator.push(&page, 1).await;
    }
    for partition in 0..partitions {
        operators[0].leads(key(partition), epoch(1)).await;
    }
    for operator in &operators {
        operator.holds(page.number, 1).await;
    }
    (brokers, operators)
}

fn read(address: SocketAddr, query: &str) -> Value {
    get(address, &format!("{MESSAGES}?{query}")).json()
}

fn values(answer: &Value) -> Vec<&str> {
    let messages = answer["messages"].as_array().unwrap();
    messages.iter().map(|message| message["value"].as_str().unwrap_or("?")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_as_json_or_as_it_is_can_be_read() {
    let (brokers, _operators) = brokers(1, 1).await;
    let address = brokers.ports[0].http;
    assert_eq!(read(address, ""), json!({"messages": [], "next_offset": 1}), "the log's own record is none");
    let one = post_json(
        address,
        MESSAGES,
        r#"{"key": "k", "value": "one", "headers": [{"name": "a", "value": "b"}]}"#,
    );
    assert_eq!(one.json(), json!({"topic": "events", "partition": 0, "offset": 1}));
    let several = r#"{"messages": [
        {"value_json": {"order": 42, "by": null}, "timestamp_ms": 7},
        {"key_base64": "/w==", "value_base64": "AP8="}
    ]}"#;
    let several = post_json(address, MESSAGES, several).json();
    assert_eq!(several["messages"][0], json!({"topic": "events", "partition": 0, "offset": 2}));
    assert_eq!(several["messages"][1]["offset"], 3);
    assert_eq!(post(address, &format!("{MESSAGES}?key=k"), br#"{"not": "parsed"}"#).json()["offset"], 4);
    let all = read(address, "offset=earliest");
    assert_eq!(all["next_offset"], 5);
    let messages = all["messages"].as_array().unwrap();
    let told: Vec<_> =
        messages.iter().map(|message| (&message["offset"], &message["key"], &message["value"])).collect();
    assert_eq!(told[0], (&json!(1), &json!("k"), &json!("one")));
    assert_eq!(messages[0]["headers"], json!([{"name": "a", "value": "b"}]));
    assert_eq!((told[1].2, &messages[1]["timestamp_ms"]), (&json!(r#"{"order":42,"by":null}"#), &json!(7)));
    assert_eq!((&messages[2]["key_base64"], &messages[2]["value_base64"]), (&json!("/w=="), &json!("AP8=")));
    assert_eq!(told[3], (&json!(4), &json!("k"), &json!(r#"{"not": "parsed"}"#)));
    let page = read(address, "offset=2&max=1&partition=0");
    assert_eq!((values(&page), &page["next_offset"]), (vec![r#"{"order":42,"by":null}"#], &json!(3)));
    assert_eq!(read(address, "offset=latest"), json!({"messages": [], "next_offset": 5}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_waits_for_what_is_not_there_yet() {
    let (brokers, _operators) = brokers(1, 1).await;
    let address = brokers.ports[0].http;
    let waits = tokio::task::spawn_blocking(move || read(address, "offset=latest&wait=50"));
    eventually("somebody reads", async || brokers.log(0).contains("a reader waits")).await;
    assert_eq!(post(address, MESSAGES, b"late").status, 200);
    assert_eq!(values(&waits.await.unwrap()), ["late"]);
    assert_eq!(values(&read(address, "offset=latest&wait=0.05")), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_named_and_none_of_it_is_published() {
    let (brokers, _operators) = brokers(1, 2).await;
    let address = brokers.ports[0].http;
    let many = json!({"messages": vec![json!({"value": "x"}); 10_001]}).to_string();
    for (body, words) in [
        ("{", "body: EOF while parsing"),
        ("[]", "body: an object is needed"),
        ("{}", "one of value, value_json and value_base64 is needed"),
        (r#"{"valu": "x"}"#, "body: unknown field `valu`"),
        (r#"{"value": 3}"#, "body: invalid type: integer `3`, expected a string"),
        (r#"{"value": "x", "value_base64": "eA=="}"#, "value, value_base64: one of them, not both"),
        (r#"{"value": "x", "value_json": 1}"#, "only one of them"),
        (r#"{"value_base64": "x"}"#, "value_base64: it is no base64"),
        (r#"{"value": "x", "partition": 2}"#, "partitions 0 to 1, not 2"),
        (r#"{"value": "x", "headers": [{"name": "", "value": "y"}]}"#, "headers[0].name is empty"),
        (r#"{"messages": []}"#, "messages: there are none in it"),
        (&many, "body: invalid length 10001, expected a list of at most 10000"),
        (r#"{"messages": [{"value": "x"}, {}]}"#, "messages[1]: one of value"),
        (r#"{"messages": [{"value": "x"}, {"value": "y", "partition": 9}]}"#, "messages[1]: topic"),
        (r#"{"messages": [{"value": "x"}], "value": "x"}"#, "body: unknown field `value`"),
    ] {
        let answer = post_json(address, MESSAGES, body);
        assert!((400..500).contains(&answer.status), "{body}: {answer:?}");
        assert!(answer.tells(answer.status, words), "{body}: {answer:?}");
    }
    let form = "POST /v1/topics/events/messages HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
    let form = send(address, &format!("{form}\r\nContent-Length: 3"), b"a=b");
    assert!(form.tells(400, "a form is no message"), "{form:?}");
    for (target, status, words) in [
        ("/v1/topics/nothing/messages", 404, "UNKNOWN_TOPIC"),
        ("/v1/topics/nothing", 404, "UNKNOWN_TOPIC"),
        ("/v1/topics/nothing/stream", 404, "UNKNOWN_TOPIC"),
        ("/v1/topics/events/messages", 400, "partition: one of 0 to 1 is needed"),
        ("/v1/topics/events/messages?partition=2", 404, "partitions 0 to 1, not 2"),
        ("/v1/topics/events/messages?partition=0&offset=7", 416, "OFFSET_OUT_OF_RANGE"),
        ("/v1/topics/events/messages?partition=0&offset=-1", 400, "offset: earliest, latest or an offset"),
        ("/v1/topics/events/messages?partition=0&max=0", 400, "max: a number from 1 to 10000"),
        ("/v1/topics/events/messages?partition=0&wait=51", 400, "wait: seconds, 0 to 50"),
        ("/v1/topics/events/messages?partition=0&wait=NaN", 400, "wait: seconds, 0 to 50"),
        ("/v1/topics/events/stream?from=now", 400, "from: earliest, latest or an offset"),
        ("/v1/topics?max=10001", 400, "max: a number from 1 to 10000"),
        ("/v1/cluster?x=1", 400, "x: there is no such parameter"),
    ] {
        let answer = get(address, target);
        assert!(answer.tells(status, words), "{target}: {answer:?}");
    }
    let id = "GET /v1/topics/events/stream HTTP/1.1\r\nLast-Event-ID: yesterday";
    let id = send(address, id, b"");
    assert!(id.tells(400, "PARTITION:OFFSET"), "{id:?}");
    for partition in 0..2 {
        assert_eq!(read(address, &format!("partition={partition}"))["messages"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_its_last_event_said() {
    let (brokers, _operators) = brokers(1, 2).await;
    let address = brokers.ports[0].http;
    let target = "/v1/topics/events/stream?from=earliest";
    for value in ["a", "b"] {
        let message = json!({"value": value, "partition": 0}).to_string();
        assert_eq!(post_json(address, MESSAGES, &message).status, 200);
    }
    let value = |data: &Option<String>| {
        let message: Value = serde_json::from_str(data.as_ref().unwrap()).unwrap();
        message["value"].as_str().unwrap().to_owned()
    };
    let mut stream = Events::open(address, target, "");
    let first = stream.next().unwrap();
    assert_eq!((first.data, first.id.as_deref()), (None, Some("")), "it stands, and nothing has a place yet");
    let mut id = String::new();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let event = stream.next_data();
        seen.push(value(&event.data));
        id = event.id.unwrap_or(id);
    }
    assert_eq!((seen, id.as_str()), (vec!["a".to_owned(), "b".to_owned()], "0:3"));
    drop(stream);
    for (partition, text) in [(0, "c"), (1, "d")] {
        let message = json!({"value": text, "partition": partition}).to_string();
        assert_eq!(post_json(address, MESSAGES, &message).status, 200);
    }
    let mut stream = Events::open(address, target, &format!("Last-Event-ID: {id}\r\n"));
    let seen: BTreeSet<String> = (0..2).map(|_| value(&stream.next_data().data)).collect();
    assert_eq!(seen, BTreeSet::from(["c".to_owned(), "d".to_owned()]));
    let latest = "/v1/topics/events/stream?from=latest";
    let places = Events::open(address, latest, "").next().unwrap().id;
    assert_eq!(places.as_deref(), Some("0:4,1:2"), "what is published from now on, so from here on");
    // A browser sends none as long as it is empty; others may.
    let mut again = Events::open(address, target, "Last-Event-ID: \r\n");
    assert_eq!(value(&again.next_data().data).len(), 1);
    let mut gone = Events::open(address, target, "Last-Event-ID: 0:99\r\n");
    let error = std::iter::from_fn(|| gone.next()).find(|event| event.kind.is_some()).unwrap();
    assert_eq!(error.kind.as_deref(), Some("error"));
    assert!(error.data.as_ref().unwrap().contains("OFFSET_OUT_OF_RANGE"), "{error:?}");
    assert_eq!(gone.next(), None, "the last");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_broker_takes_reads_and_follows_what_another_leads() {
    let (brokers, _operators) = brokers(3, 2).await;
    let mut streams: Vec<_> = (0..3)
        .map(|at| Events::open(brokers.ports[at].http, "/v1/topics/events/stream?from=earliest", ""))
        .collect();
    for at in 0..3 {
        let messages: Vec<_> = (0..20)
            .map(|number| json!({"key": format!("k{number}"), "value": format!("{at}-{number}")}))
            .collect();
        let answer = post_json(brokers.ports[at].http, MESSAGES, &json!({"messages": messages}).to_string());
        let outcomes = answer.json();
        let partitions: BTreeSet<_> = outcomes["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["partition"].as_u64().unwrap())
            .collect();
        assert_eq!((answer.status, partitions), (200, BTreeSet::from([0, 1])), "{answer:?}");
    }
    let mut seen: Vec<Vec<String>> = Vec::new();
    for at in 0..3 {
        let address = brokers.ports[at].http;
        let all = (0..2).flat_map(|partition| {
            let answer = read(address, &format!("partition={partition}"));
            values(&answer).into_iter().map(str::to_owned).collect::<Vec<_>>()
        });
        seen.push(all.collect());
        let all: BTreeSet<_> = seen[at].iter().cloned().collect();
        assert_eq!(all.len(), 60, "each of them, at broker {at}");
        let followed: BTreeSet<_> = (0..60)
            .map(|_| serde_json::from_str::<Value>(&streams[at].next_data().data.unwrap()).unwrap())
            .map(|message| message["value"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(followed, all);
    }
    assert_eq!((&seen[0], &seen[0]), (&seen[1], &seen[2]), "and in one order");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_cluster_are_told() {
    let (brokers, _operators) = brokers(1, 2).await;
    let address = brokers.ports[0].http;
    let topics = get(address, "/v1/topics").json();
    assert_eq!(
        (topics["topics"][0]["name"].as_str(), &topics["topics"][0]["partitions"]),
        (Some("events"), &json!(2))
    );
    assert_eq!(topics.get("next_after"), None, "no more");
    assert_eq!(get(address, "/v1/topics?after=events").json(), json!({"topics": []}));
    let topic = get(address, "/v1/topics/events").json();
    assert_eq!(
        (&topic["partitions"][1]["leader"], &topic["partitions"][1]["serving"]),
        (&json!(0), &json!(true))
    );
    let cluster = get(address, "/v1/cluster").json();
    assert_eq!(
        (cluster["cluster_id"].as_str(), &cluster["brokers"][0]["alive"]),
        (Some(CLUSTER), &json!(true))
    );
}

/// A path that is told is there, with every method that is told; and its page needs nothing from elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn the_document_tells_of_what_is_there() {
    let (brokers, _operators) = brokers(1, 1).await;
    let address = brokers.ports[0].http;
    let document = get(address, "/openapi.json").json();
    let mut told = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, about) in methods.as_object().unwrap() {
            told.insert(format!("{method} {path}"));
            assert!(about["summary"].is_string() && about["responses"]["200"].is_object(), "{method} {path}");
            let target = path.replace("{topic}", "nothing");
            let answer = send(
                address,
                &format!("{} {target} HTTP/1.1\r\nContent-Length: 0", method.to_uppercase()),
                b"",
            );
            assert!(
                answer.status != 405 && !answer.body.contains("there is nothing at"),
                "{method} {path}: {answer:?}"
            );
        }
    }
    let expected = [
        "get /publish",
        "get /v1/cluster",
        "get /v1/topics",
        "get /v1/topics/{topic}",
        "get /v1/topics/{topic}/messages",
        "get /v1/topics/{topic}/stream",
        "post /publish",
        "post /v1/topics/{topic}/messages",
    ];
    assert_eq!(told, expected.map(str::to_owned).into());
    let page = get(address, "/docs");
    assert!(page.status == 200 && page.head.contains("text/html"), "{page:?}");
    assert!(
        !page.body.contains("http://") && !page.body.contains("https://"),
        "it loads nothing from elsewhere"
    );
}

const PAGE: &str = include_str!("../../docs/programs.md");

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_for_programs_types_works() {
    let (brokers, _operators) = brokers(1, 1).await;
    let address = brokers.ports[0].http.to_string();
    let section = PAGE.split("\n## ").find(|section| section.starts_with("HTTP\n")).unwrap();
    let lines: Vec<&str> = section.lines().filter(|line| line.starts_with("curl ")).collect();
    assert!(lines.len() >= 8, "{lines:?}");
    for line in lines {
        let line = line.replace("127.0.0.1:8080", &address).replace("orders.v1", "events");
        let line = line.replacen("curl", "curl --silent --show-error --fail-with-body", 1);
        let ran = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        // A stream goes on until curl's time is over.
        let expected = if line.contains("/stream") { Some(28) } else { Some(0) };
        assert_eq!(ran.status.code(), expected, "{line}: {}", String::from_utf8_lossy(&ran.stderr));
        assert!(!ran.stdout.is_empty(), "{line}");
    }
    let all = read(brokers.ports[0].http, "");
    assert_eq!(values(&all), [r#"{"state":"placed"}"#, "a", "b", "as it is"]);
}
