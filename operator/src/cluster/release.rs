//! What is done about the volumes of brokers that were removed: marks on claims, and the deletion of those that are to go.
//!
//! Owns the calls; what is to be done is said by `leftovers`. Never: deletes a claim of a Cluster that is not there as it was read,
//! or of a broker that is wanted.

use std::time::Instant;

use fulmar_crds::Cluster;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use crate::api::{ApiError, call, find};
use crate::cluster::Attendant;
use crate::cluster::dereference::Seen;
use crate::cluster::leftovers::{Leftovers, Look, Mark};
use crate::cluster::refusal::Refusal;
use crate::names::{ANNOTATION_EMPTY, FIELD_MANAGER};
use crate::pods::Claim;

/// What is remembered of a refusal concerns the one wish that there is.
const DELETION: &str = "deletion";

impl Attendant {
    /// Marks the claims whose brokers are to go and say that they hold nothing, before their set is told; takes the mark off those that
    /// are wanted again, before anything is placed there. False: something was changed by others meanwhile, and is to be looked at again.
    ///
    /// # Errors
    /// A mark is still to be changed; the next pass tries again.
    pub(super) async fn mark(&mut self, look: &Look<'_>, seen: &Seen) -> Result<bool, ApiError> {
        for claim in &seen.claims {
            let mark = match look.mark(claim) {
                None => continue,
                Some(Mark::Set) if look.wanted.settings.paused => continue,
                Some(mark) => mark,
            };
            match write_mark(&self.context.client, claim, mark).await {
                Ok(()) => {}
                Err(ApiError::Conflict { .. } | ApiError::NotFound { .. }) => return Ok(false),
                // Kept then, and said to be.
                Err(error @ ApiError::Refused { .. }) if mark == Mark::Set => {
                    tracing::info!(cluster = %self.key, claim = claim.name_any(), %error, "a claim could not be marked");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Deletes what is to go. What Kubernetes refuses is told, and stops nothing else.
    pub(super) async fn release(&mut self, cluster: &Cluster, look: &Look<'_>, seen: &Seen) -> Leftovers {
        let claims: Vec<&Claim> = seen.claims.iter().map(AsRef::as_ref).collect();
        let (mut leftovers, deleting) = Leftovers::look(look, &claims);
        if let Some(doubt) = leftovers.doubt() {
            self.story.tell(look.wanted.reference(), true, "VolumeKept", doubt);
        }
        if deleting.is_empty() {
            return leftovers;
        }
        if let Some(refusal) = self.released.recall(DELETION, Instant::now()) {
            leftovers.refusal = Some(refusal.clone());
            return leftovers;
        }
        // The set is not as it should be, or another operator has written it.
        let may_act = self.template_in_place && !look.wanted.settings.paused;
        let may_act = may_act && self.is_as_read(cluster).await;
        for claim in deleting {
            if !may_act || leftovers.refusal.is_some() {
                leftovers.waiting.push(claim.name_any());
            } else {
                let outcome = delete(&self.context.client, claim).await;
                self.note_deletion(look, claim, outcome, &mut leftovers);
            }
        }
        leftovers
    }

    /// Whether the Cluster is still what this pass decided from: a watch may be late, and what is deleted is gone for ever.
    async fn is_as_read(&mut self, cluster: &Cluster) -> bool {
        let api: Api<Cluster> = Api::namespaced(self.context.client.clone(), &self.key.namespace);
        match find("look at the Cluster", api.get(&self.key.name)).await {
            Ok(Some(now)) => {
                let is_same = now.metadata.uid == cluster.metadata.uid
                    && now.metadata.generation == cluster.metadata.generation
                    && now.metadata.deletion_timestamp.is_none();
                self.behind |= !is_same;
                is_same
            }
            Ok(None) => false,
            Err(error) => {
                tracing::info!(cluster = %self.key, %error, "no claim is deleted now");
                false
            }
        }
    }

    fn note_deletion(
        &mut self,
        look: &Look<'_>,
        claim: &Claim,
        outcome: Result<(), ApiError>,
        leftovers: &mut Leftovers,
    ) {
        let (name, about) = (claim.name_any(), look.wanted.reference());
        match outcome {
            Ok(()) => {
                let note = format!(
                    "{name} is deleted: its broker was removed and held nothing, and spec.storage.whenScaled is Delete"
                );
                self.story.tell(about, false, "VolumeDeleted", note);
                leftovers.going.push(name);
            }
            // The watch is about to tell.
            Err(ApiError::Conflict { .. } | ApiError::NotFound { .. }) => {
                self.behind = true;
                leftovers.waiting.push(name);
            }
            Err(ApiError::Refused { message, .. }) => {
                let message = format!(
                    "{name} is not deleted: let the operator delete persistentvolumeclaims, as its chart does, or delete it by kubectl \
                     delete pvc, or set spec.storage.whenScaled: Retain (Kubernetes says: {message})"
                );
                let refusal = Refusal { reason: "DeletionRefused", message };
                self.story.tell(about, true, refusal.reason, refusal.message.clone());
                self.released.remember(DELETION, refusal.clone(), Instant::now());
                leftovers.refusal = Some(refusal);
            }
            Err(error @ (ApiError::NotNow { .. } | ApiError::OutcomeUnknown { .. })) => {
                tracing::info!(cluster = %self.key, claim = name, %error, "a claim could not be deleted now");
                leftovers.waiting.push(name);
            }
        }
    }
}

/// Its uid and version make certain that it is the one that was looked at.
async fn write_mark(client: &Client, claim: &Claim, mark: Mark) -> Result<(), ApiError> {
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(client.clone(), &claim.namespace().unwrap_or_default());
    let value = match mark {
        Mark::Set => claim.uid(),
        Mark::Remove => None,
    };
    let patch = json!({"metadata": {
        "uid": claim.uid(), "resourceVersion": claim.resource_version(), "annotations": {ANNOTATION_EMPTY: value},
    }});
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    call("mark a claim", api.patch(&claim.name_any(), &parameters, &Patch::Merge(&patch))).await.map(drop)
}

/// Deletes this very claim as it was looked at: one that was marked otherwise meanwhile, or made anew, stays.
async fn delete(client: &Client, claim: &Claim) -> Result<(), ApiError> {
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(client.clone(), &claim.namespace().unwrap_or_default());
    let preconditions = Preconditions { uid: claim.uid(), resource_version: claim.resource_version() };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    call("delete a claim", api.delete(&claim.name_any(), &parameters)).await.map(drop)
}
