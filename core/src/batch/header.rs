//! The fixed head of a batch: reading, framing, stamping, and both checksums.

use bytes::BytesMut;

use super::compression::Compression;
use super::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, BatchError, ProducerSequence, Stamp};
use crate::id::{PartitionKey, ProducerId};
use crate::offset::Offset;
use crate::term::{BootId, Epoch, Process, Session, Term};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 100;

/// Bytes behind the header that say how many the compressed ones behind them were.
pub(super) const PLAIN_LENGTH_BYTES: usize = 4;

/// What byte 5 says.
pub(super) mod kind {
    /// Records of a producer.
    pub(in super::super) const RECORDS: u8 = 0;
    /// The opening record of a term.
    pub(in super::super) const OPENING: u8 = 1;
}

const VERSION: u8 = 1;

/// Where each field begins; little endian throughout.
mod at {
    pub(super) const VERSION: usize = 4;
    pub(super) const KIND: usize = 5;
    pub(super) const COMPRESSION: usize = 6;
    pub(super) const RESERVED: usize = 7;
    pub(super) const LEADER_CRC: usize = 8;
    pub(super) const BASE: usize = 12;
    pub(super) const GENERATION: usize = 20;
    pub(super) const COUNTER: usize = 28;
    pub(super) const SESSION: usize = 36;
    pub(super) const BOOT: usize = 44;
    pub(super) const APPEND_TIME: usize = 52;
    pub(super) const PRODUCER_CRC: usize = 60;
    pub(super) const PRODUCER: usize = 64;
    pub(super) const SEQUENCE: usize = 80;
    pub(super) const COUNT: usize = 88;
    pub(super) const BASE_TIMESTAMP: usize = 92;
}

/// The head of a batch, decoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) compression: Compression,
    /// Bytes in all, were it not compressed.
    pub(super) plain_size: usize,
    pub(super) base: Offset,
    pub(super) term: Term,
    pub(super) append_time_ms: u64,
    pub(super) sequence: Option<ProducerSequence>,
    pub(super) count: u32,
    pub(super) base_timestamp_ms: i64,
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the header's length was checked")
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(take(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(take(bytes, at))
}

pub(super) fn announced_size(bytes: &[u8]) -> Option<usize> {
    let length: [u8; 4] = bytes.get(..4)?.try_into().expect("four bytes");
    usize::try_from(u64::from(u32::from_le_bytes(length)) + 4).ok()
}

/// Reads a header and checks all that needs no checksum.
pub(super) fn parse(bytes: &[u8]) -> Result<Header, BatchError> {
    if bytes.len() < HEADER_BYTES {
        return Err(BatchError::TooShort(bytes.len()));
    }
    if bytes.len() > BATCH_BYTES_MAX {
        return Err(BatchError::TooLong(bytes.len()));
    }
    let said = u64::from(u32_at(bytes, 0)) + 4;
    if said != bytes.len() as u64 {
        return Err(BatchError::Length { said, there: bytes.len() });
    }
    if bytes[at::VERSION] != VERSION {
        return Err(BatchError::Version(bytes[at::VERSION]));
    }
    let kind = bytes[at::KIND];
    let is_odd_opening = kind == kind::OPENING && bytes[at::COMPRESSION] != 0;
    if kind > kind::OPENING || is_odd_opening || bytes[at::RESERVED] != 0 {
        return Err(BatchError::Attributes(u32_at(bytes, at::VERSION) >> 8));
    }
    let compression = Compression::of_number(bytes[at::COMPRESSION])?;
    let count = u32_at(bytes, at::COUNT);
    if count == 0 || count > BATCH_RECORDS_MAX {
        return Err(BatchError::Count(count));
    }
    let base = u64_at(bytes, at::BASE);
    if base >= 1 << 63 {
        return Err(BatchError::Stamp);
    }
    let producer = ProducerId::from_bytes(take(bytes, at::PRODUCER));
    let sequence = u64_at(bytes, at::SEQUENCE);
    Ok(Header {
        kind,
        compression,
        plain_size: plain_size(bytes, compression)?,
        base: Offset(base),
        term: Term {
            epoch: Epoch { generation: u64_at(bytes, at::GENERATION), counter: u64_at(bytes, at::COUNTER) },
            process: Process {
                session: Session(u64_at(bytes, at::SESSION)),
                boot: BootId(u64_at(bytes, at::BOOT)),
            },
        },
        append_time_ms: u64_at(bytes, at::APPEND_TIME),
        sequence: (producer.0 != 0).then_some(ProducerSequence { producer, sequence }),
        count,
        base_timestamp_ms: i64::from_le_bytes(take(bytes, at::BASE_TIMESTAMP)),
    })
}

/// What the batch says, against the bound of every batch: before anything is allocated for it.
fn plain_size(bytes: &[u8], compression: Compression) -> Result<usize, BatchError> {
    if compression == Compression::None {
        return Ok(bytes.len());
    }
    if bytes.len() < HEADER_BYTES + PLAIN_LENGTH_BYTES {
        return Err(BatchError::TooShort(bytes.len()));
    }
    let length = u32_at(bytes, HEADER_BYTES);
    let size = usize::try_from(length).ok().and_then(|length| length.checked_add(HEADER_BYTES));
    size.filter(|size| *size <= BATCH_BYTES_MAX).ok_or(BatchError::PlainSize(length))
}

/// Over version, kind, compression, producer, sequence, count and records: what the producer wrote and nobody changes.
fn producer_checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[at::VERSION..at::LEADER_CRC]), &bytes[at::PRODUCER..])
}

