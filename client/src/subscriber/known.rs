//! Which topics of a pattern are read, and how many partitions of each.
//!
//! Owns that nothing is begun twice, and forgetting what is gone. No I/O, no clock.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use fulmar_core::id::TopicId;
use tokio::time::Instant;

/// A topic that no list names is remembered for so long: a broker that is behind may name it still, and it would be read once more
/// from its beginning. None that answers is behind for so long.
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);

/// See the module. A topic that is gone comes back under another id.
#[derive(Debug, Default)]
pub(super) struct KnownTopics {
    topics: BTreeMap<TopicId, Known>,
}

#[derive(Debug)]
struct Known {
    partitions: u32,
    /// Readers that run.
    readers: u32,
    named_at: Instant,
}

impl KnownTopics {
    /// A list names a topic with so many partitions. Gives those that nobody was told to read yet: a reader is started for them.
    pub(super) fn begin(&mut self, id: TopicId, partitions: u32, now: Instant) -> Range<u32> {
        let known = self.topics.entry(id).or_insert(Known { partitions: 0, readers: 0, named_at: now });
        known.named_at = now;
        let news = known.partitions..partitions;
        if !news.is_empty() {
            known.partitions = partitions;
            known.readers += 1;
        }
        news
    }

    /// A reader of it has come to its end.
    pub(super) fn end(&mut self, id: TopicId) {
        if let Some(known) = self.topics.get_mut(&id) {
            known.readers = known.readers.saturating_sub(1);
        }
    }

    /// Forgets what is neither read nor named any more.
    pub(super) fn forget(&mut self, now: Instant) {
        self.topics.retain(|_, known| known.readers > 0 || now - known.named_at < FORGOTTEN_AFTER);
    }

    /// How many partitions are read.
    pub(super) fn partitions(&self) -> usize {
        let read = self.topics.values().filter(|known| known.readers > 0);
        read.map(|known| known.partitions as usize).sum()
    }
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;
