//! What each replica promised. Kept as long as the volume, tombstones too. Key: partition.

use fulmar_core::partition::Promise;
use redb::TableDefinition;

use super::super::bytes::{Malformed, Reader, Writer};
use super::super::promise;
use super::PartitionBytes;

pub(crate) const TABLE: TableDefinition<'static, &'static PartitionBytes, &'static [u8]> =
    TableDefinition::new("promises");

pub(crate) fn encode(value: &Promise) -> Vec<u8> {
    let mut bytes = Vec::new();
    promise::encode(value, &mut Writer(&mut bytes));
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Promise, Malformed> {
    let mut from = Reader::new(bytes);
    let promise = promise::decode(&mut from)?;
    from.end("promise's end")?;
    Ok(promise)
}
