use std::time::Duration;

use super::world::{World, wish};
use crate::control::Input;
use crate::id::Ordinal;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_dead_leader_is_followed_by_the_longest_log_in_one_write_a_page() {
    let mut world = World::new(3, vec![wish("orders", 12)]);
    world.run(2 * SECOND);
    for held in world.brokers.get_mut(&2).unwrap().replicas.values_mut() {
        held.log_end = 10;
    }
    world.run(SECOND);
    let writes = world.writes;
    world.kill(0);
    world.run(Duration::from_millis(50));
    assert_eq!(world.writes, writes + 1, "one write for all its partitions");
    let led_by_dead = |world: &World| {
        world
            .topic("orders")
            .partitions
            .iter()
            .filter(|partition| partition.leader == Some(Ordinal(0)))
            .count()
    };
    assert_eq!(led_by_dead(&world), 0);
    world.run(SECOND);
    let topic = world.topic("orders");
    assert!(topic.ready, "two of three commit: {}", topic.message);
    assert_eq!(topic.under_replicated, 12);
    let longest = topic.partitions.iter().filter(|partition| partition.leader == Some(Ordinal(2))).count();
    assert_eq!(longest, 8, "its four and the dead one's four");
    assert!(world.told("BrokerLost"));
}

#[test]
fn equal_logs_share_a_dead_brokers_partitions() {
    let mut world = World::new(3, vec![wish("orders", 12)]);
    world.run(2 * SECOND);
    world.kill(0);
    world.run(SECOND);
    for broker in [1, 2] {
        let led =
            world.topic("orders").partitions.iter().filter(|p| p.leader == Some(Ordinal(broker))).count();
        assert_eq!(led, 6);
    }
}

#[test]
fn without_an_open_quorum_nobody_is_elected_and_the_awaited_are_named() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    for broker in 0..3 {
        world.kill(broker);
    }
    world.run(3 * SECOND);
    let entries = world.entries();
    world.start(1);
    world.run(5 * SECOND);
    assert_eq!(world.entries(), entries);
    let topic = world.topic("orders");
    assert_eq!((topic.ready, topic.reason), (false, "AwaitingReplicas"), "{}", topic.message);
    assert!(topic.message.contains("broker 0, 2"), "{}", topic.message);
    world.start(2);
    world.run(2 * SECOND);
    assert!(world.topic("orders").ready);
}

#[test]
fn a_returned_leader_keeps_its_partitions() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.run(2 * SECOND);
    let entries = world.entries();
    for broker in 0..3 {
        world.kill(broker);
        world.start(broker);
    }
    world.restart_controller();
    world.run(5 * SECOND);
    assert_eq!(world.entries(), entries, "everybody is back: nobody is replaced");
    assert!(world.topic("orders").ready);
}

#[test]
fn when_many_return_a_leader_that_is_a_little_late_keeps_its_partitions() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.run(2 * SECOND);
    for broker in 0..3 {
        world.brokers.get_mut(&broker).unwrap().up = false;
    }
    for broker in 0..3 {
        world.kill(broker);
    }
    world.run(SECOND);
    let entries = world.entries();
    let late = entries.values().next().unwrap().leader.unwrap().ordinal.0;
    for broker in (0..3).filter(|broker| *broker != late) {
        world.start(broker);
    }
    world.run(2 * SECOND);
    assert_eq!(world.entries(), entries, "it is waited for");
    world.start(late);
    world.run(2 * SECOND);
    assert_eq!(world.entries(), entries);
    assert!(world.topic("orders").ready);
}

#[test]
fn a_stopping_broker_hands_its_partitions_over_and_gets_none_back_meanwhile() {
    let mut world = World::new(3, vec![wish("orders", 6)]);
    world.run(2 * SECOND);
    let effects = world.controller.step(world.now, Input::Stopping(Ordinal(1)));
    let stops =
        effects.iter().filter(|effect| matches!(effect, crate::control::Effect::StopAppends { .. })).count();
    assert_eq!(stops, 2, "publishing stops first");
    world.run(SECOND);
    let topic = world.topic("orders");
    assert!(topic.ready, "{}", topic.message);
    assert!(topic.partitions.iter().all(|partition| partition.leader != Some(Ordinal(1))));
}
