use std::collections::BTreeSet;
use std::time::Duration;

use super::world::{World, wish};
use crate::control::DocumentName;
use crate::control::table::{PAGE_BYTES_MAX, Page};

const SECOND: Duration = Duration::from_secs(1);

fn zones(world: &mut World, zones: &[&str]) {
    for (broker, zone) in world.brokers.values_mut().zip(zones) {
        broker.zone = Some((*zone).to_owned());
    }
    world.see();
}

#[test]
fn replicas_spread_over_zones() {
    let mut world = World::new(6, vec![wish("orders", 12)]);
    zones(&mut world, &["a", "a", "b", "b", "c", "c"]);
    world.run(3 * SECOND);
    for partition in &world.topic("orders").partitions {
        let zones: BTreeSet<u16> = partition.replicas.iter().map(|ordinal| ordinal.0 / 2).collect();
        assert_eq!(zones.len(), 3, "{:?}", partition.replicas);
    }
}

#[test]
fn more_replicas_than_brokers_wait_and_say_so() {
    let mut wished = wish("orders", 1);
    wished.replication_factor = Some(5);
    let mut world = World::new(3, vec![wished]);
    world.run(3 * SECOND);
    let topic = world.topic("orders");
    assert_eq!((topic.ready, topic.reason), (false, "NotEnoughBrokers"));
    assert_eq!(topic.message, "5 replicas need as many brokers, the Cluster has 3");
    world.desired.brokers = 5;
    world.add_broker(3, 4);
    world.add_broker(4, 5);
    world.wish();
    world.run(3 * SECOND);
    assert!(world.topic("orders").ready);
    assert_eq!(world.view.min_brokers, 5);
}

#[test]
fn partitions_grow_and_never_shrink() {
    let mut world = World::new(3, vec![wish("orders", 2)]);
    world.run(2 * SECOND);
    let (before, id) = (world.entries(), world.topic("orders").id);
    world.desired.topics[0].partitions = 9;
    world.wish();
    world.run(2 * SECOND);
    assert_eq!(world.topic("orders").partitions.len(), 9);
    assert!(world.topic("orders").ready);
    assert_eq!(world.topic("orders").id, id);
    let after = world.entries();
    assert!(before.iter().all(|(key, entry)| after.get(key) == Some(entry)));
    world.desired.topics[0].partitions = 3;
    world.wish();
    world.run(2 * SECOND);
    assert_eq!(world.topic("orders").partitions.len(), 9);
}

#[test]
fn changed_limits_reach_the_brokers_before_the_topic_is_ready_again() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let entries = world.entries();
    world.desired.topics[0].retention_bytes = Some(77);
    world.wish();
    world.run(2 * SECOND);
    assert_eq!(world.entries(), entries, "limits are no new decision about members");
    assert!(world.topic("orders").ready);
    for broker in world.brokers.values() {
        let topic = &broker.pages[&0].2.topics[0];
        assert_eq!(topic.retention_bytes, Some(77));
    }
}

#[test]
fn a_topic_that_vanishes_is_retained_and_adopted_again_with_its_id() {
    let mut world = World::new(3, vec![wish("orders", 2), wish("payments", 1)]);
    world.run(2 * SECOND);
    let (entries, id) = (world.entries(), world.topic("orders").id);
    let wished = world.desired.topics.remove(0);
    world.wish();
    world.run(2 * SECOND);
    assert_eq!(world.view.retained, ["orders"]);
    assert!(!world.view.topics.contains_key("orders"));
    assert_eq!(world.entries(), entries, "its data stays");
    let record =
        |world: &World| world.brokers[&0].pages[&0].2.topics.iter().find(|t| t.name == "orders").cloned();
    assert!(record(&world).unwrap().retained, "brokers know that it is not served");
    assert!(world.topic("payments").ready);
    world.desired.topics.push(wished);
    world.wish();
    world.run(2 * SECOND);
    assert_eq!(world.topic("orders").id, id);
    assert!(world.topic("orders").ready && world.view.retained.is_empty());
    assert!(!record(&world).unwrap().retained);
}

#[test]
fn thousands_of_partitions_take_several_pages_within_their_bytes() {
    let mut world = World::new(5, (0..6).map(|at| wish(&format!("topic-{at}"), 1_024)).collect());
    world.run(6 * SECOND);
    assert!((0..6).all(|at| world.topic(&format!("topic-{at}")).ready), "{:?}", world.view.waiting);
    let pages = world.root().pages;
    assert!(pages.len() > 5, "{pages:?}");
    for page in pages {
        let (document, _) = &world.ledger[&DocumentName::Page(page)];
        assert!(Page::parse(page, &document.lines).unwrap().bytes() <= PAGE_BYTES_MAX * 3 / 4);
    }
}

#[test]
fn a_wish_that_cannot_be_is_named_and_stops_nobody_else() {
    let mut odd = wish("odd", 1);
    odd.ack_quorum = Some(4);
    odd.replication_factor = Some(3);
    let mut world = World::new(3, vec![wish("bad name", 1), odd, wish("orders", 1)]);
    world.run(2 * SECOND);
    assert_eq!(world.topic("bad name").reason, "InvalidTopic");
    assert_eq!(world.topic("odd").message, "ackQuorum 4: at most replicationFactor, 3");
    assert!(world.topic("orders").ready);
}
