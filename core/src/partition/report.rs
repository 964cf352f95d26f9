//! What readers and the operator are told about a replica.

use std::time::Duration;

use super::lead::Follower;
use super::replica::{Now, Replica, Role};
use super::{Promise, Report};
use crate::id::{PartitionKey, ReplicaId};
use crate::offset::Offset;
use crate::term::Term;

/// A follower that held all that was committed so short a time ago is shown as in sync: each batch makes it lag for a moment.
const IN_SYNC_TIME: Duration = Duration::from_secs(5);

/// The operator hears so often how far a leader's log is committed: should its replicas be lost, a person is told about how much
/// that was. Ten thousand busy partitions tell it 330 times a second.
const TELL_WATERMARK_EACH: Duration = Duration::from_secs(30);

impl Replica {
    /// The partition.
    pub fn key(&self) -> PartitionKey {
        self.key
    }

    /// Who this is.
    pub fn id(&self) -> ReplicaId {
        self.me
    }

    /// What it has promised, durable or about to be.
    pub fn promise(&self) -> &Promise {
        &self.promise
    }

    /// Who should lead, by the entry that it holds.
    pub fn leader(&self) -> Option<ReplicaId> {
        self.entry()?.leader
    }

    /// The term that this replica leads, open or about to be. A reader that has seen a higher one is to be sent elsewhere.
    pub fn leading(&self) -> Option<Term> {
        match &self.role {
            Role::Leading(leading) => Some(leading.term),
            Role::Idle | Role::Opening(_) | Role::Following(_) | Role::Halted(_) => None,
        }
    }

    /// Below this consumers may read here. `None` means "not yet", or not here: nothing is out of range then, and `latest`
    /// is not known.
    pub fn readable(&self) -> Option<Offset> {
        self.is_opened().then_some(self.high_watermark)
    }

    /// Leads, and its opening record is committed.
    pub(super) fn is_opened(&self) -> bool {
        matches!(&self.role, Role::Leading(leading) if leading.opened)
    }

    /// The oldest offset that is kept.
    pub fn log_start(&self) -> Offset {
        self.log.start
    }

    /// Behind the last batch, durable or not.
    pub fn log_end(&self) -> Offset {
        self.log.end
    }

    /// Behind the last durable batch.
    pub fn durable_end(&self) -> Offset {
        self.log.durable
    }

    /// What is known here to be committed.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// What is committed as the leader said whose log it compared with its own. `None` before that, and while it follows nobody.
    pub fn committed_at_leader(&self) -> Option<Offset> {
        match &self.role {
            Role::Following(following) => following.leader_said(),
            Role::Idle | Role::Opening(_) | Role::Leading(_) | Role::Halted(_) => None,
        }
    }

    /// Why it stopped, if something impossible happened.
    pub fn halted(&self) -> Option<&str> {
        match &self.role {
            Role::Halted(reason) => Some(reason),
            Role::Idle | Role::Opening(_) | Role::Leading(_) | Role::Following(_) => None,
        }
    }

    /// Whether a process of `peer` was announced by [`Input::PeerUp`](super::Input::PeerUp) and not taken back.
    pub fn knows(&self, peer: ReplicaId) -> bool {
        self.peers.contains_key(&peer)
    }

    /// Whether so many members are connected that their promises would open a term: a leader that nobody hears has perhaps
    /// been replaced, and sends readers elsewhere after a while.
    pub fn hears_open_quorum(&self) -> bool {
        let hears = |replica| replica == self.me || self.peers.contains_key(&replica);
        self.entry().is_some_and(|entry| entry.opened_by(hears))
    }

    /// Whether it leads, or opens its term, and hears as many members as it takes to open a term and to commit: of others it may
    /// hear later.
    pub fn does_without_more(&self) -> bool {
        let hears = |replica| replica == self.me || self.peers.contains_key(&replica);
        let entry = match &self.role {
            Role::Opening(opening) => &opening.entry,
            Role::Leading(leading) => &leading.entry,
            Role::Idle | Role::Following(_) | Role::Halted(_) => return false,
        };
        self.repairs.is_empty() && entry.opened_by(hears) && entry.acknowledged_by(hears)
    }

    /// Whether it opens a term that it cannot serve in yet.
    pub fn is_on_its_way(&self) -> bool {
        match &self.role {
            Role::Opening(_) => true,
            Role::Leading(leading) => !leading.opened,
            Role::Idle | Role::Following(_) | Role::Halted(_) => false,
        }
    }

    /// For the operator. `None` while a promise is being stored: the report would be older than what is promised already.
    pub fn report(&self) -> Option<Report> {
        self.promise_is_durable().then(|| Report {
            promise: self.promise.clone(),
            leading: self.leading().filter(|_| self.is_opened()),
            in_sync: self.in_sync.clone(),
            caught_up: self.caught_up(),
            whole: self.whole(),
            log_start: self.log.start,
            log_end: self.log.durable,
            high_watermark: self.high_watermark,
            last_term: self.log.vector.last_term(),
            uncertain: self.uncertain,
            may_have_lost: self.may_have_lost,
            set_aside: self.set_aside,
            unreadable: self.unreadable(),
            irreparable: self.irreparable(),
            halted: self.halted().map(str::to_owned),
        })
    }

    fn caught_up(&self) -> Vec<ReplicaId> {
        let Role::Leading(leading) = &self.role else { return Vec::new() };
        let learners = leading.entry.learners.iter().copied();
        learners
            .filter(|learner| leading.followers.get(learner).is_some_and(Follower::is_caught_up))
            .collect()
    }

    /// Members that hold all of the log, while nothing is appended to it and all of it is committed.
    pub(super) fn whole(&self) -> Vec<ReplicaId> {
        let Role::Leading(leading) = &self.role else { return Vec::new() };
        if leading.stopped.is_none() || !leading.opened || self.high_watermark != self.log.end {
            return Vec::new();
        }
        let holds = |(_, follower): &(&ReplicaId, &Follower)| follower.durable() == Some(self.log.end);
        let whole = leading.followers.iter().filter(holds).map(|(replica, _)| *replica);
        whole.filter(|replica| leading.entry.members.contains(*replica)).collect()
    }

    /// Called with each tick: who holds what is committed, smoothed.
    pub(super) fn refresh_in_sync(&mut self, now: Now) {
        self.refuse_waiting(now);
        let high_watermark = self.high_watermark;
        let caught_up = self.caught_up();
        let Role::Leading(leading) = &mut self.role else { return };
        let mut in_sync: Vec<ReplicaId> = Vec::new();
        for (replica, follower) in &mut leading.followers {
            match follower.durable() {
                Some(durable) if durable >= high_watermark => follower.in_sync_at = Some(now.since_start),
                Some(_) => {}
                None => follower.in_sync_at = None,
            }
            if follower.in_sync_at.is_some_and(|at| now.since_start < at + IN_SYNC_TIME) {
                in_sync.push(*replica);
            }
        }
        in_sync.push(self.me);
        in_sync.sort_unstable();
        let seen = (in_sync, caught_up);
        if seen != (std::mem::take(&mut self.in_sync), std::mem::take(&mut self.caught_up_seen)) {
            self.changed();
        }
        (self.in_sync, self.caught_up_seen) = seen;
        let (told, at) = self.watermark_told;
        if high_watermark > told && now.since_start >= at + TELL_WATERMARK_EACH {
            self.watermark_told = (high_watermark, now.since_start);
            self.changed();
        }
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
