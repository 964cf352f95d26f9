//! What stands in the way of brokers that join and leave: nobody comes, nobody has room, pods are made anew.

use std::time::Duration;

use super::moves::{SECOND, alone_on, is_calm, join, leave, loads, run_until, skew};
use super::world::{World, wish};
use crate::control::Disk;
use crate::entry::{Entry, Members};
use crate::id::{Ordinal, PartitionKey};

fn members(world: &World) -> Vec<Members> {
    world.entries().into_values().map(|entry| entry.members).collect()
}

#[test]
fn a_number_that_is_lowered_before_there_is_a_table_waits_for_nobody_who_never_came() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.desired.standing = 5;
    world.wish();
    world.run(2 * SECOND);
    assert!(world.told("ClusterCreated"), "{:?}", world.view.waiting);
    run_until(&mut world, "its topics are placed", |world| world.topic("orders").ready);
    assert_eq!((world.view.holding, world.view.named), (3, 3));
    assert!(world.view.unheard.is_empty());
}

#[test]
fn who_is_seen_and_is_to_leave_is_asked_before_there_is_a_table() {
    let mut world = World::new(4, vec![wish("orders", 3)]);
    (world.desired.brokers, world.desired.standing) = (3, 4);
    world.wish();
    world.brokers.get_mut(&3).unwrap().silent = true;
    world.run(5 * SECOND);
    assert!(!world.told("ClusterCreated"));
    assert!(world.view.waiting.as_ref().is_some_and(|waiting| waiting.message.contains("broker 3")));
    world.brokers.get_mut(&3).unwrap().silent = false;
    run_until(&mut world, "it has said that it is empty", |world| world.topic("orders").ready);
}

#[test]
fn a_volume_that_is_nearly_full_gets_nothing_until_it_has_room() {
    let mut world = World::new(3, vec![wish("orders", 12)]);
    world.run(2 * SECOND);
    let before = members(&world);
    world.fill(3, 85);
    join(&mut world, 4);
    world.fill(3, 85);
    world.run(90 * SECOND);
    assert_eq!(members(&world), before);
    world.fill(3, 84);
    run_until(&mut world, "it carries its part", |world| is_calm(world) && skew(&loads(world)) <= 1);
}

#[test]
fn a_large_volume_has_room_though_little_of_it_is_free() {
    let disk = |total_bytes, used_percent| Disk { total_bytes, used_percent, is_full: false };
    assert!(disk(1 << 30, 84).takes_replicas() && !disk(1 << 30, 85).takes_replicas());
    assert!(disk(250 << 30, 98).takes_replicas() && !disk(250 << 30, 100).takes_replicas());
    assert!(!Disk { is_full: true, ..disk(250 << 30, 10) }.takes_replicas());
}

#[test]
fn a_scale_down_without_room_for_it_is_not_over() {
    let mut world = World::new(4, vec![wish("orders", 12)]);
    world.run(2 * SECOND);
    for ordinal in 0..3 {
        world.fill(ordinal, 88);
    }
    leave(&mut world, 3);
    world.run(90 * SECOND);
    assert!(world.view.moving.is_some_and(|moving| moving.done == 0), "{:?}", world.view.moving);
    assert_eq!((world.view.holding, world.view.unplanned), (4, false));
    for ordinal in 0..3 {
        world.fill(ordinal, 50);
    }
    run_until(&mut world, "3 is empty", |world| world.view.holding == 3 && is_calm(world));
}

#[test]
fn a_pod_that_is_made_anew_keeps_its_zone_and_nothing_is_moved_for_it() {
    let mut world = World::new(6, Vec::new());
    for (ordinal, zone) in (0..6).zip(["a", "b", "c", "a", "b", "c"]) {
        world.brokers.get_mut(&ordinal).unwrap().zone = Some(zone.to_owned());
    }
    world.see();
    world.desired.topics = vec![wish("orders", 11), wish("payments", 7)];
    world.wish();
    run_until(&mut world, "all is placed", |world| world.entries().len() == 18 && is_calm(world));
    let before = members(&world);
    world.kill(5);
    world.brokers.get_mut(&5).unwrap().unseen = true;
    world.see();
    for _ in 0..90 {
        world.run(SECOND);
        let seen = world.view.brokers.iter().find(|broker| broker.ordinal == Ordinal(5));
        assert_eq!(seen.and_then(|broker| broker.zone.as_deref()), Some("c"));
    }
    world.brokers.get_mut(&5).unwrap().unseen = false;
    world.see();
    world.start(5);
    run_until(&mut world, "it is back", |world| is_calm(world) && !world.view.unplanned);
    world.run(90 * SECOND);
    assert_eq!(members(&world), before);
}

/// The decision of the one partition of a topic.
fn entry_of(world: &World, name: &str) -> Entry {
    let key = PartitionKey { topic: world.topic(name).id.unwrap(), partition: 0 };
    world.entries()[&key].clone()
}

#[test]
fn a_set_that_somebody_was_to_join_goes_on_alone_if_that_one_dies() {
    let mut world = World::new(4, Vec::new());
    world.run(2 * SECOND);
    let (name, _) = alone_on(&mut world, 3);
    // Who leaves does not hand over.
    world.never_whole = true;
    leave(&mut world, 3);
    let joined = |entry: &Entry| match &entry.members {
        Members::Joint { new, .. } => Some(new.replicas()[0].ordinal.0),
        Members::One(_) => None,
    };
    run_until(&mut world, "somebody joins", |world| joined(&entry_of(world, &name)).is_some());
    let to = joined(&entry_of(&world, &name)).unwrap();
    world.kill(to);
    world.never_whole = false;
    world.run(30 * SECOND);
    assert!(!world.topic(&name).ready, "both have to hold what comes");
    assert!(joined(&entry_of(&world, &name)).is_some(), "who was to join may only restart");
    run_until(&mut world, "3 goes on alone", |world| {
        let entry = entry_of(world, &name);
        let is_alone = matches!(&entry.members, Members::One(set) if set.replicas()[0].ordinal == Ordinal(3));
        is_alone && world.topic(&name).ready
    });
    world.start(to);
    run_until(&mut world, "3 is empty", |world| world.view.holding == 3 && is_calm(world));
    assert!(world.now < Duration::from_mins(12));
}
