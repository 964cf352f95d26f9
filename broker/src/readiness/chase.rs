//! One replica on its way to what its leader has committed. Decides only; who looks brings the time.

use std::time::{Duration, Instant};

use fulmar_core::offset::Offset;

/// Who holds what was committed so short a time ago lacks only what is under way to it just now, and gets that as it comes.
const SOON: Duration = Duration::from_secs(2);
/// A replica that does not move for so long is waited for no more: its leader is away, and a rollout must not hang on that.
const PATIENCE: Duration = Duration::from_mins(1);

/// And in any case so long: who never keeps up is no reason to hold up others for ever, and the operator takes a template whose
/// first broker is not ready after a quarter of an hour for a broken one.
const CHASE_MAX: Duration = Duration::from_mins(10);

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It follows its leader as closely as anybody, or leads.
    CaughtUp,
    /// It is behind, or nobody has told it yet how far.
    Behind,
    /// It has stood still, or been behind, for so long that it is waited for no more.
    GivenUp,
}

/// A replica that is behind.
#[derive(Debug)]
pub(super) struct Chase {
    /// What the leader had committed when somebody looked, and when.
    goal: Option<(Offset, Instant)>,
    looks: u32,
    end: Offset,
    moved: Instant,
    began: Instant,
}

impl Chase {
    /// Begins.
    pub(super) fn new(now: Instant) -> Self {
        Self { goal: None, looks: 0, end: Offset::ZERO, moved: now, began: now }
    }

    /// A look at a follower: its durable end, and what its leader says is committed, if it follows one.
    pub(super) fn look(&mut self, end: Offset, committed: Option<Offset>, now: Instant) -> Found {
        if end != self.end {
            (self.end, self.moved) = (end, now);
        }
        let Some(committed) = committed else { return self.stands_still(now) };
        if end >= committed {
            return Found::CaughtUp;
        }
        self.looks += 1;
        match self.goal {
            // It is written to all the time: at the very end it is never seen.
            Some((goal, set)) if end >= goal && (self.looks == 1 || now.duration_since(set) <= SOON) => {
                Found::CaughtUp
            }
            Some((goal, _)) if end < goal => self.stands_still(now),
            Some(_) | None => {
                (self.goal, self.looks) = (Some((committed, now)), 0);
                self.stands_still(now)
            }
        }
    }

    /// A look at one that cannot catch up as things are.
    pub(super) fn stands_still(&self, now: Instant) -> Found {
        let is_late = now.duration_since(self.began) >= CHASE_MAX;
        if is_late || now.duration_since(self.moved) >= PATIENCE { Found::GivenUp } else { Found::Behind }
    }
}

#[cfg(test)]
#[path = "chase_tests.rs"]
mod tests;
