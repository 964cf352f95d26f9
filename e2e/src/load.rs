//! Producers and readers that run while things break: each publish waits for the one before it, so that what a client has to
//! wait for is seen; readers follow from the first record on, so that it is seen if one of them disappears.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fulmar_client::{Client, Producer, Record, Start, Subscriber};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinHandle;

use crate::clients::producer;
use crate::records::{Acknowledged, Hash, hash, value};
use crate::wait;

/// Between two publishes of a partition: twenty a second or so, which fsync on a busy disk can follow.
const PAUSE: Duration = Duration::from_millis(30);

/// One publish: when it began, and how long it waited for its acknowledgement.
pub type Wait = (Instant, Duration);

/// What runs.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<Result<Written>>>,
    /// How many records of each partition.
    acknowledged: Arc<[AtomicU64]>,
    reader: JoinHandle<Result<Seen>>,
}

#[derive(Debug)]
struct Written {
    waits: Vec<Wait>,
    records: Vec<(u32, u64, Hash)>,
}

type Seen = HashMap<(u32, u64), Hash>;

/// What it came to.
#[derive(Debug)]
pub struct Outcome {
    /// What was acknowledged, to be compared with what is there.
    pub acknowledged: Acknowledged,
    /// All publishes of each partition, in order.
    pub waits: Vec<Vec<Wait>>,
}

impl Load {
    /// One producer for each of so many partitions, and a reader of all of them, each at a broker of its own.
    pub async fn start(
        writing: &Client,
        reading: &Client,
        topic: &str,
        partitions: u32,
        seed: u64,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let producer = producer(writing, topic).await?;
        let acknowledged: Arc<[AtomicU64]> = (0..partitions).map(|_| AtomicU64::new(0)).collect();
        let writer = |partition| {
            let random = StdRng::seed_from_u64(seed ^ (u64::from(partition) << 32));
            let counts = Arc::clone(&acknowledged);
            tokio::spawn(write(producer.clone(), partition, random, Arc::clone(&stop), counts))
        };
        let writers = (0..partitions).map(writer).collect();
        let subscriber = reading.subscriber(topic).start(Start::Earliest).build().await?;
        let reader = tokio::spawn(read(subscriber, Arc::clone(&stop)));
        Ok(Self { stop, writers, acknowledged, reader })
    }

    /// How many records of a partition are acknowledged by now.
    pub fn acknowledged(&self, partition: usize) -> u64 {
        self.acknowledged[partition].load(Ordering::Relaxed)
    }

    /// Waits until so many more records of every partition are acknowledged.
    pub async fn await_more(&self, more: u64, at_most: Duration) -> Result<()> {
        let wanted: Vec<u64> =
            self.acknowledged.iter().map(|count| count.load(Ordering::Relaxed) + more).collect();
        wait::until_well(&format!("{more} more records of every partition"), at_most, async || {
            for (partition, wanted) in wanted.iter().enumerate() {
                let now = self.acknowledged(partition);
                ensure!(now >= *wanted, "partition {partition}: {now} are acknowledged, not {wanted}");
            }
            Ok(())
        })
        .await
    }

    /// Waits for the last acknowledgements. Fails if a publish failed, or if what was read is not what was acknowledged, each record
    /// once and none left out.
    pub async fn stop(self) -> Result<Outcome> {
        self.stop.store(true, Ordering::Relaxed);
        let mut outcome = Outcome { acknowledged: Acknowledged::default(), waits: Vec::new() };
        for writer in self.writers {
            let written = writer.await.context("a producer panicked")??;
            outcome.waits.push(written.waits);
            for (partition, offset, hash) in written.records {
                outcome.acknowledged.note(partition, offset, hash)?;
            }
        }
        let seen = self.reader.await.context("the reader panicked")??;
        for ((partition, offset), hash) in &seen {
            let same = outcome.acknowledged.is(*partition, *offset, hash);
            ensure!(
                same,
                "partition {partition}, offset {offset}: a reader saw what was never acknowledged there"
            );
        }
        ensure!(!seen.is_empty(), "the reader read nothing");
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        for (partition, offset) in seen.keys() {
            let last = last.entry(*partition).or_default();
            *last = (*last).max(*offset);
        }
        for (partition, offset) in outcome.acknowledged.places() {
            let is_left_out = last.get(&partition).is_some_and(|last| offset < *last)
                && !seen.contains_key(&(partition, offset));
            ensure!(!is_left_out, "partition {partition}: the reader left out offset {offset}");
        }
        Ok(outcome)
    }
}

impl Outcome {
    /// How long every publish took, of all partitions, the shortest first.
    pub fn sorted(&self) -> Vec<Duration> {
        let mut all: Vec<Duration> = self.waits.iter().flatten().map(|(_, took)| *took).collect();
        all.sort_unstable();
        all
    }

    /// The longest wait of a partition's publishes that was under way at some time between two moments.
    pub fn longest(&self, partition: u32, from: Instant, to: Instant) -> Duration {
        let waits = self.waits.get(partition as usize).into_iter().flatten();
        let within = waits.filter(|(began, took)| *began + *took >= from && *began < to);
        within.map(|(_, took)| *took).max().unwrap_or_default()
    }
}

/// What so many percent of sorted times do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

/// Sorted times, for people.
pub fn told(sorted: &[Duration]) -> String {
    let at = |percent| percentile(sorted, percent).as_millis();
    format!("p50 {} ms, p99 {} ms, longest {} ms", at(50), at(99), at(100))
}

async fn write(
    producer: Producer,
    partition: u32,
    mut random: StdRng,
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64]>,
) -> Result<Written> {
    let mut written = Written { waits: Vec::new(), records: Vec::new() };
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let value = value(&mut random, number);
        let hash = hash(&value);
        let began = Instant::now();
        let ack = producer.publish(Record::new(value).partition(partition)).await;
        let ack = ack.with_context(|| format!("partition {partition}, record {number}"));
        // At once: a test may wait for more of them, in vain.
        let ack = ack.inspect_err(|error| println!("a publish failed: {error:#}"))?;
        written.waits.push((began, began.elapsed()));
        counts[partition as usize].fetch_add(1, Ordering::Relaxed);
        written.records.push((partition, ack.offset, hash));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(written)
}

/// Ends a moment after it is told to: what it has not read by then is compared later.
async fn read(mut subscriber: Subscriber, stop: Arc<AtomicBool>) -> Result<Seen> {
    let (mut seen, mut last) = (Seen::new(), BTreeMap::new());
    while !stop.load(Ordering::Relaxed) {
        let Ok(next) = tokio::time::timeout(PAUSE, subscriber.next()).await else { continue };
        let message = next.context("a reader without an end came to one")??;
        let (partition, offset) = (message.partition, message.offset);
        if let Some(before) = last.insert(partition, offset) {
            ensure!(before < offset, "partition {partition}: a reader saw {offset} after {before}");
        }
        seen.insert((partition, offset), hash(&message.value));
    }
    Ok(seen)
}
