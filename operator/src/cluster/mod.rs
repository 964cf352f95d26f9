//! One Cluster, in phases that one can see: dereference → validate → build → apply → status.
//!
//! Owns the order of the phases and what is kept between two passes. Never: decides what a broker holds.

pub mod apply;
pub mod build;
pub mod dereference;
pub mod fallback;
pub mod growth;
pub mod leftovers;
pub mod patience;
pub mod refresh;
pub mod refusal;
pub mod remove;
pub mod roll;
pub mod scale;
pub mod status;
pub mod stewardship;
pub mod validate;
pub mod volumes;

mod children;
mod disks;
mod release;
mod report;
mod secrets;

#[cfg(test)]
pub(crate) mod fixture;

use std::sync::Arc;
use std::time::{Duration, Instant};

use fulmar_core::control::{BrokerState, TopicView, View};
use fulmar_crds::Cluster;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use kube::{Resource as _, ResourceExt as _};
use thiserror::Error;
use tokio::sync::Notify;

use crate::api::ApiError;
use crate::certificates::{Certificates, IssueError};
use crate::context::Context;
use crate::events::Story;
use crate::ledger;
use crate::names::ClusterKey;
use crate::pods::{self, BrokerPod};
use crate::topic;
use crate::topic::claims::{Claimed, claims};
use crate::topic::finalizer::{self, Keeper};

use self::dereference::{Seen, dereference};
use self::fallback::{Finding, Rolled};
use self::growth::{Memory, Volumes};
use self::leftovers::{Leftovers, Look};
use self::patience::{Mood, Patience};
use self::refresh::Told;
use self::roll::{Health, Step};
use self::scale::{Floor, Scale, running, scale};
use self::secrets::StoredSecrets;
use self::status::Problem;
use self::stewardship::Stewardship;
use self::validate::{Wanted, validate};

/// Even when nothing changes, a Cluster is looked at so often, and when its Secrets are to be read again; that costs two reads.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// What waits for others (a pod that starts, a partition that catches up) is looked at so often.
const WAITING: Duration = Duration::from_secs(2);

/// After a conflict: the watch is about to tell the newer version.
const BEHIND: Duration = Duration::from_millis(300);

/// When to look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Never: there is nothing left.
    Over,
    /// When something changes.
    Change,
    /// After so long, or when something changes.
    After(Duration),
}

impl Next {
    fn sooner(self, other: Duration) -> Self {
        match self {
            Self::Over => Self::Over,
            Self::Change => Self::After(other),
            Self::After(pause) => Self::After(pause.min(other)),
        }
    }
}

/// Why a pass was given up.
#[derive(Debug, Error)]
pub enum ReconcileError {
    /// The API server did not do it.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No certificate could be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl ReconcileError {
    /// How long the API server asks to wait before it is asked again.
    pub fn rest(&self) -> Option<Duration> {
        match self {
            Self::Api(error) => error.rest(),
            Self::Issue(_) => None,
        }
    }
}

/// Looks after one Cluster.
pub struct Attendant {
    context: Context,
    key: ClusterKey,
    stewardship: Option<Stewardship>,
    secrets: Option<StoredSecrets>,
    told: Told,
    patience: Patience,
    story: Story,
    /// Something was changed by others after it was read: the watch is about to tell.
    behind: bool,
    mood: Mood,
    /// The last pass came to that: until the status says so, too, others come to the same.
    is_ready: bool,
    /// What Kubernetes refused of the volumes.
    volumes: Memory,
    /// And of those of brokers that were removed.
    released: Memory,
    /// The brokers' set was found as it should be in this pass: what the watch tells of it is not of an older template.
    template_in_place: bool,
    /// The template that is to be in place, and what the last roll found out about it.
    template: PodTemplateSpec,
    finding: Option<Finding>,
    /// The one that the roll last found in place, and the one before.
    rolled: Option<Rolled>,
    rolled_before: Option<Rolled>,
    /// How many Topics the last pass looked at.
    topics: usize,
}

/// What a pass over a Cluster found out, for the statuses.
struct Findings<'a> {
    cluster: &'a Cluster,
    seen: &'a Seen,
    wanted: &'a Wanted,
    claims: &'a [Claimed],
    pods: &'a [BrokerPod],
    scale: Scale,
    problem: Option<Problem>,
    roll: Option<Step>,
    volumes: Volumes,
    leftovers: Leftovers,
}

