//! A volume that is nearly full, towards the other brokers: what leaders hear of it, and what is not taken from them.

use std::sync::Arc;
use std::time::Duration;

use fulmar_core::batch::Batch;
use fulmar_core::offset::Offset;
use fulmar_core::partition::Message;

use super::Replicas;
use crate::gossip::Gossip;

/// The storage looks as often.
const EVERY: Duration = Duration::from_millis(250);

/// Tells the others when the volume is full, and when it is not any more; runs until it is dropped.
pub async fn tell_fullness(replicas: Replicas, gossip: Arc<Gossip>) {
    let mut every = tokio::time::interval(EVERY);
    let mut told = false;
    loop {
        every.tick().await;
        let is_full = replicas.storage().fullness().is_full;
        if is_full != told {
            gossip.set_full(is_full).await;
            told = is_full;
        }
    }
}

/// What is left of a leader's message where nothing more fits: as if its batches were still on their way. That they are missing is
/// not asked about either, or they would be sent again at once; the leader does so now and then by itself, and with room again a
/// heartbeat shows the gap. The record that opens a term is taken: without it nobody could read.
pub(super) fn without_batches(message: Message) -> Message {
    match message {
        Message::Append { term, from, batches, high_watermark, log_start } => {
            let is_opening = !batches.is_empty() && batches.iter().all(Batch::is_opening);
            let (from, batches) = if is_opening { (from, batches) } else { (Offset::ZERO, Vec::new()) };
            Message::Append { term, from, batches, high_watermark, log_start }
        }
        other => other,
    }
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
