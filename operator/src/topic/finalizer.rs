//! The finalizer of Topics whose records are to be deleted with them.
//!
//! Owns when it is set and when it is lifted: only when the records are gone, or when nobody is left to delete them. It is
//! never the reason that something gets stuck.

use std::sync::Arc;

use fulmar_core::control::View;
use fulmar_crds::Topic;
use fulmar_crds::topic::DeletionPolicy;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::api::{ApiError, call, find};
use crate::names::{FIELD_MANAGER, FINALIZER_RECORDS};
use crate::topic::claims::{Claimed, Standing};

/// Of thousands of Topics that come or go together, so many are written at once.
const AT_ONCE: usize = 8;

/// What is to be done about a Topic's finalizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// It has none and should.
    Set,
    /// It has one and should not, or its work is done.
    Lift,
    /// It waits for the records to go: lifted if the namespace goes too.
    LiftIfNamespaceGoes,
}

/// What is known of the records.
#[derive(Debug, Clone, Copy)]
pub enum Keeper<'a> {
    /// There is no Cluster, or it is going: nobody is left to delete anything.
    Nobody,
    /// The controller's view, which knows of everything that was wished.
    View(&'a View),
    /// The controller has not taken up the last wish yet.
    Busy,
}

/// What is to be done about these, but for those about which nothing is.
pub fn steps(claims: &[Claimed], keeper: Keeper<'_>) -> Vec<(Arc<Topic>, Step)> {
    let steps = claims.iter().map(|claimed| (Arc::clone(&claimed.topic), step(claimed, keeper)));
    steps.filter(|(_, step)| *step != Step::Keep).collect()
}

/// Decides.
pub fn step(claimed: &Claimed, keeper: Keeper<'_>) -> Step {
    let policy = claimed.topic.spec.deletion_policy;
    match (claimed.is_going(), claimed.is_held(), policy) {
        (false, false, DeletionPolicy::Delete) => Step::Set,
        (_, true, DeletionPolicy::Retain) => Step::Lift,
        (true, true, DeletionPolicy::Delete) => going(claimed, keeper),
        (false, true, DeletionPolicy::Delete) | (_, false, _) => Step::Keep,
    }
}

fn going(claimed: &Claimed, keeper: Keeper<'_>) -> Step {
    let name = match &claimed.standing {
        Standing::Holder(settings) => &settings.name,
        // Nothing was ever made of it.
        Standing::Taken { .. } | Standing::Invalid(_) => return Step::Lift,
    };
    match keeper {
        Keeper::Nobody => Step::Lift,
        Keeper::View(view) if is_gone(view, name) => Step::Lift,
        Keeper::View(_) | Keeper::Busy => Step::LiftIfNamespaceGoes,
    }
}

/// Whether the controller, which has read the whole table and heard of every volume, knows of no such topic.
fn is_gone(view: &View, name: &str) -> bool {
    let settled = view.controller_epoch > 0 && view.waiting.is_none();
    settled && !view.topics.contains_key(name) && !view.retained.iter().any(|retained| retained == name)
}

/// Carries out the steps of Topics of one namespace, until one fails. A Topic that has changed meanwhile is left: its new version wakes
/// who decides.
pub async fn carry_out(client: &Client, steps: Vec<(Arc<Topic>, Step)>) -> Result<(), ApiError> {
    let waits = steps.iter().find(|(_, step)| *step == Step::LiftIfNamespaceGoes);
    let all_go = match waits {
        Some((topic, _)) => is_namespace_going(client, topic).await?,
        None => false,
    };
    let writes = steps.into_iter().filter_map(|(topic, step)| match step {
        Step::Keep => None,
        Step::Set => Some((topic, true)),
        Step::Lift => Some((topic, false)),
        Step::LiftIfNamespaceGoes => all_go.then_some((topic, false)),
    });
    let write = |(topic, held): (Arc<Topic>, bool)| {
        let client = client.clone();
        async move { write(&client, &topic, held).await }
    };
    stream::iter(writes).map(Ok).try_for_each_concurrent(AT_ONCE, write).await
}

async fn is_namespace_going(client: &Client, topic: &Topic) -> Result<bool, ApiError> {
    let api: Api<Namespace> = Api::all(client.clone());
    let found = find("read a namespace", api.get(&topic.namespace().unwrap_or_default())).await?;
    Ok(found.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()))
}

async fn write(client: &Client, topic: &Topic, held: bool) -> Result<(), ApiError> {
    let api: Api<Topic> = Api::namespaced(client.clone(), &topic.namespace().unwrap_or_default());
    let mut finalizers: Vec<&str> = topic.finalizers().iter().map(String::as_str).collect();
    finalizers.retain(|one| *one != FINALIZER_RECORDS);
    if held {
        finalizers.push(FINALIZER_RECORDS);
    }
    let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": topic.resource_version()}});
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let (name, patch) = (topic.name_any(), Patch::Merge(&patch));
    let written = api.patch(&name, &parameters, &patch);
    match call("write a Topic's finalizer", written).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "finalizer_tests.rs"]
mod tests;
