//! A producer's settings, their defaults and bounds.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fulmar_core::batch::{BATCH_BYTES_MAX, Compression, HEADER_BYTES};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::lane::Context;
use super::{Inner, Producer};
use crate::connection::Connections;
use crate::error::ProducerError;
use crate::metadata::Metadata;

/// Stored batches are packed into values of 64 KiB: just below, a batch wastes no page.
const BATCH_BYTES_MAX_DEFAULT: usize = 60_000;

/// Long enough to gather the records that come together, too short to be seen beside a disk's flush.
const LINGER_DEFAULT: Duration = Duration::from_millis(1);

/// While a disk syncs what it has, as much again is on its way: with 8 a leader's journal waited for the producer in between, and with three
/// replicas a third of the records a second was lost to that. More only grows what has to be sent again.
const IN_FLIGHT_MAX_DEFAULT: usize = 32;

/// Brokers remember 64 batches of a producer: beyond it a retry could not be told from news.
const IN_FLIGHT_MAX_MAX: usize = 64;

const BUFFER_BYTES_MAX_DEFAULT: usize = 32 * 1024 * 1024;

/// The largest count of permits that one wait can ask for.
const BUFFER_BYTES_MAX_MAX: usize = 1024 * 1024 * 1024;

/// Beyond a failover, a restart, and a second one.
const DELIVERY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How often a producer looks whether the topic has more partitions by now.
const REFRESH_EVERY: Duration = Duration::from_mins(1);

/// Sets a [`Producer`] up. Made by [`Client::producer`](crate::Client::producer).
#[derive(Debug, Clone)]
#[must_use]
pub struct ProducerBuilder {
    metadata: Arc<Metadata>,
    topic: String,
    linger: Duration,
    batch_bytes_max: usize,
    in_flight_max: usize,
    buffer_bytes_max: usize,
    delivery_timeout: Duration,
    idempotent: bool,
    compression: Compression,
}

impl ProducerBuilder {
    pub(crate) fn new(metadata: Arc<Metadata>, topic: String) -> Self {
        Self {
            metadata,
            topic,
            linger: LINGER_DEFAULT,
            batch_bytes_max: BATCH_BYTES_MAX_DEFAULT,
            in_flight_max: IN_FLIGHT_MAX_DEFAULT,
            buffer_bytes_max: BUFFER_BYTES_MAX_DEFAULT,
            delivery_timeout: DELIVERY_TIMEOUT_DEFAULT,
            idempotent: true,
            compression: Compression::None,
        }
    }

    /// How long a batch that is not full waits for more while another of its partition is under way. A record that comes
    /// alone never waits. Default: 1 ms. At most 10 s.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// A batch is closed before it would pass so many bytes, before it is compressed; a larger record makes a batch of its own.
    /// Default: 60,000, a little below what storage packs into one value. From 1,000 to 8 MiB.
    pub fn batch_bytes_max(mut self, bytes: usize) -> Self {
        self.batch_bytes_max = bytes;
        self
    }

    /// How many batches of one partition may be sent and not answered. Default: 32. From 1 to 64. Without idempotence
    /// always 1, to keep order.
    pub fn in_flight_max(mut self, batches: usize) -> Self {
        self.in_flight_max = batches;
        self
    }

    /// So many bytes of records may wait for their acknowledgement; beyond it [`Producer::send`] waits. Memory is about
    /// twice that, since a batch is framed from them. Default: 32 MiB. From 100,000 to 1 GiB.
    pub fn buffer_bytes_max(mut self, bytes: usize) -> Self {
        self.buffer_bytes_max = bytes;
        self
    }

