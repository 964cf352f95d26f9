//! `cargo xtask simulate`: worlds of the simulator from new seeds, as many as there is time for, and what they reached.
//!
//! Owns which seeds run where and the report. What happens in a world is `core/tests/simulation`'s.

mod worlds;

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use clap::Args;

use crate::report;
use crate::workspace::Workspace;
pub(crate) use worlds::{Batch, Failure, Simulator, Totals, failing};

/// Seeds that one process runs before another takes its place: a progress line every few seconds.
const CHUNK: u64 = 100;

/// `cargo xtask simulate`
#[derive(Args)]
pub(crate) struct Arguments {
    /// How many seeds, from one that the time gives
    #[arg(long, value_name = "N", default_value_t = 1000, conflicts_with = "seed")]
    seeds: u64,
    /// The first seed, instead of one that the time gives
    #[arg(long, value_name = "S", conflicts_with = "seed")]
    first: Option<u64>,
    /// Only this seed, with its story
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Blows of that seed's world that do not fall, as a failure names them
    #[arg(long, value_name = "NUMBERS", requires = "seed")]
    spare: Option<String>,
    /// Lines of the story
    #[arg(long, value_name = "N", default_value_t = 80)]
    lines: u32,
    /// The daily business of clients and appends too
    #[arg(long, requires = "seed")]
    whole: bool,
    /// As many seeds as fit in this time, instead of a number of them: 90s, 2m, 1h
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, conflicts_with_all = ["seed", "seeds"])]
    time: Option<Duration>,
    /// Processes at once; as many as there are processors if not given
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Write what was reached into docs/simulator.md
    #[arg(long)]
    report: bool,
}

/// A whole number with a unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wanted = || format!("{text:?} is not a duration such as 90s, 2m or 1h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wanted)?;
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(wanted()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wanted)
}

/// Runs them, and fails at the first violation.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let simulator = Simulator::build(&workspace)?;
    if let Some(seed) = arguments.seed {
        return simulator.tell(seed, arguments.spare.as_deref(), arguments.lines, arguments.whole);
    }
    let first = arguments.first.unwrap_or_else(seed_of_now);
    let batch = Batch {
        first,
        seeds: if arguments.time.is_some() { u64::MAX - first } else { arguments.seeds },
        time: arguments.time,
        chunk: CHUNK,
        jobs: arguments.jobs.unwrap_or_else(processors),
        lines: arguments.lines,
    };
    println!("seeds from {first} on, {} at once", batch.jobs);
    let outcome = simulator.run(&batch, &|done, totals, took| {
        println!("{}", progress(done, totals, took));
    })?;
    if let Some(Failure { text, .. }) = outcome.failure {
        println!("{text}");
        bail!("a promise was broken, after {} seeds that kept theirs", outcome.seeds);
    }
    println!("\n{}", outcome.totals.table());
    println!("{} seeds from {first} on, no violation, {} s", outcome.seeds, outcome.took.as_secs());
    if arguments.report {
        let text = format!(
            "{} seeds from {first} on, {} s on {} processors, no violation.\n\n{}",
            outcome.seeds,
            outcome.took.as_secs(),
            batch.jobs,
            outcome.totals.markdown()
        );
        report::write(&workspace, "simulate", &text)?;
    }
    Ok(())
}

/// Seeds that no commit before had, for `cargo xtask test`; gives the remark for its table. The commit chooses them: whoever runs a
/// red commit again sees it red again.
pub(crate) fn run_new(workspace: &Workspace, seeds: u64) -> Result<String> {
    let simulator = Simulator::build(workspace)?;
    let first = seed_of_commit(workspace).unwrap_or_else(seed_of_now);
    println!("{seeds} seeds from {first} on");
    let batch = Batch { first, seeds, time: None, chunk: CHUNK, jobs: processors(), lines: 80 };
    let outcome =
        simulator.run(&batch, &|done, totals, took| println!("{}", progress(done, totals, took)))?;
    if let Some(Failure { text, .. }) = outcome.failure {
        bail!("{text}");
    }
    println!("{}", outcome.totals.table());
    Ok(format!("{} seeds from {first} on", outcome.seeds))
}

/// Twelve digits of the newest commit's name; none outside of a repository.
fn seed_of_commit(workspace: &Workspace) -> Option<u64> {
    let mut git = Command::new("git");
    let name = git.current_dir(workspace.root()).args(["rev-parse", "HEAD"]).output().ok()?;
    let name = String::from_utf8(name.stdout).ok()?;
    u64::from_str_radix(name.get(..12)?, 16).ok()
}

fn progress(done: u64, totals: &Totals, took: Duration) -> String {
    let figures = ["terms opened", "logs cut", "joint entries", "rebuilds of the table", "crashes"];
    let figures: Vec<String> = figures.iter().map(|what| format!("{what} {}", totals.of(what))).collect();
    format!("{:>4} s: {done} seeds; {}", took.as_secs(), figures.join(", "))
}

/// Milliseconds since 1970: no two runs begin with the same one.
fn seed_of_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}

pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::duration;

    #[test]
    fn a_duration_is_a_whole_number_with_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        assert_eq!(duration("1h"), Ok(Duration::from_hours(1)));
        for text in ["", "s", "2", "1.5h", "2d", "99999999999999999999h", "ü"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
