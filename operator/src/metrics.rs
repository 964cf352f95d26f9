//! What is counted, and its text at /metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The operator's counters and gauges.
#[derive(Debug)]
pub struct Metrics {
    /// 1 while this process acts.
    pub leading: Gauge,
    /// Clusters that are attended to.
    pub clusters: Gauge,
    /// Clusters whose status does not say `Ready=True`.
    pub clusters_not_ready: Gauge,
    /// Clusters and Topics that a person has to look at.
    pub stalled: Gauge,
    /// Topics, those that are being deleted included.
    pub topics: Gauge,
    /// Topics whose status does not say `Ready=True`.
    pub topics_not_ready: Gauge,
    /// Partitions with a replica that is not in sync.
    pub partitions_under_replicated: Gauge,
    /// Passes over a Cluster.
    pub reconciles: Counter,
    /// Passes that ended with an error.
    pub reconcile_errors: Counter,
    /// Children that were applied; those that were as they should be are not counted, nor sent.
    pub applies: Counter,
    /// Statuses that were written.
    pub status_writes: Counter,
    /// Events that were written.
    pub events: Counter,
    /// Events that were dropped because there were too many.
    pub events_dropped: Counter,
    /// Pages of partition tables that were written.
    pub table_writes: Counter,
    /// Writes of pages whose outcome had to be looked up.
    pub table_outcomes_unknown: Counter,
    /// Pods that were evicted or deleted to be made anew.
    pub pods_rolled: Counter<u64, AtomicU64>,
    registry: Registry,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut metrics = Self {
            leading: Gauge::default(),
            clusters: Gauge::default(),
            clusters_not_ready: Gauge::default(),
            stalled: Gauge::default(),
            topics: Gauge::default(),
            topics_not_ready: Gauge::default(),
            partitions_under_replicated: Gauge::default(),
            reconciles: Counter::default(),
            reconcile_errors: Counter::default(),
            applies: Counter::default(),
            status_writes: Counter::default(),
            events: Counter::default(),
            events_dropped: Counter::default(),
            table_writes: Counter::default(),
            table_outcomes_unknown: Counter::default(),
            pods_rolled: Counter::default(),
            registry: Registry::with_prefix("fulmar_operator"),
        };
        metrics.register_states();
        metrics.register();
        metrics
    }

    /// The text of all of them, in the `OpenMetrics` format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }

    /// What is counted every few seconds, by the process that acts.
    fn register_states(&mut self) {
        let registry = &mut self.registry;
        registry.register("leading", "1 while this process holds the Lease and acts", self.leading.clone());
        registry.register("clusters", "Clusters that are attended to", self.clusters.clone());
        registry.register(
            "clusters_not_ready",
            "Clusters whose status does not say Ready=True",
            self.clusters_not_ready.clone(),
        );
        registry.register(
            "stalled",
            "Clusters and Topics whose status says Stalled=True: a person must look",
            self.stalled.clone(),
        );
        registry.register("topics", "Topics, those that are being deleted included", self.topics.clone());
        registry.register(
            "topics_not_ready",
            "Topics whose status does not say Ready=True",
            self.topics_not_ready.clone(),
        );
        registry.register(
            "partitions_under_replicated",
            "Partitions with a replica that is not in sync",
            self.partitions_under_replicated.clone(),
        );
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("reconciles", "Passes over a Cluster", self.reconciles.clone());
        registry.register(
            "reconcile_errors",
            "Passes that ended with an error",
            self.reconcile_errors.clone(),
        );
        registry.register("applies", "Children of Clusters that were applied", self.applies.clone());
        registry.register("status_writes", "Statuses that were written", self.status_writes.clone());
        registry.register("events", "Events that were written", self.events.clone());
        registry.register(
            "events_dropped",
            "Events that were dropped as too many",
            self.events_dropped.clone(),
        );
        registry.register(
            "table_writes",
            "Pages of partition tables that were written",
            self.table_writes.clone(),
        );
        registry.register(
            "table_outcomes_unknown",
            "Writes of pages whose outcome had to be looked up",
            self.table_outcomes_unknown.clone(),
        );
        registry.register(
            "pods_rolled",
            "Pods that were evicted or deleted to be made anew",
            self.pods_rolled.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
