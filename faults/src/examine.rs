//! Reads whole topics back and has the book compare.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fulmar_client::{Client, DescribeError, Start, SubscribeError};

use crate::cluster::{Cluster, TOPICS};
use crate::load::book::{Book, Partition};
use crate::load::record::{self, Print};

/// A reading that makes no progress for so long is stuck.
const STUCK_AFTER: Duration = Duration::from_mins(2);
/// While leaders are away a reading cannot begin: it is tried again for so long.
const BEGINS_WITHIN: Duration = Duration::from_mins(2);

/// Reads every topic from its first record to its end, by a client that knows nothing yet.
pub(crate) async fn read_back(cluster: &Cluster, book: &Book) -> Result<u64> {
    let client = Cluster::client(cluster.size()).await?;
    let mut count = 0;
    for (topic, partitions) in TOPICS {
        let until: Vec<Option<u64>> =
            (0..partitions).map(|partition| book.last_acknowledged((topic, partition))).collect();
        let found = read(&client, topic).await.with_context(|| format!("reading {topic} back"))?;
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

async fn read(client: &Client, topic: &str) -> Result<BTreeMap<u32, Vec<(u64, Print)>>> {
    let mut found: BTreeMap<u32, Vec<(u64, Print)>> = BTreeMap::new();
    let deadline = Instant::now() + BEGINS_WITHIN;
    let mut subscriber = loop {
        match client.subscriber(topic).start(Start::Earliest).until_end().build().await {
            Ok(subscriber) => break subscriber,
            Err(SubscribeError::Topic(DescribeError::Unavailable { .. })) if Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
    };
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
