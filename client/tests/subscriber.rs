//! The subscriber, and first contact, against brokers that misbehave.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod server;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fulmar_client::{
    Client, Compression, ConnectError, DescribeError, ProducerError, Record, Start, SubscribeError,
    Subscriber,
};
use server::{Mood, TOPIC, World};

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

async fn world_with(records: usize, partitions: usize) -> (Arc<World>, Client) {
    let (world, client, _) = world_at(records, partitions).await;
    (world, client)
}

async fn world_at(records: usize, partitions: usize) -> (Arc<World>, Client, String) {
    let (world, address) = World::start(partitions).await;
    let client = Client::builder().server(address.clone()).connect().await.unwrap();
    let producer = client.producer(TOPIC).batch_bytes_max(1000).build().await.unwrap();
    for n in 0..records {
        drop(producer.send(Record::new(n.to_string()).key("k")).await.unwrap());
    }
    producer.close().await;
    (world, client, address)
}

async fn read_all(client: &Client, start: Start) -> Vec<String> {
    read_all_of(client, TOPIC, start).await
}

async fn read_all_of(client: &Client, topic: &str, start: Start) -> Vec<String> {
    let mut subscriber = client.subscriber(topic).start(start).until_end().build().await.unwrap();
    let mut values = Vec::new();
    while let Some(message) = subscriber.next().await {
        values.push(String::from_utf8(message.unwrap().value.to_vec()).unwrap());
    }
    values
}

