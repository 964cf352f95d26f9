//! Where one partition's reader stands, and what it makes of the bytes that come.
//!
//! Owns checking batches and skipping what was read. No I/O.

use std::sync::Arc;

use bytes::Bytes;
use fulmar_core::batch::{Batch, BatchError, Records};
use fulmar_core::id::PartitionKey;

use crate::error::Failure;
use crate::record::Message;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub(super) key: PartitionKey,
    /// The next offset to read.
    pub(super) next: u64,
    /// Where it was put to begin with what is kept: until it is read on from there, retention may move that.
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

    /// From the oldest message that is kept, of all or since a time, which is this one as far as is known.
    pub(super) fn at_start(key: PartitionKey, next: u64, end: Option<u64>) -> Self {
        Self { from_start: Some(next), ..Self::new(key, next, end) }
    }

    /// Whether it is still to begin with what is kept.
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

    /// The messages of a batch that were not read yet, if there are some: opening records hold none. Goes on behind it.
    pub(super) fn read(&mut self, topic: &Arc<str>, batch: &Batch) -> Result<Option<Messages>, Failure> {
        let mut records = batch.records().map_err(|error| self.garbled(&error))?;
        self.garbled = 0;
        self.uncredited += batch.size();
        let (base, behind) = (batch.base().0, batch.end().0);
        let end = self.end.map_or(behind, |end| end.min(behind));
        let offset = self.next.max(base);
        self.next = self.next.max(behind);
        if batch.is_opening() || offset >= end {
            return Ok(None);
        }
        // Fewer than a batch has.
        records.by_ref().take(usize::try_from(offset - base).unwrap_or(usize::MAX)).for_each(drop);
        let (topic, partition) = (Arc::clone(topic), self.key.partition);
        let append_time_ms = batch.append_time_ms();
        Ok(Some(Messages { topic, partition, append_time_ms, offset, end, records }))
    }
}

/// What is to be read of one batch. Each message is made when it is taken: where it is used, and not all of them at once.
#[derive(Debug)]
pub(super) struct Messages {
    topic: Arc<str>,
    partition: u32,
    append_time_ms: u64,
    /// Of the next one.
    offset: u64,
    /// Behind the last one.
    end: u64,
    records: Records,
}

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        if self.len() == 0 {
            return None;
        }
        let record = self.records.next()?;
        let offset = self.offset;
        self.offset += 1;
        Some(Message {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            offset,
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp_ms: record.timestamp_ms,
            append_time_ms: self.append_time_ms,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl ExactSizeIterator for Messages {
    fn len(&self) -> usize {
        usize::try_from(self.end - self.offset).unwrap_or(usize::MAX)
    }
}
