//! Promise: a leader that dies is replaced in about a second, a node that vanishes without a word in a few, and a planned move costs
//! no client an error. The time is a client's: from the blow to the next acknowledgement of the same partition.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fulmar_client::Record;
use fulmar_e2e::brokers::{Brokers, READY_WITHIN, cluster, topic};
use fulmar_e2e::clients::producer;
use fulmar_e2e::environment::Environment;
use fulmar_e2e::load::{Load, told};
use fulmar_e2e::nodes::Signal;
use fulmar_e2e::volumes::Eviction;
use fulmar_e2e::{installation, wait};

const TOPIC: &str = "events";

/// Each broker is killed a few times; the same test by hand with `FULMAR_E2E_KILLS=100` gives a distribution.
const KILLS: usize = 6;

/// The promise is a second at the median; this is its bound for each kill.
const NEXT_ACK_WITHIN: Duration = Duration::from_secs(3);

/// So many kills may be beyond it, and are made again: a machine that stands still for seconds spoils one of them.
const SPOILT_MAX: usize = 2;

/// A node that is gone refuses nothing: only silence tells.
const NEXT_ACK_OF_A_LOST_NODE_WITHIN: Duration = Duration::from_secs(5);

/// An operator on the same node is replaced first: by the one that waits, when the Lease has run out.
const NEXT_ACK_OF_THE_OPERATORS_NODE_WITHIN: Duration = Duration::from_secs(15);

/// A minute of health, and the moves themselves.
const HOME_WITHIN: Duration = Duration::from_mins(8);

/// It has to be so in one of so many tries.
const TRIES: usize = 3;

/// A planned move is over long before: what waits longer waits for something else.
const MOVED_WITHIN: Duration = Duration::from_secs(10);

