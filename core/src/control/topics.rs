//! Wishes become topics: made, grown, changed, retained, adopted again, deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::control::controller::Controller;
use crate::control::desired::{Desired, TopicWish};
use crate::control::placement::{Seat, choose};
use crate::control::table::{PAGES_MAX, TopicRecord, topic_name_is_valid};
use crate::control::view::EventKind;
use crate::entry::{Entry, Members, REPLICAS_MAX, ReplicaSet};
use crate::id::{Ordinal, PartitionKey, ReplicaId, TopicId};
use crate::term::Epoch;

/// A topic that needs fewer brokers than there are to be waits so long for all of them, so that the first to come do not
/// carry everything.
const PLACEMENT_PATIENCE: Duration = Duration::from_secs(10);
/// The most partitions of a topic (the CRD says so too).
const PARTITIONS_MAX: u32 = 1_024;

/// What a name stands for, among topics that are not going.
pub(super) type Names = BTreeMap<String, TopicId>;

impl Controller {
    /// One pass over the wishes.
    pub(super) fn follow_wishes(&mut self) {
        let Some(desired) = self.desired.clone() else { return };
        self.waits.clear();
        let names = self.names();
        let wished: BTreeSet<&str> = desired.topics.iter().map(|wish| wish.name.as_str()).collect();
        let deleted = desired.deleted.iter().map(String::as_str);
        let deleted: BTreeSet<&str> = deleted.filter(|name| !wished.contains(name)).collect();
        self.retain_unwished(&wished, &deleted);
        let goes =
            |topic: &&TopicRecord| deleted.contains(topic.name.as_str()) || self.plan.is_going(topic.id);
        let going: Vec<TopicId> = self.plan.topics.values().filter(goes).map(|topic| topic.id).collect();
        for id in going {
            self.delete(id);
        }
        let twice = wished_twice(&desired.topics);
        let mut seats: Option<Vec<Seat>> = None;
        for wish in &desired.topics {
            let verdict = match check(wish, &twice, desired.brokers) {
                Err(wait) => Err(wait),
                Ok(()) => match names.get(&wish.name) {
                    Some(id) => self.follow(*id, wish, &desired, &mut seats),
                    None => self.create(wish, &desired, &mut seats),
                },
            };
            if let Err(wait) = verdict {
                self.waits.insert(wish.name.clone(), wait);
            }
        }
    }

    /// Which topic a name stands for. Of two with one name (old volumes came back) the one that changed last.
    pub(super) fn names(&self) -> Names {
        let mut names: BTreeMap<String, (Epoch, TopicId)> = BTreeMap::new();
        for topic in self.plan.topics.values().filter(|topic| !self.plan.is_going(topic.id)) {
            let known = names.entry(topic.name.clone()).or_insert((topic.changed, topic.id));
            *known = (*known).max((topic.changed, topic.id));
        }
        names.into_iter().map(|(name, (_, id))| (name, id)).collect()
    }

    /// What is to be deleted is closed like what is retained, until its last partition is gone; people hear of the end only.
    fn retain_unwished(&mut self, wished: &BTreeSet<&str>, deleted: &BTreeSet<&str>) {
        let unwished = |topic: &&TopicRecord| !topic.retained && !wished.contains(topic.name.as_str());
        let retained: Vec<TopicId> =
            self.plan.topics.values().filter(unwished).map(|topic| topic.id).collect();
        for id in retained {
            if let Some(mut topic) = self.plan.topics.get(&id).cloned() {
                topic.retained = true;
                if !deleted.contains(topic.name.as_str()) {
                    let message =
                        format!("topic {} is not wished any more; its records are kept", topic.name);
                    self.event(EventKind::Normal, "TopicRetained", Some(topic.name.clone()), message);
                }
                self.rewrite(topic);
            }
        }
    }

