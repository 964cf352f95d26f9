//! Positions in a partition's log.

use std::fmt;

/// A record's place in its partition, from 0. A log *end* is the offset that the next record will get, so ends,
/// starts and the high watermark are all "the first offset that is not below".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub u64);

impl Offset {
    /// Where every log begins.
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records later.
    ///
    /// # Panics
    /// Beyond 2^63 records, which no log reaches: decoding refuses such offsets.
    #[must_use]
    pub fn plus(self, count: u64) -> Offset {
        Offset(self.0.checked_add(count).expect("decoding refuses offsets beyond 2^63"))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
