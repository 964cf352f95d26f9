//! The record batch: framed once by a producer, then stored, replicated and delivered unchanged (`FORMAT.md`, to the byte).
//!
//! Owns the layout, both checksums and the records inside. Never compresses again what was framed, and never touches a socket or
//! a disk.
//! A batch becomes a more trusted type at each step: bytes → [`ProducedBatch`] (its producer's checksum held) →
//! [`Batch`] (stamped by a leader, both checksums held).

mod compression;
mod header;
mod record;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

pub use self::compression::Compression;
pub use self::header::HEADER_BYTES;
use self::header::{Header, PLAIN_LENGTH_BYTES, kind};
pub use self::record::{Header as RecordHeader, RECORD_HEADERS_MAX, Record, Records};

use crate::entry::Entry;
use crate::id::{PartitionKey, ProducerId};
use crate::offset::Offset;
use crate::term::Term;

/// The largest batch, header included: what one frame of the wire and one value of the storage may cost at most. A compressed one
/// is no larger without compression either: whoever can hold any batch can read any batch, however small it came.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The most records of one batch, so that a small frame cannot claim billions of offsets.
pub const BATCH_RECORDS_MAX: u32 = 1 << 20;

/// Why bytes are not a batch, or a batch not the expected one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BatchError {
    /// Fewer bytes than a header.
    #[error("a batch has at least {HEADER_BYTES} bytes, these are {0}")]
    TooShort(usize),
    /// Longer than [`BATCH_BYTES_MAX`].
    #[error("a batch has at most {BATCH_BYTES_MAX} bytes, these are {0}")]
    TooLong(usize),
    /// The length field (bytes 0 to 4) disagrees with the bytes that are there.
    #[error("bytes 0-3: the length field says {said} bytes in all, there are {there}")]
    Length {
        /// What the field makes in all.
        said: u64,
        /// How many bytes there are.
        there: usize,
    },
    /// An unknown version.
    #[error("byte 4: batch version {0}, only 1 is known")]
    Version(u8),
    /// Unknown attribute bits, or a reserved byte that is not zero.
    #[error("bytes 5-7: attributes {0:#08x} have unknown bits set")]
    Attributes(u32),
    /// A codec that this build does not know.
    #[error("byte 6: compression {0} is unknown; known are 0 (none), 1 (LZ4), 2 (Snappy) and 3 (Zstandard)")]
    Compression(u8),
    /// Compressed records that would make more than [`BATCH_BYTES_MAX`].
    #[error(
        "bytes 100-103: {0} bytes of records; with the header a batch has at most {BATCH_BYTES_MAX}, before it is compressed too"
    )]
    PlainSize(u32),
    /// Compressed records do not come out of it.
    #[error("from byte 104 on: the records do not decompress by {codec}: {what}")]
    Decompress {
        /// Which codec.
        codec: &'static str,
        /// What it said.
        what: String,
    },
    /// A producer sent what only a leader may write.
    #[error("byte 5: only a leader writes opening records")]
    Opening,
    /// A producer filled in what belongs to the leader.
    #[error("byte {0}: bytes 8-59 are the leader's, and zero in what a producer sends")]
    Stamped(usize),
    /// The producer's checksum does not hold.
    #[error("bytes 60-63: the producer's CRC32C is {stored:#010x}, the bytes make {computed:#010x}")]
    ProducerChecksum {
        /// As written.
        stored: u32,
        /// As computed.
        computed: u32,
    },
    /// The leader's checksum does not hold: another partition's batch, or a damaged header.
    #[error("bytes 8-11: the leader's CRC32C is {stored:#010x}, header and partition make {computed:#010x}")]
    LeaderChecksum {
        /// As written.
        stored: u32,
        /// As computed.
        computed: u32,
    },
    /// The count of records is zero, or beyond [`BATCH_RECORDS_MAX`].
    #[error("bytes 88-91: a batch has 1 to {BATCH_RECORDS_MAX} records, not {0}")]
    Count(u32),
    /// An offset beyond 2^63, or a term without an epoch.
    #[error("bytes 12-59: the stamp of a leader is out of range")]
    Stamp,
    /// A record does not parse.
    #[error("record {index} at byte {at}: {what}")]
    Record {
        /// Which record, from 0.
        index: u32,
        /// Where it stopped making sense, from the start of the batch, as it was before it was compressed.
        at: usize,
        /// What was wrong.
        what: &'static str,
    },
}

/// Which leader placed a batch where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The partition; it seeds the checksum and is not stored.
    pub key: PartitionKey,
    /// The first record's offset.
    pub base: Offset,
    /// The leader's term.
    pub term: Term,
    /// The leader's clock, monotonic over the log: milliseconds since 1970.
    pub append_time_ms: u64,
}

