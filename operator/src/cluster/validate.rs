//! The second phase: one checked value, which is all that the phases after it read of the spec. No client.

use fulmar_crds::Cluster;
use fulmar_crds::validate::{ClusterSettings, SettingsError};
use k8s_openapi::api::core::v1::ObjectReference;

use crate::config::Config;
use crate::names::ClusterKey;

/// A Cluster as it is wanted, everything in it known to be good.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Where it is and what it is called.
    pub key: ClusterKey,
    /// Its uid: children say by it whose they are.
    pub uid: String,
    /// Its settings.
    pub settings: ClusterSettings,
    /// The brokers' image: the spec's, or the one that the operator was installed with.
    pub image: String,
    /// The DNS domain of the Kubernetes cluster.
    pub cluster_domain: String,
    /// Where the operator runs.
    pub operator_namespace: String,
}

impl Wanted {
    /// The Cluster, as Events name it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(fulmar_crds::API_VERSION.to_owned()),
            kind: Some("Cluster".to_owned()),
            namespace: Some(self.key.namespace.clone()),
            name: Some(self.key.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}

/// Checks a Cluster.
///
/// # Errors
/// The first field that says what no rule lets through: the object may be older than the rule.
pub fn validate(cluster: &Cluster, config: &Config) -> Result<Wanted, SettingsError> {
    let settings = ClusterSettings::of(cluster)?;
    let metadata = &cluster.metadata;
    Ok(Wanted {
        key: ClusterKey {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        },
        uid: metadata.uid.clone().unwrap_or_default(),
        image: settings.image.clone().unwrap_or_else(|| config.broker_image.clone()),
        settings,
        cluster_domain: config.cluster_domain.trim_matches('.').to_owned(),
        operator_namespace: config.pod_namespace.clone(),
    })
}
