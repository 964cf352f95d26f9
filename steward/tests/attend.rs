//! Claims about a steward, over real sockets and real mutual TLS.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod double;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use double::{Authority, FakeBroker, MemoryLedger, Volume};
use fulmar_core::control::{BrokerState, Desired, TopicWish, View};
use fulmar_steward::{Ledger, Steward, StewardConfig};

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn desired(brokers: u16, topics: &[&str]) -> Desired {
    let wish = |name: &&str| TopicWish {
        name: (*name).to_owned(),
        partitions: 3,
        replication_factor: None,
        ack_quorum: None,
        max_message_bytes: 1 << 20,
        retention_ms: None,
        retention_bytes: None,
        accepted_losses: Vec::new(),
    };
    Desired { brokers, topics: topics.iter().map(wish).collect(), ..Desired::default() }
}

async fn until(steward: &Steward, what: &str, fits: impl Fn(&View) -> bool) -> Arc<View> {
    let mut views = steward.view();
    let found = tokio::time::timeout(PATIENCE, views.wait_for(|view| fits(view))).await;
    match found {
        Ok(view) => view.expect("the steward runs").clone(),
        Err(elapsed) => panic!("{elapsed}, of {PATIENCE:?}: {what}: {:#?}", steward.view().borrow()),
    }
}

fn brokers(count: u16, authority: &Authority) -> Vec<FakeBroker> {
    let mut brokers = Vec::new();
    for ordinal in 0..count {
        let volume = Arc::new(Mutex::new(Volume::default()));
        brokers.push(FakeBroker::start(ordinal, ([127, 0, 0, 1], 0).into(), authority, volume));
    }
    brokers
}

fn see(steward: &Steward, brokers: &[FakeBroker]) {
    steward.sightings((0u16..).zip(brokers).map(|(ordinal, broker)| broker.sighting(ordinal)).collect());
}

fn is_ready(view: &View) -> bool {
    view.topics.get("orders").is_some_and(|topic| topic.ready)
}

#[tokio::test]
async fn a_topic_becomes_ready_and_the_next_steward_finds_it() {
    let authority = Authority::new();
    let brokers = brokers(3, &authority);
    let ledger = Arc::new(MemoryLedger::default());
    let start = || {
        let shared: Arc<dyn Ledger> = Arc::<MemoryLedger>::clone(&ledger);
        Steward::start(StewardConfig::new(authority.operator()), shared)
    };
    let mut first = start();
    let mut events = first.events();
    first.desire(desired(3, &["orders"]));
    see(&first, &brokers);
    let before = until(&first, "ready", is_ready).await;
    assert!(brokers.iter().all(|broker| broker.volume.lock().unwrap().entries.len() == 3));
    let told: Vec<&str> = std::iter::from_fn(|| events.try_recv().ok()).map(|event| event.reason).collect();
    assert!(told.contains(&"ClusterCreated") && told.contains(&"TopicCreated"), "{told:?}");
    first.stop().await;

    let second = start();
    second.desire(desired(3, &["orders"]));
    see(&second, &brokers);
    let after = until(&second, "ready again", is_ready).await;
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(after.topics["orders"].partitions, before.topics["orders"].partitions);
    assert!(after.controller_epoch > before.controller_epoch);
    second.stop().await;
}

#[tokio::test]
async fn a_killed_broker_is_dead_at_once_and_redialled_until_it_is_back() {
    let authority = Authority::new();
    let mut brokers = brokers(3, &authority);
    let steward = Steward::start(StewardConfig::new(authority.operator()), Arc::new(MemoryLedger::default()));
    steward.desire(desired(3, &["orders"]));
    see(&steward, &brokers);
    until(&steward, "ready", is_ready).await;

    // Who is refused a connection is dead before silence would tell. A machine that stands still makes it longer, once.
    let mut took = Duration::MAX;
    for ordinal in 0..3 {
        let killed_at = tokio::time::Instant::now();
        let (address, volume) = brokers.remove(0).kill().await;
        let led_by_dead = |view: &View| {
            let partitions = &view.topics["orders"].partitions;
            partitions.iter().any(|partition| partition.leader.is_some_and(|leader| leader.0 == ordinal))
        };
        let is_dead = |view: &View| view.brokers[usize::from(ordinal)].state == BrokerState::Dead;
        until(&steward, "other leaders", |view| is_dead(view) && !led_by_dead(view)).await;
        took = took.min(killed_at.elapsed());

        brokers.push(FakeBroker::start(ordinal, address, &authority, volume));
        let at = usize::from(ordinal);
        until(&steward, "which certificates it uses", |view| view.brokers[at].certificates == "abc").await;
        let is_back = |view: &View| view.brokers[at].state == BrokerState::Serving && is_ready(view);
        until(&steward, "back", is_back).await;
    }
    assert!(took < Duration::from_secs(1), "{took:?} at best");
    steward.stop().await;
}

#[tokio::test]
async fn a_server_of_another_ca_is_not_believed() {
    let (authority, other) = (Authority::new(), Authority::new());
    let brokers = brokers(1, &other);
    let steward = Steward::start(StewardConfig::new(authority.operator()), Arc::new(MemoryLedger::default()));
    steward.desire(desired(1, &[]));
    see(&steward, &brokers);
    until(&steward, "a broker that is dialled", |view| !view.brokers.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let view = steward.view().borrow().clone();
    assert_eq!(view.cluster_id, None);
    assert_eq!(view.brokers[0].state, BrokerState::Connecting);
    assert_eq!(brokers[0].volume.lock().unwrap().cluster_id, "");
    steward.stop().await;
}

#[tokio::test]
async fn a_broker_that_refuses_is_shown_with_its_reason() {
    let authority = Authority::new();
    let brokers = brokers(1, &authority);
    brokers[0].volume.lock().unwrap().refuses = Some("controllerEpoch 3 is over".to_owned());
    let mut steward =
        Steward::start(StewardConfig::new(authority.operator()), Arc::new(MemoryLedger::default()));
    let mut events = steward.events();
    steward.desire(desired(1, &[]));
    see(&steward, &brokers);
    let refused =
        |view: &View| view.brokers.first().is_some_and(|broker| broker.state == BrokerState::Refused);
    let view = until(&steward, "refused", refused).await;
    assert_eq!(view.brokers[0].message, "controllerEpoch 3 is over");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let told =
        std::iter::from_fn(|| events.try_recv().ok()).filter(|event| event.reason == "BrokerRefused").count();
    assert_eq!(told, 1, "people are not told at each dial");
    brokers[0].volume.lock().unwrap().refuses = None;
    until(&steward, "serving", |view| view.brokers[0].state == BrokerState::Serving).await;
    steward.stop().await;
}