/// A producer's place for duplicates to be found: its id and the batch's number, from 0, without gaps, per partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerSequence {
    /// The producer.
    pub producer: ProducerId,
    /// The batch's number.
    pub sequence: u64,
}

/// Decompresses where that is needed, and checks every record's frame. Gives the batch without compression, and the size of its
/// largest record.
fn open(bytes: &Bytes, header: &Header) -> Result<(Bytes, usize), BatchError> {
    let plain = match header.compression {
        Compression::None => bytes.clone(),
        codec => {
            let mut plain = BytesMut::zeroed(header.plain_size);
            let compressed = &bytes[HEADER_BYTES + PLAIN_LENGTH_BYTES..];
            codec.decompress(compressed, &mut plain[HEADER_BYTES..])?;
            plain.freeze()
        }
    };
    let largest = record::check(&plain, header.count)?;
    Ok((plain, largest))
}

/// The records of a batch that was checked, decompressed where that is needed.
fn records(bytes: &Bytes, header: &Header) -> Result<Records, BatchError> {
    let plain = match header.compression {
        Compression::None => bytes.clone(),
        Compression::Lz4 | Compression::Snappy | Compression::Zstd => open(bytes, header)?.0,
    };
    Ok(Records::new(plain, header.base_timestamp_ms, header.count))
}

/// A batch as its producer framed it: length, attributes, producer's checksum and records were checked, the leader's fields are not filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducedBatch {
    bytes: Bytes,
    header: Header,
    record_bytes_max: usize,
}

impl ProducedBatch {
    /// Frames records. `sequence` is for idempotent producers.
    ///
    /// Refuses no records, too many, or too many bytes.
    pub fn build(records: &[Record], sequence: Option<ProducerSequence>) -> Result<Self, BatchError> {
        Self::build_compressed(records, Compression::None, sequence)
    }

    /// The same, compressed if that makes it smaller.
    pub fn build_compressed(
        records: &[Record],
        compression: Compression,
        sequence: Option<ProducerSequence>,
    ) -> Result<Self, BatchError> {
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let base_timestamp = records.first().map_or(0, |record| record.timestamp_ms);
        // Asked for once, and no more than it is: it stays for as long as the batch is read from memory.
        let size: usize = records.iter().map(|record| record::size(record, base_timestamp)).sum();
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + size);
        bytes.resize(HEADER_BYTES, 0);
        for record in records {
            record::encode(record, base_timestamp, &mut bytes);
        }
        let record_bytes_max = record::check(&bytes, count)?;
        let plain_length = u32::try_from(bytes.len() - HEADER_BYTES).unwrap_or(u32::MAX);
        let smaller = compression.compress(&bytes[HEADER_BYTES..], PLAIN_LENGTH_BYTES);
        let used = if smaller.is_some() { compression } else { Compression::None };
        if let Some(smaller) = smaller {
            bytes = BytesMut::with_capacity(HEADER_BYTES + PLAIN_LENGTH_BYTES + smaller.len());
            bytes.resize(HEADER_BYTES, 0);
            bytes.extend_from_slice(&plain_length.to_le_bytes());
            bytes.extend_from_slice(&smaller);
        }
        header::frame(&mut bytes, kind::RECORDS, used, count, base_timestamp, sequence);
        // Its checksum is of these bytes: it was computed a moment ago.
        let header = header::parse(&bytes)?;
        Ok(Self { bytes: bytes.freeze(), header, record_bytes_max })
    }

    /// Checks everything that a producer is responsible for, every record's frame included, for which compressed ones are
    /// decompressed.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        let header = header::parse(&bytes)?;
        if header.kind == kind::OPENING {
            return Err(BatchError::Opening);
        }
        header::check_unstamped(&bytes)?;
        header::check_producer(&bytes, &header)?;
        let (_, record_bytes_max) = open(&bytes, &header)?;
        Ok(Self { bytes, header, record_bytes_max })
    }

    /// How much memory [`parse`](Self::parse) takes beside the bytes that are there: what decompressed records need.
    pub fn bytes_to_parse(bytes: &[u8]) -> usize {
        header::parse(bytes).map_or(0, |header| match header.compression {
            Compression::None => 0,
            Compression::Lz4 | Compression::Snappy | Compression::Zstd => header.plain_size,
        })
    }

    /// The size of its largest record: key, value, names and values of headers.
    pub fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    /// How its records are compressed.
    pub fn compression(&self) -> Compression {
        self.header.compression
    }

    /// Bytes in all.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// How many offsets it takes.
    pub fn count(&self) -> u32 {
        self.header.count
    }

    /// For idempotent producers.
    pub fn sequence(&self) -> Option<ProducerSequence> {
        self.header.sequence
    }

    /// The bytes, for the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its records. Copies nothing if they are not compressed; else takes [`bytes_to_parse`](Self::bytes_to_parse) of memory.
    pub fn records(&self) -> Result<Records, BatchError> {
        records(&self.bytes, &self.header)
    }

    /// The leader's part: writes the stamp and its checksum. Copies nothing if the bytes are not shared.
    pub fn stamp(self, stamp: Stamp) -> Batch {
        let mut bytes = self.bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
        let header = header::stamp(&mut bytes, &stamp);
        Batch { bytes: bytes.freeze(), header }
    }
}