/// Over the stamp and the producer's checksum, seeded with the partition: a batch of another partition does not pass.
fn leader_checksum(bytes: &[u8], key: PartitionKey) -> u32 {
    let seed = crc32c::crc32c(&key.topic.to_bytes());
    let seed = crc32c::crc32c_append(seed, &key.partition.to_le_bytes());
    crc32c::crc32c_append(seed, &bytes[at::BASE..at::PRODUCER])
}

pub(super) fn check_producer(bytes: &[u8], _checked: &Header) -> Result<(), BatchError> {
    let (stored, computed) = (u32_at(bytes, at::PRODUCER_CRC), producer_checksum(bytes));
    if stored == computed { Ok(()) } else { Err(BatchError::ProducerChecksum { stored, computed }) }
}

/// What only a leader writes is empty.
pub(super) fn check_unstamped(bytes: &[u8]) -> Result<(), BatchError> {
    let written = bytes[at::LEADER_CRC..at::PRODUCER_CRC].iter().position(|byte| *byte != 0);
    written.map_or(Ok(()), |offset| Err(BatchError::Stamped(at::LEADER_CRC + offset)))
}

pub(super) fn check_leader(bytes: &[u8], checked: &Header, key: PartitionKey) -> Result<(), BatchError> {
    let (stored, computed) = (u32_at(bytes, at::LEADER_CRC), leader_checksum(bytes, key));
    if stored != computed {
        return Err(BatchError::LeaderChecksum { stored, computed });
    }
    if checked.term.epoch == Epoch::default() { Err(BatchError::Stamp) } else { Ok(()) }
}

/// Fills in the producer's part of a header in front of the records.
pub(super) fn frame(
    bytes: &mut BytesMut,
    kind: u8,
    compression: Compression,
    count: u32,
    base_timestamp_ms: i64,
    sequence: Option<ProducerSequence>,
) {
    let length = u32::try_from(bytes.len() - 4).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[at::VERSION] = VERSION;
    bytes[at::KIND] = kind;
    bytes[at::COMPRESSION] = compression.number();
    if let Some(ProducerSequence { producer, sequence }) = sequence {
        bytes[at::PRODUCER..at::SEQUENCE].copy_from_slice(&producer.to_bytes());
        bytes[at::SEQUENCE..at::COUNT].copy_from_slice(&sequence.to_le_bytes());
    }
    bytes[at::COUNT..at::BASE_TIMESTAMP].copy_from_slice(&count.to_le_bytes());
    bytes[at::BASE_TIMESTAMP..HEADER_BYTES].copy_from_slice(&base_timestamp_ms.to_le_bytes());
    let checksum = producer_checksum(bytes);
    bytes[at::PRODUCER_CRC..at::PRODUCER].copy_from_slice(&checksum.to_le_bytes());
}

/// Fills in the leader's part.
pub(super) fn stamp(bytes: &mut BytesMut, stamp: &Stamp) -> Header {
    let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    put(at::BASE, stamp.base.0);
    put(at::GENERATION, stamp.term.epoch.generation);
    put(at::COUNTER, stamp.term.epoch.counter);
    put(at::SESSION, stamp.term.process.session.0);
    put(at::BOOT, stamp.term.process.boot.0);
    put(at::APPEND_TIME, stamp.append_time_ms);
    let checksum = leader_checksum(bytes, stamp.key);
    bytes[at::LEADER_CRC..at::BASE].copy_from_slice(&checksum.to_le_bytes());
    parse(bytes).expect("a framed batch with a stamp parses")
}
