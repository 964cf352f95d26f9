//! The first decision of every tenure about a partition: from which entry it may be made.
//!
//! It waits for reports, asked for by this tenure, of Qo replicas of that entry (of both sets, if it is joint), none of them
//! higher; a higher one becomes the entry to decide from. So a table that is gone, old, or restored is no special case.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::controller::Controller;
use crate::control::desired::Desired;
use crate::control::plan::is_deleted;
use crate::control::table::TopicRecord;
use crate::control::view::EventKind;
use crate::entry::Entry;
use crate::id::{Ordinal, PartitionKey, ReplicaId};
use crate::partition::Report;

/// The most topics that are remembered from reports: beyond it brokers say what no table of ours ever held.
const HEARD_TOPICS_MAX: usize = 100_000;

impl Controller {
    pub(super) fn note_reports(
        &mut self,
        ordinal: Ordinal,
        request: u64,
        reports: Vec<(PartitionKey, Report)>,
        topics: Vec<TopicRecord>,
        complete: bool,
    ) -> bool {
        let Some(broker) = self.brokers.get_mut(&ordinal).filter(|broker| broker.accepted) else {
            return false;
        };
        broker.heard_at = self.now;
        if request != 0 && request != broker.request {
            return false;
        }
        let mut concerned = Vec::new();
        let mut handed = false;
        for (key, report) in reports {
            concerned.push(key);
            let state = self.partitions.entry(key).or_default();
            state.known_end = state.known_end.max(report.high_watermark);
            // Programs wait for the next step of a planned move.
            handed |= !report.whole.is_empty();
            if report.leading.is_some()
                && broker.reports.get(&key).is_none_or(|before| before.leading != report.leading)
            {
                broker.opened_at = self.now;
            }
            broker.reports.insert(key, report);
        }
        let answered = complete && request == broker.request;
        if answered {
            broker.answered_at = Some(self.now);
            broker.told_all_to = self.tenure;
            broker.served |= broker.dead_since.is_none();
        }
        for topic in topics {
            match self.heard_topics.get(&topic.id) {
                Some(known) if known.changed >= topic.changed => {}
                None if self.heard_topics.len() >= HEARD_TOPICS_MAX => {}
                _ => drop(self.heard_topics.insert(topic.id, topic)),
            }
        }
        for key in concerned {
            self.tell_damage(ordinal, key);
        }
        answered || handed
    }

    fn tell_damage(&mut self, ordinal: Ordinal, key: PartitionKey) {
        let Some(report) = self.brokers.get(&ordinal).and_then(|broker| broker.reports.get(&key)) else {
            return;
        };
        let accepted = report.promise.entry.as_ref().and_then(|entry| entry.accepted_loss);
        let lost = report.may_have_lost.map(|offset| {
            let Some(accepted) = accepted else {
                let message =
                    format!("every replica of partition {key} may have lost records from offset {offset} on");
                return ("RecordsMayBeLost", message);
            };
            let known = accepted.known_end;
            let known = if known > offset { format!("; {known} was known to be committed") } else { String::new() };
            let message = format!(
                "broker {ordinal} leads partition {key} with the log that was left: records from offset {offset} on may be \
                 given up{known}"
            );
            ("RecordsGivenUp", message)
        });
        let aside = report.set_aside.map(|(from, to)| {
            let message = format!(
                "broker {ordinal} set aside its log of partition {key} from offset {from} to {to}: nobody else has these records"
            );
            ("LogSetAside", message)
        });
        let unreadable = report.unreadable.map(|offset| {
            ("BatchUnreadable", format!("broker {ordinal} cannot read partition {key} at offset {offset}, and asks the other replicas for a copy"))
        });
        let irreparable = report.irreparable.map(|offset| {
            let message = format!(
                "a batch of partition {key} at offset {offset} is damaged on broker {ordinal}, and no other replica can give it: \
                 its records are lost unless a missing replica returns"
            );
            ("BatchIrreparable", message)
        });
        let halted = report.halted.as_ref().map(|why| {
            ("ReplicaHalted", format!("broker {ordinal} stopped its replica of partition {key}: {why}"))
        });
        let topic = self.plan.topics.get(&key.topic).map(|topic| topic.name.clone());
        for (reason, message) in [lost, aside, unreadable, irreparable, halted].into_iter().flatten() {
            if self.partitions.entry(key).or_default().told.insert(reason) {
                self.event(EventKind::Warning, reason, topic.clone(), message);
            }
        }
    }

