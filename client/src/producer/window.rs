//! The batches of one partition that were sent and not answered: in order, with their sequences.
//!
//! Owns what makes a retry safe: a batch keeps producer id and sequence until it is answered, sequences have no gap, and
//! ids are renewed only when nothing sent under the old one can still be appended by a retry. No I/O: the lane sends.

use std::collections::VecDeque;

use fulmar_core::batch::{BatchError, Compression, ProducedBatch, ProducerSequence, Record};
use fulmar_core::id::ProducerId;
use tokio::time::Instant;
use uuid::Uuid;

use super::queue::{Outcome, Pending, Waiter};
use crate::error::SendError;

/// A batch under way.
#[derive(Debug)]
pub(super) struct Flight {
    correlation: u64,
    batch: ProducedBatch,
    records: Vec<Record>,
    deadline: Instant,
    /// An attempt ended without an answer: it may be in the log.
    doubtful: bool,
    /// Absent once the deadline has passed: it is still sent again, since those behind it need its sequence.
    waiter: Option<Waiter>,
}

/// What the lane sends.
#[derive(Debug, Clone)]
pub(super) struct ToSend {
    pub(super) correlation: u64,
    pub(super) batch: ProducedBatch,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Window {
    /// Absent: not idempotent.
    producer: Option<ProducerId>,
    compression: Compression,
    sequence: u64,
    correlation: u64,
    flights: VecDeque<Flight>,
    /// How many of the first flights were sent on the present connection.
    sent: usize,
}

fn new_producer() -> ProducerId {
    ProducerId(Uuid::now_v7().as_u128())
}

impl Window {
    pub(super) fn new(idempotent: bool, compression: Compression) -> Self {
        let producer = idempotent.then(new_producer);
        Self { producer, compression, sequence: 0, correlation: 0, flights: VecDeque::new(), sent: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    pub(super) fn is_idempotent(&self) -> bool {
        self.producer.is_some()
    }

    /// The first deadline that somebody waits for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.flights.iter().find(|flight| flight.waiter.is_some()).map(|flight| flight.deadline)
    }

    /// Frames a batch with the next sequence. One that cannot be framed is answered with the reason.
    pub(super) fn push(&mut self, pending: Pending) {
        match self.frame(&pending.records) {
            Ok(batch) => {
                self.correlation += 1;
                self.flights.push_back(Flight {
                    correlation: self.correlation,
                    batch,
                    records: pending.records,
                    deadline: pending.deadline,
                    doubtful: false,
                    waiter: Some(pending.waiter),
                });
            }
            Err(error) => pending.waiter.complete(Err(SendError::Batch(error))),
        }
    }

    fn frame(&mut self, records: &[Record]) -> Result<ProducedBatch, BatchError> {
        let sequence = self.producer.map(|producer| ProducerSequence { producer, sequence: self.sequence });
        let batch = ProducedBatch::build_compressed(records, self.compression, sequence)?;
        self.sequence += 1;
        Ok(batch)
    }

    /// The next batch that was not sent on this connection; it counts as sent from now on.
    pub(super) fn next_to_send(&mut self) -> Option<ToSend> {
        let flight = self.flights.get(self.sent)?;
        self.sent += 1;
        Some(ToSend { correlation: flight.correlation, batch: flight.batch.clone() })
    }

    /// Whether an answer with this correlation id is the one that comes next: answers come in order.
    pub(super) fn expects(&self, correlation: u64) -> bool {
        self.sent > 0 && self.flights.front().is_some_and(|front| front.correlation == correlation)
    }

    /// The front batch was answered: it is committed, or was refused for good.
    pub(super) fn answer_front(&mut self, outcome: Outcome) {
        let front = self.flights.pop_front().expect("an answer was expected, so a batch is under way");
        self.sent = self.sent.saturating_sub(1);
        if let Some(waiter) = front.waiter {
            waiter.complete(outcome);
        }
    }

    /// The connection is over without an answer: what was sent may be in the log.
    pub(super) fn connection_lost(&mut self) {
        for flight in self.flights.iter_mut().take(self.sent) {
            flight.doubtful = true;
        }
        self.sent = 0;
    }

    /// The front batch was refused for now, and was not appended by that attempt. Nor were those behind it: a leader
    /// takes no sequence before the one it follows; unless an earlier attempt of the front comes late, and they after it.
    /// Everything is to be sent again.
    pub(super) fn refused_for_now(&mut self) {
        if self.flights.front().is_some_and(|front| front.doubtful) {
            return self.connection_lost();
        }
        if self.producer.is_none() {
            // Only the front is under way without sequences.
            debug_assert!(self.flights.len() <= 1);
        }
        self.sent = 0;
    }

    /// The front batch was refused for good. What is behind it cannot be in the log, unless an earlier attempt of the
    /// front ended in doubt: then they are in doubt too, and are given up with `in_doubt`. The rest is sent again under
    /// a new id, since a late copy of the old sequences must not find its place.
    pub(super) fn fail_front(&mut self, error: SendError, in_doubt: &SendError) {
        let doubtful = self.flights.front().is_some_and(|front| front.doubtful);
        self.answer_front(Err(error));
        while doubtful && self.flights.front().is_some_and(|next| next.doubtful) {
            self.answer_front(Err(in_doubt.clone()));
        }
        self.renew();
    }

    /// Whether the front batch is the first under its id: no broker can have forgotten what came before.
    pub(super) fn front_is_first(&self) -> bool {
        let sequence = self.flights.front().and_then(|front| front.batch.sequence());
        sequence.is_none_or(|sequence| sequence.sequence == 0)
    }

    /// A new producer id, sequences from 0, and everything framed again. To be called only when nothing that is under way
    /// can be in the log.
    pub(super) fn renew(&mut self) {
        self.sent = 0;
        self.sequence = 0;
        self.producer = self.producer.map(|_| new_producer());
        for mut flight in std::mem::take(&mut self.flights) {
            flight.batch = self.frame(&flight.records).expect("the same records were framed before");
            flight.doubtful = false;
            self.flights.push_back(flight);
        }
    }

    /// Answers those whose deadline has come, by whether they may be in the log, or may still get there: one that stays, since
    /// those behind it need its sequence, is sent again. As long as nothing of the window was sent, none has to stay. Returns
    /// whether nobody waits for what is left: then it is given up, the id is renewed, and the connection is to be left, since
    /// answers would not fit.
    #[must_use]
    pub(super) fn expire(&mut self, now: Instant, in_log: &SendError, not_in_log: &SendError) -> bool {
        let late = self.flights.iter().take_while(|flight| flight.deadline <= now).count();
        if late == 0 {
            return !self.flights.is_empty() && self.give_up_unawaited();
        }
        if self.sent == 0 && self.flights.front().is_some_and(|front| !front.doubtful) {
            let flights = self.flights.drain(..late);
            flights
                .filter_map(|flight| flight.waiter)
                .for_each(|waiter| waiter.complete(Err(not_in_log.clone())));
            self.renew();
            return self.flights.is_empty();
        }
        let all_go = self.flights.iter().skip(late).all(|flight| flight.waiter.is_none());
        for (at, flight) in self.flights.iter_mut().enumerate().take(late) {
            if let Some(waiter) = flight.waiter.take() {
                let may_be_there = !all_go || flight.doubtful || at < self.sent;
                waiter.complete(Err(if may_be_there { in_log.clone() } else { not_in_log.clone() }));
            }
        }
        self.give_up_unawaited()
    }

    /// Whether nobody waited for any.
    fn give_up_unawaited(&mut self) -> bool {
        if self.flights.iter().any(|flight| flight.waiter.is_some()) {
            return false;
        }
        self.flights.clear();
        self.renew();
        true
    }

    /// Gives everything up.
    pub(super) fn fail_all(&mut self, doubtful: &SendError, sure: &SendError) {
        for flight in std::mem::take(&mut self.flights) {
            if let Some(waiter) = flight.waiter {
                waiter.complete(Err(if flight.doubtful { doubtful.clone() } else { sure.clone() }));
            }
        }
        self.renew();
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
