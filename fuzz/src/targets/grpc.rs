//! Bodies of gRPC calls, from protobuf to checked records.

use bytes::Bytes;
use fulmar_broker::serve::convert::{
    batch_of, framed, record_of, term_bytes, term_of, topic_bytes, topic_id,
};
use fulmar_broker::serve::grpc::fuzzed::counted;
use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::TopicId;
use fulmar_core::term::Epoch;
use fulmar_proto::v1::{
    FetchRequest, Header, ListOffsetsRequest, MetadataRequest, ProduceRequest, PublishRequest,
    SubscribeRequest,
};
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
    match kind % 6 {
        0 => published(body),
        1 => produced(body),
        2 => fetched(body),
        3 => subscribed(body),
        4 => described(body),
        _ => listed(body),
    }
}

/// A request of this method, if it is taken. What `taken` says that it takes beside its bytes was counted before it was read.
fn request<M: prost::Message + Default>(path: &str, body: &[u8], taken: fn(&M) -> usize) -> Option<M> {
    let counted = counted(path, body)?;
    let request = M::decode(Bytes::copy_from_slice(body)).ok()?;
    let taken = body.len() + taken(&request);
    assert!(taken <= counted, "{path}: {} bytes take {taken}, and {counted} were counted", body.len());
    Some(request)
}

fn texts(list: &Vec<String>) -> usize {
    list.capacity() * size_of::<String>() + list.iter().map(String::capacity).sum::<usize>()
}

fn numbers(list: &Vec<u32>) -> usize {
    list.capacity() * size_of::<u32>()
}

fn subscribed(body: &[u8]) {
    let taken = |request: &SubscribeRequest| texts(&request.topics) + numbers(&request.partitions);
    let _ = request("/fulmar.v1.PubSub/Subscribe", body, taken);
}

fn described(body: &[u8]) {
    let taken = |request: &MetadataRequest| texts(&request.topics) + request.page_token.capacity();
    let _ = request("/fulmar.v1.Log/Metadata", body, taken);
}

fn listed(body: &[u8]) {
    let taken = |request: &ListOffsetsRequest| request.topic.capacity() + numbers(&request.partitions);
    let _ = request("/fulmar.v1.Log/ListOffsets", body, taken);
}

fn published(body: &[u8]) {
    let taken = |request: &PublishRequest| {
        let names: usize = request.headers.iter().map(|header| header.name.capacity()).sum();
        request.topic.capacity() + request.headers.capacity() * size_of::<Header>() + names
    };
    let Some(request) = request("/fulmar.v1.PubSub/Publish", body, taken) else { return };
    let (value, headers) = (request.value.clone(), request.headers.len());
    if let Ok(record) = record_of(request, &topic(), 5) {
        assert!(record.value == value && record.headers.len() == headers);
        let batch = framed(std::slice::from_ref(&record)).expect("a record within the limit");
        assert!(batch::stamped(batch).records().expect("a leader's own batch").eq([record]));
    }
}

fn produced(body: &[u8]) {
    let Some(request) = request("/fulmar.v1.Log/Produce", body, |_: &ProduceRequest| 0) else { return };
    let _ = topic_id(&request.topic_id);
    for bytes in [request.batch.clone(), Bytes::copy_from_slice(body)] {
        if let Ok(batch) = batch_of(&bytes, &topic()) {
            assert!(batch.record_bytes_max() <= 1024);
            let mut records = batch::stamped(batch).records().expect("a batch that was looked through");
            assert!(records.all(|record| record.value.len() <= 1024));
        }
    }
}

fn fetched(body: &[u8]) {
    let Some(request) = request("/fulmar.v1.Log/Fetch", body, |_: &FetchRequest| 0) else { return };
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
    let metadata = MetadataRequest { topics: vec!["orders".to_owned(); 3], ..MetadataRequest::default() };
    let offsets =
        ListOffsetsRequest { topic: "orders".to_owned(), partitions: vec![1, 300], time_ms: Some(5) };
    [
        publish.encode_to_vec(),
        produce.encode_to_vec(),
        fetch.encode_to_vec(),
        subscribe.encode_to_vec(),
        metadata.encode_to_vec(),
        offsets.encode_to_vec(),
    ]
    .into_iter()
    .zip(0..)
    .map(|(body, kind)| [vec![kind], body].concat())
    .collect()
}
