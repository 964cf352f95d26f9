//! The works: the same loop for every system, only the client differs.
//!
//! Owns loads, clocks and counts. Never compares: one work of one system in one round is one [`Measured`].

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::fan_out;
use super::system::{Follower, From, Pipeline, Single, System};
use crate::exit::Failed;

/// A work stops publishing here if it is not over before: a fast system shall not fill a disk, nor Redis its memory.
const WORK_BYTES_MAX: u64 = 1 << 30;

/// The first records of a connection warm it up; they are published, and no figure has them.
pub(super) const WARM_UP: u64 = 20;

/// A reader that is owed records and gets none for so long has lost them.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Records a second of [`Work::EndToEnd`].
const PACE: u64 = 1000;

/// The clock that paces ticks in whole milliseconds: so late is its doing, what is beyond was caused by the system and counts.
const PACE_SLACK: Duration = Duration::from_millis(2);

/// What a value of [`Work::EndToEnd`] begins with: a mark of this run, and when it was sent.
pub(super) const STAMP_BYTES: usize = 16;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Work {
    /// As fast as is acknowledged, many records under way on one connection
    PublishBatched,
    /// One record under way on each of many connections
    PublishUnbatched,
    /// The same by HTTP, on connections that are kept (needs --http); rivals do as in publish-unbatched
    PublishHttp,
    /// One record under way on one connection
    OneInFlight,
    /// Reading what this round published, from its first record
    ReadBack,
    /// From publishing to reading, at 1,000 records a second
    EndToEnd,
    // The last one: what it publishes is not read back, for NATS keeps none of it.
    /// Records of 128 bytes to 100 who listen, deliveries counted; NATS does it without a stream
    FanOut,
}

/// What is measured of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Higher is better.
    RecordsPerSecond,
    /// Microseconds; half of the records took no longer.
    P50,
    /// Microseconds; 99 of 100 took no longer.
    P99,
}

/// How much of it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) value: Bytes,
    pub(super) duration: Duration,
    pub(super) connections: u32,
}

/// One work of one system in one round.
#[derive(Debug)]
pub(super) struct Measured {
    /// Acknowledged, or read.
    pub(super) records: u64,
    pub(super) figures: Vec<(Measure, f64)>,
}

impl Measured {
    pub(super) fn rate(records: u64, time: Duration) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "counts of minutes are far below 2^52")]
        let rate = records as f64 / time.as_secs_f64().max(1e-9);
        Self { records, figures: vec![(Measure::RecordsPerSecond, rate)] }
    }

    fn latency(latency: &Histogram<u64>) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "latencies of minutes are far below 2^52")]
        let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
        let figures = vec![(Measure::P50, at(0.5)), (Measure::P99, at(0.99))];
        Self { records: latency.len(), figures }
    }
}

/// Of nanoseconds, from a microsecond to a minute, to three digits. What is beyond counts as a minute.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are in order")
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// When publishing is over.
pub(super) struct End {
    at: Instant,
    records: u64,
}

impl End {
    pub(super) fn of(job: &Job) -> Self {
        let records = WORK_BYTES_MAX / (job.value.len() as u64).max(1);
        Self { at: Instant::now() + job.duration, records }
    }

    pub(super) fn is_reached(&self, records: u64) -> bool {
        records >= self.records || Instant::now() >= self.at
    }
}

/// Does one work. `published` counts what this round published into the system.
pub(super) async fn run<S: System>(
    work: Work,
    system: &S,
    job: &Job,
    published: &mut u64,
) -> Result<Measured, Failed> {
    match work {
        Work::PublishBatched => publish_batched(system, job, published).await,
        Work::PublishUnbatched => {
            let singles = connect(job.connections, || system.single()).await?;
            let (latency, time) = publish_singly(singles, job, published).await?;
            Ok(Measured::rate(latency.len(), time))
        }
        Work::PublishHttp => {
            let singles = connect(job.connections, || system.plain()).await?;
            let (latency, time) = publish_singly(singles, job, published).await?;
            Ok(Measured::rate(latency.len(), time))
        }
        Work::OneInFlight => {
            let singles = connect(1, || system.single()).await?;
            Ok(Measured::latency(&publish_singly(singles, job, published).await?.0))
        }
        Work::ReadBack => {
            // Chosen alone, there is nothing to read yet.
            if *published == 0 {
                publish_batched(system, job, published).await?;
            }
            read_back(system, *published).await
        }
        Work::EndToEnd => end_to_end(system, job, published).await,
        Work::FanOut => fan_out::run(system, job).await,
    }
}

async fn publish_batched<S: System>(system: &S, job: &Job, published: &mut u64) -> Result<Measured, Failed> {
    let mut pipeline = system.pipeline().await?;
    let started = Instant::now();
    let end = End::of(job);
    let mut records = 0;
    while !end.is_reached(records) {
        pipeline.send(job.value.clone()).await?;
        records += 1;
    }
    pipeline.finish().await?;
    *published += records;
    Ok(Measured::rate(records, started.elapsed()))
}

async fn connect<S, F: Future<Output = Result<S, Failed>>>(
    connections: u32,
    one: impl Fn() -> F,
) -> Result<Vec<S>, Failed> {
    let mut all = Vec::new();
    for _ in 0..connections {
        all.push(one().await?);
    }
    Ok(all)
}

