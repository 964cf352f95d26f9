//! What is told of records, without a collector: spans are taken from the queue.

use std::time::Instant;

use bytes::Bytes;
use fulmar_core::batch::Compression;
use fulmar_core::batch::{Batch, ProducedBatch, Record, RecordHeader, Stamp};
use fulmar_core::id::{PartitionKey, TopicId};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::*;
use crate::memory::Budget;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traces(queue: usize) -> (Traces, mpsc::Receiver<SpanData>, Registry) {
    let (spans, told) = mpsc::channel(queue);
    let mut registry = Registry::default();
    let counts = Counts::register(&mut registry);
    (Traces::to(spans, counts), told, registry)
}

fn record(parent: &str) -> Record {
    let header = RecordHeader { name: parent::TRACEPARENT.to_owned(), value: Bytes::from(parent.to_owned()) };
    Record { value: Bytes::from_static(b"value"), headers: vec![header], ..Record::default() }
}

fn text(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

fn names(told: &mut mpsc::Receiver<SpanData>) -> Vec<String> {
    std::iter::from_fn(|| told.try_recv().ok()).map(|span| span.name.into_owned()).collect()
}

#[test]
fn without_a_collector_nothing_is_looked_at() {
    let traces = Traces::default();
    assert!(traces.of_records("t", 0, &[record(PARENT)], Instant::now()).is_none());
    assert!(traces.delivering("t", 0).is_none());
}

#[test]
fn a_batch_is_told_of_when_the_last_lets_go_of_it() {
    let (traces, mut told, _counts) = traces(8);
    let publishing = traces.of_records("t", 3, &[Record::default(), record(PARENT)], Instant::now()).unwrap();
    assert_eq!(
        (publishing.trace_of(0), publishing.trace_of(1).map(|id| id.to_string())),
        (None, Some(PARENT[3..35].to_owned()))
    );
    publishing.handed();
    publishing.written(Term::default());
    let of_the_actor = Arc::clone(&publishing);
    publishing.answered(Ok(Offset(40)));
    drop(publishing);
    assert!(told.try_recv().is_err(), "the disk is still to come");
    of_the_actor.durable();
    drop(of_the_actor);
    let spans: Vec<SpanData> = std::iter::from_fn(|| told.try_recv().ok()).collect();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["publish t", "append t", "commit t"]);
    let publish = &spans[0];
    assert_eq!(publish.parent_span_id.to_string(), PARENT[36..52]);
    for span in &spans {
        assert_eq!(span.span_context.trace_id(), publish.span_context.trace_id());
        assert!(span.attributes.contains(&KeyValue::new("messaging.fulmar.offset", 41_i64)), "{span:?}");
        assert!(span.end_time >= span.start_time);
    }
    assert!(spans[1..].iter().all(|span| span.parent_span_id == publish.span_context.span_id()));
}

#[test]
fn a_failed_publish_says_why_and_was_not_committed() {
    let (traces, mut told, _counts) = traces(8);
    let publishing = traces.of_records("t", 0, &[record(PARENT)], Instant::now()).unwrap();
    publishing.handed();
    publishing.answered(Err("NOT_LEADER"));
    drop(publishing);
    let span = told.try_recv().unwrap();
    assert_eq!((span.name.as_ref(), &span.status), ("publish t", &Status::error("NOT_LEADER")));
    assert!(told.try_recv().is_err());
}

