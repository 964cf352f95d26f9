//! Asks the storage now and then what may go, for the partitions that this broker leads.

use std::time::Duration;

use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use tracing::warn;

use super::{Command, Replicas};
use crate::clock::wall_ms;
use crate::directory::{Changing, Directory};
use crate::storage::ReadError;

/// Retention is measured in minutes and gigabytes; a step takes at most some megabytes, so a long backlog takes many.
const EVERY: Duration = Duration::from_secs(10);

/// Runs until the actor ends.
pub async fn retain(replicas: Replicas, directory: Changing) {
    let mut every = tokio::time::interval(EVERY);
    loop {
        every.tick().await;
        let now = directory.borrow().clone();
        let leading = replicas.states().all().into_iter().filter(|(_, state)| state.serving.is_some());
        for (key, _) in leading {
            let Some(limits) = limits(&now, key) else { continue };
            match candidate(&replicas, key, limits).await {
                Ok(None) => {}
                Ok(Some(offset)) => {
                    if replicas.send(Command::Retain(key, offset)).await.is_err() {
                        return;
                    }
                }
                Err(ReadError::Rotten { base, .. }) => replicas.found_damaged(key, base).await,
                Err(error) => warn!(partition = %key, %error, "retention could not look at the partition"),
            }
        }
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

async fn candidate(
    replicas: &Replicas,
    key: PartitionKey,
    limits: Limits,
) -> Result<Option<Offset>, ReadError> {
    let storage = replicas.storage().clone();
    let looking = tokio::task::spawn_blocking(move || storage.retention_candidate(key, limits.0, limits.1));
    looking.await.map_err(|_| ReadError::Failed("the look was cancelled".to_owned()))?
}
