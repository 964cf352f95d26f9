//! What the table says about a topic as a whole.

use std::fmt;
use std::str::FromStr;

use crate::control::table::codec::{InvalidTable, Words, option};
use crate::id::TopicId;
use crate::term::Epoch;

/// The longest name of a topic (as the CRD says).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Whether a topic may have this name: 1 to [`TOPIC_NAME_BYTES_MAX`] of `a-z A-Z 0-9 . _ -`, and not `.` or `..`.
pub fn topic_name_is_valid(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=TOPIC_NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(allowed)
        && name != "."
        && name != ".."
}

/// A topic: its name, its identity and its limits. Which broker holds what is in the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    /// Minted once.
    pub id: TopicId,
    /// What programs call it.
    pub name: String,
    /// How many partitions it has; only grows.
    pub partitions: u32,
    /// How many replicas each partition is to have.
    pub replication_factor: u8,
    /// On how many of them an acknowledged record is durable.
    pub ack_quorum: u8,
    /// The largest record, in bytes.
    pub max_message_bytes: u32,
    /// How long a record is kept, in ms; nothing: for ever.
    pub retention_ms: Option<u64>,
    /// How much of a partition is kept, in bytes; nothing: no limit.
    pub retention_bytes: Option<u64>,
    /// Nobody wishes it any more, its data stays: not served, retention pauses.
    pub retained: bool,
    /// The decision that wrote this line: of two lines about one topic the higher holds.
    pub changed: Epoch,
}

/// `ID name=… partitions=… replicationFactor=… ackQuorum=… maxMessageBytes=… retentionMs=…|none retentionBytes=…|none
/// retained=true|false changed=G.C`
impl fmt::Display for TopicRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} name={} partitions={} replicationFactor={} ackQuorum={} maxMessageBytes={} retentionMs={} \
             retentionBytes={} retained={} changed={}",
            self.id,
            self.name,
            self.partitions,
            self.replication_factor,
            self.ack_quorum,
            self.max_message_bytes,
            option(self.retention_ms),
            option(self.retention_bytes),
            self.retained,
            self.changed
        )
    }
}

impl FromStr for TopicRecord {
    type Err = InvalidTable;
    fn from_str(text: &str) -> Result<Self, InvalidTable> {
        let mut words = Words::new(1, text);
        let topic = Self::read(&mut words)?;
        words.end()?;
        Ok(topic)
    }
}

impl TopicRecord {
    pub(super) fn read(words: &mut Words<'_>) -> Result<Self, InvalidTable> {
        let id = words.value("a topic's id, a UUID")?;
        let name = words.field("name")?;
        if !topic_name_is_valid(name) {
            return Err(words.wrong(name, "a topic's name: up to 249 of a-z A-Z 0-9 . _ -"));
        }
        Ok(Self {
            id,
            name: name.to_owned(),
            partitions: words.field_value("partitions", "a number")?,
            replication_factor: words.field_value("replicationFactor", "a number up to 255")?,
            ack_quorum: words.field_value("ackQuorum", "a number up to 255")?,
            max_message_bytes: words.field_value("maxMessageBytes", "a number of 32 bits")?,
            retention_ms: words.field_option("retentionMs", "a number")?,
            retention_bytes: words.field_option("retentionBytes", "a number")?,
            retained: words.field_value("retained", "true or false")?,
            changed: words.field_value("changed", "an epoch such as 7.3")?,
        })
    }
}
