//! `fulmar bench`: what a Cluster does, through the SDK as programs use it, and what others do with the same work beside it.
//!
//! Owns arguments, turns and rounds: [`work`] measures, [`system`] is what it measures, [`report`] compares. Never claims more than one
//! run: the machine, its disk and what else runs decide.

mod fan_out;
mod fulmar;
mod http;
mod report;
mod rivals;
mod system;
mod work;

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use ::http::uri::Authority;
use bytes::Bytes;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use tokio::signal::unix::{SignalKind, signal};

use self::fulmar::Fulmar;
use self::report::{Entrant, Report};
use self::rivals::{Address, JetStream, Kind, Redis};
use self::system::System as _;
use self::work::{Job, Measured, STAMP_BYTES, Work};
use crate::exit::Failed;
use crate::output::Output;
use crate::server::Server;

/// Each takes its turn in each round: more would make a run that nobody waits for.
const RIVALS_MAX: usize = 8;

/// Beyond it, one stretch of load says no more, and fills disks.
const DURATION_MAX: Duration = Duration::from_mins(10);

/// What one measurement leaves to be written back must not be charged to the next.
const PAUSE: Duration = Duration::from_millis(500);

/// Measure publishing, latencies and reading back, and compare with NATS and Redis
///
/// Publishes records into a topic that is there, and leaves them there. Rivals get a stream of their own, which is removed.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The topic; take one that nobody needs
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    topic: String,
    /// A rival that does the same: nats://HOST:PORT[?replicas=N][#LABEL] or redis://HOST:PORT[#LABEL]; may be repeated
    ///
    /// A NATS server does not tell when it syncs: the label after # says it, as in #always.
    #[arg(long, value_name = "URL")]
    against: Vec<Address>,
    /// Where a broker answers HTTP, for publish-http
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<Authority>,
    /// Only this work; may be repeated [default: all, publish-http only with --http]
    #[arg(long, value_enum, value_name = "WORK")]
    work: Vec<Work>,
    /// How often each system does each work, in turns
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The size of each value in bytes
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=8_000_000))]
    size: u32,
    /// How long each measurement publishes; it stops at 1 GiB
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How many connections publish-unbatched has
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    #[command(flatten)]
    output: Output,
}

/// A system, and how many records this round published into it.
struct Contestant {
    name: String,
    system: Which,
    published: u64,
}

enum Which {
    Fulmar(Box<Fulmar>),
    JetStream(Box<JetStream>),
    Redis(Box<Redis>),
}

impl Bench {
    pub(crate) async fn run(mut self, server: Server) -> Result<(), Failed> {
        self.check()?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (mut contestants, mut report) = tokio::select! {
            // Nothing is made at a rival yet.
            connected = self.connect(server) => connected?,
            _ = interrupt.recv() => return Err(Failed::Failure("interrupted".to_owned())),
        };
        // Whatever happens, nothing of ours stays with a rival.
        let outcome = tokio::select! {
            outcome = self.measure(&mut contestants, &mut report) => outcome,
            _ = interrupt.recv() => Err(Failed::Failure("interrupted".to_owned())),
        };
        for contestant in &mut contestants {
            let ended = contestant.end().await;
            // The first failure is the one that explains the others.
            if outcome.is_ok() {
                ended?;
            }
        }
        outcome?;
        Ok(self.output.show(|| report.as_table(), || report.as_json())?)
    }

    /// What clap cannot see; fills in what was left to us.
    fn check(&mut self) -> Result<(), Failed> {
        if !(Duration::from_millis(100)..=DURATION_MAX).contains(&self.duration) {
            let given = humantime::format_duration(self.duration);
            return Err(Failed::Usage(format!("--duration is {given}; allowed is 100ms to 10m")));
        }
        if self.against.len() > RIVALS_MAX {
            let given = self.against.len();
            return Err(Failed::Usage(format!("--against is given {given} times; allowed are {RIVALS_MAX}")));
        }
        let names: Vec<String> = self.against.iter().map(Address::to_string).collect();
        if let Some(twice) = (1..names.len()).find(|at| names[..*at].contains(&names[*at])) {
            return Err(Failed::Usage(format!("--against {} is given twice", names[twice])));
        }
        if self.work.is_empty() {
            self.work = <Work as clap::ValueEnum>::value_variants().to_vec();
            self.work.retain(|work| *work != Work::PublishHttp || self.http.is_some());
        }
        if self.work.contains(&Work::PublishHttp) && self.http.is_none() {
            return Err(Failed::Usage("publish-http needs --http HOST:PORT".to_owned()));
        }
        self.work.sort_unstable();
        self.work.dedup();
        if self.work.contains(&Work::EndToEnd) && (self.size as usize) < STAMP_BYTES {
            let size = self.size;
            return Err(Failed::Usage(format!(
                "--size is {size}; end-to-end needs at least {STAMP_BYTES}, for a time is in each value"
            )));
        }
        Ok(())
    }

