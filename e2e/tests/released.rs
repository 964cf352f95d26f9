//! Promise: a volume goes after its broker only if that was asked for, its broker was removed by a lower `spec.replicas`, and had said that it
//! holds nothing; kept ones are found again, and moves that a person has paused begin when they are resumed.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use fulmar_client::Record;
use fulmar_e2e::brokers::{Brokers, READY_WITHIN, SOON, cluster, topic};
use fulmar_e2e::clients::producer;
use fulmar_e2e::environment::Environment;
use fulmar_e2e::{installation, wait};
use serde_json::Value;

/// The line of the page that has volumes deleted.
const DELETE: &str = r#"kubectl patch flc orders --type=merge -p '{"spec": {"storage": {"whenScaled""#;

/// The one that asks what became of them.
const RELEASED: &str =
    r#"kubectl get flc orders -o jsonpath='{.status.conditions[?(@.type=="VolumesReleased""#;

const TOPIC: &str = "events";
const PARTITIONS: u32 = 6;

/// The claims that there are: names and uids.
fn claims(brokers: &Brokers) -> Result<BTreeMap<String, String>> {
    let listed = brokers.get("pvc")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = listed["items"].as_array().cloned().unwrap_or_default();
    Ok(items.iter().map(|one| (text(&one["metadata"]["name"]), text(&one["metadata"]["uid"]))).collect())
}

fn pods(brokers: &Brokers) -> Result<Vec<String>> {
    let named = brokers.kubectl(&["get", "pods", "-o", "name"])?;
    Ok(named.lines().map(|name| name.trim_start_matches("pod/").to_owned()).collect())
}

fn names(ordinals: std::ops::Range<u32>) -> Vec<String> {
    ordinals.map(|ordinal| format!("data-orders-{ordinal}")).collect()
}

fn patch(brokers: &Brokers, spec: &str) {
    brokers
        .kubectl(&["patch", "flc/orders", "--type=merge", "-p", &format!("{{\"spec\": {spec}}}")])
        .unwrap();
}

fn await_pods(brokers: &Brokers, number: usize) {
    wait::until_so(&format!("{number} pods"), READY_WITHIN, || {
        let pods = pods(brokers)?;
        ensure!(pods.len() == number, "{pods:?}");
        Ok(true)
    })
    .unwrap();
}

/// Until exactly these claims are left; and whenever one is missing, its pod is gone.
fn await_claims(brokers: &Brokers, expected: &[String]) {
    let all = claims(brokers).unwrap();
    wait::until_so(&format!("{expected:?} are left"), READY_WITHIN, || {
        // In this order: a pod that is gone after its claim was missing could have gone in between.
        let left = claims(brokers)?;
        let pods = pods(brokers)?;
        for gone in all.keys().filter(|claim| !left.contains_key(*claim)) {
            let pod = gone.trim_start_matches("data-").to_owned();
            assert!(!pods.contains(&pod), "{gone} went before {pod}");
        }
        ensure!(left.keys().eq(expected), "{:?}", left.keys());
        Ok(true)
    })
    .unwrap();
}

async fn publish(brokers: &Brokers, value: &str) {
    let publisher = producer(&brokers.client(0).await.unwrap(), TOPIC).await.unwrap();
    for _ in 0..PARTITIONS {
        publisher.publish(Record::new(value.to_owned())).await.unwrap();
    }
}

