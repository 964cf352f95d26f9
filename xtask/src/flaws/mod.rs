//! `cargo xtask flaws`: each patch of `core/tests/flaws` plants one flaw into a copy of core. A simulator that finds none of
//! them would prove nothing; a flaw that gets through is a missing check.

mod copy;
mod patch;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::report;
use crate::simulate::{Batch, Failure, Simulator, processors};
use crate::workspace::Workspace;
use copy::Copy;
use patch::Patch;

/// `cargo xtask flaws`
#[derive(Args)]
pub(crate) struct Arguments {
    /// Only these flaws, by the names of their files
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// Seeds to try for each flaw at most
    #[arg(long, value_name = "N", default_value_t = 4000)]
    seeds: u64,
    /// Processes at once; as many as there are processors if not given
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Write the table into docs/simulator.md
    #[arg(long, conflicts_with = "only")]
    report: bool,
}

/// What found a flaw.
struct Caught {
    /// Of the simulator's directed tests.
    directed: Vec<String>,
    /// The first seed that broke a promise, and which.
    seed: Option<(u64, String)>,
    /// Of the unit tests; only asked if nothing else found it.
    units: Vec<String>,
    took: Duration,
}

impl Caught {
    fn is_caught(&self) -> bool {
        !self.directed.is_empty() || self.seed.is_some() || !self.units.is_empty()
    }
}

/// Tries each, and fails if one gets through.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let workspace = Workspace::locate()?;
    let patches = patch::all(&workspace)?;
    if let Some(unknown) = arguments.only.iter().find(|name| !patches.iter().any(|one| one.name == **name)) {
        bail!("no flaw is called {unknown}: the names are those of the files in {}", patch::FOLDER);
    }
    let chosen = |patch: &&Patch| arguments.only.is_empty() || arguments.only.contains(&patch.name);
    let copy = Copy::of(&workspace)?;
    let mut rows = Vec::new();
    for patch in patches.iter().filter(chosen) {
        println!("=== {}: {}", patch.name, patch.breaks);
        let caught = plant(&copy, patch, arguments)?;
        println!("{}\n", said(&caught, arguments.seeds));
        rows.push((patch, caught));
    }
    copy.restore()?;
    if arguments.report {
        report::write(&workspace, "flaws", &table(&rows, arguments.seeds))?;
    }
    let through: Vec<&str> =
        rows.iter().filter(|(_, caught)| !caught.is_caught()).map(|(patch, _)| patch.name.as_str()).collect();
    if !through.is_empty() {
        bail!("{} of {} flaws got through: {}", through.len(), rows.len(), through.join(", "));
    }
    println!("{} flaws, all caught", rows.len());
    Ok(())
}

fn plant(copy: &Copy, patch: &Patch, arguments: &Arguments) -> Result<Caught> {
    let started = Instant::now();
    copy.restore()?;
    copy.apply(patch)?;
    let simulator = Simulator::build_by(&mut copy.cargo("test"))?;
    let directed = simulator.directed()?;
    let batch = Batch {
        first: 0,
        seeds: arguments.seeds,
        time: None,
        // Small: the first seed that finds it is wanted, and most are found soon.
        chunk: 20,
        jobs: arguments.jobs.unwrap_or_else(processors),
        lines: 0,
    };
    let outcome = simulator.run(&batch, &|_, _, _| {})?;
    let violation = |text: String| text.lines().next().unwrap_or_default().to_owned();
    let seed = outcome.failure.map(|Failure { seed, text }| (seed, violation(text)));
    let mut caught = Caught { directed, seed, units: Vec::new(), took: Duration::ZERO };
    if !caught.is_caught() {
        caught.units = copy.failing_units()?;
    }
    caught.took = started.elapsed();
    Ok(caught)
}

fn said(caught: &Caught, limit: u64) -> String {
    let mut said = Vec::new();
    if let Some((seed, violation)) = &caught.seed {
        said.push(format!("seed {seed} of the worlds from 0 on ({violation})"));
    }
    said.extend(caught.directed.iter().map(|name| format!("test {name}")));
    said.extend(caught.units.iter().map(|name| format!("unit test {name}")));
    if said.is_empty() {
        return format!("NOT CAUGHT, by {limit} seeds neither");
    }
    format!("caught by {}; {} s", said.join("; "), caught.took.as_secs())
}

fn table(rows: &[(&Patch, Caught)], limit: u64) -> String {
    let mut text = format!("{} flaws, at most {limit} seeds each.\n\n", rows.len());
    text.push_str("| flaw | what it breaks | seeds until caught | violation | directed tests | time |\n");
    text.push_str("| --- | --- | ---: | --- | --- | ---: |\n");
    for (patch, caught) in rows {
        let (seeds, violation) = match &caught.seed {
            Some((seed, violation)) => ((seed + 1).to_string(), shortened(violation)),
            None => (format!("> {limit}"), String::new()),
        };
        let short = |name: &String| name.rsplit("::").next().unwrap_or(name).replace('_', " ");
        let mut tests: Vec<String> = caught.directed.iter().map(short).collect();
        tests.extend(caught.units.iter().map(|name| format!("{} (unit)", short(name))));
        let tests = if caught.is_caught() { tests.join("; ") } else { "**NOT CAUGHT**".to_owned() };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {seeds} | {violation} | {tests} | {} s |",
            patch.name,
            patch.breaks,
            caught.took.as_secs()
        );
    }
    text
}

/// The violation without seed, time and names of this run.
fn shortened(violation: &str) -> String {
    let text = violation.split_once(": ").map_or(violation, |(_, text)| text);
    let text = match text.split_once(" ms: ") {
        Some((at, text)) if at.starts_with("at ") => text,
        _ => text,
    };
    let short: String = text.chars().take(90).collect();
    short.replace('|', "/")
}
