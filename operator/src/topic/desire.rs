//! What is wished of a Cluster and its Topics, in the controller's words. No client.

use fulmar_core::control::{Desired, LossWord, Rebalance, TopicWish};
use fulmar_crds::validate::{ClusterSettings, TopicSettings};

use crate::topic::claims::Claimed;

/// The wish: what is wanted of the Cluster, which has `standing` brokers now, and its Topics.
pub fn desire(settings: &ClusterSettings, standing: u16, claims: &[Claimed]) -> Desired {
    let alive = claims.iter().filter(|claimed| !claimed.is_going());
    Desired {
        brokers: settings.replicas,
        standing,
        topics: alive.filter_map(Claimed::holder).map(wish).collect(),
        deleted: claims.iter().filter_map(Claimed::condemned).map(str::to_owned).collect(),
        rebalance: Rebalance {
            paused: settings.rebalance.paused,
            moves_a_broker: settings.rebalance.moves_per_broker,
        },
    }
}

fn wish(settings: &TopicSettings) -> TopicWish {
    let milliseconds = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    TopicWish {
        name: settings.name.clone(),
        partitions: settings.partitions,
        replication_factor: settings.replication_factor,
        ack_quorum: settings.ack_quorum,
        max_message_bytes: settings.max_message_bytes,
        retention_ms: settings.retention_time.map(milliseconds),
        retention_bytes: settings.retention_bytes,
        // What cannot be read is told in the status, and does nothing.
        accepted_losses: LossWord::parse_all(&settings.accept_data_loss, settings.partitions)
            .unwrap_or_default(),
    }
}

#[cfg(test)]
#[path = "desire_tests.rs"]
mod tests;
