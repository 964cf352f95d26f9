//! Promise: nodes are drained one right after the other, and brokers are started cold, all at once, without an operator too: the
//! budget and the brokers' own stop are all that it needs, and no record is lost by it.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::process::Command;
use std::time::{Duration, Instant};

use fulmar_e2e::brokers::{Brokers, NAME, READY_WITHIN, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::load::Load;
use fulmar_e2e::nodes::Signal;
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::{installation, page, wait};

const TOPIC: &str = "events";

/// What is published while a broker's node is drained, which it has to fetch before the next one may go. More by hand, with
/// `FULMAR_E2E_BACKLOG_MIB`.
const BACKLOG_MIB: u64 = 192;

/// A drain asks again each 5 s; the backlog is read and written by machines of two cores.
const DRAINED_WITHIN: Duration = Duration::from_mins(9);

/// A leader that goes in order hands over in milliseconds, and one that has to be replaced is within 5 s; two that were away at once
/// would be waited for until their pods are there again.
const STALL_MAX: Duration = Duration::from_secs(15);

fn backlog_mib() -> u64 {
    std::env::var("FULMAR_E2E_BACKLOG_MIB").ok().map_or(BACKLOG_MIB, |mib| mib.parse().unwrap())
}

/// How long it took, and all that a person sees meanwhile.
struct Drained {
    took: Duration,
    said: String,
}

/// The page's `kubectl drain`, of our own pods alone: other tests' may be there, and the operator.
fn drain(environment: &Environment, node: &str) -> Drained {
    let words = page::typed("kubectl drain ", &[("node1", node)]).unwrap();
    let began = Instant::now();
    let output = Command::new(environment.kubectl_program())
        .args(&words[1..])
        .arg(format!("--pod-selector=app.kubernetes.io/instance={NAME}"))
        .arg(format!("--timeout={}s", DRAINED_WITHIN.as_secs()))
        .output()
        .unwrap();
    let took = began.elapsed();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("$ {}: {took:?}\n{said}", words.join(" "));
    assert!(output.status.success(), "{said}");
    Drained { took, said }
}

/// What the page says of a drain that the budget holds up, with this test's names in it.
fn held_up(brokers: &Brokers, ordinal: u32) -> String {
    let of_page = page::OPERATIONS.lines().find(|line| line.starts_with("error when evicting pods/"));
    let of_page = of_page.expect("the page shows it");
    of_page.replace("orders-2", &Brokers::pod(ordinal)).replace("shop", brokers.namespace())
}

/// Pods may come to a node again when this is dropped.
struct Uncordon<'a>(&'a Environment, &'a str);

impl Uncordon<'_> {
    fn type_line(&self) -> anyhow::Result<String> {
        let words = page::typed("kubectl uncordon ", &[("node1", self.1)])?;
        let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        self.0.kubectl(&words)
    }
}

impl Drop for Uncordon<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.type_line() {
            println!("{} takes no pods, the next tests will suffer: {error:#}", self.1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_drained_back_to_back_stop_nobody_though_there_is_much_to_catch_up() {
    let topics = topic(TOPIC, 3, "") + &topic("bulk", 3, "");
    let brokers = Brokers::apply("drained", &(cluster(3) + &topics)).unwrap();
    brokers.await_ready("flt/events").unwrap();
    brokers.await_ready("flt/bulk").unwrap();
    let environment = Environment::get().unwrap();
    let (first, second) = (brokers.node(1).unwrap(), brokers.node(2).unwrap());
    let client = brokers.client(0).await.unwrap();
    let load = Load::start(&client, &brokers.client(0).await.unwrap(), TOPIC, 3, 21).await.unwrap();

    let drained = Uncordon(environment, &first);
    drain(environment, &first);
    let mut bulk = Acknowledged::default();
    let began = Instant::now();
    bulk.publish_large(&client, "bulk", backlog_mib(), 22).await.unwrap();
    println!("{} MiB published without broker 1 in {:?}", backlog_mib(), began.elapsed());
    drop(drained);
    let drained = Uncordon(environment, &second);
    let from = Instant::now();
    let Drained { took, said } = drain(environment, &second);
    drop(drained);
    // Broker 1 was only just let back, and has much to fetch.
    assert!(said.contains(&held_up(&brokers, 2)), "{said}");

    brokers.await_pods().unwrap();
    brokers.await_whole(TOPIC).await.unwrap();
    brokers.await_whole("bulk").await.unwrap();
    let outcome = load.stop().await.unwrap();
    let stalls: Vec<Duration> =
        (0..3).map(|partition| outcome.longest(partition, from, Instant::now())).collect();
    println!(
        "the second node was drained after {took:?}; since then publishes waited for {stalls:?} at most"
    );
    assert!(stalls.iter().all(|stall| *stall <= STALL_MAX), "{stalls:?}");
    outcome.acknowledged.compare(&client, TOPIC).await.unwrap();
    bulk.compare(&client, "bulk").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_start_cold_without_an_operator_and_everything_starts_cold_at_once() {
    let brokers = Brokers::apply("cold", &(cluster(3) + &topic(TOPIC, 6, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let environment = Environment::get().unwrap();
    let mut acknowledged = Acknowledged::default();
    acknowledged.publish(&brokers.client(0).await.unwrap(), TOPIC, 1_000, 31).await.unwrap();

    installation::scale(environment, 0).unwrap();
    let killed: Vec<_> = (0..3).map(|ordinal| brokers.process(ordinal).unwrap()).collect();
    for process in &killed {
        process.send(Signal::Kill).unwrap();
    }
    wait::until_so("all processes are other ones", READY_WITHIN, || {
        for (ordinal, process) in (0..).zip(&killed) {
            anyhow::ensure!(brokers.process(ordinal)? != *process, "broker {ordinal} runs still");
        }
        Ok(true)
    })
    .unwrap();
    let began = Instant::now();
    acknowledged.publish(&brokers.client(1).await.unwrap(), TOPIC, 1_000, 32).await.unwrap();
    println!(
        "1,000 records acknowledged {:?} after all brokers started, without an operator",
        began.elapsed()
    );

    installation::scale(environment, 1).unwrap();
    let nodes = environment.nodes().unwrap();
    let control = nodes.without_api_server().unwrap();
    let machines: Vec<_> = (1..=3).map(|number| nodes.without_node(number).unwrap()).collect();
    drop(control);
    drop(machines);
    let began = Instant::now();
    brokers.await_pods().unwrap();
    brokers.await_ready("flc/orders").unwrap();
    brokers.await_ready("flt/events").unwrap();
    let client = brokers.client(2).await.unwrap();
    acknowledged.publish(&client, TOPIC, 1_000, 33).await.unwrap();
    println!("Ready, and 1,000 records acknowledged, {:?} after all machines started", began.elapsed());
    acknowledged.compare(&client, TOPIC).await.unwrap();
}
