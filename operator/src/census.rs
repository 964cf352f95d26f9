//! What /metrics tells of the state of Clusters and Topics: counted in the caches, from the very statuses that people see.
//!
//! Never: a series for each Topic; there are ten thousand of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use fulmar_crds::{Cluster, Topic};

use crate::cache::Cache;
use crate::conditions::is_true;
use crate::metrics::Metrics;

#[derive(Debug, Default)]
struct Counts {
    objects: i64,
    not_ready: i64,
    stalled: i64,
}

impl Counts {
    /// An object without a status is not Ready.
    fn add(&mut self, conditions: Option<&[Condition]>) {
        let conditions = conditions.unwrap_or_default();
        self.objects += 1;
        self.not_ready += i64::from(!is_true(conditions, "Ready"));
        self.stalled += i64::from(is_true(conditions, "Stalled"));
    }
}

/// Counts, and sets the gauges.
pub fn take(clusters: &Cache<Cluster>, topics: &Cache<Topic>, metrics: &Metrics) {
    let (mut of_clusters, mut of_topics) = (Counts::default(), Counts::default());
    let mut under_replicated = 0;
    clusters.visit(|cluster| {
        let status = cluster.status.as_ref();
        of_clusters.add(status.map(|status| status.conditions.as_slice()));
        under_replicated += i64::from(status.and_then(|status| status.under_replicated).unwrap_or(0));
    });
    topics.visit(|topic| {
        of_topics.add(topic.status.as_ref().map(|status| status.conditions.as_slice()));
    });
    metrics.clusters_not_ready.set(of_clusters.not_ready);
    metrics.topics.set(of_topics.objects);
    metrics.topics_not_ready.set(of_topics.not_ready);
    metrics.stalled.set(of_clusters.stalled + of_topics.stalled);
    metrics.partitions_under_replicated.set(under_replicated);
}

#[cfg(test)]
#[path = "census_tests.rs"]
mod tests;
