//! Processes that run worlds: `core`'s simulation test, called with seeds in its environment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Workspace;

/// The compiled simulator.
pub(crate) struct Simulator {
    program: PathBuf,
    profiles: Option<PathBuf>,
}

/// Which seeds, for how long.
pub(crate) struct Batch {
    pub(crate) first: u64,
    pub(crate) seeds: u64,
    pub(crate) time: Option<Duration>,
    pub(crate) chunk: u64,
    pub(crate) jobs: usize,
    pub(crate) lines: u32,
}

/// What became of them.
pub(crate) struct Outcome {
    /// That kept their promises.
    pub(crate) seeds: u64,
    pub(crate) totals: Totals,
    pub(crate) took: Duration,
    pub(crate) failure: Option<Failure>,
}

/// A world that broke a promise.
pub(crate) struct Failure {
    pub(crate) seed: u64,
    /// What it said: the violation, the story, the command.
    pub(crate) text: String,
}

/// What was reached, how often.
#[derive(Default, Clone)]
pub(crate) struct Totals(BTreeMap<String, u64>);

impl Totals {
    pub(crate) fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    fn add(&mut self, json: &str) -> Result<()> {
        let one: BTreeMap<String, u64> =
            serde_json::from_str(json).with_context(|| format!("a world's totals are not JSON: {json}"))?;
        for (what, times) in one {
            *self.0.entry(what).or_default() += times;
        }
        Ok(())
    }

    /// For the terminal.
    pub(crate) fn table(&self) -> String {
        let width = self.0.keys().map(String::len).max().unwrap_or_default();
        let mut text = String::new();
        for (what, times) in &self.0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{what:<width$}  {times:>10}");
        }
        text
    }

    /// For a document.
    pub(crate) fn markdown(&self) -> String {
        let mut text = "| what | how often |\n| --- | ---: |\n".to_owned();
        for (what, times) in &self.0 {
            let _ = writeln!(text, "| {what} | {times} |");
        }
        text
    }
}

/// What a process that ran a chunk of seeds said.
struct Chunk {
    totals: Option<String>,
    failure: Option<Failure>,
}

impl Simulator {
    /// Compiles it in the workspace.
    pub(crate) fn build(workspace: &Workspace) -> Result<Self> {
        Self::build_by(&mut workspace.cargo("test"))
    }

    /// Compiles it with this cargo, which is about to `test`.
    pub(crate) fn build_by(cargo: &mut Command) -> Result<Self> {
        cargo.args(["--package", "fulmar-core", "--test", "simulation", "--no-run"]);
        let printed = process::output(cargo.args(["--message-format", "json-render-diagnostics"]))?;
        let messages =
            printed.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let is_simulation = |message: &serde_json::Value| {
            message["target"]["name"] == "simulation" && message["executable"].is_string()
        };
        let message = messages.into_iter().find(is_simulation);
        let program = message.and_then(|message| message["executable"].as_str().map(PathBuf::from));
        let program = program.context("cargo names no executable of the simulation")?;
        Ok(Self { program, profiles: None })
    }

    /// It was compiled with counters: each process leaves them in a file by this pattern.
    pub(crate) fn with_profiles(self, pattern: PathBuf) -> Self {
        Self { profiles: Some(pattern), ..self }
    }

