//! Whether the volumes go with their Cluster: an owner on each claim, or none.
//!
//! Claims are the only place where records are, so this is the only hand that the operator lays on them. A claim that is
//! not named here is never touched, and no claim is ever deleted by the operator itself: the garbage collector does that,
//! when the Cluster that owns it is gone.

use std::sync::Arc;

use fulmar_crds::cluster::WhenDeleted;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::api::{ApiError, call};
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
