//! What the stored producers' table of a log lacks, because it was damaged when the table was made: a row only where something
//! is missing. Key: partition. Value: beginning and end of each stretch (8 bytes each).

use std::ops::Range;

use fulmar_core::offset::Offset;
use redb::TableDefinition;

use super::super::bytes::{Malformed, Reader};
use super::PartitionBytes;

pub(crate) const TABLE: TableDefinition<'static, &'static PartitionBytes, &'static [u8]> =
    TableDefinition::new("unnoted");

const STRETCH_BYTES: usize = 16;

pub(crate) fn encode(stretches: impl Iterator<Item = Range<Offset>>) -> Vec<u8> {
    stretches
        .flat_map(|stretch| [stretch.start, stretch.end])
        .flat_map(|offset| offset.0.to_le_bytes())
        .collect()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Vec<Range<Offset>>, Malformed> {
    let mut from = Reader::new(bytes);
    let mut stretches = Vec::with_capacity(bytes.len() / STRETCH_BYTES);
    for _ in 0..bytes.len() / STRETCH_BYTES {
        stretches.push(from.offset("stretch's beginning")?..from.offset("stretch's end")?);
    }
    from.end("the last stretch's end")?;
    Ok(stretches)
}