impl Attendant {
    /// Looks after the Cluster of this name, from the next pass on.
    pub fn new(context: Context, key: ClusterKey) -> Self {
        let story = Story::new(context.events.clone());
        Self {
            context,
            key,
            stewardship: None,
            secrets: None,
            told: Told::default(),
            patience: Patience::default(),
            story,
            behind: false,
            mood: Mood::new(Instant::now()),
            is_ready: false,
            volumes: Memory::default(),
            released: Memory::default(),
            template_in_place: false,
            template: PodTemplateSpec::default(),
            rolled: None,
            rolled_before: None,
            finding: None,
            topics: 0,
        }
    }

    /// How many Topics the last pass looked at.
    pub fn topics(&self) -> usize {
        self.topics
    }

    /// One pass.
    ///
    /// # Errors
    /// The API server did not do something that the rest of the pass needs; the next pass tries again.
    pub async fn reconcile(&mut self) -> Result<Next, ReconcileError> {
        self.context.metrics.reconciles.inc();
        self.behind = false;
        self.template_in_place = false;
        let seen = dereference(&self.context.watches, &self.key);
        self.topics = seen.topics.len();
        match seen.cluster.clone() {
            Some(cluster) if cluster.metadata.deletion_timestamp.is_none() => {
                self.attend(&cluster, &seen).await
            }
            gone => self.see_off(gone.as_deref(), &seen).await,
        }
    }

    /// Waits until there is reason for another pass.
    pub async fn wait(&mut self, woken: &Notify, pause: Option<Duration>) {
        let deadline = tokio::time::sleep(pause.unwrap_or(LOOK_AGAIN));
        tokio::pin!(deadline);
        loop {
            let Some(stewardship) = &mut self.stewardship else {
                tokio::select! { () = woken.notified() => {}, () = &mut deadline => {} }
                return;
            };
            tokio::select! {
                () = woken.notified() => return,
                () = &mut deadline => return,
                Ok(()) = stewardship.view.changed() => return,
                Some(event) = stewardship.events.recv() => self.tell(&event),
            }
        }
    }

    /// Tells the steward, if there is one, what the watches show of brokers and table. Nobody is asked for anything.
    pub fn look(&mut self) {
        let seen = dereference(&self.context.watches, &self.key);
        let Some(cluster) = &seen.cluster else { return };
        // Whatever else it says that cannot be: the next pass tells.
        let Ok(wanted) = validate(cluster, &self.context.config) else { return };
        let pods = self.pods(&wanted, &seen);
        self.show(&seen, &pods);
    }

    fn pods(&self, wanted: &Wanted, seen: &Seen) -> Vec<BrokerPod> {
        let nodes = &self.context.watches.nodes;
        pods::brokers(&self.key, &wanted.settings.zone_topology_key, &seen.pods, &seen.claims, nodes)
    }

    async fn attend(&mut self, cluster: &Cluster, seen: &Seen) -> Result<Next, ReconcileError> {
        let wanted = match validate(cluster, &self.context.config) {
            Ok(wanted) => wanted,
            Err(invalid) => return Ok(self.report_invalid(cluster, seen, &invalid)),
        };
        let certificates = self.certificates(&wanted).await?;
        let pods = self.pods(&wanted, seen);
        // Under another wish more could be placed on those that leave at any moment.
        let view = self.settled_view().filter(|view| view.wished == wanted.settings.replicas);
        let view = view.as_deref();
        let (standing, set) = (self.standing(seen), told_replicas(seen));
        let floor = |view: &View| Floor::Known { holding: view.holding, named: view.named };
        let running = running(set, standing.iter().copied());
        let scale = scale(wanted.settings.replicas, running, view.map_or(Floor::Unknown, floor));
        let look = Look { wanted: &wanted, scale, set, pods: &pods, standing: &standing, view };
        if !self.mark(&look, seen).await? {
            return Ok(Next::After(BEHIND));
        }
        let volumes = self.grow(&wanted, seen, scale).await;
        // What is placed needs as many brokers as it has until it is known that it does not.
        let claims = claims(&seen.topics, Some(scale.brokers()));
        let problem = self.apply(&wanted, seen, &certificates, scale).await?;
        self.steer(&wanted, scale, &claims, seen, &pods, &certificates).await?;
        self.refresh(&wanted, &pods, &certificates).await;
        let roll = self.roll(&wanted, seen, &pods, scale).await?;
        let leftovers = self.release(cluster, &look, seen).await;
        let finalizers = self.keep_finalizers(&claims).await;
        let (wanted, claims, pods) = (&wanted, &claims[..], &pods[..]);
        let findings =
            Findings { cluster, seen, wanted, claims, pods, scale, problem, roll, volumes, leftovers };
        let next = self.report(&findings);
        finalizers?;
        Ok(self.next(next, &findings, &certificates))
    }

