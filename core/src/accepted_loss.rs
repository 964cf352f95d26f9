//! What a person gave up: the note in a decision that a term was once opened without a quorum.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::offset::Offset;
use crate::term::Epoch;

/// A person accepted that records may be lost. The first term of exactly `epoch` needs no open quorum; every later decision
/// keeps the note, so that a replica which comes back with a longer log knows why nobody has it, and sets it aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedLoss {
    /// The decision that the word was given for.
    pub epoch: Epoch,
    /// The highest offset that was known to be committed then: what is lost lies below it, as far as anybody knew. A log
    /// that begins anew begins here.
    pub known_end: Offset,
}

/// `EPOCH@OFFSET`
impl fmt::Display for AcceptedLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.epoch, self.known_end.0)
    }
}

/// A text that is not `EPOCH@OFFSET`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is not EPOCH@OFFSET, such as 7.3@120")]
pub struct InvalidAcceptedLoss(pub String);

impl FromStr for AcceptedLoss {
    type Err = InvalidAcceptedLoss;
    fn from_str(text: &str) -> Result<Self, InvalidAcceptedLoss> {
        let invalid = || InvalidAcceptedLoss(text.chars().take(64).collect());
        let (epoch, known_end) = text.split_once('@').ok_or_else(invalid)?;
        let known_end: u64 = known_end.parse().ok().filter(|end| *end < 1 << 63).ok_or_else(invalid)?;
        Ok(Self { epoch: epoch.parse().map_err(|_| invalid())?, known_end: Offset(known_end) })
    }
}
