//! Traces of sampled records: real publishes and readers, and a real receiver of OTLP.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fulmar_core::batch::{Batch, Compression, ProducedBatch, Record, RecordHeader};
use fulmar_core::id::ReplicaId;
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::produce_response::Outcome;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{
    Earliest, FetchRequest, Header, Message, ProduceRequest, PublishRequest, Start, SubscribeRequest,
};
use futures::StreamExt;
use support::collector::{Collector, Told, names};
use support::http::{get, send};
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::{Brokers, eventually};

const PARENT_SPAN: &str = "b7ad6b7169203331";
const ALL: [&str; 4] = ["append events", "commit events", "deliver events", "publish events"];

/// The first leads the only partition, and all have to hold what is acknowledged.
async fn brokers(count: usize, endpoint: Option<String>) -> (Brokers, Vec<Operator>) {
    let endpoint = endpoint.map(|endpoint| format!("--otlp-endpoint={endpoint}"));
    let flags: Vec<&str> = endpoint.iter().map(String::as_str).collect();
    let brokers = Brokers::start_with(count, &flags);
    let mut operators = Vec::new();
    for ordinal in 0..count {
        operators.push(brokers.operator(ordinal, CLUSTER).await);
    }
    let replicas: Vec<ReplicaId> = operators.iter().map(Operator::replica).collect();
    let page = page(1, &replicas, replicas[0], 1);
    for operator in &operators {
        operator.push(&page, 1).await;
    }
    operators[0].leads(key(0), epoch(1)).await;
    for operator in &operators {
        operator.holds(page.number, 1).await;
    }
    (brokers, operators)
}

async fn collected(count: usize) -> (Collector, Brokers, Vec<Operator>) {
    let collector = Collector::start().await;
    let (brokers, operators) = brokers(count, Some(format!("http://{}", collector.address))).await;
    (collector, brokers, operators)
}

/// The `number`th trace, and a header that says that it is sampled.
fn trace(number: u8) -> String {
    format!("0af7651916cd43dd8448eb211c8031{number:02x}")
}

fn parent(number: u8) -> String {
    format!("00-{}-{PARENT_SPAN}-01", trace(number))
}

fn message(traceparent: &str) -> PublishRequest {
    let value = Bytes::from(traceparent.to_owned());
    PublishRequest {
        topic: "events".to_owned(),
        value: "hello".into(),
        headers: vec![Header { name: "traceparent".to_owned(), value }],
        ..PublishRequest::default()
    }
}

fn record(number: u8) -> Record {
    let header = RecordHeader { name: "traceparent".to_owned(), value: parent(number).into() };
    Record { value: "hello hello hello hello".into(), headers: vec![header], ..Record::default() }
}

async fn produce(brokers: &Brokers, records: &[Record], compression: Compression) {
    produce_all(brokers, &[records], compression).await;
}

/// Each a batch, all of them under way at a time.
async fn produce_all(brokers: &Brokers, batches: &[&[Record]], compression: Compression) {
    let request = |records: &&[Record]| {
        let batch = ProducedBatch::build_compressed(records, compression, None).unwrap();
        assert_eq!(batch.compression(), compression);
        let topic_id = key(0).topic.to_bytes().to_vec().into();
        ProduceRequest { topic_id, partition: 0, batch: batch.bytes().clone(), correlation_id: 1 }
    };
    let requests: Vec<ProduceRequest> = batches.iter().map(request).collect();
    let mut client = LogClient::new(brokers.channel(0).await);
    let mut answers = client.produce(tokio_stream::iter(requests)).await.unwrap().into_inner();
    for _ in batches {
        let outcome = answers.message().await.unwrap().unwrap().outcome;
        assert!(matches!(outcome, Some(Outcome::BaseOffset(_))), "{outcome:?}");
    }
}

