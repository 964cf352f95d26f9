//! The last phase for a Cluster: what is true of it now. A projection; nothing is decided from it.

use fulmar_core::control::{BrokerState, BrokerView, Moving, View};
use fulmar_crds::cluster::{BrokerStatus, Operation, OperationType, Retained};
use fulmar_crds::{Cluster, ClusterStatus};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;

use crate::cluster::disks;
use crate::cluster::growth::Volumes;
use crate::cluster::leftovers::Leftovers;
use crate::cluster::refusal::Refusal;
use crate::cluster::roll::Step;
use crate::cluster::scale::Scale;
use crate::conditions::{Claim, Truth, conditions};
use crate::names::ClusterKey;
use crate::pods::BrokerPod;

/// Everything that a status is made from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Where it is.
    pub key: &'a ClusterKey,
    /// The object.
    pub cluster: &'a Cluster,
    /// How many brokers are wanted; `None`: the spec is invalid.
    pub wanted: Option<u16>,
    /// Why something is not as it should be.
    pub problem: Option<&'a Problem>,
    /// How the volumes are; `None`: they were not looked at.
    pub volumes: Option<&'a Volumes>,
    /// What became of the volumes of brokers that were removed; `None`: they were not looked at.
    pub leftovers: Option<&'a Leftovers>,
    /// How many brokers there are to be now.
    pub scale: Option<Scale>,
    /// The brokers' set.
    pub stateful_set: Option<&'a StatefulSet>,
    /// The pods.
    pub pods: &'a [BrokerPod],
    /// How the roll goes; `None`: it was not looked at.
    pub roll: Option<&'a Step>,
    /// What the controller says; `None`: there is none yet.
    pub view: Option<&'a View>,
}

/// The reason of a template that brought up nobody: brokers are complete, but of the one before.
pub const ROLLOUT_FAILED: &str = "RolloutFailed";

/// Why a Cluster is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// One `CamelCase` word.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
    /// It does not pass by waiting.
    pub stuck: bool,
}

/// The status of a Cluster.
pub fn status(facts: Facts<'_>, now: Timestamp) -> ClusterStatus {
    let before = facts.cluster.status.clone().unwrap_or_default();
    let generation = facts.cluster.metadata.generation;
    // Of a controller that has not read its table yet, nothing is taken.
    let view = facts.view.filter(|view| view.controller_epoch > 0);
    let wanted = facts.wanted.unwrap_or(u16::MAX);
    let counts = |one: &&BrokerView| serves(one) && one.ordinal.0 < wanted;
    let serving = facts.view.map_or(0, |view| view.brokers.iter().filter(counts).count());
    let claims = vec![
        ready(&facts),
        reconciling(&facts),
        stalled(&facts),
        available(&facts),
        balanced(&facts),
        zones_known(&facts),
        rollout_complete(&facts),
        disks::pressure(facts.key, view),
        facts.volumes.map_or_else(Volumes::not_looked_at, Volumes::condition),
        facts.leftovers.map_or_else(Leftovers::not_looked_at, Leftovers::condition),
    ];
    let replicas = facts.stateful_set.and_then(|set| set.status.as_ref()).map(|status| status.replicas);
    let selector: Vec<_> = facts.key.selector().iter().map(|(key, value)| format!("{key}={value}")).collect();
    ClusterStatus {
        observed_generation: generation,
        cluster_id: view.and_then(|view| view.cluster_id).map(|id| id.to_string()).or(before.cluster_id),
        replicas: Some(replicas.unwrap_or(0)),
        selector: Some(selector.join(",")),
        min_replicas: view.map(|view| i32::from(view.min_brokers.max(1))).or(before.min_replicas),
        brokers_ready: facts.wanted.map(|wanted| format!("{serving}/{wanted}")).or(before.brokers_ready),
        under_replicated: view
            .map(|view| i32::try_from(view.under_replicated).unwrap_or(i32::MAX))
            .or(before.under_replicated),
        storage_capacity: match facts.volumes {
            Some(volumes) => volumes.capacity.clone(),
            None => before.storage_capacity,
        },
        operation: operation(&facts),
        retained: view
            .map(|view| Retained { topics: i32::try_from(view.retained.len()).unwrap_or(i32::MAX) })
            .or(before.retained),
        brokers: facts.view.map_or(before.brokers, |view| view.brokers.iter().map(broker).collect()),
        conditions: conditions(claims, &before.conditions, generation, now),
    }
}

