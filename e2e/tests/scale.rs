//! Promise: brokers are added and removed under load, and nothing that was acknowledged is lost: replicas move first, pods go last,
//! volumes stay; what is turned back half-way returns, and an operator or an API server that dies meanwhile is missed by nobody.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fulmar_core::control::table::Page;
use fulmar_core::entry::{Entry, Members};
use fulmar_e2e::brokers::{Brokers, READY_WITHIN, SOON, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::installation;
use fulmar_e2e::load::Load;
use fulmar_e2e::nodes::Signal;
use fulmar_e2e::page::{self, Beside};
use fulmar_e2e::wait;
use serde_json::Value;

const TOPIC: &str = "events";
const PARTITIONS: u32 = 20;

/// Without records: they make it last long enough to be turned back half-way.
const BALLAST: u32 = 80;

/// Two topics grow while brokers come: each from one partition to so many.
const GROWN: u32 = 4;
const GROWING: [&str; 2] = ["left", "right"];

/// Some hundred moves, of which twelve or so go on at once, on a machine that does other things too.
const MOVED_WITHIN: Duration = Duration::from_mins(6);

/// While the API server is away so many more records of every partition are acknowledged, at 30 ms or more each: the operator loses its Lease,
/// which holds three seconds, and another tenure goes on with the moves.
const PUBLISHED_MEANWHILE: u64 = 100;

/// A leader that was to hand over goes on by itself after five seconds, if nobody can write down the next one. A machine of two cores may
/// stand still for a while.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(15);

/// Half-way: so many decisions, of which a move takes three.
const BEGUN: usize = 10;

/// Zone and replicas of each broker that is listed, as the Cluster's status has them.
fn loads(brokers: &Brokers) -> Result<Vec<(String, u64)>> {
    let cluster = brokers.get("flc/orders")?;
    let listed = cluster["status"]["brokers"].as_array().cloned().unwrap_or_default();
    let load = |broker: &Value| {
        let zone = broker["zone"].as_str().unwrap_or_default().to_owned();
        (zone, broker["replicas"].as_u64().unwrap_or_default())
    };
    Ok(listed.iter().map(load).collect())
}

/// Whether brokers of a zone have the same number, give or take one; and where there are three zones, each has every partition.
fn is_spread(loads: &[(String, u64)]) -> bool {
    let mut zones: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (zone, load) in loads {
        zones.entry(zone).or_default().push(*load);
    }
    let is_even = |loads: &Vec<u64>| loads.iter().max().unwrap_or(&0) - loads.iter().min().unwrap_or(&0) <= 1;
    let is_whole =
        |loads: &Vec<u64>| loads.iter().sum::<u64>() == u64::from(PARTITIONS + BALLAST + 2 * GROWN);
    zones.values().all(is_even) && (zones.len() != 3 || zones.values().all(is_whole))
}

/// The lines of the page that add brokers, and that remove them.
const TO_FIVE: &str = "kubectl scale flc/orders --replicas=5";
const TO_THREE: &str = "kubectl scale flc/orders --replicas=3";

fn scale(brokers: &Brokers, line: &str) -> Instant {
    brokers.type_line(line).unwrap();
    Instant::now()
}

/// `kubectl get --watch`, as the page types it.
fn watch(brokers: &Brokers) -> Beside {
    let words = page::typed("kubectl get flc orders --watch", &[]).unwrap();
    let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    brokers.kubectl_beside(&words).unwrap()
}

/// What it shows: its columns, and a line while replicas move.
fn await_shown(watch: &mut Beside, progress: &str) {
    wait::until_so(&format!("a line with {progress}"), SOON, || {
        let shown = watch.printed();
        ensure!(shown.contains(progress), "{shown}");
        Ok(true)
    })
    .unwrap();
    let shown = watch.printed();
    println!("{shown}");
    let columns: Vec<&str> = shown.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["NAME", "READY", "BROKERS", "OPERATION", "UNDERREPLICATED", "AGE"]);
}

