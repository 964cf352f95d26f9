//! Reads whole topics back and has the book compare.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fulmar_client::{Client, Start, SubscribeError};

use crate::cluster::{Cluster, TOPICS};
use crate::load::book::{Book, Partition};
use crate::load::record::{self, Print};

/// A reading that makes no progress for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_mins(2);
/// A reading that fails is begun anew for so long.
const READ_WITHIN: Duration = Duration::from_mins(2);
const AGAIN: Duration = Duration::from_millis(500);

/// Reads every topic from its first record to its end, by a client that knows nothing yet.
pub(crate) async fn read_back(cluster: &Cluster, book: &Book) -> Result<u64> {
    let client = Cluster::client(cluster.size()).await?;
    let mut count = 0;
    for (topic, partitions) in TOPICS {
        let until: Vec<Option<u64>> =
            (0..partitions).map(|partition| book.last_acknowledged((topic, partition))).collect();
        let found = read(&client, topic, None).await.with_context(|| format!("reading {topic} back"))?;
        for (partition, until) in (0..).zip(until) {
            let at: Partition = (topic, partition);
            let none = Vec::new();
            let found = found.get(&partition).unwrap_or(&none);
            count += found.len() as u64;
            book.compare_all(at, until, found);
        }
    }
    Ok(count)
}

/// Reads a topic, or one partition of it, to its end. A leader may go and a damaged batch be under repair meanwhile: what breaks off is
/// begun anew, for a while.
pub(crate) async fn read(
    client: &Client,
    topic: &str,
    partition: Option<u32>,
) -> Result<BTreeMap<u32, Vec<(u64, Print)>>> {
    let deadline = Instant::now() + READ_WITHIN;
    loop {
        match read_once(client, topic, partition).await {
            Ok(found) => return Ok(found),
            Err(error) => {
                let is_final = error.chain().any(|cause| {
                    matches!(cause.downcast_ref(), Some(SubscribeError::OffsetOutOfRange { .. }))
                });
                if is_final || Instant::now() > deadline {
                    return Err(error);
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn read_once(
    client: &Client,
    topic: &str,
    partition: Option<u32>,
) -> Result<BTreeMap<u32, Vec<(u64, Print)>>> {
    let mut found: BTreeMap<u32, Vec<(u64, Print)>> = BTreeMap::new();
    let mut subscriber = client.subscriber(topic).start(Start::Earliest).until_end();
    if let Some(partition) = partition {
        subscriber = subscriber.partitions([partition]);
    }
    let mut subscriber = subscriber.build().await?;
    loop {
        let Ok(message) = tokio::time::timeout(STUCK_AFTER, subscriber.next()).await else {
            bail!("nothing came for {STUCK_AFTER:?}; it stands at {:?}", ends(&found));
        };
        let Some(message) = message else { return Ok(found) };
        let message = message.with_context(|| format!("it stands at {:?}", ends(&found)))?;
        found.entry(message.partition).or_default().push((message.offset, record::print(&message.value)));
    }
}

fn ends(found: &BTreeMap<u32, Vec<(u64, Print)>>) -> BTreeMap<u32, Option<u64>> {
    found.iter().map(|(partition, read)| (*partition, read.last().map(|(offset, _)| *offset))).collect()
}
