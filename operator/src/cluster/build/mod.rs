//! The third phase: the objects that a Cluster should have, a file for each. No client, no clock: the same Cluster gives
//! the same bytes, so an operator that is replaced restarts nothing (the golden files are the proof).

mod client_service;
mod headless_service;
mod network_policy;
mod pod;
mod pod_disruption_budget;
mod secrets;
mod service_account;
pub(crate) mod stateful_set;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::certificates::Certificates;
use crate::cluster::validate::Wanted;

pub use self::secrets::kept;

/// What a Cluster should have, in the order in which it is applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Children {
    /// Who the brokers are to Kubernetes: nobody with any grant.
    pub service_account: ServiceAccount,
    /// The CA.
    pub ca: Secret,
    /// What the brokers mount.
    pub tls: Secret,
    /// The brokers' names in DNS.
    pub headless_service: Service,
    /// Where programs connect.
    pub client_service: Service,
    /// How many brokers may be missing at once.
    pub budget: PodDisruptionBudget,
    /// Who may reach which port.
    pub policy: NetworkPolicy,
    /// The brokers: last, for it needs all the others.
    pub stateful_set: StatefulSet,
}

/// Builds everything. `brokers` is how many there are to be now: fewer than wanted never, more while a scale-down waits.
pub fn build(wanted: &Wanted, certificates: &Certificates, brokers: u16, controller_epoch: u64) -> Children {
    Children {
        service_account: service_account::build(wanted),
        ca: secrets::ca(wanted, certificates),
        tls: secrets::tls(wanted, certificates),
        headless_service: headless_service::build(wanted),
        client_service: client_service::build(wanted),
        budget: pod_disruption_budget::build(wanted),
        policy: network_policy::build(wanted),
        stateful_set: stateful_set::build(wanted, brokers, controller_epoch),
    }
}

fn selector(wanted: &Wanted) -> LabelSelector {
    LabelSelector { match_labels: Some(wanted.key.selector()), ..LabelSelector::default() }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
