//! Whose turn it is: the latest status of each object, one at a time, never too soon after its last one, and what is worth most first.
//!
//! Owns the gaps between two writes of one object. No step goes over all objects: there may be ten thousand. Never: a clock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::{CLUSTER, Key, Rank, Write};

/// Between two writes of one object, doubled with each write that comes soon after the last …
pub(super) const GAP: Duration = Duration::from_secs(1);

/// … up to this: people see an object move, not every step of it.
pub(super) const GAP_MAX: Duration = Duration::from_secs(8);

/// An object that was left alone for so many gaps starts anew.
pub(super) const GAPS_OF_REST: u32 = 4;

/// The first word on a new Topic that is not Ready yet lets others pass for so long, and has its place behind those that wait by then: most are
/// Ready before, and then take one write and not two. Whoever waits for one that is in trouble is told that much later, and only while the
/// API server has no time for all. One that is refused once keeps its place.
pub(super) const LETS_PASS: Duration = Duration::from_secs(30);

/// What is to be written. It is bounded by the number of objects: each has at most one write that waits.
#[derive(Debug, Default)]
pub(super) struct Queue {
    objects: HashMap<Key, Object>,
    /// Objects whose turn it is: Clusters, then Topics in the order in which it came.
    order: VecDeque<Key>,
    /// New Topics that let others pass, and until when, in the order in which they came. Some have gone on to `order`.
    behind: VecDeque<(Instant, Key)>,
    /// Objects that were written, by the time when something becomes of that: their gap is over, or they are forgotten.
    times: BTreeSet<(Instant, Key)>,
}

#[derive(Debug)]
struct Object {
    /// What is to be written when its turn comes.
    write: Option<Write>,
    stand: Stand,
}

/// Where an object stands, and its last write as far as that is remembered.
#[derive(Debug, Clone, Copy)]
enum Stand {
    /// In [`Queue::order`].
    Queued(Option<Written>),
    /// In [`Queue::behind`].
    Behind,
    /// Given out.
    UnderWay {
        before: Option<Written>,
        /// It was withdrawn meanwhile.
        withdrawn: bool,
    },
    /// In [`Queue::times`], until its gap is over.
    Resting(Written),
    /// In [`Queue::times`], until it is forgotten.
    Rested(Written),
}

/// An object's last write, and how long the next one has to wait after it.
#[derive(Debug, Clone, Copy)]
struct Written {
    at: Instant,
    gap: Duration,
}

impl Written {
    fn next(before: Option<Self>, now: Instant) -> Self {
        let before = before.filter(|before| before.forgotten() > now);
        let gap = before.map_or(GAP, |before| (before.gap * 2).min(GAP_MAX));
        Self { at: now, gap }
    }

    fn due(self) -> Instant {
        self.at + self.gap
    }

    fn forgotten(self) -> Instant {
        self.at + self.gap * GAPS_OF_REST
    }
}

/// What is to be done now.
#[derive(Debug)]
pub(super) enum Turn {
    /// To write this, and to [settle](Queue::settle) it.
    Now(Key, Write),
    /// To look again then.
    At(Instant),
    /// To look again when something was put.
    Never,
}

impl Queue {
    /// It is to be written, in the place of what waits for the same object.
    pub(super) fn put(&mut self, write: Write, rank: Rank, now: Instant) {
        let key = write.key();
        let Some(object) = self.objects.get_mut(&key) else {
            let stand = if rank == Rank::Behind { Stand::Behind } else { Stand::Queued(None) };
            self.objects.insert(key.clone(), Object { write: Some(write), stand });
            match rank {
                Rank::InTurn => self.line_up(key),
                Rank::Behind => self.behind.push_back((now + LETS_PASS, key)),
            }
            return;
        };
        object.write = Some(write);
        match object.stand {
            Stand::Rested(written) => {
                object.stand = Stand::Queued(Some(written));
                self.times.remove(&(written.forgotten(), key.clone()));
                self.line_up(key);
            }
            Stand::Behind if rank == Rank::InTurn => {
                object.stand = Stand::Queued(None);
                self.line_up(key);
            }
            Stand::Behind | Stand::Queued(_) | Stand::UnderWay { .. } | Stand::Resting(_) => {}
        }
    }

    /// Nothing is to be written for this object any more; what is under way is not tried again.
    pub(super) fn withdraw(&mut self, key: &Key) {
        let Some(object) = self.objects.get_mut(key) else { return };
        object.write = None;
        if let Stand::UnderWay { withdrawn, .. } = &mut object.stand {
            *withdrawn = true;
        }
    }

    /// The first whose gap is over.
    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        self.pass(now);
        while let Some(key) = self.order.pop_front().or_else(|| Some(self.behind.pop_front()?.1)) {
            let Some(object) = self.objects.get_mut(&key) else { continue };
            let before = match object.stand {
                Stand::Queued(before) => before,
                Stand::Behind => None,
                Stand::UnderWay { .. } | Stand::Resting(_) | Stand::Rested(_) => continue,
            };
            match (object.write.take(), before) {
                (Some(write), before) => {
                    object.stand = Stand::UnderWay { before, withdrawn: false };
                    return Turn::Now(key, write);
                }
                // Withdrawn.
                (None, Some(written)) => {
                    object.stand = Stand::Rested(written);
                    self.times.insert((written.forgotten(), key));
                }
                (None, None) => drop(self.objects.remove(&key)),
            }
        }
        self.times.first().map_or(Turn::Never, |(time, _)| Turn::At(*time))
    }

    /// What was given out has an answer. `again`: it is to be tried again, unless something newer waits.
    pub(super) fn settle(&mut self, key: &Key, again: Option<Write>, now: Instant) {
        let Some(object) = self.objects.get_mut(key) else { return };
        let Stand::UnderWay { before, withdrawn } = object.stand else { return };
        if object.write.is_none() && !withdrawn {
            object.write = again;
        }
        let written = Written::next(before, now);
        object.stand = Stand::Resting(written);
        self.times.insert((written.due(), key.clone()));
    }

    /// A Cluster does not wait for thousands of Topics. There are few, and each has its gaps.
    fn line_up(&mut self, key: Key) {
        if key.0 == CLUSTER { self.order.push_front(key) } else { self.order.push_back(key) }
    }

    /// Time has passed: gaps are over, objects are forgotten, and new ones have let others pass for long enough.
    fn pass(&mut self, now: Instant) {
        while let Some((_, key)) = self.behind.pop_front_if(|(until, _)| *until <= now) {
            if let Some(object) = self.objects.get_mut(&key)
                && matches!(object.stand, Stand::Behind)
            {
                object.stand = Stand::Queued(None);
                self.line_up(key);
            }
        }
        while self.times.first().is_some_and(|(time, _)| *time <= now) {
            let Some((_, key)) = self.times.pop_first() else { return };
            let Some(object) = self.objects.get_mut(&key) else { continue };
            match object.stand {
                Stand::Resting(written) if object.write.is_some() => {
                    object.stand = Stand::Queued(Some(written));
                    self.line_up(key);
                }
                Stand::Resting(written) => {
                    object.stand = Stand::Rested(written);
                    self.times.insert((written.forgotten(), key));
                }
                Stand::Rested(_) => drop(self.objects.remove(&key)),
                Stand::Queued(_) | Stand::Behind | Stand::UnderWay { .. } => {}
            }
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
