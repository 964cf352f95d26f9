//! Who is connected with whom, as brokers say, and which leader is cut off from those whom it needs while others are not.
//!
//! Gossip does not tell: it goes round by others. Never names a leader; `openings` does.

use crate::control::controller::Controller;
use crate::entry::Entry;
use crate::id::{Ordinal, ReplicaId};
use crate::partition::Report;

impl Controller {
    pub(super) fn note_links(&mut self, ordinal: Ordinal, linked: Vec<Ordinal>) -> bool {
        if let Some(broker) = self.brokers.get_mut(&ordinal) {
            broker.heard_at = self.now;
            broker.linked = Some(linked.into_iter().collect());
        }
        false
    }

    /// Whether two brokers are connected: yes if both say so, no if one says that they are not; nothing if too little is known.
    fn in_touch(&self, one: Ordinal, other: Ordinal) -> Option<bool> {
        let says = |from: Ordinal, of: Ordinal| Some(self.brokers.get(&from)?.linked.as_ref()?.contains(&of));
        match (says(one, other), says(other, one)) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            (None, _) | (_, None) => None,
        }
    }

    /// The leader, if it reaches too few to commit, while so many others reach each other that they can do without it. Whether
    /// this operator hears it does not matter.
    pub(super) fn cut_off(&self, entry: &Entry) -> Option<ReplicaId> {
        let leader = entry.leader?;
        let commits = |report: &Report| {
            entry.acknowledged_by(|replica| replica == leader || report.in_sync.contains(&replica))
        };
        // First what costs least: this is asked of all partitions. Who says that it can commit is believed.
        if self.leading(entry).is_some_and(commits) {
            return None;
        }
        let settled = self.partitions.get(&entry.key).is_some_and(|state| state.settled);
        let stops = self.brokers.get(&leader.ordinal).is_none_or(|broker| broker.stopping);
        if !settled || stops || !self.can_lead(entry, leader) || !self.has_been_stored(entry.key) {
            return None;
        }
        let is_reached =
            |replica| self.stays(replica) && self.in_touch(leader.ordinal, replica.ordinal) != Some(false);
        let reaches_enough = entry.acknowledged_by(|replica| replica == leader || is_reached(replica));
        let mut others = entry.members.replicas().into_iter();
        let is_replaceable = !reaches_enough && others.any(|one| self.can_do_without(entry, leader, one));
        is_replaceable.then_some(leader)
    }

    /// Whether this member and those that it is connected with can choose a log and commit in it without that leader.
    pub(super) fn can_do_without(&self, entry: &Entry, leader: ReplicaId, one: ReplicaId) -> bool {
        let near = |replica: ReplicaId| {
            let reached = || replica == one || self.in_touch(one.ordinal, replica.ordinal) == Some(true);
            replica != leader && self.stays(replica) && reached()
        };
        near(one) && entry.opened_by(near) && entry.acknowledged_by(near)
    }

    fn stays(&self, replica: ReplicaId) -> bool {
        self.serving(replica).is_some_and(|broker| !broker.stopping)
    }
}
