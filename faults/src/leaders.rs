//! Who leads, seen all the while from a program's side: how often a partition's leader became another one.
//!
//! It counts what it sees, not more: a leader that led for a moment between two looks is missed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fulmar_client::Client;

use crate::cluster::TOPICS;
use crate::load::book::Partition;

const LOOK_EVERY: Duration = Duration::from_millis(200);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The newest decision about each partition, and who led by it.
    last: BTreeMap<Partition, ((u64, u64), u32)>,
    changes: u64,
}

impl Leaders {
    /// Looks for ever.
    pub(crate) async fn watch(&self, client: &Client) {
        let admin = client.admin();
        loop {
            let told = tokio::time::timeout(ANSWER_WITHIN, admin.topics()).await;
            for told in told.into_iter().flatten().flatten() {
                let Some((topic, _)) = TOPICS.into_iter().find(|(name, _)| *name == told.name) else {
                    continue;
                };
                for partition in told.partitions {
                    if let Some(leader) = partition.leader {
                        self.note((topic, partition.partition), &partition.epoch, leader);
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Somebody says who leads. What is older than what was known, as from a broker that was away, changes nothing.
    fn note(&self, at: Partition, epoch: &str, leader: u32) {
        let Some(epoch) = parse(epoch) else { return };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let last = seen.last.insert(at, (epoch, leader));
        match last {
            Some(last) if last.0 >= epoch => drop(seen.last.insert(at, last)),
            Some((_, before)) if before != leader => seen.changes += 1,
            Some(_) | None => {}
        }
    }

    /// How often it was another one.
    pub(crate) fn changes(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).changes
    }
}

/// `GENERATION.COUNTER`.
fn parse(epoch: &str) -> Option<(u64, u64)> {
    let (generation, counter) = epoch.split_once('.')?;
    Some((generation.parse().ok()?, counter.parse().ok()?))
}

#[cfg(test)]
#[path = "leaders_tests.rs"]
mod tests;
