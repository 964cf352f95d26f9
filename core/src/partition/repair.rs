//! Damaged batches of the own log: not shipped and not counted, asked for from the other replicas, put back in their places.
//!
//! (term, offset) names one batch for ever, so any replica whose log has that term at that offset may give it, whatever it
//! has promised and whoever leads; two replicas that are rotten in different places heal each other. One question at a
//! time, each replica in turn, then again after a growing pause.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use super::replica::{Now, Parked, Replica, Role};
use super::{Effect, Message, Write};
use crate::batch::Batch;
use crate::id::ReplicaId;
use crate::offset::Offset;
use crate::term::Term;

/// So many damaged places of one partition are remembered: with more the disk is gone, and who reads one of them later tells
/// of it again.
pub(super) const REPAIRS_MAX: usize = 64;

/// A replica that was asked has to read one value and send it; one that does not answer for so long is passed over.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(3);

/// When all have been asked in vain the next round comes after so long …
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// … twice as long each time, up to this: a replica that comes back is asked at once anyway.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// One answer is about a value of the storage: neighbours of a damaged batch are often damaged with it.
const ANSWER_BYTES_MAX: u64 = 65_536;

/// The damaged places of one log.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    places: BTreeMap<Offset, Place>,
    last_asked: Option<ReplicaId>,
    mended: u64,
}

#[derive(Debug)]
pub(super) struct Place {
    stage: Stage,
    /// Who was asked since the last pause.
    asked: BTreeSet<ReplicaId>,
    /// Who cannot give it. Only replicas that were connected come in here.
    refused: BTreeSet<ReplicaId>,
    rounds: u32,
    /// The producers' table lacks what lies from here up to there: how many batches a damaged stretch holds is not known.
    hidden_until: Option<Offset>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nobody is asked before then.
    Waiting(Duration),
    /// This one was asked then.
    Asked(ReplicaId, Duration),
    /// A copy came, and is on its way to the disk.
    Mending,
    /// It was put back then. Kept for a while: damage that is found in the same place again is asked for less and less often.
    Mended(Duration),
}

impl Place {
    fn pause(&self) -> Duration {
        PAUSE_MAX.min(PAUSE_MIN * 2_u32.saturating_pow(self.rounds.saturating_sub(1)))
    }
}

impl Repairs {
    pub(super) fn damaged(&self) -> impl Iterator<Item = (Offset, &Place)> {
        let is_damaged = |place: &Place| !matches!(place.stage, Stage::Mended(_));
        self.places.iter().filter(move |(_, place)| is_damaged(place)).map(|(offset, place)| (*offset, place))
    }

    /// Whether the log is whole, as far as it is known.
    pub(super) fn is_empty(&self) -> bool {
        self.damaged().next().is_none()
    }

    /// The first damaged place at or above `from`.
    pub(super) fn first_from(&self, from: Offset) -> Option<Offset> {
        let mut places = self.places.range(from..);
        places.find(|(_, place)| !matches!(place.stage, Stage::Mended(_))).map(|(offset, _)| *offset)
    }

    pub(super) fn clear(&mut self) {
        self.places.clear();
    }

    /// The log is cut to `to`.
    pub(super) fn forget_from(&mut self, to: Offset) {
        let _gone = self.places.split_off(&to);
        for place in self.places.values_mut() {
            place.hidden_until = place.hidden_until.map(|until| until.min(to));
        }
    }

    /// Retention has passed.
    pub(super) fn forget_below(&mut self, start: Offset) {
        let kept = self.places.split_off(&start);
        let gone = std::mem::replace(&mut self.places, kept);
        let hidden_until = gone.into_values().filter_map(|place| place.hidden_until).max();
        if let Some(until) = hidden_until.filter(|until| *until > start) {
            self.hide(Duration::ZERO, start..until);
        }
    }

