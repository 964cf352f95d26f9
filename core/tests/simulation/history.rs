//! One history of a partition: what is committed, once and for ever, unless a person gives it up.

use std::collections::BTreeMap;

use fulmar_core::batch::Batch;
use fulmar_core::id::ProducerId;
use fulmar_core::offset::Offset;
use fulmar_core::term::Epoch;

use crate::disk::State;
use crate::node::Node;

#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) committed: BTreeMap<Offset, Batch>,
    pub(crate) committed_end: Offset,
    pub(crate) acknowledged: BTreeMap<Offset, u64>,
    sequences: BTreeMap<(ProducerId, u64), Offset>,
}

impl History {
    /// A replica with this log believes that all below `to` is committed.
    pub(crate) fn believed_by(&mut self, node: &Node, state: &State, to: Offset) -> Result<(), String> {
        for batch in state.batches.iter().rev() {
            if batch.base() >= to {
                continue;
            }
            match self.committed.get(&batch.base()) {
                Some(known) if known == batch => break,
                Some(known) => {
                    return Err(format!(
                        "at {}: broker {} believes a batch of term {} committed, another one of term {} is",
                        batch.base(),
                        node.number,
                        batch.term(),
                        known.term()
                    ));
                }
                None if batch.base() < self.committed_end => {
                    let end = self.committed_end;
                    return Err(format!(
                        "broker {} believes a batch at {} committed; all below {end} is known",
                        node.number,
                        batch.base()
                    ));
                }
                None => drop(self.committed.insert(batch.base(), batch.clone())),
            }
        }
        self.extend()?;
        if to > self.committed_end {
            return Err(format!(
                "broker {} believes {to} committed and has no batches up to it",
                node.number
            ));
        }
        Ok(())
    }

    /// What became committed just now is without gaps, and holds every producer's batch once.
    fn extend(&mut self) -> Result<(), String> {
        let fresh: Vec<Batch> =
            self.committed.range(self.committed_end..).map(|(_, batch)| batch.clone()).collect();
        for batch in fresh {
            if batch.base() != self.committed_end {
                return Err(format!("what is committed has a gap at {}", self.committed_end));
            }
            self.committed_end = batch.end();
            let Some(sequence) = batch.sequence() else { continue };
            let (producer, number) = (sequence.producer, sequence.sequence);
            if let Some(first) = self.sequences.insert((producer, number), batch.base()) {
                return Err(format!(
                    "batch {number} of producer {producer} is committed at {first} and {}",
                    batch.base()
                ));
            }
        }
        Ok(())
    }

    /// How many batches of idempotent producers are committed.
    pub(crate) fn idempotent(&self) -> u64 {
        self.sequences.len() as u64
    }

    /// Whether something of that decision, or of a later one, is committed.
    pub(crate) fn goes_on_since(&self, loss: Epoch) -> bool {
        self.committed.values().next_back().is_some_and(|batch| batch.term().epoch >= loss)
    }

    /// What is left of it in a log whose term begins at `opening`.
    pub(crate) fn without(&self, log: &State, opening: Offset) -> Self {
        let differs = |(base, batch): &(&Offset, &Batch)| log.batch(**base) != Some(*batch);
        let end =
            self.committed.range(log.start..).find(differs).map_or(self.committed_end, |(base, _)| *base);
        let end = if log.start > self.committed_end { log.start } else { end.min(opening) };
        let mut left = self.clone();
        left.committed.retain(|base, _| *base < end);
        left.acknowledged.retain(|base, _| *base < end);
        // A log of which nothing is left knows no producers either: what they send again is new to it.
        let begins_anew = log.start == opening;
        left.sequences.retain(|_, base| *base < end && !begins_anew);
        left.committed_end = end;
        left
    }
}
