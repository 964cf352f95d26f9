//! After a blow: brings back what ended, and waits until everything is as before. That it comes back at all is a promise too.

use std::time::Duration;

use anyhow::{Result, bail};
use fulmar_client::Admin;
use tokio::time::Instant;

use crate::cluster::{Cluster, TOPICS};
use crate::load::Load;
use crate::load::book::Book;

/// Beyond restarts, a new incarnation that learns everything, and a machine that is busy.
const SETTLED_WITHIN: Duration = Duration::from_mins(8);
/// A broker that ended is started again after this, as by a kubelet.
const RESTART_AFTER: Duration = Duration::from_millis(500);
/// More ends than any blow explains.
const ENDS_MAX: u32 = 8;
const LOOK_EVERY: Duration = Duration::from_millis(200);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Whether a broker may end by itself after this blow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// Nothing explains it.
    Unexplained,
    /// The blow does: a disk that failed, a volume that is refused.
    Explained,
}

/// Waits until all brokers serve, every partition is led and replicated in full, a record is acknowledged in each as long as any are
/// sent, and the readers have come as far. Gives how long it took.
pub(crate) async fn settle(
    cluster: &mut Cluster,
    load: &mut Load,
    book: &Book,
    ends: Ends,
) -> Result<Duration> {
    let began = Instant::now();
    let mut client = None;
    let mut ended = 0;
    let mut whole_since = None;
    let mut why = String::new();
    while began.elapsed() < SETTLED_WITHIN {
        if let Some(failed) = load.failed() {
            bail!("{failed}");
        }
        revive(cluster, book, ends, &mut ended).await?;
        if client.is_none() {
            client = Cluster::client(cluster.size()).await.ok();
        }
        let Some(client) = &client else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        let before = std::mem::take(&mut why);
        let mut brokers = cluster.brokers.iter_mut();
        let not_up =
            brokers.find_map(|broker| (broker.told_to_stop || !broker.serves()).then_some(broker.ordinal));
        let unsettled = match not_up {
            Some(ordinal) => Some(format!("broker {ordinal} stops or starts")),
            None => unsettled(&client.admin(), cluster.size()).await,
        };
        why = if let Some(why) = unsettled {
            whole_since = None;
            why
        } else {
            let since = *whole_since.get_or_insert_with(Instant::now);
            let silent = if load.is_writing() { book.silent_since(since) } else { Vec::new() };
            let unread = book.unread();
            if silent.is_empty() && unread.is_empty() {
                book.compare_fresh();
                return Ok(began.elapsed());
            }
            format!("no acknowledgement since in {silent:?}; readers behind (acknowledged, read): {unread:?}")
        };
        if why != before {
            cluster.story.note(&format!("        waits: {why}"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("not settled within {SETTLED_WITHIN:?}: {why}; {} records wait", book.pending());
}

/// Starts what ended.
async fn revive(cluster: &mut Cluster, book: &Book, ends: Ends, ended: &mut u32) -> Result<()> {
    let story = cluster.story.clone();
    if let Some(how) = cluster.steward.process.ended() {
        book.violation(format!("the steward {how}"));
        story.say(&format!("        the steward {how}"));
    }
    if !cluster.steward.process.is_running() {
        cluster.steward.start()?;
    }
    for broker in &mut cluster.brokers {
        if let Some(how) = broker.process.ended() {
            *ended += 1;
            story.say(&format!("        broker {} {how}", broker.ordinal));
            let is_asked = broker.told_to_stop && how == "ended in order";
            if ends == Ends::Unexplained && !is_asked {
                book.violation(format!("broker {} {how}, and nothing explains it", broker.ordinal));
            }
            if *ended > ENDS_MAX {
                bail!("broker {} does not stay: it {how}", broker.ordinal);
            }
            tokio::time::sleep(RESTART_AFTER).await;
        }
        if !broker.process.is_running() {
            broker.start()?;
        }
    }
    Ok(())
}

/// What is not as it should be, if anything.
async fn unsettled(admin: &Admin, brokers: u16) -> Option<String> {
    for (topic, partitions) in TOPICS {
        let described = tokio::time::timeout(ANSWER_WITHIN, admin.describe_topic(topic)).await;
        let described = match described {
            Ok(Ok(described)) => described,
            Ok(Err(error)) => return Some(format!("{topic}: {error}")),
            Err(_) => return Some(format!("{topic} is not described within {ANSWER_WITHIN:?}")),
        };
        if described.partitions.len() != partitions as usize {
            return Some(format!("{topic} has {} partitions", described.partitions.len()));
        }
        for partition in &described.partitions {
            let (at, leader) = (partition.partition, partition.leader);
            if leader.is_none() || !partition.serving {
                return Some(format!("{topic}/{at}: nobody serves it; led by {leader:?}"));
            }
            let mut in_sync = partition.in_sync.clone();
            let mut replicas = partition.replicas.clone();
            in_sync.sort_unstable();
            replicas.sort_unstable();
            let wanted = if topic == crate::cluster::ALONE { 1 } else { 3 };
            if in_sync != replicas || replicas.len() != wanted {
                return Some(format!("{topic}/{at}: in sync {in_sync:?} of {replicas:?}"));
            }
        }
    }
    let described = tokio::time::timeout(ANSWER_WITHIN, admin.describe_cluster()).await;
    match described {
        Ok(Ok(described)) => {
            let alive = described.brokers.iter().filter(|broker| broker.alive).count();
            (alive != usize::from(brokers)).then(|| format!("gossip sees {alive} brokers alive"))
        }
        Ok(Err(error)) => Some(format!("the Cluster: {error}")),
        Err(_) => Some(format!("the Cluster is not described within {ANSWER_WITHIN:?}")),
    }
}
