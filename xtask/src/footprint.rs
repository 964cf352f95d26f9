//! `cargo xtask footprint`: what one broker takes, alone on this machine.
//!
//! Owns what is measured, what is wished of it, and the table of `docs/performance.md`.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::alone::{Broker, Much, Resources, VALUE_BYTES};
use crate::background;
use crate::machine;
use crate::rows::{Row, float, mebibytes, milliseconds, row, table};
use crate::workspace::{Measured, Workspace};

/// A broker that is ready has things to put in order for a moment.
const SETTLE: Duration = Duration::from_secs(5);

/// A topic has at most 1,024.
const PARTITIONS_OF_TOPIC: u32 = 1_000;

/// `cargo xtask footprint`
#[derive(Args)]
pub(crate) struct Arguments {
    /// How long 100,000 records of 1 KiB a second are published, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// How many GiB the broker has that is killed and comes back
    #[arg(long, default_value_t = 10)]
    gib: u64,
}

/// How much of each.
struct Extent {
    settle: Duration,
    restarts: u32,
    trickle: u64,
    trickle_rate: u32,
    batches: u64,
    load: u64,
    load_rate: u32,
    log: u64,
    partitions: u32,
}

/// Builds what is published, measures, and prints the table.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let programs = workspace.build_measured()?;
    let extent = Extent {
        settle: SETTLE,
        restarts: 3,
        trickle: 2_000,
        trickle_rate: 200,
        batches: 256 * 1024,
        load: 100_000 * u64::from(arguments.seconds),
        load_rate: 100_000,
        log: arguments.gib * 1024 * 1024,
        partitions: 10_000,
    };
    let before = machine::load();
    let rows = measured(&workspace, &programs, &extent)?;
    println!("{}; load {before} before, {} after\n\n{}", machine::described(), machine::load(), table(&rows));
    Ok(())
}

/// A little of each by the binaries that the tests use: every figure is there. Nothing is said of how much it is.
pub(crate) fn check(workspace: &Workspace) -> Result<String> {
    let extent = Extent {
        settle: Duration::ZERO,
        restarts: 1,
        trickle: 20,
        trickle_rate: 200,
        batches: 4 * 1024,
        load: 2_000,
        load_rate: 2_000,
        log: 4 * 1024,
        partitions: 20,
    };
    let rows = measured(workspace, &workspace.tested(), &extent)?;
    for Row { what, figure, .. } in &rows {
        ensure!(figure.is_finite() && *figure > 0.0, "{what}: there is no figure");
    }
    Ok(format!("footprint: {} rows", rows.len()))
}

fn measured(workspace: &Workspace, programs: &Measured, extent: &Extent) -> Result<Vec<Row>> {
    let folder = workspace.target().join("footprint");
    background::make_anew(&folder)?;
    let mut rows = of_one_partition(programs, &folder.join("one"), extent)?;
    background::remove(&folder.join("one"))?;
    rows.push(of_partitions(programs, &folder.join("many"), extent)?);
    background::remove(&folder)?;
    Ok(rows)
}

fn of_one_partition(programs: &Measured, folder: &Path, extent: &Extent) -> Result<Vec<Row>> {
    let mut broker =
        Broker::start(programs, folder, &Resources { partitions: &[1], ..Resources::default() })?;
    thread::sleep(extent.settle);
    let mut rows =
        vec![row("memory at rest, one partition", mebibytes(broker.memory_bytes()?), "MiB", Some(15.0))];

    let mut times = Vec::new();
    for _ in 0..extent.restarts {
        times.push(broker.killed()?.listening);
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    rows.push(row("from its start to listening", milliseconds(median), "ms", Some(100.0)));

    let trickle = ratio(&broker, extent.trickle, Some(extent.trickle_rate))?;
    let what =
        format!("bytes written for each of the payload, {} records of 1 KiB a second", extent.trickle_rate);
    rows.push(row(&what, trickle, "×", Some(5.0)));
    let batches = ratio(&broker, extent.batches, None)?;
    rows.push(row("bytes written for each of the payload, batches", batches, "×", Some(2.5)));

    let mut most = 0;
    let took = broker.publish(Much::Records(extent.load), Some(extent.load_rate), || {
        most = most.max(broker.memory_bytes()?);
        Ok(())
    })?;
    let rate = float(extent.load) / took.as_secs_f64();
    let what = format!("memory at most, {rate:.0} of {} records of 1 KiB a second", extent.load_rate);
    rows.push(row(&what, mebibytes(most.max(broker.memory_bytes()?)), "MiB", Some(64.0)));

    broker.publish(Much::Records(extent.log), None, || Ok(()))?;
    let published = extent.trickle + extent.batches + extent.load + extent.log;
    let gigabytes = float(published * VALUE_BYTES as u64) / 1e9;
    let back = broker.killed()?;
    let what = format!("from its start to an acknowledgement, after kill -9 with {gigabytes:.1} GB");
    rows.push(row(&what, milliseconds(back.serving), "ms", Some(2_000.0)));
    Ok(rows)
}

fn of_partitions(programs: &Measured, folder: &Path, extent: &Extent) -> Result<Row> {
    let whole = extent.partitions / PARTITIONS_OF_TOPIC;
    let mut topics = vec![PARTITIONS_OF_TOPIC; whole as usize];
    topics.extend(Some(extent.partitions % PARTITIONS_OF_TOPIC).filter(|rest| *rest > 0));
    let broker = Broker::start(programs, folder, &Resources { partitions: &topics, ..Resources::default() })?;
    thread::sleep(extent.settle);
    let what = format!("memory at rest, {} partitions", extent.partitions);
    Ok(row(&what, mebibytes(broker.memory_bytes()?), "MiB", Some(100.0)))
}

/// Bytes written to disks for each byte of values that was published.
fn ratio(broker: &Broker<'_>, records: u64, rate: Option<u32>) -> Result<f64> {
    let before = broker.written_bytes()?;
    broker.publish(Much::Records(records), rate, || Ok(()))?;
    let written = broker.written_bytes()? - before;
    Ok(float(written) / float(records * VALUE_BYTES as u64))
}
