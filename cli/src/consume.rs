//! `fulmar consume`: messages of a topic to standard output.
//!
//! Owns how a message looks, and stopping: after a count, at the end, on Ctrl-C, when nobody reads any more.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::SystemTime;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum};
use fulmar_client::{Message, Start, Subscriber};
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failed;
use crate::filter::Filter;
use crate::output::put_bytes;
use crate::server::Server;

/// Print messages, in order within each partition
///
/// Only committed messages are printed: what was read cannot disappear. Goes on with new ones until Ctrl-C.
#[derive(Debug, Args)]
pub(crate) struct Consume {
    /// The topic, or a pattern: * is one word between dots, > at the end one or more, as in 'orders.*'
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    topic: String,
    /// Where to begin: earliest, latest, an offset, a time (2026-01-31T12:00:00Z), or how long ago (90m)
    #[arg(long, value_name = "WHERE", default_value = "latest", value_parser = start)]
    from: Start,
    /// Stop after so many messages were printed
    #[arg(short, long, value_name = "COUNT")]
    count: Option<u64>,
    /// Stop at what is there now
    #[arg(long)]
    until_end: bool,
    /// Only this partition, may be repeated
    #[arg(short, long = "partition", value_name = "PARTITION")]
    partitions: Vec<u32>,
    #[command(flatten)]
    filter: Filter,
    /// What to print of each message
    #[arg(short, long, value_enum, default_value = "value")]
    output: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The value, a line each
    Value,
    /// Everything, an object a line
    Json,
    /// The value's bytes and nothing between them
    Raw,
}

/// What `--from` takes.
fn start(text: &str) -> Result<Start, String> {
    match text {
        "earliest" => return Ok(Start::Earliest),
        "latest" => return Ok(Start::Latest),
        _ => {}
    }
    if let Ok(offset) = text.parse() {
        return Ok(Start::Offset(offset));
    }
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        return Ok(Start::Time(time));
    }
    let ago = humantime::parse_duration(text).ok().and_then(|ago| SystemTime::now().checked_sub(ago));
    ago.map(Start::Time).ok_or_else(|| {
        "it is earliest, latest, an offset, a time such as 2026-01-31T12:00:00Z, or a duration such as 90m".to_owned()
    })
}

impl Consume {
    pub(crate) async fn run(self, server: Server) -> Result<(), Failed> {
        if self.count == Some(0) {
            return Ok(());
        }
        // From the first moment: whoever saw a record may press it at once.
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            result = self.read(server) => result,
            _ = interrupt.recv() => Ok(()),
        }
    }

    async fn read(&self, server: Server) -> Result<(), Failed> {
        let client = server.connect().await?;
        let mut builder = client.subscriber(&self.topic).start(self.from).partitions(self.partitions.clone());
        if self.until_end {
            builder = builder.until_end();
        }
        let mut messages = builder.build().await?;
        if self.from == Start::Latest && io::stderr().is_terminal() && io::stdout().is_terminal() {
            writeln!(
                io::stderr(),
                "waiting for what is published to {} from now on; Ctrl-C stops",
                self.topic
            )?;
        }
        self.print_all(&mut messages).await
    }

    async fn print_all(&self, messages: &mut Subscriber) -> Result<(), Failed> {
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout());
        let mut left = self.count.unwrap_or(u64::MAX);
        while let Some(batch) = messages.next_batch().await {
            for message in batch?.into_iter().filter(|message| self.filter.takes(message)) {
                self.print(&mut out, &message)?;
                left -= 1;
                if left == 0 {
                    return Ok(out.flush()?);
                }
            }
            out.flush()?;
            // Where messages come faster than they are printed it would never wait, and not hear that it is to end.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn print(&self, out: &mut impl Write, message: &Message) -> io::Result<()> {
        match self.output {
            Format::Raw => out.write_all(&message.value),
            Format::Value => {
                out.write_all(&message.value)?;
                out.write_all(b"\n")
            }
            Format::Json => writeln!(out, "{}", Self::json(message)),
        }
    }

    fn json(message: &Message) -> Value {
        let mut object = Map::new();
        object.insert("topic".to_owned(), json!(message.topic.as_ref()));
        object.insert("partition".to_owned(), json!(message.partition));
        object.insert("offset".to_owned(), json!(message.offset));
        if let Some(key) = &message.key {
            put_bytes(&mut object, "key", key);
        }
        put_bytes(&mut object, "value", &message.value);
        if !message.headers.is_empty() {
            let headers = message.headers.iter().map(|header| {
                let mut object = Map::new();
                object.insert("name".to_owned(), json!(header.name));
                put_bytes(&mut object, "value", &header.value);
                Value::from(object)
            });
            object.insert("headers".to_owned(), headers.collect());
        }
        object.insert("timestamp_ms".to_owned(), json!(message.timestamp_ms));
        object.insert("append_time_ms".to_owned(), json!(message.append_time_ms));
        Value::from(object)
    }
}

#[cfg(test)]
#[path = "consume_tests.rs"]
mod tests;
