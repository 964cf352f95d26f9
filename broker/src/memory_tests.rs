use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::storage::StorageConfig;

const MIB: u64 = 1 << 20;

/// Measured: what an idle connection takes.
const CONNECTION_BYTES: u64 = 28 * 1024;

/// gRPC, HTTP and TCP.
const PORTS: u64 = 3;

/// Of a Cluster of three brokers: each has two peers.
const PEERS: u64 = 2;

/// What a broker takes where everything that has a share takes all of it.
fn all_taken(limit: u64) -> u64 {
    let shares = Shares::of(limit);
    let storage = StorageConfig::for_memory(PathBuf::new(), shares.storage);
    // What is not applied is in the ring, however much that is meant to have.
    let ring = storage.hot_bytes_max.max(storage.unapplied_bytes_max);
    let parts = [ring + storage.cache_bytes, shares.publishes, shares.requests, shares.reads, shares.answers];
    let parts: u64 = parts.into_iter().map(|bytes| bytes as u64).sum();
    parts + PEERS * shares.peer as u64 + PORTS * shares.connections as u64 * CONNECTION_BYTES
}

proptest! {
    /// From the least that a Cluster may ask for.
    #[test]
    fn all_shares_together_are_within_the_limit(limit in 256 * MIB..=64 * 1024 * MIB) {
        let taken = all_taken(limit);
        prop_assert!(taken + limit / 16 <= limit, "{} of {} MiB", taken / MIB, limit / MIB);
    }
}

#[test]
fn what_the_storage_has_of_512_mib_is_what_the_figures_of_its_memory_were_measured_with() {
    let storage = StorageConfig::for_memory(PathBuf::new(), Shares::of(512 * MIB).storage);
    let sizes = [storage.unapplied_bytes_max, storage.hot_bytes_max, storage.cache_bytes];
    assert_eq!(sizes.map(|bytes| bytes as u64 / MIB), [32, 24, 8]);
}