    /// Settles what can be settled, and ends the rebuilding of a table once every broker has reported.
    pub(super) fn settle(&mut self) {
        let highest = self.highest_reported();
        if highest.values().any(|entry| entry.epoch.generation > self.tenure) {
            let generation = highest.values().map(|entry| entry.epoch.generation).max().unwrap_or_default();
            self.tenure_reported = self.tenure_reported.max(generation);
            self.reload();
            return;
        }
        self.notice_an_older_table(&highest);
        // What somebody reported is settled by that, or waits: never by the table alone, which may be older.
        let is_reported: BTreeSet<PartitionKey> = highest.keys().copied().collect();
        let mut fills: Option<BTreeMap<u32, usize>> = None;
        for (key, reported) in highest {
            if !self.partitions.get(&key).is_some_and(|state| state.settled) {
                self.settle_one(key, Some(&reported), &mut fills);
            } else if self.plan.entries.get(&key).is_some_and(|entry| reported.epoch > entry.epoch) {
                // Somebody refuses everything below an older tenure's decision that never held: ours goes above it.
                let entry = self.plan.entries[&key].clone();
                self.decide(entry, true);
            }
        }
        let unsettled = |key: &&PartitionKey| {
            !is_reported.contains(key) && !self.partitions.get(key).is_some_and(|state| state.settled)
        };
        let rest: Vec<PartitionKey> = self.plan.entries.keys().filter(unsettled).copied().collect();
        for key in rest {
            self.settle_one(key, None, &mut fills);
        }
        self.name_topics();
        self.end_rebuilding();
    }

    /// Nothing is pushed that was not stored, so a replica with a decision of an earlier tenure that the table lacks shows that
    /// the table went back, if only to an earlier moment of that tenure. Then others may be missing too: a partition that
    /// nobody has reported may have replicas, and gets no first entry before every broker has reported.
    fn notice_an_older_table(&mut self, highest: &BTreeMap<PartitionKey, Entry>) {
        let lacks = |(key, reported): (&PartitionKey, &Entry)| {
            let settled = self.partitions.get(key).is_some_and(|state| state.settled);
            let is_lacking = self.plan.entries.get(key).is_none_or(|stored| stored.epoch < reported.epoch);
            !settled && is_lacking && reported.epoch.generation < self.tenure && self.is_held_live(*key)
        };
        // Nothing is waited for once all have said what they hold, though some of it may have no quorum left.
        let went_back = !self.have_all_reported() && highest.iter().any(lacks);
        if let Some(root) = self.plan.root.as_mut().filter(|root| went_back && !root.rebuilding) {
            root.rebuilding = true;
            self.shelf.soil_root();
            let message = "brokers hold decisions that the table lacks: it is an older copy".to_owned();
            self.event(EventKind::Warning, "TableLost", None, message);
        }
    }

    /// The highest reported entry of each partition.
    fn highest_reported(&self) -> BTreeMap<PartitionKey, Entry> {
        let mut highest: BTreeMap<PartitionKey, &Entry> = BTreeMap::new();
        // Only what the plan lacks is worth a place here, let alone a copy.
        let is_news = |key: &PartitionKey, entry: &Entry| {
            let settled = self.partitions.get(key).is_some_and(|state| state.settled);
            !settled || self.plan.entries.get(key).is_some_and(|known| entry.epoch > known.epoch)
        };
        for broker in self.brokers.values().filter(|broker| broker.answered_at.is_some()) {
            for (key, report) in &broker.reports {
                let entry = report.promise.entry.as_ref();
                let Some(entry) = entry.filter(|entry| is_news(key, entry)) else { continue };
                let known = highest.entry(*key).or_insert(entry);
                if entry.epoch > known.epoch {
                    *known = entry;
                }
            }
        }
        highest.into_iter().map(|(key, entry)| (key, entry.clone())).collect()
    }

