//! Promise: a roll disturbs few: leaders go home by themselves, and statuses that end as they began are not written.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fulmar_e2e::audit::{Audit, Request};
use fulmar_e2e::brokers::{Brokers, READY_WITHIN, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::{installation, wait};

const TOPICS: usize = 1_000;
const WRITES_MAX: usize = 50;

/// Longer than a detail of a status is held back while nothing happens.
const QUIET: Duration = Duration::from_secs(20);

/// A thousand Topics are placed, opened and told, on a machine that does other things too.
const ALL_WITHIN: Duration = Duration::from_mins(8);

/// A minute of health, and the moves themselves.
const HOME_WITHIN: Duration = Duration::from_mins(8);

/// Partitions whose leader is not the first of their replicas, of all, as the table says.
fn away(brokers: &Brokers) -> anyhow::Result<(usize, usize)> {
    let tables = brokers.kubectl(&["get", "partitiontables", "-o", "json"])?;
    let leader = |line: &str| Some(line.split_once(" leader=")?.1.split_once(' ')?.0.to_owned());
    let first = |line: &str| Some(line.split_once("of[")?.1.split([',', ']']).next()?.to_owned());
    let tables: serde_json::Value = serde_json::from_str(&tables)?;
    let mut lines = Vec::new();
    texts(&tables, &mut lines);
    let entries: Vec<&String> = lines.into_iter().filter(|line| line.contains(" epoch=")).collect();
    let away = entries.iter().filter(|line| leader(line) != first(line)).count();
    Ok((away, entries.len()))
}

fn texts<'a>(value: &'a serde_json::Value, all: &mut Vec<&'a String>) {
    match value {
        serde_json::Value::String(text) => all.push(text),
        serde_json::Value::Array(values) => values.iter().for_each(|value| texts(value, all)),
        serde_json::Value::Object(fields) => fields.values().for_each(|value| texts(value, all)),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

/// Writes of statuses in a namespace so far, by resource.
fn status_writes(brokers: &Brokers) -> BTreeMap<String, usize> {
    let is_status = |request: &Request| {
        matches!(request.verb.as_str(), "update" | "patch")
            && matches!(request.resource.as_str(), "topics/status" | "clusters/status")
            && request.namespace == brokers.namespace()
    };
    let mut counts = BTreeMap::new();
    for request in Audit::whole(Environment::get().unwrap()).unwrap().requests(is_status).unwrap() {
        *counts.entry(request.resource).or_default() += 1;
    }
    counts
}

/// Waits until a condition of every Topic is true. One request a look: `kubectl wait` makes some for each Topic, and slows itself
/// down to a few a second.
fn await_all(brokers: &Brokers, condition: &str) -> anyhow::Result<()> {
    let statuses = format!("jsonpath={{.items[*].status.conditions[?(@.type==\"{condition}\")].status}}");
    wait::until_so(&format!("every Topic is {condition}"), ALL_WITHIN, || {
        let statuses = brokers.kubectl(&["get", "flt", "-o", &statuses])?;
        Ok(statuses.split_whitespace().filter(|status| *status == "True").count() == TOPICS)
    })
}

/// How the operator made brokers' pods go: evicted, as a budget is heard then, and deleted.
fn evicted_and_deleted(brokers: &Brokers, since: &Audit) -> (usize, usize) {
    let operator = format!("system:serviceaccount:{}:", installation::NAMESPACE);
    let count = |verb: &str, resource: &str| {
        let fits = |request: &Request| {
            (request.verb.as_str(), request.resource.as_str()) == (verb, resource)
                && request.namespace == brokers.namespace()
                && request.user.starts_with(&operator)
        };
        since.requests(fits).unwrap().len()
    };
    (count("create", "pods/eviction"), count("delete", "pods") + count("deletecollection", "pods"))
}

#[test]
fn a_roll_with_1000_topics_writes_at_most_50_statuses_and_leaders_go_home() {
    let mut yaml = cluster(3);
    for number in 0..TOPICS {
        write!(yaml, "{}", topic(&format!("t{number:04}"), 1, "")).unwrap();
    }
    let brokers = Brokers::apply("rolled-statuses", &yaml).unwrap();
    let started = Instant::now();
    brokers.await_ready("flc/orders").unwrap();
    await_all(&brokers, "Ready").unwrap();
    println!("{TOPICS} Topics are Ready after {:?}", started.elapsed());
    wait::until_so("the statuses are written", READY_WITHIN, || {
        let before = status_writes(&brokers);
        std::thread::sleep(QUIET);
        Ok(before == status_writes(&brokers))
    })
    .unwrap();
    let before = status_writes(&brokers);
    println!("status writes until then: {before:?}");

    let started = Instant::now();
    let asked = Audit::from_now(Environment::get().unwrap()).unwrap();
    brokers.kubectl(&["rollout", "restart", "statefulset/orders"]).unwrap();
    wait::until_so("the roll has begun", READY_WITHIN, || Ok(away(&brokers)?.0 > 0)).unwrap();
    // Each pod is looked at: the condition may say a moment longer what it said before.
    brokers.await_rolled().unwrap();
    brokers.await_condition("flc/orders", "RolloutComplete", "True", Duration::from_mins(10)).unwrap();
    println!("rolled in {:?}; away: {:?}", started.elapsed(), away(&brokers).unwrap());
    let (evicted, deleted) = evicted_and_deleted(&brokers, &asked);
    assert!(evicted >= 3 && deleted == 0, "{evicted} evictions, {deleted} deletions");
    let rolled = Instant::now();
    wait::until_so("all leaders are home", HOME_WITHIN, || Ok(away(&brokers)?.0 == 0)).unwrap();
    println!("all leaders are home {:?} after the roll", rolled.elapsed());
    // What was held back would come now.
    std::thread::sleep(Duration::from_secs(30));
    let after = status_writes(&brokers);
    let spent: usize = after.values().sum::<usize>() - before.values().sum::<usize>();
    println!("status writes by the roll and the way home: {spent} ({before:?} to {after:?})");
    assert!(spent <= WRITES_MAX, "{spent} writes");
    brokers.await_ready("flc/orders").unwrap();
    await_all(&brokers, "FullyReplicated").unwrap();
}