fn serves(broker: &BrokerView) -> bool {
    broker.state == BrokerState::Serving
}

fn broker(view: &BrokerView) -> BrokerStatus {
    BrokerStatus {
        ordinal: i32::from(view.ordinal.0),
        incarnation: view.incarnation.map(|incarnation| incarnation.to_string()),
        zone: view.zone.clone(),
        state: Some(view.state.name().to_owned()),
        replicas: Some(i32::try_from(view.replicas).unwrap_or(i32::MAX)),
    }
}

/// What keeps it from being as wanted, the most telling first; `None`: nothing.
fn obstacle(facts: &Facts<'_>) -> Option<Problem> {
    if let Some(problem) = facts.problem {
        return Some(problem.clone());
    }
    let waits = |reason, message| Some(Problem { reason, message, stuck: false });
    let wanted = facts.wanted?;
    if let Some(halted) = facts.view.and_then(|view| view.waiting.as_ref()).filter(|one| one.halted) {
        let message = halted.message.clone();
        return Some(Problem { reason: halted.reason, message, stuck: true });
    }
    if let Some(pod) = facts.pods.iter().find(|pod| pod.ordinal < wanted && pod.trouble.is_some()) {
        let trouble = pod.trouble.as_deref().unwrap_or_default();
        if let Some(class) = facts.volumes.and_then(|volumes| volumes.pending.get(&pod.ordinal)) {
            let claim = facts.key.claim(pod.ordinal);
            let message = format!(
                "{}: {trouble}; its claim {claim} has no volume of StorageClass {class} yet: kubectl describe pvc {claim} says why",
                pod.name
            );
            return waits("VolumesPending", message);
        }
        return waits("PodsNotRunning", format!("{}: {trouble}", pod.name));
    }
    // So many Kubernetes was asked for: a paused Cluster may want others.
    let asked = facts.stateful_set.and_then(|set| set.spec.as_ref()?.replicas).unwrap_or(0);
    let asked = u16::try_from(asked).unwrap_or(u16::MAX).min(wanted);
    let is_there = |ordinal: &u16| facts.pods.iter().any(|pod| pod.ordinal == *ordinal);
    let absent: Vec<String> = (0..asked).filter(|one| !is_there(one)).map(|one| facts.key.pod(one)).collect();
    if !absent.is_empty() {
        let message = format!(
            "no such pod: {}; if it stays so, a quota or an admission policy may refuse it: kubectl describe statefulset {} says why",
            absent.join(", "),
            facts.key.child()
        );
        return waits("PodsMissing", message);
    }
    let Some(view) = facts.view else {
        return waits("AwaitingBrokers", "the brokers were not asked yet".to_owned());
    };
    if let Some(waiting) = &view.waiting {
        return waits(waiting.reason, waiting.message.clone());
    }
    let missing: Vec<String> = (0..wanted)
        .filter(|ordinal| !view.brokers.iter().any(|one| one.ordinal.0 == *ordinal && serves(one)))
        .map(|ordinal| not_serving(facts.key, view, ordinal))
        .collect();
    if !missing.is_empty() {
        return waits("AwaitingBrokers", missing.join("; "));
    }
    if view.controller_epoch == 0 {
        return waits("AwaitingBrokers", "the partition table was not read yet".to_owned());
    }
    match facts.scale {
        Some(Scale::Held(brokers)) if view.min_brokers > wanted => Some(Problem {
            reason: "ScaleDownRefused",
            message: format!(
                "{wanted} brokers are wanted, and there is a topic with {needed} replicas of each partition: {brokers} brokers \
                 go on and nothing is moved; set spec.replicas to {needed} at least, or be rid of that topic and its records \
                 (a retained one counts too)",
                needed = view.min_brokers
            ),
            stuck: true,
        }),
        Some(Scale::Held(_) | Scale::Asking(_) | Scale::AsWanted(_)) | None => None,
    }
}

