//! Promise: brokers of this version and of the one before work together, so a Cluster is upgraded, and taken back, while programs
//! publish and read; and an operator of either version looks after brokers of the other, without restarting them.
//!
//! The version before is the commit in `e2e/earlier-version`.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fulmar_e2e::brokers::{Brokers, READY_WITHIN, SOON, cluster, topic};
use fulmar_e2e::environment::{Environment, Version};
use fulmar_e2e::load::{Load, told};
use fulmar_e2e::nodes::Process;
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::{installation, page, wait};

const TOPIC: &str = "events";

/// Enough that a broker which is away hands some to each of the others.
const PARTITIONS: u32 = 6;

/// So many records of each partition, one after the other, are no chance.
const MORE: u64 = 20;

/// No publish waits longer, whatever is rolled meanwhile: what a cut-off leader may cost (docs/safety.md), and a planned move far less.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Pods may come to the node again when this is dropped.
struct Cordoned<'a>(&'a Environment, String);

impl<'a> Cordoned<'a> {
    fn new(environment: &'a Environment, node: String) -> Result<Self> {
        environment.kubectl(&["cordon", &node])?;
        Ok(Self(environment, node))
    }
}

impl Drop for Cordoned<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.kubectl(&["uncordon", &self.1]) {
            println!("{} takes no pods, the next tests will suffer: {error:#}", self.1);
        }
    }
}

/// The image that a broker's pod is made of; empty if there is no pod just now.
fn image(brokers: &Brokers, ordinal: u32) -> Result<String> {
    let image = ["--ignore-not-found", "-o", "jsonpath={.spec.containers[0].image}"];
    brokers.kubectl(&[&["get", "pod", &Brokers::pod(ordinal)], &image[..]].concat())
}

/// Waits until a pod of this image is there that is none of `known`.
fn await_next(brokers: &Brokers, wanted: &str, known: &[u32]) -> u32 {
    wait::until(&format!("another pod than of {known:?} is of {wanted}"), READY_WITHIN, || {
        for ordinal in (0..3).filter(|ordinal| !known.contains(ordinal)) {
            if image(brokers, ordinal)? == wanted {
                return Ok(Some(ordinal));
            }
        }
        Ok(None)
    })
    .unwrap()
}

/// Gives the Cluster another image of brokers, and returns when all of them run it. Half-way, when one broker is of each version and
/// the third one has no node to be on, it stays until a leader of either version has committed: `ackQuorum` is 2, so each time with the
/// other one as its follower.
async fn roll(brokers: &Brokers, load: &Load, from: &str, to: &str) {
    let environment = Environment::get().unwrap();
    let began = Instant::now();
    let nodes: Vec<String> = (0..3).map(|ordinal| brokers.node(ordinal).unwrap()).collect();
    assert_eq!(
        nodes.iter().collect::<BTreeSet<_>>().len(),
        3,
        "each broker is on a node of its own: {nodes:?}"
    );
    let mut cordoned: BTreeMap<u32, Cordoned<'_>> = (0..)
        .zip(nodes)
        .map(|(ordinal, node)| (ordinal, Cordoned::new(environment, node).unwrap()))
        .collect();
    let patch = format!("{{\"spec\": {{\"image\": \"{to}\"}}}}");
    brokers.kubectl(&["patch", "flc/orders", "--type=merge", "-p", &patch]).unwrap();

    let first = await_next(brokers, to, &[]);
    drop(cordoned.remove(&first));
    brokers.await_pod(first).unwrap();
    let second = await_next(brokers, to, &[first]);
    let third = (0..3).find(|ordinal| ![first, second].contains(ordinal)).unwrap();
    let committed = await_both_lead(brokers, load, &[first, third]).await;
    assert_eq!(
        (image(brokers, first).unwrap().as_str(), image(brokers, third).unwrap().as_str()),
        (to, from)
    );
    assert!(brokers.node(second).is_err(), "a pod that has a node may have had it all the time");
    println!(
        "after {:?}, with one broker of {to} and one of {from}, the former led and committed partitions {:?}, the latter {:?}",
        began.elapsed(),
        committed[&first],
        committed[&third]
    );

    cordoned.clear();
    wait::until_so(&format!("all brokers are of {to}"), READY_WITHIN, || {
        for ordinal in 0..3 {
            let now = image(brokers, ordinal)?;
            ensure!(now == to, "broker {ordinal} is of {now:?}");
        }
        Ok(true)
    })
    .unwrap();
    brokers.await_pods().unwrap();
    brokers.await_condition("flc/orders", "RolloutComplete", "True", SOON).unwrap();
    brokers.await_whole(TOPIC).await.unwrap();
    load.await_more(MORE, SOON).await.unwrap();
    println!("all brokers are of {to} after {:?}", began.elapsed());
}

