//! What is counted: blows by kind, records, stalls; and what must never be.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::blows::Kind;
use crate::load::book::Counts;

/// One kind's row.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Row {
    /// How many blows.
    pub(crate) blows: u32,
    /// The longest time that a record of the default topic waited for its acknowledgement.
    pub(crate) stall_max: Duration,
    /// The sum of each blow's longest.
    pub(crate) stall_sum: Duration,
    /// The longest time from a blow's end until everything was as before.
    pub(crate) settled_max: Duration,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) rows: BTreeMap<Kind, Row>,
    /// What brokers said when they refused a volume, and how often: those words are part of the promise.
    pub(crate) refusals: BTreeMap<String, u32>,
    /// What programs counted in the rounds that are over.
    pub(crate) counts: Counts,
    /// How often a partition's leader was seen to be another one than before.
    pub(crate) leader_changes: u64,
    /// Full comparisons of everything that was read.
    pub(crate) examinations: u32,
    /// What was violated.
    pub(crate) violations: Vec<String>,
}

impl Outcome {
    /// Notes one blow.
    pub(crate) fn blow(&mut self, kind: Kind, stall: Duration, settled: Duration) {
        let row = self.rows.entry(kind).or_default();
        row.blows += 1;
        row.stall_max = row.stall_max.max(stall);
        row.stall_sum += stall;
        row.settled_max = row.settled_max.max(settled);
    }

    /// A round is over.
    pub(crate) fn finish(&mut self, counts: &Counts, leader_changes: u64) {
        self.counts.add(counts);
        self.leader_changes += leader_changes;
    }

    /// How many blows fell.
    pub(crate) fn blows(&self) -> u32 {
        self.rows.values().map(|row| row.blows).sum()
    }
}
