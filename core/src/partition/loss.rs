//! What a person gave up: opening one term without its quorum, and setting aside what a log holds beyond it.
//!
//! Nothing else in a replica loses what is committed. It happens only under a decision that carries the person's word, in the
//! first term of exactly that decision; who comes back later with more keeps it beside its log, never in it.

use std::time::Duration;

use super::open::{Answer, Opening};
use super::reconcile::parting_point;
use super::replica::{Now, Replica, Role};
use super::{ProducerTable, Write};
use crate::entry::Entry;
use crate::offset::Offset;
use crate::term::TermVector;

/// Who has not answered by then is given up: a replica that lives answers within a second, and a person waited for hours.
const ANSWERS_PATIENCE: Duration = Duration::from_secs(5);

/// So long a damaged batch of the longest log is asked for before what lies behind it is given up.
const DAMAGE_PATIENCE: Duration = Duration::from_secs(30);

impl Opening {
    /// Whether a person's word stands for this term, and everybody had time to answer.
    pub(super) fn gives_up(&self, now: Now) -> bool {
        self.needs_no_quorum && now.since_start >= self.since + ANSWERS_PATIENCE
    }
}

impl Replica {
    /// A term that needs no quorum is opened when time has passed, not when somebody answers.
    pub(super) fn choose_log_after_patience(&mut self, now: Now) {
        if matches!(&self.role, Role::Opening(opening) if opening.gives_up(now)) {
            self.choose_log(now);
        }
    }

    /// Our log is the longest of those that answered. False while a damaged batch in it keeps others from ever having it, and
    /// may still be mended; when it cannot, the log ends before it.
    pub(super) fn gives_up_damage(&mut self, now: Now) -> bool {
        let Role::Opening(opening) = &self.role else { return false };
        let Some(damaged) = self.repairs.first_from(self.log.start) else { return true };
        let own = (&self.log.vector, self.log.end);
        let holds = |answer: &Answer| {
            let parting = parting_point(&answer.vector, answer.log_end, own.0, Some(own.1));
            parting.is_ok_and(|parting| parting > damaged)
        };
        let has_it = |replica| replica == self.me || opening.answers.get(&replica).is_some_and(holds);
        if opening.entry.acknowledged_by(has_it) {
            // Enough have what lies behind it: only that one batch is missing.
            return true;
        }
        let waited = now.since_start >= opening.since + DAMAGE_PATIENCE;
        if !waited && !self.nobody_here_has(damaged) {
            return false;
        }
        self.set_aside(damaged, self.log.producers.before(damaged));
        self.may_lose_from(damaged);
        true
    }

    /// The longest log cannot be read at `offset`, and nobody else has that batch: it ends there.
    pub(super) fn give_up_fetch(&mut self, now: Now, offset: Offset) {
        let Role::Opening(opening) = &mut self.role else { return };
        if opening.needs_no_quorum && now.since_start >= opening.since + DAMAGE_PATIENCE {
            opening.fetching = None;
            self.may_lose_from(offset);
            self.append_opening(now);
        }
    }

    fn may_lose_from(&mut self, offset: Offset) {
        let known = self.high_watermark;
        if let Role::Opening(opening) = &mut self.role {
            opening.may_lose = Some(opening.may_lose.unwrap_or(known).min(offset));
        }
    }

    /// The first term that is opened since a person accepted a loss, be it by that word or, later, with a quorum of those who
    /// are left. A log of which nothing is left begins behind all that anybody knew of, so that no offset means two records.
    pub(super) fn begin_without_what_was_given_up(&mut self, entry: &Entry) {
        let Some(accepted) = entry.accepted_loss else { return };
        let is_empty = self.log.start == self.log.end && self.log.vector.starts().is_empty();
        if !is_empty && !entry.gave_up(self.log.vector.last_term()) {
            return;
        }
        let known = self.high_watermark;
        self.may_have_lost = Some(self.may_have_lost.map_or(known, |offset| offset.min(known)));
        if is_empty && self.log.end < accepted.known_end {
            let (vector, producers) = (TermVector::default(), ProducerTable::default());
            self.replace_log(self.log.end, accepted.known_end, vector, producers);
        }
    }

    /// Whether a person gave up what this log has and its leader has not.
    pub(super) fn is_left_behind(&self) -> bool {
        self.entry().is_some_and(|entry| entry.gave_up(self.log.vector.last_term()))
    }

    /// Everything at or above `to` leaves the log, and is kept beside it.
    pub(super) fn set_aside(&mut self, to: Offset, producers: ProducerTable) {
        self.set_aside = Some((to, self.log.end));
        let encoded = producers.encode();
        self.log.cut(to);
        self.log.producers = producers;
        self.repairs.forget_from(to);
        self.write(Write::SetAside { to, producers: encoded });
        self.high_watermark = self.high_watermark.min(to);
        self.lose_publishes_above(to);
        self.changed();
    }

    /// The whole log is kept beside an empty one, to be fetched anew. Until it is, this replica lacks what it held.
    pub(super) fn set_all_aside(&mut self) {
        self.set_aside(self.log.start, ProducerTable::default());
        self.uncertain = true;
        self.write(Write::Mark { uncertain: true });
        self.replace_log(Offset::ZERO, Offset::ZERO, TermVector::default(), ProducerTable::default());
    }
}

#[cfg(test)]
#[path = "loss_tests.rs"]
mod tests;
