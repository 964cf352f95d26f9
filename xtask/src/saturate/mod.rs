//! `cargo xtask saturate`: one broker in a limit of memory is published to with all that the machine gives, while retention takes
//! away what is old.
//!
//! Owns what is measured of that, span by span, and what is wished of it.

mod cage;
mod probe;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::cage::Cage;
use self::probe::Probe;
use crate::alone::{Broker, Much, Resources};
use crate::background;
use crate::machine;
use crate::rows::{float, mebibytes, milliseconds, row, table};
use crate::simulate::duration;
use crate::workspace::{Measured, Workspace};

/// `cargo xtask saturate`
#[derive(Args)]
pub(crate) struct Arguments {
    /// For how long, such as 10m or 1h
    #[arg(long = "for", default_value = "1h", value_parser = duration, value_name = "TIME")]
    time: Duration,
    /// How often is told how it goes
    #[arg(long, default_value = "1m", value_parser = duration, value_name = "TIME")]
    every: Duration,
    /// The broker's limit of memory, in MiB: enforced by a control group, the system's pages of its files included
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(64..=65_536), value_name = "MIB")]
    memory: u64,
    /// What is kept of its one partition, in MiB
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1_048_576), value_name = "MIB")]
    retention: u64,
}

/// How long, and in what.
struct Extent {
    time: Duration,
    every: Duration,
    memory: u64,
    retention: u64,
    is_caged: bool,
}

/// One span of time.
struct Span {
    bytes_per_second: f64,
    /// What the data folder takes of its disk.
    files: u64,
    /// What single publishes took, the shortest first.
    took: Vec<Duration>,
}

/// Builds what is published, and publishes.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { time, every, memory, retention } = *arguments;
    ensure!(
        time >= every * 3,
        "--for: at least three times as long as --every, for one span to be seen beside others"
    );
    let workspace = Workspace::locate()?;
    let programs = workspace.build_measured()?;
    let extent = Extent { time, every, memory, retention, is_caged: true };
    println!("{}; load {} before", machine::described(), machine::load());
    println!("{}", measured(&workspace, &programs, &extent)?);
    Ok(())
}

/// A few seconds by the binaries that the tests use, in no control group: it goes on to the end, and every figure is there.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let (time, every) = (Duration::from_secs(6), Duration::from_secs(2));
    let extent = Extent { time, every, memory: 256, retention: 16, is_caged: false };
    measured(workspace, &workspace.tested(), &extent)
}

fn measured(workspace: &Workspace, programs: &Measured, extent: &Extent) -> Result<String> {
    let Extent { time, every, memory, retention, is_caged } = *extent;
    let folder = workspace.target().join("saturate");
    background::make_anew(&folder)?;
    let cage = is_caged.then(|| Cage::new(memory << 20)).transpose()?;
    let cluster = format!(
        ", resources: {{requests: {{cpu: 100m, memory: {memory}Mi}}, limits: {{memory: {memory}Mi}}}}"
    );
    let topic = format!(", retention: {{bytesPerPartition: {retention}Mi}}");
    let resources = Resources { partitions: &[1], cluster: &cluster, topic: &topic };
    let broker = Broker::start(programs, &folder, &resources)?;
    if let Some(cage) = &cage {
        cage.take(broker.process())?;
    }
    let (process, probe) = (broker.process(), Probe::start(broker.http()));
    let (mut spans, mut most) = (Vec::new(), 0);
    let (mut since, mut before) = (Instant::now(), taken(&broker)?);
    println!(
        "| after | MB/s | a single publish, p50 ms | p99 | p99.9 | resident, MiB | files, MiB |\n| --- | --- | --- | --- | --- | --- | --- |"
    );
    let started = Instant::now();
    let published = broker.publish(Much::Until(started + time), None, || {
        ensure!(Path::new(&format!("/proc/{process}")).exists(), "the broker has ended");
        most = most.max(broker.memory_bytes()?);
        if since.elapsed() < every {
            return Ok(());
        }
        let now = taken(&broker)?;
        let bytes_per_second = float(now - before) / since.elapsed().as_secs_f64();
        let (took, files) = (probe.sorted()?, on_disk(&folder.join("data"))?);
        println!(
            "| {} s | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} | {:.0} |",
            started.elapsed().as_secs(),
            bytes_per_second / 1e6,
            at(&took, 0.5),
            at(&took, 0.99),
            at(&took, 0.999),
            mebibytes(broker.memory_bytes()?),
            mebibytes(files)
        );
        spans.push(Span { bytes_per_second, files, took });
        (since, before) = (Instant::now(), now);
        Ok(())
    });
    if let (Err(_), Some(cage)) = (&published, &cage) {
        println!("killed for want of memory: {} times", cage.kills()?);
    }
    published?;
    probe.stop()?;
    let text = told(&spans, most, cage.as_ref())?;
    drop(broker);
    drop(cage);
    background::remove(&folder)?;
    Ok(text)
}

fn told(spans: &[Span], most: u64, cage: Option<&Cage>) -> Result<String> {
    ensure!(!spans.is_empty(), "nothing was measured");
    let mut rates: Vec<f64> = spans.iter().map(|span| span.bytes_per_second / 1e6).collect();
    rates.sort_unstable_by(f64::total_cmp);
    let (lowest, median, highest) = (rates[0], rates[rates.len() / 2], rates[rates.len() - 1]);
    ensure!(lowest > 0.0, "there was a span in which nothing was acknowledged");
    let furthest = (highest - median).max(median - lowest) / median * 100.0;
    let mut all: Vec<Duration> = spans.iter().flat_map(|span| span.took.iter().copied()).collect();
    all.sort_unstable();
    ensure!(!all.is_empty(), "no single publish was acknowledged");
    let files = spans.iter().map(|span| span.files).max().unwrap_or(0);
    let mut rows = vec![
        row("batches, median of the spans", median, "MB/s", None),
        row("the furthest span from it", furthest, "%", Some(10.0)),
        row("a single publish beside them, p50", at(&all, 0.5), "ms", None),
        row("p99", at(&all, 0.99), "ms", None),
        row("p99.9", at(&all, 0.999), "ms", None),
        row("resident at most", mebibytes(most), "MiB", None),
        row("files at most", mebibytes(files), "MiB", None),
    ];
    if let Some(cage) = cage {
        rows.push(row("killed for want of memory", float(cage.kills()?), "times", Some(0.0)));
    }
    Ok(table(&rows))
}

/// Bytes of batches that it has taken.
fn taken(broker: &Broker<'_>) -> Result<u64> {
    broker.http().counter("fulmar_batch_bytes_total")
}

/// What so many of sorted times do not exceed, in milliseconds.
fn at(sorted: &[Duration], part: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of what there is")]
    let place = (float(sorted.len() as u64) * part) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().map_or(0.0, milliseconds)
}

/// What a folder takes of its disk.
fn on_disk(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    let entries = fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    for entry in entries {
        let path = entry.context("could not read a folder")?.path();
        // A file may go while it is looked at.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        bytes += if metadata.is_dir() { on_disk(&path)? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
