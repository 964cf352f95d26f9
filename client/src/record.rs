//! A record to publish, and a message that was read.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fulmar_core::batch::{Record as Framed, RecordHeader};

/// What to publish: a value, and what goes with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct Record {
    value: Bytes,
    key: Option<Bytes>,
    headers: Vec<RecordHeader>,
    timestamp_ms: Option<i64>,
    partition: Option<u32>,
}

impl Record {
    /// A record of `value` alone.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: value.into(), ..Self::default() }
    }

    /// Records of one key go to one partition and stay in order.
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a name and a value beside the payload; at most 256. A `traceparent` (W3C Trace Context) puts the record into its trace.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(RecordHeader { name: name.into(), value: value.into() });
        self
    }

    /// The program's own time, milliseconds since 1970. Default: when it is handed to the producer.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// To this partition, whatever the key.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// What counts against the topic's `maxMessageBytes`: key, value and headers, in bytes.
    pub fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.len() + headers
    }

    /// At most so many bytes in a batch: the size, a length of up to 5 bytes before each field, up to 10 for the time.
    pub(crate) fn framed_size_max(&self) -> usize {
        self.size() + 25 + 10 * self.headers.len()
    }

    pub(crate) fn wanted_partition(&self) -> Option<u32> {
        self.partition
    }

    pub(crate) fn key_bytes(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    pub(crate) fn header_count(&self) -> usize {
        self.headers.len()
    }

    pub(crate) fn into_framed(self) -> Framed {
        let timestamp_ms = self.timestamp_ms.unwrap_or_else(now_ms);
        Framed { key: self.key, value: self.value, headers: self.headers, timestamp_ms }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A message that was read. Only committed messages are: it cannot disappear again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition, from 0.
    pub partition: u32,
    /// Its offset. Offsets rise, not always by one: the log keeps records of its own between messages.
    pub offset: u64,
    /// As published.
    pub key: Option<Bytes>,
    /// As published.
    pub value: Bytes,
    /// As published.
    pub headers: Vec<RecordHeader>,
    /// The publishing program's clock, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The leader's clock when it was appended, milliseconds since 1970.
    pub append_time_ms: u64,
}
