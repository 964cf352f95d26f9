//! Decisions of the operator and news of peers: entries, releases, refusals, connections.

use super::replica::{Now, Replica, Role};
use super::{Effect, Promise, PromiseKind, Refusal, Write};
use crate::entry::Entry;
use crate::id::ReplicaId;
use crate::offset::Offset;
use crate::term::{Epoch, Process, Term};

impl Replica {
    /// The highest entry wins, wherever it comes from. From now on everything lower is refused.
    pub(super) fn assign(&mut self, now: Now, entry: Entry) {
        let is_newer = self.entry().is_none_or(|held| held.epoch < entry.epoch);
        let is_behind_term = self.promise.term.is_some_and(|term| entry.epoch < term.epoch);
        if entry.key != self.key || !is_newer || is_behind_term {
            return;
        }
        if entry.concerns(self.me) {
            self.come_to_life();
        }
        let leads_on = entry.leader == Some(self.me);
        self.promise.entry = Some(entry);
        if leads_on {
            // The same process opens the next term: what waits for its acknowledgement may go on waiting.
            self.role = Role::Idle;
            self.open_if_named(now);
            if matches!(self.role, Role::Opening(_)) {
                return;
            }
        }
        self.step_down();
        self.write_promise();
    }

    /// It is named. What it held may have gone because its topic was deleted, by a decision that table and brokers have forgotten
    /// since: then it lacks what it acknowledged, and its word is none about where the log ends.
    pub(super) fn come_to_life(&mut self) {
        let was_deleted = self.promise.kind == PromiseKind::Tombstone
            && self.promise.entry.as_ref().is_some_and(Entry::is_deletion);
        if was_deleted && !self.uncertain {
            self.uncertain = true;
            self.write(Write::Mark { uncertain: true });
        }
        self.promise.kind = PromiseKind::Live;
    }

    /// Ends whatever this replica led or followed. Who waits for an acknowledgement learns that nobody knows.
    pub(super) fn step_down(&mut self) {
        self.give_up_publishes(&Refusal::OutcomeUnknown);
        self.role = Role::Idle;
        self.in_sync.clear();
        self.changed();
    }

    /// The partition left this replica behind: the records go, entry and term stay for as long as the volume.
    pub(super) fn release(&mut self, epoch: Epoch) {
        let is_member = self.entry().is_some_and(|entry| entry.concerns(self.me));
        let is_older = self.entry().is_none_or(|entry| epoch < entry.epoch)
            || self.promise.term.is_some_and(|term| epoch < term.epoch);
        if is_member || is_older {
            return;
        }
        self.step_down();
        let floor = Term { epoch, process: Process::default() };
        if self.promise.term.is_none_or(|term| term < floor) {
            self.promise.term = Some(floor);
        }
        if self.promise.kind == PromiseKind::Tombstone {
            self.write_promise();
            return;
        }
        let is_deletion = self.entry().is_some_and(Entry::is_deletion);
        self.promise = Promise { kind: PromiseKind::Tombstone, ..self.promise.clone() };
        self.write_promise();
        // What nobody else may have is not deleted because its place was given to another.
        if self.is_left_behind() && !is_deletion && self.log.end > self.log.start {
            self.set_aside(self.log.start, super::ProducerTable::default());
        }
        self.write(Write::Release);
        if is_deletion {
            self.write(Write::ForgetAside);
        }
        let time = self.log.append_time_ms;
        self.log = super::log::Log::new(
            crate::term::TermVector::default(),
            (Offset::ZERO, Offset::ZERO),
            time,
            super::ProducerTable::default(),
        );
        self.high_watermark = Offset::ZERO;
        self.repairs.clear();
        self.may_have_lost = None;
    }

    /// Somebody promised more than our term. A higher entry is adopted; a leader of something lower is none any more.
    pub(super) fn refused(&mut self, now: Now, term: Term, promised: Option<Term>, entry: Option<Entry>) {
        if let Some(entry) = entry {
            self.assign(now, entry);
        }
        let current = match &self.role {
            Role::Opening(opening) => opening.term,
            Role::Leading(leading) => leading.term,
            Role::Idle | Role::Following(_) | Role::Halted(_) => return,
        };
        let is_above = promised.is_some_and(|promised| promised > current || promised.is_twin_of(&current));
        if current == term && is_above {
            self.step_down();
        }
    }

    /// A peer's process is connected. What another process of it said counts no more.
    pub(super) fn peer_up(&mut self, now: Now, peer: ReplicaId, process: Process) {
        if peer == self.me {
            return;
        }
        let before = self.peers.insert(peer, process);
        let is_member = self.entry().is_some_and(|entry| entry.members.contains(peer));
        if self.is_lost(peer) {
            return;
        }
        if is_member && !self.confirmed {
            self.confirmed = true;
            self.choose_log(now);
        }
        if !self.repairs.is_empty() {
            self.repairs.peer_up(now.since_start, peer);
        }
        let log_end = self.log.end;
        match &mut self.role {
            Role::Opening(_) => self.forget_answer(now, peer, before != Some(process)),
            Role::Leading(leading) => leading.connected(peer, process, log_end),
            Role::Idle | Role::Following(_) | Role::Halted(_) => {}
        }
    }

    /// The connection to a peer is gone.
    pub(super) fn peer_down(&mut self, now: Now, peer: ReplicaId) {
        self.peers.remove(&peer);
        self.repairs.peer_down(now.since_start, peer);
        match &mut self.role {
            Role::Opening(_) => self.forget_answer(now, peer, false),
            Role::Leading(leading) => leading.disconnected(peer),
            Role::Idle | Role::Following(_) | Role::Halted(_) => {}
        }
    }

    pub(super) fn give_up_publishes(&mut self, refusal: &Refusal) {
        let leader = self.entry().and_then(|entry| entry.leader).filter(|leader| *leader != self.me);
        for ticket in self.publishes.give_up_waiting() {
            self.emit(Effect::Refuse { ticket, refusal: Refusal::NotLeader { leader } });
        }
        for ticket in self.publishes.give_up() {
            self.emit(Effect::Refuse { ticket, refusal: refusal.clone() });
        }
    }

    pub(super) fn lose_publishes_above(&mut self, to: Offset) {
        for ticket in self.publishes.lose_above(to) {
            self.emit(Effect::Refuse { ticket, refusal: Refusal::OutcomeUnknown });
        }
    }
}

#[cfg(test)]
#[path = "members_tests.rs"]
mod tests;
