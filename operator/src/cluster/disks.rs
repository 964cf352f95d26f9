//! Which brokers have too little space left, as they say themselves.
//!
//! Owns the condition `DiskPressure` and its Event. Never: what a broker does about it; it takes no records by its own decision.

use fulmar_core::control::{BrokerView, Disk, View};

use crate::conditions::{Claim, Truth, is_true};
use crate::events::Story;
use crate::names::ClusterKey;

use fulmar_crds::Cluster;
use kube::Resource as _;

const NAME: &str = "DiskPressure";

/// The condition.
pub(super) fn pressure(key: &ClusterKey, view: Option<&View>) -> Claim {
    let brokers = view.map(|view| view.brokers.as_slice()).unwrap_or_default();
    if brokers.iter().all(|broker| broker.disk.is_none()) {
        return Claim::new(
            NAME,
            Truth::Unknown,
            "AwaitingBrokers",
            "no broker has told how full its volume is",
        );
    }
    let full: Vec<String> = full(brokers)
        .map(|(broker, disk)| format!("{} ({})", key.pod(broker.ordinal.0), told(disk)))
        .collect();
    if full.is_empty() {
        return Claim::new(NAME, false, "Room", "every volume has room");
    }
    Claim::new(NAME, true, "VolumesFull", format!("{}: {CONSEQUENCE}", full.join(", ")))
}

const CONSEQUENCE: &str = "partitions that are led there take no records until retention or a larger spec.storage.size makes room; \
                           reading goes on";

/// Tells who is full, once each time that it is somebody else, and that it is over.
pub(super) fn tell(story: &mut Story, cluster: &Cluster, key: &ClusterKey, view: Option<&View>) {
    let brokers = view.map(|view| view.brokers.as_slice()).unwrap_or_default();
    // Without the percents: they change.
    let full: Vec<String> = full(brokers).map(|(broker, _)| key.pod(broker.ordinal.0)).collect();
    let about = || cluster.object_ref(&());
    if !full.is_empty() {
        story.tell(
            about(),
            true,
            NAME,
            format!("the volumes of {} are full: {CONSEQUENCE}", full.join(", ")),
        );
    } else if brokers.iter().any(|broker| broker.disk.is_some())
        && is_true(&cluster.status.clone().unwrap_or_default().conditions, NAME)
    {
        story.tell(about(), false, NAME, "every volume has room again".to_owned());
    }
}

fn full(brokers: &[BrokerView]) -> impl Iterator<Item = (&BrokerView, Disk)> {
    brokers.iter().filter_map(|broker| Some((broker, broker.disk.filter(|disk| disk.is_full)?)))
}

fn told(disk: Disk) -> String {
    format!("{}% of {} MiB", disk.used_percent, disk.total_bytes >> 20)
}

#[cfg(test)]
#[path = "disks_tests.rs"]
mod tests;
