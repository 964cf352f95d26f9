//! The producers' table of a log at the offset that its row in `logs` names, in core's own bytes. Key: partition.

use redb::TableDefinition;

use super::PartitionBytes;

pub(crate) const TABLE: TableDefinition<'static, &'static PartitionBytes, &'static [u8]> =
    TableDefinition::new("producers");
