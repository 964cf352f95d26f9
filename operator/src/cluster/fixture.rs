//! A Cluster for tests.

use clap::Parser as _;
use fulmar_crds::Cluster;
use serde_json::json;

use crate::cluster::validate::{Wanted, validate};
use crate::config::Line;

/// A Cluster orders in the namespace shop, of nothing but defaults.
pub(crate) fn cluster(change: impl FnOnce(&mut Cluster)) -> Cluster {
    let mut cluster: Cluster = serde_json::from_value(json!({
        "apiVersion": "fulmar.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"namespace": "shop", "name": "orders", "uid": "uid-orders", "generation": 1},
        "spec": {},
    }))
    .expect("a good Cluster");
    change(&mut cluster);
    cluster
}

/// The same, checked.
pub(crate) fn wanted(change: impl FnOnce(&mut Cluster)) -> Wanted {
    let arguments = [
        "--broker-image",
        "registry.example/fulmar-broker:0.1.0",
        "--pod-name",
        "o",
        "--pod-namespace",
        "fulmar",
    ];
    let line = Line::parse_from(std::iter::once("fulmar-operator").chain(arguments));
    let config = line.config.expect("settings are given");
    validate(&cluster(change), &config).expect("a good Cluster")
}