    fn rewrite(&mut self, mut topic: TopicRecord) {
        topic.changed = self.next_change(topic.changed);
        for page in self.plan.pages_of(topic.id) {
            self.shelf.soil(page, false);
        }
        self.plan.topics.insert(topic.id, topic);
    }

    fn next_change(&self, before: Epoch) -> Epoch {
        let counter = if before.generation == self.tenure { before.counter.saturating_add(1) } else { 1 };
        Epoch { generation: self.tenure.max(before.generation), counter }
    }

    /// An existing topic takes on what is wished now.
    fn follow(
        &mut self,
        id: TopicId,
        wish: &TopicWish,
        desired: &Desired,
        seats: &mut Option<Vec<Seat>>,
    ) -> Result<(), (&'static str, String)> {
        let Some(known) = self.plan.topics.get(&id) else { return Ok(()) };
        let factor = known.replication_factor;
        let quorum = wish.ack_quorum.unwrap_or_else(|| majority(factor));
        let mut topic = TopicRecord {
            partitions: known.partitions.max(wish.partitions),
            max_message_bytes: wish.max_message_bytes,
            retention_ms: wish.retention_ms,
            retention_bytes: wish.retention_bytes,
            retained: false,
            ..known.clone()
        };
        if quorum <= factor {
            topic.ack_quorum = quorum;
        }
        let (was_retained, same) = (known.retained, topic == *known);
        // Fewer partitions in the table than the topic has: they wait for reports, or are new.
        let grows = topic.partitions > known.partitions || self.lacks_partitions(id, topic.partitions);
        if grows {
            self.can_mint(&wish.name)?;
            let seats = self.seats(factor, desired, seats)?;
            self.place_partitions(&topic, seats)?;
        }
        if !same {
            if was_retained {
                let message =
                    format!("topic {} is wished again: it has its records and its id {id}", topic.name);
                self.event(EventKind::Normal, "TopicAdopted", Some(topic.name.clone()), message);
            }
            self.rewrite(topic);
        }
        match wish.replication_factor {
            Some(wished) if wished != factor => {
                let message = format!(
                    "replicationFactor {wished} is wished, the topic has {factor} since it was created"
                );
                Err(("ReplicationFactorDiffers", message))
            }
            _ if quorum > factor => Err((
                "AckQuorumTooLarge",
                format!("ackQuorum {quorum} is wished, the topic has {factor} replicas"),
            )),
            _ => Ok(()),
        }
    }

    fn lacks_partitions(&self, id: TopicId, partitions: u32) -> bool {
        let known = self.plan.entries_of(id).filter(|entry| entry.key.partition < partitions).count();
        u32::try_from(known).is_ok_and(|known| known < partitions)
    }

    fn create(
        &mut self,
        wish: &TopicWish,
        desired: &Desired,
        seats: &mut Option<Vec<Seat>>,
    ) -> Result<(), (&'static str, String)> {
        self.can_mint(&wish.name)?;
        let factor =
            wish.replication_factor.unwrap_or_else(|| u8::try_from(desired.brokers.min(3)).unwrap_or(3));
        let seats = self.seats(factor, desired, seats)?;
        let Some(id) = self.take_id() else {
            return Err(("Creating", "waits for an id".to_owned()));
        };
        let topic = TopicRecord {
            id: TopicId(id),
            name: wish.name.clone(),
            partitions: wish.partitions,
            replication_factor: factor,
            ack_quorum: wish.ack_quorum.unwrap_or_else(|| majority(factor)),
            max_message_bytes: wish.max_message_bytes,
            retention_ms: wish.retention_ms,
            retention_bytes: wish.retention_bytes,
            retained: false,
            changed: self.next_change(Epoch::default()),
        };
        self.plan.topics.insert(topic.id, topic.clone());
        if let Err(wait) = self.place_partitions(&topic, seats) {
            self.plan.topics.remove(&topic.id);
            return Err(wait);
        }
        let message =
            format!("topic {} has the id {} and {} partitions", topic.name, topic.id, topic.partitions);
        self.event(EventKind::Normal, "TopicCreated", Some(topic.name), message);
        Ok(())
    }

