//! Asks the storage now and then what may go, for the partitions that this broker leads.

use std::time::Duration;

use fulmar_core::id::PartitionKey;
use tokio::time::Instant;
use tracing::warn;

use super::{Command, Replicas};
use crate::clock::wall_ms;
use crate::directory::{Changing, Directory};
use crate::storage::{LetGo, ReadError};

/// What is too old is looked for so often: retention is measured in minutes.
const EVERY: Duration = Duration::from_secs(10);

/// Whether there is too much is known without a look at the disk, and asked so often where there are limits: some hundred megabytes
/// may come in that time.
const LOOK: Duration = Duration::from_secs(1);

/// A step lets go of some megabytes. Where there is more, the next one follows as soon as the storage may have swept them: a disk is
/// filled at hundreds of megabytes a second, and a limit that is lowered leaves a backlog of any size.
const AGAIN: Duration = Duration::from_millis(50);

/// Runs until the actor ends.
pub async fn retain(replicas: Replicas, directory: Changing) {
    let (mut all_at, mut are_some_limited) = (Instant::now(), false);
    loop {
        let now = directory.borrow().clone();
        let is_round = Instant::now() >= all_at;
        if is_round {
            (all_at, are_some_limited) = (Instant::now() + EVERY, false);
        }
        let mut is_unfinished = false;
        let leading = replicas.states().all().into_iter().filter(|(_, state)| state.serving.is_some());
        for (key, _) in leading {
            let Some(limits) = limits(&now, key) else { continue };
            are_some_limited |= limits.1.is_some();
            let is_too_much = limits.1.is_some_and(|bytes_max| replicas.storage().log_bytes(key) > bytes_max);
            if !is_round && !is_too_much {
                continue;
            }
            match candidate(&replicas, key, limits).await {
                Ok(LetGo { start, is_more }) => {
                    is_unfinished |= is_more;
                    let Some(start) = start else { continue };
                    if replicas.send(Command::Retain(key, start)).await.is_err() {
                        return;
                    }
                }
                Err(ReadError::Rotten { base, .. }) => replicas.found_damaged(key, base).await,
                Err(error) => warn!(partition = %key, %error, "retention could not look at the partition"),
            }
        }
        let soon = Instant::now() + if is_unfinished { AGAIN } else { LOOK };
        tokio::time::sleep_until(if are_some_limited { soon } else { all_at }).await;
    }
}

/// Older than (milliseconds since 1970), more than (bytes).
type Limits = (Option<u64>, Option<u64>);

/// `None`: for ever, or nobody wishes the topic any more and its data stays.
fn limits(directory: &Directory, key: PartitionKey) -> Option<Limits> {
    let topic = directory.topic_of(key.topic).filter(|topic| !topic.retained)?;
    let older_than_ms = topic.retention_ms.map(|kept| wall_ms().saturating_sub(kept));
    (older_than_ms.is_some() || topic.retention_bytes.is_some())
        .then_some((older_than_ms, topic.retention_bytes))
}

async fn candidate(replicas: &Replicas, key: PartitionKey, limits: Limits) -> Result<LetGo, ReadError> {
    let storage = replicas.storage().clone();
    let looking = tokio::task::spawn_blocking(move || storage.retention_candidate(key, limits.0, limits.1));
    looking.await.map_err(|_| ReadError::Failed("the look was cancelled".to_owned()))?
}