    /// How long a record is tried, from [`Producer::send`] on. Default: 30 s. From 100 ms to 10 minutes: longer than that,
    /// brokers may have forgotten what a retry is compared with.
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.delivery_timeout = timeout;
        self
    }

    /// Whether batches carry a producer id and a sequence, so that a retry is never a second record. Default: true.
    /// Without it a lost answer is [`OutcomeUnknown`](crate::SendError::OutcomeUnknown).
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.idempotent = idempotent;
        self
    }

    /// Compresses batches here, once; brokers store them so, and readers decompress. A batch that does not get smaller goes as it
    /// is. Larger batches compress better: see [`batch_bytes_max`](Self::batch_bytes_max). Default: [`Compression::None`].
    ///
    /// Brokers of versions before 0.1's compression refuse it ([`SendError::Refused`](crate::SendError::Refused),
    /// `CORRUPT_BATCH`), and their readers end with an error that names the batch's attributes. While some brokers of a topic are
    /// of such a version, the others refuse it, too, with `NOT_ENOUGH_REPLICAS`, and it is tried until the delivery timeout.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    fn check(&self) -> Result<(), ProducerError> {
        let refuse =
            |setting, given: String, allowed| Err(ProducerError::Setting { setting, given, allowed });
        if self.linger > Duration::from_secs(10) {
            return refuse("linger", format!("{:?}", self.linger), "at most 10 s");
        }
        if !(1000..=BATCH_BYTES_MAX).contains(&self.batch_bytes_max) {
            return refuse("batch_bytes_max", self.batch_bytes_max.to_string(), "from 1,000 to 8,388,608");
        }
        if !(1..=IN_FLIGHT_MAX_MAX).contains(&self.in_flight_max) {
            return refuse("in_flight_max", self.in_flight_max.to_string(), "from 1 to 64");
        }
        if !(100_000..=BUFFER_BYTES_MAX_MAX).contains(&self.buffer_bytes_max) {
            return refuse(
                "buffer_bytes_max",
                self.buffer_bytes_max.to_string(),
                "from 100,000 to 1,073,741,824",
            );
        }
        if !(Duration::from_millis(100)..=Duration::from_mins(10)).contains(&self.delivery_timeout) {
            return refuse(
                "delivery_timeout",
                format!("{:?}", self.delivery_timeout),
                "from 100 ms to 10 minutes",
            );
        }
        Ok(())
    }

    /// Looks the topic up and starts the producer.
    pub async fn build(self) -> Result<Producer, ProducerError> {
        self.check()?;
        let topic = self.metadata.refresh(&self.topic, Instant::now() + self.metadata.timeout()).await?;
        let partitions = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let framed_max = BATCH_BYTES_MAX - HEADER_BYTES - 1000;
        let context = Arc::new(Context {
            metadata: self.metadata,
            connections: Connections::default(),
            topic: self.topic,
            in_flight_max: if self.idempotent { self.in_flight_max } else { 1 },
            delivery_timeout: self.delivery_timeout,
            idempotent: self.idempotent,
            compression: self.compression,
            partitions: AtomicU32::new(partitions),
            record_bytes_max: AtomicUsize::new(topic.record_bytes_max.min(framed_max)),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(follow_topic(Arc::clone(&context)));
        let inner = Inner {
            context,
            topic_id: topic.id,
            batch_bytes_max: self.batch_bytes_max,
            linger: self.linger,
            buffer: Arc::new(Semaphore::new(self.buffer_bytes_max)),
            buffer_bytes_max: u32::try_from(self.buffer_bytes_max).expect("checked to be at most 1 GiB"),
            gates: Mutex::default(),
            sticky: AtomicU32::new(rand::random_range(0..partitions)),
            tasks: Mutex::new(tasks),
            closed: AtomicBool::new(false),
        };
        Ok(Producer { inner: Arc::new(inner) })
    }
}

/// Partitions only grow, and a record's largest size may change.
async fn follow_topic(context: Arc<Context>) {
    loop {
        tokio::time::sleep(REFRESH_EVERY).await;
        let until = Instant::now() + context.metadata.timeout();
        if let Ok(topic) = context.metadata.refresh(&context.topic, until).await {
            let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
            context.partitions.fetch_max(count, Ordering::Relaxed);
            context.connections.keep_only(&context.metadata.known_addresses());
            let framed_max = BATCH_BYTES_MAX - HEADER_BYTES - 1000;
            context.record_bytes_max.store(topic.record_bytes_max.min(framed_max), Ordering::Relaxed);
        }
    }
}