fn not_serving(key: &ClusterKey, view: &View, ordinal: u16) -> String {
    let pod = key.pod(ordinal);
    match view.brokers.iter().find(|one| one.ordinal.0 == ordinal) {
        None => format!("{pod} was not seen"),
        Some(broker) if broker.message.is_empty() => format!("{pod} is {}", broker.state.name()),
        Some(broker) => format!("{pod} is {}: {}", broker.state.name(), broker.message),
    }
}

fn ready(facts: &Facts<'_>) -> Claim {
    match obstacle(facts) {
        Some(problem) => Claim::new("Ready", false, problem.reason, problem.message),
        None => Claim::new("Ready", true, "Serving", "every broker wanted has joined and serves"),
    }
}

/// What is not done without a person, while everything serves: brokers are not made anew, a volume does not grow, or does not go.
fn refusal<'a>(facts: &Facts<'a>) -> Option<&'a Refusal> {
    let roll = facts.roll.and_then(|step| match step {
        Step::Refuse(refusal) => Some(refusal),
        Step::Done | Step::Wait(_) | Step::Evict(_) | Step::Delete(_) => None,
    });
    let growth = || facts.volumes.and_then(|volumes| volumes.refusal.as_ref());
    roll.or_else(growth).or_else(|| facts.leftovers.and_then(|leftovers| leftovers.refusal.as_ref()))
}

fn reconciling(facts: &Facts<'_>) -> Claim {
    match obstacle(facts) {
        Some(problem) if !problem.stuck => Claim::new("Reconciling", true, problem.reason, problem.message),
        Some(problem) => Claim::new("Reconciling", false, problem.reason, ""),
        None => match facts.roll {
            Some(Step::Wait(_) | Step::Evict(_) | Step::Delete(_)) => {
                Claim::new("Reconciling", true, "RollingOut", "brokers are made anew one after the other")
            }
            Some(Step::Done | Step::Refuse(_)) | None => changing(facts),
        },
    }
}

/// What goes on though every broker wanted serves as it should.
fn changing(facts: &Facts<'_>) -> Claim {
    let name = "Reconciling";
    let leftovers = || facts.leftovers.and_then(Leftovers::underway);
    let others = || growing(facts).or_else(leftovers);
    match underway(facts) {
        // What a person has paused waits for nobody else; but a Cluster that has brokers too many is not as wanted.
        Some((PAUSED, message)) if rests(facts) => match others() {
            Some((reason, message)) => Claim::new(name, true, reason, message),
            None => Claim::new(name, false, PAUSED, message),
        },
        Some((reason, message)) => Claim::new(name, true, reason, message),
        None => match others() {
            Some((reason, message)) => Claim::new(name, true, reason, message),
            None => Claim::new(name, false, "AsWanted", ""),
        },
    }
}

/// Nothing moves, and no broker waits for it to go.
fn rests(facts: &Facts<'_>) -> bool {
    let moves = facts.view.and_then(|view| view.moving).is_some_and(|moving| moving.under_way > 0);
    let leaves = matches!(facts.scale, Some(Scale::Held(_) | Scale::Asking(_)));
    !moves && !leaves
}

fn stalled(facts: &Facts<'_>) -> Claim {
    let obstacle = obstacle(facts);
    if let Some(Refusal { reason, message }) = refusal(facts)
        && !obstacle.as_ref().is_some_and(|problem| problem.stuck)
    {
        return Claim::new("Stalled", true, reason, message.clone());
    }
    match obstacle {
        Some(problem) if problem.stuck => Claim::new("Stalled", true, problem.reason, problem.message),
        Some(problem) => Claim::new("Stalled", false, problem.reason, ""),
        None => Claim::new("Stalled", false, "AsWanted", ""),
    }
}