    /// With a table that was lost, or is old, a topic may exist that it does not know.
    fn can_mint(&self, name: &str) -> Result<(), (&'static str, String)> {
        if !self.plan.root.as_ref().is_some_and(|root| root.rebuilding) {
            return Ok(());
        }
        let expected = self.desired.as_deref().map_or(0, Desired::present);
        let silent = |ordinal: &u16| {
            self.brokers.get(&Ordinal(*ordinal)).is_none_or(|broker| broker.answered_at.is_none())
        };
        let names: Vec<String> = (0..expected).filter(silent).map(|ordinal| ordinal.to_string()).collect();
        let message = format!(
            "the table is being rebuilt: topic {name} may exist on brokers that have not reported: {}",
            names.join(", ")
        );
        Err(("AwaitingBrokers", message))
    }

    /// Who can take new replicas, with what they carry.
    fn seats<'a>(
        &self,
        factor: u8,
        desired: &Desired,
        seats: &'a mut Option<Vec<Seat>>,
    ) -> Result<&'a mut Vec<Seat>, (&'static str, String)> {
        if u16::from(factor) > desired.brokers {
            let message =
                format!("{factor} replicas need as many brokers, the Cluster has {}", desired.brokers);
            return Err(("NotEnoughBrokers", message));
        }
        if seats.is_none() {
            *seats = Some(self.count_seats(desired));
        }
        let seats = seats.as_mut().expect("counted just now");
        if seats.len() < usize::from(factor) {
            let message = format!(
                "{factor} replicas need as many brokers, {} of {} answer",
                seats.len(),
                desired.brokers
            );
            return Err(("NotEnoughBrokers", message));
        }
        let waited = self.now.saturating_sub(self.ruling.1) >= PLACEMENT_PATIENCE;
        // Those that leave are heard too: a table that went back may not know what they hold.
        let leaving = desired.brokers..desired.present();
        let answer = seats.len() + leaving.filter(|one| self.has_reported(Ordinal(*one))).count();
        if answer < usize::from(desired.present()) && !waited {
            let message = format!(
                "{answer} of {} brokers answer; the others are waited for a little",
                desired.present()
            );
            return Err(("AwaitingBrokers", message));
        }
        Ok(seats)
    }

    fn count_seats(&self, desired: &Desired) -> Vec<Seat> {
        let takes = |ordinal: &u16| {
            self.brokers.get(&Ordinal(*ordinal)).is_some_and(|broker| broker.is_serving() && !broker.stopping)
        };
        let seat = |ordinal: u16| {
            let ordinal = Ordinal(ordinal);
            let holds =
                |entry: &&Entry| entry.members.replicas().iter().any(|replica| replica.ordinal == ordinal);
            let leads = |entry: &&Entry| entry.leader.is_some_and(|leader| leader.ordinal == ordinal);
            Seat {
                ordinal,
                zone: self.brokers.get(&ordinal).and_then(|broker| broker.zone.clone()),
                replicas: self.plan.entries.values().filter(holds).count(),
                leaders: self.plan.entries.values().filter(leads).count(),
            }
        };
        (0..desired.brokers).filter(takes).map(seat).collect()
    }

    /// Gives every partition that the table lacks its first entry.
    fn place_partitions(
        &mut self,
        topic: &TopicRecord,
        seats: &mut [Seat],
    ) -> Result<(), (&'static str, String)> {
        let mut fills = self.plan.fills();
        let key = |partition| PartitionKey { topic: topic.id, partition };
        let lacking: Vec<u32> = (0..topic.partitions)
            .filter(|partition| !self.plan.entries.contains_key(&key(*partition)))
            .collect();
        for partition in lacking {
            let key = key(partition);
            let turn = usize::try_from(partition).unwrap_or_default();
            let Some(chosen) = choose(seats, usize::from(topic.replication_factor), turn) else {
                return Err((
                    "NotEnoughBrokers",
                    format!("{} replicas need as many brokers", topic.replication_factor),
                ));
            };
            let replicas: Vec<ReplicaId> =
                chosen.iter().filter_map(|ordinal| self.brokers.get(ordinal)?.replica()).collect();
            let Ok(set) = ReplicaSet::new(replicas, topic.ack_quorum) else {
                return Err(("NotEnoughBrokers", "a chosen broker went away".to_owned()));
            };
            let listed = self.plan.root.as_ref().map_or(0, |root| root.pages.len());
            if listed >= PAGES_MAX {
                return Err(("TableFull", format!("the partition table has its {PAGES_MAX} pages")));
            }
            self.plan.place(key, &mut fills, topic.name.len());
            if self.plan.root.as_ref().map_or(0, |root| root.pages.len()) != listed {
                self.shelf.soil_root();
            }
            let leader = set.replicas().first().copied();
            let members = Members::One(set);
            let entry = Entry {
                key,
                epoch: Epoch::default(),
                leader,
                members,
                learners: Vec::new(),
                lost: Vec::new(),
                accepted_loss: None,
            };
            self.partitions.entry(key).or_default().settled = true;
            self.decide(entry, false);
        }
        Ok(())
    }

    /// Wished deletions of which nothing is left.
    pub(super) fn deleted_names(&self) -> Vec<String> {
        let (Some(desired), true) = (&self.desired, self.rules()) else { return Vec::new() };
        if self.plan.root.as_ref().is_none_or(|root| root.rebuilding) {
            return Vec::new();
        }
        if desired.deleted.is_empty()
            || self.partitions.values().any(|state| !state.settled && !state.awaits.is_empty())
        {
            return Vec::new();
        }
        let left: BTreeSet<&str> = self.plan.topics.values().map(|topic| topic.name.as_str()).collect();
        desired.deleted.iter().filter(|name| !left.contains(name.as_str())).cloned().collect()
    }
}

