//! A Secret that has changed reaches the brokers' pods at once, and not when kubelet looks again by itself.
//!
//! Kubelet brings a changed Secret into a running pod when it next syncs that pod: about once a minute, or at once when the pod
//! itself changes. So a pod whose broker does not use the newest certificates gets their name as an annotation. It only
//! hastens: what the rotation rests on is what every broker says that it uses, and without this it takes minutes longer.
//! The template does not carry the annotation, so nobody is restarted by it.

use std::collections::BTreeSet;

use fulmar_core::control::View;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::api::{ApiError, call};
use crate::certificates::{Kept, changed_at, worn};
use crate::names::{ANNOTATION_CERTIFICATES, FIELD_MANAGER};
use crate::pods::BrokerPod;

/// Which pods were told of which certificates: each once, for a patch that fails costs a minute and no more.
#[derive(Debug, Default)]
pub struct Told {
    certificates: String,
    /// As many as there are pods, at most: the memory starts anew with each change of the certificates.
    uids: BTreeSet<String>,
}

impl Told {
    /// Tells every pod whose broker does not use what the Secret `tls` keeps, unless that was done.
    pub async fn tell(
        &mut self,
        client: &Client,
        namespace: &str,
        tls: &Kept,
        pods: &[BrokerPod],
        view: Option<&View>,
    ) {
        let worn = worn(tls);
        for pod in behind(pods, view, &worn, changed_at(tls)) {
            if !self.is_new(&worn, &pod.uid) {
                continue;
            }
            match annotate(client, namespace, pod, &worn).await {
                Ok(()) => tracing::debug!(pod = pod.name, "kubelet is to bring the changed Secret now"),
                Err(error) => {
                    tracing::info!(pod = pod.name, %error, "the changed Secret comes when kubelet looks again");
                }
            }
        }
    }

    fn is_new(&mut self, worn: &str, uid: &str) -> bool {
        if self.certificates != worn {
            *self = Self { certificates: worn.to_owned(), uids: BTreeSet::new() };
        }
        self.uids.insert(uid.to_owned())
    }
}

/// The pods that have an older Secret and were not told of this one. A broker that is not heard (it may not believe us before
/// it has the Secret) is judged by its pod's age: whatever was made later has it from its start.
fn behind<'a>(
    pods: &'a [BrokerPod],
    view: Option<&View>,
    worn: &str,
    changed: Option<Timestamp>,
) -> Vec<&'a BrokerPod> {
    let says = |pod: &BrokerPod| {
        let brokers = view.into_iter().flat_map(|view| &view.brokers);
        let mut own = brokers.filter(|broker| broker.ordinal.0 == pod.ordinal);
        own.next().map(|broker| broker.certificates.as_str()).filter(|says| !says.is_empty())
    };
    let has_older = |pod: &BrokerPod| match says(pod) {
        Some(says) => says != worn,
        None => matches!((pod.created, changed), (Some(created), Some(changed)) if created < changed),
    };
    pods.iter()
        .filter(|pod| pod.running && !pod.leaving)
        .filter(|pod| pod.certificates.as_deref() != Some(worn) && has_older(pod))
        .collect()
}

async fn annotate(client: &Client, namespace: &str, pod: &BrokerPod, worn: &str) -> Result<(), ApiError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    // The uid: the pod that has taken its place meanwhile has the Secret.
    let patch = json!({"metadata": {"uid": pod.uid, "annotations": {ANNOTATION_CERTIFICATES: worn}}});
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    call("annotate a pod", api.patch_metadata(&pod.name, &parameters, &Patch::Merge(&patch))).await.map(drop)
}

#[cfg(test)]
#[path = "refresh_tests.rs"]
mod tests;