    /// This stretch is damaged, and the producers' table lacks all that it says.
    fn hide(&mut self, now: Duration, stretch: Range<Offset>) {
        self.found(now, stretch.start);
        // Without room for one more, the one before it stands for both, and for what lies between them.
        if let Some((_, place)) = self.places.range_mut(..=stretch.start).next_back() {
            place.hidden_until = place.hidden_until.max(Some(stretch.end));
        }
    }

    /// Its copy may be whole by now, or it was away when it was asked.
    pub(super) fn peer_up(&mut self, now: Duration, peer: ReplicaId) {
        for place in self.places.values_mut() {
            place.asked.remove(&peer);
            place.refused.remove(&peer);
            place.stage = match place.stage {
                Stage::Waiting(_) => Stage::Waiting(now),
                Stage::Asked(asked, _) if asked == peer => Stage::Waiting(now),
                stage @ (Stage::Asked(..) | Stage::Mending | Stage::Mended(_)) => stage,
            };
        }
    }

    /// It will not answer any more.
    pub(super) fn peer_down(&mut self, now: Duration, peer: ReplicaId) {
        for place in self.places.values_mut() {
            if matches!(place.stage, Stage::Asked(asked, _) if asked == peer) {
                place.stage = Stage::Waiting(now);
            }
        }
    }

    /// A batch was found damaged.
    fn found(&mut self, now: Duration, offset: Offset) {
        if let Some(place) = self.places.get_mut(&offset) {
            let Stage::Mended(_) = place.stage else { return };
            // Who reads it first after it was put back may have begun before; who finds it so for the tenth time has not.
            place.rounds = place.rounds.saturating_add(1);
            place.asked.clear();
            place.stage = Stage::Waiting(now + place.pause());
            return;
        }
        if self.places.len() >= REPAIRS_MAX {
            let mended = self.places.iter().find(|(_, place)| matches!(place.stage, Stage::Mended(_)));
            let Some(oldest) = mended.map(|(offset, _)| *offset) else { return };
            self.places.remove(&oldest);
        }
        let place = Place {
            stage: Stage::Waiting(now),
            asked: BTreeSet::new(),
            refused: BTreeSet::new(),
            rounds: 0,
            hidden_until: None,
        };
        self.places.insert(offset, place);
    }

    /// Whom to ask for what, if it is time to ask.
    fn next_question(&mut self, now: Duration, candidates: &[ReplicaId]) -> Option<(Offset, ReplicaId)> {
        self.places
            .retain(|_, place| !matches!(place.stage, Stage::Mended(at) if now >= at + 10 * PAUSE_MAX));
        for place in self.places.values_mut() {
            match place.stage {
                Stage::Asked(_, at) if now >= at + ANSWER_TIME => place.stage = Stage::Waiting(now),
                // One at a time: a rotten disk must not flood the others with questions.
                Stage::Asked(..) => return None,
                Stage::Waiting(_) | Stage::Mending | Stage::Mended(_) => {}
            }
        }
        for (offset, place) in &mut self.places {
            if candidates.is_empty() || !matches!(place.stage, Stage::Waiting(until) if now >= until) {
                continue;
            }
            let mut open = candidates.iter().filter(|candidate| !place.asked.contains(candidate));
            let after = |candidate: &&ReplicaId| self.last_asked.is_none_or(|last| **candidate > last);
            let Some(next) = open.clone().find(after).or_else(|| open.next()).copied() else {
                place.asked.clear();
                place.rounds = place.rounds.saturating_add(1);
                place.stage = Stage::Waiting(now + place.pause());
                continue;
            };
            self.last_asked = Some(next);
            place.asked.insert(next);
            place.stage = Stage::Asked(next, now);
            return Some((*offset, next));
        }
        None
    }
}

impl Replica {
    /// The first batch of the log that is known to be damaged.
    pub fn unreadable(&self) -> Option<Offset> {
        self.repairs.first_from(Offset::ZERO)
    }

