//! Where two logs part, from their term vectors alone.
//!
//! Two logs that hold the same term from the same start hold the same batches in it (Raft's log matching), so whole vectors
//! and ends tell how far two logs agree, and no batch needs to be compared.

use thiserror::Error;

use crate::offset::Offset;
use crate::term::{Term, TermVector};

/// One term began at two places: two processes led under one name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("term {term} begins at {ours} here and at {theirs} there")]
pub(super) struct Contradiction {
    term: Term,
    ours: Offset,
    theirs: Offset,
}

/// The offset below which both logs are the same.
///
/// `their_end` is `None` if their last term is that of a leader at work: a leader's own term has no end, else a late vector
/// would cut what was acknowledged since.
pub(super) fn parting_point(
    ours: &TermVector,
    our_end: Offset,
    theirs: &TermVector,
    their_end: Option<Offset>,
) -> Result<Offset, Contradiction> {
    let (ours, theirs) = (ours.starts(), theirs.starts());
    let common = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let (our_next, their_next) = (ours.get(common), theirs.get(common));
    if let (Some(a), Some(b)) = (our_next, their_next)
        && a.term == b.term
    {
        return Err(Contradiction { term: a.term, ours: a.start, theirs: b.start });
    }
    let ours_until = our_next.map_or(our_end, |line| line.start);
    let theirs_until = their_next.map(|line| line.start).or(their_end);
    Ok(theirs_until.map_or(ours_until, |theirs_until| ours_until.min(theirs_until)))
}

/// Whether a log that ends at `end` and parts at `parting` from one that starts at `log_start` must be replaced, since the
/// other one cannot tell what came between.
pub(super) fn needs_reset(parting: Offset, end: Offset, log_start: Offset) -> bool {
    parting < log_start || (parting == log_start && end > parting)
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
mod tests;
