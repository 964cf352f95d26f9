//! `fulmar publish`: values from arguments, or a line a record.
//!
//! Owns the rate, progress, and printing offsets in the order of the input.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use fulmar_client::{Ack, Compression, Delivery, Producer, Record};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::mpsc;

use crate::exit::Failed;
use crate::input::Input;
use crate::lines::{Line, Source};
use crate::server::Server;

/// Records that were handed over and not answered: more than the SDK's windows hold.
const DELIVERIES_MAX: usize = 16 * 1024;

/// What a timer is late by, on a busy machine too, is made up for, so that the rate is what was asked for.
const LATE_MAX: Duration = Duration::from_millis(20);

/// Publish records, durable when it returns
///
/// Each VALUE is a record; without any, each line of standard input or of a file is one. Records with a key stay in
/// order with others of that key; records without one may go to any partition. The first record that fails ends the
/// command: those behind it may have been published.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The topic
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    topic: String,
    /// A record each
    #[arg(value_name = "VALUE", conflicts_with = "file")]
    values: Vec<String>,
    /// A record each line of this file; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    input: Input,
    /// At most so many records a second [default: as fast as they are acknowledged]
    #[arg(short, long, value_name = "RECORDS")]
    rate: Option<NonZeroU32>,
    /// How batches are compressed; brokers keep them so, and readers decompress
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = codec())]
    compression: Compression,
    /// How long each record is tried
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// What to print
    #[arg(short, long, value_enum, default_value = "text")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line that sums up
    Text,
    /// Partition and offset of each record, an object a line
    Json,
}

fn codec() -> impl TypedValueParser<Value = Compression> {
    let named = |name: String| Compression::ALL.into_iter().find(|codec| codec.name() == name);
    PossibleValuesParser::new(Compression::ALL.map(Compression::name))
        .map(move |name| named(name).expect("only these names are possible"))
}

impl Publish {
    pub(crate) async fn run(self, server: Server) -> Result<(), Failed> {
        self.input.check()?;
        let client = server.connect().await?;
        let builder =
            client.producer(&self.topic).delivery_timeout(self.timeout).compression(self.compression);
        let producer = builder.build().await.map_err(|error| Failed::from(error).at("cannot publish"))?;
        let started = Instant::now();
        let (deliveries, received) = mpsc::channel(DELIVERIES_MAX);
        let answers = Answers::new(&self);
        let handing_over = async {
            let result = self.hand_over(&producer, deliveries).await;
            producer.flush().await;
            result
        };
        // What fails first ends both: the channel's other end is dropped with it.
        let (handed_over, answered) = tokio::join!(handing_over, answers.take(received));
        let answered = answered?;
        handed_over?;
        if self.output == Format::Text {
            answered.sum_up(&self.topic, started.elapsed())?;
        }
        Ok(())
    }

    async fn hand_over(&self, producer: &Producer, deliveries: mpsc::Sender<Sent>) -> Result<(), Failed> {
        let mut sending = Sending { producer, deliveries, pace: Pace::new(self.rate) };
        if !self.values.is_empty() {
            for (number, value) in (1u64..).zip(&self.values) {
                let at = At { is_argument: true, number };
                let record = self.input.record(value.as_bytes().to_vec(), &self.topic);
                let Some(record) = record.map_err(|error| error.at(at))? else { continue };
                if !sending.send(record, at).await? {
                    break;
                }
            }
            return Ok(());
        }
        let source = Source::of(self.file.as_deref());
        if matches!(source, Source::Stdin) && io::stdin().is_terminal() && io::stderr().is_terminal() {
            writeln!(io::stderr(), "each line is a record; end with Ctrl-D")?;
        }
        let progress = progress(&source);
        let mut lines = source.lines(self.input.line_bytes_max());
        let mut number = 0;
        loop {
            let line = tokio::select! {
                line = lines.recv() => line,
                // A record failed: whoever types need not send another line to learn it.
                () = sending.deliveries.closed() => break,
            };
            let Some(line) = line else { break };
            let Line { bytes, read } = line.map_err(|error| Failed::Failure(error.to_string()))?;
            number += 1;
            let at = At { is_argument: false, number };
            let record = self.input.record(bytes, &self.topic);
            let Some(record) = record.map_err(|error| error.at(at))? else { continue };
            if !sending.send(record, at).await? {
                break;
            }
            if progress.length().is_some() { progress.set_position(read) } else { progress.inc(1) }
        }
        progress.finish_and_clear();
        Ok(())
    }
}

/// Hands records over.
struct Sending<'a> {
    producer: &'a Producer,
    deliveries: mpsc::Sender<Sent>,
    pace: Pace,
}

