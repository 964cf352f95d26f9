//! Promise: Ready=True means that the brokers concerned have acknowledged and can commit. Never earlier.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::time::{Duration, Instant};

use fulmar_client::Record;
use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::clients::producer;
use fulmar_e2e::environment::Environment;
use fulmar_e2e::health::Health;
use fulmar_e2e::wait;

/// So long a lie would have to be kept up to be seen: many times what becoming Ready takes.
const WATCHED: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_not_ready_before_a_stopped_broker_acknowledges() {
    let brokers = Brokers::apply("ready", &(cluster(3) + &topic("before", 3, ""))).unwrap();
    brokers.await_ready("flt/before").unwrap();
    for object in ["flc/orders", "flt/before"] {
        brokers.await_health(object, Health::Healthy).unwrap();
    }
    // Passes that follow at once, before the watch shows what was written, tell it no second time.
    wait::until_so(
        "that it is Ready is told",
        Duration::from_secs(30),
        || Ok(brokers.events("Ready")?.1 > 0),
    )
    .unwrap();
    let (notes, told) = brokers.events("Ready").unwrap();
    assert_eq!((notes.len(), told), (1, 1), "{notes:?}");
    let environment = Environment::get().unwrap();
    // ackQuorum 3 of 3: every broker is needed, this one too.
    let frozen = environment.nodes().unwrap().freeze(brokers.process(2).unwrap()).unwrap();
    environment
        .apply(brokers.namespace(), &topic("all-three", 1, "replicationFactor: 3\n  ackQuorum: 3"))
        .unwrap();
    let watched = Instant::now();
    while watched.elapsed() < WATCHED {
        let ready = brokers.condition("flt/all-three", "Ready").unwrap();
        assert_ne!(ready.as_ref().map(|ready| ready.0.as_str()), Some("True"), "{ready:?}");
        // Whoever waits for it goes on waiting.
        brokers.check_health("flt/all-three", Health::Progressing).unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(frozen);
    brokers.await_ready("flt/all-three").unwrap();
    brokers.await_health("flt/all-three", Health::Healthy).unwrap();
    let producer = producer(&brokers.client(0).await.unwrap(), "all-three").await.unwrap();
    producer.publish(Record::new("now")).await.unwrap();
}
