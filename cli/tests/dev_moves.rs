//! Planned moves of leaders, as programs see them: no error, a moment's wait.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod dev;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dev::Dev;
use dev::ports::Block;
use fulmar_client::{Client, Producer, Record};
use rustix::process::{Signal, kill_process};

const PARTITIONS: u32 = 24;

/// So much for a build without optimization on a machine that is busy with other tests, besides what the machine itself stood still;
/// what it took is printed. A move that goes wrong takes five seconds and more.
const STALL_MAX: Duration = Duration::from_secs(4);

/// A preferred leader has been well and in sync for so long before it leads again.
const WELL: Duration = Duration::from_mins(1);

const YAML: &str = "\
apiVersion: fulmar.dev/v1alpha1
kind: Cluster
metadata: {name: orders}
spec: {replicas: 3}
---
apiVersion: fulmar.dev/v1alpha1
kind: Topic
metadata: {name: moved}
spec: {clusterRef: {name: orders}, partitions: 24}
";

/// One publish after the other to one partition: when each began, and how long it took.
async fn publish(producer: Producer, partition: u32, stop: Arc<AtomicBool>) -> Vec<(Instant, Duration)> {
    let (mut taken, mut last) = (Vec::new(), None);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let record = Record::new("x".repeat(100)).partition(partition);
        let ack =
            producer.publish(record).await.unwrap_or_else(|error| panic!("partition {partition}: {error}"));
        assert!(
            last.is_none_or(|last| last < ack.offset),
            "partition {partition}: {} after {last:?}",
            ack.offset
        );
        last = Some(ack.offset);
        taken.push((began, began.elapsed()));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    taken
}

/// Who leads each partition.
fn leaders(dev: &Dev) -> Vec<i64> {
    let described: serde_json::Value =
        serde_json::from_str(&dev.fulmar(&["topic", "describe", "moved", "-o", "json"])).unwrap();
    let partitions = described["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), PARTITIONS as usize);
    partitions.iter().map(|partition| partition["leader"].as_i64().unwrap_or(-1)).collect()
}

/// What the machine lets a program wait that does next to nothing: write a little, sync it, sleep.
async fn canary(file: PathBuf, stop: Arc<AtomicBool>) -> Vec<(Instant, Duration)> {
    let mut taken = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let path = file.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut file = fs::File::create(path)?;
            file.write_all(&[7; 4096])?;
            file.sync_all()
        });
        written.await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        taken.push((began, began.elapsed()));
    }
    taken
}

/// The longest wait of each partition that was, in part at least, between two moments; sorted.
fn longest(all: &[Vec<(Instant, Duration)>], from: Instant, to: Instant) -> Vec<Duration> {
    let within = |(began, took): &&(Instant, Duration)| *began + *took >= from && *began < to;
    let mut longest: Vec<Duration> =
        all.iter().filter_map(|one| one.iter().filter(within).map(|(_, took)| *took).max()).collect();
    longest.sort_unstable();
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_move_away_and_home_again_without_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data, ports) = (dir.path().join("orders.yaml"), dir.path().join("data"), Block::take());
    let base = ports.base;
    fs::write(&file, YAML).unwrap();
    let mut dev = Dev::start(&file, &data, base);
    dev.wait_for_start("ready: 3 brokers, 1 topics");
    // A new topic is led by its preferred leaders.
    let at_home = leaders(&dev);
    let away = |dev: &Dev| leaders(dev).iter().zip(&at_home).filter(|(now, home)| now != home).count();

    let server = format!("http://127.0.0.1:{base}");
    let client = Client::builder().server(&server).connect().await.unwrap();
    let producer = client.producer("moved").build().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let canary = tokio::spawn(canary(dir.path().join("canary"), Arc::clone(&stop)));
    let publishers: Vec<_> = (0..PARTITIONS)
        .map(|partition| tokio::spawn(publish(producer.clone(), partition, Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(Duration::from_secs(5)).await;

    let told = Instant::now();
    kill_process(dev.broker("orders-1"), Signal::TERM).unwrap();
    dev.wait_for_start("broker orders-1 ended with code 0");
    dev.wait_for_start("broker orders-1 runs");
    dev.wait_for_start("ready: 3 brokers");
    let moved = away(&dev);
    assert!(moved >= 6, "a third of the partitions: {moved}");
    let deadline = Instant::now() + Duration::from_mins(3);
    while away(&dev) > 0 {
        assert!(Instant::now() < deadline, "{} are still away", away(&dev));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let home = Instant::now();
    // From before it stopped: however late this test hears of its return, the minute that it has to be well for fits in.
    assert!(home - told >= WELL, "not before their broker was well for a minute: {:?}", home - told);
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    let canary = [canary.await.unwrap()];
    let mut all = Vec::new();
    for publisher in publishers {
        all.push(publisher.await.unwrap());
    }
    println!(
        "{} publishes, {moved} partitions moved away and home, no error",
        all.iter().map(Vec::len).sum::<usize>()
    );
    for (what, from, to) in [
        ("undisturbed", told.checked_sub(Duration::from_secs(4)).unwrap(), told),
        ("away", told, told + Duration::from_secs(5)),
        ("home", home.checked_sub(Duration::from_secs(8)).unwrap(), home + Duration::from_secs(1)),
    ] {
        let waits = longest(&all, from, to);
        let max = waits.last().unwrap();
        // A wait may begin before and end after.
        let still = longest(&canary, from.checked_sub(*max).unwrap_or(from), to + *max)[0];
        println!(
            "{what}: the longest wait of each partition: p50 {:?}, max {max:?}; of the machine itself {still:?}",
            waits[waits.len() / 2]
        );
        assert!(*max <= STALL_MAX + still, "{what}, {still:?} of them the machine's: {waits:?}");
    }
    assert_eq!(dev.interrupt(), Some(0));
}
