//! Peers that came, and the replicas that have yet to hear of it.
//!
//! Who needs a peer hears of it at once: to open a term, to commit, to know whom it follows. A leader that does without has time. To
//! take a follower in costs messages and syncs on both sides, and a broker that comes back is to be taken in by thousands of
//! partitions, perhaps just while thousands of others get the leaders that its death cost them.

use std::collections::BTreeSet;

use super::route::Broker;
use crate::id::{PartitionKey, ReplicaId};
use crate::partition::{self, Effect, Now, Replica};

/// With each tick (of 50 ms) so many more leaders hear of a peer that they do without: ten thousand a second …
const ARRIVALS_MAX: usize = 500;
/// … and so many while this broker has terms to open, which programs wait for. Never none: a term that does not open at all is to keep
/// no follower out of the others.
const ARRIVALS_WHILE_OPENING_MAX: usize = 50;
/// So many terms on their way are opened in no time, whatever else is done.
const OPENINGS_FEW: usize = 100;

/// Who has yet to hear of whom.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    waiting: BTreeSet<(PartitionKey, ReplicaId)>,
    /// Terms on their way here.
    openings: BTreeSet<PartitionKey>,
}

impl Arrivals {
    /// A replica was stepped.
    pub(super) fn note(&mut self, replica: &Replica) {
        if replica.is_on_its_way() {
            self.openings.insert(replica.key());
        } else {
            self.openings.remove(&replica.key());
        }
    }

    /// A peer is gone, or comes anew.
    pub(super) fn forget(&mut self, peer: ReplicaId) {
        self.waiting.retain(|(_, other)| *other != peer);
    }

    /// Who hears of a peer with this tick.
    fn next(&mut self) -> Vec<(PartitionKey, ReplicaId)> {
        let most = if self.openings.len() > OPENINGS_FEW { ARRIVALS_WHILE_OPENING_MAX } else { ARRIVALS_MAX };
        let mut next = Vec::new();
        while let Some(one) = (next.len() < most).then(|| self.waiting.pop_first()).flatten() {
            next.push(one);
        }
        next
    }
}

impl Broker {
    /// A peer's process is connected: tells the replica, now or soon.
    pub(super) fn arrive(
        &mut self,
        now: Now,
        key: PartitionKey,
        peer: ReplicaId,
        out: &mut Vec<(PartitionKey, Effect)>,
    ) {
        if self.replicas.get(&key).is_some_and(|replica| replica.does_without_more()) {
            self.arrivals.waiting.insert((key, peer));
        } else {
            self.introduce(now, key, peer, out);
        }
    }

    /// Somebody is gone: who did without a peer may need it now.
    pub(super) fn admit_all(&mut self, now: Now, out: &mut Vec<(PartitionKey, Effect)>) {
        for (key, peer) in std::mem::take(&mut self.arrivals.waiting) {
            self.arrive(now, key, peer, out);
        }
    }

    /// With each tick.
    pub(super) fn admit_next(&mut self, now: Now, out: &mut Vec<(PartitionKey, Effect)>) {
        for (key, peer) in self.arrivals.next() {
            self.introduce(now, key, peer, out);
        }
    }

    /// Unless it has been heard of meanwhile: by a message, or with another entry.
    fn introduce(
        &mut self,
        now: Now,
        key: PartitionKey,
        peer: ReplicaId,
        out: &mut Vec<(PartitionKey, Effect)>,
    ) {
        let Some((process, _)) = self.connected.get(&peer).copied() else { return };
        if self.replicas.get(&key).is_some_and(|replica| !replica.knows(peer)) {
            self.deliver(now, key, partition::Input::PeerUp { peer, process }, out);
        }
    }
}

#[cfg(test)]
#[path = "arrivals_tests.rs"]
mod tests;
