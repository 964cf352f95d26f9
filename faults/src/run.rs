//! One run: start, blow after blow with settling between them, a last look from every side, the report.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use rand::RngExt;
use tokio::time::Instant;

use crate::arguments::Arguments;
use crate::blows::{self, Field, Kind, Schedule};
use crate::cluster::{Cluster, EVENTS};
use crate::examine;
use crate::outcome::Outcome;
use crate::report;
use crate::room;
use crate::round::Round;
use crate::settle::{self, Ends};
use crate::story::Story;

/// The whole log is read back after so many blows.
const EXAMINE_EVERY: u32 = 10;
/// After so many a Cluster of empty brokers takes the place of the old one: a log that only grows makes each volume that is learnt
/// anew slower, and fills the disk.
const ROUND: u32 = 200;

/// Runs; `false` if something was violated.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    room::furnish(arguments.brokers)?;
    let folder = &arguments.data;
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("could not empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    let story = Arc::new(Story::begin(&folder.join("story.txt"))?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            outcome = Run::whole(arguments, &story) => outcome,
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    })
}

struct Run {
    round: Round,
    schedule: Schedule,
    /// The blows so far.
    number: u32,
    outcome: Outcome,
    story: Arc<Story>,
    command: String,
    seed: u64,
    began: Instant,
}

impl Run {
    async fn whole(arguments: &Arguments, story: &Arc<Story>) -> Result<bool> {
        let seed = arguments.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
        story.say(&format!("seed {seed}, data and logs in {}", arguments.data.display()));
        let round = Round::begin(arguments, story, seed).await?;
        let mut run = Self {
            schedule: Schedule::new(seed, kinds(arguments, &round.cluster)?, arguments.brokers),
            round,
            number: 0,
            outcome: Outcome::default(),
            story: Arc::clone(story),
            command: replay(arguments, seed),
            seed,
            began: Instant::now(),
        };
        loop {
            let (leaders, observer) = (Arc::clone(&run.round.leaders), run.round.observer.clone());
            let ended = tokio::select! {
                ended = run.blows(arguments) => ended,
                () = leaders.watch(&observer) => Ok(()),
            };
            if let Err(error) = ended {
                run.outcome.violations.push(format!("{error:#}"));
            }
            run.outcome.violations.extend(run.round.book.violations());
            if run.is_over(arguments) || !run.outcome.violations.is_empty() {
                return run.conclude(arguments);
            }
            run = run.go_on(arguments).await?;
        }
    }

    fn is_over(&self, arguments: &Arguments) -> bool {
        arguments.span().is_some_and(|span| self.began.elapsed() >= span)
            || arguments.blows.is_some_and(|most| self.number >= most)
    }

    /// With another Cluster.
    async fn go_on(self, arguments: &Arguments) -> Result<Self> {
        let Self { round, mut outcome, number, story, .. } = self;
        outcome.finish(&round.book.counts(), round.leaders.changes());
        round.end(&arguments.data).await?;
        let seed = self.seed.wrapping_add(u64::from(number / ROUND));
        let round = Round::begin(arguments, &story, seed).await?;
        Ok(Self { round, number, outcome, story, ..self })
    }

    /// Those of one round.
    async fn blows(&mut self, arguments: &Arguments) -> Result<()> {
        let Round { cluster, load, book, .. } = &mut self.round;
        let settled = settle::settle(cluster, load, book, Ends::Unexplained).await?;
        self.story.say(&format!(
            "{} brokers are ready after {:.1} s",
            arguments.brokers,
            settled.as_secs_f64()
        ));
        while !self.is_over(arguments) {
            self.number += 1;
            self.blow().await?;
            if self.number.is_multiple_of(EXAMINE_EVERY) {
                self.examine().await?;
                // A run that is interrupted leaves its figures.
                self.write(arguments)?;
            }
            if self.number.is_multiple_of(ROUND) {
                break;
            }
        }
        self.last_look().await
    }

