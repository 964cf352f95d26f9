//! Asks the storage now and then what may go, for the partitions that this broker leads.

use std::collections::BTreeMap;
use std::time::Duration;

use fulmar_core::id::PartitionKey;
use tokio::time::Instant;
use tracing::warn;

use super::{Command, Replicas};
use crate::clock::wall_ms;
use crate::directory::{Changing, Directory};
use crate::storage::{LetGo, ReadError};

/// All partitions are looked at so often: retention is measured in minutes.
const EVERY: Duration = Duration::from_secs(10);

/// Between two such rounds those of which far too much is kept, where there are limits: some hundred megabytes may come in that time.
const LOOK: Duration = Duration::from_secs(1);

/// Far too much is a limit and such a part of it, and some megabytes at least. What is just beyond it waits for the next round: what lets
/// go of it is a transaction, in which what has come has to be, too.
const PART: u64 = 16;
const EXCESS_BYTES_MIN: u64 = 16 << 20;

/// A step lets go of some megabytes. Where there is more, the next one follows when something has been swept, so soon: a disk is filled
/// at hundreds of megabytes a second, and a limit that is lowered leaves a backlog of any size.
const AGAIN: Duration = Duration::from_millis(50);

/// Runs until the actor ends.
pub async fn retain(replicas: Replicas, directory: Changing) {
    // Those with more to let go of, and how often something had been swept when they were looked at.
    let mut unfinished: BTreeMap<PartitionKey, u64> = BTreeMap::new();
    let (mut all_at, mut are_some_limited) = (Instant::now(), false);
    loop {
        let now = directory.borrow().clone();
        let is_round = Instant::now() >= all_at;
        if is_round {
            (all_at, are_some_limited) = (Instant::now() + EVERY, false);
            unfinished.clear();
        }
        let leading = replicas.states().all().into_iter().filter(|(_, state)| state.serving.is_some());
        for (key, _) in leading {
            let Some(mut limits) = limits(&now, key) else { continue };
            are_some_limited |= limits.bytes_max.is_some();
            let sweeps = replicas.storage().sweeps();
            if !is_round {
                let is_due = match unfinished.get(&key) {
                    Some(before) => *before != sweeps,
                    None => limits.is_far_exceeded(replicas.storage().log_bytes(key)),
                };
                if !is_due {
                    continue;
                }
                limits.older_than_ms = None;
            }
            unfinished.remove(&key);
            match candidate(&replicas, key, limits).await {
                Ok(LetGo { start, is_more }) => {
                    unfinished.extend(is_more.then_some((key, sweeps)));
                    let Some(start) = start else { continue };
                    if replicas.send(Command::Retain(key, start)).await.is_err() {
                        return;
                    }
                }
                Err(ReadError::Rotten { base, .. }) => replicas.found_damaged(key, base).await,
                Err(error) => warn!(partition = %key, %error, "retention could not look at the partition"),
            }
        }
        let soon = Instant::now() + if unfinished.is_empty() { LOOK } else { AGAIN };
        tokio::time::sleep_until(if are_some_limited { soon.min(all_at) } else { all_at }).await;
    }
}

/// What may stay.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Nothing older: milliseconds since 1970.
    older_than_ms: Option<u64>,
    /// Not more.
    bytes_max: Option<u64>,
}

impl Limits {
    fn is_far_exceeded(self, bytes: u64) -> bool {
        let far = |bytes_max: u64| bytes_max.saturating_add(EXCESS_BYTES_MIN.max(bytes_max / PART));
        self.bytes_max.is_some_and(|bytes_max| bytes > far(bytes_max))
    }
}

/// `None`: for ever, or nobody wishes the topic any more and its data stays.
fn limits(directory: &Directory, key: PartitionKey) -> Option<Limits> {
    let topic = directory.topic_of(key.topic).filter(|topic| !topic.retained)?;
    let older_than_ms = topic.retention_ms.map(|kept| wall_ms().saturating_sub(kept));
    (older_than_ms.is_some() || topic.retention_bytes.is_some())
        .then_some(Limits { older_than_ms, bytes_max: topic.retention_bytes })
}

async fn candidate(replicas: &Replicas, key: PartitionKey, limits: Limits) -> Result<LetGo, ReadError> {
    let storage = replicas.storage().clone();
    let Limits { older_than_ms, bytes_max } = limits;
    let looking =
        tokio::task::spawn_blocking(move || storage.retention_candidate(key, older_than_ms, bytes_max));
    looking.await.map_err(|_| ReadError::Failed("the look was cancelled".to_owned()))?
}
