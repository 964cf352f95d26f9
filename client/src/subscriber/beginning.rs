//! Where a subscriber begins in each partition, and where it ends if it does.
//!
//! Owns the questions for offsets, and what their answers mean. Never reads.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use fulmar_core::id::{PartitionKey, TopicId};
use fulmar_proto::v1::PartitionOffsets;
use tokio::time::Instant;

use super::Start;
use super::position::Position;
use crate::admin::list_offsets;
use crate::error::{Failure, SubscribeError, Verdict};
use crate::metadata::{Metadata, describe_error};
use crate::retry::Backoff;

/// What was asked for.
#[derive(Debug, Clone)]
pub(super) struct Beginning {
    pub(super) start: Start,
    /// Partitions that begin elsewhere.
    pub(super) start_at: BTreeMap<u32, u64>,
    pub(super) until_end: bool,
}

impl Beginning {
    /// Where partitions of a topic begin; without those that have come to their end already.
    pub(super) async fn positions(
        &self,
        metadata: &Metadata,
        name: &str,
        id: TopicId,
        partitions: &[u32],
    ) -> Result<Vec<Position>, SubscribeError> {
        let told = self.offsets(metadata, name, partitions).await?;
        let mut positions = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let key = PartitionKey { topic: id, partition: *partition };
            let position = match offsets_of(*partition, &told) {
                Ok(offsets) => self.position(name, key, offsets)?,
                Err(_) => Position::at_start(key, 0, None),
            };
            if !position.is_done() {
                positions.push(position);
            }
        }
        Ok(positions)
    }

    fn position(
        &self,
        name: &str,
        key: PartitionKey,
        offsets: &PartitionOffsets,
    ) -> Result<Position, SubscribeError> {
        let (start, end) = (offsets.log_start, offsets.high_watermark);
        let wanted = self.start_at.get(&key.partition).map_or(self.start, |offset| Start::Offset(*offset));
        let next = match wanted {
            Start::Earliest => start,
            Start::Latest => end,
            Start::Time(_) => offsets.at_time.unwrap_or(end),
            Start::Offset(asked) if (start..=end).contains(&asked) => asked,
            Start::Offset(asked) => {
                return Err(SubscribeError::OffsetOutOfRange {
                    topic: name.to_owned(),
                    partition: key.partition,
                    asked,
                    message: format!("offsets {start} to {end} can be asked for now"),
                });
            }
        };
        let end = self.until_end.then_some(end);
        Ok(match wanted {
            Start::Earliest | Start::Time(_) => Position::at_start(key, next, end),
            Start::Latest | Start::Offset(_) => Position::new(key, next, end),
        })
    }

    /// Whether it may do without its leader's answer: where its oldest message is, it is told when it reads.
    fn is_found_by_reading(&self, partition: u32) -> bool {
        self.start == Start::Earliest && !self.until_end && !self.start_at.contains_key(&partition)
    }

    /// The offsets of all wanted partitions; a leader that just came up says "not yet" for a moment. Without those whose leader does
    /// not answer and need not.
    async fn offsets(
        &self,
        metadata: &Metadata,
        name: &str,
        partitions: &[u32],
    ) -> Result<Vec<PartitionOffsets>, SubscribeError> {
        let time_ms = match self.start {
            Start::Time(time) => Some(millis(time)),
            Start::Earliest | Start::Latest | Start::Offset(_) => None,
        };
        let timeout = metadata.timeout();
        let deadline = Instant::now() + timeout;
        let mut backoff = Backoff::new();
        loop {
            let told = list_offsets(metadata, name, partitions, time_ms).await?;
            let failures =
                partitions.iter().filter_map(|wanted| Some((*wanted, offsets_of(*wanted, &told).err()?)));
            let mut counting = failures
                .filter(|(partition, failure)| is_final(failure) || !self.is_found_by_reading(*partition));
            let Some((partition, failure)) = counting.next() else { return Ok(told) };
            if is_final(&failure) {
                return Err(SubscribeError::Refused { topic: name.to_owned(), partition, failure });
            }
            if !backoff.wait_until(deadline).await {
                let message = format!("topic {name:?}, partition {partition}: {}", failure.message);
                let failure = Failure { message, ..failure };
                return Err(describe_error(name, timeout, failure).into());
            }
        }
    }
}

fn is_final(failure: &Failure) -> bool {
    matches!(failure.verdict(), Verdict::Refused | Verdict::Sequence)
}

fn offsets_of(partition: u32, told: &[PartitionOffsets]) -> Result<&PartitionOffsets, Failure> {
    match told.iter().find(|offsets| offsets.partition == partition) {
        None => Err(Failure::garbled("the broker left it out of its answer")),
        Some(PartitionOffsets { error: Some(error), .. }) => Err(Failure::from_error(error.clone())),
        Some(offsets) => Ok(offsets),
    }
}

fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}
