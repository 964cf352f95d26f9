//! Producers that retry until they know, and readers that believe what they see.

use std::collections::BTreeMap;

use bytes::Bytes;
use fulmar_core::batch::{Batch, ProducedBatch, ProducerSequence, Record};
use fulmar_core::id::{PartitionKey, ProducerId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{PRODUCER_WINDOW, Refusal, Ticket};
use fulmar_core::term::Term;

/// So many batches of one producer are under way at once.
const IN_FLIGHT: u64 = 4;
/// A client gives an attempt up after so long, and tries again.
const PATIENCE_MS: u64 = 2000;

/// The number in a batch's first record.
pub(crate) fn value(batch: &Batch) -> Option<u64> {
    let record = batch.records().ok()?.next()?;
    Some(u64::from_le_bytes(record.value.as_ref().try_into().ok()?))
}

/// An attempt at a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) producer: usize,
    pub(crate) number: u64,
}

/// One of a partition.
pub(crate) struct Producer {
    pub(crate) key: PartitionKey,
    id: u128,
    idempotent: bool,
    /// Not acknowledged yet: whether an attempt is under way, and since when.
    open: BTreeMap<u64, Option<u64>>,
    next: u64,
}

impl Producer {
    fn new(key: PartitionKey, id: u128, idempotent: bool) -> Self {
        Self { key, id, idempotent, open: BTreeMap::new(), next: 0 }
    }

    pub(crate) fn value(&self, number: u64) -> u64 {
        (self.id as u64) << 32 | number
    }

    /// Whether all that it published is acknowledged, if it may ask again until it is.
    pub(crate) fn is_done(&self) -> bool {
        !self.idempotent || self.open.is_empty()
    }

    /// The lowest batch without an attempt under way; a new one only if `goes_on`.
    pub(crate) fn next_batch(&mut self, now_ms: u64, goes_on: bool) -> Option<(u64, ProducedBatch)> {
        let idle = self.open.iter().find(|(_, since)| since.is_none_or(|since| now_ms > since + PATIENCE_MS));
        let number = match idle {
            // Who is not idempotent must not try again what may be there.
            Some((number, Some(_))) if !self.idempotent => {
                let number = *number;
                self.open.remove(&number);
                return None;
            }
            Some((number, _)) => *number,
            None if goes_on && (self.open.len() as u64) < IN_FLIGHT && self.is_in_window() => {
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

    /// Brokers recognise so many of its last batches: it does not run ahead of the oldest that it has not heard of.
    fn is_in_window(&self) -> bool {
        let oldest = self.open.first_key_value().map_or(self.next, |(number, _)| *number);
        self.next < oldest + PRODUCER_WINDOW as u64
    }

    pub(crate) fn acknowledged(&mut self, number: u64) {
        self.open.remove(&number);
    }

    fn refused(&mut self, number: u64, refusal: &Refusal) {
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
            | Refusal::Busy
            | Refusal::EarlierVersion { .. } => {
                if let Some(attempt) = self.open.get_mut(&number) {
                    *attempt = None;
                }
            }
        }
    }

    /// A broker does not know what it was told: this producer begins again under another name.
    fn begin_anew(&mut self, id: u128) {
        *self = Self::new(self.key, id, self.idempotent);
    }

    /// The answer did not arrive.
    pub(crate) fn unheard(&mut self, number: u64) {
        if !self.idempotent {
            self.open.remove(&number);
        }
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Clients {
    pub(crate) producers: Vec<Producer>,
    pub(crate) readers: Vec<Reader>,
    tickets: BTreeMap<Ticket, Attempt>,
    last_ticket: u64,
}

impl Clients {
    /// Producers for a partition, idempotent ones and one that is not, and a reader.
    pub(crate) fn join(&mut self, key: PartitionKey) {
        for idempotent in [true, true, false] {
            let id = 100 + self.producers.len() as u128;
            self.producers.push(Producer::new(key, id, idempotent));
        }
        self.readers.push(Reader { key, at: Offset::ZERO, term: None, high_watermark: Offset::ZERO });
    }

    pub(crate) fn attempt(&mut self, producer: usize, number: u64) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.tickets.insert(ticket, Attempt { producer, number });
        ticket
    }

    /// Whose answer it is.
    pub(crate) fn answered(&mut self, ticket: Ticket) -> Option<Attempt> {
        self.tickets.remove(&ticket)
    }

    /// Says whose answer it was.
    pub(crate) fn refused(&mut self, ticket: Ticket, refusal: &Refusal) -> Option<usize> {
        let Attempt { producer, number } = self.tickets.remove(&ticket)?;
        self.producers[producer].refused(number, refusal);
        Some(producer)
    }

    /// What it said before is answered no more.
    pub(crate) fn begin_anew(&mut self, producer: usize, id: u128) {
        self.tickets.retain(|_, attempt| attempt.producer != producer);
        self.producers[producer].begin_anew(id);
    }
}

/// Reads from wherever it is, and remembers what it saw.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) key: PartitionKey,
    pub(crate) at: Offset,
    pub(crate) term: Option<Term>,
    pub(crate) high_watermark: Offset,
}

impl Reader {
    pub(crate) fn begin_anew(&mut self) {
        (self.at, self.term, self.high_watermark) = (Offset::ZERO, None, Offset::ZERO);
    }
}