    /// There is no Cluster, or it is going: its children go by their owner, the volumes stay unless they are owned.
    async fn see_off(&mut self, cluster: Option<&Cluster>, seen: &Seen) -> Result<Next, ReconcileError> {
        if let Some(stewardship) = self.stewardship.take() {
            stewardship.stop().await;
        }
        self.secrets = None;
        let claims = claims(&seen.topics, None);
        let steps = finalizer::steps(&claims, Keeper::Nobody);
        finalizer::carry_out(&self.context.client, steps).await?;
        self.report_absence(cluster.is_some(), &claims);
        Ok(if cluster.is_none() && claims.is_empty() { Next::Over } else { Next::Change })
    }

    fn view(&self) -> Option<Arc<View>> {
        self.stewardship.as_ref().map(|stewardship| Arc::clone(&stewardship.view.borrow()))
    }

    /// The view, if it is one of the last wish and of a whole table.
    fn settled_view(&self) -> Option<Arc<View>> {
        let stewardship = self.stewardship.as_ref().filter(|one| one.until_taken_up().is_none())?;
        let view = Arc::clone(&stewardship.view.borrow());
        (view.controller_epoch > 0 && view.waiting.is_none()).then_some(view)
    }

    /// Every ordinal that has a pod, whosever it is.
    fn standing(&self, seen: &Seen) -> Vec<u16> {
        seen.pods.iter().filter_map(|pod| self.key.ordinal_of_pod(&pod.name_any())).collect()
    }

    /// Tells the steward what is wished, where the brokers are and what the watch shows of the table; starts one if the certificates are in place.
    async fn steer(
        &mut self,
        wanted: &Wanted,
        scale: Scale,
        claims: &[Claimed],
        seen: &Seen,
        pods: &[BrokerPod],
        certificates: &Certificates,
    ) -> Result<(), ReconcileError> {
        let owner = volumes::owner(wanted);
        let in_place = self.secrets.as_ref().is_some_and(|stored| stored.have(certificates));
        if let Some(old) = self
            .stewardship
            .take_if(|one| in_place && one.is_outdated(certificates, owner.as_ref(), Timestamp::now()))
        {
            old.stop().await;
        }
        if self.stewardship.is_none() && in_place {
            let (client, metrics) = (self.context.client.clone(), Arc::clone(&self.context.metrics));
            self.stewardship = Some(Stewardship::start(client, &self.key, certificates, owner, metrics)?);
        }
        if let Some(stewardship) = &mut self.stewardship {
            stewardship.desire(topic::desire::desire(&wanted.settings, scale.brokers(), claims));
        }
        self.show(seen, pods);
        Ok(())
    }

    fn show(&mut self, seen: &Seen, pods: &[BrokerPod]) {
        if let Some(stewardship) = &mut self.stewardship {
            stewardship.sight(pods);
            stewardship.show(ledger::shown(&self.key, &seen.tables));
        }
    }

