//! One read of one partition as messages: what is committed from somewhere on, or what comes within a wait.

use std::time::{Duration, Instant};

use fulmar_core::batch::Batch;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use fulmar_proto::v1::Message;
use fulmar_proto::v1::start::At;

use super::Door;
use super::convert::messages_of;
use super::error::Failure;
use super::feed::Form;
use super::outflow::{Answers, Held};
use crate::traces::Delivering;

/// About so many bytes in one answer.
const READ_BYTES: usize = 512 * 1024;

/// What is asked of a partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pull {
    /// May be left out for a topic that has one.
    pub(super) partition: Option<u32>,
    /// Where to begin.
    pub(super) at: At,
    /// At most so many messages.
    pub(super) max: usize,
    /// How long to wait if there are none.
    pub(super) wait: Duration,
}

/// What it gave.
#[derive(Debug)]
pub(super) struct Pulled {
    pub(super) messages: Vec<Message>,
    /// Where the next one goes on.
    pub(super) next: Offset,
    /// Memory for the messages; none for none.
    pub(super) room: Option<Held>,
}

impl Door {
    /// Reads a partition of a topic; the memory is taken among the answers of `queue`.
    pub(super) async fn pull<T>(
        &self,
        topic: &str,
        pull: Pull,
        queue: &Answers<T>,
        deadline: Instant,
    ) -> Result<Pulled, Failure> {
        let Pull { partition, at, max, wait } = pull;
        let topic = self.find(topic, false, deadline).await?;
        let partition = partition.or_else(|| (topic.partitions == 1).then_some(0)).ok_or_else(|| {
            let message = format!("partition: one of 0 to {} is needed", topic.partitions.saturating_sub(1));
            Failure::invalid("partition", message)
        })?;
        let key = Self::partition(&topic, partition)?;
        let time_ms = match at {
            At::TimeMs(time_ms) => Some(time_ms),
            At::Earliest(_) | At::Latest(_) | At::Offset(_) => None,
        };
        let offsets = self.offsets(&topic, key, time_ms, deadline).await?;
        let from = Offset(match at {
            At::Earliest(_) => offsets.log_start,
            At::Latest(_) => offsets.high_watermark,
            At::TimeMs(_) => offsets.at_time.unwrap_or(offsets.high_watermark),
            At::Offset(offset) => offset,
        });
        let (log_start, high_watermark) = (Offset(offsets.log_start), Offset(offsets.high_watermark));
        if from < log_start || from > high_watermark {
            return Err(Failure::out_of_range(from, log_start, high_watermark));
        }
        // What is there comes at once, or its leader is waited for; what is not is waited for as long as the reader says.
        let until = if from < high_watermark { deadline } else { Instant::now() + wait };
        let mut pulled = Pulled { messages: Vec::new(), next: from, room: None };
        // A batch without messages is one of the log's own, such as the one that opens a term.
        while pulled.messages.is_empty() && (wait > Duration::ZERO || pulled.next < high_watermark) {
            let next = pulled.next;
            // Who waits holds nothing: the next batch may need all that the connection has.
            pulled.room = None;
            let wanted = (key, Form::messages(&topic.name));
            let Some((batches, room)) = self.look(wanted, next, READ_BYTES, queue, until).await? else {
                break;
            };
            let traced = self.shared.traces.delivering(&topic.name, partition);
            let (messages, next) = read(&topic.name, key, &batches, next, max)?;
            if let Some(traced) = traced {
                told(traced, &batches, &messages);
            }
            pulled = Pulled { messages, next, room: Some(room) };
        }
        self.shared.metrics.delivered(pulled.messages.len());
        Ok(pulled)
    }
}

fn told(mut traced: Delivering, batches: &[Batch], messages: &[Message]) {
    // Both rise.
    let mut messages = messages.iter().peekable();
    for batch in batches {
        while let Some(message) = messages.next_if(|message| message.offset < batch.end().0) {
            traced.message(batch.term(), message);
        }
    }
    traced.done();
}

/// The messages, and where it goes on: behind the last one that is told; if none is, behind the batches.
fn read(
    topic: &str,
    key: PartitionKey,
    batches: &[Batch],
    from: Offset,
    max: usize,
) -> Result<(Vec<Message>, Offset), Failure> {
    let mut messages = Vec::new();
    for batch in batches {
        let left = max - messages.len();
        if left > 0 {
            messages.extend(messages_of(topic, key.partition, batch, from)?.take(left));
        }
    }
    let behind = batches.last().map_or(from, Batch::end);
    let next = messages.last().map_or(behind, |last| Offset(last.offset + 1));
    Ok((messages, next))
}
