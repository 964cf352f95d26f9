use std::time::Duration;

use super::world::{World, wish};
use crate::id::TopicId;

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

#[test]
fn a_topic_wished_again_in_the_midst_of_its_deletion_is_another_one() {
    let mut world = World::new(4, vec![wish("orders", 4)]);
    world.run(2 * SECOND);
    let id = world.topic("orders").id;
    world.kill(3);
    world.run(SECOND);
    delete(&mut world, "orders");
    world.run(3 * SECOND);
    assert_eq!(world.topic("orders").reason, "Deleting", "broker 3 still has records");
    world.desired.deleted.clear();
    world.desired.topics.push(wish("orders", 4));
    world.wish();
    world.run(12 * SECOND);
    let again = world.topic("orders").id;
    assert!(world.topic("orders").ready && again != id, "{:?}", world.topic("orders"));
    world.start(3);
    world.run(3 * SECOND);
    assert!(world.told("TopicDeleted"));
    assert!(world.topic("orders").ready);
    assert_eq!(world.topic("orders").id, again);
    let is_old = |topic: TopicId| Some(topic) == id;
    assert!(world.entries().keys().all(|key| !is_old(key.topic)), "{:?}", world.entries());
}

/// Two partitions of one replica each; the second one's volume is gone, and another tenure has begun since.
fn half_lost() -> (World, TopicId) {
    let mut wished = wish("orders", 2);
    wished.replication_factor = Some(1);
    let mut world = World::new(3, vec![wished]);
    world.run(2 * SECOND);
    let id = world.topic("orders").id.unwrap();
    let lost = world.topic("orders").partitions[1].replicas[0].0;
    world.kill(lost);
    world.run(SECOND);
    world.brokers.remove(&lost);
    world.add_broker(lost, 77);
    world.see();
    world.run(SECOND);
    world.restart_controller();
    world.run(3 * SECOND);
    assert!(!world.topic("orders").ready, "nobody has what was lost");
    (world, id)
}

#[test]
fn a_topic_goes_with_the_partition_whose_volumes_are_lost() {
    let (mut world, _) = half_lost();
    delete(&mut world, "orders");
    world.run(5 * SECOND);
    assert_eq!(world.view.deleted, ["orders"]);
    assert!(world.told("TopicDeleted") && world.entries().is_empty());
}

#[test]
fn nothing_of_a_deleted_topic_begins_anew_under_its_id() {
    let (mut world, id) = half_lost();
    delete(&mut world, "orders");
    world.run(5 * SECOND);
    world.desired.deleted.clear();
    let mut wished = wish("orders", 2);
    wished.replication_factor = Some(1);
    world.desired.topics.push(wished);
    world.wish();
    world.run(5 * SECOND);
    assert!(world.topic("orders").ready, "{:?}", world.topic("orders"));
    assert_ne!(world.topic("orders").id, Some(id));
    assert!(world.entries().keys().all(|key| key.topic != id), "{:?}", world.entries());
}
