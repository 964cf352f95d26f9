//! Copies of what a person gave up: one row each, beside the batches, which have a log number of their own.
//!
//! Key: partition (20 bytes), number of the copy (4), big endian. Value: the log's row as it was, beginning where the copy
//! does (block), and its producers' table (block).

use redb::TableDefinition;

use super::super::bytes::{Malformed, Reader, Writer};
use super::batches::LogName;
use super::garbage;
use super::logs::LogRow;

pub(crate) type KeyBytes = garbage::KeyBytes;
pub(crate) const TABLE: TableDefinition<'static, &'static KeyBytes, &'static [u8]> =
    TableDefinition::new("aside");

/// Numbers of copies have this bit: a log's own number goes up by one at a time, and never meets them.
const COPIES: u32 = 1 << 31;

/// A partition keeps so many copies; each took a person's word. One more, and the oldest goes.
pub(crate) const COPIES_MAX: usize = 4;

/// The number of the next copy behind these.
pub(crate) fn next_number(taken: impl Iterator<Item = u32>) -> u32 {
    taken.filter(|number| number & COPIES != 0).max().map_or(COPIES, |last| last + 1)
}

pub(crate) fn key(copy: LogName) -> KeyBytes {
    garbage::encode(copy)
}

pub(crate) fn name(bytes: &KeyBytes) -> LogName {
    garbage::decode(bytes)
}

pub(crate) fn encode(row: &LogRow, producers: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    Writer(&mut bytes).block(&row.encode()).block(producers);
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<LogRow, Malformed> {
    let mut from = Reader::new(bytes);
    let row = LogRow::decode(from.block("copy's row")?)?;
    from.block("copy's producers")?;
    from.end("copy's end")?;
    Ok(row)
}
