//! Traces of sampled records: what this broker did for a record whose header `traceparent` is sampled, as spans for a collector.
//!
//! Owns which records are looked at, and what spans say (OpenTelemetry's conventions for messaging). `publish` and `deliver`
//! are children of the span that the record's header names, since the bytes of a record are delivered as they were published;
//! `append` and `commit` are children of `publish`. Without a collector no header is looked at. Never waits: what has no room on
//! its way to the collector is counted and let go of.

mod collector;
mod counts;
mod delivering;
mod export;
pub mod parent;
mod publishing;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use fulmar_core::offset::Offset;
use fulmar_core::term::Term;
use memchr::memmem::Finder;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanLinks};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

pub use self::collector::Collector;
pub use self::counts::Counts;
pub use self::delivering::Delivering;
pub use self::export::{Exporting, start};
pub use self::publishing::Publishing;

use self::counts::Cause;

/// Records of one batch, or of one answer, that are told of: who samples everything and sends batches of thousands learns enough
/// from these, and does not push other traces out of the queue.
pub const RECORDS_MAX: usize = 16;

/// Batches and answers with sampled records that are under way at a time, some 2 KiB each: 8 MiB that no share of the memory
/// stands for. A program that does not take its answers, or a quorum that is short, would keep any number of them.
pub const UNDER_WAY_MAX: usize = 4096;

/// Finds batches that cannot have a trace, without looking at their records.
static MARK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(parent::TRACEPARENT));

/// What records are traced with; nothing, unless a collector is configured. A handle that can be cloned.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    on: Option<Arc<On>>,
}

/// With a collector.
#[derive(Debug)]
struct On {
    spans: mpsc::Sender<SpanData>,
    counts: Counts,
    room: Arc<Semaphore>,
    scope: InstrumentationScope,
    ids: RandomIdGenerator,
}

impl Traces {
    /// Whether there is a collector.
    pub fn is_on(&self) -> bool {
        self.on.is_some()
    }

    fn to(spans: mpsc::Sender<SpanData>, counts: Counts) -> Self {
        let scope =
            InstrumentationScope::builder("fulmar-broker").with_version(env!("CARGO_PKG_VERSION")).build();
        let (room, ids) = (Arc::new(Semaphore::new(UNDER_WAY_MAX)), RandomIdGenerator::default());
        Self { on: Some(Arc::new(On { spans, counts, room, scope, ids })) }
    }
}

/// What is said of one span.
struct Told<'a> {
    operation: &'static str,
    kind: SpanKind,
    /// Whose child it is: this span, or a child of it in this process.
    parent: &'a SpanContext,
    within: Option<SpanId>,
    id: SpanId,
    start: SystemTime,
    end: SystemTime,
    topic: &'a str,
    partition: u32,
    offset: Option<Offset>,
    term: Option<Term>,
    /// Of the record's value.
    bytes: usize,
    /// Why it failed, in a word.
    error: Option<&'static str>,
    more: Vec<KeyValue>,
}

impl On {
    /// Hands a span to the exporter.
    fn tell(&self, told: Told<'_>) {
        // Nothing is made for a queue that is full: the actor may be who tells.
        match self.spans.try_reserve() {
            Ok(room) => room.send(self.span(told)),
            Err(_) => self.counts.dropped(Cause::Queue, 1),
        }
    }

    /// For a batch, or an answer, that has sampled records, until they are told.
    fn room(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.room).try_acquire_owned().ok()
    }

    fn span(&self, told: Told<'_>) -> SpanData {
        let parent = told.parent;
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut attributes = vec![
            KeyValue::new("messaging.system", "fulmar"),
            KeyValue::new("messaging.operation.name", told.operation),
            KeyValue::new("messaging.destination.name", told.topic.to_owned()),
            KeyValue::new("messaging.destination.partition.id", told.partition.to_string()),
            KeyValue::new("messaging.message.body.size", number(told.bytes as u64)),
        ];
        attributes
            .extend(told.offset.map(|offset| KeyValue::new("messaging.fulmar.offset", number(offset.0))));
        attributes.extend(told.term.map(|term| KeyValue::new("messaging.fulmar.term", term.to_string())));
        attributes.extend(told.error.map(|error| KeyValue::new("error.type", error)));
        attributes.extend(told.more);
        SpanData {
            span_context: SpanContext::new(
                parent.trace_id(),
                told.id,
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: told.within.unwrap_or(parent.span_id()),
            parent_span_is_remote: told.within.is_none(),
            span_kind: told.kind,
            name: format!("{} {}", told.operation, told.topic).into(),
            start_time: told.start,
            end_time: told.end.max(told.start),
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: told.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }

    fn new_id(&self) -> SpanId {
        self.ids.new_span_id()
    }
}

/// Whether bytes of records that are not compressed may have a trace.
fn may_have_one(bytes: &[u8]) -> bool {
    MARK.find(bytes).is_some()
}
