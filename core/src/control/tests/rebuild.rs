use std::time::Duration;

use super::world::{World, wish};
use crate::control::DocumentName;
use crate::entry::{Entry, Members, ReplicaSet};
use crate::id::ReplicaId;
use crate::term::Epoch;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_deleted_table_is_rebuilt_with_the_same_ids_and_settings() {
    let mut world = World::new(3, vec![wish("orders", 6), wish("payments", 2)]);
    world.run(2 * SECOND);
    let (cluster_id, entries) = (world.view.cluster_id, world.entries());
    let ids = (world.topic("orders").id, world.topic("payments").id);
    world.ledger.clear();
    world.restart_controller();
    world.run(10 * SECOND);
    assert_eq!(world.view.cluster_id, cluster_id);
    assert_eq!((world.topic("orders").id, world.topic("payments").id), ids);
    assert_eq!(world.entries(), entries, "what stood is left as it is");
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
    assert!(world.told("TableRebuilt"));
    assert!(!world.root().rebuilding);
}

#[test]
fn a_table_deleted_under_a_running_controller_is_rebuilt() {
    let mut world = World::new(3, vec![wish("orders", 6)]);
    world.run(2 * SECOND);
    let id = world.topic("orders").id;
    world.ledger.clear();
    world.desired.topics.push(wish("payments", 1));
    world.wish();
    world.run(10 * SECOND);
    assert_eq!(world.topic("orders").id, id);
    assert!(world.topic("orders").ready && world.topic("payments").ready, "{:?}", world.view.waiting);
}

#[test]
fn a_table_restored_to_an_earlier_moment_of_its_tenure_gives_no_partition_a_second_first_entry() {
    let mut world = World::new(2, vec![]);
    world.run(2 * SECOND);
    let early = world.ledger.clone();
    let mut wished = wish("orders", 2);
    wished.replication_factor = Some(1);
    world.desired.topics.push(wished);
    world.wish();
    world.run(2 * SECOND);
    let before = world.entries();
    let places: Vec<u16> = before.values().map(|entry| entry.leader.unwrap().ordinal.0).collect();
    assert_ne!(places[0], places[1], "each broker has one of them");
    world.ledger = early;
    world.brokers.get_mut(&places[0]).unwrap().silent = true;
    world.restart_controller();
    world.run(60 * SECOND);
    assert!(world.told("TableLost"), "the other broker knows of what the table lacks");
    assert_eq!(world.entries().keys().count(), 1, "{:?}", world.entries());
    world.brokers.get_mut(&places[0]).unwrap().silent = false;
    world.run(20 * SECOND);
    assert_eq!(world.entries(), before);
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
}

#[test]
fn after_a_lost_table_no_topic_is_minted_before_every_broker_has_reported() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.desired.topics[0].replication_factor = Some(1);
    world.wish();
    world.run(3 * SECOND);
    let id = world.topic("orders").id;
    let holder = world.topic("orders").partitions[0].replicas[0].0;
    world.ledger.clear();
    world.kill(holder);
    for broker in world.brokers.values_mut() {
        broker.pages.clear();
    }
    world.restart_controller();
    world.run(20 * SECOND);
    assert_eq!(world.topic("orders").id, None, "who holds it may be the one that is away");
    assert_eq!(world.topic("orders").reason, "AwaitingBrokers");
    world.restart_controller();
    world.run(20 * SECOND);
    assert_eq!(world.topic("orders").id, None, "another tenure knows it too");
    let waiting = world.view.waiting.clone().unwrap();
    let said = format!("what it holds has not been reported by broker {holder}");
    assert_eq!((waiting.reason, waiting.message), ("RebuildingTable", said));
    world.start(holder);
    world.run(5 * SECOND);
    // No broker remembers the name: the entry is kept, and the name gets a new topic.
    assert_eq!(world.entries().keys().filter(|key| Some(key.topic) == id).count(), 1);
    assert!(world.topic("orders").ready);
}

#[test]
fn an_old_table_is_overruled_by_what_brokers_hold() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.run(2 * SECOND);
    let backup = world.ledger.clone();
    world.kill(0);
    world.run(SECOND);
    world.start(0);
    world.run(2 * SECOND);
    let entries = world.entries();
    world.ledger = backup;
    world.restart_controller();
    world.run(5 * SECOND);
    assert_eq!(world.entries(), entries, "the elections since then are not forgotten");
    assert!(world.topic("orders").ready);
}

