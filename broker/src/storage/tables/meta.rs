//! What is true of the whole file: its format, whose it is, and up to where the journal is applied.

use redb::TableDefinition;

use super::super::bytes::{Malformed, Reader, Writer};
use super::super::journal::Position;

pub(crate) const TABLE: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("meta");
/// The only key.
pub(crate) const KEY: &str = "applied";
/// The newest format of all tables.
pub(crate) const FORMAT: u32 = 1;

/// The row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) format: u32,
    /// The journal that was applied; another one's position means nothing here.
    pub(crate) journal: [u8; 16],
    /// Rows of `logs`: one that is missing would be a replica that is forgotten.
    pub(crate) replicas: u64,
    /// Behind the last group that was applied.
    pub(crate) applied: Position,
}

impl Meta {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(48);
        let mut into = Writer(&mut bytes);
        into.u32(self.format).bytes(&self.journal).u64(self.replicas);
        self.applied.encode(&mut into);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Reader::new(bytes);
        let format = from.u32("format")?;
        let journal = from.uuid("journal id")?;
        let replicas = from.u64("number of replicas")?;
        let applied = Position::decode(&mut from)?;
        from.end("meta row")?;
        Ok(Self { format, journal, replicas, applied })
    }
}
