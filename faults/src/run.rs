//! One run: start, blow after blow with settling between them, a last look from every side, the report.

use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use rand::RngExt;
use tokio::time::Instant;

use crate::arguments::Arguments;
use crate::blows::{self, Field, Kind, Schedule};
use crate::cluster::{Cluster, EVENTS, TOPICS};
use crate::examine;
use crate::leaders::Leaders;
use crate::load::Load;
use crate::load::book::Book;
use crate::outcome::Outcome;
use crate::report;
use crate::room;
use crate::settle::{self, Ends};
use crate::story::Story;

/// The whole log is read back after so many blows.
const EXAMINE_EVERY: u32 = 10;
/// A Cluster of empty brokers needs no longer to come up.
const FIRST_CLIENT_WITHIN: Duration = Duration::from_mins(3);

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
    cluster: Cluster,
    load: Load,
    book: Arc<Book>,
    outcome: Outcome,
    leaders: Arc<Leaders>,
    story: Arc<Story>,
    command: String,
    began: Instant,
}

impl Run {
    async fn whole(arguments: &Arguments, story: &Arc<Story>) -> Result<bool> {
        let seed = arguments.seed.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
        story.say(&format!("seed {seed}, data and logs in {}", arguments.data.display()));
        let cluster =
            Cluster::start(&arguments.data, &arguments.program, arguments.brokers, Arc::clone(story))?;
        let book = Arc::new(Book::default());
        let client = first_client(arguments.brokers).await?;
        let leaders = Arc::new(Leaders::default());
        let observer = Cluster::client(arguments.brokers).await?;
        let load = Load::start(&client, &book, story, seed).await?;
        let mut run = Self {
            cluster,
            load,
            book,
            outcome: Outcome::default(),
            leaders: Arc::clone(&leaders),
            story: Arc::clone(story),
            command: replay(arguments, seed),
            began: Instant::now(),
        };
        let ended = tokio::select! {
            ended = run.blows(arguments, seed) => ended,
            () = leaders.watch(&observer) => Ok(()),
        };
        if let Err(error) = ended {
            run.outcome.violations.push(format!("{error:#}"));
        }
        run.outcome.violations.extend(run.book.violations());
        run.conclude(arguments)
    }

    async fn blows(&mut self, arguments: &Arguments, seed: u64) -> Result<()> {
        let settled =
            settle::settle(&mut self.cluster, &mut self.load, &self.book, Ends::Unexplained).await?;
        self.story.say(&format!(
            "{} brokers are ready after {:.1} s",
            arguments.brokers,
            settled.as_secs_f64()
        ));
        let kinds = if arguments.kinds.is_empty() {
            Kind::value_variants().to_vec()
        } else {
            arguments.kinds.clone()
        };
        let is_possible = |kind: &Kind| self.cluster.has_file_systems || !kind.needs_file_systems();
        let kinds: Vec<Kind> = kinds.into_iter().filter(is_possible).collect();
        if kinds.is_empty() {
            bail!("none of these kinds is possible here");
        }
        let mut schedule = Schedule::new(seed, kinds, arguments.brokers);
        let began = Instant::now();
        let mut number = 0;
        while arguments.span().is_none_or(|span| began.elapsed() < span)
            && arguments.blows.is_none_or(|most| number < most)
        {
            number += 1;
            self.blow(number, &mut schedule).await?;
            if number.is_multiple_of(EXAMINE_EVERY) {
                self.examine().await?;
                // A run that is interrupted leaves its figures.
                self.write(arguments)?;
            }
        }
        self.last_look().await
    }

    async fn blow(&mut self, number: u32, schedule: &mut Schedule) -> Result<()> {
        let mut blow = schedule.next();
        if blow.kind.destroys() && self.cluster.holder_of_alone().await? == blow.target {
            std::mem::swap(&mut blow.target, &mut blow.other);
        }
        self.book.take_waits();
        self.story.note(&format!("#{number} {blow}"));
        let mut field =
            Field { cluster: &mut self.cluster, book: &self.book, refusals: &mut self.outcome.refusals };
        blows::strike(&mut field, &blow).await.with_context(|| format!("blow {number}: {blow}"))?;
        self.story.note(&format!("#{number} has fallen"));
        let settling = settle::settle(&mut self.cluster, &mut self.load, &self.book, blow.kind.ends());
        let settled = settling.await.with_context(|| format!("after blow {number}: {blow}"))?;
        let stall = self.book.take_waits().get(EVENTS).copied().unwrap_or_default();
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
        let violations = self.book.violations();
        if violations.is_empty() {
            return Ok(());
        }
        self.outcome.violations.extend(violations);
        bail!("seen after {after}")
    }

    async fn examine(&mut self) -> Result<()> {
        let began = Instant::now();
        let count = examine::read_back(&self.cluster, &self.book).await?;
        self.outcome.examinations += 1;
        self.story.say(&format!("      {count} records read back in {:.1} s", began.elapsed().as_secs_f64()));
        self.check("reading everything back")
    }

    /// Each broker once away, so that each partition is read from others too.
    async fn last_look(&mut self) -> Result<()> {
        self.load.stop_writing();
        self.examine().await?;
        for index in 0..self.cluster.brokers.len() {
            let how = self.cluster.brokers[index].terminate().await?;
            self.story.note(&format!("broker {index} {how}"));
            self.cluster.brokers[index].start()?;
            self.examine().await?;
            settle::settle(&mut self.cluster, &mut self.load, &self.book, Ends::Unexplained).await?;
        }
        Ok(())
    }

    /// Writes the report of what has been so far beside the data.
    fn write(&mut self, arguments: &Arguments) -> Result<String> {
        self.outcome.leader_changes = self.leaders.changes();
        let setting = report::Setting {
            command: self.command.clone(),
            brokers: arguments.brokers,
            span: self.began.elapsed(),
        };
        let text = report::text(&setting, &self.outcome, &self.book.counts());
        let path = arguments.data.join("report.md");
        fs::write(&path, &text).with_context(|| format!("could not write {}", path.display()))?;
        Ok(text)
    }

    fn conclude(&mut self, arguments: &Arguments) -> Result<bool> {
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

async fn first_client(brokers: u16) -> Result<fulmar_client::Client> {
    let deadline = Instant::now() + FIRST_CLIENT_WITHIN;
    loop {
        let answered = async {
            let client = Cluster::client(brokers).await?;
            for (topic, _) in TOPICS {
                client.admin().describe_topic(topic).await?;
            }
            anyhow::Ok(client)
        };
        match answered.await {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > deadline => {
                return Err(
                    error.context(format!("the Cluster did not come up within {FIRST_CLIENT_WITHIN:?}"))
                );
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}
