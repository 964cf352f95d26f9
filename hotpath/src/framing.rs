//! Records to a batch, and a batch from a socket to checked records.

use std::hint::black_box;

use bytes::Bytes;
use fulmar_core::batch::ProducedBatch;

use super::Run;
use super::records::{RECORDS, produced, records};

/// Frames records, with their checksum.
pub(crate) fn frame() -> Run {
    let records = records(RECORDS);
    Box::new(move || {
        let batch = ProducedBatch::build(black_box(&records), None).expect("a small batch");
        assert_eq!(u64::from(batch.count()), RECORDS);
        Box::new((batch, records))
    })
}

/// Checks what a producer sent: lengths, checksum, every record's frame.
pub(crate) fn check() -> Run {
    let bytes = Bytes::copy_from_slice(produced(RECORDS, 0).bytes());
    Box::new(move || {
        let batch = ProducedBatch::parse(black_box(bytes)).expect("it was framed right");
        assert_eq!(u64::from(batch.count()), RECORDS);
        Box::new(batch)
    })
}