fn available(facts: &Facts<'_>) -> Claim {
    let Some(view) = facts.view.filter(|view| view.controller_epoch > 0) else {
        return Claim::new(
            "Available",
            Truth::Unknown,
            "AwaitingBrokers",
            "nothing is known of the brokers yet",
        );
    };
    if !view.brokers.iter().any(serves) {
        return Claim::new("Available", false, "NoBrokers", "no broker serves");
    }
    let silent = |topic: &&fulmar_core::control::TopicView| topic.partitions.iter().any(|one| !one.serving);
    match view.topics.values().filter(silent).count() {
        0 => Claim::new("Available", true, "Serving", "programs can publish and consume"),
        topics => {
            let message = format!("{topics} topics have partitions that do not accept records");
            Claim::new("Available", false, "PartitionsNotServing", message)
        }
    }
}

fn growing(facts: &Facts<'_>) -> Option<(&'static str, String)> {
    let volumes = facts.volumes.filter(|volumes| !volumes.growing.is_empty())?;
    Some(("VolumesGrow", volumes.growing.join("; ")))
}

/// What is moved between brokers, or goes after it; nothing: all is where it should be.
fn underway(facts: &Facts<'_>) -> Option<(&'static str, String)> {
    let view = facts.view?;
    let crowded = crowded(facts, view);
    let moved = |moving: Moving| moved(moving, &crowded);
    let is_paused = view.moving.is_some_and(|moving| moving.is_paused);
    let unless_paused = |reason| if is_paused { PAUSED } else { reason };
    match (facts.scale, view.moving.map(moved)) {
        (Some(Scale::Held(brokers)), moved) => {
            let unheard: Vec<String> = view.unheard.iter().map(|one| facts.key.pod(one.0)).collect();
            let moved = match moved {
                Some(moved) => moved,
                None if unheard.is_empty() => "their replicas are not moved yet".to_owned(),
                None => format!(
                    "their replicas are moved; not heard: {}, which may hold a topic that is being deleted: bring it back, or \
                     give it an empty volume",
                    unheard.join(", ")
                ),
            };
            Some((
                unless_paused("ScalingDown"),
                format!("{brokers} brokers run until those that leave hold nothing: {moved}"),
            ))
        }
        (Some(Scale::Asking(brokers)), _) => {
            Some(("ScalingDown", format!("{brokers} brokers run until it is known what they hold")))
        }
        (Some(Scale::AsWanted(_)) | None, moved) => {
            moved.map(|moved| (unless_paused("MovingReplicas"), moved))
        }
    }
}

/// The reason of what a person has paused.
const PAUSED: &str = "MovesPaused";

/// How far it is, for people.
fn moved(moving: Moving, crowded: &str) -> String {
    let far = format!("{} of {} replicas are moved{crowded}", moving.done, moving.total);
    if !moving.is_paused {
        return far;
    }
    let rest = match moving.under_way {
        0 => "nothing moves".to_owned(),
        under_way => format!("{under_way} are on their way, and no other one begins to move"),
    };
    format!("{far}; {rest} until spec.rebalance.paused is false")
}

/// Brokers that take no replicas, for people; empty if all do.
fn crowded(facts: &Facts<'_>, view: &View) -> String {
    let is_crowded = |one: &&BrokerView| one.disk.is_some_and(|disk| !disk.takes_replicas());
    let stays = view.brokers.iter().filter(|one| one.ordinal.0 < view.wished);
    let names: Vec<String> = stays.filter(is_crowded).map(|one| facts.key.pod(one.ordinal.0)).collect();
    if names.is_empty() {
        return String::new();
    }
    format!("; too little room on the volumes of {}", names.join(", "))
}

/// Brokers that are wanted, have nothing yet, and do not serve: they are to get their part.
fn newcomers(view: &View, wanted: u16) -> Vec<u16> {
    let has_begun = view.brokers.iter().any(|one| one.replicas > 0);
    let is_there = |ordinal: u16| {
        view.brokers.iter().any(|one| one.ordinal.0 == ordinal && (serves(one) || one.replicas > 0))
    };
    if has_begun { (0..wanted).filter(|ordinal| !is_there(*ordinal)).collect() } else { Vec::new() }
}

