//! Members change: learner → caught up → joint entry → its opening record commits → entry with the new set.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::control::controller::Controller;
use crate::control::moves::ABSENCE_MAX;
use crate::control::plan::is_deleted;
use crate::control::table::{BrokerRecord, BrokerStanding, RECORDS_MAX, Root};
use crate::control::view::EventKind;
use crate::entry::{Entry, Members, ReplicaSet};
use crate::id::{PartitionKey, ReplicaId};
use crate::term::Process;

/// Partitions whose members change at once: each of them copies a log, and makes its page longer for a while.
const CHANGES_MAX: usize = 16;

impl Controller {
    /// Takes the next step of every change that is due.
    pub(super) fn change_members(&mut self) {
        self.list_replaced();
        self.spread();
        // Who is lost is refused for ever, so only what is stored of it counts.
        let Some(root) = &self.shelf.root else { return };
        let moving =
            |entry: &&Entry| !entry.learners.is_empty() || matches!(entry.members, Members::Joint { .. });
        // One that waits for somebody who is away copies nothing, and holds up no others. Moves between brokers have bounds of
        // their own, so that what mends waits for none of them.
        let goes_on = |entry: &&Entry| {
            let learns = entry.learners.iter().all(|replica| self.serving(*replica).is_some());
            moving(entry) && learns && self.can_open(entry) && self.moves.of(entry.key).is_none()
        };
        let mut under_way = self.plan.entries.values().filter(goes_on).count();
        let mut steps: Vec<Entry> = Vec::new();
        let mut leaving: Vec<(PartitionKey, ReplicaId)> = Vec::new();
        for entry in self.plan.entries.values().filter(|entry| !is_deleted(entry)) {
            let resting = !moving(&entry);
            let moves = self.moves.of(entry.key).is_some();
            if resting && !moves && under_way >= CHANGES_MAX {
                continue;
            }
            let rested = resting && !moves && !self.is_wanting(entry, root);
            if rested || !self.partitions.get(&entry.key).is_some_and(|state| state.settled) {
                continue;
            }
            leaving.extend(self.leaver(entry).map(|leader| (entry.key, leader)));
            // A leader that works keeps its term where no other one can be opened.
            let opens =
                |next: &Entry| self.leading(entry).is_none() || next.opened_by(|r| self.serving(r).is_some());
            if let Some(next) = self.next_step(entry).filter(opens) {
                under_way += usize::from(resting && !moves);
                steps.push(next);
            }
        }
        self.hand_over_from(leaving);
        for next in steps {
            // Thousands may move after a broker joined: people are told of all of them together.
            let moves = self.moves.of(next.key).is_some();
            if matches!(next.members, Members::One(_)) && next.learners.is_empty() && !moves {
                let topic = self.plan.topics.get(&next.key.topic).map(|topic| topic.name.clone());
                let message =
                    format!("partition {} is now held by {}", next.key.partition, next.members_text());
                self.event(EventKind::Normal, "MembersChanged", topic, message);
            }
            self.decide(next, false);
        }
    }

    /// The leader of a joint entry that opened its term, and is none of the new set: somebody of that takes over first.
    fn leaver(&self, entry: &Entry) -> Option<ReplicaId> {
        let Members::Joint { new, .. } = &entry.members else { return None };
        let leader = entry.leader.filter(|leader| !new.contains(*leader))?;
        (self.leading(entry).is_some() && self.can_open(entry)).then_some(leader)
    }

    fn hand_over_from(&mut self, leaving: Vec<(PartitionKey, ReplicaId)>) {
        if leaving.is_empty() {
            return;
        }
        let mut leads = self.count_leaders();
        for (key, leader) in leaving {
            self.hand_over(key, leader, &mut leads);
        }
    }

    /// Lists as lost the members whose place another volume has, one that takes part now. A table that was lost or restored
    /// may know the living only, and nothing is decided about who is not listed.
    fn list_replaced(&mut self) {
        let Some(root) = &self.plan.root else { return };
        let replaced = |replica: &ReplicaId| {
            let living = root.active(replica.ordinal).map(BrokerRecord::replica);
            // A restored table may list an older life than the member's: that one does not answer.
            living.is_some_and(|living| living != *replica && self.serving(living).is_some())
                && !root.is_lost(*replica)
        };
        let settled =
            |entry: &&Entry| self.partitions.get(&entry.key).is_some_and(|partition| partition.settled);
        let entries = self.plan.entries.values().filter(settled);
        let found: BTreeSet<ReplicaId> =
            entries.flat_map(|entry| entry.members.replicas()).filter(replaced).collect();
        for replica in found {
            self.list_lost(replica);
        }
    }

