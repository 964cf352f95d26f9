//! What became of spans, counted.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Why a span was not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// One batch, or one answer, has more sampled records than are told of.
    Batch,
    /// As many batches and answers with sampled records are under way as may be.
    Room,
    /// The exporter has as many before it as may wait.
    Queue,
    /// The collector did not take it.
    Collector,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Room => "room",
            Self::Queue => "queue",
            Self::Collector => "collector",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Dropped {
    cause: &'static str,
}

/// Of all spans; a handle that can be cloned.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    exported: Counter,
    dropped: Family<Dropped, Counter>,
}

impl Counts {
    /// None yet, as a part of what `/metrics` shows.
    pub fn register(registry: &mut Registry) -> Self {
        let counts = Self::default();
        registry.register(
            "spans_exported",
            "Spans of calls that the collector answered without an error",
            counts.exported.clone(),
        );
        registry.register("spans_dropped", "Spans that it never got, by cause", counts.dropped.clone());
        counts
    }

    pub(super) fn exported(&self, spans: usize) {
        self.exported.inc_by(spans as u64);
    }

    pub(super) fn dropped(&self, cause: Cause, spans: usize) {
        self.dropped.get_or_create(&Dropped { cause: cause.name() }).inc_by(spans as u64);
    }
}
