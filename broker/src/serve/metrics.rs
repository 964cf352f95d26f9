//! What is counted, in Prometheus' text form. Few series: nothing is labelled by topic, partition or client.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use opentelemetry::TraceId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::HistogramWithExemplars;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::exponential_buckets;
use prometheus_client::registry::{Registry, Unit};

use crate::memory::Budget;
use crate::storage::Fullness;
use crate::traces::Counts;

/// Of a failed request: one of the documented reasons, so their number is bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// Of an exemplar: one publish that took about so long.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Example {
    trace_id: String,
}

/// All counters of a broker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    publishes: Counter,
    publish_seconds: HistogramWithExemplars<Example>,
    failures: Family<Reason, Counter>,
    batches: Counter,
    batch_bytes: Counter,
    delivered: Counter,
    leading: Gauge,
    replicas: Gauge,
    halted: Gauge,
    damaged: Gauge,
    irreparable: Gauge,
    mended: Counter,
    operator: Gauge,
    answer_bytes: Gauge,
    request_bytes: Gauge,
    volume: VolumeGauges,
    spans: Counts,
}

/// The volume, as the storage saw it last.
#[derive(Debug, Default)]
struct VolumeGauges {
    size: Gauge,
    available: Gauge,
    full: Gauge,
}

impl VolumeGauges {
    fn register(registry: &mut Registry) -> Self {
        let gauges = Self::default();
        let size = gauges.size.clone();
        registry.register_with_unit("volume", "Size of the volume's file system", Unit::Bytes, size);
        registry.register_with_unit(
            "volume_available",
            "What may still be written, free pages of the records' file included",
            Unit::Bytes,
            gauges.available.clone(),
        );
        registry.register(
            "volume_full",
            "1 while too little is available: partitions that are led here take no records",
            gauges.full.clone(),
        );
        gauges
    }

    fn set(&self, fullness: Fullness) {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.size.set(bytes(fullness.total_bytes));
        self.available.set(bytes(fullness.available_bytes));
        self.full.set(i64::from(fullness.is_full));
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("fulmar");
        // From 0.1 ms, a fast disk's flush, to 13 s, past the patience of a retried publish.
        let publish_seconds = HistogramWithExemplars::new(exponential_buckets(0.0001, 2.0, 18));
        let (publishes, failures) = (Counter::default(), Family::<Reason, Counter>::default());
        let (batches, batch_bytes, delivered) = (Counter::default(), Counter::default(), Counter::default());
        let (leading, replicas, halted) = (Gauge::default(), Gauge::default(), Gauge::default());
        let operator = Gauge::default();
        let (damaged, irreparable, mended) = (Gauge::default(), Gauge::default(), Counter::default());
        registry.register("publishes", "Messages published one by one and acknowledged", publishes.clone());
        registry.register_with_unit(
            "publish_duration",
            "From a message's arrival to its acknowledgement",
            Unit::Seconds,
            publish_seconds.clone(),
        );
        registry.register("publish_failures", "Publishes that failed, by reason", failures.clone());
        registry.register("batches_received", "Record batches handed to a leader here", batches.clone());
        registry.register_with_unit("batch", "Bytes of those batches", Unit::Bytes, batch_bytes.clone());
        registry.register("messages_delivered", "Messages sent to subscribers", delivered.clone());
        registry.register(
            "partitions_leading",
            "Partitions that this broker leads, open to readers",
            leading.clone(),
        );
        registry.register("replicas", "Replicas on this broker", replicas.clone());
        registry.register("replicas_halted", "Replicas that stopped: a person must look", halted.clone());
        registry.register(
            "replicas_damaged",
            "Replicas with a damaged batch: the other replicas are asked for a copy",
            damaged.clone(),
        );
        registry.register(
            "replicas_irreparable",
            "Replicas with a damaged batch that no other member can give: a person must look",
            irreparable.clone(),
        );
        registry.register("batches_mended", "Damaged batches that copies took the place of", mended.clone());
        let (answer_bytes, request_bytes) = (Gauge::default(), Gauge::default());
        registry.register_with_unit(
            "answers_held",
            "Memory taken by answers that are not written to their sockets yet",
            Unit::Bytes,
            answer_bytes.clone(),
        );
        registry.register_with_unit(
            "requests_held",
            "Memory taken by messages that arrive",
            Unit::Bytes,
            request_bytes.clone(),
        );
        registry.register("operator_attached", "1 while an operator is attached", operator.clone());
        Self {
            publishes,
            publish_seconds,
            failures,
            batches,
            batch_bytes,
            delivered,
            leading,
            replicas,
            halted,
            damaged,
            irreparable,
            mended,
            operator,
            answer_bytes,
            request_bytes,
            volume: VolumeGauges::register(&mut registry),
            spans: Counts::register(&mut registry),
            registry,
        }
    }
}

impl Metrics {
    /// What becomes of spans is counted by whoever makes them.
    pub fn spans(&self) -> Counts {
        self.spans.clone()
    }

    /// A publish came to its end; in which trace, if it is sampled.
    pub(super) fn published(&self, took: Duration, outcome: Result<Option<TraceId>, &'static str>) {
        match outcome {
            Ok(trace) => {
                self.publishes.inc();
                let example = trace.map(|trace| Example { trace_id: trace.to_string() });
                let now = example.is_some().then(SystemTime::now);
                self.publish_seconds.observe(took.as_secs_f64(), example, now);
            }
            Err(reason) => {
                self.failures.get_or_create(&Reason { reason }).inc();
            }
        }
    }

    /// A batch of an SDK failed.
    pub(super) fn failed(&self, reason: &'static str) {
        self.failures.get_or_create(&Reason { reason }).inc();
    }

    /// A batch was handed to the leader here.
    pub(super) fn appended(&self, bytes: usize) {
        self.batches.inc();
        self.batch_bytes.inc_by(bytes as u64);
    }

    /// Messages were sent to a subscriber.
    pub(super) fn delivered(&self, messages: usize) {
        self.delivered.inc_by(messages as u64);
    }

    /// What answers and requests take now.
    pub(super) fn hold(&self, answers: &Budget, requests: &Budget) {
        let bytes = |budget: &Budget| i64::try_from(budget.taken_bytes()).unwrap_or(i64::MAX);
        self.answer_bytes.set(bytes(answers));
        self.request_bytes.set(bytes(requests));
    }

    /// How full the volume is now.
    pub(super) fn fill(&self, fullness: Fullness) {
        self.volume.set(fullness);
    }

    /// The text; what is a state is read first.
    pub(super) fn text(&self, states: &[crate::replica::State], attached: bool) -> String {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.replicas.set(count(states.len()));
        self.leading.set(count(states.iter().filter(|state| state.serving.is_some()).count()));
        self.halted.set(count(states.iter().filter(|state| state.is_halted).count()));
        self.damaged.set(count(states.iter().filter(|state| state.damaged.is_some()).count()));
        self.irreparable.set(count(states.iter().filter(|state| state.irreparable.is_some()).count()));
        self.mended.inner().store(states.iter().map(|state| state.mended).sum(), Ordering::Relaxed);
        self.operator.set(i64::from(attached));
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            // A String takes everything; without metrics rather than without a broker.
            text.clear();
            let _written = writeln!(text, "# metrics could not be written");
        }
        text
    }
}
