//! What redb holds: a file for each kind of row, with its key and its bytes (`FORMAT.md`).
//!
//! Owns the shapes of keys and values; every row but the batches is [`sealed`]. Never begins or ends a transaction.

pub(super) mod aside;
pub(super) mod batches;
pub(super) mod garbage;
pub(super) mod logs;
pub(super) mod mending;
pub(super) mod meta;
pub(super) mod pages;
pub(super) mod peers;
pub(super) mod producers;
pub(super) mod promises;
pub(super) mod sealed;
#[cfg(test)]
mod tests;
pub(super) mod unnoted;

use fulmar_core::id::{PartitionKey, TopicId};

/// A partition as a key: topic id, number, big endian, so that a topic's partitions lie together and in order.
pub(super) type PartitionBytes = [u8; 20];

pub(super) fn partition_bytes(key: PartitionKey) -> PartitionBytes {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(&key.topic.to_bytes());
    bytes[16..].copy_from_slice(&key.partition.to_be_bytes());
    bytes
}

pub(super) fn partition_of(bytes: &PartitionBytes) -> PartitionKey {
    PartitionKey {
        topic: TopicId::from_bytes(bytes[..16].try_into().expect("sixteen bytes")),
        partition: u32::from_be_bytes(bytes[16..].try_into().expect("four bytes")),
    }
}
