//! The producer against brokers that misbehave.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod server;

use std::time::{Duration, Instant};

use fulmar_client::v1::ErrorReason;
use fulmar_client::{Client, Compression, Producer, ProducerBuilder, Record, SendError};
use rand::SeedableRng;
use rand::prelude::*;
use server::{Fault, TOPIC, World};
use std::sync::Arc;

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A time in which there are some answers, or refusals, unless the machine stands still: then it is tried again, so often at most.
const SHORT: Duration = Duration::from_secs(2);
const TRIES: usize = 5;

async fn producer(
    partitions: usize,
    set: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
) -> (Arc<World>, Producer) {
    let (world, address) = World::start(partitions).await;
    let client = Client::builder().server(address).connect().await.unwrap();
    (world, set(client.producer(TOPIC)).build().await.unwrap())
}

fn numbered(from: usize, to: usize) -> Vec<(u64, String)> {
    (from..to).map(|n| (n as u64, n.to_string())).collect()
}

/// Hands `count` numbered records over, then awaits each, and checks that acknowledgements tell the truth.
async fn publish_numbered(world: &World, producer: &Producer, count: usize) {
    let mut deliveries = Vec::new();
    for n in 0..count {
        deliveries.push(producer.send(Record::new(n.to_string())).await.unwrap());
    }
    for (n, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, n as u64);
    }
    assert_eq!(world.records(0), numbered(0, count));
}

#[tokio::test]
async fn records_stand_where_their_acknowledgement_says() {
    let (world, producer) = producer(1, |builder| builder.batch_bytes_max(1000)).await;
    publish_numbered(&world, &producer, 500).await;
}

#[tokio::test]
async fn records_that_come_together_share_batches() {
    let (world, producer) = producer(1, |builder| builder).await;
    publish_numbered(&world, &producer, 1000).await;
    let batches = world.appended.load(std::sync::atomic::Ordering::SeqCst);
    assert!(batches < 200, "{batches} batches for 1000 records");
}

#[tokio::test]
async fn compressed_batches_are_sent_again_like_others_and_are_smaller() {
    let mut sizes = Vec::new();
    for compression in Compression::ALL {
        let (world, producer) =
            producer(1, |builder| builder.batch_bytes_max(4000).compression(compression)).await;
        world.misbehave([Fault::DropAfter, Fault::DropBefore, Fault::Move, Fault::DropAfter]);
        publish_numbered(&world, &producer, 2000).await;
        sizes.push(world.sizes(0).iter().sum::<usize>());
    }
    assert!(sizes[1..].iter().all(|size| size * 3 < sizes[0] * 2), "{sizes:?}");
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_record() {
    let (world, producer) = producer(1, |builder| builder.batch_bytes_max(1000)).await;
    world.misbehave([Fault::DropAfter, Fault::DropBefore, Fault::DropAfter, Fault::DropAfter]);
    publish_numbered(&world, &producer, 300).await;
}

#[tokio::test]
async fn a_broker_of_another_cluster_that_answers_for_a_while_makes_no_second_record() {
    let (world, producer) = producer(1, |builder| builder.batch_bytes_max(1000)).await;
    world.foreign_answers.store(3, std::sync::atomic::Ordering::SeqCst);
    world.misbehave([Fault::DropAfter, Fault::DropAfter, Fault::DropAfter, Fault::DropAfter]);
    publish_numbered(&world, &producer, 300).await;
    assert_eq!(world.foreign_answers.load(std::sync::atomic::Ordering::SeqCst), 0, "it was asked");
}

#[tokio::test]
async fn a_moved_leader_is_followed() {
    let (world, producer) = producer(1, |builder| builder.batch_bytes_max(1000)).await;
    world.misbehave([Fault::Move, Fault::DropAfter, Fault::Move, Fault::Move]);
    publish_numbered(&world, &producer, 300).await;
}

#[tokio::test]
async fn whatever_may_be_retried_keeps_order_and_makes_no_duplicates() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (world, producer) = producer(1, |builder| builder.batch_bytes_max(1000).in_flight_max(16)).await;
    let faults = [
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::Move,
        Fault::Refuse(ErrorReason::NotEnoughReplicas),
        Fault::Refuse(ErrorReason::Moving),
        Fault::Refuse(ErrorReason::OutcomeUnknown),
        Fault::Refuse(ErrorReason::Busy),
    ];
    // Twice as many good answers, or the backoff would be what is tested.
    let next = |random: &mut StdRng| match random.random_range(0..3) {
        0 => *faults.choose(random).unwrap(),
        _ => Fault::Well,
    };
    world.misbehave((0..90).map(|_| next(&mut random)));
    publish_numbered(&world, &producer, 3000).await;
}

