//! What the partition table says, as this broker holds it: topics by name and id, and who should lead what.
//!
//! Owns the reading of pages. Never decides: an entry is carried out by the replica that it concerns.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmar_core::control::table::{InvalidTable, Page, TopicRecord};
use fulmar_core::entry::Entry;
use fulmar_core::id::{PartitionKey, TopicId};
use tokio::sync::watch;

/// A page and where it stands in the order of pages with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPage {
    /// The tenure that wrote it.
    pub controller_epoch: u64,
    /// Its revision.
    pub revision: u64,
    /// Its contents.
    pub page: Page,
}

/// A held page with its decisions by partition.
#[derive(Debug)]
struct Leaf {
    held: HeldPage,
    entries: BTreeMap<PartitionKey, Arc<Entry>>,
    topics: BTreeMap<TopicId, Arc<TopicRecord>>,
}

impl Leaf {
    fn new(held: HeldPage) -> Self {
        let entries = held.page.entries.iter().map(|entry| (entry.key, Arc::new(entry.clone()))).collect();
        let topics = held.page.topics.iter().map(|topic| (topic.id, Arc::new(topic.clone()))).collect();
        Self { held, entries, topics }
    }
}

/// All topics and entries of all pages, at one moment. A page that comes costs what is on it and what topics there are, not what
/// all partitions are.
#[derive(Debug, Default)]
pub struct Directory {
    pages: BTreeMap<u32, Arc<Leaf>>,
    by_name: BTreeMap<String, TopicId>,
    topics: BTreeMap<TopicId, Arc<TopicRecord>>,
    /// On which pages a topic has partitions.
    places: BTreeMap<TopicId, Vec<u32>>,
}

impl Directory {
    /// The same with one page added or replaced. A page that is not newer than the held one changes nothing: `None`.
    pub fn with(&self, page: HeldPage) -> Option<Self> {
        let number = page.page.number;
        let order = (page.controller_epoch, page.revision);
        let is_held = |leaf: &Arc<Leaf>| order <= (leaf.held.controller_epoch, leaf.held.revision);
        if self.pages.get(&number).is_some_and(is_held) {
            return None;
        }
        let mut pages = self.pages.clone();
        pages.insert(number, Arc::new(Leaf::new(page)));
        Some(Self::of(pages))
    }

    fn of(pages: BTreeMap<u32, Arc<Leaf>>) -> Self {
        let mut directory = Self { pages, ..Self::default() };
        for (number, leaf) in &directory.pages {
            for (id, topic) in &leaf.topics {
                let known = directory.topics.get(id);
                if known.is_none_or(|known| known.changed < topic.changed) {
                    directory.topics.insert(*id, Arc::clone(topic));
                }
            }
            let mut last = None;
            for topic in leaf.entries.keys().map(|key| key.topic) {
                if last.replace(topic) != Some(topic) {
                    directory.places.entry(topic).or_default().push(*number);
                }
            }
        }
        for topic in directory.topics.values() {
            // A retained topic gives way to one that is wished under its name.
            let taken = directory.by_name.get(&topic.name).and_then(|id| directory.topics.get(id));
            if taken.is_none_or(|taken| (taken.retained, topic.changed) > (topic.retained, taken.changed)) {
                directory.by_name.insert(topic.name.clone(), topic.id);
            }
        }
        directory
    }

    /// The pages, by number.
    pub fn pages(&self) -> impl Iterator<Item = &HeldPage> {
        self.pages.values().map(|leaf| &leaf.held)
    }

    /// The topic of this name, retained ones too.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicRecord>> {
        self.topics.get(self.by_name.get(name)?)
    }

    /// The topic with this id.
    pub fn topic_of(&self, id: TopicId) -> Option<&Arc<TopicRecord>> {
        self.topics.get(&id)
    }

    /// The topics by name, those behind `after`, retained ones too.
    pub fn topics_after(&self, after: &str) -> impl Iterator<Item = &Arc<TopicRecord>> {
        let bounds = (std::ops::Bound::Excluded(after.to_owned()), std::ops::Bound::Unbounded);
        self.by_name.range(bounds).filter_map(|(_, id)| self.topics.get(id))
    }

    /// All topics, retained ones too.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicRecord>> {
        self.topics.values()
    }

    /// What was decided about a partition: the latest, should several pages speak of it.
    pub fn entry(&self, key: PartitionKey) -> Option<&Arc<Entry>> {
        let pages = self.places.get(&key.topic)?.iter().filter_map(|number| self.pages.get(number));
        pages.filter_map(|leaf| leaf.entries.get(&key)).max_by_key(|entry| entry.epoch)
    }

    /// All decisions.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.pages.values().flat_map(|leaf| self.held_of(leaf))
    }

    /// The decisions of one page.
    pub fn entries_of_page(&self, number: u32) -> impl Iterator<Item = &Arc<Entry>> {
        self.pages.get(&number).into_iter().flat_map(|leaf| self.held_of(leaf))
    }

    /// Those of a page that no other page has a later one for.
    fn held_of<'a>(&'a self, leaf: &'a Leaf) -> impl Iterator<Item = &'a Arc<Entry>> {
        leaf.entries
            .values()
            .filter(|entry| self.entry(entry.key).is_some_and(|held| Arc::ptr_eq(held, entry)))
    }
}

/// Reads a page as it is pushed or kept.
pub fn read_page(
    number: u32,
    revision: u64,
    controller_epoch: u64,
    lines: &[String],
) -> Result<HeldPage, InvalidTable> {
    Ok(HeldPage { controller_epoch, revision, page: Page::parse(number, lines)? })
}

/// The directory as it changes.
pub type Changing = watch::Receiver<Arc<Directory>>;

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
