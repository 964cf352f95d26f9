//! Publishes: taken behind the opening record, answered once committed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::producers::Admission;
use super::replica::{Now, Replica, Role};
use super::{Effect, Refusal, Ticket};
use crate::batch::{ProducedBatch, Stamp};
use crate::offset::Offset;

/// At most so many publishes of one partition wait for their acknowledgement; their batches are on disk, this bounds what
/// remembering them costs (2 MiB).
pub const PUBLISHES_MAX: usize = 65_536;

/// While a term opens, and while a leader is about to be moved, so many publishes wait instead of being refused: what comes in
/// during a planned change …
pub const WAITING_MAX: usize = 1024;
/// … of at most so many bytes …
pub const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// … and for so long. A term that takes longer to open misses replicas, and the client should know.
const WAITING_TIME: Duration = Duration::from_secs(2);

/// A leader with too few followers takes publishes for so long, in the hope that they come back, then refuses.
const SHORT_TIME: Duration = Duration::from_secs(10);

/// A planned move that does not come is forgotten after so long: who asked for it may have died.
const STOPPED_TIME: Duration = Duration::from_secs(5);

/// A publish that became committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) ticket: Ticket,
    pub(super) base: Offset,
}

/// The publishes of one replica.
#[derive(Debug, Default)]
pub(super) struct Publishes {
    /// Appended, by the end that has to be committed.
    appended: BTreeMap<(Offset, Ticket), Offset>,
    /// Where each of them stands above.
    ends: BTreeMap<Ticket, Offset>,
    /// For a term that is opening, or for the next leader's name.
    waiting: VecDeque<(Ticket, ProducedBatch)>,
    waiting_bytes: usize,
}

impl Publishes {
    fn wait(&mut self, ticket: Ticket, batch: ProducedBatch) -> bool {
        let has_room =
            self.waiting.len() < WAITING_MAX && self.waiting_bytes + batch.size() <= WAITING_BYTES_MAX;
        if has_room {
            self.waiting_bytes += batch.size();
            self.waiting.push_back((ticket, batch));
        }
        has_room
    }

    fn take_waiting(&mut self) -> VecDeque<(Ticket, ProducedBatch)> {
        self.waiting_bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    fn append(&mut self, ticket: Ticket, end: Offset, base: Offset) {
        self.appended.insert((end, ticket), base);
        self.ends.insert(ticket, end);
    }

    pub(super) fn settle(&mut self, committed: Offset) -> Vec<Settled> {
        let above = self.appended.split_off(&(committed.plus(1), Ticket(0)));
        let settled = std::mem::replace(&mut self.appended, above);
        for (_, ticket) in settled.keys() {
            self.ends.remove(ticket);
        }
        settled.into_iter().map(|((_, ticket), base)| Settled { ticket, base }).collect()
    }

    pub(super) fn lose_above(&mut self, to: Offset) -> Vec<Ticket> {
        let lost = self.appended.split_off(&(to.plus(1), Ticket(0)));
        for (_, ticket) in lost.keys() {
            self.ends.remove(ticket);
        }
        lost.into_keys().map(|(_, ticket)| ticket).collect()
    }

    pub(super) fn give_up(&mut self) -> Vec<Ticket> {
        self.ends.clear();
        std::mem::take(&mut self.appended).into_keys().map(|(_, ticket)| ticket).collect()
    }

    pub(super) fn give_up_waiting(&mut self) -> Vec<Ticket> {
        self.take_waiting().into_iter().map(|(ticket, _)| ticket).collect()
    }

    pub(super) fn forget(&mut self, ticket: Ticket) {
        if let Some(end) = self.ends.remove(&ticket) {
            self.appended.remove(&(end, ticket));
        } else if let Some(at) = self.waiting.iter().position(|(other, _)| *other == ticket) {
            let gone = self.waiting.remove(at);
            self.waiting_bytes -= gone.map_or(0, |(_, batch)| batch.size());
        }
    }
}

impl Replica {
    /// A publish: appended, or refused at once.
    pub(super) fn produce(&mut self, now: Now, ticket: Ticket, batch: ProducedBatch) {
        // A planned move or a term that opens takes a moment: who waits is told where to go, or is appended.
        let since = match &self.role {
            Role::Opening(opening) => Some(opening.since),
            Role::Leading(leading) => leading.stopped,
            Role::Idle | Role::Following(_) | Role::Halted(_) => None,
        };
        if since.is_some_and(|since| now.since_start < since + WAITING_TIME)
            && self.publishes.wait(ticket, batch.clone())
        {
            return;
        }
        match self.try_produce(now, ticket, batch) {
            Ok(None) => {}
            Ok(Some(base)) => self.emit(Effect::Acknowledge { ticket, base }),
            Err(refusal) => self.emit(Effect::Refuse { ticket, refusal }),
        }
    }

