//! Promise: without a control plane (operator or API server) publishing and consuming go on, through restarts of brokers and
//! through dead followers.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use fulmar_client::Record;
use fulmar_e2e::brokers::{Brokers, SOON, cluster, topic};
use fulmar_e2e::clients::producer;
use fulmar_e2e::environment::Environment;
use fulmar_e2e::installation;
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::wait;

/// A publish to a partition whose leader lives takes no notice of a dead follower: far below any time-out.
const UNDISTURBED: Duration = Duration::from_secs(2);

/// It has to be so in one of so many tries.
const TRIES: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_serve_restart_and_rejoin_without_an_operator() {
    let brokers = Brokers::apply("no-operator", &(cluster(3) + &topic("events", 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let environment = Environment::get().unwrap();
    installation::scale(environment, 0).unwrap();

    let mut acknowledged = Acknowledged::default();
    let client = brokers.client(0).await.unwrap();
    acknowledged.publish(&client, "events", 1_000, 1).await.unwrap();

    // A follower that stands still stalls nothing. A machine that does stalls everything, once.
    let mut took = Duration::MAX;
    let mut follower = 0;
    for _ in 0..TRIES {
        let leader = brokers.await_whole("events").await.unwrap()[0];
        follower = (leader + 1) % 3;
        // Who looks around does it before: the client may have begun at this very broker.
        let producer = producer(&client, "events").await.unwrap();
        producer.publish(Record::new("while all are well").partition(0)).await.unwrap();
        let frozen = environment.nodes().unwrap().freeze(brokers.process(follower).unwrap()).unwrap();
        let started = Instant::now();
        producer.publish(Record::new("while a follower stands still").partition(0)).await.unwrap();
        took = took.min(started.elapsed());
        drop(frozen);
        if took < UNDISTURBED {
            break;
        }
    }
    assert!(took < UNDISTURBED, "a publish took {took:?} with a frozen follower, at best");

    // A restarted broker comes back by itself, and leads again what it led.
    brokers.kill_and_await(follower).unwrap();
    let client = brokers.client(follower).await.unwrap();
    let producer = producer(&client, "events").await.unwrap();
    for partition in 0..3 {
        producer.publish(Record::new("after the restart").partition(partition)).await.unwrap();
    }
    installation::scale(environment, 1).unwrap();
    brokers.await_ready("flt/events").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_serve_while_the_api_server_is_away_for_a_minute() {
    let brokers = Brokers::apply("no-api-server", &(cluster(3) + &topic("events", 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let environment = Environment::get().unwrap();
    let client = brokers.client(0).await.unwrap();
    let away = environment.nodes().unwrap().without_api_server().unwrap();
    let until = Instant::now() + Duration::from_mins(1);
    let mut acknowledged = Acknowledged::default();
    let mut seed = 0;
    while Instant::now() < until {
        acknowledged.publish(&client, "events", 500, seed).await.unwrap();
        seed += 1;
        // A steady trickle: the minute is the point, not how much fits into it.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    drop(away);
    acknowledged.compare(&client, "events").await.unwrap();
    println!("{} records acknowledged without an API server", acknowledged.count());
    // The operator finds its way back: a new Topic becomes Ready.
    wait::until_so("the API server is back", SOON, || {
        environment.kubectl(&["get", "--raw", "/readyz"]).map(|_| true)
    })
    .unwrap();
    environment.apply(brokers.namespace(), &topic("later", 1, "")).unwrap();
    brokers.await_ready("flt/later").unwrap();
}