#[tokio::test]
async fn keys_stay_in_order_over_partitions_and_faults() {
    let (world, producer) = producer(4, |builder| builder.batch_bytes_max(1000)).await;
    world.misbehave([Fault::DropAfter, Fault::Move, Fault::DropBefore, Fault::Move, Fault::DropAfter]);
    let mut deliveries = Vec::new();
    for n in 0..2000 {
        let record = Record::new(format!("{}:{}", n % 20, n)).key((n % 20).to_string());
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let mut seen = 0;
    for partition in 0..4 {
        let mut last = std::collections::HashMap::new();
        for (_, value) in world.records(partition) {
            let (key, n) = value.split_once(':').unwrap();
            let n: u32 = n.parse().unwrap();
            assert!(
                last.insert(key.to_owned(), n).is_none_or(|before| before < n),
                "{value} came twice or late"
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 2000);
}

#[tokio::test]
async fn a_forgotten_producer_takes_a_new_id() {
    let (world, producer) = producer(1, |builder| builder).await;
    producer.publish(Record::new("0")).await.unwrap();
    world.misbehave([Fault::Forget]);
    producer.publish(Record::new("1")).await.unwrap();
    producer.publish(Record::new("2")).await.unwrap();
    assert_eq!(world.records(0), numbered(0, 3));
}

#[tokio::test]
async fn a_refused_batch_fails_alone() {
    let (world, producer) = producer(1, |builder| builder.in_flight_max(4).batch_bytes_max(1000)).await;
    world.misbehave([Fault::Refuse(ErrorReason::CorruptBatch)]);
    let mut failed = 0;
    let mut deliveries = Vec::new();
    for n in 0..300 {
        deliveries.push(producer.send(Record::new(n.to_string())).await.unwrap());
    }
    for delivery in deliveries {
        match delivery.await {
            Ok(_) => {}
            Err(SendError::Refused(failure)) => {
                assert_eq!(failure.reason, Some(ErrorReason::CorruptBatch));
                failed += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    let records = world.records(0);
    assert!(failed > 0 && failed < 300);
    assert_eq!(records.len(), 300 - failed);
    assert!(records.windows(2).all(|pair| pair[0].1.parse::<u32>().unwrap() < pair[1].1.parse().unwrap()));
}

#[tokio::test]
async fn what_was_refused_in_time_is_known_not_to_be_there() {
    let (world, producer) = producer(1, |builder| builder.delivery_timeout(SHORT)).await;
    world.misbehave((0..1000).map(|_| Fault::Refuse(ErrorReason::NotEnoughReplicas)));
    let is_told = |error: &SendError| {
        matches!(error, SendError::TimedOut { failure, .. }
        if failure.reason == Some(ErrorReason::NotEnoughReplicas))
    };
    let mut error = producer.publish(Record::new("x")).await.unwrap_err();
    for _ in 1..TRIES {
        if !is_told(&error) {
            error = producer.publish(Record::new("x")).await.unwrap_err();
        }
    }
    assert!(is_told(&error), "{error}");
    assert!(world.records(0).is_empty());
    world.faults.lock().unwrap().clear();
    publish_in_some_try(&producer).await;
    assert!(world.records(0).iter().all(|(_, value)| value == "0"), "{:?}", world.records(0));
}

#[tokio::test]
async fn what_was_not_answered_in_time_is_in_doubt() {
    let (world, producer) = producer(1, |builder| builder.delivery_timeout(SHORT)).await;
    producer.publish(Record::new("0")).await.unwrap();
    world.misbehave([Fault::Silence]);
    let error = producer.publish(Record::new("x")).await.unwrap_err();
    assert!(matches!(error, SendError::OutcomeUnknown { .. }), "{error}");
    publish_in_some_try(&producer).await;
}

async fn publish_in_some_try(producer: &Producer) {
    for _ in 1..TRIES {
        if producer.publish(Record::new("0")).await.is_ok() {
            return;
        }
    }
    producer.publish(Record::new("0")).await.unwrap();
}

#[tokio::test]
async fn a_silent_leader_that_was_replaced_is_left() {
    let (world, producer) = producer(1, |builder| builder).await;
    // From the second broker on, whose address is not the one that was given.
    world.move_leader();
    producer.publish(Record::new("0")).await.unwrap();
    world.misbehave([Fault::Silence]);
    let second = producer.send(Record::new("1")).await.unwrap();
    // Until the leader has it.
    let silenced = async {
        while !world.faults.lock().unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, silenced).await.unwrap();
    world.move_leader();
    second.await.unwrap();
    assert_eq!(world.records(0), numbered(0, 2));
}

#[tokio::test]
async fn a_program_goes_on_when_all_addresses_are_gone_that_it_knew_before_a_roll() {
    let (world, _) = World::start(2).await;
    let now = [world.address(0), world.address(1)];
    let (first, second) = (world.door(0).await, world.door(1).await);
    world.tell([&first.0, &second.0]);
    let client = Client::builder().server(first.0.as_str()).connect().await.unwrap();
    let producer = client.producer(TOPIC).build().await.unwrap();
    let publish = || {
        let both = [0, 1].map(|partition| producer.publish(Record::new("0").partition(partition)));
        tokio::time::timeout(PATIENCE, futures::future::try_join_all(both))
    };
    publish().await.unwrap().unwrap();
    // The brokers come up at other addresses; who publishes goes where the old leader says.
    world.tell([&now[0], &now[1]]);
    world.misbehave([Fault::Move]);
    publish().await.unwrap().unwrap();
    first.1.shut();
    second.1.shut();
    world.misbehave([Fault::DropBefore, Fault::DropBefore]);
    publish().await.unwrap().unwrap();
}

#[tokio::test]
async fn without_idempotence_a_lost_answer_is_told_and_not_repeated() {
    let (world, producer) = producer(1, |builder| builder.idempotent(false)).await;
    world.misbehave([Fault::Refuse(ErrorReason::NotEnoughReplicas), Fault::DropAfter]);
    let error = producer.publish(Record::new("0")).await.unwrap_err();
    assert!(matches!(error, SendError::OutcomeUnknown { .. }), "{error}");
    producer.publish(Record::new("1")).await.unwrap();
    assert_eq!(world.records(0), numbered(0, 2));
}

#[tokio::test]
async fn a_record_over_the_limit_is_refused_before_it_is_sent() {
    let (world, producer) = producer(1, |builder| builder).await;
    let error = producer.publish(Record::new(vec![0; 1024 * 1024 + 1])).await.unwrap_err();
    assert!(matches!(error, SendError::TooLarge { bytes_max: 1_048_576, .. }), "{error}");
    producer.publish(Record::new(vec![b'x'; 1024 * 1024])).await.unwrap();
    let error = producer.publish(Record::new("x").partition(7)).await.unwrap_err();
    assert!(matches!(error, SendError::UnknownPartition { partition: 7, partitions: 1 }), "{error}");
    assert_eq!(world.records(0).len(), 1);
}

#[tokio::test]
async fn a_full_buffer_makes_senders_wait() {
    let (world, producer) = producer(1, |builder| builder.buffer_bytes_max(100_000)).await;
    world.misbehave([Fault::Silence]);
    let filling = async {
        loop {
            drop(producer.send(Record::new(vec![0; 1000])).await.unwrap());
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(300), filling).await.is_err());
}

#[tokio::test]
async fn close_waits_for_what_was_handed_over_and_takes_no_more() {
    // A machine that stands still makes it longer, once; a linger that is waited for does it each time.
    let linger = Duration::from_secs(10);
    let mut took = Duration::MAX;
    for _ in 0..TRIES {
        let (world, producer) = producer(3, |builder| builder.linger(linger)).await;
        let clone = producer.clone();
        for n in 0..100 {
            drop(producer.send(Record::new(n.to_string())).await.unwrap());
        }
        let began = Instant::now();
        producer.close().await;
        took = took.min(began.elapsed());
        assert_eq!((0..3).map(|partition| world.records(partition).len()).sum::<usize>(), 100);
        assert!(matches!(clone.send(Record::new("x")).await, Err(SendError::Closed)));
        if took < linger / 2 {
            return;
        }
    }
    panic!("it took {took:?} at best");
}
