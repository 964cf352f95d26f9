//! Promise: what was applied is what is there: neither of a Cluster and its Topics nor of the chart does anything show as changed.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::installation;
use serde::Deserialize as _;
use serde_json::Value;

/// What has a default is said, and a quantity in other words than Kubernetes' own; `plain` says nothing of it.
const MORE: &str =
    "retention: {time: 168h, bytesPerPartition: 1024Mi}\n  replicationFactor: 3\n  ackQuorum: 2";

#[test]
fn kubectl_diff_finds_nothing_in_a_cluster_and_topics_that_are_ready() {
    let yaml = cluster(3) + &topic("events", 3, MORE) + &topic("plain", 1, "");
    let brokers = Brokers::apply("in-sync", &yaml).unwrap();
    let file = brokers.path_of("in-sync.yaml", &yaml).unwrap();
    for resource in ["flc/orders", "flt/events", "flt/plain"] {
        brokers.await_ready(resource).unwrap();
    }
    // The operator has written statuses and finalizers by now. An exit code other than 0 says that there is a difference.
    assert_eq!(brokers.kubectl(&["diff", "-f", &file]).unwrap(), "");
    let by_another = ["diff", "--server-side", "--force-conflicts", "--field-manager=gitops", "-f", &file];
    assert_eq!(brokers.kubectl(&by_another).unwrap(), "");
}

#[test]
fn kubectl_diff_finds_nothing_in_what_the_chart_installed() {
    let environment = Environment::get().unwrap();
    let brokers = Brokers::apply("in-sync-chart", &cluster(1)).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    let installed = ["get", "manifest", "fulmar", "--namespace", installation::NAMESPACE];
    let manifest = environment.helm(&installed).unwrap();
    // Tests that need one operator have scaled it.
    installation::scale(environment, replicas(&manifest)).unwrap();
    let file = brokers.path_of("in-sync-chart.yaml", &manifest).unwrap();
    assert_eq!(environment.kubectl(&["diff", "-f", &file]).unwrap(), "");
}

/// Of the operator.
fn replicas(manifest: &str) -> u32 {
    let objects = serde_yaml::Deserializer::from_str(manifest).map(|one| Value::deserialize(one).unwrap());
    let deployment = objects.into_iter().find(|object| object["kind"] == "Deployment").unwrap();
    u32::try_from(deployment["spec"]["replicas"].as_u64().unwrap()).unwrap()
}
