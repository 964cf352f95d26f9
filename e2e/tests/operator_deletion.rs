//! Promise: records go only when they were asked to go, then really, and nothing gets stuck.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use fulmar_e2e::brokers::{Brokers, READY_WITHIN, SOON, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::wait;

/// Deletion gets stuck nowhere.
const DELETED_WITHIN: &str = "--timeout=420s";

#[test]
fn a_topic_that_deletes_its_records_is_another_one_when_it_comes_back() {
    let yaml = topic("events", 3, "deletionPolicy: Delete");
    let brokers = Brokers::apply("deleted", &(cluster(3) + &yaml)).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let before = brokers.get("flt/events").unwrap();
    assert_eq!(before["metadata"]["finalizers"][0], "fulmar.dev/records");
    brokers.kubectl(&["delete", "flt/events", DELETED_WITHIN]).unwrap();
    Environment::get().unwrap().apply(brokers.namespace(), &yaml).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let after = brokers.get("flt/events").unwrap();
    assert_ne!(after["status"]["topicId"], before["status"]["topicId"]);
}

#[test]
fn a_topic_whose_cluster_is_gone_is_deleted_at_once() {
    let brokers =
        Brokers::apply("orphaned", &(cluster(1) + &topic("events", 1, "deletionPolicy: Delete"))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    brokers.kubectl(&["delete", "flc/orders", DELETED_WITHIN]).unwrap();
    brokers.await_condition("flt/events", "Ready", "False", SOON).unwrap();
    brokers.kubectl(&["delete", "flt/events", DELETED_WITHIN]).unwrap();
}

#[test]
fn volumes_stay_unless_the_cluster_says_otherwise() {
    let brokers = Brokers::apply("volumes", &cluster(1)).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    let volumes = || brokers.kubectl(&["get", "pvc,partitiontables", "-o", "name"]).unwrap();
    assert!(volumes().contains("data-orders-0") && volumes().contains("orders-table"));
    brokers.kubectl(&["delete", "flc/orders", DELETED_WITHIN]).unwrap();
    wait::until_so("no broker is left", READY_WITHIN, || {
        Ok(brokers.kubectl(&["get", "pods,sts,svc,secret", "-o", "name"])?.trim().is_empty())
    })
    .unwrap();
    assert!(volumes().contains("data-orders-0") && volumes().contains("orders-table"), "{}", volumes());

    let goes = cluster(1).replace("storage: {size: 1Gi}", "storage: {size: 1Gi, whenDeleted: Delete}");
    Environment::get().unwrap().apply(brokers.namespace(), &goes).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    wait::until_so("the claim has an owner", SOON, || {
        Ok(brokers.get("pvc/data-orders-0")?["metadata"]["ownerReferences"][0]["kind"] == "Cluster")
    })
    .unwrap();
    brokers.kubectl(&["delete", "flc/orders", DELETED_WITHIN]).unwrap();
    wait::until_so("nothing is left", READY_WITHIN, || Ok(volumes().trim().is_empty())).unwrap();
}

#[test]
fn a_scale_down_below_what_holds_replicas_is_refused() {
    let brokers = Brokers::apply("scaled", &(cluster(3) + &topic("events", 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    wait::until_so("the Cluster says how many it needs", SOON, || {
        Ok(brokers.get("flc/orders")?["status"]["minReplicas"] == 3)
    })
    .unwrap();
    let refused = brokers.kubectl(&["scale", "flc/orders", "--replicas=2"]).unwrap_err();
    assert!(format!("{refused:#}").contains("below status.minReplicas 3"), "{refused:#}");
    brokers.kubectl(&["scale", "flc/orders", "--replicas=4"]).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    // The fourth holds nothing yet: it may go again.
    brokers.kubectl(&["scale", "flc/orders", "--replicas=3"]).unwrap();
    wait::until_so("three pods", READY_WITHIN, || {
        Ok(brokers.kubectl(&["get", "pods", "-o", "name"])?.lines().count() == 3)
    })
    .unwrap();
    brokers.await_ready("flc/orders").unwrap();
}
