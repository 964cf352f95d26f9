//! The follower's side: promise, compare whole vectors, cut, append, say how much is durable.

use std::cmp::Ordering;

use super::reconcile::{needs_reset, parting_point};
use super::replica::{Parked, Replica, Role};
use super::{Message, ProducerTable, Write};
use crate::batch::Batch;
use crate::entry::Entry;
use crate::id::ReplicaId;
use crate::offset::Offset;
use crate::term::{Process, Term, TermVector};

/// A term that was promised to another replica.
#[derive(Debug)]
pub(super) struct Following {
    pub(super) leader: ReplicaId,
    pub(super) term: Term,
    /// The log is a prefix of the leader's. Before that no append is taken, no end counts, no watermark is believed.
    pub(super) reconciled: bool,
    /// The leader was told so, after it had become durable.
    answered: bool,
    /// What the leader said is committed.
    pub(super) leader_high_watermark: Offset,
    /// The leader's log end when it heard this session: who holds all below lacks nothing that it may have lost.
    caught_up_at: Option<Offset>,
    /// The durable end that the leader was told.
    told: Offset,
    owed: Owed,
}

impl Following {
    /// What the leader said is committed, once it said something about a log that this one is a prefix of. Its opening record is
    /// the first that is.
    pub(super) fn leader_said(&self) -> Option<Offset> {
        Some(self.leader_high_watermark).filter(|said| self.reconciled && *said > Offset::ZERO)
    }
}

/// What the leader is to hear though nothing new is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Owed {
    Nothing,
    /// It asked by a heartbeat.
    Heartbeat,
    /// Something is missing between our end and what came: it is to go on from our end.
    Gap,
}

/// What a leader tells about its log when it attaches a follower.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) vector: TermVector,
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
    pub(super) counted: Offset,
    pub(super) producers: Vec<u8>,
}

impl Replica {
    /// A leader asks for a promise.
    pub(super) fn fence(&mut self, from: ReplicaId, process: Process, entry: Entry, term: Term) {
        if self.promise_to(from, process, entry, term) {
            self.park(self.promise_seq, Parked::Promised { to: from, term });
        }
    }

    /// Whether `term` may be promised: nothing higher was, and no twin.
    fn may_promise(&self, term: Term) -> bool {
        let by_entry = self.entry().is_none_or(|entry| entry.epoch <= term.epoch);
        let by_term = self.promise.term.is_none_or(|promised| {
            matches!(promised.partial_cmp(&term), Some(Ordering::Less | Ordering::Equal))
        });
        by_entry && by_term
    }

    /// Promises, if it may; says no to who comes too late. True if `from` leads this replica in `term` now.
    fn promise_to(&mut self, from: ReplicaId, process: Process, entry: Entry, term: Term) -> bool {
        let is_consistent = entry.key == self.key
            && entry.leader == Some(from)
            && entry.epoch == term.epoch
            && term.process == process
            && entry.concerns(self.me);
        if !is_consistent || from == self.me {
            return false;
        }
        if !self.may_promise(term) {
            self.refuse_lower(from, term);
            return false;
        }
        if self.promise.term != Some(term) {
            self.come_to_life();
            // The entry first: who waits here is told who leads now.
            if self.entry().is_none_or(|held| held.epoch < entry.epoch) {
                self.promise.entry = Some(entry);
            }
            self.step_down();
            self.promise.term = Some(term);
            self.write_promise();
        }
        if !self.follows(from, term) {
            self.role = Role::Following(Following {
                leader: from,
                term,
                reconciled: false,
                answered: false,
                leader_high_watermark: Offset::ZERO,
                caught_up_at: None,
                told: Offset::ZERO,
                owed: Owed::Nothing,
            });
        }
        true
    }

    /// Whether `leader` was promised exactly `term` by this replica.
    pub(super) fn follows(&self, leader: ReplicaId, term: Term) -> bool {
        matches!(&self.role, Role::Following(following) if following.leader == leader && following.term == term)
    }

    /// Tells who speaks for a lower term, or for a twin of a promised one, what was promised instead.
    pub(super) fn refuse_lower(&mut self, to: ReplicaId, term: Term) {
        if !self.may_promise(term) {
            let (promised, entry) = (self.promise.term, self.promise.entry.clone());
            self.send(to, Message::Refused { term, promised, entry });
        }
    }