    /// Lists a replica as lost for ever.
    pub(super) fn list_lost(&mut self, replica: ReplicaId) {
        let Some(root) = &mut self.plan.root else { return };
        if root.is_lost(replica) {
            return;
        }
        let ReplicaId { ordinal, incarnation } = replica;
        let (process, standing) = (Process::default(), BrokerStanding::Lost);
        root.brokers.push(BrokerRecord { ordinal, incarnation, process, volume: None, standing });
        root.brokers.sort_by_key(BrokerRecord::replica);
        self.forget_lost();
        let Some(root) = &mut self.plan.root else { return };
        if root.brokers.len() > RECORDS_MAX {
            root.brokers.retain(|record| record.replica() != replica);
            return;
        }
        self.shelf.soil_root();
        let message = format!("broker {ordinal} has another volume than {replica}, which is lost for ever");
        self.event(EventKind::Warning, "VolumeLost", None, message);
    }

    /// Cheaply: whether the set is other than it is to be, moves between brokers aside.
    pub(super) fn is_wanting(&self, entry: &Entry, root: &Root) -> bool {
        let Members::One(set) = &entry.members else { return true };
        let topic = self.plan.topics.get(&entry.key.topic);
        let quorum = topic.is_some_and(|topic| usize::from(topic.ack_quorum) != set.ack_quorum());
        quorum || set.replicas().iter().any(|replica| root.is_lost(*replica))
    }

    /// The set that is to be: each lost replica replaced by its broker's present volume, one that moves by where it goes, the
    /// quorum as the topic says. Nothing while that broker is away, or if the quorum does not fit.
    fn target(&self, key: PartitionKey, set: &ReplicaSet) -> Option<ReplicaSet> {
        let root = self.shelf.root.as_ref()?;
        let one = self.moves.of(key);
        let replace = |replica: &ReplicaId| {
            if let Some(one) = one.filter(|one| one.from == *replica) {
                return self.serving(one.to).map(|_| one.to);
            }
            if !root.is_lost(*replica) {
                return Some(*replica);
            }
            let living = root.active(replica.ordinal)?.replica();
            self.serving(living).map(|_| living)
        };
        let replicas: Option<Vec<ReplicaId>> = set.replicas().iter().map(replace).collect();
        let quorum = match self.plan.topics.get(&key.topic) {
            Some(topic) => topic.ack_quorum,
            None => u8::try_from(set.ack_quorum()).ok()?,
        };
        ReplicaSet::new(replicas?, quorum).ok()
    }

    /// What goes on where lost volumes keep the term from ever being committed, so that nobody can be seen to catch up.
    fn unblock(&self, entry: &Entry) -> Option<Entry> {
        let root = self.shelf.root.as_ref()?;
        let lost_of = |set: &ReplicaSet| -> Vec<ReplicaId> {
            set.replicas().iter().filter(|replica| root.is_lost(**replica)).copied().collect()
        };
        match &entry.members {
            // The joint entry comes at once: in it the lost ones count towards the ackQuorum of the set that they leave.
            Members::One(old) => {
                let lost = lost_of(old);
                if old.replicas().len() - lost.len() >= old.ack_quorum() {
                    return None;
                }
                let new = self.target(entry.key, old)?;
                let leader = entry.leader.filter(|leader| new.contains(*leader))?;
                let members = Members::Joint { old: old.clone(), new };
                Some(Entry { leader: Some(leader), members, learners: Vec::new(), lost, ..entry.clone() })
            }
            // It stays joint: in the old set alone the lost ones would count as living again, should one of them come back.
            // The old set's open quorum meets whatever the joint entry acknowledged, so another new set may be joined.
            Members::Joint { old, new } => {
                let mut lost = entry.lost.clone();
                lost.extend(lost_of(old).into_iter().filter(|one| !entry.lost.contains(one)));
                let next = if lost_of(new).is_empty() { new.clone() } else { self.target(entry.key, new)? };
                let unchanged = next == *new && lost == entry.lost;
                if unchanged && lost.is_empty() {
                    return self.given_up(entry, old, new);
                }
                if unchanged || lost.iter().any(|one| next.contains(*one)) {
                    return None;
                }
                let stays = |leader: &ReplicaId| {
                    !lost.contains(leader) && (old.contains(*leader) || next.contains(*leader))
                };
                let leader = entry.leader.filter(stays);
                let members = Members::Joint { old: old.clone(), new: next };
                Some(Entry { leader, members, learners: Vec::new(), lost, ..entry.clone() })
            }
        }
    }

