//! Bad input gets a clear error: every case of the corpus on a real API server, in the words that a person sees. The same files
//! are run through `fulmar_crds::admission`, so `fulmar dev` gives the same verdicts.
//!
//! The operator is at zero replicas here: the cases are about the API server, and none of their Clusters is to become pods.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::Duration;

use anyhow::ensure;
use fulmar_crds::corpus;
use fulmar_e2e::environment::Environment;
use fulmar_e2e::installation::{self, RELEASE};
use fulmar_e2e::namespaces::Namespace;
use fulmar_e2e::verdicts::ApiServer;
use fulmar_e2e::wait;
use serde_json::Value;

/// What the API server has just been given is in force, and what it had no time for is done.
const WITHIN: Duration = Duration::from_mins(3);

/// The kinds by names that no other product has.
const KINDS: &str = "clusters.fulmar.dev,topics.fulmar.dev,partitiontables.fulmar.dev";

#[test]
fn every_manifest_of_the_corpus_gets_its_verdict_and_its_words() {
    let environment = Environment::get().unwrap();
    let quiet = Quiet::make(environment);
    let namespace = Namespace::make(environment, "corpus", &[]).unwrap();
    let (good, bad) = (corpus::good().unwrap(), corpus::bad().unwrap());
    let mut wrong: Vec<String> = Vec::new();
    for case in good.iter().chain(&bad) {
        wrong.extend(quiet.api_server().check(case, &namespace.name).err());
    }
    assert!(wrong.is_empty(), "{} of the cases:\n{}", wrong.len(), wrong.join("\n"));
    println!("{} good and {} bad manifests", good.len(), bad.len());
}

#[test]
fn definitions_are_taken_without_complaint() {
    let environment = Environment::get().unwrap();
    let _quiet = Quiet::make(environment);
    for name in KINDS.split(',') {
        let printed = environment.kubectl(&["get", "crd", name, "-o", "json"]).unwrap();
        let conditions: Value = serde_json::from_str(&printed).unwrap();
        for condition in conditions["status"]["conditions"].as_array().unwrap() {
            let (kind, status) = (condition["type"].as_str().unwrap(), condition["status"].as_str().unwrap());
            assert!(
                matches!((kind, status), ("Established" | "NamesAccepted", "True")),
                "{name}: {condition}"
            );
        }
    }
}

#[test]
fn explain_says_what_each_field_means() {
    let environment = Environment::get().unwrap();
    let _quiet = Quiet::make(environment);
    // The API server tells of definitions a moment after it has taken them.
    let explains = |field: &str, words: &[&str]| {
        wait::until_so(&format!("{field} is explained"), WITHIN, || {
            let printed = environment.kubectl(&["explain", field])?;
            ensure!(words.iter().all(|words| printed.contains(words)), "{printed}");
            Ok(true)
        })
        .unwrap();
    };
    explains("topics.fulmar.dev.spec.partitions", &["How many partitions the topic has, from 1 to 1024."]);
    let words =
        ["What happens to the volumes when the Cluster is deleted.", "ENUM:\n    Retain\n    Delete\n"];
    explains("clusters.fulmar.dev.spec.storage.whenDeleted", &words);
}

/// As the operator tells of moves between brokers.
const OPERATION: &str =
    r#"{"type":"Rebalance","step":"MovingReplicas","done":37,"total":120,"progress":"Rebalance 37/120"}"#;

