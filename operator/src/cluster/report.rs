//! The last phase as the attendant carries it out: statuses and Events of a Cluster and its Topics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fulmar_core::control::{BrokerState, BrokerView, ControlEvent, EventKind, View};
use fulmar_crds::validate::SettingsError;
use fulmar_crds::{Cluster, ClusterStatus, TopicStatus};
use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use crate::cluster::dereference::Seen;
use crate::cluster::disks;
use crate::cluster::patience::{CALM_AFTER, Calm, Due, Gist, Subject};
use crate::cluster::roll::Step;
use crate::cluster::status::{Facts, Problem, status};
use crate::cluster::{Attendant, Findings, Next};
use crate::conditions::is_true;
use crate::statuses::{Rank, Write, key_of_topic};
use crate::topic::claims::{Claimed, Standing, claimed_name, claims};
use crate::topic::status::Home;

impl Attendant {
    /// Compares what is true with what is written, and writes what has stood long enough.
    pub(super) fn report(&mut self, findings: &Findings<'_>) -> Next {
        let view = self.view();
        let facts = Facts {
            key: &self.key,
            cluster: findings.cluster,
            wanted: Some(findings.wanted.settings.replicas),
            problem: findings.problem.as_ref(),
            volumes: Some(&findings.volumes),
            leftovers: Some(&findings.leftovers),
            scale: Some(findings.scale),
            stateful_set: findings.seen.stateful_set.as_deref(),
            pods: findings.pods,
            roll: findings.roll.as_ref(),
            view: view.as_deref(),
        };
        let told = status(facts, Timestamp::now());
        disks::tell(&mut self.story, findings.cluster, &self.key, view.as_deref());
        let rolling = matches!(findings.roll, Some(Step::Wait(_) | Step::Evict(_) | Step::Delete(_)));
        let wanted = findings.wanted.settings.replicas;
        let restless = view.as_deref().is_none_or(|view| is_restless(view, wanted));
        let calm = self.mood.note(restless, rolling, Instant::now());
        let next = self.write_cluster(findings.cluster, &told);
        let next = if matches!(calm, Calm::For(_)) { next } else { next.sooner(CALM_AFTER) };
        let home = view.as_deref().map_or(Home::Silent("the brokers were not asked yet"), Home::View);
        // A wish that the controller has not taken up yet says nothing of a new generation.
        let fresh =
            self.stewardship.as_ref().is_none_or(|stewardship| stewardship.until_taken_up().is_none());
        self.write_topics(next, findings.claims, home, Subject::Topic(calm), fresh)
    }

    /// The spec says what no rule lets through: nothing is touched, brokers go on.
    pub(super) fn report_invalid(&mut self, cluster: &Cluster, seen: &Seen, invalid: &SettingsError) -> Next {
        let problem = Problem { reason: "InvalidSpec", message: invalid.to_string(), stuck: true };
        self.story.tell(cluster.object_ref(&()), true, problem.reason, problem.message.clone());
        let view = self.view();
        let facts = Facts {
            key: &self.key,
            cluster,
            wanted: None,
            problem: Some(&problem),
            volumes: None,
            leftovers: None,
            scale: None,
            stateful_set: seen.stateful_set.as_deref(),
            pods: &[],
            roll: None,
            view: view.as_deref(),
        };
        let told = status(facts, Timestamp::now());
        let next = self.write_cluster(cluster, &told);
        self.write_topics(next, &claims(&seen.topics, None), Home::Invalid, Subject::Homeless, true)
    }

    /// There is no Cluster for these Topics, or it is going.
    pub(super) fn report_absence(&mut self, is_going: bool, claims: &[Claimed]) {
        let home = if is_going { Home::Going } else { Home::Absent };
        self.write_topics(Next::Change, claims, home, Subject::Homeless, true);
    }

    /// Publishes what the controller finds worth telling.
    pub(super) fn tell(&mut self, event: &ControlEvent) {
        let ClusterObjects { cluster, topic } = self.objects_of(event);
        let Some(about) = topic.or(cluster) else { return };
        match event.kind {
            EventKind::Normal => self.context.events.normal(about, event.reason, event.message.clone()),
            EventKind::Warning => self.context.events.warning(about, event.reason, event.message.clone()),
        }
    }

    fn objects_of(&self, event: &ControlEvent) -> ClusterObjects {
        let watches = &self.context.watches;
        let (namespace, name) = (&self.key.namespace, &self.key.name);
        let cluster = watches.clusters.get(namespace, name).map(|cluster| cluster.object_ref(&()));
        let topic = event.topic.as_ref().and_then(|topic| {
            let rivals = watches.topics.select(namespace, |one| {
                one.spec.cluster_ref.name == *name && claimed_name(one) == Some(topic)
            });
            let claims = claims(&rivals, None);
            let holder = claims.iter().find(|one| one.holder().is_some())?;
            Some(holder.topic.object_ref(&()))
        });
        ClusterObjects { cluster, topic }
    }