    /// The first damaged batch that no other member can give: all of them were asked and said so.
    pub fn irreparable(&self) -> Option<Offset> {
        if self.repairs.places.is_empty() {
            return None;
        }
        let cannot_be_had = self.cannot_be_had();
        self.repairs.damaged().find(|(_, place)| cannot_be_had(place)).map(|(offset, _)| offset)
    }

    /// Tells the operator if what is damaged, or cannot be had, is not what it was: by a mend, by retention, a cut or a reset, by
    /// other members. Who is said to have damage gets no partition back to lead.
    pub(super) fn tell_damage(&mut self) {
        let damage = (self.unreadable(), self.irreparable());
        if damage != self.damage_told {
            self.damage_told = damage;
            self.changed();
        }
    }

    /// Whether all other members were asked for a place and said no.
    fn cannot_be_had(&self) -> impl Fn(&Place) -> bool {
        let members = self.entry().map(|entry| entry.members.replicas()).unwrap_or_default();
        move |place| {
            let cannot = |member: &ReplicaId| {
                *member == self.me || self.is_lost(*member) || place.refused.contains(member)
            };
            members.iter().all(cannot)
        }
    }

    /// Whether nobody who is connected can give the batch at this damaged place: all of them were asked and said so.
    pub(super) fn nobody_here_has(&self, offset: Offset) -> bool {
        let refuses = |place: &Place, peer: &ReplicaId| self.is_lost(*peer) || place.refused.contains(peer);
        self.repairs
            .places
            .get(&offset)
            .is_some_and(|place| self.peers.keys().all(|peer| refuses(place, peer)))
    }

    /// How many damaged places were healed since the start.
    pub fn mended_count(&self) -> u64 {
        self.repairs.mended
    }

    /// The shell met damaged batches when it opened the volume: one or more, up to where the next good one begins. The
    /// producers' table lacks what they say. To be said before the first step, of the lowest stretch first.
    pub fn recovered_damaged(&mut self, stretch: Range<Offset>) {
        let held = stretch.start.max(self.log.start)..stretch.end.min(self.log.end);
        if !held.is_empty() {
            self.repairs.hide(Duration::ZERO, held);
        }
    }

    /// Whether a damaged batch may be just the one that an idempotent producer repeats, and another replica may still tell.
    pub(super) fn hides_producers(&self) -> bool {
        if self.repairs.places.is_empty() {
            return false;
        }
        let cannot_be_had = self.cannot_be_had();
        self.repairs.damaged().any(|(_, place)| place.hidden_until.is_some() && !cannot_be_had(place))
    }

    /// Somebody read the log and met a damaged batch. It stays where it is; this replica is not counted beyond it.
    pub(super) fn found_unreadable(&mut self, now: Now, offset: Offset) {
        // The shell may have read before a cut, or before retention went on.
        if offset < self.log.start || offset >= self.log.durable {
            return;
        }
        self.repairs.found(now.since_start, offset);
        self.stop_shipping(offset);
        if let Role::Following(following) = &self.role
            && !following.reconciled
        {
            // Perhaps its leader waits for just this batch, to open its term.
            let (leader, term) = (following.leader, following.term);
            self.send(leader, Message::Unreadable { term, offset });
        }
    }

    /// Asks the next replica, if something is damaged and it is time.
    pub(super) fn settle_repairs(&mut self, now: Now) {
        if self.repairs.places.is_empty() || matches!(self.role, Role::Halted(_)) {
            return;
        }
        self.let_go_with_the_others(now);
        let peers = self.peers.keys().copied();
        let candidates: Vec<ReplicaId> = peers.filter(|peer| !self.is_lost(*peer)).collect();
        let Some((offset, to)) = self.repairs.next_question(now.since_start, &candidates) else { return };
        if let Some(term) = self.log.vector.term_at(offset) {
            self.send(to, Message::Refetch { term, offset });
        }
    }