    /// A leader shows its log: ours becomes a prefix of it, and the leader hears so once that is durable.
    pub(super) fn attach(
        &mut self,
        from: ReplicaId,
        process: Process,
        entry: Entry,
        term: Term,
        offer: Offer,
    ) {
        if offer.vector.last_term() != Some(term) || !self.promise_to(from, process, entry, term) {
            return;
        }
        // A leader's own term has no end: what it appended since does not make our log too long.
        let parting = match parting_point(&self.log.vector, self.log.end, &offer.vector, None) {
            Ok(parting) => parting,
            Err(contradiction) => return self.halt(format!("attaching to {from}: {contradiction}")),
        };
        if self.log.end < offer.counted && !self.is_reconciled() {
            self.uncertain = true;
            self.write(Write::Mark { uncertain: true });
        }
        // Even above our high watermark: it lags behind what was acknowledged.
        let gives_up = parting < self.log.end && self.is_left_behind();
        let is_reset = needs_reset(parting, self.log.end, offer.log_start);
        let reached = if is_reset || (gives_up && parting < self.log.start) {
            let Ok(producers) = ProducerTable::decode(&offer.producers) else { return };
            let mut vector = offer.vector;
            vector.cut(offer.log_start);
            if gives_up {
                self.set_aside(self.log.start, ProducerTable::default());
                self.replace_log(parting, offer.log_start, vector, producers);
                true
            } else {
                self.reset_own_log(parting, offer.log_start, vector, producers)
            }
        } else if gives_up {
            let Ok(producers) = ProducerTable::decode(&offer.producers) else { return };
            self.set_aside(parting, producers);
            true
        } else {
            self.cut_own_log(parting)
        };
        let Role::Following(following) = &mut self.role else { return };
        if !reached {
            return;
        }
        following.reconciled = true;
        following.owed = Owed::Nothing;
        following.caught_up_at.get_or_insert(offer.log_end.max(offer.counted));
        // Even an answer about an unchanged log waits for all that was written before it.
        self.park(self.last_write(), Parked::Attached { to: from, term });
        self.note_caught_up();
    }

    fn is_reconciled(&self) -> bool {
        matches!(&self.role, Role::Following(following) if following.reconciled)
    }

    /// The answer to an attach, once everything before it is durable.
    pub(super) fn answer_attach(&mut self, to: ReplicaId, term: Term) {
        let durable = self.log.durable;
        let Role::Following(following) = &mut self.role else { return };
        if following.leader == to && following.term == term && following.reconciled {
            (following.told, following.answered) = (durable, true);
            self.send(to, Message::Attached { term, log_end: durable });
        }
    }

    /// Batches of the leader, or only how far they are committed.
    pub(super) fn append_from(
        &mut self,
        from: ReplicaId,
        term: Term,
        first: Offset,
        batches: Vec<Batch>,
        (high_watermark, log_start): (Offset, Offset),
    ) {
        if !self.follows(from, term) {
            self.refuse_lower(from, term);
            return;
        }
        if !self.is_reconciled() {
            return;
        }
        let is_empty = batches.is_empty();
        for batch in batches {
            if self.log.fits(&batch, term) {
                self.append_own(&batch);
            }
        }
        let end = self.log.end;
        let Role::Following(following) = &mut self.role else { return };
        let owed = match (first > end, is_empty) {
            (true, _) => Owed::Gap,
            (false, true) => Owed::Heartbeat,
            (false, false) => Owed::Nothing,
        };
        following.owed = following.owed.max(owed);
        following.leader_high_watermark = following.leader_high_watermark.max(high_watermark);
        self.learn_commit();
        self.follow_log_start(log_start);
        self.note_caught_up();
    }

    /// The mark leaves behind the very appends that made the log whole, in one journal: never before they are durable.
    fn note_caught_up(&mut self) {
        let Role::Following(following) = &mut self.role else { return };
        if !self.uncertain || following.caught_up_at.is_none_or(|target| self.log.end < target) {
            return;
        }
        following.caught_up_at = Some(Offset(u64::MAX));
        let seq = self.write(Write::Mark { uncertain: false });
        self.park(seq, Parked::Certain);
    }

    /// One word to the leader for all that a turn brought.
    pub(super) fn settle_following(&mut self) {
        let durable = self.log.durable;
        let Role::Following(following) = &mut self.role else { return };
        if !following.answered || (following.owed == Owed::Nothing && durable <= following.told) {
            return;
        }
        let (to, term) = (following.leader, following.term);
        let message = match std::mem::replace(&mut following.owed, Owed::Nothing) {
            Owed::Gap => Message::Attached { term, log_end: durable },
            Owed::Nothing | Owed::Heartbeat => Message::Stored { term, log_end: durable },
        };
        following.told = durable;
        self.send(to, message);
    }
}

#[cfg(test)]
#[path = "follow_tests.rs"]
mod tests;