/// Gives latencies, and the time from the first record that counts to the last.
async fn publish_singly(
    mut singles: Vec<impl Single>,
    job: &Job,
    published: &mut u64,
) -> Result<(Histogram<u64>, Duration), Failed> {
    for single in &mut singles {
        for _ in 0..WARM_UP {
            single.publish(job.value.clone()).await?;
            *published += 1;
        }
    }
    let started = Instant::now();
    let mut loops = JoinSet::new();
    for single in singles {
        loops.spawn(publish_in_turn(single, job.value.clone(), End::of(job)));
    }
    let mut all = histogram();
    while let Some(done) = loops.join_next().await {
        let latency = done.map_err(|error| Failed::Failure(error.to_string()))??;
        all.add(&latency).expect("both have the same bounds");
    }
    *published += all.len();
    Ok((all, started.elapsed()))
}

async fn publish_in_turn(mut single: impl Single, value: Bytes, end: End) -> Result<Histogram<u64>, Failed> {
    let mut latency = histogram();
    while !end.is_reached(latency.len()) {
        let sent = Instant::now();
        single.publish(value.clone()).await?;
        latency.saturating_record(nanos(sent.elapsed()));
    }
    Ok(latency)
}

/// Everything that was acknowledged is there, or it is an error.
async fn read_back<S: System>(system: &S, wanted: u64) -> Result<Measured, Failed> {
    let started = Instant::now();
    let mut follower = system.follow(From::Earliest).await?;
    let records = read_until(&mut follower, wanted, |_| true).await?;
    Ok(Measured::rate(records, started.elapsed()))
}

/// Reads until so many values were wanted by `is_one`.
async fn read_until(
    follower: &mut impl Follower,
    wanted: u64,
    mut is_one: impl FnMut(&[u8]) -> bool + Send,
) -> Result<u64, Failed> {
    let mut count = 0;
    let mut progressed = Instant::now();
    while count < wanted {
        let before = count;
        let next = timeout(PATIENCE, follower.next(&mut |value| count += u64::from(is_one(value)))).await;
        if let Ok(done) = next {
            done?;
        }
        if count > before {
            progressed = Instant::now();
        } else if progressed.elapsed() >= PATIENCE {
            return Err(Failed::Failure(format!(
                "{wanted} records were acknowledged, but only {count} were read, and no more came for {PATIENCE:?}"
            )));
        }
    }
    Ok(count)
}

async fn end_to_end<S: System>(system: &S, job: &Job, published: &mut u64) -> Result<Measured, Failed> {
    let follower = system.follow(From::Latest).await?;
    let mut pipeline = system.pipeline().await?;
    let stamp = Stamp { mark: uuid::Uuid::new_v4().as_u64_pair().0, base: Instant::now() };
    let milliseconds = u64::try_from(job.duration.as_millis()).unwrap_or(u64::MAX);
    let records = (PACE * milliseconds / 1000).max(1) + WARM_UP;
    // Ends with this function, however it ends.
    let mut reader = JoinSet::new();
    reader.spawn(read_stamps(follower, stamp, records));
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(PACE).expect("a thousand"));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..records {
        let due = ticks.tick().await;
        let now = Instant::now();
        let sent = if now - due > PACE_SLACK { due } else { now };
        pipeline.send(stamp.on(&job.value, sent)).await?;
        pipeline.push().await?;
    }
    pipeline.finish().await?;
    *published += records;
    let latency = reader.join_next().await.expect("it was spawned");
    Ok(Measured::latency(&latency.map_err(|error| Failed::Failure(error.to_string()))??))
}

async fn read_stamps(
    mut follower: impl Follower,
    stamp: Stamp,
    records: u64,
) -> Result<Histogram<u64>, Failed> {
    let mut latency = histogram();
    let mut seen = 0;
    let is_one = |value: &[u8]| {
        // Others may publish into the topic meanwhile.
        let Some(taken) = stamp.age(value) else { return false };
        seen += 1;
        if seen > WARM_UP {
            latency.saturating_record(nanos(taken));
        }
        true
    };
    read_until(&mut follower, records, is_one).await?;
    Ok(latency)
}

/// Tells from a value when it was sent.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    mark: u64,
    base: Instant,
}

impl Stamp {
    fn on(self, value: &[u8], sent: Instant) -> Bytes {
        let mut stamped = BytesMut::with_capacity(value.len().max(STAMP_BYTES));
        stamped.put_u64(self.mark);
        stamped.put_u64(nanos(sent.saturating_duration_since(self.base)));
        stamped.put_slice(value.get(STAMP_BYTES..).unwrap_or_default());
        stamped.freeze()
    }

    fn age(self, value: &[u8]) -> Option<Duration> {
        let (mark, rest) = value.split_first_chunk::<8>()?;
        let (sent, _) = rest.split_first_chunk::<8>()?;
        let sent = Duration::from_nanos(u64::from_be_bytes(*sent));
        (u64::from_be_bytes(*mark) == self.mark).then(|| self.base.elapsed().saturating_sub(sent))
    }
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
