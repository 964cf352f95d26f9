//! Promise: brokers are added and removed under load, and nothing that was acknowledged is lost: replicas move first, pods go last, volumes stay.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use anyhow::Result;
use fulmar_e2e::brokers::{Brokers, READY_WITHIN, cluster, topic};
use fulmar_e2e::load::Load;
use fulmar_e2e::wait;

const TOPIC: &str = "events";
const PARTITIONS: u32 = 20;

/// A hundred moves of a second each, on a machine that does other things too.
const MOVED_WITHIN: Duration = Duration::from_mins(10);

/// Replicas of each broker that is listed, as the Cluster's status has them.
fn replicas(brokers: &Brokers) -> Result<Vec<u64>> {
    let cluster = brokers.get("flc/orders")?;
    let listed = cluster["status"]["brokers"].as_array().cloned().unwrap_or_default();
    Ok(listed.iter().map(|broker| broker["replicas"].as_u64().unwrap_or_default()).collect())
}

fn scale(brokers: &Brokers, to: u32) -> Instant {
    brokers.kubectl(&["scale", "flc/orders", &format!("--replicas={to}")]).unwrap();
    Instant::now()
}

/// Until every broker of so many has as many replicas as every other one, give or take one, and none is moved any more.
fn await_spread(brokers: &Brokers, number: usize) {
    wait::until_so(&format!("replicas are spread over {number} brokers"), MOVED_WITHIN, || {
        let replicas = replicas(brokers)?;
        let skew = replicas.iter().max().unwrap_or(&0) - replicas.iter().min().unwrap_or(&0);
        let balanced = brokers.condition("flc/orders", "Balanced")?;
        Ok(replicas.len() == number && skew <= 1 && balanced.is_some_and(|(status, ..)| status == "True"))
    })
    .unwrap();
    brokers.await_ready("flc/orders").unwrap();
    brokers.await_ready(&format!("flt/{TOPIC}")).unwrap();
}

fn pods(brokers: &Brokers) -> usize {
    brokers.kubectl(&["get", "pods", "-o", "name"]).unwrap().lines().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_become_five_and_three_again_under_load() {
    let brokers = Brokers::apply("scaled", &(cluster(3) + &topic(TOPIC, PARTITIONS, ""))).unwrap();
    brokers.await_ready(&format!("flt/{TOPIC}")).unwrap();
    let (writing, reading) = (brokers.client(0).await.unwrap(), brokers.client(1).await.unwrap());
    let load = Load::start(&writing, &reading, TOPIC, PARTITIONS, 17).await.unwrap();

    let began = scale(&brokers, 5);
    wait::until_so("people see how far it is", MOVED_WITHIN, || {
        let operation = &brokers.get("flc/orders")?["status"]["operation"];
        Ok(operation["type"] == "Rebalance" && operation["total"].as_u64() > Some(0))
    })
    .unwrap();
    await_spread(&brokers, 5);
    println!("3 to 5 in {:?}: {:?}", began.elapsed(), replicas(&brokers).unwrap());

    // Turned back half-way, and then for good.
    scale(&brokers, 3);
    wait::until_so("some are moved off", MOVED_WITHIN, || {
        let operation = &brokers.get("flc/orders")?["status"]["operation"];
        Ok(operation["type"] == "ScaleDown" && operation["done"].as_u64() > Some(3))
    })
    .unwrap();
    assert_eq!(pods(&brokers), 5, "pods go last");
    scale(&brokers, 5);
    await_spread(&brokers, 5);
    let began = scale(&brokers, 3);
    await_spread(&brokers, 3);
    wait::until_so("two pods have gone", READY_WITHIN, || Ok(pods(&brokers) == 3)).unwrap();
    println!("5 to 3 in {:?}: {:?}", began.elapsed(), replicas(&brokers).unwrap());
    let claims = brokers.kubectl(&["get", "pvc", "-o", "name"]).unwrap();
    assert_eq!(claims.lines().count(), 5, "volumes stay: {claims}");

    let refused = brokers.kubectl(&["scale", "flc/orders", "--replicas=2"]).unwrap_err();
    assert!(format!("{refused:#}").contains("below status.minReplicas 3"), "{refused:#}");

    let outcome = load.stop().await.unwrap();
    outcome.acknowledged.compare(&brokers.client(2).await.unwrap(), TOPIC).await.unwrap();
    println!("{} records acknowledged, none lost", outcome.acknowledged.count());
}
