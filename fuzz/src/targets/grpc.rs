//! Bodies of gRPC calls, from protobuf to checked records.

use bytes::Bytes;
use fulmar_broker::serve::convert::{
    batch_of, framed, record_of, term_bytes, term_of, topic_bytes, topic_id,
};
use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::TopicId;
use fulmar_core::term::Epoch;
use fulmar_proto::v1::{FetchRequest, Header, ProduceRequest, PublishRequest, SubscribeRequest};
use prost::Message as _;

use super::batch;

fn topic() -> TopicRecord {
    TopicRecord {
        id: TopicId(7),
        name: "orders".to_owned(),
        partitions: 4,
        replication_factor: 3,
        ack_quorum: 2,
        max_message_bytes: 1024,
        retention_ms: None,
        retention_bytes: None,
        retained: false,
        changed: Epoch { generation: 1, counter: 1 },
    }
}

pub(super) fn run(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else { return };
    match kind % 4 {
        0 => published(body),
        1 => produced(body),
        2 => fetched(body),
        _ => drop(SubscribeRequest::decode(body)),
    }
}

fn published(body: &[u8]) {
    let Ok(request) = PublishRequest::decode(body) else { return };
    let (value, headers) = (request.value.clone(), request.headers.len());
    if let Ok(record) = record_of(request, &topic(), 5) {
        assert!(record.value == value && record.headers.len() == headers);
        let batch = framed(std::slice::from_ref(&record)).expect("a record within the limit");
        assert!(batch::stamped(batch).records().expect("a leader's own batch").eq([record]));
    }
}

fn produced(body: &[u8]) {
    let Ok(request) = ProduceRequest::decode(body) else { return };
    let _ = topic_id(&request.topic_id);
    for bytes in [request.batch.clone(), Bytes::copy_from_slice(body)] {
        if let Ok(batch) = batch_of(bytes, &topic()) {
            assert!(batch.record_bytes_max() <= 1024);
            let mut records = batch::stamped(batch).records().expect("a batch that was looked through");
            assert!(records.all(|record| record.value.len() <= 1024));
        }
    }
}

fn fetched(body: &[u8]) {
    let Ok(request) = FetchRequest::decode(body) else { return };
    if let Ok(id) = topic_id(&request.topic_id) {
        assert_eq!(topic_bytes(id), request.topic_id);
    }
    if let Ok(Some(term)) = term_of(&request.term) {
        assert_eq!(term_bytes(term), request.term);
    }
}

pub(super) fn examples() -> Vec<Vec<u8>> {
    let header = Header { name: "a".to_owned(), value: Bytes::from_static(b"b") };
    let publish = PublishRequest {
        topic: "orders".to_owned(),
        key: Some(Bytes::from_static(b"key")),
        value: Bytes::from_static(b"value"),
        headers: vec![header],
        timestamp_ms: Some(-5),
        partition: Some(3),
    };
    let produce = ProduceRequest {
        topic_id: topic_bytes(TopicId(7)),
        batch: batch::produced().bytes().clone(),
        ..ProduceRequest::default()
    };
    let fetch = FetchRequest {
        topic_id: topic_bytes(TopicId(7)),
        term: term_bytes(batch::term()),
        offset: 40,
        ..FetchRequest::default()
    };
    let subscribe = SubscribeRequest { topics: vec!["orders.>".to_owned()], ..SubscribeRequest::default() };
    [publish.encode_to_vec(), produce.encode_to_vec(), fetch.encode_to_vec(), subscribe.encode_to_vec()]
        .into_iter()
        .zip(0..)
        .map(|(body, kind)| [vec![kind], body].concat())
        .collect()
}
