//! Three brokers, three replicas: any broker takes any message, a dead follower costs nothing, a dead leader is replaced,
//! and a reader sees each record once, in order.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fulmar_broker::storage::inspect::inspect;
use fulmar_core::id::ReplicaId;
use fulmar_proto::internal::v1 as proto;
use fulmar_proto::internal::v1::from_operator::Message as Down;
use fulmar_proto::v1::admin_client::AdminClient;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{
    DescribeTopicRequest, Earliest, PublishRequest, Start, SubscribeRequest, SubscribeResponse,
};
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::{Brokers, PATIENCE, eventually, http, nobody_leads};
use tonic::Streaming;

/// For so long a broker looks for a leader before it refuses a publish, nearly.
const BROKERS_PATIENCE: Duration = Duration::from_secs(9);

/// What has to be fast is so in one of so many tries.
const TRIES: usize = 4;

/// What a broker misses: so many records of so many bytes take longer to fetch than its first looks at itself.
const MISSED: usize = 96;
const LARGE: usize = 512 << 10;

struct Three {
    brokers: Brokers,
    operators: Vec<Operator>,
    replicas: Vec<ReplicaId>,
}

async fn three(partitions: u32) -> Three {
    let brokers = Brokers::start(3);
    let mut operators = Vec::new();
    for ordinal in 0..3 {
        operators.push(brokers.operator(ordinal, CLUSTER).await);
    }
    let replicas: Vec<ReplicaId> = operators.iter().map(Operator::replica).collect();
    let three = Three { brokers, operators, replicas };
    three.decide(partitions, 0, 1, None).await;
    three
}

impl Three {
    /// Tells all whose stream stands, and waits until they know and the leader leads. `hangs` is told, and not waited for.
    async fn decide(&self, partitions: u32, leader: usize, counter: u64, hangs: Option<usize>) {
        let page = page(partitions, &self.replicas, self.replicas[leader], counter);
        let attended = || self.operators.iter().filter(|operator| operator.heard.lock().ended.is_none());
        for operator in attended() {
            operator.push(&page, counter).await;
        }
        for partition in 0..partitions {
            self.operators[leader].leads(key(partition), epoch(counter)).await;
        }
        let hangs = hangs.map(|ordinal| self.operators[ordinal].hello.ordinal);
        for operator in attended().filter(|operator| Some(operator.hello.ordinal) != hangs) {
            operator.holds(page.number, counter).await;
        }
    }

    async fn publish(&self, at: usize, value: &str) -> u64 {
        self.brokers.publish(at, &record(value)).await.offset
    }

    /// As the controller moves a leader: no new publishes, the next one reaches the log's end; then another epoch may come. A leader
    /// takes publishes again if it does not come in seconds: it is told again.
    async fn hand_over(&self, before: usize, next: usize) {
        let next = self.replicas[next].to_string();
        eventually("the next leader holds the whole log", async || {
            let stop = proto::StopAppends { partition: key(0).to_string() };
            self.operators[before].say(Down::StopAppends(stop)).await;
            let heard = self.operators[before].heard.lock();
            heard.reports.get(&key(0).to_string()).is_some_and(|report| report.whole.contains(&next))
        })
        .await;
    }

    /// The broker gets no second chance within its own patience.
    async fn publish_at_once(&self, at: usize, value: &str) {
        let began = Instant::now();
        let mut client = self.brokers.pubsub(at).await;
        while let Err(status) = client.publish(record(value)).await {
            // It tries for ten seconds: only a machine that stands still makes that too short.
            let is_late = began.elapsed() > BROKERS_PATIENCE;
            assert!(is_late && nobody_leads(&status), "{status:?} after {:?}", began.elapsed());
        }
    }

    async fn subscribe(&self, at: usize) -> Streaming<SubscribeResponse> {
        let request = SubscribeRequest {
            topics: vec!["events".to_owned()],
            start: Some(Start { at: Some(At::Earliest(Earliest {})) }),
            partitions: Vec::new(),
        };
        self.brokers.subscribe(at, &request).await
    }
}

fn record(value: &str) -> PublishRequest {
    PublishRequest { topic: "events".to_owned(), value: value.to_owned().into(), ..PublishRequest::default() }
}

