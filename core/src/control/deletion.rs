//! What leaves: records of partitions that moved away or whose topic was deleted.
//!
//! A deleted topic's partitions get a last entry, of which nobody is a member; then every holder is told to release its
//! records (its tombstone stays), and when nothing is reported any more, of any of them, the entries leave the table together:
//! while one is left, all of them say that this topic goes, and whoever wishes its name gets another one, with an id of its own.

use std::time::Duration;

use crate::control::controller::Controller;
use crate::control::desired::Desired;
use crate::control::effect::{DocumentName, Effect};
use crate::control::plan::{is_deleted, keys_of, nobody};
use crate::control::view::EventKind;
use crate::entry::{Entry, Members};
use crate::id::{Ordinal, PartitionKey, TopicId};
use crate::partition::PromiseKind;

/// A Release is sent again after this, until the tombstone is reported.
const RELEASE_AGAIN: Duration = Duration::from_secs(1);

impl Controller {
    /// Gives every partition of a topic that goes its last entry. One whose volumes are lost, so that no quorum of it will ever
    /// report, goes too, once everybody who lives has said what he holds.
    pub(super) fn delete(&mut self, topic: TopicId) {
        let all_reported = self.has_everybody_reported();
        let open = |entry: &&Entry| !is_deleted(entry);
        let entries: Vec<Entry> = self.plan.entries_of(topic).filter(open).cloned().collect();
        for entry in entries {
            let state = self.partitions.entry(entry.key).or_default();
            if !state.settled && !all_reported {
                continue;
            }
            state.settled = true;
            state.awaits.clear();
            let last =
                Entry { leader: None, members: nobody(), learners: Vec::new(), lost: Vec::new(), ..entry };
            self.decide(last, false);
        }
    }

    /// Tells who holds what it is no member of to let it go, and forgets deleted partitions of which nothing is left.
    pub(super) fn release(&mut self) {
        let now = self.now;
        let mut releases = Vec::new();
        for (ordinal, broker) in self.brokers.iter().filter(|(_, broker)| broker.is_serving()) {
            let Some(replica) = broker.replica() else { continue };
            for (key, report) in &broker.reports {
                if report.promise.kind == PromiseKind::Tombstone {
                    continue;
                }
                let Some(entry) = self.plan.entries.get(key).filter(|entry| !entry.concerns(replica)) else {
                    continue;
                };
                let Some(state) = self.partitions.get(key).filter(|state| state.settled) else { continue };
                let recent = |at: &Duration| now.saturating_sub(*at) < RELEASE_AGAIN;
                let told = state.released.get(ordinal).is_some_and(recent);
                if !told && self.has_left(entry) && self.has_page(*ordinal, *key) {
                    releases.push((*ordinal, *key, entry.epoch));
                }
            }
        }
        for (ordinal, key, epoch) in releases {
            self.partitions.entry(key).or_default().released.insert(ordinal, now);
            self.out.push(Effect::Release { ordinal, key, epoch });
        }
        self.forget_deleted();
    }

    /// The change that leaves somebody out is complete: nobody can need its records.
    fn has_left(&self, entry: &Entry) -> bool {
        is_deleted(entry) || matches!(entry.members, Members::One(_)) && self.leading(entry).is_some()
    }

    /// The broker holds the page with the entry as it is now, and it is stored.
    fn has_page(&self, ordinal: Ordinal, key: PartitionKey) -> bool {
        let Some(page) = self.plan.places.get(&key) else { return false };
        let Some(document) = self.shelf.documents.get(&DocumentName::Page(*page)) else { return false };
        let held = self.brokers.get(&ordinal).and_then(|broker| broker.held.get(page));
        let stored = document.stored.as_ref().map(|(revision, _)| revision);
        !document.is_dirty() && document.writing.is_none() && stored.is_some() && held >= stored
    }

    /// Every broker that the table knows has said all that it holds, or is lost for ever, or was emptied and taken away. A table
    /// that is being rebuilt does not know all of them yet.
    fn has_everybody_reported(&self) -> bool {
        let reported =
            |ordinal: Ordinal| self.brokers.get(&ordinal).is_some_and(|broker| broker.answered_at.is_some());
        let lost = crate::control::table::BrokerStanding::Lost;
        let present = self.desired.as_deref().map_or(u16::MAX, Desired::present);
        let names = |entry: &Entry, ordinal: Ordinal| {
            entry.members.replicas().iter().any(|one| one.ordinal == ordinal)
        };
        let has_left = |ordinal: Ordinal| {
            let is_gone = ordinal.0 >= present && !self.sightings.contains_key(&ordinal);
            is_gone && !self.plan.entries.values().any(|entry| names(entry, ordinal))
        };
        self.plan.root.as_ref().is_some_and(|root| {
            let mut records = root.brokers.iter();
            !root.rebuilding
                && records.all(|record| {
                    record.standing == lost || reported(record.ordinal) || has_left(record.ordinal)
                })
        })
    }

    /// A deleted topic is forgotten when every broker of the Cluster has reported, and none has more than tombstones of it. Never
    /// partition by partition: what is left would not say any more that the topic goes, and who wished it again would get
    /// new records under the offsets of the old ones.
    fn forget_deleted(&mut self) {
        if !self.has_everybody_reported() {
            return;
        }
        let deleted = self.plan.entries.values().filter(|entry| is_deleted(entry));
        let mut gone: Vec<TopicId> = deleted.map(|entry| entry.key.topic).collect();
        gone.dedup();
        let ends = |entry: &Entry| is_deleted(entry) && self.has_been_stored(entry.key);
        gone.retain(|topic| self.plan.entries_of(*topic).all(ends) && !self.is_any_held_live(*topic));
        for topic in gone {
            self.forget(topic);
        }
    }

    /// Whether a broker reports more than a tombstone of any partition of a topic.
    fn is_any_held_live(&self, topic: TopicId) -> bool {
        let held = self.brokers.values().filter(|broker| broker.accepted);
        let mut reports = held.flat_map(|broker| broker.reports.range(keys_of(topic)));
        reports.any(|(_, report)| report.promise.kind != PromiseKind::Tombstone)
    }

    fn forget(&mut self, topic: TopicId) {
        let keys: Vec<PartitionKey> = self.plan.entries_of(topic).map(|entry| entry.key).collect();
        for key in keys {
            self.plan.entries.remove(&key);
            if let Some(page) = self.plan.places.remove(&key) {
                self.shelf.soil(page, false);
            }
        }
        if let Some(topic) = self.plan.topics.remove(&topic) {
            let message = format!("topic {} ({}) and its records are gone", topic.name, topic.id);
            self.event(EventKind::Normal, "TopicDeleted", Some(topic.name), message);
        }
        self.heard_topics.remove(&topic);
        self.moves.note_change();
    }

    pub(super) fn has_been_stored(&self, key: PartitionKey) -> bool {
        let page =
            self.plan.places.get(&key).and_then(|page| self.shelf.documents.get(&DocumentName::Page(*page)));
        page.is_some_and(|document| !document.is_dirty() && document.writing.is_none())
    }
}