/// Until so many brokers have their part, and none is moved any more.
fn await_spread(brokers: &Brokers, number: usize) {
    wait::until_so(&format!("replicas are spread over {number} brokers"), MOVED_WITHIN, || {
        // What is said of the wish before says nothing of this one.
        brokers.check_seen("flc/orders")?;
        let loads = loads(brokers)?;
        let balanced =
            brokers.condition("flc/orders", "Balanced")?.is_some_and(|(status, ..)| status == "True");
        ensure!(loads.len() == number && balanced && is_spread(&loads), "balanced: {balanced}, {loads:?}");
        Ok(true)
    })
    .unwrap();
    brokers.await_ready("flc/orders").unwrap();
    brokers.await_ready(&format!("flt/{TOPIC}")).unwrap();
}

/// Until so many decisions of the table are others than these.
fn await_begun(brokers: &Brokers, before: &[String]) {
    wait::until_so("some are on their way", MOVED_WITHIN, || {
        let now = brokers.epochs()?;
        Ok(now.iter().filter(|epoch| !before.contains(epoch)).count() >= BEGUN)
    })
    .unwrap();
}

/// What the table says of each partition.
fn entries(brokers: &Brokers) -> Result<Vec<Entry>> {
    let tables = brokers.get("partitiontables")?;
    let mut entries = Vec::new();
    for page in tables["items"].as_array().context("a list of pages")? {
        if page["spec"]["role"] == "Page" {
            let lines: Vec<String> = serde_json::from_value(page["spec"]["lines"].clone())?;
            entries.extend(Page::parse(0, &lines)?.entries);
        }
    }
    Ok(entries)
}

/// Whether one of its replicas is on its way: somebody learns, or the set before and the next one decide together.
fn is_moving(entry: &Entry) -> bool {
    !entry.learners.is_empty() || matches!(entry.members, Members::Joint { .. })
}

/// How many replicas have come to brokers beyond the first three, of partitions with none on its way.
fn arrived(entries: &[Entry]) -> usize {
    let at_rest = entries.iter().filter(|entry| !is_moving(entry));
    at_rest.flat_map(|entry| entry.members.replicas()).filter(|replica| replica.ordinal.0 >= 3).count()
}

/// While replicas are on their way the API server is killed, and comes back some seconds later. Gives when it was away, and how many
/// replicas had arrived by then.
async fn kill_api_server(brokers: &Brokers, load: &Load) -> (Instant, Instant, usize) {
    wait::until_so("replicas are on their way", MOVED_WITHIN, || Ok(entries(brokers)?.iter().any(is_moving)))
        .unwrap();
    let gone = Instant::now();
    let away = Environment::get().unwrap().nodes().unwrap().without_api_server().unwrap();
    load.await_more(PUBLISHED_MEANWHILE, SOON).await.unwrap();
    let back = Instant::now();
    // Dropping it returns when all of Kubernetes works again, and the table would be another by then.
    let returning = std::thread::spawn(move || drop(away));
    let found = wait::until("the table, as it was left", SOON, || entries(brokers).map(Some)).unwrap();
    returning.join().unwrap();
    println!("the API server was away for {:?}, {} replicas had arrived", back - gone, arrived(&found));
    (gone, back, arrived(&found))
}

/// The highest broker that the table names.
fn highest_named(brokers: &Brokers) -> Result<u32> {
    let tables = brokers.kubectl(&["get", "partitiontables", "-o", "yaml"])?;
    let ordinal = |line: &str| line.split_once("- replica ")?.1.split([' ', ':']).nth(1)?.parse().ok();
    tables.lines().filter_map(ordinal).max().context("the table names nobody")
}

/// Until three pods are left; and whenever one is to go, the table names its broker for nothing.
fn await_three_pods(brokers: &Brokers) {
    wait::until_so("two pods have gone", MOVED_WITHIN, || {
        // In this order: nothing comes to a broker any more that leaves.
        let set = brokers.get("sts/orders")?["spec"]["replicas"].as_u64().context("its replicas")?;
        let named = highest_named(brokers)?;
        assert!(u64::from(named) < set, "{set} pods are to run, and broker {named} has replicas");
        Ok(brokers.kubectl(&["get", "pods", "-o", "name"])?.lines().count() == 3)
    })
    .unwrap();
}

