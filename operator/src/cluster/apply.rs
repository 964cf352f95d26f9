//! The fourth phase: what is not as it should be is applied.
//!
//! Owns who may be touched: what does not exist, or has our Cluster's uid as its controller. Compares with the cache first,
//! because a patch that changes nothing costs the API server as much as one that does.

use std::fmt::Debug;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::api::{ApiError, call, find};
use crate::names::{ANNOTATION_APPLIED, ANNOTATION_CONTROLLER_EPOCH, FIELD_MANAGER};

/// Why a child is not as it should be.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// An object of this name is somebody else's.
    #[error("{kind} {name} exists and belongs to {owner}: rename the Cluster, or delete that {kind}")]
    NameTaken {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// Whose it is, for a person.
        owner: String,
    },
    /// An object of this name is on its way out.
    #[error("{kind} {name} is being deleted, waiting until it is gone")]
    Leaving {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
    },
    /// An operator with a later tenure has written it: this one has been replaced.
    #[error("{kind} {name} was written by the later tenure {epoch}: this operator acts no more")]
    Deposed {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// The later tenure.
        epoch: u64,
    },
    /// The API server did not take it.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Whether a child had to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It was as it should be.
    Unchanged,
    /// It did not exist.
    Created,
    /// It was another.
    Changed,
}

/// Makes one child as it should be. `cached` is what the watch has last seen of it.
///
/// # Errors
/// See [`ApplyError`]; nothing was changed, or whether is unknown.
pub async fn apply<K>(
    client: &Client,
    wanted: &K,
    cached: Option<&K>,
    epoch: u64,
) -> Result<Applied, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    let (namespace, name) = (wanted.namespace().unwrap_or_default(), wanted.name_any());
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let mut patch = marked(wanted);
    let read;
    let live = if cached.is_some() {
        cached
    } else {
        // The watch sees only what carries our labels, and may be behind.
        read = find("look for a child", api.get(&name)).await?;
        read.as_ref()
    };
    let mut parameters = PatchParams::apply(FIELD_MANAGER);
    if let Some(live) = live {
        check_owner(wanted, live)?;
        check_tenure(live, epoch)?;
        if is_as_wanted(&patch, live) {
            return Ok(Applied::Unchanged);
        }
        // Ours: whoever else set a field of it is overruled. The version makes certain that it is the object that was
        // looked at, and that no later tenure has written since.
        parameters = parameters.force();
        patch["metadata"]["uid"] = live.uid().into();
        patch["metadata"]["resourceVersion"] = live.resource_version().into();
    }
    let outcome = call("apply a child", api.patch(&name, &parameters, &Patch::Apply(&patch))).await;
    let Some(_) = live else { return outcome.map(|_| Applied::Created).map_err(ApplyError::from) };
    match outcome {
        Ok(applied) if is_as_wanted(&patch, &applied) => {}
        Ok(applied) => {
            patch["metadata"]["resourceVersion"] = applied.resource_version().into();
            replace_lists(&api, &name, &patch).await?;
        }
        Err(ApiError::Refused { code: 422, .. }) => replace_lists(&api, &name, &patch).await?,
        Err(error) => return Err(error.into()),
    }
    Ok(Applied::Changed)
}

/// Server-side apply merges lists and leaves what somebody else has put into them: a second port of the same name, which
/// is refused, or one more than wanted. A merge patch replaces them whole.
async fn replace_lists<K>(api: &Api<K>, name: &str, patch: &Value) -> Result<(), ApiError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    call("put a child right", api.patch(name, &parameters, &Patch::Merge(patch))).await.map(drop)
}

/// What is sent: the object with the hash of itself.
fn marked<K: Serialize>(wanted: &K) -> Value {
    let mut patch = serde_json::to_value(wanted).expect("the types of the API have string keys");
    let hash = crate::certificates::hexadecimal(&Sha256::digest(patch.to_string())[..8]);
    patch["metadata"]["annotations"][ANNOTATION_APPLIED] = hash.into();
    patch
}

fn check_owner<K: Resource<DynamicType = ()>>(wanted: &K, live: &K) -> Result<(), ApplyError> {
    let kind = K::kind(&()).into_owned();
    let name = live.name_any();
    if live.meta().deletion_timestamp.is_some() {
        return Err(ApplyError::Leaving { kind, name });
    }
    let controller =
        |object: &K| object.owner_references().iter().find(|one| one.controller == Some(true)).cloned();
    let (ours, theirs) = (controller(wanted), controller(live));
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours.uid == theirs.uid => Ok(()),
        // Of a Cluster of our name that was deleted: the garbage collector is on its way.
        (Some(ours), Some(theirs)) if ours.kind == theirs.kind && ours.name == theirs.name => {
            Err(ApplyError::Leaving { kind, name })
        }
        (_, Some(theirs)) => {
            Err(ApplyError::NameTaken { kind, name, owner: format!("{} {}", theirs.kind, theirs.name) })
        }
        (_, None) => Err(ApplyError::NameTaken { kind, name, owner: "nobody that it names".to_owned() }),
    }
}

fn check_tenure<K: ResourceExt<DynamicType = ()>>(live: &K, epoch: u64) -> Result<(), ApplyError> {
    let stamped =
        live.annotations().get(ANNOTATION_CONTROLLER_EPOCH).and_then(|text| text.parse::<u64>().ok());
    match stamped {
        Some(stamped) if epoch > 0 && stamped > epoch => Err(ApplyError::Deposed {
            kind: K::kind(&()).into_owned(),
            name: live.name_any(),
            epoch: stamped,
        }),
        _ => Ok(()),
    }
}

/// Whether `live` has all that is wanted, and nothing of what an earlier version of us wanted besides.
fn is_as_wanted<K: Serialize + ResourceExt>(patch: &Value, live: &K) -> bool {
    let live = serde_json::to_value(live).expect("the types of the API have string keys");
    covers(&live, patch)
}

/// Whether `live` says all that `wanted` says. The API server adds defaults; it writes quantities its own way.
fn covers(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match live.get(key) {
                Some(live) => covers(live, wanted),
                None => is_empty(wanted),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| covers(live, wanted))
        }
        (Value::String(live), Value::String(wanted)) => live == wanted || is_same_quantity(live, wanted),
        (live, wanted) => live == wanted,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// `1024Mi` comes back as `1Gi`, `0.5` as `500m`.
fn is_same_quantity(live: &str, wanted: &str) -> bool {
    let same =
        |parse: fn(&str) -> Option<u64>| matches!((parse(live), parse(wanted)), (Some(a), Some(b)) if a == b);
    same(fulmar_crds::quantity::bytes) || same(fulmar_crds::quantity::millicores)
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
