//! Promise: an acknowledged record survives what happens to nodes, volumes and operators, and nobody has to help.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use anyhow::{Context, Result};
use fulmar_e2e::brokers::{Brokers, READY_WITHIN, SOON, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::load::Load;
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::{installation, wait};

const TOPIC: &str = "events";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_is_lost_is_learnt_again_from_the_others() {
    let brokers = Brokers::apply("lost-volume", &(cluster(3) + &topic(TOPIC, 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let client = brokers.client(0).await.unwrap();
    let load = Load::start(&client, &brokers.client(1).await.unwrap(), TOPIC, 3, 11).await.unwrap();
    // Each in turn: at the end no record is on a volume that it was written to first.
    for ordinal in 0..3 {
        brokers.await_whole(TOPIC).await.unwrap();
        // Statuses are written a little later than brokers answer.
        let before =
            wait::until("the Cluster names one", SOON, || incarnation(&brokers, ordinal).map(Some)).unwrap();
        brokers.lose_volumes(&[ordinal]).unwrap();
        brokers.await_pod(ordinal).unwrap();
        // Until its successor is known, all may seem to be well.
        wait::until_so("the Cluster names another incarnation", SOON, || {
            Ok(incarnation(&brokers, ordinal)? != before)
        })
        .unwrap();
        let learnt = brokers.await_whole(TOPIC).await;
        learnt.with_context(|| format!("after the volume of broker {ordinal}")).unwrap();
    }
    let outcome = load.stop().await.unwrap();
    let client = brokers.client(2).await.unwrap();
    outcome.acknowledged.compare(&client, TOPIC).await.unwrap();
    println!("{} records acknowledged over three lost volumes", outcome.acknowledged.count());
}

/// A broker's, as the Cluster's status has it.
fn incarnation(brokers: &Brokers, ordinal: u32) -> Result<String> {
    let cluster = brokers.get("flc/orders")?;
    let all = cluster["status"]["brokers"].as_array().cloned().unwrap_or_default();
    let one =
        all.iter().find(|broker| broker["ordinal"] == ordinal).context("the broker is in the status")?;
    Ok(one["incarnation"].as_str().context("it has an incarnation")?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_wakes_up_late_changes_nothing() {
    let brokers = Brokers::apply("two-operators", &(cluster(3) + &topic(TOPIC, 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let environment = Environment::get().unwrap();
    installation::scale(environment, 2).unwrap();
    let (pod, holder) =
        wait::until("an operator acts", READY_WITHIN, || installation::acting(environment).map(Some))
            .unwrap();
    let nodes = environment.nodes().unwrap();
    let running = || nodes.process(environment, installation::NAMESPACE, &pod, "operator").map(Some);
    let process = wait::until("its process", READY_WITHIN, running).unwrap();
    let frozen = nodes.freeze(process).unwrap();
    wait::until_so("the other operator acts", READY_WITHIN, || {
        Ok(installation::acting(environment)?.1 != holder)
    })
    .unwrap();

    // It decides while the old one stands still in the middle of what it was doing.
    environment.apply(brokers.namespace(), &topic("later", 3, "")).unwrap();
    brokers.await_ready("flt/later").unwrap();
    brokers.kill_and_await(1).unwrap();
    let client = brokers.client(0).await.unwrap();
    brokers.await_whole(TOPIC).await.unwrap();
    let (tenure, successor) = wait::until("one operator acts, and decides", READY_WITHIN, || {
        let (before, tenure) = (installation::acting(environment)?.1, deciding(&brokers)?);
        Ok((installation::acting(environment)?.1 == before).then_some((tenure, before)))
    })
    .unwrap();

    drop(frozen);
    process.await_end(READY_WITHIN).unwrap();
    let mut acknowledged = Acknowledged::default();
    acknowledged.publish(&client, TOPIC, 500, 31).await.unwrap();
    let (decides, acts) = wait::until("an operator acts", READY_WITHIN, || {
        Ok(Some((deciding(&brokers)?, installation::acting(environment)?.1)))
    })
    .unwrap();
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
