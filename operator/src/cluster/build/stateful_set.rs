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

/// The size of the claims that the set makes. It can never be changed.
pub(crate) fn template_size(set: &StatefulSet) -> Option<&str> {
    let template = set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()?;
    let requests = template.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    requests.get("storage").map(|size| size.0.as_str())
}

/// What is wanted, with the size of volumes that the set in place was made with: its template of claims can never be changed, and
/// the size of the journal, which is in the template of its pods, must not be, or brokers would restart because volumes grow.
pub(crate) fn as_made(wanted: &Wanted, live: Option<&StatefulSet>) -> Wanted {
    let mut made = wanted.clone();
    let size = live.and_then(template_size);
    if let Some((size, size_bytes)) = size.and_then(|size| Some((size, fulmar_crds::quantity::bytes(size)?)))
    {
        (made.settings.storage.size, made.settings.storage.size_bytes) = (size.to_owned(), size_bytes);
    }
    made
}

/// The claim of a broker, as the set would make it, with the size that is wanted now.
pub(crate) fn missing_claim(wanted: &Wanted, ordinal: u16) -> PersistentVolumeClaim {
    let mut claim = claim(wanted);
    claim.metadata.name = Some(wanted.key.claim(ordinal));
    claim.metadata.namespace = Some(wanted.key.namespace.clone());
    claim.metadata.labels = Some(wanted.key.selector());
    claim
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
