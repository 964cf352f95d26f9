//! Batches that producers framed. The checksum is made right for any bytes: who sends on purpose computes it, too.

use bytes::Bytes;
use fulmar_broker::serve::convert::messages_of;
use fulmar_core::batch::{
    BATCH_BYTES_MAX, Batch, Compression, HEADER_BYTES, ProducedBatch, ProducerSequence, Record, RecordHeader,
    Stamp,
};
use fulmar_core::id::{PartitionKey, ProducerId, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::term::{BootId, Epoch, Process, Session, Term};

pub(super) fn key() -> PartitionKey {
    PartitionKey { topic: TopicId(7), partition: 3 }
}

pub(super) fn term() -> Term {
    let process = Process { session: Session(1), boot: BootId(9) };
    Term { epoch: Epoch { generation: 2, counter: 1 }, process }
}

pub(super) fn stamped(batch: ProducedBatch) -> Batch {
    batch.stamp(Stamp { key: key(), base: Offset(40), term: term(), append_time_ms: 5 })
}

pub(super) fn run(bytes: &[u8]) {
    let _ = Batch::announced_size(bytes);
    let _ = Batch::parse(Bytes::copy_from_slice(bytes), key());
    let _ = ProducedBatch::parse(Bytes::copy_from_slice(bytes));
    if let Ok(batch) = ProducedBatch::parse(with_right_checksum(bytes)) {
        hold(&batch);
    }
}

/// Length, the leader's part and the producer's checksum as `core/src/batch/FORMAT.md` wants them.
fn with_right_checksum(bytes: &[u8]) -> Bytes {
    let mut bytes = bytes.to_vec();
    if bytes.len() < HEADER_BYTES {
        return bytes.into();
    }
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[8..60].fill(0);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[4..8]), &bytes[64..]);
    bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
    bytes.into()
}

/// What was taken can be stamped, read, framed anew by each codec, and delivered.
fn hold(batch: &ProducedBatch) {
    assert!(ProducedBatch::bytes_to_parse(batch.bytes()) <= BATCH_BYTES_MAX);
    let leaders = stamped(batch.clone());
    let read = |batch: Batch| -> Vec<Record> { batch.records().expect("it was looked through").collect() };
    let records = read(leaders.clone());
    assert_eq!(records.len(), batch.count() as usize);
    for compression in Compression::ALL {
        let again = ProducedBatch::build_compressed(&records, compression, batch.sequence());
        let again = again.expect("records of a batch make a batch");
        assert_eq!(again.sequence(), batch.sequence());
        assert_eq!(ProducedBatch::parse(again.bytes().clone()).as_ref(), Ok(&again));
        assert!(read(stamped(again)) == records);
    }
    assert_eq!(leaders.end(), Offset(40 + u64::from(batch.count())));
    assert_eq!(Batch::parse(leaders.bytes().clone(), key()).as_ref(), Ok(&leaders));
    let messages = messages_of("t", 3, &leaders, leaders.base()).expect("it was looked through");
    assert_eq!(messages.count(), records.len());
}

pub(super) fn records() -> Vec<Record> {
    let header = RecordHeader { name: "a".to_owned(), value: Bytes::from_static(b"b") };
    let whole = Record {
        key: Some(Bytes::from_static(b"key")),
        value: Bytes::from_static(b"value"),
        headers: vec![header.clone(), header],
        timestamp_ms: 1_700_000_000_000,
    };
    vec![whole, Record { timestamp_ms: -1, ..Record::default() }]
}

pub(super) fn produced() -> ProducedBatch {
    let sequence = ProducerSequence { producer: ProducerId(5), sequence: 6 };
    ProducedBatch::build(&records(), Some(sequence)).expect("a small batch")
}

pub(super) fn examples() -> Vec<Vec<u8>> {
    let empty = ProducedBatch::build(&[Record::default()], None).expect("a small batch");
    let alike = vec![Record { value: Bytes::from(vec![b'a'; 300]), ..Record::default() }; 3];
    let compressed = Compression::ALL.map(|compression| {
        let batch = ProducedBatch::build_compressed(&alike, compression, None).expect("a small batch");
        batch.bytes().to_vec()
    });
    let others = [
        produced().bytes().to_vec(),
        stamped(produced()).bytes().to_vec(),
        empty.bytes().to_vec(),
        vec![0; HEADER_BYTES],
    ];
    others.into_iter().chain(compressed).collect()
}
