//! Writes for tests.

use fulmar_crds::ClusterSpec;

use super::*;

/// A write of this Cluster, told apart from others by its generation.
pub(super) fn cluster(name: &str, generation: i64) -> Write {
    let mut cluster = Cluster::new(name, ClusterSpec::default());
    cluster.metadata.namespace = Some("shop".to_owned());
    cluster.metadata.generation = Some(generation);
    Write::Cluster(Box::new(cluster))
}

pub(super) fn generation(write: &Write) -> Option<i64> {
    match write {
        Write::Cluster(cluster) => cluster.metadata.generation,
        Write::Topic(topic, _) => topic.metadata.generation,
    }
}