    /// Where it lies.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    fn process(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.envs(self.profiles.as_ref().map(|pattern| ("LLVM_PROFILE_FILE", pattern)));
        command
    }

    fn command(&self, test: &str) -> Command {
        let mut command = self.process();
        command.args(["--ignored", "--exact", test, "--nocapture", "--test-threads=1"]);
        command.env("RUST_BACKTRACE", "0").stdin(Stdio::null());
        command
    }

    /// One seed, with its story.
    pub(crate) fn tell(&self, seed: u64, spare: Option<&str>, lines: u32, whole: bool) -> Result<()> {
        let mut command = self.command("one_world");
        command.env("FULMAR_SEED", seed.to_string()).env("FULMAR_LINES", lines.to_string());
        command.env("FULMAR_SPARE", spare.unwrap_or_default());
        if whole {
            command.env("FULMAR_WHOLE", "1");
        }
        process::run(&mut command)
    }

    /// The tests that are no worlds; the names of those that fail.
    pub(crate) fn directed(&self) -> Result<Vec<String>> {
        let mut command = self.process();
        command.args(["--skip", "one_world_after_the_other", "--skip", "the_same_seed"]);
        failing(command.env("RUST_BACKTRACE", "0"))
    }

    /// Runs seeds until one breaks a promise, or they are done, or the time is over.
    pub(crate) fn run(
        &self,
        batch: &Batch,
        told: &(dyn Fn(u64, &Totals, Duration) + Sync),
    ) -> Result<Outcome> {
        let started = Instant::now();
        let next = AtomicU64::new(0);
        let stops = AtomicBool::new(false);
        let sum = Mutex::new((0u64, Totals::default(), None::<Failure>, None::<anyhow::Error>));
        let work = || {
            while !stops.load(Ordering::Relaxed) && batch.time.is_none_or(|time| started.elapsed() < time) {
                let from = next.fetch_add(batch.chunk, Ordering::Relaxed);
                if from >= batch.seeds {
                    return;
                }
                let seeds = batch.chunk.min(batch.seeds - from);
                let chunk = self.chunk(batch.first + from, seeds, batch.lines);
                let mut sum = sum.lock().expect("nobody panics while holding it");
                match chunk.and_then(|chunk| {
                    if let Some(totals) = &chunk.totals {
                        sum.1.add(totals)?;
                        sum.0 += seeds;
                    }
                    Ok(chunk)
                }) {
                    Ok(Chunk { failure: None, .. }) => told(sum.0, &sum.1, started.elapsed()),
                    Ok(Chunk { failure: Some(failure), .. }) => {
                        stops.store(true, Ordering::Relaxed);
                        // Of two the lower seed, so that the answer does not depend on who was faster.
                        if sum.2.as_ref().is_none_or(|known| failure.seed < known.seed) {
                            sum.2 = Some(failure);
                        }
                    }
                    Err(error) => {
                        stops.store(true, Ordering::Relaxed);
                        sum.3 = Some(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..batch.jobs.max(1) {
                scope.spawn(work);
            }
        });
        let (seeds, totals, failure, error) = sum.into_inner().expect("nobody panics while holding it");
        match error {
            Some(error) => Err(error),
            None => Ok(Outcome { seeds, totals, took: started.elapsed(), failure }),
        }
    }

    fn chunk(&self, first: u64, seeds: u64, lines: u32) -> Result<Chunk> {
        let mut command = self.command("many_worlds");
        command.env("FULMAR_FIRST", first.to_string()).env("FULMAR_SEEDS", seeds.to_string());
        command.env("FULMAR_LINES", lines.to_string());
        let output =
            command.output().with_context(|| format!("could not start {}", process::line(&command)))?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        // The test harness begins a line with the test's name, and leaves it open.
        let after = |word: &'static str| {
            let lines = out.lines().rev();
            lines.filter_map(move |line| line.split_once(word).map(|(_, rest)| rest.to_owned()))
        };
        let totals = after("totals ").next();
        if output.status.success() {
            let totals = totals.context("the simulation said no totals")?;
            return Ok(Chunk { totals: Some(totals), failure: None });
        }
        let begun = after("begins ").find_map(|number| number.parse().ok());
        let Some(seed) = begun else { bail!("the simulation ended with {}: {err}", output.status) };
        // What the test says stands behind the line that the panic begins with; panics inside worlds stand before.
        let text = err.split_once(&format!("seed {seed}: ")).map_or(err.trim(), |(_, text)| text.trim());
        Ok(Chunk { totals: None, failure: Some(Failure { seed, text: format!("seed {seed}: {text}") }) })
    }
}

/// Runs a test program; the names of the tests that fail.
pub(crate) fn failing(command: &mut Command) -> Result<Vec<String>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not start {}", process::line(command)))?;
    let out = String::from_utf8_lossy(&output.stdout);
    let failed = |line: &str| Some(line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?.to_owned());
    let names: Vec<String> = out.lines().filter_map(failed).collect();
    if names.is_empty() && !output.status.success() {
        bail!("{} ended with {}: {out}", process::line(command), output.status);
    }
    Ok(names)
}
