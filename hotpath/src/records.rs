//! The records that the pieces are given: what microservices send, small, with a key and a header.

use bytes::Bytes;
use fulmar_core::batch::{ProducedBatch, ProducerSequence, Record, RecordHeader};
use fulmar_core::id::{PartitionKey, ProducerId, TopicId};

/// Records of a batch, where one is framed from many.
pub(crate) const RECORDS: u64 = 100;
const VALUE_BYTES: usize = 100;

pub(crate) fn key() -> PartitionKey {
    PartitionKey { topic: TopicId(1), partition: 0 }
}

/// So many records.
pub(crate) fn records(count: u64) -> Vec<Record> {
    let record = |number: u64| Record {
        key: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
        value: Bytes::from(vec![b'v'; VALUE_BYTES]),
        headers: vec![RecordHeader { name: "content-type".to_owned(), value: Bytes::from_static(b"text") }],
        timestamp_ms: 1_700_000_000_000 + i64::try_from(number).expect("a small number"),
    };
    (0..count).map(record).collect()
}

/// A producer's batch of so many records. Nobody else holds its bytes, as when it came from a socket.
pub(crate) fn produced(count: u64, sequence: u64) -> ProducedBatch {
    let sequence = ProducerSequence { producer: ProducerId(7), sequence };
    let framed = ProducedBatch::build(&records(count), Some(sequence)).expect("a small batch");
    ProducedBatch::parse(Bytes::copy_from_slice(framed.bytes())).expect("it was just framed")
}