#[test]
fn a_first_decision_waits_for_an_open_quorum_of_reports() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let entries = world.entries();
    let leader = world.topic("orders").partitions[0].leader.unwrap().0;
    for broker in 0..3 {
        world.kill(broker);
    }
    world.restart_controller();
    world.run(2 * SECOND);
    // One of three, with ackQuorum 2: Qo is 2.
    world.start((leader + 1) % 3);
    world.run(6 * SECOND);
    assert_eq!(world.entries(), entries);
    world.start((leader + 2) % 3);
    world.run(6 * SECOND);
    assert_ne!(world.topic("orders").partitions[0].leader.unwrap().0, leader);
    assert!(world.topic("orders").ready);
}

#[test]
fn a_higher_entry_whose_quorum_has_not_reported_is_not_passed_over_for_the_stored_one() {
    let mut world = World::new(5, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let before = world.entries();
    let (key, stored) = before.first_key_value().unwrap();
    let (Members::One(old), Some(leader)) = (&stored.members, stored.leader) else { panic!("{stored}") };
    let others = world.brokers.values().map(|broker| broker.replica);
    let mut joining: Vec<ReplicaId> = others.filter(|one| !old.replicas().contains(one)).collect();
    joining.push(leader);
    let new = ReplicaSet::new(joining.clone(), 2).unwrap();
    let epoch = Epoch { counter: stored.epoch.counter + 1, ..stored.epoch };
    let joint = Entry { epoch, members: Members::Joint { old: old.clone(), new }, ..stored.clone() };
    let member = *old.replicas().iter().find(|one| **one != leader).unwrap();
    world.brokers.get_mut(&member.ordinal.0).unwrap().replicas.get_mut(key).unwrap().entry = joint;
    // The table went back behind a change of members, and an open quorum of the old set answers, none of the new one.
    for away in &joining {
        world.brokers.get_mut(&away.ordinal.0).unwrap().silent = true;
    }
    world.restart_controller();
    world.run(20 * SECOND);
    assert_eq!(world.entries(), before, "who is away may have committed what these lack");
    for away in &joining {
        world.brokers.get_mut(&away.ordinal.0).unwrap().silent = false;
    }
    world.run(20 * SECOND);
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
    assert!(world.entries()[key].epoch > epoch);
}

#[test]
fn a_damaged_page_is_taken_as_lost_and_rebuilt() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.run(2 * SECOND);
    let entries = world.entries();
    world.ledger.get_mut(&DocumentName::Page(0)).unwrap().0.lines[4] = "nonsense".to_owned();
    world.restart_controller();
    world.run(5 * SECOND);
    assert_eq!(world.entries(), entries);
    assert!(world.told("TableDamaged"));
    assert!(world.topic("orders").ready);
}

#[test]
fn a_lost_volume_is_replaced_though_the_table_that_knew_it_is_lost_too() {
    let mut world = World::new(4, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let member = world.topic("orders").partitions[0].replicas[1];
    let lost = world.brokers[&member.0].replica;
    world.kill(member.0);
    world.add_broker(member.0, 99);
    world.ledger.clear();
    world.restart_controller();
    for _ in 0..400 {
        world.run(Duration::from_millis(50));
        // What is decided about it is decided of a volume that can never come back.
        let listed = world.ledger.contains_key(&DocumentName::Root) && world.root().is_lost(lost);
        let untouched = |entry: &crate::entry::Entry| {
            entry.members.contains(lost) && entry.learners.is_empty() && entry.lost.is_empty()
        };
        assert!(listed || world.entries().values().all(untouched));
    }
    assert!(world.root().is_lost(lost));
    let entries = world.entries();
    let held = |entry: &crate::entry::Entry| {
        entry.members.replicas().iter().any(|replica| replica.incarnation.0 == 99)
    };
    assert!(entries.values().all(held), "{entries:?}");
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
}

#[test]
fn a_living_volume_that_a_restored_table_does_not_know_is_not_listed_as_lost() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.run(2 * SECOND);
    let root = DocumentName::Root;
    let backup = world.ledger[&root].0.clone();
    world.kill(1);
    world.run(SECOND);
    world.add_broker(1, 500);
    world.run(20 * SECOND);
    let new = world.brokers[&1].replica;
    assert!(world.entries().values().all(|entry| entry.members.contains(new)));
    // Away while the root comes back that knows the volume before it only.
    world.kill(1);
    world.run(2 * SECOND);
    world.ledger.get_mut(&root).unwrap().0 = backup;
    world.restart_controller();
    world.run(20 * SECOND);
    assert!(!world.root().is_lost(new));
    assert!(world.entries().values().all(|entry| entry.members.contains(new)));
    world.start(1);
    world.run(10 * SECOND);
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
    assert!(!world.root().is_lost(new) && world.topic("orders").under_replicated == 0);
}
