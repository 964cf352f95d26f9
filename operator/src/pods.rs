//! What the pods of a Cluster tell: where each broker is, in which zone, on which volume, and whether it runs.
//!
//! Owns the reading of pods, claims and nodes. Never: who is dead; the controller decides that, this is one of its hints.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::core::PartialObjectMeta;

use crate::cache::Cache;
use crate::names::{ANNOTATION_CERTIFICATES, BROKER_CONTAINER, ClusterKey};

/// A claim.
pub type Claim = PersistentVolumeClaim;

/// One broker's pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerPod {
    /// The number in its name.
    pub ordinal: u16,
    /// Its name.
    pub name: String,
    /// Its uid: a precondition of whatever is done to it.
    pub uid: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Its address, once it has one.
    pub address: Option<IpAddr>,
    /// Its zone, if it is known.
    pub zone: Option<String>,
    /// The node that it is bound to.
    pub node: Option<String>,
    /// The uid of its claim, once there is one.
    pub volume: Option<String>,
    /// The container is not reported as ended.
    pub running: bool,
    /// Kubernetes calls it Ready.
    pub ready: bool,
    /// Since when it is not Ready, as Kubernetes notes it; `None`: it is, or nothing was noted yet.
    pub unready_since: Option<Timestamp>,
    /// It is being deleted.
    pub leaving: bool,
    /// The revision of the template that it was made from.
    pub revision: Option<String>,
    /// The certificates that kubelet was asked to bring to it at once, as brokers call them.
    pub certificates: Option<String>,
    /// Why it does not run, in Kubernetes' words, such as `ImagePullBackOff: …`.
    pub trouble: Option<String>,
}

/// The pods of a Cluster's `StatefulSet`, by ordinal.
pub fn brokers(
    key: &ClusterKey,
    zone_key: &str,
    pods: &[Arc<Pod>],
    claims: &[Arc<Claim>],
    nodes: &Cache<PartialObjectMeta<Node>>,
) -> Vec<BrokerPod> {
    let zone_of = |node: &str| nodes.get("", node).and_then(|node| node.labels().get(zone_key).cloned());
    let mut brokers: Vec<_> = pods
        .iter()
        .filter(|pod| belongs(key, pod))
        .filter_map(|pod| {
            let ordinal = key.ordinal_of_pod(&pod.name_any())?;
            let claim = key.claim(ordinal);
            let volume = claims.iter().find(|other| other.name_any() == claim).and_then(|claim| claim.uid());
            Some(read(ordinal, pod, volume, zone_key, &zone_of))
        })
        .collect();
    brokers.sort_by_key(|broker| broker.ordinal);
    brokers
}

fn belongs(key: &ClusterKey, pod: &Pod) -> bool {
    pod.owner_references().iter().any(|owner| owner.kind == "StatefulSet" && owner.name == key.child())
}

fn read(
    ordinal: u16,
    pod: &Pod,
    volume: Option<String>,
    zone_key: &str,
    zone_of: &dyn Fn(&str) -> Option<String>,
) -> BrokerPod {
    let status = pod.status.as_ref();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    // The pod's own label first: Kubernetes 1.35 copies the node's there, and it needs no grant for nodes.
    let zone = pod.labels().get(zone_key).cloned().or_else(|| zone_of(node.as_deref()?));
    let mut conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let readiness = conditions.find(|condition| condition.type_ == "Ready");
    let unready = readiness.filter(|condition| condition.status != "True");
    BrokerPod {
        ordinal,
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
        address: status.and_then(|status| status.pod_ip.as_ref()).and_then(|ip| ip.parse().ok()),
        zone: zone.filter(|zone| !zone.is_empty()),
        node,
        volume,
        running: !has_ended(pod),
        ready: readiness.is_some() && unready.is_none(),
        unready_since: unready
            .and_then(|condition| condition.last_transition_time.as_ref())
            .map(|time| time.0),
        leaving: pod.metadata.deletion_timestamp.is_some(),
        revision: pod.labels().get("controller-revision-hash").cloned(),
        certificates: pod.annotations().get(ANNOTATION_CERTIFICATES).cloned(),
        trouble: trouble(pod),
    }
}

/// Whether the broker's process is reported as ended. A container that was not started yet has not ended.
fn has_ended(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        return true;
    }
    let containers = status.container_statuses.iter().flatten();
    let mut broker = containers.filter(|container| container.name == BROKER_CONTAINER);
    broker.next().is_some_and(|container| {
        let state = container.state.clone().unwrap_or_default();
        let before = container.last_state.clone().unwrap_or_default();
        state.terminated.is_some() || (state.waiting.is_some() && before.terminated.is_some())
    })
}

fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let waiting = status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone()?;
        let routine = matches!(reason.as_str(), "ContainerCreating" | "PodInitializing");
        (!routine).then(|| spoken(&reason, waiting.message.as_deref()))
    });
    let unscheduled = || {
        let condition = status.conditions.iter().flatten().find(|one| one.type_ == "PodScheduled")?;
        (condition.status == "False").then(|| {
            spoken(condition.reason.as_deref().unwrap_or("Unscheduled"), condition.message.as_deref())
        })
    };
    waiting.or_else(unscheduled)
}

fn spoken(reason: &str, message: Option<&str>) -> String {
    message.map_or_else(|| reason.to_owned(), |message| format!("{reason}: {message}"))
}

#[cfg(test)]
#[path = "pods_tests.rs"]
mod tests;
