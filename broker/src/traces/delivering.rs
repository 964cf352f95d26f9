//! The sampled records of one answer to a reader, from being read until they are handed to its connection.

use std::sync::Arc;
use std::time::SystemTime;

use fulmar_core::batch::{BATCH_BYTES_MAX, Batch, Compression};
use fulmar_core::offset::Offset;
use fulmar_core::term::Term;
use fulmar_proto::v1::Message;
use opentelemetry::trace::{SpanContext, SpanKind};
use tokio::sync::OwnedSemaphorePermit;

use super::counts::Cause;
use super::{On, RECORDS_MAX, Told, Traces, may_have_one, parent};
use crate::memory::Budget;

/// What is decompressed of one answer: the largest batch that there may be. Reading on is bounded by compressed bytes, which may be
/// gigabytes of plain ones.
const PLAIN_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// Records of one answer that are looked at, where they are not made for the reader anyway: some milliseconds of a runtime's thread.
const RECORDS_LOOKED_AT_MAX: usize = 10_000;

/// Records of one partition on their way to a reader.
#[derive(Debug)]
pub struct Delivering {
    on: Arc<On>,
    topic: String,
    partition: u32,
    began: SystemTime,
    sampled: Vec<Sampled>,
    beyond: usize,
    /// With the first that is sampled.
    room: Option<OwnedSemaphorePermit>,
    /// What may still be looked at of batches that go on as they are.
    plain_bytes: usize,
    records: usize,
}

#[derive(Debug)]
struct Sampled {
    parent: SpanContext,
    offset: Offset,
    term: Term,
    bytes: usize,
}

impl Traces {
    /// Begins with what was read; nothing without a collector.
    pub fn delivering(&self, topic: &str, partition: u32) -> Option<Delivering> {
        let on = Arc::clone(self.on.as_ref()?);
        let began = SystemTime::now();
        Some(Delivering {
            on,
            topic: topic.to_owned(),
            partition,
            began,
            sampled: Vec::new(),
            beyond: 0,
            room: None,
            plain_bytes: PLAIN_BYTES_MAX,
            records: RECORDS_LOOKED_AT_MAX,
        })
    }
}

impl Delivering {
    /// A message of it, of a batch of this term.
    pub fn message(&mut self, term: Term, message: &Message) {
        let headers = message.headers.iter().map(|header| (header.name.as_str(), header.value.as_ref()));
        let parent = parent::sampled(headers);
        self.sampled(parent, Offset(message.offset), term, message.value.len());
    }

    /// A batch of it that goes on as it is, its records from this offset on. A compressed one is looked into if `memory` for
    /// that is free now, and only so much of one answer: a reader hardly waits for its trace.
    pub fn batch(&mut self, batch: &Batch, from: Offset, memory: &Budget) {
        let held = match batch.compression() {
            Compression::None if !may_have_one(batch.bytes()) => return,
            Compression::None => None,
            Compression::Lz4 | Compression::Snappy | Compression::Zstd => {
                let Some(left) = self.plain_bytes.checked_sub(batch.plain_size()) else { return };
                let Some(held) = memory.try_take(batch.plain_size()) else { return };
                self.plain_bytes = left;
                Some(held)
            }
        };
        let Ok(records) = batch.records() else { return };
        if !may_have_one(records.bytes()) {
            return;
        }
        for (at, record) in records.take(self.records).enumerate() {
            self.records -= 1;
            let offset = batch.base().plus(at as u64);
            if offset >= from {
                let headers =
                    record.headers.iter().map(|header| (header.name.as_str(), header.value.as_ref()));
                let parent = parent::sampled(headers);
                self.sampled(parent, offset, batch.term(), record.value.len());
            }
        }
        drop(held);
    }

    fn sampled(&mut self, parent: Option<SpanContext>, offset: Offset, term: Term, bytes: usize) {
        match parent {
            None => {}
            Some(_) if self.sampled.len() == RECORDS_MAX => self.beyond += 1,
            Some(parent) => {
                self.room = self.room.take().or_else(|| self.on.room());
                if self.room.is_some() {
                    self.sampled.push(Sampled { parent, offset, term, bytes });
                } else {
                    self.on.counts.dropped(Cause::Room, 1);
                }
            }
        }
    }

    /// It is in the hands of the reader's connection.
    pub fn done(self) {
        if self.beyond > 0 {
            self.on.counts.dropped(Cause::Batch, self.beyond);
        }
        let end = SystemTime::now();
        for Sampled { parent, offset, term, bytes } in &self.sampled {
            self.on.tell(Told {
                operation: "deliver",
                kind: SpanKind::Internal,
                parent,
                within: None,
                id: self.on.new_id(),
                start: self.began,
                end,
                topic: &self.topic,
                partition: self.partition,
                offset: Some(*offset),
                term: Some(*term),
                bytes: *bytes,
                error: None,
                more: Vec::new(),
            });
        }
    }
}