async fn count(brokers: &Brokers, value: &str) -> usize {
    let client = brokers.client(0).await.unwrap();
    let start = fulmar_client::Start::Earliest;
    let mut subscriber = client.subscriber(TOPIC).start(start).until_end().build().await.unwrap();
    let mut found = 0;
    while let Some(message) = subscriber.next().await {
        found += usize::from(message.unwrap().value == value.as_bytes());
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_of_removed_brokers_stay_until_their_deletion_is_asked_for_and_go_after_their_pods() {
    let brokers = Brokers::apply("released", &(cluster(5) + &topic(TOPIC, PARTITIONS, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    publish(&brokers, "before").await;
    let first = claims(&brokers).unwrap();

    // Retain, by default.
    patch(&brokers, r#"{"replicas": 3}"#);
    await_pods(&brokers, 3);
    // The last one goes first, and is named alone for a while.
    wait::until_so("both are kept", SOON, || {
        let (truth, reason, message) =
            brokers.condition("flc/orders", "VolumesReleased")?.unwrap_or_default();
        let both = message == "kept, as spec.storage.whenScaled says: data-orders-3, data-orders-4";
        ensure!(truth == "True" && reason == "Retained" && both, "{truth}, {reason}: {message}");
        Ok(true)
    })
    .unwrap();
    assert_eq!(claims(&brokers).unwrap(), first);

    // Added again, they begin on the volumes that they had, as the very same replicas.
    let incarnations = |brokers: &Brokers| -> Vec<Value> {
        let listed = brokers.get("flc/orders").unwrap()["status"]["brokers"].as_array().unwrap().clone();
        listed.iter().map(|broker| broker["incarnation"].clone()).collect()
    };
    patch(&brokers, r#"{"replicas": 5}"#);
    brokers.await_ready("flc/orders").unwrap();
    brokers.await_condition("flc/orders", "Balanced", "True", READY_WITHIN).unwrap();
    assert_eq!(claims(&brokers).unwrap(), first);
    assert_eq!(brokers.events("VolumeLost").unwrap().1, 0, "nobody came back with another volume");
    let before = incarnations(&brokers);
    publish(&brokers, "between").await;

    // Delete, as a person types it: after the pods.
    brokers.type_line(DELETE).unwrap();
    brokers.type_line("kubectl scale flc/orders --replicas=3").unwrap();
    await_claims(&brokers, &names(0..3));
    brokers.type_line("kubectl wait --for=delete pvc/data-orders-4 ").unwrap();
    await_pods(&brokers, 3);
    brokers.await_reason("flc/orders", "VolumesReleased", "True", "NoneLeft").unwrap();
    let told = brokers.type_line(RELEASED).unwrap();
    assert_eq!(told, "no volume of a broker that was removed is left");
    wait::until_so("Events tell it", SOON, || {
        let told = brokers.events("VolumeDeleted")?.0;
        Ok(["data-orders-3", "data-orders-4"].iter().all(|name| told.iter().any(|note| note.contains(name))))
    })
    .unwrap();
    brokers.await_ready("flc/orders").unwrap();

    // New volumes for those that are added now.
    patch(&brokers, r#"{"replicas": 4}"#);
    brokers.await_ready("flc/orders").unwrap();
    brokers.await_condition("flc/orders", "Balanced", "True", READY_WITHIN).unwrap();
    let after = incarnations(&brokers);
    assert_eq!(after[..3], before[..3]);
    assert_ne!(after[3], before[3], "it began anew");
    assert_ne!(claims(&brokers).unwrap()["data-orders-3"], first["data-orders-3"]);
    for value in ["before", "between"] {
        assert_eq!(count(&brokers, value).await, PARTITIONS as usize, "{value}");
    }
}

fn claim_of_nobody(ordinal: u32) -> String {
    format!(
        r"
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: data-orders-{ordinal}
  labels: {{app.kubernetes.io/name: fulmar-broker, app.kubernetes.io/instance: orders}}
spec:
  accessModes: [ReadWriteOnce]
  volumeName: a-volume-of-somebody
  resources: {{requests: {{storage: 1Gi}}}}
"
    )
}

#[test]
fn volumes_that_were_kept_go_when_their_deletion_is_asked_for_later_and_unknown_ones_stay() {
    let yaml = cluster(4) + &topic(TOPIC, PARTITIONS, "replicationFactor: 2");
    let brokers = Brokers::apply("released-later", &yaml).unwrap();
    brokers.await_ready("flt/events").unwrap();
    patch(&brokers, r#"{"replicas": 3}"#);
    await_pods(&brokers, 3);
    brokers.await_reason("flc/orders", "VolumesReleased", "True", "Retained").unwrap();
    // Two of which no broker ever said anything, and that have a volume.
    let unknown = [4, 7].map(claim_of_nobody).concat();
    Environment::get().unwrap().apply(brokers.namespace(), &unknown).unwrap();
    // The operator that is asked is another one than the one that saw them go.
    let environment = Environment::get().unwrap();
    installation::scale(environment, 0).unwrap();
    patch(&brokers, r#"{"storage": {"whenScaled": "Delete"}}"#);
    installation::scale(environment, 1).unwrap();
    let mut left = names(0..3);
    left.extend([4, 7].map(|ordinal| format!("data-orders-{ordinal}")));
    await_claims(&brokers, &left);
    let doubt = brokers.await_reason("flc/orders", "VolumesReleased", "False", "NotKnownEmpty").unwrap();
    assert!(doubt.contains("data-orders-4, data-orders-7; their brokers did not say"), "{doubt}");
    // Who is sure deletes one.
    brokers.type_line("kubectl delete pvc data-orders-4").unwrap();
    left.retain(|claim| claim != "data-orders-4");
    wait::until_so("the other one is in doubt still", SOON, || {
        let doubt = brokers.condition("flc/orders", "VolumesReleased")?.unwrap_or_default().2;
        Ok(doubt.contains("data-orders-7") && !doubt.contains("data-orders-4"))
    })
    .unwrap();
    wait::until_so("an Event says so, too", SOON, || Ok(brokers.events("VolumeKept")?.1 > 0)).unwrap();
    assert_eq!(brokers.condition("flc/orders", "Ready").unwrap().unwrap().0, "True");
    // The Cluster goes, and its volumes stay: the one wish says nothing of the other.
    brokers.kubectl(&["delete", "flc/orders", "--timeout=420s"]).unwrap();
    await_pods(&brokers, 0);
    assert!(claims(&brokers).unwrap().keys().eq(&left), "{:?}", claims(&brokers));
}

#[test]
fn moves_that_are_paused_are_told_and_begin_when_they_are_resumed() {
    let brokers = Brokers::apply("paused-moves", &(cluster(3) + &topic(TOPIC, PARTITIONS, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let refused = brokers
        .kubectl(&[
            "patch",
            "flc/orders",
            "--type=merge",
            "-p",
            r#"{"spec":{"rebalance":{"movesPerBroker":17}}}"#,
        ])
        .unwrap_err();
    assert!(format!("{refused:#}").contains("should be less than or equal to 16"), "{refused:#}");
    patch(&brokers, r#"{"rebalance": {"paused": true, "movesPerBroker": 1}, "replicas": 4}"#);
    let told = brokers.await_reason("flc/orders", "Balanced", "False", "MovesPaused").unwrap();
    assert!(told.ends_with("nothing moves until spec.rebalance.paused is false"), "{told}");
    brokers.await_ready("flc/orders").unwrap();
    let load = |brokers: &Brokers| -> Result<u64> {
        Ok(brokers.get("flc/orders")?["status"]["brokers"][3]["replicas"].as_u64().unwrap_or_default())
    };
    assert_eq!(load(&brokers).unwrap(), 0);
    assert_eq!(brokers.get("flc/orders").unwrap()["status"]["operation"]["step"], "Paused");
    patch(&brokers, r#"{"rebalance": {"paused": false}}"#);
    brokers.await_condition("flc/orders", "Balanced", "True", READY_WITHIN).unwrap();
    // Each of the three zones has a copy of all; two brokers share one of them.
    wait::until_so("it has its part", SOON, || Ok(load(&brokers)? == u64::from(PARTITIONS / 2))).unwrap();
    wait::until_so("Events tell it", SOON, || Ok(brokers.events("MovesResumed")?.1 > 0)).unwrap();
}
