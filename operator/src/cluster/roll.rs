//! Which pod is made anew next, when the template has changed.
//!
//! Owns the order: one at a time, zone by zone, a healthy broker only while every partition has all its replicas in sync, and can
//! spare one: so none falls below its quorum by it. A partition of one replica is nowhere else, by its owner's choice, and is not
//! waited for. Never: how a pod goes; a Ready one goes by eviction, so that a budget is heard.

use std::collections::BTreeSet;

use crate::cluster::refusal::Refusal;
use crate::pods::BrokerPod;

/// What is known of how the brokers do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// The controller has its tenure and waits for nothing.
    pub settled: bool,
    /// Partitions with fewer replicas in sync than they have.
    pub under_replicated: u32,
    /// Topics that acknowledge with all of their replicas, of which there are several.
    pub unsparing: Vec<String>,
    /// Brokers that answer.
    pub serving: BTreeSet<u16>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Every pod is of the wanted template.
    Done,
    /// The next pod has to wait, for this reason.
    Wait(String),
    /// It would stop programs, and waiting changes nothing of that.
    Refuse(Refusal),
    /// This one, which is Ready, is to be evicted.
    Evict(BrokerPod),
    /// This one, which is not Ready and does not serve, is to be deleted.
    Delete(BrokerPod),
}

/// The reason of a roll that would stop programs.
pub const QUORUM_WOULD_BE_LOST: &str = "QuorumWouldBeLost";

/// Decides. `revision` is the template's; `brokers` how many pods there are to be.
pub fn next(revision: &str, brokers: u16, pods: &[BrokerPod], health: &Health) -> Step {
    let stale: Vec<&BrokerPod> =
        pods.iter().filter(|pod| !pod.leaving && pod.revision.as_deref() != Some(revision)).collect();
    if stale.is_empty() {
        return match pods.iter().find(|pod| pod.leaving) {
            Some(leaving) => Step::Wait(format!("{} is stopping", leaving.name)),
            None => Step::Done,
        };
    }
    // A broker that never came up, such as with an image that does not exist: nobody misses it.
    let useless = |pod: &&&BrokerPod| !pod.ready && !health.serving.contains(&pod.ordinal);
    if let Some(pod) = stale.iter().find(useless) {
        return Step::Delete((*pod).clone());
    }
    if let Some(reason) = why_to_wait(brokers, pods, health) {
        return Step::Wait(reason);
    }
    if let Some(topic) = health.unsparing.first() {
        return Step::Refuse(would_stop(topic, health.unsparing.len(), stale[0]));
    }
    let order = |pod: &&&BrokerPod| (pod.zone.clone(), pod.ordinal);
    let first = stale.iter().min_by_key(order).expect("there is a stale pod");
    Step::Evict((*first).clone())
}

fn why_to_wait(brokers: u16, pods: &[BrokerPod], health: &Health) -> Option<String> {
    if !health.settled {
        return Some("the controller does not know yet what the brokers hold".to_owned());
    }
    if let Some(leaving) = pods.iter().find(|pod| pod.leaving) {
        return Some(format!("{} is stopping", leaving.name));
    }
    if let Some(pod) = pods.iter().find(|pod| !pod.ready) {
        let trouble = pod.trouble.as_ref().map(|trouble| format!(": {trouble}")).unwrap_or_default();
        return Some(format!("{} is not ready{trouble}", pod.name));
    }
    if pods.len() < usize::from(brokers) {
        return Some(format!("{} of {brokers} pods exist", pods.len()));
    }
    if let Some(pod) = pods.iter().find(|pod| !health.serving.contains(&pod.ordinal)) {
        return Some(format!("{} has not joined", pod.name));
    }
    (health.under_replicated > 0)
        .then(|| format!("{} partitions have replicas that are not in sync", health.under_replicated))
}

/// `stale`: one of those that wait.
fn would_stop(topic: &str, topics: usize, stale: &BrokerPod) -> Refusal {
    let which = match topics {
        1 => format!("topic {topic}"),
        _ => format!("{topics} topics, such as {topic},"),
    };
    let message = format!(
        "no broker is made anew, as {which} could not be published to meanwhile: an acknowledgement takes all replicas; when its \
         programs can wait, delete the pods yourself, each once the one before is Ready: kubectl delete pod {}",
        stale.name
    );
    Refusal { reason: QUORUM_WOULD_BE_LOST, message }
}

#[cfg(test)]
#[path = "roll_tests.rs"]
mod tests;
