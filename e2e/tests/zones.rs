//! Promise: the replicas of a partition are in as many zones as there are, and where zones change so that they are not, replicas are moved
//! until they are again. A node says which zone it is in by a label; who comes up there is told at once, and where pods have no such label
//! of their own, so is who runs there.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fulmar_e2e::brokers::{Brokers, READY_WITHIN, SOON, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::labels::{Relabelled, ZONE, label};
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::wait;

const TOPIC: &str = "events";
const PARTITIONS: u32 = 6;

/// As many as leave a choice among three brokers.
const TWO_REPLICAS: &str = "replicationFactor: 2";

/// Kubernetes copies this one to no pod.
const RACK: &str = "fulmar.test/rack";

/// What the nodes of three brokers say of themselves.
type Zones = [String; 3];

/// The zones of the nodes that the brokers are on, which are three nodes.
fn zones(brokers: &Brokers, key: &str) -> Result<Zones> {
    let mut zones = Zones::default();
    for (ordinal, zone) in (0..).zip(&mut zones) {
        *zone = label(&brokers.node(ordinal)?, key)?.context("its node has the label")?;
    }
    ensure!(
        zones.iter().collect::<BTreeSet<_>>().len() == 3,
        "each broker is in a zone of its own: {zones:?}"
    );
    Ok(zones)
}

/// Whether no partition has two replicas in one zone while another zone has none of it.
fn are_spread(partitions: &[Vec<u32>], zones: &Zones) -> bool {
    let there: BTreeSet<&String> = zones.iter().collect();
    partitions.iter().all(|replicas| {
        let taken: BTreeSet<&String> = replicas.iter().map(|ordinal| &zones[*ordinal as usize]).collect();
        taken.len() == replicas.len().min(there.len())
    })
}

/// Whether each broker has as many replicas as the others, give or take one.
fn are_even(partitions: &[Vec<u32>]) -> bool {
    let load = |broker: u32| partitions.iter().filter(|replicas| replicas.contains(&broker)).count();
    let loads = [0, 1, 2].map(load);
    loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1
}

/// Waits until each partition has two replicas, where they should be; gives them.
async fn await_placed(brokers: &Brokers, topic: &str, fit: impl Fn(&[Vec<u32>]) -> bool) -> Vec<Vec<u32>> {
    let what = format!("replicas of {topic} are where they should be");
    wait::until_well(&what, READY_WITHIN, async || {
        let partitions = brokers.replicas(0, topic).await?;
        let are_two = partitions.iter().all(|replicas| replicas.len() == 2);
        ensure!(are_two && fit(&partitions), "{partitions:?}");
        Ok(partitions)
    })
    .await
    .unwrap()
}

/// Two brokers that share a partition, and the third one.
fn cast(partitions: &[Vec<u32>]) -> (u32, u32, u32) {
    let [one, other] = partitions[0][..] else { panic!("two replicas: {partitions:?}") };
    (one, other, 3 - one - other)
}

/// How often people were told that moves began, and that they ended.
fn told(brokers: &Brokers) -> Result<[u64; 2]> {
    Ok([brokers.events("MovingReplicas")?.1, brokers.events("ReplicasMoved")?.1])
}