fn majority(replicas: u8) -> u8 {
    replicas / 2 + 1
}

/// Names that more than one wish claims.
fn wished_twice(wishes: &[TopicWish]) -> BTreeSet<&str> {
    let mut seen = BTreeSet::new();
    wishes.iter().map(|wish| wish.name.as_str()).filter(|name| !seen.insert(*name)).collect()
}

/// What cannot be, whatever the brokers do.
fn check(wish: &TopicWish, twice: &BTreeSet<&str>, brokers: u16) -> Result<(), (&'static str, String)> {
    let invalid = |message: String| Err(("InvalidTopic", message));
    if !topic_name_is_valid(&wish.name) {
        return invalid(format!("{:?} is not a topic's name: up to 249 of a-z A-Z 0-9 . _ -", wish.name));
    }
    if twice.contains(wish.name.as_str()) {
        return invalid(format!("topic {} is wished twice", wish.name));
    }
    if wish.partitions == 0 || wish.partitions > PARTITIONS_MAX {
        return invalid(format!("partitions {}: from 1 to {PARTITIONS_MAX}", wish.partitions));
    }
    if let Some(factor) = wish.replication_factor
        && (factor == 0 || usize::from(factor) > REPLICAS_MAX)
    {
        return invalid(format!("replicationFactor {factor}: from 1 to {REPLICAS_MAX}"));
    }
    match (wish.ack_quorum, wish.replication_factor) {
        (Some(0), _) => invalid("ackQuorum 0: at least 1".to_owned()),
        (Some(quorum), Some(factor)) if quorum > factor => {
            invalid(format!("ackQuorum {quorum}: at most replicationFactor, {factor}"))
        }
        (Some(quorum), None) if u16::from(quorum) > brokers.min(3) => {
            invalid(format!("ackQuorum {quorum}: at most the number of replicas, {}", brokers.min(3)))
        }
        _ => Ok(()),
    }
}
