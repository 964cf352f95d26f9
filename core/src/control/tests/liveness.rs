use std::time::Duration;

use super::world::{World, wish};
use crate::control::BrokerState;
use crate::id::Ordinal;

const SECOND: Duration = Duration::from_secs(1);

fn led_by(world: &World, broker: u16) -> usize {
    world
        .topic("orders")
        .partitions
        .iter()
        .filter(|partition| partition.leader == Some(Ordinal(broker)))
        .count()
}

#[test]
fn a_silent_broker_that_peers_hear_is_not_deposed() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.run(2 * SECOND);
    world.brokers.get_mut(&0).unwrap().silent = true;
    world.run(10 * SECOND);
    assert_eq!(led_by(&world, 0), 1, "gossip hears it");
    world.gossip = false;
    world.run(5 * SECOND);
    assert_eq!(led_by(&world, 0), 0);
}

#[test]
fn what_a_peer_said_once_of_whom_it_hears_holds_no_longer_than_its_heartbeats() {
    let mut world = World::new(5, vec![wish("orders", 5)]);
    world.run(2 * SECOND);
    // Both are cut off from the operator; what each said of the other was true, and nobody says that it still is.
    for broker in [0, 1] {
        world.brokers.get_mut(&broker).unwrap().silent = true;
    }
    for broker in [2, 3, 4] {
        world.brokers.get_mut(&broker).unwrap().deaf = true;
    }
    world.run(2 * SECOND);
    let state = |broker: usize| world.view.brokers[broker].state;
    assert_eq!((state(0), state(1)), (BrokerState::Dead, BrokerState::Dead));
}

#[test]
fn when_more_than_half_fall_silent_they_are_asked_again_for_three_seconds_and_then_dead() {
    let mut world = World::new(5, vec![wish("orders", 5)]);
    world.run(2 * SECOND);
    for broker in [0, 1, 2] {
        world.brokers.get_mut(&broker).unwrap().silent = true;
    }
    for broker in [3, 4] {
        world.brokers.get_mut(&broker).unwrap().deaf = true;
    }
    let state = |world: &World, broker: usize| world.view.brokers[broker].state;
    world.run(3 * SECOND);
    assert!(
        (0..3).all(|broker| state(&world, broker) != BrokerState::Dead),
        "it may be this process that is cut off"
    );
    world.run(3 * SECOND);
    assert!((0..3).all(|broker| state(&world, broker) == BrokerState::Dead));
    assert!((3..5).all(|broker| state(&world, broker) != BrokerState::Dead));
}

#[test]
fn a_silent_broker_that_nobody_hears_is_deposed_after_a_second() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.gossip = false;
    world.run(2 * SECOND);
    world.brokers.get_mut(&0).unwrap().silent = true;
    world.run(Duration::from_millis(900));
    assert_eq!(led_by(&world, 0), 1);
    world.run(Duration::from_millis(300));
    assert_eq!(led_by(&world, 0), 0);
    assert_eq!(world.view.brokers[0].state, BrokerState::Dead);
}

#[test]
fn a_hanging_disk_is_a_dead_broker() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.run(2 * SECOND);
    world.brokers.get_mut(&2).unwrap().disk_hangs = true;
    world.run(Duration::from_millis(1_800));
    assert_eq!(led_by(&world, 2), 1);
    world.run(Duration::from_millis(500));
    assert_eq!(led_by(&world, 2), 0);
    world.brokers.get_mut(&2).unwrap().disk_hangs = false;
    world.run(SECOND);
    assert_eq!(world.view.brokers[2].state, BrokerState::Serving);
    assert!(world.told("BrokerReturned"));
}

#[test]
fn when_more_than_half_fall_silent_the_operator_suspects_itself() {
    let mut world = World::new(5, vec![wish("orders", 5)]);
    world.gossip = false;
    world.run(2 * SECOND);
    let entries = world.entries();
    for broker in 0..3 {
        world.brokers.get_mut(&broker).unwrap().silent = true;
    }
    world.run(3 * SECOND);
    assert_eq!(world.entries(), entries);
    for broker in 0..3 {
        world.brokers.get_mut(&broker).unwrap().silent = false;
    }
    world.run(2 * SECOND);
    assert_eq!(world.entries(), entries, "it was the operator's own network");
    assert!(world.topic("orders").ready);
}

#[test]
fn a_planned_end_is_no_loss() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.run(2 * SECOND);
    world.tell_to_stop(1);
    world.run(SECOND);
    world.kill(1);
    world.run(SECOND);
    assert!(world.told("BrokerStopped") && !world.told("BrokerLost"));
    world.start(1);
    world.run(SECOND);
    world.kill(1);
    world.run(SECOND);
    assert!(world.told("BrokerLost"), "this time nobody told it to");
}

#[test]
fn who_is_not_wished_any_more_leaves_without_being_lost() {
    let mut world = World::new(4, vec![]);
    world.run(2 * SECOND);
    world.desired.brokers = 3;
    world.wish();
    world.run(SECOND);
    world.kill(3);
    world.run(SECOND);
    assert!(world.told("BrokerLeft") && !world.told("BrokerLost"));
}

#[test]
fn a_topic_is_ready_only_when_every_broker_that_serves_knows_it() {
    let mut world = World::new(4, vec![]);
    world.run(2 * SECOND);
    world.brokers.get_mut(&3).unwrap().stuck = true;
    let mut three = wish("orders", 1);
    three.replication_factor = Some(3);
    world.desired.topics.push(three);
    world.wish();
    world.run(5 * SECOND);
    let topic = world.topic("orders");
    let replicas: Vec<u16> = topic.partitions[0].replicas.iter().map(|one| one.0).collect();
    assert!(!replicas.contains(&3), "it has no replica, and programs may ask it all the same");
    assert!(topic.partitions[0].serving);
    assert_eq!((topic.ready, topic.reason), (false, "Pushing"));
    assert_eq!(topic.message, "not acknowledged yet by broker 3");
    // Away, it holds up nobody.
    world.kill(3);
    world.run(2 * SECOND);
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
}

#[test]
fn a_stuck_broker_keeps_its_topic_from_being_ready_until_it_acknowledges() {
    let mut world = World::new(3, vec![]);
    world.run(2 * SECOND);
    let mut all = wish("orders", 1);
    all.ack_quorum = Some(3);
    world.desired.topics.push(all);
    world.brokers.get_mut(&1).unwrap().stuck = true;
    world.wish();
    world.run(5 * SECOND);
    assert!(!world.topic("orders").ready);
    world.brokers.get_mut(&1).unwrap().stuck = false;
    world.kill(1);
    world.start(1);
    world.run(2 * SECOND);
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
}
