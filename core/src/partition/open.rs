//! Opening a term, the only way to lead: store, fence, hear enough certain answers, take the longest log, append the opening
//! record. First start, failover, planned moves, restarts of a leader and changes of members are all this one way.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use super::fetch::Fetching;
use super::replica::{Now, Parked, Replica, Role};
use super::{Message, ProducerTable, PromiseKind, Write};
use crate::batch::{Batch, Stamp};
use crate::entry::Entry;
use crate::id::ReplicaId;
use crate::offset::Offset;
use crate::term::{Term, TermVector};

/// A question without an answer is asked again after so long: far more than a round trip and a sync, far less than people
/// wait.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a replica answered to a fence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) vector: TermVector,
    pub(super) log_start: Offset,
    pub(super) log_end: Offset,
    pub(super) certain: bool,
}

/// A term on its way.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) entry: Entry,
    pub(super) term: Term,
    /// Our own promise is durable; nobody is asked before.
    stored: bool,
    pub(super) answers: BTreeMap<ReplicaId, Answer>,
    asked: BTreeMap<ReplicaId, Duration>,
    pub(super) fetching: Option<Fetching>,
    pub(super) since: Duration,
    /// A person's word stands for exactly this term.
    pub(super) needs_no_quorum: bool,
    /// Records from here on may be lost by opening with those who answered.
    pub(super) may_lose: Option<Offset>,
}

/// By last term, then by end. `None` for twins, of which only one can be right.
fn longer(a: &Answer, b: &Answer) -> Option<Ordering> {
    let terms = match (a.vector.last_term(), b.vector.last_term()) {
        (Some(a), Some(b)) => a.partial_cmp(&b)?,
        (a, b) => a.is_some().cmp(&b.is_some()),
    };
    Some(terms.then(a.log_end.cmp(&b.log_end)))
}

/// Whose log is the longest: `me` if nobody's is longer. The two whose logs end in twin terms, if there are such.
fn longest(
    me: ReplicaId,
    answers: &BTreeMap<ReplicaId, Answer>,
) -> Result<ReplicaId, (ReplicaId, ReplicaId)> {
    let mut best = me;
    for (replica, answer) in answers {
        match longer(answer, &answers[&best]) {
            Some(Ordering::Greater) => best = *replica,
            Some(Ordering::Less | Ordering::Equal) => {}
            None => return Err((best, *replica)),
        }
    }
    Ok(best)
}

impl Replica {
    /// Opens a term if the entry names us and no higher term, and no twin of it, was promised.
    pub(super) fn open_if_named(&mut self, now: Now) {
        let Some(entry) = self.entry().filter(|entry| entry.leader == Some(self.me)).cloned() else { return };
        let term = Term { epoch: entry.epoch, process: self.process };
        if self
            .promise
            .term
            .is_some_and(|promised| !matches!(promised.partial_cmp(&term), Some(Ordering::Less)))
        {
            // Our own incarnation has promised this term or a higher one under another process: it leads, not we.
            self.changed();
            return;
        }
        // The word is good for one term: who had one of this epoch already, in an earlier process, needs its quorum.
        let is_first = self.promise.term.is_none_or(|promised| promised.epoch < entry.epoch);
        let needs_no_quorum = entry.accepts_loss() && is_first;
        self.promise.term = Some(term);
        self.write_promise();
        self.park(self.promise_seq, Parked::Fences(term));
        self.role = Role::Opening(Opening {
            entry,
            term,
            stored: false,
            answers: BTreeMap::new(),
            asked: BTreeMap::new(),
            fetching: None,
            since: now.since_start,
            needs_no_quorum,
            may_lose: None,
        });
    }

    /// Our promise is durable, and so is all that we had been appending before it.
    pub(super) fn promise_stored(&mut self, now: Now, term: Term) {
        match &mut self.role {
            Role::Opening(opening) if opening.term == term => opening.stored = true,
            Role::Idle | Role::Opening(_) | Role::Leading(_) | Role::Following(_) | Role::Halted(_) => return,
        }
        self.choose_log(now);
    }

    pub(super) fn settle_opening(&mut self, now: Now) {
        let Role::Opening(opening) = &mut self.role else { return };
        if !opening.stored {
            return;
        }
        let is_due = |asked: Duration| now.since_start >= asked + ASK_AGAIN;
        let mut sends = Vec::new();
        for member in opening.entry.members.replicas() {
            let waits = opening.asked.get(&member).is_some_and(|asked| !is_due(*asked));
            if !self.peers.contains_key(&member) || opening.answers.contains_key(&member) || waits {
                continue;
            }
            opening.asked.insert(member, now.since_start);
            sends.push((member, Message::Fence { entry: opening.entry.clone(), term: opening.term }));
        }
        let fetch_is_due = opening.fetching.as_ref().is_some_and(|fetching| fetching.is_due(now));
        for (to, message) in sends {
            self.send(to, message);
        }
        if fetch_is_due {
            self.fetch_elsewhere(now);
        }
        self.choose_log_after_patience(now);
    }

    /// A replica promised.
    pub(super) fn promised(&mut self, now: Now, from: ReplicaId, term: Term, answer: Answer) {
        match &mut self.role {
            Role::Opening(opening) if opening.term == term => {
                opening.answers.insert(from, answer);
                self.choose_log(now);
            }
            Role::Leading(leading) if leading.term == term => leading.answered(from, answer),
            Role::Idle | Role::Opening(_) | Role::Leading(_) | Role::Following(_) | Role::Halted(_) => {}
        }
    }

