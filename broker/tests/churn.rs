//! Every broker is killed again and again while programs publish at all of them: what was acknowledged is there, once, and
//! whoever reads along sees the same order.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fulmar_core::id::ReplicaId;
use fulmar_proto::v1::pub_sub_client::PubSubClient;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{Earliest, PublishRequest, Start, SubscribeRequest};
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::{Brokers, PATIENCE, Ports, eventually};
use tonic::Code;
use tonic::transport::Endpoint;

const PARTITIONS: u32 = 3;
const END: &str = "the end";
const ROUNDS: usize = 6;

/// So many publishes are acknowledged while one broker is away, and so many more once it is back.
const EACH_TIME: usize = 50;

/// What became of what one publisher sent.
#[derive(Default)]
struct Sent {
    acknowledged: Vec<String>,
    unknown: Vec<String>,
}

/// What all publishers share.
#[derive(Default)]
struct Publishing {
    ends: AtomicBool,
    acknowledged: AtomicUsize,
}

async fn publish(name: usize, ports: Vec<Ports>, publishing: Arc<Publishing>) -> Sent {
    let mut sent = Sent::default();
    for number in 0.. {
        if publishing.ends.load(Ordering::Relaxed) {
            break;
        }
        let value = format!("{name}-{number}");
        let request = PublishRequest {
            topic: "events".to_owned(),
            key: Some(format!("{}", number % 20).into()),
            value: value.clone().into(),
            ..PublishRequest::default()
        };
        let address = format!("http://{}", ports[(name + number) % ports.len()].grpc);
        let Ok(channel) = Endpoint::from_shared(address).unwrap().connect().await else { continue };
        match PubSubClient::new(channel).publish(request).await {
            Ok(_) => {
                publishing.acknowledged.fetch_add(1, Ordering::Relaxed);
                sent.acknowledged.push(value);
            }
            // Refused before anything was appended, or nobody knows: the broker that was asked may have been killed.
            Err(status) if status.code() == Code::NotFound => panic!("{status:?}"),
            Err(_) => sent.unknown.push(value),
        }
    }
    sent
}

/// Marks the end of each partition, after all that was published.
async fn mark_ends(brokers: &Brokers) {
    for partition in 0..PARTITIONS {
        let request = PublishRequest {
            topic: "events".to_owned(),
            partition: Some(partition),
            value: END.into(),
            ..PublishRequest::default()
        };
        brokers.publish(0, &request).await;
    }
}

/// Values of each partition in order, up to the mark of its end.
async fn read(brokers: &Brokers, at: usize) -> BTreeMap<u32, Vec<(u64, String)>> {
    let request = SubscribeRequest {
        topics: vec!["events".to_owned()],
        start: Some(Start { at: Some(At::Earliest(Earliest {})) }),
        partitions: Vec::new(),
    };
    let mut stream = brokers.subscribe(at, &request).await;
    let mut read: BTreeMap<u32, Vec<(u64, String)>> = BTreeMap::new();
    let mut ends = BTreeSet::new();
    while ends.len() < PARTITIONS as usize {
        let response = tokio::time::timeout(PATIENCE, stream.message()).await.expect("messages go on");
        for message in response.unwrap().unwrap().messages {
            let value = String::from_utf8(message.value.to_vec()).unwrap();
            if value == END {
                ends.insert(message.partition);
            } else if !ends.contains(&message.partition) {
                read.entry(message.partition).or_default().push((message.offset, value));
            }
        }
    }
    read
}

struct World {
    brokers: Brokers,
    operators: Vec<Operator>,
    replicas: Vec<ReplicaId>,
    counter: u64,
    publishing: Arc<Publishing>,
}

impl World {
    /// Some publishes more are acknowledged.
    async fn goes_on(&self, what: &str) {
        let before = self.publishing.acknowledged.load(Ordering::Relaxed);
        eventually(&format!("publishes go on {what}"), async || {
            self.publishing.acknowledged.load(Ordering::Relaxed) >= before + EACH_TIME
        })
        .await;
    }

    async fn decide(&mut self, leader: usize, without: Option<usize>) {
        self.counter += 1;
        let page = page(PARTITIONS, &self.replicas, self.replicas[leader], self.counter);
        for (ordinal, operator) in self.operators.iter().enumerate() {
            if Some(ordinal) != without {
                operator.push(&page, self.counter).await;
            }
        }
        for partition in 0..PARTITIONS {
            self.operators[leader].leads(key(partition), epoch(self.counter)).await;
        }
        for (ordinal, operator) in self.operators.iter().enumerate() {
            if Some(ordinal) != without {
                operator.holds(page.number, self.counter).await;
            }
        }
    }

    /// kill -9, another leader, back again, and in sync.
    async fn blow(&mut self, victim: usize) {
        let leader = (victim + 1) % 3;
        self.brokers.kill(victim);
        self.decide(leader, Some(victim)).await;
        self.goes_on(&format!("without broker {victim}")).await;
        tokio::task::block_in_place(|| self.brokers.spawn(victim));
        self.operators[victim] = self.brokers.operator(victim, CLUSTER).await;
        let page = page(PARTITIONS, &self.replicas, self.replicas[leader], self.counter);
        self.operators[victim].push(&page, self.counter).await;
        let operator = &self.operators[leader];
        eventually(&format!("broker {victim} is in sync again"), async || {
            let heard = operator.heard.lock();
            (0..PARTITIONS).all(|partition| heard.reports[&key(partition).to_string()].in_sync.len() == 3)
        })
        .await;
        self.goes_on(&format!("with broker {victim} again")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_while_each_broker_is_killed_again_and_again() {
    let brokers = Brokers::start(3);
    let mut operators = Vec::new();
    for ordinal in 0..3 {
        operators.push(brokers.operator(ordinal, CLUSTER).await);
    }
    let replicas = operators.iter().map(Operator::replica).collect();
    let publishing = Arc::new(Publishing::default());
    let mut world = World { brokers, operators, replicas, counter: 0, publishing: publishing.clone() };
    world.decide(0, None).await;
    let ports = &world.brokers.ports;
    let publishers: Vec<_> =
        (0..4).map(|name| tokio::spawn(publish(name, ports.clone(), publishing.clone()))).collect();
    for round in 0..ROUNDS {
        world.blow(round % 3).await;
    }
    publishing.ends.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut unknown) = (Vec::new(), 0);
    for publisher in publishers {
        let sent = publisher.await.unwrap();
        acknowledged.extend(sent.acknowledged);
        unknown += sent.unknown.len();
    }
    mark_ends(&world.brokers).await;
    let one = read(&world.brokers, 0).await;
    assert_eq!(one, read(&world.brokers, 1).await);
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, value) in one.values().flatten() {
        *times.entry(value).or_default() += 1;
    }
    for partition in one.values() {
        assert!(partition.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
    println!("{} acknowledged, {unknown} of unknown outcome, {} read", acknowledged.len(), times.len());
    for value in &acknowledged {
        assert_eq!(times.get(value.as_str()), Some(&1), "{value}");
    }
}