#[test]
fn columns_show_what_a_status_says() {
    let environment = Environment::get().unwrap();
    let quiet = Quiet::make(environment);
    let namespace = Namespace::make(environment, "columns", &[]).unwrap();
    let yaml = "{apiVersion: fulmar.dev/v1alpha1, kind: Cluster, metadata: {name: orders}}\n---\n\
        {apiVersion: fulmar.dev/v1alpha1, kind: Topic, metadata: {name: orders.v1}, spec: {clusterRef: {name: orders}, partitions: 12}}";
    environment.apply(&namespace.name, yaml).unwrap();
    let ready = r#""conditions":[{"type":"Ready","status":"False","reason":"BrokersStarting","message":"one is missing","lastTransitionTime":"2026-01-01T00:00:00Z"}]"#;
    let cluster = format!(r#"{{"brokersReady":"2/3","underReplicated":4,"operation":{OPERATION},{ready}}}"#);
    let topic = format!(r#"{{"replicationFactor":3,"underReplicated":4,{ready}}}"#);
    for (kind, name, status) in [("flc", "orders", cluster), ("flt", "orders.v1", topic)] {
        quiet.api_server().write_status(&namespace.name, kind, name, &status).unwrap();
    }
    let table = |kind: &str, wide: &[&str]| -> Vec<Vec<String>> {
        let arguments = [&["get", kind, "--namespace", &namespace.name], wide].concat();
        let printed = environment.kubectl(&arguments).unwrap();
        printed.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let rows = table("flc", &["-o", "wide"]);
    assert_eq!(rows[0], ["NAME", "READY", "BROKERS", "OPERATION", "UNDERREPLICATED", "AGE", "REASON"]);
    assert_eq!(rows[1][..6], ["orders", "False", "2/3", "Rebalance", "37/120", "4"]);
    assert_eq!(rows[1][7], "BrokersStarting");
    let rows = table("flt", &[]);
    assert_eq!(
        rows[0],
        ["NAME", "CLUSTER", "PARTITIONS", "REPLICAS", "READY", "UNDERREPLICATED", "REASON", "AGE"]
    );
    assert_eq!(rows[1][..7], ["orders.v1", "orders", "12", "3", "False", "4", "BrokersStarting"]);
    let rows = table("flt", &["--field-selector", "spec.clusterRef.name=payments", "--no-headers"]);
    assert!(rows.is_empty(), "{rows:?}");
}

#[test]
fn nobody_but_the_operator_writes_a_partition_table() {
    let environment = Environment::get().unwrap();
    let quiet = Quiet::make(environment);
    let namespace = Namespace::make(environment, "tables", &[]).unwrap();
    let page =
        corpus::good().unwrap().into_iter().find(|case| case.path.ends_with("table-page.yaml")).unwrap();
    // A policy that was just installed is in force some seconds later.
    wait::until_so("everybody else is refused", WITHIN, || {
        let Err(refused) = environment.apply(&namespace.name, &page.documents[0]) else {
            environment.kubectl(&["delete", KINDS, "--all", "--namespace", &namespace.name])?;
            return Ok(false);
        };
        ensure!(refused.to_string().contains("only the operator writes a PartitionTable"), "{refused}");
        Ok(true)
    })
    .unwrap();
    quiet.api_server().apply_as_operator(&namespace.name, &page.documents[0]).unwrap();
}

#[test]
fn operator_has_no_right_that_it_does_not_need() {
    let environment = Environment::get().unwrap();
    let quiet = Quiet::make(environment);
    let refused = [
        ["list", "secrets"],
        ["deletecollection", "persistentvolumeclaims"],
        ["delete", "persistentvolumes"],
        ["create", "pods"],
        ["create", "pods/exec"],
        ["update", "clusters.fulmar.dev"],
        ["delete", "clusters.fulmar.dev"],
        ["delete", "topics.fulmar.dev"],
        ["delete", "statefulsets.apps"],
        ["update", "nodes"],
        ["create", "clusterroles.rbac.authorization.k8s.io"],
    ];
    for [verb, resource] in refused {
        let arguments =
            ["auth", "can-i", verb, resource, "--all-namespaces", "--as", quiet.operator.as_str()];
        let said = environment.kubectl(&arguments).unwrap_err().to_string();
        assert!(said.contains("can-i") && !said.contains("yes"), "{verb} {resource}: {said}");
    }
    // Asked in earnest, too.
    let refused = environment.kubectl(&["get", "secrets", "--all-namespaces", "--as", &quiet.operator]);
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("Forbidden") && refused.contains("cannot list resource \"secrets\""),
        "{refused}"
    );
}

/// The chart is installed, and no operator runs. Afterwards as many run as before.
struct Quiet<'a> {
    environment: &'a Environment,
    /// The user that the operator is to the API server.
    operator: String,
    replicas_before: String,
}

impl<'a> Quiet<'a> {
    fn make(environment: &'a Environment) -> Self {
        installation::ensure_with(environment, &["--set", "replicas=0"]).unwrap();
        let deployment = ["get", "deployment", RELEASE, "--namespace", installation::NAMESPACE];
        let replicas = [&deployment[..], &["-o", "jsonpath={.spec.replicas}"]].concat();
        let operator = format!("system:serviceaccount:{}:{RELEASE}", installation::NAMESPACE);
        let quiet = Self { environment, operator, replicas_before: environment.kubectl(&replicas).unwrap() };
        installation::scale(environment, 0).unwrap();
        quiet.await_rights();
        quiet
    }

    /// Roles that were just given work some moments later.
    fn await_rights(&self) {
        let may = ["auth", "can-i", "create", "partitiontables.fulmar.dev", "--all-namespaces", "--as"];
        wait::until_so("the operator has its rights", WITHIN, || {
            self.environment.kubectl(&[&may[..], &[&self.operator]].concat()).map(|_| true)
        })
        .unwrap();
    }

    fn api_server(&self) -> ApiServer<'_> {
        ApiServer {
            environment: self.environment,
            kubeconfig: None,
            operator: &self.operator,
            names_values: true,
        }
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let replicas = format!("--replicas={}", self.replicas_before);
        let scale = ["scale", "deployment", RELEASE, "--namespace", installation::NAMESPACE, &replicas];
        if let Err(error) = self.environment.kubectl(&scale) {
            println!("there is no operator, until the next test wants one: {error:#}");
        }
    }
}
