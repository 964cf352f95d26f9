//! How a pod goes, so that the `StatefulSet` makes it anew: by eviction, or by deletion if it is of no use.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{DeleteOptions, Preconditions};
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use kube::core::Status;
use kube::{Api, Client};

use crate::api::{ApiError, call};
use crate::pods::BrokerPod;

/// Asks for the pod to be evicted: refused while the budget does not allow it.
pub async fn evict(client: &Client, namespace: &str, pod: &BrokerPod) -> Result<(), ApiError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    // The uid: never the pod that has taken its place meanwhile.
    let eviction = Eviction {
        metadata: ObjectMeta {
            name: Some(pod.name.clone()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        delete_options: Some(DeleteOptions {
            preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), resource_version: None }),
            ..DeleteOptions::default()
        }),
    };
    let parameters = PostParams::default();
    let evicted = api.create_subresource::<_, Status>("eviction", &pod.name, &parameters, &eviction);
    call("evict a pod", evicted).await.map(drop)
}

/// Deletes the pod, and only this one.
pub async fn delete(client: &Client, namespace: &str, pod: &BrokerPod) -> Result<(), ApiError> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let preconditions = kube::api::Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    call("delete a pod", api.delete(&pod.name, &parameters)).await.map(drop)
}
