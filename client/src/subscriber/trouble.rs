//! Since when partitions cannot be read.
//!
//! Owns when a person hears of it. No I/O, no clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::position::Position;

/// A failover takes a second, a restart of all brokers some: what lasts longer is told.
const TOLD_AFTER: Duration = Duration::from_mins(1);

/// Who was not interrupted for so long was read in between.
const OVER_AFTER: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    by_partition: BTreeMap<u32, Trouble>,
}

#[derive(Debug)]
struct Trouble {
    since: Instant,
    last: Instant,
    /// Where it stands: beyond it, it was read.
    at: u64,
    is_told: bool,
}

impl Troubles {
    /// A partition is not read now. Whether that is to be told: once for each time of trouble.
    pub(super) fn note(&mut self, position: &Position, now: Instant) -> bool {
        let (partition, at) = (position.key.partition, position.next);
        let begins = Trouble { since: now, last: now, at, is_told: false };
        let trouble = self.by_partition.entry(partition).or_insert(begins);
        if trouble.at != at || now - trouble.last > OVER_AFTER {
            *trouble = Trouble { since: now, last: now, at, is_told: false };
        }
        trouble.last = now;
        let is_due = !trouble.is_told && now - trouble.since >= TOLD_AFTER;
        trouble.is_told |= is_due;
        is_due
    }
}

#[cfg(test)]
#[path = "trouble_tests.rs"]
mod tests;
