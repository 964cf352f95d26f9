//! What `fulmar publish` makes of a line, or of a VALUE: one record.
//!
//! Owns the flags that say so. Never sends anything.

use clap::{Args, ValueEnum};
use fulmar_broker::serve::http::line;
use fulmar_client::Record;

use crate::exit::Failed;

/// See the module.
#[derive(Debug, Args)]
pub(crate) struct Input {
    /// What a line is, or VALUE
    #[arg(short = 'i', long = "input", value_name = "FORMAT", value_enum, default_value = "value")]
    format: Format,
    /// The key of every record
    #[arg(short, long)]
    key: Option<String>,
    /// What stands before this in a line, or VALUE, is its key
    #[arg(long, value_name = "TEXT", conflicts_with = "key")]
    key_separator: Option<String>,
    /// A header of every record, may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Publish to this partition, whatever the key
    #[arg(short, long)]
    partition: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The record's value
    Value,
    /// An object with value, `value_json` or `value_base64`, and key, headers, partition and `timestamp_ms` where they are wanted, as
    /// `fulmar consume -o json` prints a message and HTTP takes one
    Json,
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a header is NAME=VALUE".to_owned()),
    }
}

/// Beyond the largest record that any topic takes (8 MiB), with its key.
const VALUE_LINE_BYTES_MAX: u64 = 16 << 20;
/// The same in JSON, where a control character takes six bytes.
const JSON_LINE_BYTES_MAX: u64 = 6 * VALUE_LINE_BYTES_MAX;

impl Input {
    /// Whether the flags make sense together.
    pub(crate) fn check(&self) -> Result<(), Failed> {
        let flag = match (&self.key, &self.key_separator) {
            (None, None) => return Ok(()),
            (Some(_), _) => "--key",
            (None, Some(_)) => "--key-separator",
        };
        match self.format {
            Format::Value => Ok(()),
            Format::Json => {
                Err(Failed::Usage(format!("{flag} means nothing to --input json: keys stand in the lines")))
            }
        }
    }

    /// How long a line may be.
    pub(crate) fn line_bytes_max(&self) -> u64 {
        match self.format {
            Format::Value => VALUE_LINE_BYTES_MAX,
            Format::Json => JSON_LINE_BYTES_MAX,
        }
    }

    /// The record; none in an empty line of JSON. An error says what is wrong with the bytes.
    pub(crate) fn record(&self, bytes: Vec<u8>, topic: &str) -> Result<Option<Record>, Failed> {
        let mut record = match self.format {
            Format::Value => self.of_value(bytes)?,
            Format::Json if bytes.trim_ascii().is_empty() => return Ok(None),
            Format::Json => of_json(&bytes, topic)?,
        };
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        let headers = self.headers.iter();
        Ok(Some(headers.fold(record, |record, (name, value)| record.header(name, value.clone()))))
    }

    fn of_value(&self, mut bytes: Vec<u8>) -> Result<Record, Failed> {
        let Some(separator) = &self.key_separator else {
            let record = Record::new(bytes);
            return Ok(match &self.key {
                Some(key) => record.key(key.clone()),
                None => record,
            });
        };
        let at = memchr::memmem::find(&bytes, separator.as_bytes())
            .ok_or_else(|| Failed::Failure(format!("there is no key separator {separator:?} in it")))?;
        let value = bytes.split_off(at + separator.len());
        bytes.truncate(at);
        Ok(Record::new(value).key(bytes))
    }
}

fn of_json(bytes: &[u8], topic: &str) -> Result<Record, Failed> {
    let read = line::read(bytes, topic).map_err(|failure| Failed::Failure(failure.message))?;
    let mut record = Record::new(read.value);
    if let Some(key) = read.key {
        record = record.key(key);
    }
    if let Some(timestamp) = read.timestamp_ms {
        record = record.timestamp_ms(timestamp);
    }
    if let Some(partition) = read.partition {
        record = record.partition(partition);
    }
    Ok(read.headers.into_iter().fold(record, |record, header| record.header(header.name, header.value)))
}
