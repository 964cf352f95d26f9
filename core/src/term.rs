//! Who may lead, in one order: epochs (the operator's decisions), sessions (a process of a broker) and terms (one leader's reign).

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::offset::Offset;

/// A decision of the operator about one partition: `generation.counter`. The generation is the `controllerEpoch` of the
/// operator's tenure that decided, so no epoch is issued twice, whatever was restored from a backup: a tenure is above the last one,
/// and above the wall clock in microseconds, by a random number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch {
    /// The `controllerEpoch` of the deciding tenure.
    pub generation: u64,
    /// Counts that tenure's decisions for this partition, from 1.
    pub counter: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation, self.counter)
    }
}

/// A text that is not `GENERATION.COUNTER`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not an epoch, such as 7.3")]
pub struct InvalidEpoch(pub String);

impl FromStr for Epoch {
    type Err = InvalidEpoch;
    fn from_str(text: &str) -> Result<Self, InvalidEpoch> {
        let invalid = || InvalidEpoch(text.chars().take(64).collect());
        let (generation, counter) = text.split_once('.').ok_or_else(invalid)?;
        Ok(Self {
            generation: generation.parse().map_err(|_| invalid())?,
            counter: counter.parse().map_err(|_| invalid())?,
        })
    }
}

/// Counts the processes that ran on a volume, from 1. Raised and synced before any socket opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Session(pub u64);

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A random number of one process, stored with its session: it tells twins apart, which a copied volume makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BootId(pub u64);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One process of a broker: its session and boot id. Two pairs with one session are twins of one volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Process {
    /// The session.
    pub session: Session,
    /// The boot id.
    pub boot: BootId,
}

/// One leader's reign: the entry's epoch and the process that leads under it.
///
/// Ordered by epoch and session; equal only if the boot id is equal too. Terms of one epoch and session with different
/// boot ids are *twins*: [`Term::is_twin_of`]; whoever holds one refuses the other, so `Term` has a partial order only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Term {
    /// The operator's decision.
    pub epoch: Epoch,
    /// The leader's process.
    pub process: Process,
}

impl Term {
    /// Another process claims the same place in the order: one of the two volumes is a copy.
    pub fn is_twin_of(&self, other: &Term) -> bool {
        self.rank() == other.rank() && self.process.boot != other.process.boot
    }

    fn rank(&self) -> (Epoch, Session) {
        (self.epoch, self.process.session)
    }
}

impl PartialOrd for Term {
    fn partial_cmp(&self, other: &Term) -> Option<Ordering> {
        match self.rank().cmp(&other.rank()) {
            Ordering::Equal if self.process.boot != other.process.boot => None,
            order => Some(order),
        }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.epoch, self.process.session, self.process.boot)
    }
}

/// The history of a log: at which offset each term began, oldest first. Never trimmed by retention; cut with the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TermVector(Vec<TermStart>);

/// One line of a [`TermVector`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TermStart {
    /// The term.
    pub term: Term,
    /// The offset of its opening record.
    pub start: Offset,
}

/// A term vector whose starts or terms do not rise.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("term vector does not rise at entry {at}")]
pub struct InvalidTermVector {
    /// The index of the first entry that is not above the one before.
    pub at: usize,
}

impl TermVector {
    /// Checks the order: both terms and starts rise strictly.
    pub fn new(starts: Vec<TermStart>) -> Result<Self, InvalidTermVector> {
        match starts
            .windows(2)
            .position(|pair| !(pair[0].term < pair[1].term && pair[0].start < pair[1].start))
        {
            Some(at) => Err(InvalidTermVector { at: at + 1 }),
            None => Ok(Self(starts)),
        }
    }

    /// Its lines, oldest first.
    pub fn starts(&self) -> &[TermStart] {
        &self.0
    }

    /// The term of the last batch, if there is one.
    pub fn last_term(&self) -> Option<Term> {
        self.0.last().map(|line| line.term)
    }

    /// The term that placed the batch which holds `offset`; `None` below the first. Whether the log reaches so far is the
    /// caller's to know.
    pub fn term_at(&self, offset: Offset) -> Option<Term> {
        let begun = self.0.partition_point(|line| line.start <= offset);
        begun.checked_sub(1).map(|at| self.0[at].term)
    }

    /// Where the next term began above `offset`.
    pub fn next_start(&self, offset: Offset) -> Option<Offset> {
        self.0.get(self.0.partition_point(|line| line.start <= offset)).map(|line| line.start)
    }

    /// Notes a batch of `term` at `base`. Does nothing if that term runs already.
    ///
    /// # Panics
    /// If the term is lower than the last, or its twin: callers refuse such batches.
    pub fn note(&mut self, term: Term, base: Offset) {
        match self.0.last() {
            Some(last) if last.term == term => {}
            Some(last) => {
                assert!(
                    last.term < term && last.start < base,
                    "a log's terms rise: {} then {term}",
                    last.term
                );
                self.0.push(TermStart { term, start: base });
            }
            None => {
                // Most logs have one term, and there are many logs.
                self.0.reserve_exact(1);
                self.0.push(TermStart { term, start: base });
            }
        }
    }

    /// Forgets the terms that began at or above `to`.
    pub fn cut(&mut self, to: Offset) {
        self.0.retain(|line| line.start < to);
    }
}

#[cfg(test)]
#[path = "term_tests.rs"]
mod tests;