/// Waits until nothing is to be moved any more, and an Event has said of each of both that it was more often so than `before`.
fn await_rest(brokers: &Brokers, before: [u64; 2]) {
    wait::until_so("Events tell of moves, and of their end", SOON, || {
        let now = told(brokers)?;
        ensure!(now[0] > before[0] && now[1] > before[1], "{now:?}, before: {before:?}");
        Ok(true)
    })
    .unwrap();
    brokers.await_condition("flc/orders", "Balanced", "True", READY_WITHIN).unwrap();
    brokers.await_ready("flc/orders").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_in_as_many_zones_as_there_are_and_again_after_a_broker_came_up_in_another_one() {
    let yaml = cluster(3) + &topic(TOPIC, PARTITIONS, TWO_REPLICAS) + &topic("whole", PARTITIONS, "");
    let brokers = Brokers::apply("zones", &yaml).unwrap();
    brokers.await_ready("flt/events").unwrap();
    brokers.await_ready("flt/whole").unwrap();
    brokers.await_reason("flc/orders", "ZonesKnown", "True", "Labelled").unwrap();
    let mut zones = zones(&brokers, ZONE).unwrap();
    let whole = brokers.replicas(0, "whole").await.unwrap();
    assert!(whole.iter().all(|replicas| replicas.len() == 3) && are_spread(&whole, &zones), "{whole:?}");
    let partitions = await_placed(&brokers, TOPIC, |all| are_spread(all, &zones)).await;
    let mut acknowledged = Acknowledged::default();
    acknowledged.publish(&brokers.client(0).await.unwrap(), TOPIC, 1_000, 51).await.unwrap();

    // Two of three in one zone. What counts is what Kubernetes copied to the pod when it was bound to its node.
    let before = told(&brokers).unwrap();
    let (one, other, third) = cast(&partitions);
    let shared = zones[one as usize].clone();
    let _node = Relabelled::new(&brokers.node(other).unwrap(), ZONE, &shared).unwrap();
    brokers.replace_pod(other).unwrap();
    let began = Instant::now();
    let pod = brokers.get(&format!("pod/{}", Brokers::pod(other))).unwrap();
    assert_eq!(pod["metadata"]["labels"][ZONE], shared);
    zones[other as usize].clone_from(&shared);
    let partitions = await_placed(&brokers, TOPIC, |all| are_spread(all, &zones)).await;
    println!("spread again {:?} after broker {other} came up in {shared}: {partitions:?}", began.elapsed());
    assert!(partitions.iter().all(|replicas| replicas.contains(&third)), "alone in its zone, it has all");
    await_rest(&brokers, before);
    wait::until_so("the status says where it is", SOON, || {
        Ok(brokers.get("flc/orders")?["status"]["brokers"][other as usize]["zone"] == shared)
    })
    .unwrap();
    let client = brokers.client(third).await.unwrap();
    acknowledged.compare(&client, TOPIC).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_get_another_label_while_brokers_run_there_have_their_replicas_spread_anew() {
    let racks = [1, 2, 3].map(|number| Relabelled::new(&format!("node{number}"), RACK, "none").unwrap());
    for rack in &racks {
        rack.set(None).unwrap();
    }
    let yaml = format!("{}  zoneTopologyKey: {RACK}\n", cluster(3));
    let brokers = Brokers::apply("racks", &(yaml + &topic(TOPIC, PARTITIONS, TWO_REPLICAS))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    // Where no node says where it is, brokers are on different nodes all the same.
    brokers.await_reason("flc/orders", "ZonesKnown", "False", "LabelMissing").unwrap();
    let nodes: BTreeSet<String> = (0..3).map(|ordinal| brokers.node(ordinal).unwrap()).collect();
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    for (number, rack) in (1..).zip(&racks) {
        rack.set(Some(&format!("rack-{number}"))).unwrap();
    }
    let message = brokers.await_reason("flc/orders", "ZonesKnown", "True", "Labelled").unwrap();
    assert!(message.ends_with(RACK), "{message}");
    let zones = zones(&brokers, RACK).unwrap();
    let partitions = await_placed(&brokers, TOPIC, |all| are_spread(all, &zones)).await;
    let mut acknowledged = Acknowledged::default();
    acknowledged.publish(&brokers.client(0).await.unwrap(), TOPIC, 1_000, 52).await.unwrap();
    let pods: Vec<String> = (0..3).map(|ordinal| brokers.pod_uid(ordinal).unwrap()).collect();

    let before = told(&brokers).unwrap();
    let (one, other, third) = cast(&partitions);
    let node = brokers.node(other).unwrap();
    let rack = racks.iter().find(|rack| rack.node() == node).unwrap();
    rack.set(Some(&zones[one as usize])).unwrap();
    let began = Instant::now();
    let mut shared = zones.clone();
    shared[other as usize].clone_from(&zones[one as usize]);
    let partitions = await_placed(&brokers, TOPIC, |all| are_spread(all, &shared)).await;
    println!("spread again {:?} after two brokers were in one rack: {partitions:?}", began.elapsed());
    assert!(partitions.iter().all(|replicas| replicas.contains(&third)), "alone in its rack, it has all");
    await_rest(&brokers, before);
    // What is new is placed so from its first moment.
    Environment::get().unwrap().apply(brokers.namespace(), &topic("new", PARTITIONS, TWO_REPLICAS)).unwrap();
    brokers.await_ready("flt/new").unwrap();
    let new = brokers.replicas(0, "new").await.unwrap();
    assert!(new.len() == PARTITIONS as usize && are_spread(&new, &shared), "{new:?}");

    // A node that says nothing is named; back where it was, its broker has its part again.
    let before = told(&brokers).unwrap();
    rack.set(None).unwrap();
    let message = brokers.await_reason("flc/orders", "ZonesKnown", "False", "LabelMissing").unwrap();
    assert!(message.contains(&format!(": {};", Brokers::pod(other))), "it alone is named: {message}");
    rack.set(Some(&zones[other as usize])).unwrap();
    brokers.await_condition("flc/orders", "ZonesKnown", "True", SOON).unwrap();
    for name in [TOPIC, "new"] {
        await_placed(&brokers, name, |all| are_spread(all, &zones)).await;
    }
    await_rest(&brokers, before);
    let mut all = brokers.replicas(0, TOPIC).await.unwrap();
    all.extend(brokers.replicas(0, "new").await.unwrap());
    assert!(are_even(&all), "{all:?}");
    for (ordinal, pod) in (0..).zip(&pods) {
        assert_eq!(&brokers.pod_uid(ordinal).unwrap(), pod, "and nobody was restarted for any of it");
    }
    acknowledged.compare(&brokers.client(third).await.unwrap(), TOPIC).await.unwrap();
}
