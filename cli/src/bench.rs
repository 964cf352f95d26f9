//! `fulmar bench`: first figures of a Cluster, through the SDK as programs use it.
//!
//! Owns the three measurements and their report. Never claims more than one run: the machine, its disk and what else runs
//! decide.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use fulmar_client::{Client, Record, Start};
use hdrhistogram::Histogram;
use indicatif::{BinaryBytes, HumanCount};
use serde_json::{Value, json};

use crate::exit::Failed;
use crate::output::{Output, table};
use crate::server::Server;

/// Measure durable publishes, latency with one record in flight, and reading back
///
/// Publishes records into a topic that is there, and leaves them there.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// The topic; take one that nobody needs
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    topic: String,
    /// The size of each value in bytes
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = clap::value_parser!(u32).range(1..=8_000_000))]
    size: u32,
    /// How long each measurement publishes
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    duration: Duration,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

/// What was measured.
struct Report {
    size: u32,
    partitions: u32,
    published: u64,
    publish_time: Duration,
    /// Microseconds.
    latency: Histogram<u64>,
    read: u64,
    read_time: Duration,
}

fn rate(count: u64, time: Duration) -> f64 {
    // Counts of a few seconds are far below 2^52.
    #[allow(clippy::cast_precision_loss, reason = "counts of a few seconds")]
    let count = count as f64;
    count / time.as_secs_f64().max(1e-9)
}

impl Bench {
    pub(crate) async fn run(self) -> Result<(), Failed> {
        let client = self.server.connect().await?;
        let partitions = client.producer(&self.topic).build().await?.partitions();
        say("publishing as fast as is acknowledged")?;
        let (published, publish_time) = self.publish(&client).await?;
        say("publishing one record after the other")?;
        let latency = self.one_in_flight(&client).await?;
        say("reading back")?;
        let wanted = published + latency.len();
        let (read, read_time) = self.read_back(&client, wanted).await?;
        let report =
            Report { size: self.size, partitions, published, publish_time, latency, read, read_time };
        Ok(self.output.show(|| report.as_table(), || report.as_json())?)
    }

    fn value(&self) -> bytes::Bytes {
        // Not all the same byte, should anything on the way compress.
        (0..self.size).map(|at| (at.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect()
    }

    async fn publish(&self, client: &Client) -> Result<(u64, Duration), Failed> {
        let producer = client.producer(&self.topic).build().await?;
        let value = self.value();
        let started = Instant::now();
        let mut count = 0;
        let mut last = None;
        while started.elapsed() < self.duration {
            // A failure shows in a later record too, and in the count that is read back.
            last = Some(producer.send(Record::new(value.clone())).await?);
            count += 1;
        }
        if let Some(last) = last {
            last.await?;
        }
        producer.flush().await;
        let time = started.elapsed();
        producer.close().await;
        Ok((count, time))
    }

    async fn one_in_flight(&self, client: &Client) -> Result<Histogram<u64>, Failed> {
        let producer = client.producer(&self.topic).build().await?;
        let value = self.value();
        let mut latency = Histogram::new(3).expect("three digits are allowed");
        // The first opens connections.
        for _ in 0..10 {
            producer.publish(Record::new(value.clone())).await?;
        }
        let started = Instant::now();
        while started.elapsed() < self.duration {
            let sent = Instant::now();
            producer.publish(Record::new(value.clone())).await?;
            latency.saturating_record(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        producer.close().await;
        Ok(latency)
    }

    /// Reads what is there; all that was published must be.
    async fn read_back(&self, client: &Client, wanted: u64) -> Result<(u64, Duration), Failed> {
        let builder = client.subscriber(&self.topic).start(Start::Earliest).until_end();
        let started = Instant::now();
        let mut messages = builder.build().await?;
        let mut count = 0;
        while let Some(batch) = messages.next_batch().await {
            count += batch?.len() as u64;
        }
        let time = started.elapsed();
        if count < wanted {
            return Err(Failed::Failure(format!(
                "{wanted} records were acknowledged, but only {count} were read"
            )));
        }
        Ok((count, time))
    }
}

/// On a terminal, that a measurement begins.
fn say(what: &str) -> io::Result<()> {
    if io::stderr().is_terminal() {
        writeln!(io::stderr(), "{what} …")?;
    }
    Ok(())
}

impl Report {
    fn percentile(&self, at: f64) -> u64 {
        self.latency.value_at_quantile(at)
    }

    fn as_table(&self) -> String {
        let throughput = |count: u64, time: Duration| {
            let records = rate(count, time);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people")]
            let (whole, bytes) = (records as u64, (records * f64::from(self.size)) as u64);
            format!("{}/s, {}/s", HumanCount(whole), BinaryBytes(bytes))
        };
        let rows = [
            [
                "durable publishes".to_owned(),
                throughput(self.published, self.publish_time),
                HumanCount(self.published).to_string(),
            ],
            [
                "one in flight".to_owned(),
                format!(
                    "p50 {} µs, p99 {} µs, max {} µs",
                    self.percentile(0.5),
                    self.percentile(0.99),
                    self.latency.max()
                ),
                HumanCount(self.latency.len()).to_string(),
            ],
            [
                "read back".to_owned(),
                throughput(self.read, self.read_time),
                HumanCount(self.read).to_string(),
            ],
        ];
        let title = format!("values of {} bytes, {} partitions", self.size, self.partitions);
        format!("{title}\n{}", table(["MEASURED", "RESULT", "RECORDS"], rows))
    }

    fn as_json(&self) -> Value {
        json!({
            "size_bytes": self.size,
            "partitions": self.partitions,
            "publish": {"records": self.published, "seconds": self.publish_time.as_secs_f64(), "records_per_second": rate(self.published, self.publish_time)},
            "one_in_flight": {"records": self.latency.len(), "p50_us": self.percentile(0.5), "p99_us": self.percentile(0.99), "p999_us": self.percentile(0.999), "max_us": self.latency.max()},
            "read_back": {"records": self.read, "seconds": self.read_time.as_secs_f64(), "records_per_second": rate(self.read, self.read_time)},
        })
    }
}
