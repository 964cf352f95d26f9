//! Which partition a key belongs to: one function for brokers and programs, or the order of a key's records is lost.
//!
//! Owns the hash. Never: keyless records, which may go anywhere.

/// The partition of `key` in a topic of `partitions`: XXH3 (64 bits, no seed) of the key, modulo their number.
///
/// Part of the protocol: a client in another language computes the same. The partition of a key changes when a topic
/// gets more partitions.
///
/// # Panics
/// If `partitions` is 0: no topic has none.
pub fn partition_of(key: &[u8], partitions: u32) -> u32 {
    assert!(partitions > 0, "every topic has a partition");
    let hash = xxhash_rust::xxh3::xxh3_64(key);
    u32::try_from(hash % u64::from(partitions)).expect("a remainder is below a u32")
}

#[cfg(test)]
#[path = "partitioner_tests.rs"]
mod tests;