/// In one round of three: the build is without optimization, and its two processors run all of Kubernetes, too. What each took is printed.
const STALL_MAX: Duration = Duration::from_millis(250);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leader_kill_next_ack_within_3_s() {
    let brokers = Brokers::apply("failover", &(cluster(3) + &topic(TOPIC, 1, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let kills = std::env::var("FULMAR_E2E_KILLS").ok().map_or(KILLS, |kills| kills.parse().unwrap());
    let (mut took, mut spoilt) = (Vec::with_capacity(kills), Vec::new());
    while took.len() < kills && spoilt.len() <= SPOILT_MAX {
        let leader = brokers.await_whole(TOPIC).await.unwrap()[0];
        let client = brokers.client((leader + 1) % 3).await.unwrap();
        let producer = producer(&client, TOPIC).await.unwrap();
        producer.publish(Record::new("before")).await.unwrap();

        brokers.process(leader).unwrap().send(Signal::Kill).unwrap();
        let killed = Instant::now();
        producer.publish(Record::new("after")).await.unwrap();
        let waited = killed.elapsed();
        if waited <= NEXT_ACK_WITHIN {
            took.push(waited);
        } else {
            spoilt.push(waited);
        }

        // A pod of its own for the next life: one that was killed often is started again ever later.
        brokers.replace_pod(leader).unwrap();
    }
    assert!(spoilt.len() <= SPOILT_MAX, "beyond {NEXT_ACK_WITHIN:?}: {spoilt:?}; within: {took:?}");
    took.sort();
    println!("{kills} leaders killed, until the next acknowledgement: {}; spoilt: {spoilt:?}", told(&took));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_loss_next_ack_within_5_s_and_15_s_where_the_operator_was_too() {
    // Three partitions, so that one is led on a node that the operator is not on.
    let brokers = Brokers::apply("lost-node", &(cluster(3) + &topic(TOPIC, 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let on: BTreeSet<String> = (0..3).map(|ordinal| brokers.node(ordinal).unwrap()).collect();
    assert_eq!(on.len(), 3, "each broker is on a node of its own");
    within(NEXT_ACK_OF_A_LOST_NODE_WITHIN, &brokers, Lost::WithoutTheOperator).await;
    let environment = Environment::get().unwrap();
    apart(environment).unwrap();
    within(NEXT_ACK_OF_THE_OPERATORS_NODE_WITHIN, &brokers, Lost::WithTheOperator).await;
    installation::scale(environment, 1).unwrap();
}

/// Which node is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    WithTheOperator,
    WithoutTheOperator,
}

async fn within(limit: Duration, brokers: &Brokers, which: Lost) {
    let mut took = Duration::MAX;
    for _ in 0..TRIES {
        took = took.min(lose_a_leaders_node(brokers, which).await);
        if took <= limit {
            return;
        }
    }
    panic!("{which:?}: {took:?} at best");
}

/// Two operators, each on a node of its own.
fn apart(environment: &Environment) -> anyhow::Result<()> {
    installation::scale(environment, 2)?;
    wait::until_so("two operators on two nodes", READY_WITHIN, || {
        let (acting, _) = installation::acting(environment)?;
        let pods = ["get", "pods", "--namespace", installation::NAMESPACE, "-o"];
        let nodes = environment.kubectl(&[&pods[..], &["jsonpath={.items[*].spec.nodeName}"]].concat())?;
        let nodes: Vec<&str> = nodes.split_whitespace().collect();
        if nodes.len() == 2 && nodes[0] != nodes[1] {
            return Ok(true);
        }
        let names = environment.kubectl(&[&pods[..], &["name"]].concat())?;
        let other = names.lines().find(|pod| **pod != format!("pod/{acting}"));
        if let Some(other) = other {
            environment.kubectl(&["delete", "--namespace", installation::NAMESPACE, other])?;
        }
        installation::scale(environment, 2)?;
        Ok(false)
    })
}

/// A partition whose leader's node the operator is on, or is not.
struct Victim {
    partition: u32,
    leader: u32,
    node: String,
    /// The acting operator's pod.
    operator: String,
}

/// Waits until all is well, and until there is such a partition: leaders that an earlier loss moved go home after a minute.
async fn victim(brokers: &Brokers, which: Lost) -> Victim {
    let environment = Environment::get().unwrap();
    let operators = if which == Lost::WithTheOperator { 2 } else { 1 };
    wait::until_well(&format!("a leader to lose {which:?}"), HOME_WITHIN, async || {
        // Its pods say that they are Ready until somebody has missed the node: they are asked themselves.
        installation::scale(environment, operators)?;
        let leaders = brokers.await_whole(TOPIC).await?;
        let (operator, _) = installation::acting(environment)?;
        let operators_node = place(installation::NAMESPACE, &operator, ".spec.nodeName")?;
        for (partition, leader) in (0..).zip(leaders) {
            let node = brokers.node(leader)?;
            if (node == operators_node) == (which == Lost::WithTheOperator) {
                return Ok(Victim { partition, leader, node, operator });
            }
        }
        anyhow::bail!("the acting operator is on {operators_node}, and no leader is where it should be")
    })
    .await
    .unwrap()
}

/// A field of a pod.
fn place(namespace: &str, pod: &str, what: &str) -> anyhow::Result<String> {
    let template = format!("jsonpath={{{what}}}");
    let found =
        Environment::get()?.kubectl(&["get", "pod", "--namespace", namespace, pod, "-o", &template])?;
    anyhow::ensure!(!found.is_empty(), "pod {pod} has no {what} yet");
    Ok(found)
}

/// From the loss of a leader's node to the next acknowledgement of its partition.
async fn lose_a_leaders_node(brokers: &Brokers, which: Lost) -> Duration {
    let Victim { partition, leader, node, operator } = victim(brokers, which).await;
    let number = node.strip_prefix("node").and_then(|number| number.parse().ok()).unwrap();
    let client = brokers.client((leader + 1) % 3).await.unwrap();
    let producer = producer(&client, TOPIC).await.unwrap();
    producer.publish(Record::new("before").partition(partition)).await.unwrap();
    // A packet to a node that is gone is answered by nobody; killed processes alone would refuse connections.
    let nodes = Environment::get().unwrap().nodes().unwrap();
    let mut silence = vec![nodes.isolate(&brokers.pod_ip(leader).unwrap()).unwrap()];
    if which == Lost::WithTheOperator {
        let address = place(installation::NAMESPACE, &operator, ".status.podIP").unwrap();
        silence.push(nodes.isolate(&address).unwrap());
    }
    let lost = Instant::now();
    let away = nodes.without_node(number).unwrap();
    producer.publish(Record::new("after").partition(partition)).await.unwrap();
    let took = lost.elapsed();
    println!(
        "{node} lost with the leader on it, {which:?}: the next acknowledgement after {} ms",
        took.as_millis()
    );
    drop(silence);
    drop(away);
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evictions_in_turn_cost_no_publish_an_error_and_planned_moves_stall_250_ms_at_p99() {
    const PARTITIONS: u32 = 12;
    let brokers = Brokers::apply("evicted", &(cluster(3) + &topic(TOPIC, PARTITIONS, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let client = brokers.client(0).await.unwrap();
    let load = Load::start(&client, &brokers.client(1).await.unwrap(), TOPIC, PARTITIONS, 51).await.unwrap();
    let mut moved = Vec::new();
    for ordinal in 0..3 {
        let leaders = brokers.await_whole(TOPIC).await.unwrap();
        let led: Vec<u32> =
            (0..).zip(leaders).filter(|(_, leader)| *leader == ordinal).map(|(one, _)| one).collect();
        let evicted = brokers.pod_uid(ordinal).unwrap();
        wait::until_so("the eviction is granted", READY_WITHIN, || {
            let from = Instant::now();
            let granted = brokers.evict(ordinal)? == Eviction::Granted;
            if granted {
                moved.push((led.clone(), from));
            }
            Ok(granted)
        })
        .unwrap();
        // One at a time, whoever asks.
        assert_eq!(brokers.evict((ordinal + 1) % 3).unwrap(), Eviction::Refused);
        // A pod that was told to end is Ready for a while yet.
        brokers.await_other_pod(ordinal, &evicted).unwrap();
    }
    brokers.await_whole(TOPIC).await.unwrap();
    let client = brokers.client(0).await.unwrap();
    let outcome = load.stop().await.unwrap();
    outcome.acknowledged.compare(&client, TOPIC).await.unwrap();
    let mut best = Duration::MAX;
    for (led, from) in &moved {
        let mut stalls: Vec<Duration> =
            led.iter().map(|partition| outcome.longest(*partition, *from, *from + MOVED_WITHIN)).collect();
        stalls.sort_unstable();
        let Some(longest) = stalls.last() else { continue };
        best = best.min(*longest);
        println!("{} leaders moved away, each publish that waited: {}", led.len(), told(&stalls));
    }
    println!("{} publishes, no error", outcome.acknowledged.count());
    assert!(best <= STALL_MAX, "{best:?} in the best of three rounds");
}
