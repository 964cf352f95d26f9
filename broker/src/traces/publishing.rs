//! The sampled records of one batch, from their arrival to the answer.
//!
//! Owns the times of what is done for them. The spans are told when the last who has a hand in it lets go: the answer may be
//! there before the leader's own disk, which is then not what the answer waited for.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use fulmar_core::batch::{Compression, ProducedBatch, Record};
use fulmar_core::offset::Offset;
use fulmar_core::term::Term;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceId};
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;

use super::counts::Cause;
use super::{On, RECORDS_MAX, Told, Traces, may_have_one, parent};

/// Of each record: `publish`, `append`, `commit`.
const SPANS_EACH: usize = 3;
/// Nobody waits for the answer any more.
const ABANDONED: &str = "ABANDONED";

/// A batch that has sampled records.
#[derive(Debug)]
pub struct Publishing {
    on: Arc<On>,
    topic: String,
    partition: u32,
    /// How many the batch has.
    records: usize,
    sampled: Vec<Sampled>,
    _room: OwnedSemaphorePermit,
    arrived: SystemTime,
    progress: Mutex<Progress>,
}

/// A sampled record.
#[derive(Debug)]
struct Sampled {
    /// Its place in the batch.
    at: usize,
    bytes: usize,
    parent: SpanContext,
    /// Of its span `publish`.
    id: SpanId,
}

/// What has happened so far, and when.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    /// Handed to the replica of this broker.
    handed: Option<SystemTime>,
    /// Stamped by it, and on its way to the disk and to the followers.
    written: Option<(SystemTime, Term)>,
    /// On this broker's disk.
    durable: Option<SystemTime>,
    /// Answered by the replica: committed, or refused.
    decided: Option<SystemTime>,
    /// Answered: where the first record stands, or why not.
    answered: Option<(SystemTime, Result<Offset, &'static str>)>,
}

impl Traces {
    /// Records that are about to be published as one batch, if one of them is sampled. `began`: when they arrived.
    pub fn of_records(
        &self,
        topic: &str,
        partition: u32,
        records: &[Record],
        began: Instant,
    ) -> Option<Arc<Publishing>> {
        self.on.as_ref()?.publishing(topic, partition, records.iter(), began)
    }

    /// The same of a batch that a program has framed. A compressed one is decompressed once more, in the memory of
    /// [`ProducedBatch::bytes_to_parse`].
    pub fn of_batch(
        &self,
        topic: &str,
        partition: u32,
        batch: &ProducedBatch,
        began: Instant,
    ) -> Option<Arc<Publishing>> {
        let on = self.on.as_ref()?;
        if batch.compression() == Compression::None && !may_have_one(batch.bytes()) {
            return None;
        }
        let records = batch.records().ok()?;
        if !may_have_one(records.bytes()) {
            return None;
        }
        on.publishing(topic, partition, records, began)
    }
}

impl On {
    fn publishing(
        self: &Arc<Self>,
        topic: &str,
        partition: u32,
        records: impl Iterator<Item = impl std::borrow::Borrow<Record>>,
        began: Instant,
    ) -> Option<Arc<Publishing>> {
        let (mut count, mut sampled, mut beyond) = (0, Vec::new(), 0);
        for (at, record) in records.enumerate() {
            count += 1;
            let record = record.borrow();
            let headers = record.headers.iter().map(|header| (header.name.as_str(), header.value.as_ref()));
            match parent::sampled(headers) {
                Some(_) if sampled.len() == RECORDS_MAX => beyond += 1,
                Some(parent) => {
                    let bytes = record.value.len();
                    sampled.push(Sampled { at, bytes, parent, id: self.new_id() });
                }
                None => {}
            }
        }
        if beyond > 0 {
            self.counts.dropped(Cause::Batch, beyond * SPANS_EACH);
        }
        if sampled.is_empty() {
            return None;
        }
        let Some(room) = self.room() else {
            self.counts.dropped(Cause::Room, sampled.len() * SPANS_EACH);
            return None;
        };
        let now = SystemTime::now();
        Some(Arc::new(Publishing {
            on: Arc::clone(self),
            topic: topic.to_owned(),
            partition,
            records: count,
            sampled,
            _room: room,
            arrived: now.checked_sub(began.elapsed()).unwrap_or(now),
            progress: Mutex::default(),
        }))
    }
}

impl Publishing {
    /// The trace of the record at this place of the batch, if it is told of.
    pub fn trace_of(&self, at: usize) -> Option<TraceId> {
        let found = self.sampled.iter().find(|sampled| sampled.at == at);
        found.map(|sampled| sampled.parent.trace_id())
    }

    /// It goes to the replica of this broker; the last try counts.
    pub fn handed(&self) {
        let mut progress = self.progress.lock();
        *progress = Progress { handed: Some(SystemTime::now()), ..Progress::default() };
    }

    /// The replica has stamped it, and writes and ships it.
    pub fn written(&self, term: Term) {
        self.progress.lock().written = Some((SystemTime::now(), term));
    }

    /// It is on this broker's disk.
    pub fn durable(&self) {
        self.progress.lock().durable = Some(SystemTime::now());
    }

    /// The replica has decided: it is committed, or refused.
    pub fn decided(&self) {
        self.progress.lock().decided = Some(SystemTime::now());
    }

    /// It has its answer: where the first record stands, or why not.
    pub fn answered(&self, outcome: Result<Offset, &'static str>) {
        self.progress.lock().answered = Some((SystemTime::now(), outcome));
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        let progress = *self.progress.lock();
        for sampled in &self.sampled {
            self.tell(sampled, progress);
        }
    }
}

impl Publishing {
    fn tell(&self, sampled: &Sampled, progress: Progress) {
        let Progress { handed, written, durable, decided, answered } = progress;
        let (ended, outcome) = answered.unwrap_or_else(|| (SystemTime::now(), Err(ABANDONED)));
        let told = |operation, kind, within: Option<SpanId>, id, start, end| Told {
            operation,
            kind,
            parent: &sampled.parent,
            within,
            id,
            start,
            end,
            topic: &self.topic,
            partition: self.partition,
            offset: outcome.ok().map(|base| base.plus(sampled.at as u64)),
            term: written.map(|(_, term)| term),
            bytes: sampled.bytes,
            error: None,
            more: Vec::new(),
        };
        let inner = |operation, start, end| {
            told(operation, SpanKind::Internal, Some(sampled.id), self.on.new_id(), start, end)
        };
        let mut publish = told("publish", SpanKind::Server, None, sampled.id, self.arrived, ended);
        publish.error = outcome.err();
        publish.more = vec![KeyValue::new("messaging.operation.type", "send")];
        if self.records > 1 {
            let records = i64::try_from(self.records).unwrap_or(i64::MAX);
            publish.more.push(KeyValue::new("messaging.batch.message_count", records));
        }
        self.on.tell(publish);
        if let Some((handed, durable)) = handed.zip(durable) {
            self.on.tell(inner("append", handed, durable));
        }
        // What this replica wrote, and not what it passed on to another after it was refused, or had already.
        if let (Some((written, _)), Ok(_)) = (written, outcome) {
            self.on.tell(inner("commit", written, decided.unwrap_or(ended)));
        }
    }
}
