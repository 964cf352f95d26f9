//! What a replica knows about its own log without reading it: where it starts and ends, which terms made it, how much of it
//! is durable.

use std::collections::VecDeque;

use super::open::Answer;
use super::reconcile::parting_point;
use super::{ProducerTable, WriteSeq};
use crate::batch::Batch;
use crate::offset::Offset;
use crate::term::{Term, TermVector};

/// One replica's log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) vector: TermVector,
    pub(super) start: Offset,
    /// Behind the last batch that was handed to storage.
    pub(super) end: Offset,
    /// Behind the last batch that is synced. Everyone's end counts only up to here.
    pub(super) durable: Offset,
    /// Never falls, whatever the clock or a cut does.
    pub(super) append_time_ms: u64,
    pub(super) producers: ProducerTable,
    /// Appends that are not synced yet. Bounded by storage: it stops taking inputs while too much is unapplied.
    under_way: VecDeque<(WriteSeq, Offset)>,
}

impl Log {
    pub(super) fn new(
        vector: TermVector,
        (start, end): (Offset, Offset),
        append_time_ms: u64,
        mut producers: ProducerTable,
    ) -> Self {
        producers.cut(end);
        Self { vector, start, end, durable: end, append_time_ms, producers, under_way: VecDeque::new() }
    }

    /// Whether `batch` may come next in a log whose leader's term is `leader`: it fits, and a term begins with its opening
    /// record.
    pub(super) fn fits(&self, batch: &Batch, leader: Term) -> bool {
        let goes_on = self.vector.last_term() == Some(batch.term());
        let begins = batch.is_opening() && self.vector.last_term().is_none_or(|last| last < batch.term());
        batch.base() == self.end && (goes_on || begins) && batch.term() <= leader
    }

    pub(super) fn append(&mut self, seq: WriteSeq, batch: &Batch) {
        assert_eq!(batch.base(), self.end, "a log has no gaps");
        self.vector.note(batch.term(), batch.base());
        self.producers.note(batch);
        self.append_time_ms = self.append_time_ms.max(batch.append_time_ms());
        self.end = batch.end();
        self.under_way.push_back((seq, self.end));
    }

    pub(super) fn cut(&mut self, to: Offset) {
        self.vector.cut(to);
        self.producers.cut(to);
        self.end = self.end.min(to);
        self.durable = self.durable.min(to);
        self.under_way.retain(|(_, end)| *end <= to);
    }

    pub(super) fn reset(&mut self, start: Offset, vector: TermVector, producers: ProducerTable) {
        *self = Self::new(vector, (start, start), self.append_time_ms, producers);
    }

    pub(super) fn synced(&mut self, through: WriteSeq) {
        while let Some((_, end)) = self.under_way.pop_front_if(|(seq, _)| *seq <= through) {
            self.durable = end;
        }
    }

    /// Where another replica's log begins, if this one holds the same up to there, or parts from it only above; else zero.
    pub(super) fn start_agreed_with(&self, answer: &Answer) -> Offset {
        let parting = parting_point(&answer.vector, answer.log_end, &self.vector, None);
        let agrees = parting.is_ok_and(|parting| parting >= answer.log_start);
        if agrees { answer.log_start } else { Offset::ZERO }
    }

    /// The history of what is durable.
    pub(super) fn durable_vector(&self) -> TermVector {
        let mut vector = self.vector.clone();
        vector.cut(self.durable);
        vector
    }
}