    /// What a replica answered is void: its process is another one, or it was to be fetched from and is gone.
    pub(super) fn forget_answer(&mut self, now: Now, peer: ReplicaId, process_changed: bool) {
        let Role::Opening(opening) = &mut self.role else { return };
        let source = opening.fetching.as_ref().is_some_and(|fetching| fetching.needs(peer));
        opening.asked.remove(&peer);
        if process_changed || source {
            opening.answers.remove(&peer);
        }
        if source {
            opening.fetching = None;
            self.choose_log(now);
        }
    }

    /// Takes the longest log, once enough have answered.
    pub(super) fn choose_log(&mut self, now: Now) {
        let own = Answer {
            vector: self.log.vector.clone(),
            log_start: self.log.start,
            log_end: self.log.end,
            certain: self.is_certain(),
        };
        let Role::Opening(opening) = &mut self.role else { return };
        if !opening.stored || opening.fetching.is_some() {
            return;
        }
        let alone = opening.answers.keys().all(|replica| *replica == self.me);
        opening.answers.insert(self.me, own);
        let certain = |replica| opening.answers.get(&replica).is_some_and(|answer| answer.certain);
        // Where a person's word stands the members may be others than those who acknowledged: no quorum of them proves anything.
        let enough = !opening.needs_no_quorum && opening.entry.opened_by(certain);
        // Waiting for anybody else would bring nothing back.
        let all = opening.entry.members.replicas().iter().all(|member| opening.answers.contains_key(member));
        let gives_up = opening.gives_up(now);
        // A restored volume may be alone with its old memory: somebody must have confirmed this process.
        if !(enough || all || gives_up) || (alone && !self.confirmed) {
            return;
        }
        let best = match longest(self.me, &opening.answers) {
            Ok(best) => best,
            Err((a, b)) => return self.halt(format!("the logs of {a} and {b} end in twin terms")),
        };
        // Who has gone since it answered gives nothing now, and perhaps never again: it counts when it answers anew.
        if best != self.me && !self.peers.contains_key(&best) {
            opening.answers.remove(&best);
            opening.asked.remove(&best);
            return self.choose_log(now);
        }
        let all_end = opening.answers[&best].log_end;
        // Of those who are missing nobody knows where they part from us: only what is known to be committed here surely stays.
        let may_lose = if opening.needs_no_quorum { self.high_watermark } else { all_end };
        opening.may_lose = (!enough).then_some(may_lose);
        if longer(&opening.answers[&best], &opening.answers[&self.me]) == Some(Ordering::Greater) {
            let answer = opening.answers[&best].clone();
            self.begin_fetch(now, best, answer);
        } else if !opening.needs_no_quorum || self.gives_up_damage(now) {
            self.append_opening(now);
        }
    }

    /// Cuts, if there is something to cut. False if this replica halted instead: what is committed is never cut.
    pub(super) fn cut_own_log(&mut self, to: Offset) -> bool {
        if to < self.high_watermark {
            self.halt(format!("a cut to {to} below the high watermark {}", self.high_watermark));
            return false;
        }
        if to < self.log.end {
            self.log.cut(to);
            self.repairs.forget_from(to);
            self.write(Write::Cut { to });
            self.lose_publishes_above(to);
        }
        true
    }

    /// Replaces the log by an empty one at `start`. False if this replica halted instead.
    pub(super) fn reset_own_log(
        &mut self,
        parting: Offset,
        start: Offset,
        vector: TermVector,
        producers: ProducerTable,
    ) -> bool {
        if parting < self.high_watermark {
            self.halt(format!(
                "a reset: the logs part at {parting}, below the high watermark {}",
                self.high_watermark
            ));
            return false;
        }
        self.replace_log(parting, start, vector, producers);
        true
    }

    pub(super) fn replace_log(
        &mut self,
        parting: Offset,
        start: Offset,
        vector: TermVector,
        producers: ProducerTable,
    ) {
        let encoded = producers.encode();
        self.log.reset(start, vector.clone(), producers);
        self.repairs.clear();
        self.write(Write::Reset { start, vector, producers: encoded });
        self.lose_publishes_above(parting);
        self.high_watermark = start;
    }

    pub(super) fn append_own(&mut self, batch: &Batch) {
        let seq = self.write(Write::Append(batch.clone()));
        self.log.append(seq, batch);
    }

    pub(super) fn append_opening(&mut self, now: Now) {
        let Role::Opening(opening) = &mut self.role else { return };
        let (entry, term) = (opening.entry.clone(), opening.term);
        let answers = std::mem::take(&mut opening.answers);
        self.may_have_lost = opening.may_lose.or(self.may_have_lost);
        self.begin_without_what_was_given_up(&entry);
        let append_time_ms = now.clock_ms.max(self.log.append_time_ms);
        let stamp = Stamp { key: self.key, base: self.log.end, term, append_time_ms };
        let batch = Batch::opening(&entry, stamp);
        let leading = super::lead::Leading::new(entry, term, &batch, answers, &self.peers, self.me);
        self.role = Role::Leading(leading);
        self.append_own(&batch);
        self.flush_waiting(now);
        self.changed();
    }

    /// Whether this replica's answer counts towards an open quorum.
    pub(super) fn is_certain(&self) -> bool {
        !self.uncertain && self.repairs.is_empty()
    }

    /// The answer to a fence, once the promise is durable; what was being appended for older terms is durable by then too.
    pub(super) fn answer_fence(&mut self, to: ReplicaId, term: Term) {
        if self.promise.term != Some(term) || self.promise.kind == PromiseKind::Tombstone {
            return;
        }
        let message = Message::Promised {
            term,
            vector: self.log.durable_vector(),
            log_start: self.log.start,
            log_end: self.log.durable,
            certain: self.is_certain(),
        };
        self.send(to, message);
    }
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
