use std::time::Duration;

use super::world::{World, wish};

const SECOND: Duration = Duration::from_secs(1);

fn delete(world: &mut World, name: &str) {
    world.desired.topics.retain(|wish| wish.name != name);
    world.desired.deleted.push(name.to_owned());
    world.wish();
}

#[test]
fn a_deleted_topic_leaves_tombstones_and_no_entries() {
    let mut world = World::new(3, vec![wish("orders", 3), wish("payments", 1)]);
    world.run(2 * SECOND);
    delete(&mut world, "orders");
    world.run(3 * SECOND);
    assert_eq!(world.view.deleted, ["orders"]);
    assert!(!world.view.topics.contains_key("orders") && world.view.retained.is_empty());
    assert_eq!(world.entries().len(), 1);
    for broker in world.brokers.values() {
        assert_eq!(broker.replicas.values().filter(|held| held.tombstone).count(), 3);
    }
    assert!(world.topic("payments").ready);
}

#[test]
fn a_deleted_topic_is_told_to_be_deleted_and_never_to_be_retained() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.run(2 * SECOND);
    world.kill(2);
    world.run(SECOND);
    delete(&mut world, "orders");
    world.run(3 * SECOND);
    assert!(!world.told("TopicDeleted"), "broker 2 still has records");
    world.start(2);
    world.run(3 * SECOND);
    assert!(world.told("TopicDeleted") && !world.told("TopicRetained"));
}

#[test]
fn a_deleted_topic_does_not_come_back_from_tombstones_or_from_who_was_away() {
    let mut world = World::new(3, vec![wish("orders", 2)]);
    world.run(2 * SECOND);
    world.kill(2);
    world.run(SECOND);
    delete(&mut world, "orders");
    world.run(3 * SECOND);
    assert!(world.view.deleted.is_empty(), "broker 2 still has records");
    assert_eq!(world.topic("orders").reason, "Deleting");
    // The table goes, the deletion does not: two tombstones tell.
    world.ledger.clear();
    world.restart_controller();
    world.start(2);
    world.run(8 * SECOND);
    assert!(
        world.brokers[&2].replicas.values().all(|held| held.tombstone),
        "{:?}",
        world.brokers[&2].replicas
    );
    assert!(world.entries().is_empty());
}

#[test]
fn the_same_name_wished_after_its_deletion_is_another_topic() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let id = world.topic("orders").id;
    delete(&mut world, "orders");
    world.run(3 * SECOND);
    world.desired.deleted.clear();
    world.desired.topics.push(wish("orders", 1));
    world.wish();
    world.run(3 * SECOND);
    assert!(world.topic("orders").ready);
    assert_ne!(world.topic("orders").id, id);
}

#[test]
fn a_name_that_is_wished_and_deleted_at_once_is_kept() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let entries = world.entries();
    world.desired.deleted.push("orders".to_owned());
    world.wish();
    world.run(2 * SECOND);
    assert_eq!(world.entries(), entries);
    assert!(world.topic("orders").ready && world.view.deleted.is_empty());
}
