//! Promise: what would harm programs, or cannot be, is a condition with a reason and what to do, and the Cluster goes on serving.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::Duration;

use anyhow::Context as _;
use fulmar_client::Record;
use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::clients::producer;
use fulmar_e2e::environment::Environment;
use fulmar_e2e::health::Health;
use fulmar_e2e::wait;

/// No registry answers at such a name (RFC 2606).
const NO_IMAGE: &str = "registry.invalid/fulmar-broker:none";

/// A broker that was deleted is back.
const BACK_WITHIN: Duration = Duration::from_mins(3);

fn uids(brokers: &Brokers) -> anyhow::Result<Vec<String>> {
    let uid = "-o=jsonpath={.items[*].metadata.uid}";
    let pods = brokers.kubectl(&["get", "pods", "--selector=app.kubernetes.io/instance=orders", uid])?;
    Ok(pods.split_whitespace().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_roll_that_would_stop_programs_is_left_to_a_person() {
    let all = topic("all-three", 1, "replicationFactor: 3\n  ackQuorum: 3");
    let brokers = Brokers::apply("unsparing", &(cluster(3) + &all)).unwrap();
    brokers.await_ready("flt/all-three").unwrap();
    let before = uids(&brokers).unwrap();
    brokers.kubectl(&["rollout", "restart", "statefulset/orders"]).unwrap();
    let advice = brokers.await_reason("flc/orders", "Stalled", "True", "QuorumWouldBeLost").unwrap();
    assert!(advice.contains("topic all-three could not be published to"), "{advice}");
    assert_eq!(brokers.condition("flc/orders", "RolloutComplete").unwrap().unwrap().1, "QuorumWouldBeLost");
    wait::until_so("an Event tells it", BACK_WITHIN, || Ok(brokers.events("QuorumWouldBeLost")?.1 > 0))
        .unwrap();
    brokers.await_ready("flc/orders").unwrap();
    // It serves, and waits for a person; its Topic is as wished.
    brokers.await_health("flc/orders", Health::Degraded).unwrap();
    brokers.await_health("flt/all-three", Health::Healthy).unwrap();
    assert_eq!(uids(&brokers).unwrap(), before);
    let producer = producer(&brokers.client(0).await.unwrap(), "all-three").await.unwrap();
    producer.publish(Record::new("served meanwhile")).await.unwrap();

    // What it says is what one types.
    let (_, command) = advice.split_once("kubectl delete ").unwrap();
    assert_eq!(command, "pod orders-0");
    for ordinal in 0..3 {
        brokers.kubectl(&["delete", "pod", &Brokers::pod(ordinal)]).unwrap();
        brokers.await_pod(ordinal).unwrap();
        brokers.await_ready("flc/orders").unwrap();
    }
    brokers.await_condition("flc/orders", "RolloutComplete", "True", BACK_WITHIN).unwrap();
    brokers.await_condition("flc/orders", "Stalled", "False", BACK_WITHIN).unwrap();
    brokers.await_health("flc/orders", Health::Healthy).unwrap();
}

/// Both wait for the same five minutes: a Cluster that is new, and one that serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_never_comes_is_said_and_costs_a_cluster_that_serves_nothing() {
    let brokers = Brokers::apply("no-image", &(cluster(3) + &topic("events", 1, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let new = cluster(1).replace("name: orders", "name: new") + &format!("  image: {NO_IMAGE}\n");
    let of_new = topic("of-new", 1, "").replace("clusterRef: {name: orders}", "clusterRef: {name: new}");
    Environment::get().unwrap().apply(brokers.namespace(), &(new + &of_new)).unwrap();
    let before = uids(&brokers).unwrap();
    let image = format!(r#"{{"spec":{{"image":"{NO_IMAGE}"}}}}"#);
    brokers.kubectl(&["patch", "flc/orders", "--type=merge", "--patch", &image]).unwrap();

    let said = brokers.await_reason("flc/new", "Ready", "False", "PodsNotRunning").unwrap();
    assert!(said.contains("new-0: ") && said.contains("Image"), "{said}");
    brokers.await_as_recorded("flc/new", "cluster-image-missing").unwrap();
    brokers.await_as_recorded("flt/of-new", "topic-of-waiting-cluster").unwrap();
    // It is tried for five minutes.
    brokers.check_health("flc/orders", Health::Progressing).unwrap();
    let producer = producer(&brokers.client(1).await.unwrap(), "events").await.unwrap();
    producer.publish(Record::new("served meanwhile")).await.unwrap();

    let said = brokers.await_reason("flc/orders", "Stalled", "True", "RolloutFailed").unwrap();
    assert!(said.contains("after 5 minutes: ") && said.contains("keep the template before"), "{said}");
    let said = brokers.await_reason("flc/new", "Stalled", "True", "NoBrokerCameUp").unwrap();
    assert!(said.contains("no broker has run yet: change the spec"), "{said}");
    for one in ["flc/new", "flc/orders"] {
        brokers.await_health(one, Health::Degraded).unwrap();
    }
    // It waits for its Cluster, which is the one that has to be changed.
    brokers.check_health("flt/of-new", Health::Progressing).unwrap();
    brokers.await_pods().unwrap();
    producer.publish(Record::new("and after")).await.unwrap();
    let tried = uids(&brokers).unwrap();
    let untouched = before.iter().filter(|uid| tried.contains(uid)).count();
    assert_eq!((before.len(), untouched), (3, 2), "it stops at the first broker: {before:?}, {tried:?}");

    let good = r#"[{"op":"remove","path":"/spec/image"}]"#;
    for one in ["flc/new", "flc/orders"] {
        brokers.kubectl(&["patch", one, "--type=json", "--patch", good]).unwrap();
        brokers.await_ready(one).unwrap();
        brokers.await_condition(one, "Stalled", "False", BACK_WITHIN).unwrap();
        brokers.await_condition(one, "RolloutComplete", "True", BACK_WITHIN).unwrap();
        brokers.await_health(one, Health::Healthy).unwrap();
    }
    brokers.await_ready("flt/of-new").unwrap();
    assert_eq!(uids(&brokers).unwrap(), tried, "brokers of the good template are not made anew");
}

#[test]
fn a_quota_that_denies_a_pod_is_said_with_where_to_look() {
    let quota = "{apiVersion: v1, kind: ResourceQuota, metadata: {name: two}, spec: {hard: {pods: '2'}}}";
    let brokers = Brokers::apply("quota", quota).unwrap();
    // Until it was counted for the first time, it denies nothing.
    wait::until_so("the quota holds", BACK_WITHIN, || {
        Ok(brokers.get("resourcequota/two")?["status"]["hard"]["pods"] == "2")
    })
    .unwrap();
    Environment::get().unwrap().apply(brokers.namespace(), &cluster(3)).unwrap();
    wait::until_so("the quota has let two brokers in", BACK_WITHIN, || Ok(uids(&brokers)?.len() == 2))
        .unwrap();
    wait::until_so("the third is said to be missing", BACK_WITHIN, || {
        let (_, reason, said) = brokers.condition("flc/orders", "Ready")?.context("a condition")?;
        let missing = said.split_once(';').and_then(|(missing, _)| missing.strip_prefix("no such pod: "));
        let is_one = missing.is_some_and(|missing| !missing.contains(','));
        anyhow::ensure!(reason == "PodsMissing" && is_one, "{reason}: {said}");
        Ok(said.contains("kubectl describe statefulset orders"))
    })
    .unwrap();
    wait::until_so("Kubernetes says why where we said", BACK_WITHIN, || {
        Ok(brokers.kubectl(&["describe", "statefulset", "orders"])?.contains("exceeded quota: two"))
    })
    .unwrap();
    // A quota may be raised at any moment.
    brokers.check_health("flc/orders", Health::Progressing).unwrap();
    brokers.kubectl(&["delete", "resourcequota", "two"]).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    brokers.await_health("flc/orders", Health::Healthy).unwrap();
}