async fn subscribed(brokers: &Brokers, ordinal: usize, count: usize) -> Vec<Message> {
    let start = Some(Start { at: Some(At::Earliest(Earliest {})) });
    let request = SubscribeRequest { topics: vec!["events".to_owned()], start, partitions: Vec::new() };
    let mut stream = brokers.subscribe(ordinal, &request).await;
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(stream.message().await.unwrap().unwrap().messages);
    }
    found
}

async fn fetched(brokers: &Brokers, count: u64) {
    let mut client = LogClient::new(brokers.channel(0).await);
    let topic_id = key(0).topic.to_bytes().to_vec().into();
    let request = FetchRequest { topic_id, offset: 1, ..FetchRequest::default() };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut answers = client.fetch(requests).await.unwrap().into_inner();
    let mut next = 1;
    while next <= count {
        let answer = answers.message().await.unwrap().unwrap();
        next = answer
            .batches
            .into_iter()
            .map(|bytes| Batch::parse(bytes, key(0)).unwrap().end().0)
            .max()
            .unwrap();
    }
}

fn metric(brokers: &Brokers, series: &str) -> u64 {
    let text = get(brokers.ports[0].http, "/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampled_record_is_one_trace_from_publish_to_deliver() {
    let (collector, brokers, _operators) = collected(2).await;
    let published = brokers.publish(0, &message(&parent(1))).await;
    subscribed(&brokers, 0, 1).await;
    let told = collector.told("four spans", |told| names(told, &trace(1)).len() == 4).await;
    assert_eq!(told.len(), 4, "{told:?}");
    let find = |name: &str| told.iter().find(|span| span.is(&format!("{name} events"))).unwrap();
    let [publish, append, commit, deliver] = ["publish", "append", "commit", "deliver"].map(find);
    assert_eq!((publish.parent.as_str(), deliver.parent.as_str()), (PARENT_SPAN, PARENT_SPAN));
    assert_eq!((&append.parent, &commit.parent), (&publish.id, &publish.id));
    for span in &told {
        assert_eq!(span.trace, trace(1));
        for (attribute, value) in [
            ("messaging.system", "fulmar"),
            ("messaging.destination.name", "events"),
            ("messaging.destination.partition.id", "0"),
            ("messaging.fulmar.offset", &published.offset.to_string()),
            ("messaging.message.body.size", "5"),
            ("service.name", "fulmar-broker"),
            ("service.instance.id", "orders-0"),
        ] {
            assert!(span.says(attribute, value), "{attribute}: {span:?}");
        }
        assert!(span.attributes["messaging.fulmar.term"].starts_with("1.1/"), "{span:?}");
        assert!(!span.is_error && span.start <= span.end, "{span:?}");
    }
    assert!(publish.start <= append.start && append.start <= commit.start, "{told:?}");
    assert!(commit.end <= publish.end && publish.end <= deliver.end, "{told:?}");
    let metrics = get(brokers.ports[0].http, "/metrics").body;
    let example = format!("# {{trace_id=\"{}\"}}", trace(1));
    let exemplars = metrics.lines().filter(|line| line.contains(&example));
    let exemplars: Vec<&str> = exemplars.collect();
    assert!(
        matches!(exemplars[..], [one] if one.starts_with("fulmar_publish_duration_seconds_bucket{le=")),
        "{exemplars:?}"
    );
}

/// Each publishes one or more messages of the trace of its number.
async fn publish_in_all_ways(brokers: &Brokers) -> u8 {
    let http = brokers.ports[0].http;
    let head = |target: &str, number: u8, more: &str| {
        format!("POST {target} HTTP/1.1\r\nTraceparent: {}\r\n{more}", parent(number))
    };
    brokers.publish(0, &message(&parent(1))).await;
    let raw = head("/v1/topics/events/messages", 2, "Content-Length: 5");
    assert_eq!(send(http, &raw, b"hello").status, 200);
    let json = br#"{"messages": [{"value": "hello"}]}"#;
    let more = format!("Content-Type: application/json\r\nContent-Length: {}", json.len());
    assert_eq!(send(http, &head("/v1/topics/events/messages", 3, &more), json).status, 200);
    let by_hand = format!("GET /publish?topic=events&msg=hello HTTP/1.1\r\ntraceparent: {}", parent(4));
    assert_eq!(send(http, &by_hand, b"").status, 200);
    let mut by_metadata = tonic::Request::new(PublishRequest { headers: Vec::new(), ..message("") });
    by_metadata.metadata_mut().insert("traceparent", parent(5).parse().unwrap());
    brokers.pubsub(0).await.publish(by_metadata).await.unwrap();
    produce(brokers, &[record(6)], Compression::None).await;
    produce(brokers, &[record(7), Record::default()], Compression::Zstd).await;
    publish_by_tcp(brokers, 8);
    8
}

fn publish_by_tcp(brokers: &Brokers, number: u8) {
    let script = "import sys; sys.path.insert(0, sys.argv[1]); import fulmar_tcp\n\
                  host, port = sys.argv[2].rsplit(':', 1)\n\
                  headers = [('traceparent', sys.argv[3].encode())]\n\
                  fulmar_tcp.Client(host, int(port)).publish('events', b'hello', headers=headers)\n";
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let server = brokers.ports[0].tcp.to_string();
    let mut python = std::process::Command::new("python3");
    let output = python.args(["-c", script, examples, &server, &parent(number)]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn however_it_is_published_and_read_a_record_is_traced() {
    let (collector, brokers, _operators) = collected(1).await;
    let ways = publish_in_all_ways(&brokers).await;
    // One of the batches has one more.
    let count = usize::from(ways) + 1;
    let messages = subscribed(&brokers, 0, count).await;
    let of_request = &messages[1].headers;
    assert_eq!((of_request.len(), &of_request[0].value[..]), (1, parent(2).as_bytes()), "{messages:?}");
    fetched(&brokers, count as u64).await;
    let read = get(brokers.ports[0].http, "/v1/topics/events/messages?offset=earliest").json();
    assert_eq!(read["messages"].as_array().unwrap().len(), count);
    let delivered = |told: &[Told], number| {
        told.iter().filter(|span| span.trace == trace(number) && span.is("deliver events")).count()
    };
    let told = collector
        .told("each way's spans, of three readers", |told| (1..=ways).all(|way| delivered(told, way) == 3))
        .await;
    for way in 1..=ways {
        assert_eq!(names(&told, &trace(way)), BTreeSet::from(ALL), "way {way}");
    }
    let traces: BTreeSet<&str> = told.iter().map(|span| span.trace.as_str()).collect();
    assert_eq!(traces.len(), usize::from(ways));
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_share_one_sync_are_told_of_each() {
    let (collector, brokers, _operators) = collected(1).await;
    let records: Vec<Record> = (0..100).map(record).collect();
    let batches: Vec<&[Record]> = records.chunks(1).collect();
    produce_all(&brokers, &batches, Compression::None).await;
    let three = ["append events", "commit events", "publish events"];
    collector
        .told("three spans of each", |told| {
            (0..100).all(|number| names(told, &trace(number)) == BTreeSet::from(three))
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_passed_on_is_told_of_by_both_brokers() {
    let (collector, brokers, _operators) = collected(2).await;
    brokers.publish(1, &message(&parent(1))).await;
    subscribed(&brokers, 1, 1).await;
    let teller = |told: &[Told], name: &str| -> Vec<String> {
        let of = told.iter().filter(|span| span.is(&format!("{name} events")));
        let mut tellers: Vec<String> =
            of.map(|span| span.attributes["service.instance.id"].clone()).collect();
        tellers.sort();
        tellers
    };
    let told = collector.told("five spans", |told| told.len() >= 5).await;
    assert_eq!(teller(&told, "publish"), ["orders-0", "orders-1"], "who takes it, and who leads");
    assert_eq!(teller(&told, "append"), ["orders-0"]);
    assert_eq!(teller(&told, "commit"), ["orders-0"]);
    assert_eq!(teller(&told, "deliver"), ["orders-1"], "who has the reader");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_not_there_harms_nothing_and_what_it_misses_is_counted() {
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let (mut brokers, _operators) = brokers(1, Some(format!("http://{address}"))).await;
    for number in 0..3 {
        brokers.publish(0, &message(&parent(number))).await;
    }
    assert_eq!(subscribed(&brokers, 0, 3).await.len(), 3);
    let series = "fulmar_spans_dropped_total{cause=\"collector\"}";
    eventually("they are counted", async || metric(&brokers, series) >= 12).await;
    assert_eq!(metric(&brokers, "fulmar_spans_exported_total"), 0);
    assert!(brokers.log(0).contains("the collector does not take spans"), "it is said");
    brokers.publish(0, &message(&parent(4))).await;
    assert!(brokers.terminate(0).success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_is_not_waited_for() {
    // Connections are accepted by the system, and nobody reads them.
    let deaf = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = deaf.local_addr().unwrap();
    let (mut brokers, _operators) = brokers(1, Some(format!("http://{address}"))).await;
    let records: Vec<Record> = (0..100).map(record).collect();
    let series = |cause: &str| format!("fulmar_spans_dropped_total{{cause=\"{cause}\"}}");
    // 16 records of each are told of, in three spans each: more than wait, however many are taken meanwhile.
    let (mut batches, began) = (0, Instant::now());
    while metric(&brokers, &series("queue")) == 0 {
        produce(&brokers, &records, Compression::None).await;
        batches += 1;
        assert!(batches < 1000, "the queue is bounded");
    }
    eprintln!("{batches} batches in {:?}", began.elapsed());
    assert!(metric(&brokers, &series("batch")) >= batches * 84 * 3);
    let stopped = Instant::now();
    assert!(brokers.terminate(0).success());
    assert!(stopped.elapsed() < Duration::from_secs(20), "{:?}", stopped.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_no_traceparent_is_delivered_as_it_is_and_not_traced() {
    let (collector, brokers, _operators) = collected(1).await;
    let unsampled = parent(1).replace("-01", "-00");
    let long = "0".repeat(100_000);
    let wrong = ["", "00-nonsense", "grüße", unsampled.as_str(), long.as_str()];
    for traceparent in wrong {
        brokers.publish(0, &message(traceparent)).await;
    }
    let http = brokers.ports[0].http;
    let target = "/publish?topic=events&msg=hello";
    assert_eq!(send(http, &format!("GET {target} HTTP/1.1\r\nTraceparent: nonsense"), b"").status, 200);
    brokers.publish(0, &message(&parent(2))).await;
    let messages = subscribed(&brokers, 0, wrong.len() + 2).await;
    for (message, traceparent) in messages.iter().zip(wrong) {
        assert_eq!(message.headers[0].value, traceparent.as_bytes());
    }
    assert_eq!(messages[wrong.len()].headers, [], "what is none does not become a header either");
    let told = collector.told("the good one", |told| names(told, &trace(2)).len() == 4).await;
    assert!(told.iter().all(|span| span.trace == trace(2)), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_a_requests_trace_still_reaches_readers() {
    let (brokers, _operators) = brokers(1, None).await;
    let head = format!("GET /publish?topic=events&msg=hello HTTP/1.1\r\nTraceparent: {}", parent(1));
    assert_eq!(send(brokers.ports[0].http, &head, b"").status, 200);
    let messages = subscribed(&brokers, 0, 1).await;
    assert_eq!(messages[0].headers[0].value, parent(1).as_bytes());
    let metrics = get(brokers.ports[0].http, "/metrics").body;
    assert!(!metrics.contains("trace_id") && !metrics.contains("fulmar_spans_dropped_total"), "{metrics}");
    assert!(metrics.contains("fulmar_spans_exported_total 0"), "{metrics}");
}
