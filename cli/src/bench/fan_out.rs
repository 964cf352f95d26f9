//! Fan-out: what one tells, many hear.
//!
//! Owns the pace: who tells waits for the slowest who listens. A system without acknowledgements drops records when it is not waited
//! for, and dropping is no speed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::system::{Follower, Pipeline, System};
use super::work::{End, Job, Measured, PATIENCE};
use crate::exit::Failed;

/// Who listens, each on a connection of its own.
const LISTENERS: usize = 100;

/// Of each value, whatever `--size` is: fan-out is of small things.
const VALUE_BYTES: usize = 128;

/// How far the slowest may be behind, in records. Below what any of them drops at; far beyond what keeps all of them busy.
const BEHIND_MAX: u64 = 4096;

/// How often the slowest is looked for, in records.
const LOOK_EVERY: u64 = 256;

/// How long to wait before it is looked for again.
const LOOK_AGAIN_AFTER: Duration = Duration::from_micros(500);

/// Gives deliveries a second.
pub(super) async fn run<S: System>(system: &S, job: &Job) -> Result<Measured, Failed> {
    let mut listeners = Listeners::default();
    for _ in 0..LISTENERS {
        listeners.add(system.listen().await?);
    }
    let mut teller = system.tell().await?;
    let value: Bytes = job.value.iter().copied().cycle().take(VALUE_BYTES).collect();
    let job = Job { value: value.clone(), duration: job.duration, connections: job.connections };
    let started = Instant::now();
    let end = End::of(&job);
    let mut told = 0;
    while !end.is_reached(told) {
        teller.send(value.clone()).await?;
        told += 1;
        if told % LOOK_EVERY == 0 {
            teller.push().await?;
            listeners.wait_until_heard(told.saturating_sub(BEHIND_MAX)).await?;
        }
    }
    teller.finish().await?;
    listeners.wait_until_heard(told).await?;
    Ok(Measured::rate(told * LISTENERS as u64, started.elapsed()))
}

/// They stop listening when this is dropped.
#[derive(Default)]
struct Listeners {
    heard: Vec<Arc<AtomicU64>>,
    tasks: JoinSet<Result<(), Failed>>,
}

impl Listeners {
    fn add(&mut self, mut listener: impl Follower) {
        let heard = Arc::new(AtomicU64::new(0));
        self.heard.push(Arc::clone(&heard));
        self.tasks.spawn(async move {
            loop {
                let mut count = 0;
                listener.next(&mut |_| count += 1).await?;
                heard.fetch_add(count, Ordering::Relaxed);
            }
        });
    }

    fn slowest(&self) -> u64 {
        self.heard.iter().map(|heard| heard.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    async fn wait_until_heard(&mut self, wanted: u64) -> Result<(), Failed> {
        let mut slowest = self.slowest();
        let mut progressed = Instant::now();
        while slowest < wanted {
            // None of them ends by itself but by a failure.
            if let Some(ended) = self.tasks.try_join_next() {
                return ended.map_err(|error| Failed::Failure(error.to_string()))?;
            }
            sleep(LOOK_AGAIN_AFTER).await;
            let now = self.slowest();
            if now > slowest {
                (slowest, progressed) = (now, Instant::now());
            } else if progressed.elapsed() >= PATIENCE {
                return Err(Failed::Failure(format!(
                    "of {wanted} records one who listens heard only {slowest}, and no more for {PATIENCE:?}"
                )));
            }
        }
        Ok(())
    }
}
