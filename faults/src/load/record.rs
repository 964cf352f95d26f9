//! The records: each names its writer and its number, and has bytes that only it has.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use sha2::{Digest, Sha256};

/// What is kept of a record's value: the first half of its SHA-256.
pub(crate) type Print = u128;

const HEAD: usize = 16;

/// Which record, of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name {
    /// One lane of one producer: it sends to one partition, in the order of its numbers.
    pub(crate) writer: u64,
    /// From 1.
    pub(crate) number: u64,
}

impl Name {
    /// How its value begins.
    pub(crate) fn head(self) -> [u8; HEAD] {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&self.writer.to_be_bytes());
        head[8..].copy_from_slice(&self.number.to_be_bytes());
        head
    }
}

/// The value of a record: mostly small, now and then some tens of KiB.
pub(crate) fn value(name: Name, seed: u64) -> Vec<u8> {
    let mut luck = StdRng::seed_from_u64(seed ^ name.writer.rotate_left(32) ^ name.number);
    let size = match luck.random_range(0..1000) {
        0..800 => luck.random_range(0..256),
        800..970 => luck.random_range(256..2048),
        970..997 => luck.random_range(2048..16_384),
        _ => luck.random_range(16_384..80_000),
    };
    let mut value = vec![0; HEAD + size];
    value[..HEAD].copy_from_slice(&name.head());
    luck.fill_bytes(&mut value[HEAD..]);
    value
}

/// Whose it is; `None` if no writer of ours made it.
pub(crate) fn name(value: &[u8]) -> Option<Name> {
    let eight =
        |at: usize| value.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    Some(Name { writer: eight(0)?, number: eight(8)? })
}

/// What is kept of a value.
pub(crate) fn print(value: &[u8]) -> Print {
    let hash: [u8; 32] = Sha256::digest(value).into();
    let (half, _) = hash.split_at(16);
    u128::from_be_bytes(half.try_into().expect("half of 32 bytes"))
}