fn balanced(facts: &Facts<'_>) -> Claim {
    let name = "Balanced";
    let told = facts.view.zip(facts.wanted);
    let told = told.filter(|(view, _)| view.controller_epoch > 0 && view.waiting.is_none());
    let Some((view, wanted)) = told else {
        return Claim::new(name, Truth::Unknown, "AwaitingBrokers", "the partition table was not read yet");
    };
    if let Some((reason, message)) = underway(facts) {
        return Claim::new(name, false, reason, message);
    }
    let newcomers: Vec<String> = newcomers(view, wanted).into_iter().map(|one| facts.key.pod(one)).collect();
    if !newcomers.is_empty() {
        let message = format!("{} do not serve yet", newcomers.join(", "));
        return Claim::new(name, false, "AwaitingBrokers", message);
    }
    if view.wished != wanted || view.unplanned {
        return Claim::new(name, false, "Planning", "it is looked at what is to be moved");
    }
    Claim::new(name, true, "AsWanted", "replicas are spread over zones and brokers, and none is moved")
}

/// What people see of it in a column.
fn operation(facts: &Facts<'_>) -> Option<Operation> {
    let moving = facts.view.filter(|view| view.controller_epoch > 0)?.moving?;
    let kind = match facts.scale {
        Some(Scale::Held(_) | Scale::Asking(_)) => OperationType::ScaleDown,
        Some(Scale::AsWanted(_)) | None => OperationType::Rebalance,
    };
    let step = if moving.is_paused && moving.under_way == 0 { "Paused" } else { "MovingReplicas" };
    let count = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    Some(Operation {
        kind,
        step: step.to_owned(),
        done: count(moving.done),
        total: count(moving.total),
        progress: format!("{kind:?} {}/{}", moving.done, moving.total),
    })
}

fn zones_known(facts: &Facts<'_>) -> Claim {
    let placed: Vec<&BrokerPod> = facts.pods.iter().filter(|pod| pod.node.is_some()).collect();
    let unknown: Vec<&str> =
        placed.iter().filter(|pod| pod.zone.is_none()).map(|pod| pod.name.as_str()).collect();
    let key = &facts.cluster.spec.zone_topology_key;
    if placed.is_empty() {
        Claim::new("ZonesKnown", Truth::Unknown, "AwaitingPods", "no pod is on a node yet")
    } else if unknown.is_empty() {
        Claim::new("ZonesKnown", true, "Labelled", format!("every broker's zone is known by the label {key}"))
    } else {
        let message = format!(
            "neither pod nor node has the label {key}: {}; each of these brokers is taken for a zone of its own",
            unknown.join(", ")
        );
        Claim::new("ZonesKnown", false, "LabelMissing", message)
    }
}

fn rollout_complete(facts: &Facts<'_>) -> Claim {
    let name = "RolloutComplete";
    if let Some(problem) = facts.problem.filter(|problem| problem.reason == ROLLOUT_FAILED) {
        return Claim::new(name, false, problem.reason, problem.message.clone());
    }
    match facts.roll {
        None => {
            Claim::new(name, Truth::Unknown, "NotLookedAt", "the pods were not compared with the template")
        }
        Some(Step::Done) if !facts.pods.iter().any(|pod| pod.ready) => {
            Claim::new(name, false, "Waiting", "no broker is Ready")
        }
        Some(Step::Done) => Claim::new(name, true, "AsWanted", "every broker runs the wanted template"),
        Some(Step::Wait(why)) => Claim::new(name, false, "Waiting", why.clone()),
        Some(Step::Refuse(refusal)) => Claim::new(name, false, refusal.reason, refusal.message.clone()),
        Some(Step::Evict(pod) | Step::Delete(pod)) => {
            Claim::new(name, false, "RollingOut", format!("{} is being made anew", pod.name))
        }
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
