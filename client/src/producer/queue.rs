//! Records of one partition that wait to be sent, gathered into batches.
//!
//! Owns when a batch is full and when it may go. Never frames or sends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fulmar_core::batch::{BATCH_RECORDS_MAX, HEADER_BYTES, Record};
use futures::FutureExt;
use futures::future::Shared;
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::{Ack, Delivery};
use crate::error::SendError;

/// The offset of a batch's first record, or why there is none.
pub(super) type Outcome = Result<Ack, SendError>;

/// Who waits for a batch: completing it answers every record's [`Delivery`] and gives the buffer's bytes back.
#[derive(Debug)]
pub(super) struct Waiter {
    done: oneshot::Sender<Outcome>,
    permit: OwnedSemaphorePermit,
}

impl Waiter {
    pub(super) fn complete(self, outcome: Outcome) {
        // Nobody may be interested any more.
        let _ = self.done.send(outcome);
        drop(self.permit);
    }
}

/// A batch that was not sent yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) records: Vec<Record>,
    pub(super) deadline: Instant,
    pub(super) waiter: Waiter,
    bytes: usize,
    opened_at: Instant,
    outcome: Shared<oneshot::Receiver<Outcome>>,
}

#[derive(Debug, Default)]
struct Inner {
    batches: VecDeque<Pending>,
    flushes: usize,
    closed: bool,
}

/// When the front batch may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    /// Now.
    Now,
    /// At that time, unless it becomes full before.
    At(Instant),
    /// There is none.
    Empty,
}

/// The queue of one partition, between callers of `send` and the partition's lane.
#[derive(Debug)]
pub(super) struct Queue {
    inner: Mutex<Inner>,
    changed: Notify,
    batch_bytes_max: usize,
    linger: Duration,
}

/// A record on its way into a queue.
#[derive(Debug)]
pub(super) struct Entering {
    pub(super) record: Record,
    /// At most so many bytes in a batch.
    pub(super) bytes: usize,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) deadline: Instant,
}

impl Queue {
    pub(super) fn new(batch_bytes_max: usize, linger: Duration) -> Arc<Self> {
        let inner = Mutex::default();
        Arc::new(Self { inner, changed: Notify::new(), batch_bytes_max, linger })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a record of so many bytes would join a batch that is open, and not begin another.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.inner().batches.back().is_some_and(|open| self.fits(open, bytes))
    }

    fn fits(&self, open: &Pending, bytes: usize) -> bool {
        open.bytes + bytes <= self.batch_bytes_max && open.records.len() < BATCH_RECORDS_MAX as usize
    }

    /// Takes a record in.
    pub(super) fn push(&self, entering: Entering) -> Result<Delivery, SendError> {
        let mut inner = self.inner();
        if inner.closed {
            return Err(SendError::Closed);
        }
        let Entering { record, bytes, permit, deadline } = entering;
        // A record that joins a batch changes nothing about when that may go, unless it fills it: the lane need not be woken.
        let mut is_news = true;
        let delivery = if let Some(open) = inner.batches.back_mut().filter(|open| self.fits(open, bytes)) {
            let index = open.records.len() as u64;
            open.records.push(record);
            open.bytes += bytes;
            open.waiter.permit.merge(permit);
            is_news = open.bytes >= self.batch_bytes_max;
            Delivery::new(index, open.outcome.clone())
        } else {
            let (done, outcome) = oneshot::channel();
            let outcome = outcome.shared();
            let delivery = Delivery::new(0, outcome.clone());
            inner.batches.push_back(Pending {
                records: vec![record],
                deadline,
                waiter: Waiter { done, permit },
                bytes: HEADER_BYTES + bytes,
                opened_at: Instant::now(),
                outcome,
            });
            delivery
        };
        drop(inner);
        if is_news {
            self.changed.notify_one();
        }
        Ok(delivery)
    }

    /// When the front batch may go. One that is not full waits for company only while another is under way: alone, it
    /// would gain nothing by waiting.
    pub(super) fn ready(&self, others_under_way: bool) -> Ready {
        let inner = self.inner();
        let Some(front) = inner.batches.front() else { return Ready::Empty };
        let at = front.opened_at + self.linger;
        let full = inner.batches.len() > 1 || front.bytes >= self.batch_bytes_max;
        if full || !others_under_way || inner.flushes > 0 || inner.closed || at <= Instant::now() {
            return Ready::Now;
        }
        Ready::At(at)
    }

    /// Takes the front batch out.
    pub(super) fn take(&self) -> Option<Pending> {
        self.inner().batches.pop_front()
    }

    /// Takes out the batches whose deadline has come: they are the first, deadlines rise.
    pub(super) fn take_expired(&self, now: Instant) -> Vec<Pending> {
        let mut inner = self.inner();
        let count = inner.batches.iter().take_while(|batch| batch.deadline <= now).count();
        inner.batches.drain(..count).collect()
    }

    /// Takes all out.
    pub(super) fn take_all(&self) -> Vec<Pending> {
        self.inner().batches.drain(..).collect()
    }

    /// The first deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.inner().batches.front().map(|batch| batch.deadline)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inner().batches.is_empty()
    }

    /// No further records are taken in, and those inside may go at once.
    pub(super) fn close(&self) {
        self.inner().closed = true;
        self.changed.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.inner().closed
    }

    /// Batches go at once, full or not, until as many [`flush_ends`](Self::flush_ends).
    pub(super) fn flush_begins(&self) {
        self.inner().flushes += 1;
        self.changed.notify_one();
    }

    pub(super) fn flush_ends(&self) {
        let mut inner = self.inner();
        inner.flushes = inner.flushes.saturating_sub(1);
    }

    /// Waits until something was taken in, flushed or closed since the last wait.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}
