//! A subscriber's settings, and finding the offsets where it begins and ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fulmar_core::id::PartitionKey;
use fulmar_proto::v1::PartitionOffsets;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::Subscriber;
use super::fetch::{Order, Reader};
use super::position::Position;
use crate::admin::list_offsets;
use crate::error::{DescribeError, Failure, SubscribeError, Verdict};
use crate::metadata::{Metadata, describe_error};
use crate::retry::Backoff;

const BUFFER_BYTES_MAX_DEFAULT: usize = 16 * 1024 * 1024;

/// Batches that wait for the program beside what the credit allows: enough that reading and using overlap.
const CHUNKS_MAX: usize = 16;

/// Where to begin, in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The oldest message that is kept.
    Earliest,
    /// What is published from now on.
    #[default]
    Latest,
    /// This offset.
    Offset(u64),
    /// The first message appended at or after this time of the brokers' clock.
    Time(SystemTime),
}

/// Sets a [`Subscriber`] up. Made by [`Client::subscriber`](crate::Client::subscriber).
#[derive(Debug, Clone)]
#[must_use]
pub struct SubscriberBuilder {
    metadata: Arc<Metadata>,
    topic: String,
    start: Start,
    start_at: BTreeMap<u32, u64>,
    partitions: Vec<u32>,
    until_end: bool,
    buffer_bytes_max: usize,
}

impl SubscriberBuilder {
    pub(crate) fn new(metadata: Arc<Metadata>, topic: String) -> Self {
        Self {
            metadata,
            topic,
            start: Start::default(),
            start_at: BTreeMap::new(),
            partitions: Vec::new(),
            until_end: false,
            buffer_bytes_max: BUFFER_BYTES_MAX_DEFAULT,
        }
    }

    /// Where to begin. Default: [`Start::Latest`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Begins in these partitions at this offset, for a program that keeps how far it came: pairs of partition and the offset to
    /// read next. Where [`start`](Self::start) says, begins what is not named.
    pub fn start_at(mut self, offsets: impl IntoIterator<Item = (u32, u64)>) -> Self {
        self.start_at = offsets.into_iter().collect();
        self
    }

    /// Only these partitions. Default: all, also those that are added to the topic later, from their first message on;
    /// with [`until_end`](Self::until_end) those that there are when it is built.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> Self {
        self.partitions = partitions.into_iter().collect();
        self
    }

    /// Ends at what is committed when it is built, instead of waiting for more.
    pub fn until_end(mut self) -> Self {
        self.until_end = true;
        self
    }

    /// About so many bytes are read ahead of the program, shared by the partitions, though at least 64 KiB for each; and so many
    /// again of what comes out of compressed batches.
    /// Default: 16 MiB. From 64 KiB to 1 GiB.
    pub fn buffer_bytes_max(mut self, bytes: usize) -> Self {
        self.buffer_bytes_max = bytes;
        self
    }

    /// Looks up where to begin, and starts.
    pub async fn build(mut self) -> Result<Subscriber, SubscribeError> {
        if !(65_536..=1024 * 1024 * 1024).contains(&self.buffer_bytes_max) {
            return Err(SubscribeError::Setting {
                setting: "buffer_bytes_max",
                given: self.buffer_bytes_max.to_string(),
                allowed: "from 65,536 to 1,073,741,824",
            });
        }
        let topic = self.metadata.refresh(&self.topic, Instant::now() + self.metadata.timeout()).await?;
        let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let mut named = self.partitions.iter().chain(self.start_at.keys()).copied();
        if let Some(partition) = named.find(|partition| *partition >= count) {
            return Err(SubscribeError::UnknownPartition { partition, partitions: count });
        }
        let wants_all = self.partitions.is_empty();
        if wants_all {
            self.partitions = (0..count).collect();
        }
        self.partitions.sort_unstable();
        self.partitions.dedup();
        let credit = self.buffer_bytes_max / self.partitions.len();
        let mut positions = Vec::with_capacity(self.partitions.len());
        for offsets in self.offsets().await? {
            let key = PartitionKey { topic: topic.id, partition: offsets.partition };
            let position = self.position(key, &offsets)?;
            if !position.is_done() {
                positions.push(position);
            }
        }
        let (chunks, received) = mpsc::channel(CHUNKS_MAX);
        let order = Order {
            metadata: Arc::clone(&self.metadata),
            topic: self.topic,
            credit_bytes: u32::try_from(credit.clamp(64 * 1024, 16 * 1024 * 1024)).expect("at most 16 MiB"),
            chunks,
            room: Arc::new(Semaphore::new(self.buffer_bytes_max)),
            room_bytes: u32::try_from(self.buffer_bytes_max).expect("checked to be at most 1 GiB"),
            grows_from: (wants_all && !self.until_end).then_some((topic.id, count)),
        };
        let reader = tokio::spawn(Reader::new(order, positions).run());
        Ok(Subscriber::new(received, reader))
    }

    fn position(&self, key: PartitionKey, offsets: &PartitionOffsets) -> Result<Position, SubscribeError> {
        let (start, end) = (offsets.log_start, offsets.high_watermark);
        let wanted = self.start_at.get(&key.partition).map_or(self.start, |offset| Start::Offset(*offset));
        let next = match wanted {
            Start::Earliest => start,
            Start::Latest => end,
            Start::Time(_) => offsets.at_time.unwrap_or(end),
            Start::Offset(asked) if (start..=end).contains(&asked) => asked,
            Start::Offset(asked) => {
                return Err(SubscribeError::OffsetOutOfRange {
                    partition: key.partition,
                    asked,
                    message: format!("offsets {start} to {end} can be asked for now"),
                });
            }
        };
        Ok(Position::new(key, next, self.until_end.then_some(end)))
    }

    /// The offsets of all wanted partitions; a leader that just came up says "not yet" for a moment.
    async fn offsets(&self) -> Result<Vec<PartitionOffsets>, SubscribeError> {
        let time_ms = match self.start {
            Start::Time(time) => Some(millis(time)),
            Start::Earliest | Start::Latest | Start::Offset(_) => None,
        };
        let timeout = self.metadata.timeout();
        let deadline = Instant::now() + timeout;
        let mut backoff = Backoff::new();
        loop {
            let told = list_offsets(&self.metadata, &self.topic, &self.partitions, time_ms).await?;
            let Some((partition, failure)) = self.first_failure(&told) else { return Ok(told) };
            if matches!(failure.verdict(), Verdict::Refused | Verdict::Sequence) {
                return Err(SubscribeError::Refused { partition, failure });
            }
            if !backoff.wait_until(deadline).await {
                let message = format!("partition {partition}: {}", failure.message);
                let failure = Failure { message, ..failure };
                return Err(unavailable(&self.topic, timeout, failure).into());
            }
        }
    }

    fn first_failure(&self, told: &[PartitionOffsets]) -> Option<(u32, Failure)> {
        for wanted in &self.partitions {
            match told.iter().find(|offsets| offsets.partition == *wanted) {
                None => return Some((*wanted, Failure::garbled("the broker left it out of its answer"))),
                Some(PartitionOffsets { error: Some(error), .. }) => {
                    return Some((*wanted, Failure::from_error(error.clone())));
                }
                Some(_) => {}
            }
        }
        None
    }
}

fn unavailable(topic: &str, timeout: Duration, failure: Failure) -> DescribeError {
    describe_error(topic, timeout, failure)
}

fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}