/// The body of an opening record.
fn opening_entry(bytes: &[u8]) -> Result<Entry, BatchError> {
    let what = "the body of an opening record is not an entry";
    let body = std::str::from_utf8(&bytes[HEADER_BYTES..]).ok();
    body.and_then(|text| text.parse().ok()).ok_or(BatchError::Record { index: 0, at: HEADER_BYTES, what })
}

/// A batch of a log: stamped by a leader, both checksums held when it was made or parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
    header: Header,
}

impl Batch {
    /// The opening record of a term: one offset, no message; its body is the entry's text.
    pub fn opening(entry: &Entry, stamp: Stamp) -> Self {
        let mut bytes = BytesMut::zeroed(HEADER_BYTES);
        bytes.extend_from_slice(entry.to_string().as_bytes());
        header::frame(&mut bytes, kind::OPENING, Compression::None, 1, 0, None);
        let header = header::stamp(&mut bytes, &stamp);
        Self { bytes: bytes.freeze(), header }
    }

    /// Checks everything that needs no decompression: header, both checksums, and every record's frame if they are not
    /// compressed. The last costs a few numbers for each record, far less than the checksum of its bytes. Compressed ones were
    /// checked by the leader that placed the batch, and the checksums say that these are the bytes that it saw.
    pub fn parse(bytes: Bytes, key: PartitionKey) -> Result<Self, BatchError> {
        let header = header::parse(&bytes)?;
        header::check_producer(&bytes, &header)?;
        header::check_leader(&bytes, &header, key)?;
        match header.kind {
            kind::OPENING => opening_entry(&bytes).map(drop)?,
            _ if header.compression == Compression::None => record::check(&bytes, header.count).map(drop)?,
            _ => {}
        }
        Ok(Self { bytes, header })
    }

    /// The size in bytes that the length field at the start of `bytes` announces, if four bytes are there: where the next
    /// of several concatenated batches begins.
    pub fn announced_size(bytes: &[u8]) -> Option<usize> {
        header::announced_size(bytes)
    }

    /// The first record's offset.
    pub fn base(&self) -> Offset {
        self.header.base
    }

    /// The offset behind the last record.
    pub fn end(&self) -> Offset {
        self.header.base.plus(u64::from(self.header.count))
    }

    /// How many offsets it takes.
    pub fn count(&self) -> u32 {
        self.header.count
    }

    /// The leader's term.
    pub fn term(&self) -> Term {
        self.header.term
    }

    /// The leader's clock: milliseconds since 1970, monotonic over a log.
    pub fn append_time_ms(&self) -> u64 {
        self.header.append_time_ms
    }

    /// For idempotent producers.
    pub fn sequence(&self) -> Option<ProducerSequence> {
        self.header.sequence
    }

    /// Whether it is the opening record of a term, which consumers never see.
    pub fn is_opening(&self) -> bool {
        self.header.kind == kind::OPENING
    }

    /// The entry of an opening record.
    pub fn entry(&self) -> Option<Entry> {
        self.is_opening().then(|| opening_entry(&self.bytes))?.ok()
    }

    /// Bytes in all.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes, for disk and wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How its records are compressed.
    pub fn compression(&self) -> Compression {
        self.header.compression
    }

    /// Bytes in all, were it not compressed: about what its [`records`](Self::records) hold.
    pub fn plain_size(&self) -> usize {
        self.header.plain_size
    }

    /// Its records; none for an opening record. Copies nothing, and cannot fail, if they are not compressed; else takes
    /// [`plain_size`](Self::plain_size) of memory.
    pub fn records(&self) -> Result<Records, BatchError> {
        if self.is_opening() {
            return Ok(Records::new(self.bytes.clone(), 0, 0));
        }
        records(&self.bytes, &self.header)
    }
}
