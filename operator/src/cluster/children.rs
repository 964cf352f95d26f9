//! The fourth phase as the attendant carries it out: the children in their order, the brokers last.

use kube::Resource as _;

use crate::api::ApiError;
use crate::certificates::Certificates;
use crate::cluster::apply::{Applied, ApplyError, apply};
use crate::cluster::build::{Children, build, stateful_set};
use crate::cluster::dereference::Seen;
use crate::cluster::scale::Scale;
use crate::cluster::status::Problem;
use crate::cluster::validate::Wanted;
use crate::cluster::{Attendant, ReconcileError, fallback, volumes};
use crate::names::ANNOTATION_CONTROLLER_EPOCH;

impl Attendant {
    /// Builds and applies; gives back what stands in the way, for a person.
    pub(super) async fn apply(
        &mut self,
        wanted: &Wanted,
        seen: &Seen,
        certificates: &Certificates,
        scale: Scale,
    ) -> Result<Option<Problem>, ReconcileError> {
        if wanted.settings.paused {
            return Ok(None);
        }
        let epoch = self.view().map_or(0, |view| view.controller_epoch);
        let live = seen.stateful_set.as_deref();
        let made = stateful_set::as_made(wanted, live);
        let mut children = build(&made, certificates, scale.brokers(), epoch.max(stamped(seen)));
        let before = self.rolled_before.as_ref().map(|rolled| &rolled.template);
        let given_up = fallback::settle(&mut children.stateful_set, live, self.finding.as_ref(), before);
        self.template =
            children.stateful_set.spec.as_ref().map(|spec| spec.template.clone()).unwrap_or_default();
        // Eight applies after each other: too much for the stack of everything that awaits them.
        let outcome = Box::pin(self.apply_children(wanted, seen, &children, epoch)).await;
        let outcome = match outcome {
            Ok(()) => {
                volumes::own(&self.context.client, wanted, &seen.claims).await.map_err(ApplyError::from)
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                if let Some(problem) = &given_up {
                    self.story.tell(wanted.reference(), true, problem.reason, problem.message.clone());
                }
                Ok(given_up)
            }
            Err(error) => self.problem(wanted, error),
        }
    }

    async fn apply_children(
        &mut self,
        wanted: &Wanted,
        seen: &Seen,
        children: &Children,
        epoch: u64,
    ) -> Result<(), ApplyError> {
        let client = self.context.client.clone();
        let (namespace, name) = (self.key.namespace.clone(), self.key.child());
        let watches = std::sync::Arc::clone(&self.context.watches);
        let mut changes = 0;
        let mut count = |applied: Applied| changes += u64::from(applied != Applied::Unchanged);

        let cached = watches.service_accounts.get(&namespace, &name);
        count(apply(&client, &children.service_account, cached.as_deref(), epoch).await?);
        let stored = self.secrets.as_ref();
        let ca = apply(&client, &children.ca, stored.and_then(|stored| stored.ca.as_ref()), epoch).await;
        let tls = match ca {
            Ok(_) => {
                apply(&client, &children.tls, stored.and_then(|stored| stored.tls.as_ref()), epoch).await
            }
            Err(_) => Ok(Applied::Unchanged),
        };
        if !matches!((&ca, &tls), (Ok(Applied::Unchanged), Ok(Applied::Unchanged))) {
            // Written, or not known whether: read them again before they are used.
            self.secrets = None;
        }
        count(ca?);
        count(tls?);
        let cached = watches.services.get(&namespace, &self.key.brokers_service());
        count(apply(&client, &children.headless_service, cached.as_deref(), epoch).await?);
        let cached = watches.services.get(&namespace, &name);
        count(apply(&client, &children.client_service, cached.as_deref(), epoch).await?);
        let cached = watches.budgets.get(&namespace, &name);
        count(apply(&client, &children.budget, cached.as_deref(), epoch).await?);
        let cached = watches.policies.get(&namespace, &name);
        count(apply(&client, &children.policy, cached.as_deref(), epoch).await?);
        let brokers = apply(&client, &children.stateful_set, seen.stateful_set.as_deref(), epoch).await?;
        count(brokers);
        self.template_in_place = brokers == Applied::Unchanged;

        self.context.metrics.applies.inc_by(changes);
        self.tell_of_brokers(wanted, seen, children, brokers);
        Ok(())
    }

    fn tell_of_brokers(&mut self, wanted: &Wanted, seen: &Seen, children: &Children, applied: Applied) {
        let replicas =
            |set: &k8s_openapi::api::apps::v1::StatefulSet| set.spec.as_ref().and_then(|spec| spec.replicas);
        let now = replicas(&children.stateful_set).unwrap_or_default();
        let before = seen.stateful_set.as_deref().and_then(replicas);
        match (applied, before) {
            (Applied::Created, _) => {
                self.story.tell(
                    wanted.reference(),
                    false,
                    "Created",
                    format!("{now} brokers of image {}", wanted.image),
                );
            }
            (Applied::Changed, Some(before)) if before != now => {
                self.story.tell(
                    wanted.reference(),
                    false,
                    "Scaled",
                    format!("from {before} to {now} brokers"),
                );
            }
            (Applied::Changed | Applied::Unchanged, _) => {}
        }
    }

    /// What passes by itself soon is no problem to show; what the API server cannot be asked now ends the pass.
    fn problem(&mut self, wanted: &Wanted, error: ApplyError) -> Result<Option<Problem>, ReconcileError> {
        let message = error.to_string();
        let problem = match error {
            ApplyError::NameTaken { .. } => Problem { reason: "NameTaken", message, stuck: true },
            ApplyError::Leaving { .. } => Problem { reason: "AwaitingDeletion", message, stuck: false },
            ApplyError::Deposed { .. } => Problem { reason: "Deposed", message, stuck: false },
            ApplyError::Api(ApiError::Refused { .. }) => {
                Problem { reason: "ApplyRefused", message, stuck: true }
            }
            ApplyError::Api(ApiError::Conflict { .. } | ApiError::NotFound { .. }) => {
                self.secrets = None;
                self.behind = true;
                tracing::debug!(cluster = %wanted.key, message, "a child has changed meanwhile");
                return Ok(None);
            }
            ApplyError::Api(error @ (ApiError::NotNow { .. } | ApiError::OutcomeUnknown { .. })) => {
                return Err(error.into());
            }
        };
        self.story.tell(wanted.reference(), true, problem.reason, problem.message.clone());
        Ok(Some(problem))
    }
}

/// The tenure that the brokers' set was stamped with.
fn stamped(seen: &Seen) -> u64 {
    let annotations = seen.stateful_set.as_ref().and_then(|set| set.meta().annotations.as_ref());
    let stamp = annotations.and_then(|all| all.get(ANNOTATION_CONTROLLER_EPOCH));
    stamp.and_then(|text| text.parse().ok()).unwrap_or(0)
}
