//! A broker's volume is full: publishing to it is refused, and says why; reading goes on; with room again everything does.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use fulmar_client::v1::PublishRequest;
use fulmar_client::v1::pub_sub_client::PubSubClient;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{Blow, Field, Kind};
use crate::cluster::broker::mount;
use crate::cluster::{Cluster, EVENTS};
use crate::examine;
use crate::load::book::{Fate, Sent};
use crate::load::record::{self, Name};
use crate::room::{Place, system};

/// Below the brokers' reserve (512 MiB): publishing is refused, everything else goes on.
const LITTLE: u64 = 200 << 20;
/// Brokers look at their free space several times a second; a busy machine takes longer.
const REFUSED_WITHIN: Duration = Duration::from_mins(2);
const AGAIN: Duration = Duration::from_millis(100);
/// One publish; it may have to be passed on.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The volume is full, to the last byte or nearly; sometimes the broker is killed and has to start so.
pub(super) async fn fill(field: &mut Field<'_>, blow: &Blow) -> Result<()> {
    debug_assert_eq!(blow.kind, Kind::Full);
    let mut luck = StdRng::seed_from_u64(blow.seed);
    // One that leads has something to refuse.
    let target = if led_by(field.cluster, blow.target).await.is_some() { blow.target } else { blow.other };
    let filler = take_room(field.cluster.folder(), target, if luck.random_bool(0.5) { 0 } else { LITTLE })?;
    let until = Instant::now() + blow.lasts;
    see_refusal(field, target).await?;
    tokio::time::sleep_until(until).await;
    if luck.random_bool(0.3) {
        let broker = &mut field.cluster.brokers[usize::from(target)];
        broker.process.kill().await?;
        broker.start()?;
        sleep(blow.lasts).await;
    }
    fs::remove_file(&filler).context("could not free the volume")
}

/// Leaves so many bytes free, or as few as the file system lets go.
fn take_room(folder: &Path, target: u16, left: u64) -> Result<PathBuf> {
    let mount = mount(folder, target);
    let filler = mount.join("filler");
    let free = rustix::fs::statvfs(&mount)?;
    let free = free.f_bavail * free.f_frsize;
    File::create(&filler)?;
    let size = free.saturating_sub(left);
    // The file system keeps some for itself, and the broker writes all the while.
    let taken = [0, 16 << 20, 64 << 20, 256 << 20].into_iter().any(|less| {
        let size = size.saturating_sub(less);
        size > 0 && system(&format!("fallocate -l {size} {}", filler.display())).is_ok()
    });
    anyhow::ensure!(taken, "the volume of broker {target} could not be filled: {free} bytes are free");
    Ok(filler)
}

/// Publishes to a partition that the broker leads, until it refuses; then reads that partition from it. Nothing is to be seen where
/// it leads nothing, or ends, or gives the partition away meanwhile.
async fn see_refusal(field: &mut Field<'_>, target: u16) -> Result<()> {
    let Some(partition) = led_by(field.cluster, target).await else {
        field.cluster.story.note(&format!("        broker {target} leads nothing that could be refused"));
        return Ok(());
    };
    let writer = field.book.new_writer(EVENTS, partition, false);
    let deadline = Instant::now() + REFUSED_WITHIN;
    let mut number = 0;
    loop {
        number += 1;
        let name = Name { writer, number };
        let value = record::value(name, u64::from(target));
        let print = record::print(&value);
        let sent = Sent { topic: EVENTS, partition, name, print, at: Instant::now() };
        field.book.sent(&sent);
        let answer = timeout(ANSWER_WITHIN, publish(target, partition, value)).await;
        match answer {
            Ok(Ok(offset)) => field.book.fate(&sent, Fate::Acknowledged { offset }, false),
            Ok(Err(status)) if reason(&status).as_deref() == Some("DISK_FULL") => {
                field.book.fate(&sent, Fate::Absent, false);
                if status.code() != Code::ResourceExhausted {
                    field
                        .book
                        .violation(format!("DISK_FULL of broker {target} has the code {:?}", status.code()));
                }
                field.cluster.story.note(&format!("        broker {target}: {}", status.message()));
                return read_all_the_same(field, target, partition).await;
            }
            Ok(Err(_)) | Err(_) => field.book.fate(&sent, Fate::Unknown, false),
        }
        let ended = field.cluster.brokers[usize::from(target)].process.has_ended();
        if ended || led_by(field.cluster, target).await != Some(partition) {
            field
                .cluster
                .story
                .note(&format!("        broker {target} does not lead {EVENTS}/{partition} any more"));
            return Ok(());
        }
        if Instant::now() > deadline {
            let what =
                format!("broker {target}, whose volume is full, took publishes for {REFUSED_WITHIN:?}");
            field.book.violation(what);
            return Ok(());
        }
        sleep(AGAIN).await;
    }
}

/// Everything that was acknowledged in the partition is read, by a client that knows nothing yet.
async fn read_all_the_same(field: &Field<'_>, target: u16, partition: u32) -> Result<()> {
    let until = field.book.last_acknowledged((EVENTS, partition));
    let client = Cluster::client(field.cluster.size()).await?;
    let found = examine::read(&client, EVENTS, Some(partition)).await;
    let found = found.with_context(|| format!("reading from broker {target}, whose volume is full"))?;
    let none = Vec::new();
    field.book.compare_all((EVENTS, partition), until, found.get(&partition).unwrap_or(&none));
    Ok(())
}

/// The lowest partition that a broker leads.
async fn led_by(cluster: &Cluster, target: u16) -> Option<u32> {
    let client = Cluster::client(cluster.size()).await.ok()?;
    let described = client.admin().describe_topic(EVENTS).await.ok()?;
    let led = |leader: Option<u32>| leader == Some(u32::from(target));
    described.partitions.iter().find(|partition| led(partition.leader)).map(|partition| partition.partition)
}

async fn publish(target: u16, partition: u32, value: Vec<u8>) -> Result<u64, Status> {
    let address = format!("http://{}:50051", Place::Broker(target).address());
    let client = PubSubClient::connect(address).await;
    let mut client = client.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = PublishRequest {
        topic: EVENTS.to_owned(),
        value: value.into(),
        partition: Some(partition),
        ..PublishRequest::default()
    };
    Ok(client.publish(request).await?.into_inner().offset)
}

/// Why, for programs.
fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}
