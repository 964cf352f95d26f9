//! Promise: many Topics are Ready soon, and cost the API server nothing once they are.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fulmar_e2e::audit::{Audit, Request};
use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::nodes::Process;
use fulmar_e2e::{installation, wait};

/// With `FULMAR_E2E_TOPICS=10000` the large one, by hand, with programs as they are published (`--published`).
const TOPICS: u64 = 500;

/// After the last one was created.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// That goal, and time for a machine that does other things too to miss it loudly, instead of being cut off.
const ALL_WITHIN: Duration = Duration::from_mins(8);

/// So long nothing is to be asked of the API server; `FULMAR_E2E_QUIET_SECS` for longer.
const QUIET: Duration = Duration::from_secs(45);

/// What a cluster that rests costs its operator.
const MEMORY_MAX: u64 = 200_000_000;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `kubectl` sends one object after the other: so many do it at once.
const CREATORS: usize = 4;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().unwrap())
}

fn create(brokers: &Brokers, topics: usize) {
    let files: Vec<String> = (0..CREATORS)
        .map(|creator| {
            let mut yaml = String::new();
            for number in (creator..topics).step_by(CREATORS) {
                write!(yaml, "{}", topic(&format!("t{number:05}"), 1, "")).unwrap();
            }
            brokers.path_of(&format!("topics-{creator}.yaml"), &yaml).unwrap()
        })
        .collect();
    thread::scope(|scope| {
        for file in &files {
            scope.spawn(move || {
                // What was created by an attempt that got no answer is there already.
                let applied = ["apply", "--server-side", "--force-conflicts", "-f", file];
                brokers.kubectl(&applied).unwrap();
            });
        }
    });
}

/// A gauge of the operator that acts.
fn gauge(environment: &Environment, name: &str) -> Result<usize> {
    let (pod, _) = installation::acting(environment)?;
    let path = format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy/metrics", installation::NAMESPACE);
    let shown = environment.kubectl(&["get", "--raw", &path])?;
    let value = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).with_context(|| format!("{name} is not shown"))
}

/// How many Topics are Ready. To list them all costs the API server as much as hundreds of statuses, so the operator, which counts what it
/// is shown, is asked until it says that all are.
fn ready(environment: &Environment, brokers: &Brokers, topics: usize) -> Result<usize> {
    let shown = gauge(environment, "fulmar_operator_topics")?;
    let not_ready = gauge(environment, "fulmar_operator_topics_not_ready")?;
    if shown < topics || not_ready > 0 {
        return Ok(shown - not_ready);
    }
    let statuses = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
    let statuses = brokers.kubectl(&["get", "flt", "--chunk-size=0", "-o", statuses])?;
    Ok(statuses.split_whitespace().filter(|status| *status == "True").count())
}

/// What the operator asked for since, but to look and to renew its Lease.
fn asked(audit: &Audit) -> Result<BTreeMap<(String, String), usize>> {
    let operator = format!("system:serviceaccount:{}:", installation::NAMESPACE);
    let is_work = |request: &Request| {
        let rests = request.reads() || request.resource == "leases";
        request.user.starts_with(&operator) && !rests
    };
    let mut counts = BTreeMap::new();
    for request in audit.requests(is_work)? {
        *counts.entry((request.verb, request.resource)).or_default() += 1;
    }
    Ok(counts)
}

#[test]
fn five_hundred_topics_are_ready_within_60_s_of_the_last_one_and_then_the_api_server_is_left_alone() {
    let topics = usize::try_from(setting("FULMAR_E2E_TOPICS", TOPICS)).unwrap();
    let quiet = Duration::from_secs(setting("FULMAR_E2E_QUIET_SECS", QUIET.as_secs()));
    let environment = Environment::get().unwrap();
    let brokers = Brokers::apply("many", &cluster(3)).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    let audit = Audit::from_now(environment).unwrap();
    let began = Instant::now();
    create(&brokers, topics);
    let created = Instant::now();
    println!("{topics} Topics were created in {:?}", created - began);
    wait::until_so("every Topic is Ready", ALL_WITHIN, || {
        thread::sleep(LOOK_EVERY);
        let ready = ready(environment, &brokers, topics)?;
        anyhow::ensure!(ready == topics, "{ready} of {topics} are Ready");
        Ok(true)
    })
    .unwrap();
    let (took, all) = (created.elapsed(), began.elapsed());
    let asked_for = asked(&audit).unwrap();
    let writes =
        asked_for.get(&("update".to_owned(), "topics/status".to_owned())).copied().unwrap_or_default();
    println!(
        "{topics} Topics are Ready {took:?} after the last was created; {:.0} statuses a second since the first; asked: {asked_for:?}",
        f64::from(u32::try_from(writes).unwrap()) / all.as_secs_f64()
    );

    // The last details of statuses are told, and then nothing is.
    wait::until_so(&format!("{quiet:?} without a request but to look"), ALL_WITHIN + quiet, || {
        let audit = Audit::from_now(environment)?;
        thread::sleep(quiet);
        let asked = asked(&audit)?;
        anyhow::ensure!(asked.is_empty(), "asked in {quiet:?}: {asked:?}");
        Ok(true)
    })
    .unwrap();
    let (pod, _) = installation::acting(environment).unwrap();
    let process =
        environment.nodes().unwrap().process(environment, installation::NAMESPACE, &pod, "operator");
    let memory = process.and_then(Process::memory_bytes).context("its memory").unwrap();
    println!(
        "quiet {:?} after the last was created; the operator holds {} MiB",
        created.elapsed(),
        memory >> 20
    );
    assert!(memory <= MEMORY_MAX, "the operator holds {memory} bytes");
    assert!(took <= READY_WITHIN, "Ready {took:?} after the last was created");
}
