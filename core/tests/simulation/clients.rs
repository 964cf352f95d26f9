//! Producers that retry until they know, and readers that believe what they see.

use std::collections::BTreeMap;

use bytes::Bytes;
use fulmar_core::batch::{Batch, ProducedBatch, ProducerSequence, Record};
use fulmar_core::id::ProducerId;
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Refusal, Ticket};

/// So many batches of one producer are under way at once.
const IN_FLIGHT: u64 = 4;

/// The number in a batch's first record.
pub(crate) fn value(batch: &Batch) -> Option<u64> {
    let record = batch.records().next()?;
    Some(u64::from_le_bytes(record.value.as_ref().try_into().ok()?))
}

/// An attempt at a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) producer: usize,
    pub(crate) number: u64,
}

pub(crate) struct Producer {
    pub(crate) id: u128,
    pub(crate) idempotent: bool,
    /// Not acknowledged yet: whether an attempt is under way, and since when.
    open: BTreeMap<u64, Option<u64>>,
    next: u64,
}

impl Producer {
    pub(crate) fn new(id: u128, idempotent: bool) -> Self {
        Self { id, idempotent, open: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn value(&self, number: u64) -> u64 {
        (self.id as u64) << 32 | number
    }

    /// The lowest batch without an attempt under way.
    pub(crate) fn next_batch(&mut self, now_ms: u64) -> Option<(u64, ProducedBatch)> {
        // A client gives an attempt up after two seconds and tries again.
        let idle = self.open.iter().find(|(_, since)| since.is_none_or(|since| now_ms > since + 2000));
        let number = match idle {
            Some((number, _)) => *number,
            None if (self.open.len() as u64) < IN_FLIGHT => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        self.open.insert(number, Some(now_ms));
        let sequence =
            self.idempotent.then_some(ProducerSequence { producer: ProducerId(self.id), sequence: number });
        let value = Bytes::copy_from_slice(&self.value(number).to_le_bytes());
        let records = vec![Record { value, ..Record::default() }; 1 + (number % 3) as usize];
        Some((number, ProducedBatch::build(&records, sequence).expect("it is well formed")))
    }

    pub(crate) fn acknowledged(&mut self, number: u64) {
        self.open.remove(&number);
    }

    pub(crate) fn refused(&mut self, number: u64, refusal: &Refusal) {
        match refusal {
            // Who is not idempotent must not try again: it may be there.
            Refusal::OutcomeUnknown if !self.idempotent => drop(self.open.remove(&number)),
            Refusal::OutcomeUnknown
            | Refusal::NotLeader { .. }
            | Refusal::NotEnoughReplicas { .. }
            | Refusal::Moving
            | Refusal::OutOfSequence { .. }
            | Refusal::DuplicateTooOld
            | Refusal::TooManyProducers
            | Refusal::Busy => {
                if let Some(attempt) = self.open.get_mut(&number) {
                    *attempt = None;
                }
            }
        }
        // A silent attempt of a producer without numbers cannot be repeated either; it is forgotten with its answer.
    }

    /// The answer did not arrive.
    pub(crate) fn unheard(&mut self, number: u64) {
        if !self.idempotent {
            self.open.remove(&number);
        }
    }
}

#[derive(Default)]
pub(crate) struct Clients {
    pub(crate) producers: Vec<Producer>,
    pub(crate) tickets: BTreeMap<Ticket, Attempt>,
    pub(crate) next_ticket: u64,
    pub(crate) readers: Vec<Reader>,
}

/// Reads from wherever it is, and remembers what it saw.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) at: Offset,
    pub(crate) term: Option<fulmar_core::term::Term>,
    pub(crate) high_watermark: Offset,
}
