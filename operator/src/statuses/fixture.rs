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

/// A write of this Topic.
pub(super) fn topic(name: &str, generation: i64) -> Write {
    let change = |topic: &mut Topic| topic.metadata.generation = Some(generation);
    Write::Topic(crate::topic::fixture::topic(name, change, 10), Box::default())
}

/// What was given to [`cluster`] or [`topic`].
pub(super) fn generation(write: &Write) -> Option<i64> {
    match write {
        Write::Cluster(cluster) => cluster.metadata.generation,
        Write::Topic(topic, _) => topic.metadata.generation,
    }
}