impl Sending<'_> {
    /// Returns whether anybody still waits for answers: nobody does when a record has failed.
    async fn send(&mut self, record: Record, at: At) -> Result<bool, Failed> {
        tokio::select! {
            () = self.pace.turn() => {}
            () = self.deliveries.closed() => return Ok(false),
        }
        let delivery = self.producer.send(record).await;
        let delivery = delivery.map_err(|error| Failed::from(error).at(at))?;
        Ok(self.deliveries.send(Sent { delivery, at }).await.is_ok())
    }
}

/// Lets so many pass in a second, one after the other; who was late does not make up for it in a burst.
struct Pace {
    every: Option<Duration>,
    next: Instant,
}

impl Pace {
    fn new(rate: Option<NonZeroU32>) -> Self {
        Self { every: rate.map(|rate| Duration::from_secs(1) / rate.get()), next: Instant::now() }
    }

    async fn turn(&mut self) {
        let Some(every) = self.every else { return };
        let now = Instant::now();
        if self.next > now {
            tokio::time::sleep_until(self.next.into()).await;
        }
        self.next = self.next.max(now.checked_sub(LATE_MAX).unwrap_or(now)) + every;
    }
}

/// Where a record stands in the input.
#[derive(Debug, Clone, Copy)]
struct At {
    is_argument: bool,
    number: u64,
}

impl fmt::Display for At {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", if self.is_argument { "value" } else { "line" }, self.number)
    }
}

/// A bar on a terminal; elsewhere nothing is shown.
fn progress(source: &Source) -> ProgressBar {
    let template = match source.size() {
        Some(_) => "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        None => "{spinner} {human_pos} records, {per_sec}",
    };
    let bar = match (source, source.size()) {
        (Source::Stdin, _) if io::stdin().is_terminal() => ProgressBar::hidden(),
        (_, Some(size)) => ProgressBar::new(size),
        (_, None) => ProgressBar::no_length(),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is written above"))
}

/// A record that was handed over.
struct Sent {
    delivery: Delivery,
    at: At,
}

/// Takes what becomes of the records, in the order of the input.
struct Answers<'a> {
    topic: &'a str,
    format: Format,
    count: u64,
    /// By partition: the first and last offset.
    offsets: BTreeMap<u32, (u64, u64)>,
}

impl<'a> Answers<'a> {
    fn new(publish: &'a Publish) -> Self {
        Self { topic: &publish.topic, format: publish.output, count: 0, offsets: BTreeMap::new() }
    }

    async fn take(mut self, mut deliveries: mpsc::Receiver<Sent>) -> Result<Self, Failed> {
        let mut out = Some(BufWriter::new(io::stdout()));
        while let Some(Sent { delivery, at }) = deliveries.recv().await {
            let ack = delivery.await.map_err(|error| Failed::from(error).at(at))?;
            self.count += 1;
            let span = self.offsets.entry(ack.partition).or_insert((ack.offset, ack.offset));
            *span = (span.0.min(ack.offset), span.1.max(ack.offset));
            if self.format == Format::Json
                && let Some(to) = &mut out
            {
                let printed = self.print(to, ack);
                let printed = printed.and_then(|()| if deliveries.is_empty() { to.flush() } else { Ok(()) });
                if is_unread(printed)? {
                    out = None;
                }
            }
        }
        if let Some(to) = &mut out {
            is_unread(to.flush())?;
        }
        Ok(self)
    }

    fn print(&self, out: &mut impl Write, ack: Ack) -> io::Result<()> {
        writeln!(out, "{}", json!({"topic": self.topic, "partition": ack.partition, "offset": ack.offset}))
    }

    fn sum_up(&self, topic: &str, took: Duration) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let spans: Vec<String> = self
            .offsets
            .iter()
            .map(|(partition, (first, last))| {
                if first == last {
                    format!("partition {partition} offset {first}")
                } else {
                    format!("partition {partition} offsets {first}-{last}")
                }
            })
            .collect();
        match self.count {
            1 => writeln!(out, "published to {topic}: {}", spans.join(", ")),
            count => {
                let took = Duration::from_millis(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
                let took = humantime::format_duration(took);
                let where_to =
                    if spans.is_empty() { String::new() } else { format!(" ({})", spans.join(", ")) };
                writeln!(out, "{} records published to {topic} in {took}{where_to}", HumanCount(count))
            }
        }
    }
}

/// Whether nobody reads what is printed any more: no reason to publish less of what was given.
fn is_unread(printed: io::Result<()>) -> io::Result<bool> {
    match printed {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(error),
    }
}