fn kill_operator() {
    let environment = Environment::get().unwrap();
    wait::until_so("the operator that acts is killed", READY_WITHIN, || {
        let (pod, _) = installation::acting(environment)?;
        let nodes = environment.nodes()?;
        let process = nodes.process(environment, installation::NAMESPACE, &pod, "operator")?;
        process.send(Signal::Kill).map(|()| true)
    })
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_become_five_and_three_again_under_load() {
    let growing = GROWING.map(|name| topic(name, 1, "")).concat();
    let yaml = cluster(3) + &topic(TOPIC, PARTITIONS, "") + &topic("ballast", BALLAST, "") + &growing;
    let brokers = Brokers::apply("scaled", &yaml).unwrap();
    brokers.await_ready(&format!("flt/{TOPIC}")).unwrap();
    brokers.await_ready("flt/ballast").unwrap();
    let (writing, reading) = (brokers.client(0).await.unwrap(), brokers.client(1).await.unwrap());
    let load = Load::start(&writing, &reading, TOPIC, PARTITIONS, 17).await.unwrap();

    let began = scale(&brokers, TO_FIVE);
    for name in GROWING {
        let more = format!(r#"{{"spec":{{"partitions":{GROWN}}}}}"#);
        brokers.kubectl(&["patch", &format!("flt/{name}"), "--type=merge", "--patch", &more]).unwrap();
    }
    let (gone, back, before) = kill_api_server(&brokers, &load).await;
    // No watch outlives its API server. Most moves are left now.
    let mut watched = watch(&brokers);
    // Nobody waits here for an hour.
    brokers.type_line_with("kubectl wait --for=condition=Balanced ", &[("1h", "6m")]).unwrap();
    await_shown(&mut watched, "Rebalance ");
    drop(watched);
    let moved = loads(&brokers).unwrap();
    assert!(moved.len() == 5 && moved.iter().all(|(_, load)| *load > 0), "they have their part: {moved:?}");
    await_spread(&brokers, 5);
    for name in GROWING {
        brokers.await_ready(&format!("flt/{name}")).unwrap();
    }
    let after = arrived(&entries(&brokers).unwrap());
    assert!(before < after, "all {after} replicas had arrived before the API server died");
    for reason in ["MovingReplicas", "ReplicasMoved"] {
        wait::until_so("Events tell it", SOON, || Ok(brokers.events(reason)?.1 > 0)).unwrap();
    }
    println!("3 to 5 in {:?}: {:?}", began.elapsed(), loads(&brokers).unwrap());

    // Turned back half-way; then for good, and the operator dies half-way.
    let before = brokers.epochs().unwrap();
    scale(&brokers, TO_THREE);
    await_begun(&brokers, &before);
    let began = scale(&brokers, TO_FIVE);
    await_spread(&brokers, 5);
    println!("turned back in {:?}: {:?}", began.elapsed(), loads(&brokers).unwrap());
    let before = brokers.epochs().unwrap();
    let mut watched = watch(&brokers);
    let began = scale(&brokers, TO_THREE);
    await_begun(&brokers, &before);
    kill_operator();
    await_three_pods(&brokers);
    brokers.type_line_with("kubectl wait --for=delete pod/orders-4 ", &[("1h", "6m")]).unwrap();
    await_shown(&mut watched, "ScaleDown ");
    drop(watched);
    await_spread(&brokers, 3);
    println!("5 to 3 in {:?}: {:?}", began.elapsed(), loads(&brokers).unwrap());
    let claims = brokers.kubectl(&["get", "pvc", "-o", "name"]).unwrap();
    assert_eq!(claims.lines().count(), 5, "volumes stay: {claims}");

    let refused = brokers.kubectl(&["scale", "flc/orders", "--replicas=2"]).unwrap_err();
    assert!(format!("{refused:#}").contains("below status.minReplicas 3"), "{refused:#}");

    let outcome = load.stop().await.unwrap();
    for partition in 0..PARTITIONS {
        let longest = outcome.longest(partition, gone, back);
        assert!(
            longest < PUBLISHED_WITHIN,
            "without an API server a publish to {partition} waited {longest:?}"
        );
    }
    outcome.acknowledged.compare(&brokers.client(2).await.unwrap(), TOPIC).await.unwrap();
    println!("{} records acknowledged, none lost", outcome.acknowledged.count());
}
