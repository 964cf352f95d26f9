//! What a producers' table lacks: stretches of its log that were damaged when the table was made from it.

use std::collections::BTreeMap;
use std::ops::Range;

use fulmar_core::offset::Offset;

/// So many stretches of one log are told apart, as many as a replica has under repair. Beyond it the last one stands for what
/// lies behind it, too: more is asked for than is damaged, and nothing is forgotten.
const STRETCHES_MAX: usize = 64;

/// Stretches of a log, apart from each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in super::super) struct Unnoted {
    /// Ends, by beginnings.
    stretches: BTreeMap<Offset, Offset>,
}

impl Unnoted {
    /// Lowest first.
    pub(in super::super) fn stretches(&self) -> impl Iterator<Item = Range<Offset>> {
        self.stretches.iter().map(|(from, until)| *from..*until)
    }

    /// The table lacks these, too. To be said in ascending order.
    pub(in super::super) fn add(&mut self, stretch: Range<Offset>) {
        if stretch.is_empty() {
            return;
        }
        let is_full = self.stretches.len() >= STRETCHES_MAX;
        match self.stretches.last_entry() {
            Some(mut last) if is_full || *last.get() >= stretch.start => {
                let until = stretch.end.max(*last.get());
                last.insert(until);
            }
            _ => {
                self.stretches.insert(stretch.start, stretch.end);
            }
        }
    }

    /// The table has these, or the log has them no more.
    pub(super) fn forget(&mut self, gone: Range<Offset>) {
        for (from, until) in std::mem::take(&mut self.stretches) {
            self.add(from..until.min(gone.start));
            self.add(from.max(gone.end)..until);
        }
    }
}

#[cfg(test)]
#[path = "unnoted_tests.rs"]
mod tests;