    /// `Some` if it is an old duplicate that is committed already.
    fn try_produce(
        &mut self,
        now: Now,
        ticket: Ticket,
        batch: ProducedBatch,
    ) -> Result<Option<Offset>, Refusal> {
        let term = self.term_to_append_in(now)?;
        if self.publishes.appended.len() >= PUBLISHES_MAX {
            return Err(Refusal::Busy);
        }
        let append_time_ms = now.clock_ms.max(self.log.append_time_ms);
        if let Some(sequence) = batch.sequence() {
            match self.log.producers.admit(sequence, append_time_ms, self.high_watermark) {
                // Its first attempt, or the one before it, may lie in a batch that is being fetched again: a refusal would make
                // the client begin anew, and append twice.
                Admission::New | Admission::Refused(_) if self.hides_producers() => {
                    return Err(Refusal::Busy);
                }
                Admission::New => {}
                // What is not committed yet may still disappear: the first attempt's answer is this one's.
                Admission::Duplicate { base, end } if end <= self.high_watermark && self.is_opened() => {
                    return Ok(Some(base));
                }
                Admission::Duplicate { base, end } => {
                    self.publishes.append(ticket, end, base);
                    return Ok(None);
                }
                Admission::Refused(refusal) => return Err(refusal),
            }
        }
        let base = self.log.end;
        let batch = batch.stamp(Stamp { key: self.key, base, term, append_time_ms });
        self.publishes.append(ticket, batch.end(), base);
        self.append_own(&batch);
        Ok(None)
    }

    fn term_to_append_in(&mut self, now: Now) -> Result<crate::term::Term, Refusal> {
        let shortage = self.shortage();
        match &mut self.role {
            Role::Leading(leading) => {
                if leading.stopped.is_some() {
                    return Err(Refusal::Moving);
                }
                let is_short = leading.short_since.is_some_and(|since| now.since_start >= since + SHORT_TIME);
                if is_short { Err(shortage) } else { Ok(leading.term) }
            }
            Role::Opening(_) => Err(shortage),
            Role::Idle | Role::Following(_) | Role::Halted(_) => {
                let leader = self.entry().and_then(|entry| entry.leader).filter(|leader| *leader != self.me);
                Err(Refusal::NotLeader { leader })
            }
        }
    }

    /// In figures, of the set that lacks most.
    fn shortage(&self) -> Refusal {
        let count = |needed: fn(&crate::entry::ReplicaSet) -> usize,
                     has: &dyn Fn(crate::id::ReplicaId) -> bool| {
            let Some(entry) = self.entry() else { return Refusal::NotEnoughReplicas { needed: 1, have: 0 } };
            let figures = entry.members.sets().map(|set| {
                (
                    needed(set),
                    set.replicas().iter().filter(|replica| **replica == self.me || has(**replica)).count(),
                )
            });
            let (needed, have) =
                figures.max_by_key(|(needed, have)| needed.saturating_sub(*have)).unwrap_or((1, 0));
            Refusal::NotEnoughReplicas { needed, have }
        };
        match &self.role {
            Role::Leading(leading) => count(crate::entry::ReplicaSet::ack_quorum, &|replica| {
                leading.followers.get(&replica).is_some_and(|follower| follower.durable().is_some())
            }),
            Role::Opening(opening) => count(crate::entry::ReplicaSet::open_quorum, &|replica| {
                opening.answers.get(&replica).is_some_and(|answer| answer.certain)
            }),
            Role::Idle | Role::Following(_) | Role::Halted(_) => {
                Refusal::NotEnoughReplicas { needed: 1, have: 0 }
            }
        }
    }

    /// The term is open: what waited for it is appended behind its opening record.
    pub(super) fn flush_waiting(&mut self, now: Now) {
        for (ticket, batch) in self.publishes.take_waiting() {
            self.produce(now, ticket, batch);
        }
    }

    /// Called with each tick: a planned move that does not come is forgotten; it, or a term that opens too slowly, refuses what
    /// waits for it.
    pub(super) fn refuse_waiting(&mut self, now: Now) {
        let (since, refusal) = match &mut self.role {
            Role::Opening(opening) => (opening.since, self.shortage()),
            Role::Leading(leading) => {
                let Some(since) = leading.stopped else { return };
                if now.since_start >= since + STOPPED_TIME {
                    leading.stopped = None;
                    return self.flush_waiting(now);
                }
                (since, Refusal::Moving)
            }
            Role::Idle | Role::Following(_) | Role::Halted(_) => return,
        };
        if now.since_start < since + WAITING_TIME {
            return;
        }
        for ticket in self.publishes.give_up_waiting() {
            self.emit(Effect::Refuse { ticket, refusal: refusal.clone() });
        }
    }

    /// Nothing is appended any more, for a planned move: publishes wait until another epoch comes, or it does not.
    pub(super) fn stop_appends(&mut self, now: Now) {
        if let Role::Leading(leading) = &mut self.role {
            leading.stopped = Some(now.since_start);
        }
    }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
