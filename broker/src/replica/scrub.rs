//! Reads every replica's log now and then, slowly: a damaged batch that nobody reads is found while others still hold it.

use std::time::{Duration, Instant};

use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use tracing::{debug, info};

use super::{Replicas, State};
use crate::storage::ReadError;

/// Passes begin so far apart at least: disks rot in months, and a small volume need not be read all day.
const EVERY: Duration = Duration::from_hours(1);
/// After a pass that found something the next one comes sooner: a replica remembers only so many damaged places at a time.
const EVERY_IF_FOUND: Duration = Duration::from_mins(1);
/// One read: a few values.
const PIECE_BYTES: usize = 256 << 10;

/// Runs until the actor ends, or for ever if it may read nothing.
pub async fn scrub(replicas: Replicas, bytes_per_second: u64) {
    if bytes_per_second == 0 {
        return std::future::pending().await;
    }
    loop {
        let began = Instant::now();
        let (mut bytes, mut found) = (0, 0);
        for (key, state) in replicas.states().all() {
            let (more_bytes, more_found) = scrub_one(&replicas, key, state, bytes_per_second).await;
            (bytes, found) = (bytes + more_bytes, found + more_found);
        }
        if found > 0 {
            info!(bytes, found, "all logs were read once: some batches are damaged");
        } else {
            debug!(bytes, "all logs were read once, and all batches hold");
        }
        let every = if found > 0 { EVERY_IF_FOUND } else { EVERY };
        tokio::time::sleep(every.saturating_sub(began.elapsed()).max(Duration::from_secs(1))).await;
    }
}

/// The bytes that were read, and how many damaged places were met.
async fn scrub_one(replicas: &Replicas, key: PartitionKey, state: State, rate: u64) -> (u64, u64) {
    let (mut from, until) = (state.log_start, state.log_end);
    let (mut bytes, mut found) = (0, 0);
    while from < until {
        let (next, read) = match read(replicas, key, from, until).await {
            Ok((next, read)) => (next, read),
            Err(error) => {
                if let ReadError::Rotten { base, .. } = error {
                    found += 1;
                    replicas.found_damaged(key, base).await;
                }
                (beyond(&error), PIECE_BYTES as u64)
            }
        };
        bytes += read;
        // At the rate, whatever the disk could do.
        tokio::time::sleep(Duration::from_micros(read.saturating_mul(1_000_000) / rate)).await;
        match next.filter(|next| *next > from) {
            Some(next) => from = next,
            None => break,
        }
    }
    (bytes, found)
}

/// Where the pass goes on behind what could not be read.
fn beyond(error: &ReadError) -> Option<Offset> {
    match error {
        ReadError::Rotten { next, .. } => *next,
        // Retention was faster.
        ReadError::BelowStart { log_start, .. } => Some(*log_start),
        // A release or the end: the next pass sees how it is then.
        ReadError::Unknown(_) | ReadError::Failed(_) => None,
    }
}

async fn read(
    replicas: &Replicas,
    key: PartitionKey,
    from: Offset,
    until: Offset,
) -> Result<(Option<Offset>, u64), ReadError> {
    let storage = replicas.storage().clone();
    let read = tokio::task::spawn_blocking(move || storage.read(key, from, until, PIECE_BYTES)).await;
    let batches = read.map_err(|_| ReadError::Failed("the read was cancelled".to_owned()))??;
    let bytes = batches.iter().map(|batch| batch.size() as u64).sum();
    Ok((batches.last().map(fulmar_core::batch::Batch::end), bytes))
}

#[cfg(test)]
#[path = "scrub_tests.rs"]
mod tests;
