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

/// All topics and entries of all pages, at one moment.
#[derive(Debug, Default)]
pub struct Directory {
    pages: BTreeMap<u32, Arc<HeldPage>>,
    by_name: BTreeMap<String, TopicId>,
    topics: BTreeMap<TopicId, Arc<TopicRecord>>,
    entries: BTreeMap<PartitionKey, Arc<Entry>>,
}

impl Directory {
    /// The same with one page added or replaced. A page that is not newer than the held one changes nothing: `None`.
    pub fn with(&self, page: HeldPage) -> Option<Self> {
        let number = page.page.number;
        let order = (page.controller_epoch, page.revision);
        if self.pages.get(&number).is_some_and(|held| order <= (held.controller_epoch, held.revision)) {
            return None;
        }
        let mut pages = self.pages.clone();
        pages.insert(number, Arc::new(page));
        Some(Self::of(pages))
    }

    fn of(pages: BTreeMap<u32, Arc<HeldPage>>) -> Self {
        let mut directory = Self { pages, ..Self::default() };
        let pages: Vec<Arc<HeldPage>> = directory.pages.values().cloned().collect();
        for held in &pages {
            for topic in &held.page.topics {
                let known = directory.topics.get(&topic.id);
                if known.is_none_or(|known| known.changed < topic.changed) {
                    directory.topics.insert(topic.id, Arc::new(topic.clone()));
                }
            }
            for entry in &held.page.entries {
                let known = directory.entries.get(&entry.key);
                if known.is_none_or(|known| known.epoch < entry.epoch) {
                    directory.entries.insert(entry.key, Arc::new(entry.clone()));
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
        self.pages.values().map(AsRef::as_ref)
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

    /// What was decided about a partition.
    pub fn entry(&self, key: PartitionKey) -> Option<&Arc<Entry>> {
        self.entries.get(&key)
    }

    /// All decisions.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
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