#[test]
fn one_batch_is_told_of_in_bounded_length_and_the_rest_is_counted() {
    let (traces, mut told, counts) = traces(1000);
    let records = vec![record(PARENT); RECORDS_MAX + 2];
    for compression in [Compression::None, Compression::Zstd] {
        let batch = ProducedBatch::build_compressed(&records, compression, None).unwrap();
        assert_eq!(batch.compression(), compression);
        let publishing = traces.of_batch("t", 0, &batch, Instant::now()).unwrap();
        publishing.answered(Err("BUSY"));
        drop(publishing);
        assert_eq!(names(&mut told).len(), RECORDS_MAX);
    }
    assert!(text(&counts).contains(r#"spans_dropped_total{cause="batch"} 12"#), "{}", text(&counts));
}

#[test]
fn a_full_queue_makes_nobody_wait_and_is_counted() {
    let (traces, mut told, counts) = traces(1);
    for _ in 0..3 {
        drop(traces.of_records("t", 0, &[record(PARENT)], Instant::now()));
    }
    assert_eq!(names(&mut told).len(), 1);
    assert!(text(&counts).contains(r#"spans_dropped_total{cause="queue"} 2"#), "{}", text(&counts));
}

#[test]
fn so_many_are_under_way_and_the_rest_is_counted() {
    let (traces, mut told, counts) = traces(10);
    let of_one = || traces.of_records("t", 0, &[record(PARENT)], Instant::now());
    let mut kept: Vec<_> = std::iter::repeat_with(of_one).take(UNDER_WAY_MAX + 2).collect();
    assert_eq!(kept.iter().flatten().count(), UNDER_WAY_MAX);
    let mut delivering = traces.delivering("t", 0).unwrap();
    let batch = produced(&[record(PARENT)], Compression::None);
    delivering.batch(&batch, Offset(0), &Budget::new(0));
    delivering.done();
    assert_eq!(names(&mut told), [""; 0]);
    assert!(text(&counts).contains(r#"spans_dropped_total{cause="room"} 7"#), "{}", text(&counts));
    kept.truncate(1);
    assert!(of_one().is_some(), "who was told of makes room");
}

fn produced(records: &[Record], compression: Compression) -> Batch {
    let key = PartitionKey { topic: TopicId(1), partition: 0 };
    let stamp = Stamp { key, base: Offset(0), term: Term::default(), append_time_ms: 0 };
    ProducedBatch::build_compressed(records, compression, None).unwrap().stamp(stamp)
}

#[test]
fn of_batches_that_go_on_as_they_are_only_so_much_is_looked_at() {
    let (traces, mut told, _counts) = traces(100);
    let plenty = Budget::new(1 << 30);
    let many = |sampled_at: usize, count: usize, value: usize, compression| {
        let plain = Record { value: Bytes::from(vec![b'x'; value]), ..Record::default() };
        let mut records = vec![plain; count];
        records[sampled_at] = record(PARENT);
        produced(&records, compression)
    };
    let mut told_of = |batches: &[Batch]| {
        let mut delivering = traces.delivering("t", 0).unwrap();
        for batch in batches {
            delivering.batch(batch, Offset(0), &plenty);
        }
        delivering.done();
        names(&mut told).len()
    };
    assert_eq!(told_of(&[many(9_999, 10_001, 1, Compression::None)]), 1);
    assert_eq!(told_of(&[many(10_000, 10_001, 1, Compression::None)]), 0);
    let five_mebibytes = many(0, 5, 1 << 20, Compression::Zstd);
    assert!(five_mebibytes.size() < 10_000);
    assert_eq!(told_of(&[five_mebibytes.clone(), five_mebibytes.clone(), five_mebibytes]), 1);
}

#[test]
fn what_another_broker_committed_is_not_told_as_a_commit_of_this_one() {
    let (traces, mut told, _counts) = traces(8);
    let publishing = traces.of_records("t", 0, &[record(PARENT)], Instant::now()).unwrap();
    publishing.handed();
    publishing.decided();
    publishing.answered(Ok(Offset(3)));
    drop(publishing);
    assert_eq!(names(&mut told), ["publish t"]);
}

#[test]
fn a_batch_without_the_name_of_the_header_is_not_opened() {
    let (traces, _told, _counts) = traces(1);
    let header = RecordHeader { name: "trace-parent".to_owned(), value: Bytes::from(PARENT.to_owned()) };
    let records = [Record { headers: vec![header], ..Record::default() }, Record::default()];
    let batch = ProducedBatch::build(&records, None).unwrap();
    assert!(!may_have_one(batch.bytes()));
    assert!(traces.of_batch("t", 0, &batch, Instant::now()).is_none());
}

#[test]
fn a_collector_is_an_address_of_otlp_by_grpc() {
    for (text, told) in [
        ("http://otel:4317", "http://otel:4317"),
        ("http://otel.observability/", "http://otel.observability:4317"),
        ("http://[::1]:1", "http://[::1]:1"),
    ] {
        assert_eq!(text.parse::<Collector>().unwrap().to_string(), told);
    }
    for (text, word) in [
        ("", "no address"),
        ("otel:4317", "does not begin with http://"),
        ("https://otel:4317", "without TLS"),
        ("http://otel:4318/v1/traces", "path"),
        ("http://me:secret@otel", "password"),
        ("http://otel:0", "port"),
        ("http://otel:65536", "port"),
    ] {
        let error = text.parse::<Collector>().unwrap_err();
        assert!(error.contains(word) && error.contains("http://HOST:4317"), "{text}: {error}");
    }
}
