//! The `StatefulSet` of the brokers. Half of its fields can never be changed: they are chosen once, for ever.

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::build::{pod, selector};
use crate::cluster::validate::Wanted;
use crate::names::{ANNOTATION_CONTROLLER_EPOCH, DATA_CLAIM};

/// The set.
pub(super) fn build(wanted: &Wanted, brokers: u16, controller_epoch: u64) -> StatefulSet {
    let mut metadata = wanted.key.child_metadata(wanted.key.child(), &wanted.uid);
    if controller_epoch > 0 {
        let stamp = (ANNOTATION_CONTROLLER_EPOCH.to_owned(), controller_epoch.to_string());
        metadata.annotations = Some([stamp].into());
    }
    StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::from(brokers)),
            service_name: Some(wanted.key.brokers_service()),
            selector: selector(wanted),
            // OrderedReady waits for ever on a broker that waits for its peers, and cannot be changed later.
            pod_management_policy: Some("Parallel".to_owned()),
            // The operator restarts brokers: it knows when a partition can spare one.
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            revision_history_limit: Some(5),
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Retain".to_owned()),
                when_scaled: Some("Retain".to_owned()),
            }),
            template: pod::template(wanted),
            volume_claim_templates: Some(vec![claim(wanted)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

/// Without any label: what stands here can never be changed, and the set adds the two of its selector by itself.
fn claim(wanted: &Wanted) -> PersistentVolumeClaim {
    let storage = &wanted.settings.storage;
    let size = [("storage".to_owned(), Quantity(storage.size.clone()))].into();
    PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some(DATA_CLAIM.to_owned()), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: storage.storage_class.clone(),
            volume_mode: Some("Filesystem".to_owned()),
            resources: Some(VolumeResourceRequirements { requests: Some(size), limits: None }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
