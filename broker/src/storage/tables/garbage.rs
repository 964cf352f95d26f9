//! Logs that a reset or a release left behind, until they are swept. Key: partition (20 bytes), number of the log (4).

use fulmar_core::id::PartitionKey;
use redb::TableDefinition;

use super::batches::LogName;
use super::{partition_bytes, partition_of};

pub(crate) type KeyBytes = [u8; 24];
pub(crate) const TABLE: TableDefinition<'static, &'static KeyBytes, ()> = TableDefinition::new("garbage");

pub(crate) fn encode(log: LogName) -> KeyBytes {
    let mut bytes = [0; 24];
    bytes[..20].copy_from_slice(&partition_bytes(log.key));
    bytes[20..].copy_from_slice(&log.number.to_be_bytes());
    bytes
}

pub(crate) fn decode(bytes: &KeyBytes) -> LogName {
    let key: PartitionKey = partition_of(bytes[..20].try_into().expect("twenty bytes"));
    LogName { key, number: u32::from_be_bytes(bytes[20..].try_into().expect("four bytes")) }
}
