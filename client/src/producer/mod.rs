//! Publishing: records are gathered into batches, batches go straight to the partition's leader, many under way, and are
//! sent again until they are committed, once.
//!
//! Owns the choice of the partition and the bound on what waits ([`queue`] gathers, [`window`] keeps sequences, [`lane`]
//! sends). Never keeps a record after its [`Delivery`] was answered.

mod builder;
mod lane;
mod queue;
mod window;

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use fulmar_core::batch::RECORD_HEADERS_MAX;
use fulmar_core::id::TopicId;
use fulmar_core::partitioner::partition_of;
use futures::future::Shared;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use self::builder::ProducerBuilder;
use self::lane::{Context, Gate, Lane};
use self::queue::{Entering, Outcome, Queue};
use crate::error::SendError;
use crate::record::Record;

/// Where a record stands in the log, durable on the topic's `ackQuorum` of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The partition, from 0.
    pub partition: u32,
    /// The record's offset in it.
    pub offset: u64,
}

/// What becomes of a record that was handed over: a future of its [`Ack`], or of why there is none.
///
/// May be dropped: the record is published all the same.
#[derive(Debug, Clone)]
#[must_use = "the record may still fail; await it, or drop it on purpose"]
pub struct Delivery {
    index: u64,
    outcome: Shared<oneshot::Receiver<Outcome>>,
}

impl Delivery {
    fn new(index: u64, outcome: Shared<oneshot::Receiver<Outcome>>) -> Self {
        Self { index, outcome }
    }
}

impl Future for Delivery {
    type Output = Result<Ack, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let outcome = std::task::ready!(Pin::new(&mut self.outcome).poll(context));
        let base = outcome.unwrap_or(Err(SendError::Closed));
        Poll::Ready(base.map(|base| Ack { offset: base.offset + self.index, ..base }))
    }
}

/// Publishes to one topic. Cheap to clone; clones share buffer and order. When the last one is dropped, what is not
/// acknowledged is given up: [`close`](Self::close) waits for it.
#[derive(Debug, Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Arc<Context>,
    topic_id: TopicId,
    batch_bytes_max: usize,
    linger: Duration,
    buffer: Arc<Semaphore>,
    buffer_bytes_max: u32,
    gates: Mutex<Vec<Option<Arc<Gate>>>>,
    /// Where keyless records go until the batch there is full or gone.
    sticky: AtomicU32,
    tasks: Mutex<JoinSet<()>>,
    closed: AtomicBool,
}

impl Producer {
    /// Hands a record over. Waits while the buffer is full; what becomes of the record, the [`Delivery`] tells.
    ///
    /// Records of one partition are appended in the order in which `send` returned.
    pub async fn send(&self, record: Record) -> Result<Delivery, SendError> {
        let inner = &self.inner;
        inner.check(&record)?;
        let bytes = record.framed_size_max();
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = Arc::clone(&inner.buffer).acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| SendError::Closed)?;
        if inner.closed.load(Ordering::Relaxed) {
            return Err(SendError::Closed);
        }
        let gate = inner.gate_for(&record, bytes)?;
        let deadline = Instant::now() + inner.context.delivery_timeout;
        gate.queue.push(Entering { record: record.into_framed(), bytes, permit, deadline })
    }

    /// Publishes a record and waits until it is committed.
    pub async fn publish(&self, record: Record) -> Result<Ack, SendError> {
        self.send(record).await?.await
    }

    /// Waits until everything that was handed over before is acknowledged or has failed, at most the delivery timeout.
    /// What is handed over meanwhile waits.
    pub async fn flush(&self) {
        let gates: Vec<Arc<Gate>> = self.inner.gates().iter().flatten().cloned().collect();
        let flushing = Flushing::begin(&gates);
        // Nothing is under way when the whole buffer is free.
        let all = self.inner.buffer.acquire_many(self.inner.buffer_bytes_max).await;
        drop((all, flushing));
    }

    /// Takes nothing more, and waits like [`flush`](Self::flush). All clones are closed.
    pub async fn close(self) {
        self.inner.closed.store(true, Ordering::Relaxed);
        self.flush().await;
        for gate in self.inner.gates().iter().flatten() {
            gate.queue.close();
        }
        self.inner.buffer.close();
    }

    /// How many partitions the topic had when it was looked up last.
    pub fn partitions(&self) -> u32 {
        self.inner.context.partitions.load(Ordering::Relaxed)
    }
}