fn numbered(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn everything_is_read_in_order_over_lost_streams() {
    let (world, client) = world_with(1000, 3).await;
    world.fetch_drops.store(5, Ordering::SeqCst);
    assert_eq!(read_all(&client, Start::Earliest).await, numbered(0, 1000));
}

/// Each makes a megabyte; the reader has room for a sixteenth of one.
#[tokio::test]
async fn what_comes_out_of_compressed_batches_waits_for_the_program_within_the_buffer() {
    let (world, address) = World::start(1).await;
    let client = Client::builder().server(address).connect().await.unwrap();
    for compression in [Compression::Lz4, Compression::Snappy, Compression::Zstd] {
        let producer =
            client.producer(TOPIC).compression(compression).batch_bytes_max(1 << 20).build().await.unwrap();
        for n in 0..100 {
            let record = Record::new(format!("{n} {}", "x".repeat(100_000)));
            drop(producer.send(record).await.unwrap());
        }
        producer.close().await;
    }
    assert!(world.sizes(0).iter().sum::<usize>() < 3_000_000);
    let mut subscriber = client
        .subscriber(TOPIC)
        .start(Start::Earliest)
        .buffer_bytes_max(65_536)
        .until_end()
        .build()
        .await
        .unwrap();
    let mut read = 0;
    while let Some(message) = tokio::time::timeout(PATIENCE, subscriber.next()).await.unwrap() {
        let message = message.unwrap();
        assert!(message.value.starts_with(format!("{} x", read % 100).as_bytes()) && message.offset == read);
        read += 1;
    }
    assert_eq!(read, 300);
}

#[tokio::test]
async fn an_offset_inside_a_batch_begins_there() {
    let (_world, client) = world_with(100, 1).await;
    assert_eq!(read_all(&client, Start::Offset(37)).await, numbered(37, 100));
    assert_eq!(read_all(&client, Start::Offset(100)).await, numbered(0, 0));
}

#[tokio::test]
async fn an_offset_out_of_range_is_named() {
    let (_world, client) = world_with(10, 1).await;
    let error = client.subscriber(TOPIC).start(Start::Offset(11)).build().await.unwrap_err();
    assert!(matches!(error, SubscribeError::OffsetOutOfRange { asked: 11, .. }), "{error}");
    let error = client.subscriber(TOPIC).partitions([1]).build().await.unwrap_err();
    assert!(matches!(error, SubscribeError::UnknownPartition { partition: 1, partitions: 1 }), "{error}");
}

#[tokio::test]
async fn a_partition_begins_at_the_offset_that_is_named_for_it_and_others_as_all() {
    let (_world, client) = split_world(10).await;
    let subscriber = client.subscriber(TOPIC).start(Start::Earliest).start_at([(1, 7)]).until_end();
    let mut subscriber = subscriber.build().await.unwrap();
    let mut first = [None, None];
    while let Some(message) = subscriber.next().await {
        let message = message.unwrap();
        first[message.partition as usize].get_or_insert(message.offset);
    }
    assert_eq!(first, [Some(0), Some(7)]);
    let error = client.subscriber(TOPIC).start_at([(2, 0)]).build().await.unwrap_err();
    assert!(matches!(error, SubscribeError::UnknownPartition { partition: 2, partitions: 2 }), "{error}");
    let error = client.subscriber(TOPIC).start_at([(0, 11)]).build().await.unwrap_err();
    assert!(matches!(error, SubscribeError::OffsetOutOfRange { partition: 0, asked: 11, .. }), "{error}");
}

#[tokio::test]
async fn a_reader_follows_the_leader_and_what_is_new() {
    let (world, client) = world_with(10, 1).await;
    let mut subscriber = client.subscriber(TOPIC).start(Start::Latest).build().await.unwrap();
    world.move_leader();
    let producer = client.producer(TOPIC).build().await.unwrap();
    for n in 10..20 {
        producer.publish(Record::new(n.to_string())).await.unwrap();
        let message = tokio::time::timeout(PATIENCE, subscriber.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((message.offset, &message.value[..]), (n, n.to_string().as_bytes()));
        if n % 4 == 0 {
            world.move_leader();
        }
    }
}

/// Two partitions, led by different brokers, with `records` in each.
async fn split_world(records: usize) -> (Arc<World>, Client) {
    let (world, address) = World::start(2).await;
    world.is_split.store(true, Ordering::SeqCst);
    let client = Client::builder().server(address).connect().await.unwrap();
    let producer = client.producer(TOPIC).batch_bytes_max(1000).build().await.unwrap();
    for n in 0..records * 2 {
        let partition = u32::from(n % 2 == 1);
        drop(producer.send(Record::new(n.to_string()).partition(partition)).await.unwrap());
    }
    producer.close().await;
    (world, client)
}

#[tokio::test]
async fn brokers_that_lead_different_partitions_do_not_send_a_reader_to_and_fro() {
    let (world, _) = split_world(500).await;
    let address = world.address(0);
    // As after a restart of all: whom the reader asks first is behind.
    world.stale_answers.store(1, Ordering::SeqCst);
    let client = Client::builder().server(address).connect().await.unwrap();
    let reading = read_all(&client, Start::Earliest);
    let mut values = tokio::time::timeout(PATIENCE, reading).await.expect("it ends");
    values.sort_by_key(|value| value.parse::<usize>().unwrap());
    assert_eq!(values, numbered(0, 1000));
}

#[tokio::test]
async fn a_client_that_reaches_one_broker_alone_asks_it_to_pass_on() {
    let (world, address) = World::start(2).await;
    world.is_split.store(true, Ordering::SeqCst);
    world.is_hidden.store(true, Ordering::SeqCst);
    let client = Client::builder().server(address).connect().await.unwrap();
    let producer = client.producer(TOPIC).build().await.unwrap();
    for partition in [0, 1] {
        let publishing = producer.publish(Record::new(partition.to_string()).partition(partition));
        tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap();
    }
    let mut values = read_all(&client, Start::Earliest).await;
    values.sort_unstable();
    assert_eq!(values, ["0", "1"]);
}

#[tokio::test]
async fn a_topic_that_brokers_do_not_know_for_a_moment_is_not_given_up() {
    let (world, client) = world_with(10, 1).await;
    let mut subscriber = client.subscriber(TOPIC).start(Start::Latest).build().await.unwrap();
    let producer = client.producer(TOPIC).build().await.unwrap();
    world.unknown_answers.store(4, Ordering::SeqCst);
    world.move_leader();
    world.misbehave([server::Fault::DropBefore]);
    producer.publish(Record::new("after")).await.unwrap();
    let message = tokio::time::timeout(PATIENCE, subscriber.next()).await.unwrap();
    assert_eq!(message.unwrap().unwrap().value, "after");
}

#[tokio::test]
async fn partitions_that_are_added_later_are_read_from_their_first_message() {
    let (world, client) = world_with(0, 3).await;
    let mut subscriber = client.subscriber(TOPIC).start(Start::Latest).build().await.unwrap();
    world.grow(6, 0);
    let producer = client.producer(TOPIC).build().await.unwrap();
    for partition in 0..6 {
        producer.publish(Record::new("x").partition(partition)).await.unwrap();
    }
    let mut partitions = Vec::new();
    while partitions.len() < 6 {
        let message = tokio::time::timeout(PATIENCE, subscriber.next()).await;
        partitions.push(message.unwrap().unwrap().unwrap().partition);
    }
    partitions.sort_unstable();
    assert_eq!(partitions, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_reader_of_a_pattern_goes_on_over_lost_streams_and_moved_leaders_and_takes_partitions_that_are_added()
 {
    let (world, client) = world_with(1000, 3).await;
    world.fetch_drops.store(5, Ordering::SeqCst);
    assert_eq!(read_all_of(&client, "orders.*", Start::Earliest).await, numbered(0, 1000));
    assert_eq!(read_all_of(&client, "bills.*", Start::Earliest).await, numbered(0, 0));
    let mut subscriber = client.subscriber(">").start(Start::Latest).build().await.unwrap();
    world.move_leader();
    world.grow(4, 0);
    let producer = client.producer(TOPIC).build().await.unwrap();
    for (partition, value) in [(0, "moved"), (3, "added")] {
        producer.publish(Record::new(value).partition(partition)).await.unwrap();
        let message = tokio::time::timeout(PATIENCE, subscriber.next()).await.unwrap().unwrap().unwrap();
        assert_eq!((&*message.topic, message.partition), (TOPIC, partition));
        assert_eq!(message.value, value);
    }
}

/// The next message: topic, partition, offset and value.
async fn next(subscriber: &mut Subscriber) -> (String, u32, u64, String) {
    let message = tokio::time::timeout(PATIENCE, subscriber.next()).await.expect("there is one");
    let message = message.unwrap().unwrap();
    let value = String::from_utf8(message.value.to_vec()).unwrap();
    (message.topic.to_string(), message.partition, message.offset, value)
}

#[tokio::test]
async fn a_topic_without_a_leader_keeps_no_other_that_comes_later_from_being_read() {
    let (world, client) = world_with(0, 1).await;
    let mut subscriber = client.subscriber(">").start(Start::Latest).build().await.unwrap();
    world.add("bills.v1", 1, 0);
    world.set("bills.v1", Mood::Leaderless);
    world.add("stock.v1", 2, 0);
    let producer = client.producer("stock.v1").build().await.unwrap();
    for partition in [0, 1] {
        producer.publish(Record::new("goes on").partition(partition)).await.unwrap();
    }
    let mut told = [next(&mut subscriber).await, next(&mut subscriber).await];
    told.sort_unstable();
    let said = |topic: &str, partition, value: &str| (topic.to_owned(), partition, 0, value.to_owned());
    assert_eq!(told, [said("stock.v1", 0, "goes on"), said("stock.v1", 1, "goes on")]);
    world.set("bills.v1", Mood::Well);
    let producer = client.producer("bills.v1").build().await.unwrap();
    producer.publish(Record::new("has a leader")).await.unwrap();
    assert_eq!(next(&mut subscriber).await, said("bills.v1", 0, "has a leader"));
}

#[tokio::test]
async fn a_topic_without_a_leader_is_begun_with_its_oldest_message_once_it_has_one() {
    let (world, client, address) = world_at(3, 1).await;
    world.add("orders.v2", 1, 9);
    world.set("orders.v2", Mood::Leaderless);
    let mut of_pattern = client.subscriber("orders.*").start(Start::Earliest).build().await.unwrap();
    let mut of_topic = client.subscriber("orders.v2").start(Start::Earliest).build().await.unwrap();
    for offset in 0..3 {
        assert_eq!(next(&mut of_pattern).await, (TOPIC.to_owned(), 0, offset, offset.to_string()));
    }
    world.set("orders.v2", Mood::Well);
    let producer = client.producer("orders.v2").build().await.unwrap();
    producer.publish(Record::new("has a leader")).await.unwrap();
    for subscriber in [&mut of_pattern, &mut of_topic] {
        assert_eq!(next(subscriber).await, ("orders.v2".to_owned(), 0, 9, "has a leader".to_owned()));
    }
    // Where nothing but its leader can say where to begin or to end, it is waited for.
    world.set("orders.v2", Mood::Leaderless);
    let hasty = Client::builder().server(address).request_timeout(Duration::from_secs(3));
    let hasty = hasty.connect().await.unwrap();
    for beginning in [Start::Latest, Start::Offset(9)] {
        assert!(hasty.subscriber("orders.v2").start(beginning).build().await.is_err());
    }
    assert!(hasty.subscriber("orders.v2").start(Start::Earliest).until_end().build().await.is_err());
}

#[tokio::test]
async fn what_is_heard_of_after_retention_has_passed_is_read_from_what_is_kept() {
    let (world, client) = world_with(0, 1).await;
    let mut of_topic = client.subscriber(TOPIC).start(Start::Latest).build().await.unwrap();
    let mut of_pattern = client.subscriber("orders.*").start(Start::Latest).build().await.unwrap();
    world.grow(2, 7);
    world.add("orders.v2", 1, 9);
    for (topic, partition) in [(TOPIC, 1), ("orders.v2", 0)] {
        let producer = client.producer(topic).build().await.unwrap();
        for value in ["first", "second"] {
            producer.publish(Record::new(value).partition(partition)).await.unwrap();
        }
    }
    let added = |offset, value: &str| (TOPIC.to_owned(), 1, offset, value.to_owned());
    assert_eq!(next(&mut of_topic).await, added(7, "first"));
    assert_eq!(next(&mut of_topic).await, added(8, "second"));
    let mut told = Vec::new();
    while told.len() < 4 {
        told.push(next(&mut of_pattern).await);
    }
    told.sort_unstable();
    let of_v2 = |offset, value: &str| ("orders.v2".to_owned(), 0, offset, value.to_owned());
    assert_eq!(told, [added(7, "first"), added(8, "second"), of_v2(9, "first"), of_v2(10, "second")]);
}

#[tokio::test]
async fn who_waits_at_an_end_that_a_person_gave_up_is_told_and_not_moved_back() {
    let (world, client) = world_with(0, 1).await;
    world.add("orders.v2", 1, 9);
    // Both wait at 9: one for what is oldest there, the other for what comes.
    let subscribers =
        [Start::Earliest, Start::Latest].map(|start| client.subscriber("orders.v2").start(start));
    let mut waiting = Vec::new();
    for subscriber in subscribers {
        waiting.push(subscriber.build().await.unwrap());
    }
    world.lose("orders.v2", 0, 5);
    client.producer("orders.v2").build().await.unwrap().publish(Record::new("after")).await.unwrap();
    for subscriber in &mut waiting {
        let told = tokio::time::timeout(PATIENCE, subscriber.next()).await.expect("it is told").unwrap();
        let error = told.unwrap_err();
        assert!(matches!(error, SubscribeError::OffsetOutOfRange { asked: 9, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_pattern_that_is_read_to_its_end_ends_for_a_topic_that_is_deleted_and_retained() {
    let (world, client) = world_with(20_000, 1).await;
    let subscriber = client.subscriber("orders.*").start(Start::Earliest).until_end();
    // So little that most of it is not read ahead.
    let mut subscriber = subscriber.buffer_bytes_max(65_536).build().await.unwrap();
    assert_eq!(next(&mut subscriber).await.3, "0");
    world.set(TOPIC, Mood::Retained);
    let mut read = 1;
    while let Some(message) = tokio::time::timeout(PATIENCE, subscriber.next()).await.expect("it ends") {
        assert_eq!(message.unwrap().value, read.to_string());
        read += 1;
    }
    assert!(read < 20_000, "{read} are all");
}

/// Until the world is so.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_comes_later_shares_the_buffer_with_what_was_there() {
    const BUFFER: u32 = 1024 * 1024;
    let is_shared = async |topic: &str, comes: fn(&World)| {
        let (world, client) = world_with(0, 1).await;
        let subscriber = client.subscriber(topic).buffer_bytes_max(BUFFER as usize).build().await.unwrap();
        eventually("all is for the first", || world.credits() == [BUFFER]).await;
        comes(&world);
        eventually("sixteen share it", || world.credits() == [BUFFER / 16; 16]).await;
        drop(subscriber);
    };
    tokio::join!(
        is_shared(TOPIC, |world| world.grow(16, 0)),
        is_shared(">", |world| (2..17).for_each(|n| world.add(&format!("orders.v{n}"), 1, 0))),
    );
}

#[tokio::test]
async fn what_is_no_pattern_and_what_does_not_go_with_one_is_refused_by_name() {
    let (_world, client) = world_with(0, 1).await;
    for (builder, said) in [
        (client.subscriber("orders*"), "topic: orders* is not a name, or a pattern"),
        (client.subscriber("orders.*").partitions([0]), "partitions: [0] is not allowed with a pattern"),
        (client.subscriber("orders.*").start_at([(0, 7)]), "start_at: {0: 7} is not allowed with a pattern"),
        (
            client.subscriber("*.>").start(Start::Offset(1)),
            "topic \"orders.v1\", partition 0: offset 1 is out of",
        ),
    ] {
        let error = builder.build().await.unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
}

#[tokio::test]
async fn a_slow_program_bounds_what_is_read_ahead() {
    let (_world, client) = world_with(20_000, 1).await;
    let mut subscriber = client
        .subscriber(TOPIC)
        .start(Start::Earliest)
        .buffer_bytes_max(65_536)
        .until_end()
        .build()
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut count = 0;
    while let Some(batch) = subscriber.next_batch().await {
        count += batch.unwrap().len();
    }
    assert_eq!(count, 20_000);
}

#[tokio::test]
async fn an_unknown_topic_is_named() {
    let (_world, client) = world_with(0, 1).await;
    let error = client.producer("nowhere").build().await.unwrap_err();
    assert!(matches!(error, ProducerError::Topic(DescribeError::UnknownTopic { .. })), "{error}");
    assert_eq!(error.to_string(), "there is no topic \"nowhere\"");
}

#[tokio::test]
async fn an_address_that_keeps_silent_does_not_hold_up_every_look_up_whose_turn_begins_there() {
    let (world, first) = World::start(1).await;
    let (silent, door) = world.door(1).await;
    world.tell([&first, &silent]);
    let client = Client::builder().server(first.as_str()).connect().await.unwrap();
    door.shut();
    let is_late = async || {
        let began = Instant::now();
        client.admin().topics().await.unwrap();
        began.elapsed() >= Duration::from_millis(200)
    };
    // What breaks with the shutting itself is told at once.
    let until = Instant::now() + PATIENCE;
    while !is_late().await {
        assert!(Instant::now() < until, "nobody waits for who keeps silent");
    }
    // The turn of every third would begin there again; a machine that stands still makes some more late.
    let mut late = 0;
    for _ in 0..60 {
        late += u32::from(is_late().await);
    }
    assert!(late < 10, "{late} of 60");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_not_an_address_is_named() {
    let builder = |server: &str| Client::builder().server(server).request_timeout(Duration::from_secs(3));
    let error = builder("127.0.0.1:1").connect().await.unwrap_err();
    assert!(
        matches!(error, ConnectError::Unreachable { .. }) && error.to_string().contains("refused"),
        "{error}"
    );
    for wrong in ["ftp://x:1", "localhost", "localhost:0", "localhost:70000", "http://h:1/path", ":1", ""] {
        let error = builder(wrong).connect().await.unwrap_err();
        assert!(matches!(error, ConnectError::Address { .. }), "{wrong}: {error}");
    }
    assert!(matches!(builder("https://h:1").connect().await, Err(ConnectError::Encrypted(_))));
}
