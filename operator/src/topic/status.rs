//! The last phase for a Topic: what is true of it now. A projection; nothing is decided from it.

use fulmar_core::control::{LossWord, PartitionView, TopicView, View};
use fulmar_core::id::Ordinal;
use fulmar_crds::Topic;
use fulmar_crds::topic::{ACCEPT_DATA_LOSS, STATUS_PARTITIONS_MAX, TopicStatus};
use fulmar_crds::validate::TopicSettings;
use jiff::Timestamp;
use kube::ResourceExt;

use crate::conditions::{Claim, Truth, conditions};
use crate::topic::claims::{Claimed, Standing};

/// What is known of the Cluster that a Topic names.
#[derive(Debug, Clone, Copy)]
pub enum Home<'a> {
    /// There is none.
    Absent,
    /// It is being deleted.
    Going,
    /// It says what no rule lets through.
    Invalid,
    /// There is one; nothing is known of its brokers yet, for this reason.
    Silent(&'a str),
    /// What its controller says.
    View(&'a View),
}

/// The status of a Topic.
pub fn status(claimed: &Claimed, home: Home<'_>, now: Timestamp) -> TopicStatus {
    let before = claimed.topic.status.clone().unwrap_or_default();
    let generation = claimed.topic.metadata.generation;
    let settings = claimed.holder();
    let view = match (home, settings) {
        (Home::View(view), Some(settings)) => view.topics.get(&settings.name),
        _ => None,
    };
    let verdict = verdict(claimed, home, view);
    let claims = vec![
        Claim::new("Ready", verdict.ready, verdict.reason, verdict.message.clone()),
        reconciling(&verdict),
        stalled(&verdict, settings),
        fully_replicated(view),
    ];
    let known = |now: Option<i32>, earlier: Option<i32>| now.filter(|number| *number > 0).or(earlier);
    TopicStatus {
        observed_generation: generation,
        topic_id: view.and_then(|view| view.id).map(|id| id.to_string()).or(before.topic_id),
        topic_name: settings.map(|settings| settings.name.clone()).or(before.topic_name),
        replication_factor: known(
            view.map(|view| i32::from(view.replication_factor)),
            before.replication_factor,
        ),
        ack_quorum: known(view.map(|view| i32::from(view.ack_quorum)), before.ack_quorum),
        partitions: view.map_or(before.partitions, lines),
        under_replicated: view.map(|view| count(view.under_replicated)).or(before.under_replicated),
        conditions: conditions(claims, &before.conditions, generation, now),
    }
}

/// A message names so many partitions.
const NAMED_MAX: usize = 16;

struct Verdict {
    ready: bool,
    reason: &'static str,
    message: String,
    progress: Progress,
}

enum Progress {
    /// As wished.
    Done,
    /// It goes on by itself.
    Going,
    /// A person has to do something.
    Stuck,
}

impl Verdict {
    fn not(reason: &'static str, message: impl Into<String>, progress: Progress) -> Self {
        Self { ready: false, reason, message: message.into(), progress }
    }
}

fn verdict(claimed: &Claimed, home: Home<'_>, view: Option<&TopicView>) -> Verdict {
    let cluster = &claimed.topic.spec.cluster_ref.name;
    let settings = match &claimed.standing {
        Standing::Holder(settings) => settings,
        Standing::Taken { name, by } => {
            let message = format!("the older Topic {by} has the name {name} in Cluster {cluster}");
            return Verdict::not("NameTaken", message, Progress::Stuck);
        }
        Standing::Invalid(error) => return Verdict::not("InvalidSpec", error.to_string(), Progress::Stuck),
    };
    if claimed.is_going() {
        return Verdict::not(
            "Deleting",
            "waiting until the brokers have deleted the records",
            Progress::Going,
        );
    }
    match home {
        Home::Absent => {
            let message = format!("there is no Cluster {cluster} in this namespace; waiting for it");
            Verdict::not("ClusterNotFound", message, Progress::Going)
        }
        Home::Going => {
            let message = format!("Cluster {cluster} is being deleted; waiting for another one of this name");
            Verdict::not("ClusterNotFound", message, Progress::Going)
        }
        Home::Invalid => Verdict::not(
            "ClusterInvalid",
            format!("see the conditions of Cluster {cluster}"),
            Progress::Going,
        ),
        Home::Silent(why) => Verdict::not("AwaitingBrokers", why, Progress::Going),
        Home::View(whole) => by_view(&claimed.topic, settings, whole, view),
    }
}

fn by_view(object: &Topic, settings: &TopicSettings, whole: &View, view: Option<&TopicView>) -> Verdict {
    if let Some(waiting) = &whole.waiting {
        let progress = if waiting.halted { Progress::Stuck } else { Progress::Going };
        return Verdict::not(waiting.reason, waiting.message.clone(), progress);
    }
    let Some(view) = view.filter(|_| whole.controller_epoch > 0) else {
        return Verdict::not("Pending", "the controller has not placed it yet", Progress::Going);
    };
    let wanted = usize::try_from(settings.partitions).unwrap_or(usize::MAX);
    let serving = view.partitions.iter().filter(|partition| partition.serving).count();
    if view.ready && serving >= wanted && view.partitions.len() == serving {
        let lost = view.partitions.iter().enumerate();
        let lost = lost.filter_map(|(number, partition)| Some((number, partition.may_have_lost?)));
        let tell = |(number, from)| {
            format!("; partition {number} may lack acknowledged records from offset {from} on")
        };
        let lost: Vec<String> = lost.take(NAMED_MAX).map(tell).collect();
        let message = format!("all {serving} partitions accept and commit records{}", lost.concat());
        return Verdict { ready: true, reason: "Serving", message, progress: Progress::Done };
    }
    let reason = if view.reason.is_empty() || view.ready { "Pending" } else { view.reason };
    let message = if view.message.is_empty() || view.ready {
        format!("{serving} of {wanted} partitions accept records")
    } else {
        view.message.clone()
    };
    if let Some(words) = words(view) {
        let place =
            object.namespace().map(|namespace| format!("--namespace {namespace} ")).unwrap_or_default();
        let name = object.name_any();
        let command = format!("kubectl {place}annotate flt {name} --overwrite {ACCEPT_DATA_LOSS}={words}");
        let message =
            format!("{message}. If what is missing never comes back, give up what only it has: {command}");
        return Verdict::not(reason, message, Progress::Stuck);
    }
    let stuck = view.partitions.iter().any(|partition| partition.stuck.is_some());
    Verdict::not(reason, message, if stuck { Progress::Stuck } else { Progress::Going })
}

/// The annotation that lets every partition go on which nothing else can help.
fn words(view: &TopicView) -> Option<String> {
    let words = view.partitions.iter().filter_map(|partition| partition.stuck.as_ref()?.word);
    let words: Vec<String> = words.take(NAMED_MAX).map(|word| word.to_string()).collect();
    (!words.is_empty()).then(|| words.join(","))
}

fn reconciling(verdict: &Verdict) -> Claim {
    match verdict.progress {
        Progress::Going => Claim::new("Reconciling", true, verdict.reason, verdict.message.clone()),
        Progress::Done | Progress::Stuck => Claim::new("Reconciling", false, verdict.reason, ""),
    }
}

fn stalled(verdict: &Verdict, settings: Option<&TopicSettings>) -> Claim {
    let words = settings.map(|settings| LossWord::parse_all(&settings.accept_data_loss, settings.partitions));
    if let Some(Err(error)) = words {
        let message = format!("annotation {ACCEPT_DATA_LOSS}: {error}; several are separated by commas");
        return Claim::new("Stalled", true, "InvalidAnnotation", message);
    }
    match verdict.progress {
        Progress::Stuck => Claim::new("Stalled", true, verdict.reason, verdict.message.clone()),
        Progress::Done | Progress::Going => Claim::new("Stalled", false, verdict.reason, ""),
    }
}

fn fully_replicated(view: Option<&TopicView>) -> Claim {
    let Some(view) = view.filter(|view| !view.partitions.is_empty()) else {
        return Claim::new(
            "FullyReplicated",
            Truth::Unknown,
            "Unknown",
            "nothing is known of its replicas yet",
        );
    };
    if view.under_replicated == 0 {
        return Claim::new("FullyReplicated", true, "InSync", "every replica of every partition is in sync");
    }
    let message = format!(
        "{} of {} partitions have a replica that is not in sync",
        view.under_replicated,
        view.partitions.len()
    );
    Claim::new("FullyReplicated", false, "ReplicasBehind", message)
}

fn lines(view: &TopicView) -> Vec<String> {
    if view.partitions.len() > STATUS_PARTITIONS_MAX {
        return Vec::new();
    }
    view.partitions.iter().enumerate().map(|(number, partition)| line(number, partition)).collect()
}

/// `0 leader=2 replicas=2,0,1 inSync=2,0,1`
fn line(number: usize, partition: &PartitionView) -> String {
    let list = |ordinals: &[Ordinal]| {
        let texts: Vec<String> = ordinals.iter().map(ToString::to_string).collect();
        if texts.is_empty() { "none".to_owned() } else { texts.join(",") }
    };
    let leader = partition.leader.map_or("none".to_owned(), |leader| leader.to_string());
    format!(
        "{number} leader={leader} replicas={} inSync={}",
        list(&partition.replicas),
        list(&partition.in_sync)
    )
}

fn count(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