/// Waits until each of two brokers has led a partition, in one epoch, while records of it were acknowledged; gives which ones. All the
/// while every partition goes on.
async fn await_both_lead(brokers: &Brokers, load: &Load, both: &[u32; 2]) -> BTreeMap<u32, BTreeSet<u32>> {
    let mut committed: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    wait::until_well("a leader of either version commits", READY_WITHIN, async || {
        let before = brokers.leaders(both[0], TOPIC).await?;
        load.await_more(MORE, SOON).await?;
        let after = brokers.leaders(both[1], TOPIC).await?;
        for (partition, led) in
            after.into_iter().filter(|(partition, led)| before.get(partition) == Some(led))
        {
            committed.entry(led.0).or_default().insert(partition);
        }
        ensure!(both.iter().all(|broker| committed.contains_key(broker)), "only these did: {committed:?}");
        Ok(())
    })
    .await
    .unwrap();
    committed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_are_upgraded_and_taken_back_under_load_and_either_version_leads_the_other() {
    let environment = Environment::get().unwrap();
    let (old, new) = (&environment.earlier().unwrap().broker_image, &environment.current().broker_image);
    let image_of_old = format!("  image: {old}\n");
    let yaml = cluster(3) + &image_of_old + &topic(TOPIC, PARTITIONS, "replicationFactor: 3\n  ackQuorum: 2");
    let brokers = Brokers::apply("versions", &yaml).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    brokers.await_ready("flt/events").unwrap();
    for ordinal in 0..3 {
        assert_eq!(&image(&brokers, ordinal).unwrap(), old);
    }
    let (writing, reading) = (brokers.client(0).await.unwrap(), brokers.client(1).await.unwrap());
    let load = Load::start(&writing, &reading, TOPIC, PARTITIONS, 61).await.unwrap();
    load.await_more(MORE, SOON).await.unwrap();

    roll(&brokers, &load, old, new).await;
    roll(&brokers, &load, new, old).await;

    let outcome = load.stop().await.unwrap();
    outcome.acknowledged.compare(&brokers.client(2).await.unwrap(), TOPIC).await.unwrap();
    let waits = outcome.sorted();
    println!("{} publishes without an error, none lost: {}", outcome.acknowledged.count(), told(&waits));
    let longest = waits.last().copied().unwrap_or_default();
    assert!(longest <= WAIT_MAX, "a publish took {longest:?}");
    brokers.await_ready("flc/orders").unwrap();
    brokers.await_ready("flt/events").unwrap();
}

/// The usual release is not left in another version, however the test ends.
struct Uninstall(&'static Environment);

impl Drop for Uninstall {
    fn drop(&mut self) {
        if let Err(error) = installation::uninstall(self.0) {
            println!("the operator stays as it is, the next tests will suffer: {error:#}");
        }
    }
}

/// What must not become another one: the template, the pods, their processes.
fn identities(brokers: &Brokers) -> Result<(String, Vec<(String, Process)>)> {
    let set = brokers.get("sts/orders")?;
    let revision = set["status"]["updateRevision"].as_str().context("the template's revision")?.to_owned();
    let pods: Result<_> =
        (0..3).map(|ordinal| Ok((brokers.pod_uid(ordinal)?, brokers.process(ordinal)?))).collect();
    Ok((revision, pods?))
}

/// Until the operator that acts is of this image, and the Cluster's roll is over as it says.
fn await_acting(environment: &Environment, brokers: &Brokers, image: &str) {
    wait::until_so(&format!("an operator of {image} acts"), SOON, || {
        let (pod, _) = installation::acting(environment)?;
        let template = "jsonpath={.spec.containers[0].image}";
        let namespace = installation::NAMESPACE;
        Ok(environment.kubectl(&["get", "pod", "--namespace", namespace, &pod, "-o", template])? == image)
    })
    .unwrap();
    brokers.await_condition("flc/orders", "RolloutComplete", "True", SOON).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_earlier_operator_looks_after_newer_brokers_and_neither_its_upgrade_nor_the_way_back_restarts_one()
{
    let environment = Environment::get().unwrap();
    let (earlier, current) = (environment.earlier().unwrap(), environment.current());
    let _uninstall = Uninstall(environment);
    let first = Version { broker_image: current.broker_image.clone(), ..earlier.clone() };
    installation::install_instead(environment, &first, &[]).unwrap();
    let yaml = cluster(3) + &topic(TOPIC, 3, "replicationFactor: 3\n  ackQuorum: 2");
    let brokers = Brokers::apply_to_installed(environment, "operator-versions", &yaml).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    brokers.await_ready("flt/events").unwrap();
    await_acting(environment, &brokers, &earlier.operator_image);
    let mut acknowledged = Acknowledged::default();
    let client = brokers.client(0).await.unwrap();
    acknowledged.publish(&client, TOPIC, 500, 71).await.unwrap();
    let leader = brokers.await_whole(TOPIC).await.unwrap()[0];
    brokers.kill_and_await(leader).unwrap();
    brokers.await_whole(TOPIC).await.unwrap();
    let before = identities(&brokers).unwrap();

    println!("{}", installation::type_line(environment, current, "helm upgrade fulmar ", &[]).unwrap());
    await_acting(environment, &brokers, &current.operator_image);
    // Each has a wish to carry out: it has looked at the brokers and the table then, and done what it does.
    environment.apply(brokers.namespace(), &topic("upgraded", 3, "")).unwrap();
    brokers.await_ready("flt/upgraded").unwrap();
    brokers.await_ready("flc/orders").unwrap();
    assert_eq!(identities(&brokers).unwrap(), before, "an upgrade of the operator restarts no broker");
    acknowledged.publish(&client, TOPIC, 500, 72).await.unwrap();

    let rollback = page::typed("helm rollback fulmar ", &[]).unwrap();
    let mut rollback: Vec<&str> = rollback.iter().skip(1).map(String::as_str).collect();
    rollback.extend(["--wait", "--timeout", "300s"]);
    println!("{}", environment.helm(&rollback).unwrap());
    await_acting(environment, &brokers, &earlier.operator_image);
    environment.apply(brokers.namespace(), &topic("back", 3, "")).unwrap();
    brokers.await_ready("flt/back").unwrap();
    brokers.await_ready("flc/orders").unwrap();
    assert_eq!(identities(&brokers).unwrap(), before, "nor does the way back");
    acknowledged.publish(&client, TOPIC, 500, 73).await.unwrap();
    acknowledged.compare(&client, TOPIC).await.unwrap();
}