    async fn blow(&mut self) -> Result<()> {
        let number = self.number;
        let mut blow = self.schedule.next();
        if blow.kind.destroys() && self.round.cluster.holder_of_alone().await? == blow.target {
            std::mem::swap(&mut blow.target, &mut blow.other);
        }
        self.round.book.take_waits();
        self.story.note(&format!("#{number} {blow}"));
        let Round { cluster, load, book, .. } = &mut self.round;
        let mut field = Field { cluster, book, refusals: &mut self.outcome.refusals };
        blows::strike(&mut field, &blow).await.with_context(|| format!("blow {number}: {blow}"))?;
        self.story.note(&format!("#{number} has fallen"));
        let settling = settle::settle(cluster, load, book, blow.kind.ends());
        let settled = settling.await.with_context(|| format!("after blow {number}: {blow}"))?;
        let stall = self.round.book.take_waits().get(EVENTS).copied().unwrap_or_default();
        self.outcome.blow(blow.kind, stall, settled);
        self.story.say(&format!(
            "#{number:<4} {blow}: stall {:.2} s, settled in {:.1} s",
            stall.as_secs_f64(),
            settled.as_secs_f64()
        ));
        self.check(&format!("blow {number}: {blow}"))
    }

    /// Ends the run at the first violation: what comes after it only covers it up.
    fn check(&mut self, after: &str) -> Result<()> {
        let violations = self.round.book.violations();
        if violations.is_empty() {
            return Ok(());
        }
        self.outcome.violations.extend(violations);
        bail!("seen after {after}")
    }

    async fn examine(&mut self) -> Result<()> {
        let began = Instant::now();
        let count = examine::read_back(&self.round.cluster, &self.round.book).await?;
        self.outcome.examinations += 1;
        self.story.say(&format!("      {count} records read back in {:.1} s", began.elapsed().as_secs_f64()));
        self.check("reading everything back")
    }

    /// Each broker once away, so that each partition is read from others too.
    async fn last_look(&mut self) -> Result<()> {
        self.round.load.stop_writing();
        self.examine().await?;
        for index in 0..self.round.cluster.brokers.len() {
            let broker = &mut self.round.cluster.brokers[index];
            let how = broker.terminate().await?;
            broker.start()?;
            self.story.note(&format!("broker {index} {how}"));
            self.examine().await?;
            let Round { cluster, load, book, .. } = &mut self.round;
            settle::settle(cluster, load, book, Ends::Unexplained).await?;
        }
        Ok(())
    }

    /// Writes the report of what has been so far beside the data.
    fn write(&self, arguments: &Arguments) -> Result<String> {
        let mut sum = self.outcome.clone();
        sum.finish(&self.round.book.counts(), self.round.leaders.changes());
        let setting = report::Setting {
            command: self.command.clone(),
            brokers: arguments.brokers,
            round: ROUND,
            span: self.began.elapsed(),
        };
        let text = report::text(&setting, &sum);
        let path = arguments.data.join("report.md");
        fs::write(&path, &text).with_context(|| format!("could not write {}", path.display()))?;
        Ok(text)
    }

    fn conclude(&self, arguments: &Arguments) -> Result<bool> {
        let text = self.write(arguments)?;
        println!("\n{text}");
        if self.outcome.violations.is_empty() {
            if let Some(path) = &arguments.report {
                fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
            }
            return Ok(true);
        }
        println!("story, logs and volumes are kept in {}", arguments.data.display());
        println!("the same schedule again: {}", self.command);
        Ok(false)
    }
}

/// What may fall here.
fn kinds(arguments: &Arguments, cluster: &Cluster) -> Result<Vec<Kind>> {
    let wished = if arguments.kinds.is_empty() { Kind::value_variants() } else { &arguments.kinds[..] };
    let is_possible = |kind: &&Kind| cluster.has_file_systems || !kind.needs_file_systems();
    let kinds: Vec<Kind> = wished.iter().filter(is_possible).copied().collect();
    ensure!(!kinds.is_empty(), "none of these kinds is possible here");
    Ok(kinds)
}

/// The command that gives the same schedule.
fn replay(arguments: &Arguments, seed: u64) -> String {
    let mut command = format!("cargo xtask faults --seed {seed}");
    if let Some(span) = arguments.span() {
        let _ = write!(command, " --for {}", humantime::format_duration(span));
    }
    if !arguments.kinds.is_empty() {
        let names = arguments.kinds.iter().filter_map(ValueEnum::to_possible_value);
        let names: Vec<String> = names.map(|name| name.get_name().to_owned()).collect();
        let _ = write!(command, " --kinds {}", names.join(","));
    }
    if arguments.brokers != 3 {
        let _ = write!(command, " --brokers {}", arguments.brokers);
    }
    if let Some(most) = arguments.blows {
        let _ = write!(command, " --blows {most}");
    }
    command
}