/// Lets batches go at once, full or not; ends when dropped, whoever gives up waiting.
struct Flushing<'a>(&'a [Arc<Gate>]);

impl<'a> Flushing<'a> {
    fn begin(gates: &'a [Arc<Gate>]) -> Self {
        for gate in gates {
            gate.queue.flush_begins();
        }
        Self(gates)
    }
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        for gate in self.0 {
            gate.queue.flush_ends();
        }
    }
}

impl Inner {
    fn check(&self, record: &Record) -> Result<(), SendError> {
        let size = record.size();
        let topic_max = self.context.record_bytes_max.load(Ordering::Relaxed);
        if size > topic_max {
            return Err(SendError::TooLarge { size, limit: "the topic", bytes_max: topic_max });
        }
        let buffer_max = self.buffer_bytes_max as usize;
        if record.framed_size_max() > buffer_max {
            return Err(SendError::TooLarge { size, limit: "the producer's buffer", bytes_max: buffer_max });
        }
        if record.header_count() > RECORD_HEADERS_MAX {
            return Err(SendError::TooManyHeaders(record.header_count()));
        }
        Ok(())
    }

    fn gates(&self) -> std::sync::MutexGuard<'_, Vec<Option<Arc<Gate>>>> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gate_for(&self, record: &Record, bytes: usize) -> Result<Arc<Gate>, SendError> {
        let partitions = self.context.partitions.load(Ordering::Relaxed);
        match (record.wanted_partition(), record.key_bytes()) {
            (Some(partition), _) if partition >= partitions => {
                Err(SendError::UnknownPartition { partition, partitions })
            }
            (Some(partition), _) => Ok(self.gate(partition)),
            (None, Some(key)) => Ok(self.gate(partition_of(key, partitions))),
            (None, None) => Ok(self.sticky_gate(partitions, bytes)),
        }
    }

    /// Keyless records fill one partition's batch, then go to the next: whole batches instead of one record in each
    /// partition. A partition in trouble is passed over while another is well.
    fn sticky_gate(&self, partitions: u32, bytes: usize) -> Arc<Gate> {
        let at = self.sticky.load(Ordering::Relaxed);
        let gate = self.gate(at % partitions);
        if !gate.troubled.load(Ordering::Relaxed) && gate.queue.has_room(bytes) {
            return gate;
        }
        for step in 1..=partitions {
            let next = at.wrapping_add(step) % partitions;
            let gate = self.gate(next);
            if !gate.troubled.load(Ordering::Relaxed) {
                self.sticky.store(next, Ordering::Relaxed);
                return gate;
            }
        }
        gate
    }

    /// The partition's gate; its lane starts when it is first needed.
    fn gate(&self, partition: u32) -> Arc<Gate> {
        let at = usize::try_from(partition).expect("a partition's number fits an index");
        let mut gates = self.gates();
        if gates.len() <= at {
            gates.resize_with(at + 1, || None);
        }
        let gate = gates[at].get_or_insert_with(|| {
            let queue = Queue::new(self.batch_bytes_max, self.linger);
            let gate = Arc::new(Gate { queue, troubled: AtomicBool::new(false) });
            let lane = Lane::new(Arc::clone(&self.context), Arc::clone(&gate), partition, self.topic_id);
            self.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(lane.run());
            gate
        });
        Arc::clone(gate)
    }
}