    fn write_cluster(&mut self, cluster: &Cluster, told: &ClusterStatus) -> Next {
        let before = cluster.status.clone().unwrap_or_default();
        let object = "";
        let mut written = cluster.clone();
        written.status = Some(told.clone());
        let write = Write::Cluster(Box::new(written));
        let old = Gist { generation: before.observed_generation, conditions: &before.conditions };
        let new = Gist { generation: told.observed_generation, conditions: &told.conditions };
        // A pod count that programs read (scale) is no detail, nor is it that something begins or ends.
        let counted = before.replicas != told.replicas
            || before.min_replicas != told.min_replicas
            || before.operation.is_some() != told.operation.is_some();
        let same = cluster.status.as_ref() == Some(told);
        match self.patience.judge(object, same, (old, new), Subject::Cluster, Instant::now()) {
            Due::Content => {
                self.context.statuses.withdraw(&write.key());
                return Next::Change;
            }
            Due::Later(left) if !counted => return Next::After(left),
            Due::Later(_) | Due::Now | Due::Behind => {}
        }
        let (is_ready, was_ready) =
            (is_true(&told.conditions, "Ready"), is_true(&before.conditions, "Ready"));
        if !std::mem::replace(&mut self.is_ready, is_ready) && is_ready && !was_ready {
            let note = format!("{} brokers serve", told.brokers_ready.as_deref().unwrap_or_default());
            self.context.events.normal(cluster.object_ref(&()), "Ready", note);
        }
        self.context.statuses.submit(write, Rank::InTurn);
        Next::Change
    }

    fn write_topics(
        &mut self,
        next: Next,
        claims: &[Claimed],
        home: Home<'_>,
        subject: Subject,
        fresh: bool,
    ) -> Next {
        let (mut next, now, unsaid) = (next, Instant::now(), TopicStatus::default());
        for claimed in claims {
            let told = crate::topic::status::status(claimed, home, Timestamp::now());
            let before = claimed.topic.status.as_ref().unwrap_or(&unsaid);
            if !fresh
                && before.observed_generation != told.observed_generation
                && is_true(&told.conditions, "Ready")
            {
                continue;
            }
            let subject = if is_bereft(claimed, home) { Subject::Bereft } else { subject };
            if let Some(left) = self.write_topic(claimed, before, told, subject, now) {
                next = next.sooner(left);
            }
        }
        // They are in the order of their names.
        let is_there = |object: &str| {
            let found = claims.binary_search_by(|one| one.topic.metadata.name.as_deref().cmp(&Some(object)));
            found.is_ok()
        };
        self.patience.keep(|object| object.is_empty() || is_there(object));
        next
    }

    fn write_topic(
        &mut self,
        claimed: &Claimed,
        before: &TopicStatus,
        told: TopicStatus,
        subject: Subject,
        now: Instant,
    ) -> Option<Duration> {
        let name = claimed.topic.name_any();
        let old = Gist { generation: before.observed_generation, conditions: &before.conditions };
        let new = Gist { generation: told.observed_generation, conditions: &told.conditions };
        let same = claimed.topic.status.as_ref() == Some(&told);
        let rank = match self.patience.judge(&name, same, (old, new), subject, now) {
            // What waits for its turn is overtaken by the truth, which is what is written already.
            Due::Content => {
                self.context.statuses.withdraw(&key_of_topic(&claimed.topic));
                return None;
            }
            Due::Later(left) => {
                self.context.statuses.withdraw(&key_of_topic(&claimed.topic));
                return Some(left);
            }
            Due::Now => Rank::InTurn,
            Due::Behind => Rank::Behind,
        };
        let about = claimed.topic.object_ref(&());
        match &claimed.standing {
            Standing::Holder(_) => {}
            Standing::Taken { name, by } => {
                self.story.tell(
                    about,
                    true,
                    "NameTaken",
                    format!("the older Topic {by} has the name {name}"),
                );
            }
            Standing::Invalid(error) => self.story.tell(about, true, "InvalidSpec", error.to_string()),
        }
        self.context.statuses.submit(Write::Topic(Arc::clone(&claimed.topic), Box::new(told)), rank);
        None
    }
}

/// Whether a volume with a replica of it is lost, and none has taken its place yet.
fn is_bereft(claimed: &Claimed, home: Home<'_>) -> bool {
    let Home::View(view) = home else { return false };
    let topic = claimed.holder().and_then(|settings| view.topics.get(&settings.name));
    topic.is_some_and(|topic| topic.bereft > 0)
}

/// Whether something that concerns many topics is on its way: a broker is away, replicas catch up or move, leaders go back.
pub(super) fn is_restless(view: &View, wanted: u16) -> bool {
    let serves = |broker: &&BrokerView| broker.ordinal.0 < wanted && broker.state == BrokerState::Serving;
    let serving = view.brokers.iter().filter(serves).count();
    // What is paused may stay so for days.
    let is_moved = view.moving.is_some_and(|moving| !moving.is_paused || moving.under_way > 0);
    let moves = view.under_replicated > 0 || view.away > 0 || is_moved;
    serving < usize::from(wanted) || moves || view.waiting.is_some()
}

struct ClusterObjects {
    cluster: Option<k8s_openapi::api::core::v1::ObjectReference>,
    topic: Option<k8s_openapi::api::core::v1::ObjectReference>,
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
