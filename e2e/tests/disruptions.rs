//! Promise: an acknowledged record survives what happens to nodes, volumes and operators, and nobody has to help.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use anyhow::{Context, Result};
use fulmar_e2e::brokers::{Brokers, READY_WITHIN, await_whole, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::{installation, wait};

const TOPIC: &str = "events";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_is_lost_is_learnt_again_from_the_others() {
    let brokers = Brokers::apply("lost-volume", &(cluster(3) + &topic(TOPIC, 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let client = brokers.client(0).await.unwrap();
    let mut acknowledged = Acknowledged::default();
    acknowledged.publish(&client, TOPIC, 3_000, 11).await.unwrap();
    // Each in turn: at the end no record is on a volume that it was written to first.
    for ordinal in 0..3 {
        let client = brokers.client((ordinal + 1) % 3).await.unwrap();
        await_whole(&client, TOPIC).await.unwrap();
        let volume = format!("data-{}", Brokers::pod(ordinal));
        let uid = brokers.kubectl(&["get", "pvc", &volume, "-o", "jsonpath={.metadata.uid}"]).unwrap();
        brokers.kubectl(&["delete", "pvc", &volume, "--wait=false"]).unwrap();
        brokers.kubectl(&["delete", "pod", &Brokers::pod(ordinal), "--wait=true"]).unwrap();
        wait::until_so("a new volume", READY_WITHIN, || {
            let now = brokers.kubectl(&["get", "pvc", &volume, "-o", "jsonpath={.metadata.uid}"])?;
            // A pod that was made while the old claim was still going waits for it, and is made anew.
            if now == uid {
                // Not waited for: kubectl waits for ever if the pod was gone just now, and is back.
                let pod = Brokers::pod(ordinal);
                brokers.kubectl(&["delete", "pod", &pod, "--wait=false", "--ignore-not-found"])?;
            }
            Ok(!now.is_empty() && now != uid)
        })
        .unwrap();
        brokers.await_pod(ordinal).unwrap();
        await_whole(&client, TOPIC)
            .await
            .with_context(|| format!("after the volume of broker {ordinal}"))
            .unwrap();
        acknowledged.publish(&client, TOPIC, 500, 12 + u64::from(ordinal)).await.unwrap();
    }
    let client = brokers.client(2).await.unwrap();
    acknowledged.compare(&client, TOPIC).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_stops_nobody() {
    let brokers = Brokers::apply("drained", &(cluster(3) + &topic(TOPIC, 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let node = brokers.kubectl(&["get", "pod", &Brokers::pod(1), "-o", "jsonpath={.spec.nodeName}"]).unwrap();
    let client = brokers.client(0).await.unwrap();
    let mut acknowledged = Acknowledged::default();
    acknowledged.publish(&client, TOPIC, 1_000, 21).await.unwrap();
    let environment = Environment::get().unwrap();
    let drained = Uncordon(environment, &node);
    let selector = format!("--pod-selector=app.kubernetes.io/instance={}", fulmar_e2e::brokers::NAME);
    environment
        .kubectl(&[
            "drain",
            &node,
            &selector,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=300s",
        ])
        .unwrap();
    acknowledged.publish(&client, TOPIC, 1_000, 22).await.unwrap();
    drop(drained);
    brokers.await_pod(1).unwrap();
    await_whole(&client, TOPIC).await.unwrap();
    acknowledged.compare(&client, TOPIC).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_wakes_up_late_changes_nothing() {
    let brokers = Brokers::apply("two-operators", &(cluster(3) + &topic(TOPIC, 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let environment = Environment::get().unwrap();
    installation::scale(environment, 2).unwrap();
    let (pod, holder) =
        wait::until("an operator acts", READY_WITHIN, || acting(environment).map(Some)).unwrap();
    let nodes = environment.nodes().unwrap();
    let process = nodes.process(environment, installation::NAMESPACE, &pod, "operator").unwrap();
    let frozen = nodes.freeze(process).unwrap();
    wait::until_so("the other operator acts", READY_WITHIN, || Ok(acting(environment)?.1 != holder)).unwrap();

    // It decides while the old one stands still in the middle of what it was doing.
    environment.apply(brokers.namespace(), &topic("later", 3, "")).unwrap();
    brokers.await_ready("flt/later").unwrap();
    brokers.kill_and_await(1).unwrap();
    let client = brokers.client(0).await.unwrap();
    await_whole(&client, TOPIC).await.unwrap();
    let (tenure, successor) = (deciding(&brokers).unwrap(), acting(environment).unwrap().1);

    drop(frozen);
    process.await_end(READY_WITHIN).unwrap();
    let mut acknowledged = Acknowledged::default();
    acknowledged.publish(&client, TOPIC, 500, 31).await.unwrap();
    let (decides, acts) = (deciding(&brokers).unwrap(), acting(environment).unwrap().1);
    assert_ne!(acts, holder, "who woke up acts no more");
    // A machine that stands still for seconds costs the other one its Lease too: then a third one decides.
    assert!(decides == tenure || acts != successor, "who woke up decided nothing: {decides}, not {tenure}");
    acknowledged.compare(&client, TOPIC).await.unwrap();
    brokers.await_ready("flt/events").unwrap();
    installation::scale(environment, 1).unwrap();
}

/// The line of the partition table that tells which tenure decides.
fn deciding(brokers: &Brokers) -> Result<String> {
    let tables = brokers.kubectl(&["get", "partitiontables", "-o", "yaml"])?;
    let line = tables.lines().find(|line| line.contains("controllerEpoch "));
    line.map(|line| line.trim().to_owned()).context("no root page")
}

/// The operator that holds the Lease: its pod, and the whole identity.
fn acting(environment: &Environment) -> Result<(String, String)> {
    let holder = environment.kubectl(&[
        "get",
        "lease",
        "--namespace",
        installation::NAMESPACE,
        "-o",
        "jsonpath={.items[0].spec.holderIdentity}",
    ])?;
    let pod = environment.kubectl(&["get", "pods", "--namespace", installation::NAMESPACE, "-o", "name"])?;
    let pod = pod.lines().filter_map(|line| line.strip_prefix("pod/")).find(|pod| holder.starts_with(pod));
    Ok((pod.with_context(|| format!("no pod of {holder:?}"))?.to_owned(), holder))
}

/// Pods may come to a node again when this is dropped.
struct Uncordon<'a>(&'a Environment, &'a str);

impl Drop for Uncordon<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.kubectl(&["uncordon", self.1]) {
            println!("{} takes no pods, the next tests will suffer: {error:#}", self.1);
        }
    }
}
