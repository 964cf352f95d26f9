//! The first phase: everything that a pass decides from, read from the caches at once.

use std::sync::Arc;

use fulmar_crds::{Cluster, PartitionTable, Topic};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use crate::names::{ClusterKey, LABEL_INSTANCE};
use crate::pods::Claim;
use crate::watches::Watches;

/// What is there.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The Cluster; `None`: there is none, and only Topics that wait for it.
    pub cluster: Option<Arc<Cluster>>,
    /// Its Topics, deleted ones that have a finalizer included.
    pub topics: Vec<Arc<Topic>>,
    /// Its `StatefulSet`.
    pub stateful_set: Option<Arc<StatefulSet>>,
    /// Its pods.
    pub pods: Vec<Arc<Pod>>,
    /// Its brokers' claims.
    pub claims: Vec<Arc<Claim>>,
    /// The pages of its partition table.
    pub tables: Vec<Arc<PartialObjectMeta<PartitionTable>>>,
}

/// Reads what is there of one Cluster.
pub fn dereference(watches: &Watches, key: &ClusterKey) -> Seen {
    let ClusterKey { namespace, name } = key;
    Seen {
        cluster: watches.clusters.get(namespace, name),
        topics: watches.topics.select(namespace, |topic| topic.spec.cluster_ref.name == *name),
        stateful_set: watches.stateful_sets.get(namespace, &key.child()),
        pods: watches.pods.select(namespace, |pod| instance(pod) == Some(name)),
        claims: watches.claims.select(namespace, |claim| {
            instance(claim) == Some(name) && key.ordinal_of_claim(&claim.name_any()).is_some()
        }),
        tables: watches.tables.select(namespace, |table| key.owns_table(&table.name_any())),
    }
}

fn instance<K: ResourceExt>(object: &K) -> Option<&String> {
    object.labels().get(LABEL_INSTANCE)
}
