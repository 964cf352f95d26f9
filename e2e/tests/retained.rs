//! Promise: no data is deleted that was not asked for. A Topic or a Cluster that is deleted and applied again has its records.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use fulmar_e2e::brokers::{Brokers, READY_WITHIN, SOON, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::health::Health;
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::wait;

/// Deletion gets stuck nowhere.
const DELETED_WITHIN: &str = "--timeout=420s";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_and_a_deleted_cluster_come_back_with_their_records() {
    let yaml = cluster(3) + &topic("events", 3, "");
    let brokers = Brokers::apply("retained", &yaml).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let mut acknowledged = Acknowledged::default();
    let client = brokers.client(0).await.unwrap();
    acknowledged.publish(&client, "events", 5_000, 7).await.unwrap();
    let id = brokers.get("flt/events").unwrap()["status"]["topicId"].clone();

    brokers.kubectl(&["delete", "flt/events", DELETED_WITHIN]).unwrap();
    wait::until_so("the Cluster counts the retained topic", SOON, || {
        Ok(brokers.get("flc/orders")?["status"]["retained"]["topics"] == 1)
    })
    .unwrap();
    let environment = Environment::get().unwrap();
    environment.apply(brokers.namespace(), &topic("events", 3, "")).unwrap();
    brokers.await_ready("flt/events").unwrap();
    assert_eq!(brokers.get("flt/events").unwrap()["status"]["topicId"], id, "the same topic, not a new one");
    acknowledged.compare(&client, "events").await.unwrap();

    brokers.kubectl(&["delete", "flc/orders", "flt/events", DELETED_WITHIN]).unwrap();
    wait::until_so("no broker is left", READY_WITHIN, || {
        Ok(brokers.kubectl(&["get", "pods", "-o", "name"])?.trim().is_empty())
    })
    .unwrap();
    environment.apply(brokers.namespace(), &yaml).unwrap();
    brokers.await_ready("flt/events").unwrap();
    assert_eq!(
        brokers.get("flt/events").unwrap()["status"]["topicId"],
        id,
        "the same topic after the Cluster"
    );
    let client = brokers.client(2).await.unwrap();
    acknowledged.compare(&client, "events").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_waits_for_its_cluster_says_so_and_heals() {
    let brokers = Brokers::apply("waiting", &topic("events", 1, "")).unwrap();
    let message = brokers.await_reason("flt/events", "Ready", "False", "ClusterNotFound").unwrap();
    assert!(message.contains("orders"), "the message names the Cluster: {message}");
    brokers.await_as_recorded("flt/events", "topic-without-cluster").unwrap();
    Environment::get().unwrap().apply(brokers.namespace(), &cluster(1)).unwrap();
    brokers.await_ready("flt/events").unwrap();
    brokers.await_health("flt/events", Health::Healthy).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_topics_that_claim_one_name_the_oldest_wins() {
    let brokers =
        Brokers::apply("two-claims", &(cluster(1) + &topic("first", 1, "topicName: events"))).unwrap();
    brokers.await_ready("flt/first").unwrap();
    let environment = Environment::get().unwrap();
    environment.apply(brokers.namespace(), &topic("second", 1, "topicName: events")).unwrap();
    let message = brokers.await_reason("flt/second", "Ready", "False", "NameTaken").unwrap();
    assert!(message.contains("first"), "the message names the winner: {message}");
    brokers.await_as_recorded("flt/second", "topic-name-taken").unwrap();
    brokers.kubectl(&["delete", "flt/first", DELETED_WITHIN]).unwrap();
    brokers.await_ready("flt/second").unwrap();
    brokers.await_health("flt/second", Health::Healthy).unwrap();
}
