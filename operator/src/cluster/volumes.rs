//! The claims: whether they go with their Cluster (an owner on each, or none), and that each asks for the wanted size.
//!
//! Claims are the only place where records are, so these, and `release` for brokers that were removed, are the only hands that the
//! operator lays on them. With a Cluster no claim is ever deleted by the operator itself: the garbage collector does that, when
//! the Cluster that owns it is gone.
//!
//! The template of the claims in the `StatefulSet` can never be changed. It keeps the size that it was made with: a claim that
//! is missing is made here, with the size that is wanted now, before the set comes to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fulmar_crds::cluster::WhenDeleted;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::api::{ApiError, call};
use crate::cluster::Attendant;
use crate::cluster::build::stateful_set;
use crate::cluster::dereference::Seen;
use crate::cluster::growth::{self, Volumes};
use crate::cluster::refusal::Refusal;
use crate::cluster::scale::Scale;
use crate::cluster::validate::Wanted;
use crate::names::FIELD_MANAGER;
use crate::pods::Claim;

/// With whom the claims and the partition table are to be deleted.
pub fn owner(wanted: &Wanted) -> Option<OwnerReference> {
    match wanted.settings.storage.when_deleted {
        WhenDeleted::Retain => None,
        WhenDeleted::Delete => Some(wanted.key.owner(&wanted.uid)),
    }
}

/// Gives each claim the owner that it should have. Other owners, which are not Clusters of this name, stay.
pub async fn own(client: &Client, wanted: &Wanted, claims: &[Arc<Claim>]) -> Result<(), ApiError> {
    let owner = owner(wanted);
    for claim in claims.iter().filter(|claim| claim.metadata.deletion_timestamp.is_none()) {
        let Some(owners) = owners_to_write(wanted, claim, owner.as_ref()) else { continue };
        let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &wanted.key.namespace);
        let version = claim.resource_version();
        let patch =
            json!({"metadata": {"ownerReferences": owners, "resourceVersion": version, "uid": claim.uid()}});
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        call("own a claim", api.patch(&claim.name_any(), &parameters, &Patch::Merge(&patch))).await?;
    }
    Ok(())
}

/// A claim that the `StatefulSet`'s controller has not made for so long is made here, if only to hear why it cannot be.
const MISSING_PATIENCE: Duration = Duration::from_secs(10);

impl Attendant {
    /// Has the claims ask for the wanted size. What Kubernetes refuses is told, and stops nothing else.
    pub(super) async fn grow(&mut self, wanted: &Wanted, seen: &Seen, scale: Scale) -> Volumes {
        let claims: Vec<&Claim> = seen.claims.iter().map(AsRef::as_ref).collect();
        let (mut volumes, asking) = Volumes::look(wanted, scale.brokers(), &claims);
        let missing = self.missing(wanted, seen, scale.brokers());
        if wanted.settings.paused || (asking.is_empty() && missing.is_empty()) {
            return volumes;
        }
        let size = &wanted.settings.storage.size;
        if let Some(refusal) = self.volumes.recall(size, Instant::now()) {
            volumes.refusal = Some(refusal.clone());
            return volumes;
        }
        for ordinal in missing {
            let claim = stateful_set::missing_claim(wanted, ordinal);
            let outcome = create(&self.context.client, &claim).await;
            if !self.took(wanted, &claim, outcome, &mut volumes) {
                return volumes;
            }
        }
        for claim in asking {
            let outcome = ask(&self.context.client, wanted, claim).await;
            if !self.took(wanted, claim, outcome, &mut volumes) {
                return volumes;
            }
        }
        volumes
    }

    /// Brokers that are to run and have neither claim nor pod: at once where the set would make too small a claim, else after
    /// a while. Before there is a set nothing is missing.
    fn missing(&mut self, wanted: &Wanted, seen: &Seen, brokers: u16) -> Vec<u16> {
        let Some(set) = &seen.stateful_set else { return Vec::new() };
        let has = |ordinal: u16| {
            let (claim, pod) = (self.key.claim(ordinal), self.key.pod(ordinal));
            seen.claims.iter().any(|other| other.name_any() == claim)
                || seen.pods.iter().any(|other| other.name_any() == pod)
        };
        let missing: Vec<u16> = (0..brokers).filter(|ordinal| !has(*ordinal)).collect();
        let is_same = stateful_set::template_size(set) == Some(wanted.settings.storage.size.as_str());
        let patience = if is_same { MISSING_PATIENCE } else { Duration::ZERO };
        self.volumes.missing_for(&missing, patience, Instant::now())
    }

    /// Whether to go on with the next claim.
    fn took(
        &mut self,
        wanted: &Wanted,
        claim: &Claim,
        outcome: Result<(), ApiError>,
        volumes: &mut Volumes,
    ) -> bool {
        let (name, size) = (claim.name_any(), &wanted.settings.storage.size);
        match outcome {
            Ok(()) => {
                volumes.growing.push(format!("{name} asks for {size}"));
                true
            }
            // The watch is about to tell.
            Err(ApiError::Conflict { .. } | ApiError::NotFound { .. }) => {
                self.behind = true;
                true
            }
            Err(ApiError::Refused { message, .. }) => {
                let refusal = Refusal::of(&name, growth::class(claim), size, &message);
                self.story.tell(wanted.reference(), true, refusal.reason, refusal.message.clone());
                self.volumes.remember(size, refusal.clone(), Instant::now());
                volumes.refusal = Some(refusal);
                false
            }
            Err(error @ (ApiError::NotNow { .. } | ApiError::OutcomeUnknown { .. })) => {
                tracing::info!(cluster = %wanted.key, claim = name, %error, "a claim could not be changed now");
                volumes.growing.push(format!("{name} could not be changed: {error}"));
                false
            }
        }
    }
}

/// Makes a claim; one that exists already is as good.
async fn create(client: &Client, claim: &Claim) -> Result<(), ApiError> {
    let api: Api<Claim> = Api::namespaced(client.clone(), &claim.namespace().unwrap_or_default());
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    call("make a claim", api.create(&parameters, claim)).await.map(drop)
}

/// Has a claim ask for the wanted size. Its uid and version make certain that it is the one that was looked at.
async fn ask(client: &Client, wanted: &Wanted, claim: &Claim) -> Result<(), ApiError> {
    let api: Api<Claim> = Api::namespaced(client.clone(), &wanted.key.namespace);
    let patch = json!({
        "metadata": {"uid": claim.uid(), "resourceVersion": claim.resource_version()},
        "spec": {"resources": {"requests": {"storage": wanted.settings.storage.size}}},
    });
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    call("grow a claim", api.patch(&claim.name_any(), &parameters, &Patch::Merge(&patch))).await.map(drop)
}

/// The owners that the claim should have; `None`: it has them.
fn owners_to_write(
    wanted: &Wanted,
    claim: &Claim,
    owner: Option<&OwnerReference>,
) -> Option<Vec<OwnerReference>> {
    let is_cluster = |one: &&OwnerReference| one.kind == "Cluster" && one.name == wanted.key.name;
    let ours: Vec<&OwnerReference> = claim.owner_references().iter().filter(is_cluster).collect();
    if ours == owner.into_iter().collect::<Vec<_>>() {
        return None;
    }
    let others = claim.owner_references().iter().filter(|one| !is_cluster(one));
    Some(others.chain(owner).cloned().collect())
}

#[cfg(test)]
#[path = "volumes_tests.rs"]
mod tests;