    /// Another replica's batch is damaged; ours may not be.
    pub(super) fn refetch(&mut self, from: ReplicaId, term: Term, offset: Offset) {
        let is_held = (self.log.start..self.log.durable).contains(&offset)
            && self.log.vector.term_at(offset) == Some(term)
            && self.repairs.first_from(offset) != Some(offset);
        if !is_held {
            self.send(from, Message::Refetched { term, offset, batches: Vec::new() });
            return;
        }
        let ends = [self.log.vector.next_start(offset), self.repairs.first_from(offset)];
        let until = ends.into_iter().flatten().fold(self.log.durable, Offset::min);
        self.emit(Effect::Refetch { to: from, term, offset, until, bytes_max: ANSWER_BYTES_MAX });
    }

    /// The answer to our question.
    pub(super) fn refetched(&mut self, now: Now, from: ReplicaId, offset: Offset, batches: &[Batch]) {
        let Some(place) = self.repairs.places.get_mut(&offset) else { return };
        if !matches!(place.stage, Stage::Asked(asked, _) if asked == from) {
            return;
        }
        let mended = self.mend(offset, batches);
        let Some(place) = self.repairs.places.get_mut(&offset) else { return };
        if let Some((first, until, seq)) = mended {
            place.stage = Stage::Mending;
            self.park(seq, Parked::Mended { from: first, until });
        } else {
            place.refused.insert(from);
            place.stage = Stage::Waiting(now.since_start);
        }
    }

    /// Writes what is wanted of an answer: the batch that holds `offset` first, then its neighbours. What is there and whole
    /// stays as it is.
    fn mend(&mut self, offset: Offset, batches: &[Batch]) -> Option<(Offset, Offset, super::WriteSeq)> {
        let first = batches.first().filter(|first| (first.base()..first.end()).contains(&offset))?.base();
        let mut done = None;
        let mut count = 0;
        let mut next = first;
        for batch in batches {
            if batch.base() != next || !self.is_of_own_log(batch) {
                break;
            }
            next = batch.end();
            count += 1;
            self.log.producers.note_mended(batch);
            done = Some((first, next, self.write(Write::Mend(batch.clone()))));
        }
        // One whose neighbour was still missing found no place in its producer's window: from the last to the first it does.
        batches[..count].iter().rev().for_each(|batch| self.log.producers.note_mended(batch));
        done
    }

    /// Whether a batch is one that this log holds too: the same term at the same offsets.
    fn is_of_own_log(&self, batch: &Batch) -> bool {
        let last = Offset(batch.end().0.saturating_sub(1));
        let vector = &self.log.vector;
        batch.base() >= self.log.start
            && batch.end() <= self.log.durable
            && vector.term_at(batch.base()) == Some(batch.term())
            && vector.term_at(last) == Some(batch.term())
    }

    /// A copy is in its place, durably.
    pub(super) fn mended(&mut self, now: Now, from: Offset, until: Offset) {
        let mut count = 0;
        let mut hidden_until = None;
        for (_, place) in self.repairs.places.range_mut(from..until) {
            if !matches!(place.stage, Stage::Mended(_)) {
                place.stage = Stage::Mended(now.since_start);
                hidden_until = hidden_until.max(place.hidden_until.take());
                count += 1;
            }
        }
        if let Some(hidden_until) = hidden_until.filter(|hidden_until| *hidden_until > until) {
            self.repairs.hide(now.since_start, until..hidden_until);
        }
        self.repairs.mended += count;
        if count == 0 {
            return;
        }
        match &self.role {
            Role::Opening(_) => self.choose_log(now),
            Role::Leading(_) => self.advance_commit(),
            // What it answered to the fence was "do not count me".
            Role::Following(following) if !following.reconciled && self.repairs.is_empty() => {
                let (leader, term) = (following.leader, following.term);
                self.park(self.last_write(), Parked::Promised { to: leader, term });
            }
            Role::Idle | Role::Following(_) | Role::Halted(_) => {}
        }
    }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "repair_hidden_tests.rs"]
mod hidden_tests;