    /// Everybody is there before anything is published.
    async fn connect(&self, server: Server) -> Result<(Vec<Contestant>, Report), Failed> {
        let mut contestants = Vec::new();
        let mut entrants = Vec::new();
        for address in &self.against {
            let name = address.to_string();
            let connected = self.connect_rival(address).await;
            let (system, version, safety) = connected.map_err(|failed| failed.at(&name))?;
            entrants.push(Entrant { name: name.clone(), version, safety });
            contestants.push(Contestant { name, system, published: 0 });
        }
        let fulmar = Fulmar::connect(server, self.topic.clone(), self.http.clone()).await?;
        let (name, partitions) = ("fulmar".to_owned(), fulmar.partitions());
        let (version, safety) = (env!("CARGO_PKG_VERSION").to_owned(), fulmar.safety().to_owned());
        entrants.insert(0, Entrant { name: name.clone(), version, safety });
        let system = Which::Fulmar(Box::new(fulmar));
        contestants.insert(0, Contestant { name, system, published: 0 });
        let seconds = self.duration.as_secs_f64();
        Ok((contestants, Report::new(self.size, seconds, self.connections, partitions, entrants)))
    }

    async fn connect_rival(&self, address: &Address) -> Result<(Which, String, String), Failed> {
        match address.kind() {
            Kind::JetStream { replicas } => {
                let rival = JetStream::connect(address.clone(), replicas, self.size as usize).await?;
                let (version, safety) = (rival.version(), rival.safety());
                Ok((Which::JetStream(Box::new(rival)), version, safety))
            }
            Kind::Redis => {
                let rival = Redis::connect(address).await?;
                let (version, safety) = (rival.version(), rival.safety().to_owned());
                Ok((Which::Redis(Box::new(rival)), version, safety))
            }
        }
    }

    async fn measure(&self, contestants: &mut [Contestant], report: &mut Report) -> Result<(), Failed> {
        let job = Job { value: self.value(), duration: self.duration, connections: self.connections };
        for round in 0..self.rounds as usize {
            for contestant in &mut *contestants {
                contestant.begin().await?;
            }
            for work in self.work.iter().copied() {
                for turn in 0..contestants.len() {
                    // Who is first in one round is last in the next: nobody always follows the same one.
                    let entrant = (turn + round) % contestants.len();
                    let contestant = &mut contestants[entrant];
                    say(round + 1, work, &contestant.name)?;
                    tokio::time::sleep(PAUSE).await;
                    report.add(work, entrant, contestant.measure(work, &job).await?);
                }
            }
            for contestant in &mut *contestants {
                contestant.end().await?;
            }
        }
        Ok(())
    }

    fn value(&self) -> Bytes {
        // Not all the same byte, should anything on the way compress.
        (0..self.size).map(|at| (at.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect()
    }
}

impl Contestant {
    async fn begin(&mut self) -> Result<(), Failed> {
        self.published = 0;
        let begun = match &mut self.system {
            Which::Fulmar(system) => system.begin().await,
            Which::JetStream(system) => system.begin().await,
            Which::Redis(system) => system.begin().await,
        };
        begun.map_err(|failed| failed.at(&self.name))
    }

    async fn end(&mut self) -> Result<(), Failed> {
        let ended = match &mut self.system {
            Which::Fulmar(system) => system.end().await,
            Which::JetStream(system) => system.end().await,
            Which::Redis(system) => system.end().await,
        };
        ended.map_err(|failed| failed.at(&self.name))
    }

    async fn measure(&mut self, work: Work, job: &Job) -> Result<Measured, Failed> {
        let published = &mut self.published;
        let measured = match &self.system {
            Which::Fulmar(system) => work::run(work, system.as_ref(), job, published).await,
            Which::JetStream(system) => work::run(work, system.as_ref(), job, published).await,
            Which::Redis(system) => work::run(work, system.as_ref(), job, published).await,
        };
        measured.map_err(|failed| failed.at(&self.name))
    }
}

/// On a terminal, that a measurement begins.
fn say(round: usize, work: Work, name: &str) -> io::Result<()> {
    if io::stderr().is_terminal() {
        writeln!(io::stderr(), "round {round}: {} by {name} …", work.name())?;
    }
    Ok(())
}
