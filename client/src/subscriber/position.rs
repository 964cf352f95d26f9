//! Where one partition's reader stands, and what it makes of the bytes that come.
//!
//! Owns checking batches and skipping what was read. No I/O.

use std::sync::Arc;

use bytes::Bytes;
use fulmar_core::batch::{Batch, BatchError};
use fulmar_core::id::PartitionKey;

use crate::error::Failure;
use crate::record::Message;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub(super) key: PartitionKey,
    /// The next offset to read.
    pub(super) next: u64,
    /// Where it was put to begin with the oldest message: until it is read on from there, retention may move that.
    from_start: Option<u64>,
    /// Where to stop; absent: never.
    pub(super) end: Option<u64>,
    /// The highest term seen, opaque.
    pub(super) term: Bytes,
    /// Bytes that were delivered since the last credit.
    pub(super) uncredited: usize,
    /// How often in a row what came at this offset was no batch.
    pub(super) garbled: u32,
}

impl Position {
    pub(super) fn new(key: PartitionKey, next: u64, end: Option<u64>) -> Self {
        Self { key, next, from_start: None, end, term: Bytes::new(), uncredited: 0, garbled: 0 }
    }

    /// From the oldest message that is kept, which is this one as far as is known.
    pub(super) fn at_start(key: PartitionKey, next: u64, end: Option<u64>) -> Self {
        Self { from_start: Some(next), ..Self::new(key, next, end) }
    }

    /// Whether it is still to begin with the oldest message.
    pub(super) fn is_at_start(&self) -> bool {
        self.from_start == Some(self.next)
    }

    /// The oldest message is this one by now.
    pub(super) fn move_start(&mut self, to: u64) {
        (self.next, self.from_start) = (to, Some(to));
    }

    /// Whether everything that was asked for was read.
    pub(super) fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// What came, checked as far as is possible without decompressing it.
    pub(super) fn parse(&mut self, bytes: Bytes) -> Result<Batch, Failure> {
        Batch::parse(bytes, self.key).map_err(|error| self.garbled(&error))
    }

    fn garbled(&mut self, error: &BatchError) -> Failure {
        self.garbled += 1;
        Failure::garbled(format!("partition {}, at offset {}: {error}", self.key.partition, self.next))
    }

    /// The messages of a batch that were not read yet; goes on behind it. Opening records hold none.
    pub(super) fn read(&mut self, topic: &Arc<str>, batch: &Batch) -> Result<Vec<Message>, Failure> {
        let records = batch.records().map_err(|error| self.garbled(&error))?;
        self.garbled = 0;
        self.uncredited += batch.size();
        let offsets = batch.base().0..;
        let wanted = |offset: u64| offset >= self.next && self.end.is_none_or(|end| offset < end);
        let messages =
            offsets.zip(records).filter(|(offset, _)| wanted(*offset)).map(|(offset, record)| Message {
                topic: Arc::clone(topic),
                partition: self.key.partition,
                offset,
                key: record.key,
                value: record.value,
                headers: record.headers,
                timestamp_ms: record.timestamp_ms,
                append_time_ms: batch.append_time_ms(),
            });
        let messages = messages.collect();
        self.next = self.next.max(batch.end().0);
        Ok(messages)
    }
}
