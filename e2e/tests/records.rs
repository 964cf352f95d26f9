//! Promise: an acknowledged record is never lost, with the default settings; brokers are restarted and killed meanwhile.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::Instant;

use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::records::Acknowledged;

const RECORDS: u64 = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_records_outlive_restarts_and_kills_of_every_broker() {
    let yaml = cluster(3) + &topic("events", 6, "");
    let started = Instant::now();
    let brokers = Brokers::apply("records", &yaml).unwrap();
    brokers.await_ready("flc/orders").unwrap();
    brokers.await_ready("flt/events").unwrap();
    println!("Ready {:.1} s after apply", started.elapsed().as_secs_f64());

    let client = brokers.client(0).await.unwrap();
    let publishing = tokio::spawn(async move {
        let mut acknowledged = Acknowledged::default();
        let published = acknowledged.publish(&client, "events", RECORDS, 42).await;
        (acknowledged, published)
    });
    let rounds = tokio::task::block_in_place(|| {
        let mut rounds = 0;
        // Every broker at least once each way, and on while records are published.
        while rounds < 1 || !publishing.is_finished() {
            for ordinal in 0..3 {
                brokers.replace_pod(ordinal).unwrap();
                brokers.kill_and_await(ordinal).unwrap();
            }
            rounds += 1;
        }
        rounds
    });
    let (acknowledged, outcome) = publishing.await.unwrap();
    outcome.unwrap();
    println!("{} records acknowledged through {rounds} rounds of restarts and kills", acknowledged.count());
    assert_eq!(acknowledged.count() as u64, RECORDS);
    let client = brokers.client(1).await.unwrap();
    acknowledged.compare(&client, "events").await.unwrap();
}