    fn settle_one(
        &mut self,
        key: PartitionKey,
        reported: Option<&Entry>,
        fills: &mut Option<BTreeMap<u32, usize>>,
    ) {
        let stored = self.plan.entries.get(&key);
        let base = match (stored, reported) {
            (Some(stored), Some(reported)) if reported.epoch > stored.epoch => reported,
            (Some(stored), _) => stored,
            (None, Some(reported)) => reported,
            (None, None) => return,
        }
        .clone();
        let deleted = is_deleted(&base);
        if deleted && stored.is_none() && !self.is_held_live(key) {
            return; // A deletion that no table remembers, and of which nothing is left.
        }
        let answered = |replica: ReplicaId| self.has_answered(replica);
        if !deleted && !base.opened_by(answered) {
            let awaits = base.members.replicas().into_iter().filter(|replica| !answered(*replica)).collect();
            self.partitions.entry(key).or_default().awaits = awaits;
            return;
        }
        let changed = stored != Some(&base);
        let state = self.partitions.entry(key).or_default();
        state.settled = true;
        state.awaits.clear();
        if !changed {
            return;
        }
        let page = if let Some(page) = self.plan.places.get(&key) {
            *page
        } else {
            let fills = fills.get_or_insert_with(|| self.plan.fills());
            let listed = self.plan.root.as_ref().map_or(0, |root| root.pages.len());
            let page = self.plan.place(key, fills, crate::control::table::TOPIC_NAME_BYTES_MAX);
            if self.plan.root.as_ref().map_or(0, |root| root.pages.len()) != listed {
                self.shelf.soil_root();
            }
            page
        };
        self.plan.entries.insert(key, base);
        self.moves.note_change();
        self.shelf.soil(page, false);
    }

    /// Whether a broker reports a replica that is more than a tombstone.
    pub(super) fn is_held_live(&self, key: PartitionKey) -> bool {
        let live = |report: &Report| report.promise.kind != crate::partition::PromiseKind::Tombstone;
        self.brokers.values().any(|broker| broker.accepted && broker.reports.get(&key).is_some_and(live))
    }

    /// Topics whose entries are known, but not their lines, get the lines that brokers remember.
    fn name_topics(&mut self) {
        let entries = self.plan.entries.values().filter(|entry| !is_deleted(entry));
        let topics: BTreeSet<_> = entries.map(|entry| entry.key.topic).collect();
        for id in topics {
            let Some(heard) = self.heard_topics.get(&id) else { continue };
            let known = self.plan.topics.get(&id);
            if known.is_none_or(|known| known.changed < heard.changed) {
                self.plan.topics.insert(id, heard.clone());
                for page in self.plan.pages_of(id) {
                    self.shelf.soil(page, false);
                }
            }
        }
    }

    /// Whether this tenure has heard of everything that a broker holds.
    pub(super) fn has_reported(&self, ordinal: Ordinal) -> bool {
        self.brokers.get(&ordinal).is_some_and(|broker| broker.answered_at.is_some())
    }

    /// Every broker that is wished or may still hold something, and one at least.
    fn have_all_reported(&self) -> bool {
        let expected = self.desired.as_deref().map_or(0, Desired::present);
        expected > 0 && (0..expected).all(|ordinal| self.has_reported(Ordinal(ordinal)))
    }

    fn end_rebuilding(&mut self) {
        let all_reported = self.have_all_reported();
        let Some(root) = &mut self.plan.root else { return };
        if root.rebuilding && all_reported {
            root.rebuilding = false;
            self.shelf.soil_root();
            let message = "every broker has reported".to_owned();
            self.event(EventKind::Normal, "TableRebuilt", None, message);
        }
    }
}