async fn take(stream: &mut Streaming<SubscribeResponse>, count: usize) -> Vec<(u64, String)> {
    let mut taken = Vec::new();
    let reading = async {
        while taken.len() < count {
            let messages = stream.message().await.unwrap().unwrap().messages;
            let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
            taken.extend(messages.into_iter().map(|message| (message.offset, text(&message.value))));
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("messages within a minute");
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn any_broker_takes_and_gives_any_message() {
    let three = three(1).await;
    for at in 0..3 {
        three.publish(at, &format!("by {at}")).await;
    }
    for at in 0..3 {
        let mut stream = three.subscribe(at).await;
        let values: Vec<String> = take(&mut stream, 3).await.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, ["by 0", "by 1", "by 2"], "read at {at}");
    }
    let mut admin = AdminClient::new(three.brokers.channel(2).await);
    eventually("broker 2 tells who leads, and that all three hold everything", async || {
        let request = DescribeTopicRequest { topic: "events".to_owned() };
        let topic = admin.describe_topic(request).await.unwrap().into_inner();
        let partition = &topic.partitions[0];
        partition.leader == Some(0) && partition.serving && partition.in_sync == [0, 1, 2]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_follower_costs_nothing_and_catches_up() {
    let mut three = three(2).await;
    three.publish(0, "first").await;
    three.brokers.kill(2);
    for number in 0..20 {
        three.publish(number % 2, &format!("without 2: {number}")).await;
    }
    three.brokers.spawn(2);
    // Broker 2 back, broker 1 gone: what is acknowledged now needs broker 2.
    three.brokers.kill(1);
    three.publish(0, "with 2 again").await;
    let mut stream = three.subscribe(2).await;
    assert_eq!(take(&mut stream, 22).await.len(), 22);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_away_is_ready_once_it_has_what_was_committed_meanwhile() {
    let mut three = three(1).await;
    let large = "x".repeat(LARGE);
    three.publish(0, "before").await;
    assert!(three.brokers.terminate(2).success());
    let mut last = 0;
    for _ in 0..MISSED {
        last = three.publish(0, &large).await;
    }
    // It follows at once, and all that it has is committed: that is not enough.
    three.brokers.launch(2);
    let address = three.brokers.ports[2].http;
    eventually("broker 2 says that it is ready", async || {
        let up = tokio::net::TcpStream::connect(address).await.is_ok();
        up && http::get(address, "/readyz").status == 200
    })
    .await;
    three.brokers.kill(2);
    let volume = inspect(&three.brokers.data(2)).unwrap();
    let replica = volume.replicas.iter().find(|replica| replica.key == key(0)).unwrap();
    assert!(replica.log_end.0 > last, "it was ready with {} of {} offsets", replica.log_end, last + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_leader_is_replaced_and_nothing_is_lost_or_read_twice() {
    let mut three = three(1).await;
    let mut stream = three.subscribe(1).await;
    for number in 0..50 {
        three.publish(number % 3, &format!("{number}")).await;
    }
    let mut read = take(&mut stream, 50).await;
    three.brokers.kill(0);
    eventually("the stream to broker 0 ends", async || three.operators[0].heard.lock().ended.is_some()).await;
    three.decide(1, 2, 2, None).await;
    for number in 50..100 {
        three.publish(1 + number % 2, &format!("{number}")).await;
    }
    read.extend(take(&mut stream, 50).await);
    let values: Vec<String> = read.iter().map(|(_, value)| value.clone()).collect();
    let wanted: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(values, wanted);
    let offsets: BTreeSet<u64> = read.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets.len(), 100);
    // The old leader comes back as a follower and holds the same.
    three.brokers.spawn(0);
    three.brokers.kill(1);
    three.publish(0, "100").await;
    let mut stream = three.subscribe(0).await;
    assert_eq!(take(&mut stream, 101).await.len(), 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_move_costs_no_publish_an_error() {
    let three = three(1).await;
    let publishing = async {
        for number in 0..200 {
            three.publish_at_once(number % 3, &format!("{number}")).await;
        }
    };
    let moving = async {
        for (counter, leader, before) in [(2, 1, 0), (3, 2, 1), (4, 0, 2)] {
            tokio::time::sleep(Duration::from_millis(100)).await;
            three.hand_over(before, leader).await;
            three.decide(1, leader, counter, None).await;
        }
    };
    tokio::join!(publishing, moving);
    let mut stream = three.subscribe(0).await;
    let mut values: Vec<u64> =
        take(&mut stream, 200).await.iter().map(|(_, value)| value.parse().unwrap()).collect();
    values.sort_unstable();
    assert_eq!(values, (0..200).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hangs_is_replaced_and_gives_way_when_it_wakes() {
    let three = three(1).await;
    for number in 0..10 {
        three.publish(0, &format!("{number}")).await;
    }
    three.brokers.signal(0, rustix::process::Signal::STOP);
    three.decide(1, 1, 2, Some(0)).await;
    for number in 10..20 {
        three.publish(1 + number % 2, &format!("{number}")).await;
    }
    three.brokers.signal(0, rustix::process::Signal::CONT);
    // Until it has heard, it may take a record that it then cannot answer for.
    let mut admin = AdminClient::new(three.brokers.channel(0).await);
    eventually("who woke up knows the next leader", async || {
        let request = DescribeTopicRequest { topic: "events".to_owned() };
        let topic = admin.describe_topic(request).await;
        topic.is_ok_and(|topic| topic.into_inner().partitions[0].leader == Some(1))
    })
    .await;
    for number in 20..30 {
        three.publish(0, &format!("{number}")).await;
    }
    let mut stream = three.subscribe(0).await;
    let values: Vec<String> = take(&mut stream, 30).await.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, (0..30).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_hangs_stalls_nobody() {
    let three = three(1).await;
    let mut count = 0;
    // A machine that stands still stalls everybody, once; a leader that waits for a follower does it each time.
    let mut took = Duration::MAX;
    for _ in 0..TRIES {
        three.brokers.signal(2, rustix::process::Signal::STOP);
        let began = Instant::now();
        for number in 0..50 {
            three.publish(0, &format!("{number}")).await;
        }
        took = took.min(began.elapsed());
        count += 50;
        three.brokers.signal(2, rustix::process::Signal::CONT);
        let mut stream = three.subscribe(2).await;
        assert_eq!(take(&mut stream, count).await.len(), count);
        if took < Duration::from_secs(5) {
            return;
        }
    }
    panic!("fifty publishes took {took:?} at best");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_followers_are_gone_stops_long_before_its_grace_is_over() {
    let mut three = three(1).await;
    three.publish(0, "acknowledged").await;
    for follower in [1, 2] {
        three.brokers.signal(follower, rustix::process::Signal::STOP);
    }
    let mut client = three.brokers.pubsub(0).await;
    let in_doubt = tokio::spawn(async move { client.publish(record("in doubt")).await });
    // It is appended within milliseconds, and nobody will ever acknowledge it.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let began = Instant::now();
    let ended = three.brokers.terminate(0);
    assert!(ended.success(), "{ended}");
    // The grace is two minutes, and ten seconds of it are kept for the volume.
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    assert!(in_doubt.await.unwrap().is_err(), "nobody had acknowledged it");
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_finds_everybody() {
    let three = three(1).await;
    for operator in &three.operators {
        eventually("gossip sees three", async || operator.heard.lock().alive == [0, 1, 2]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_volume_at_an_old_address_is_seen_alive_within_4_s() {
    let mut three = three(1).await;
    let alive = |three: &Three| three.operators[0].heard.lock().alive.clone();
    eventually("gossip sees three", async || alive(&three) == [0, 1, 2]).await;
    // A machine that stands still makes it longer, once; a life that is taken for the old one takes as long as that each time.
    let mut took = Duration::MAX;
    for _ in 0..TRIES {
        // A life of so many heartbeats, at the same place and with the same session as the one to come.
        tokio::time::sleep(Duration::from_secs(8)).await;
        three.brokers.kill(2);
        eventually("gossip sees a death", async || alive(&three) == [0, 1]).await;
        std::fs::remove_dir_all(three.brokers.data(2)).unwrap();
        three.brokers.spawn(2);
        let began = Instant::now();
        eventually("gossip sees the new life", async || alive(&three) == [0, 1, 2]).await;
        took = took.min(began.elapsed());
        if took < Duration::from_secs(4) {
            return;
        }
    }
    panic!("{took:?} at best");
}