    /// The old set alone, where whoever was to join it is away for long: nothing can be committed without them, and the old set's
    /// open quorum meets whatever was. Not where a person's word made the old set smaller than it should be.
    fn given_up(&self, entry: &Entry, old: &ReplicaSet, new: &ReplicaSet) -> Option<Entry> {
        let is_away = |replica: &ReplicaId| {
            let dead_since = self.brokers.get(&replica.ordinal).map(|broker| broker.dead_since);
            let since = dead_since.unwrap_or(Some(Duration::ZERO)).map(|since| since.max(self.ruling.1));
            since.is_some_and(|since| self.now.saturating_sub(since) >= ABSENCE_MAX)
        };
        let mut joining = new.replicas().iter().filter(|replica| !old.contains(**replica));
        let is_smaller = old.replicas().len() < new.replicas().len();
        if entry.accepts_loss() || is_smaller || !joining.any(is_away) {
            return None;
        }
        let leader = entry.leader.filter(|leader| old.contains(*leader));
        let members = Members::One(old.clone());
        let next = Entry { leader, members, learners: Vec::new(), lost: Vec::new(), ..entry.clone() };
        next.opened_by(|replica| self.serving(replica).is_some()).then_some(next)
    }

    fn next_step(&self, entry: &Entry) -> Option<Entry> {
        let root = self.shelf.root.as_ref()?;
        let Some(report) = self.leading(entry) else { return self.unblock(entry) };
        let leader = entry.leader?;
        let old = match &entry.members {
            // Who leaves hands over first, unless a volume was lost meanwhile without which nobody could take over.
            Members::Joint { new, .. } if !new.contains(leader) => return self.unblock(entry),
            // Its opening record is committed under both sets.
            Members::Joint { new, .. } => {
                let members = Members::One(new.clone());
                return Some(Entry {
                    leader: Some(leader),
                    members,
                    learners: Vec::new(),
                    lost: Vec::new(),
                    ..entry.clone()
                });
            }
            Members::One(set) => set,
        };
        let Some(new) = self.target(entry.key, old).filter(|new| new != old) else {
            // Nothing to change any more: who learnt in vain stops. What an earlier tenure began is known once there is a plan.
            let is_vain = self.moves.is_planned && self.moves.of(entry.key).is_none();
            return (!entry.learners.is_empty() && is_vain && !self.is_wanting(entry, root))
                .then(|| Entry { learners: Vec::new(), ..entry.clone() });
        };
        let joining: Vec<ReplicaId> =
            new.replicas().iter().filter(|replica| !old.contains(**replica)).copied().collect();
        if joining != entry.learners {
            return Some(Entry { learners: joining, ..entry.clone() });
        }
        if !joining.iter().all(|replica| report.caught_up.contains(replica)) {
            return None;
        }
        let lost = |replica: &&ReplicaId| root.is_lost(**replica) && !new.contains(**replica);
        let lost: Vec<ReplicaId> = old.replicas().iter().filter(lost).copied().collect();
        let members = Members::Joint { old: old.clone(), new };
        Some(Entry { members, learners: Vec::new(), lost, ..entry.clone() })
    }
}

impl Entry {
    /// Its members' brokers, for people.
    pub(super) fn members_text(&self) -> String {
        let brokers: Vec<String> =
            self.members.replicas().iter().map(|replica| format!("broker {}", replica.ordinal)).collect();
        brokers.join(", ")
    }
}
