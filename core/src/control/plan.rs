//! The table as it is to be: decisions, some of them not written yet.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::table::{Page, Root, TopicRecord};
use crate::entry::{Entry, Members, NOBODY, ReplicaSet};
use crate::id::{PartitionKey, TopicId};

/// Steady fill of a page: what is above, up to [`PAGE_BYTES_MAX`](super::table::PAGE_BYTES_MAX), is for members that are
/// changing and for the list of replicas.
const PAGE_FILL_BYTES: usize = 40 * 1024;

/// The members of a deleted partition.
pub(super) fn nobody() -> Members {
    Members::One(ReplicaSet::new(vec![NOBODY], 1).expect("one replica, and a quorum of one"))
}

/// Whether the entry says that its topic was deleted.
pub(super) fn is_deleted(entry: &Entry) -> bool {
    entry.is_deletion()
}

/// The table as it is to be.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) root: Option<Root>,
    pub(super) topics: BTreeMap<TopicId, TopicRecord>,
    pub(super) entries: BTreeMap<PartitionKey, Entry>,
    /// On which page a partition stays.
    pub(super) places: BTreeMap<PartitionKey, u32>,
    /// The same from the other side: a page is written without looking through all partitions. What has left it goes with its next
    /// writing.
    contents: BTreeMap<u32, BTreeSet<PartitionKey>>,
    /// Numbers that are taken, listed or not.
    pub(super) numbers: BTreeSet<u32>,
}

impl Plan {
    /// Takes what a stored page says. Of two entries or lines the higher holds.
    pub(super) fn take(&mut self, page: Page) {
        for topic in page.topics {
            match self.topics.get(&topic.id) {
                Some(other) if other.changed >= topic.changed => {}
                _ => drop(self.topics.insert(topic.id, topic)),
            }
        }
        for entry in page.entries {
            match self.entries.get(&entry.key) {
                Some(other) if other.epoch >= entry.epoch => {}
                _ => {
                    self.put(entry.key, page.number);
                    self.entries.insert(entry.key, entry);
                }
            }
        }
    }

    /// A page as it is to be.
    pub(super) fn page(&mut self, number: u32) -> Page {
        let keys = self.contents.entry(number).or_default();
        keys.retain(|key| self.places.get(key) == Some(&number));
        let entries: Vec<Entry> = keys.iter().filter_map(|key| self.entries.get(key)).cloned().collect();
        let mut ids: Vec<TopicId> = entries.iter().map(|entry| entry.key.topic).collect();
        ids.dedup();
        let topics = ids.iter().filter_map(|id| self.topics.get(id)).cloned().collect();
        Page { number, topics, entries }
    }

    /// The pages that have partitions of a topic.
    pub(super) fn pages_of(&self, topic: TopicId) -> BTreeSet<u32> {
        self.places.range(keys_of(topic)).map(|(_, page)| *page).collect()
    }

    /// Its entries, by partition.
    pub(super) fn entries_of(&self, topic: TopicId) -> impl Iterator<Item = &Entry> {
        self.entries.range(keys_of(topic)).map(|(_, entry)| entry)
    }

    /// Whether it is being deleted: one partition that is gone is never served again, so the others must go too.
    pub(super) fn is_going(&self, topic: TopicId) -> bool {
        self.entries_of(topic).any(is_deleted)
    }

    /// The page for a new partition: one with room, on which the topic is already if possible, else a new one.
    pub(super) fn place(
        &mut self,
        key: PartitionKey,
        fills: &mut BTreeMap<u32, usize>,
        name_bytes: usize,
    ) -> u32 {
        let own = self.places.range(keys_of(key.topic)).next_back().map(|(_, page)| *page);
        let listed = self.root.iter().flat_map(|root| root.pages.iter().copied());
        let has_room = |page: &u32| fills.get(page).copied().unwrap_or_default() < PAGE_FILL_BYTES;
        let found = own.into_iter().chain(listed).find(has_room);
        let number = found.unwrap_or_else(|| self.numbers.last().map_or(0, |last| last + 1));
        if let Some(root) = &mut self.root
            && !root.pages.contains(&number)
        {
            root.pages.push(number);
            root.pages.sort_unstable();
        }
        self.numbers.insert(number);
        let line = if own == Some(number) { 0 } else { TOPIC_LINE_BYTES + name_bytes };
        *fills.entry(number).or_default() += ENTRY_LINE_BYTES + line;
        self.put(key, number);
        number
    }

    fn put(&mut self, key: PartitionKey, number: u32) {
        if let Some(before) = self.places.insert(key, number)
            && let Some(keys) = self.contents.get_mut(&before)
        {
            keys.remove(&key);
        }
        self.contents.entry(number).or_default().insert(key);
    }

    /// How full each page is, about.
    pub(super) fn fills(&self) -> BTreeMap<u32, usize> {
        let mut fills = BTreeMap::new();
        let mut last = None;
        for (key, page) in &self.places {
            let name = self.topics.get(&key.topic).map_or(0, |topic| topic.name.len());
            let line = if last == Some((key.topic, *page)) { 0 } else { TOPIC_LINE_BYTES + name };
            last = Some((key.topic, *page));
            *fills.entry(*page).or_default() += ENTRY_LINE_BYTES + line;
        }
        fills
    }
}

/// A topic's line without its name.
const TOPIC_LINE_BYTES: usize = 240;
/// A partition's line, of seven replicas with numbers of two digits.
const ENTRY_LINE_BYTES: usize = 80;

/// All partitions of a topic.
pub(super) fn keys_of(topic: TopicId) -> std::ops::RangeInclusive<PartitionKey> {
    PartitionKey { topic, partition: 0 }..=PartitionKey { topic, partition: u32::MAX }
}