    /// Makes pods anew whose template has changed, one at a time.
    async fn roll(
        &mut self,
        wanted: &Wanted,
        seen: &Seen,
        pods: &[BrokerPod],
        scale: Scale,
    ) -> Result<Option<Step>, ApiError> {
        if !self.template_in_place && !wanted.settings.paused {
            return Ok(Some(Step::Wait("the template is not in place yet".to_owned())));
        }
        let Some(revision) = seen.stateful_set.as_deref().and_then(update_revision) else {
            return Ok(Some(Step::Wait("the template was not taken up yet".to_owned())));
        };
        if self.template_in_place && self.rolled.as_ref().is_none_or(|rolled| rolled.revision != revision) {
            let now = Rolled { revision: revision.clone(), template: self.template.clone() };
            self.rolled_before = self.rolled.replace(now);
        }
        let step = roll::next(&revision, scale.brokers(), pods, &self.health());
        if wanted.settings.paused {
            // What was found before a pause is found anew after it.
            self.finding = None;
            return Ok(Some(step));
        }
        let (rolled, brokers, now) = (step == Step::Done, scale.brokers(), Timestamp::now());
        let found = fallback::find(&fallback::name(&self.template), &revision, rolled, brokers, pods, now);
        self.finding = found.or_else(|| fallback::outlived(&step, pods, self.rolled_before.as_ref()));
        let (client, namespace) = (&self.context.client, &self.key.namespace);
        let (outcome, pod, done) = match &step {
            Step::Done | Step::Wait(_) => return Ok(Some(step)),
            Step::Refuse(refusal) => {
                self.story.tell(wanted.reference(), true, refusal.reason, refusal.message.clone());
                return Ok(Some(step));
            }
            Step::Evict(pod) => (remove::evict(client, namespace, pod).await, pod, "PodEvicted"),
            Step::Delete(pod) => (remove::delete(client, namespace, pod).await, pod, "PodDeleted"),
        };
        match outcome {
            Ok(()) => {
                self.context.metrics.pods_rolled.inc();
                let note = format!("{} is made anew: the template of the brokers has changed", pod.name);
                self.story.tell(wanted.reference(), false, done, note);
            }
            // The budget says no, or the pod has changed or gone: the next pass decides anew.
            Err(ApiError::NotNow { .. } | ApiError::Conflict { .. } | ApiError::NotFound { .. }) => {
                return Ok(Some(Step::Wait(format!("{} may not be evicted yet", pod.name))));
            }
            Err(error) => return Err(error),
        }
        Ok(Some(step))
    }

    fn health(&self) -> Health {
        let Some(view) = self.view() else { return Health::default() };
        let serving = view.brokers.iter().filter(|broker| broker.state == BrokerState::Serving);
        let topics = view.topics.iter();
        let spares_none = |(_, topic): &(&String, &TopicView)| {
            let is_there = !topic.partitions.is_empty();
            is_there && topic.replication_factor > 1 && topic.ack_quorum == topic.replication_factor
        };
        Health {
            settled: view.controller_epoch > 0 && view.waiting.is_none(),
            under_replicated: view.under_replicated,
            unsparing: topics.filter(spares_none).map(|(name, _)| name.clone()).collect(),
            serving: serving.map(|broker| broker.ordinal.0).collect(),
        }
    }

    async fn keep_finalizers(&self, claims: &[Claimed]) -> Result<(), ApiError> {
        let view = self.settled_view();
        let keeper = view.as_ref().map_or(Keeper::Busy, |view| Keeper::View(view));
        finalizer::carry_out(&self.context.client, finalizer::steps(claims, keeper)).await
    }

    fn next(&self, next: Next, findings: &Findings<'_>, certificates: &Certificates) -> Next {
        let waits = findings.problem.is_some()
            || matches!(findings.roll, Some(Step::Wait(_) | Step::Evict(_) | Step::Delete(_)))
            || findings.claims.iter().any(|claimed| claimed.is_going() && claimed.is_held())
            || findings.scale != Scale::AsWanted(findings.wanted.settings.replicas)
            || findings.leftovers.is_underway() && !findings.wanted.settings.paused;
        let next = if waits { next.sooner(WAITING) } else { next };
        let next = match self.stewardship.as_ref() {
            Some(stewardship) => stewardship.until_taken_up().map_or(next, |left| next.sooner(left)),
            None => next.sooner(WAITING),
        };
        // No watch tells of Secrets: those that were just written are read back, and all of them again in a while.
        let secrets = self.secrets.as_ref().map_or(BEHIND, |stored| stored.until_read_again().max(BEHIND));
        let next = next.sooner(secrets);
        let next = if self.behind { next.sooner(BEHIND) } else { next };
        let until_renewal = certificates.renew_at.duration_since(Timestamp::now());
        let until_renewal = Duration::try_from(until_renewal).unwrap_or(Duration::ZERO);
        next.sooner(until_renewal.clamp(WAITING, LOOK_AGAIN))
    }
}

/// How many brokers the set was told to run.
fn told_replicas(seen: &Seen) -> Option<u16> {
    let spec = seen.stateful_set.as_ref().and_then(|set| set.spec.as_ref())?;
    u16::try_from(spec.replicas.unwrap_or(1)).ok()
}

/// The revision of the template, once the `StatefulSet`'s controller has seen the last change of it.
fn update_revision(set: &k8s_openapi::api::apps::v1::StatefulSet) -> Option<String> {
    let status = set.status.as_ref()?;
    (status.observed_generation == set.meta().generation).then(|| status.update_revision.clone()).flatten()
}
