//! One row a replica: where its log begins and ends, and its terms.

use fulmar_core::offset::Offset;
use fulmar_core::term::TermVector;
use redb::TableDefinition;

use super::super::bytes::{Malformed, Reader, Writer};
use super::PartitionBytes;

pub(crate) const TABLE: TableDefinition<'static, &'static PartitionBytes, &'static [u8]> =
    TableDefinition::new("logs");

/// A replica's log as of the journal position that is stored with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct LogRow {
    /// Which log of the partition this is; a reset or a release begins the next.
    pub(crate) number: u32,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) high_watermark: Offset,
    /// Bytes of its values.
    pub(crate) bytes: u64,
    pub(crate) uncertain: bool,
    /// It has a row in `promises`, which must not go missing.
    pub(crate) promised: bool,
    /// Of the last batch ever, which may have been cut or deleted since.
    pub(crate) append_time_ms: u64,
    /// The stored producers' table is the one at this offset.
    pub(crate) producers_at: Offset,
    pub(crate) vector: TermVector,
}

impl LogRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.vector.starts().len() * 40);
        Writer(&mut bytes)
            .u32(self.number)
            .u64(self.start.0)
            .u64(self.end.0)
            .u64(self.high_watermark.0)
            .u64(self.bytes)
            .flag(self.uncertain)
            .flag(self.promised)
            .u64(self.append_time_ms)
            .u64(self.producers_at.0)
            .vector(&self.vector);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let row = Self {
            number: from.u32("log's number")?,
            start: from.offset("log's start")?,
            end: from.offset("log's end")?,
            high_watermark: from.offset("log's high watermark")?,
            bytes: from.u64("log's bytes")?,
            uncertain: from.flag("log's mark")?,
            promised: from.flag("log's promise")?,
            append_time_ms: from.u64("log's append time")?,
            producers_at: from.offset("log's snapshot")?,
            vector: from.vector()?,
        };
        from.end("log's row")?;
        Ok(row)
    }
}
