//! First figures of one broker; run by hand: `cargo test -p fulmar-broker --test measure -- --ignored --nocapture`.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::time::{Duration, Instant};

use fulmar_core::batch::{ProducedBatch, Record};
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::produce_response::Outcome;
use fulmar_proto::v1::{ProduceRequest, PublishRequest};
use support::Brokers;
use support::operator::{CLUSTER, TOPIC, epoch, key, page};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const PARTITIONS: u32 = 16;
const FOR: Duration = Duration::from_secs(4);

fn request(records: usize, number: u64) -> ProduceRequest {
    let record = Record { value: vec![7; 1024].into(), ..Record::default() };
    let batch = ProducedBatch::build(&vec![record; records], None).unwrap();
    ProduceRequest {
        topic_id: TOPIC.to_bytes().to_vec().into(),
        partition: u32::try_from(number % u64::from(PARTITIONS)).unwrap(),
        batch: batch.bytes().clone(),
        correlation_id: number,
    }
}

/// Records a second, with so many batches under way.
async fn produce(brokers: &Brokers, records: usize, under_way: usize) -> (f64, Vec<Duration>) {
    let mut client = LogClient::new(brokers.channel(0).await);
    let (send, requests) = mpsc::channel(under_way);
    let mut answers = client.produce(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let began = Instant::now();
    let (mut sent_at, mut took) = (std::collections::VecDeque::new(), Vec::new());
    let mut number = 0;
    while began.elapsed() < FOR || !sent_at.is_empty() {
        while sent_at.len() < under_way && began.elapsed() < FOR {
            send.send(request(records, number)).await.unwrap();
            sent_at.push_back(Instant::now());
            number += 1;
        }
        let answer = answers.message().await.unwrap().unwrap();
        assert!(matches!(answer.outcome, Some(Outcome::BaseOffset(_))), "{answer:?}");
        took.push(sent_at.pop_front().unwrap().elapsed());
    }
    took.sort_unstable();
    (took.len() as f64 * records as f64 / began.elapsed().as_secs_f64(), took)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn durable_publishes_of_one_broker() {
    let brokers = Brokers::start(1);
    let operator = brokers.operator(0, CLUSTER).await;
    let me = operator.replica();
    operator.push(&page(PARTITIONS, &[me], me, 1), 1).await;
    for partition in 0..PARTITIONS {
        operator.leads(key(partition), epoch(1)).await;
    }
    println!("idle: {} MiB resident", brokers.resident_mebibytes(0));
    for (records, under_way) in [(1, 1), (1, 64), (1, 512), (63, 16), (63, 64)] {
        let (rate, took) = produce(&brokers, records, under_way).await;
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        println!(
            "{records} records of 1 KiB a batch, {under_way} batches under way: {rate:.0} records/s, p50 {:?} p99 {:?}",
            at(0.5),
            at(0.99)
        );
    }
    println!("after that: {} MiB resident", brokers.resident_mebibytes(0));
    let mut client = brokers.pubsub(0).await;
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < FOR {
        let request = PublishRequest {
            topic: "events".to_owned(),
            value: vec![7; 1024].into(),
            ..PublishRequest::default()
        };
        client.publish(request).await.unwrap();
        count += 1;
    }
    println!("PubSub.Publish one after the other: {:.0}/s", f64::from(count) / began.elapsed().as_secs_f64());
}
