use std::time::Duration;

use super::world::{World, wish};
use crate::control::{Effect, Input};
use crate::entry::Members;
use crate::id::{Incarnation, Ordinal, ReplicaId};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_lost_volume_is_replaced_by_its_brokers_new_one() {
    let mut world = World::new(3, vec![wish("orders", 30)]);
    world.run(2 * SECOND);
    world.kill(1);
    world.run(SECOND);
    assert_eq!(world.topic("orders").bereft, 0, "it may come back");
    world.add_broker(1, 500);
    let mut bereft = vec![0];
    while !world.told("VolumeLost") || bereft.last() != Some(&0) {
        assert!(bereft.len() < 600, "{bereft:?} partitions lack a replica for good");
        world.run(SECOND / 20);
        bereft.push(world.topic("orders").bereft);
    }
    assert_eq!(bereft.iter().max(), Some(&30), "it is told until others have learnt what it had");
    world.run(30 * SECOND);
    let new = ReplicaId { ordinal: Ordinal(1), incarnation: Incarnation(500) };
    for entry in world.entries().values() {
        let Members::One(set) = &entry.members else { panic!("{entry}") };
        assert!(set.contains(new) && set.replicas().len() == 3, "{entry}");
        assert!(entry.learners.is_empty() && entry.lost.is_empty(), "{entry}");
    }
    let topic = world.topic("orders");
    assert!(topic.ready && topic.under_replicated == 0, "{}", topic.message);
    assert!(world.root().is_lost(ReplicaId { ordinal: Ordinal(1), incarnation: Incarnation(2) }));
    assert!(world.told("VolumeLost"));
}

#[test]
fn a_volume_that_was_replaced_is_refused_for_ever() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    world.kill(1);
    let old = world.brokers[&1].clone();
    world.add_broker(1, 500);
    world.run(5 * SECOND);
    world.kill(1);
    world.brokers.insert(1, old);
    world.see();
    world.start(1);
    world.run(3 * SECOND);
    assert!(world.view.brokers[1].message.contains("lost for ever"), "{}", world.view.brokers[1].message);
    assert!(world.topic("orders").ready, "the others serve: {}", world.topic("orders").message);
    let lost = |ordinal: u16| world.brokers[&ordinal].greeting.as_ref().and_then(|greeting| greeting.lost);
    assert_eq!(lost(1), Some(Incarnation(2)), "it is told, for only so it knows that it is not ready");
    assert_eq!((lost(0), lost(2)), (None, None));
}

#[test]
fn the_joint_step_is_never_skipped_and_members_change_one_step_at_a_commit() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    world.kill(1);
    world.run(SECOND);
    world.add_broker(1, 500);
    let mut shapes = Vec::new();
    for _ in 0..200 {
        world.run(Duration::from_millis(50));
        let entry = world.entries().into_values().next().unwrap();
        let shape = match &entry.members {
            Members::One(_) if entry.learners.is_empty() => "one",
            Members::One(_) => "learning",
            Members::Joint { .. } => "joint",
        };
        if shapes.last() != Some(&shape) {
            shapes.push(shape);
        }
    }
    assert_eq!(shapes, ["learning", "joint", "one"]);
}

#[test]
fn another_ack_quorum_is_a_joint_change() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    world.desired.topics[0].ack_quorum = Some(3);
    world.wish();
    let mut joint = false;
    for _ in 0..100 {
        world.run(Duration::from_millis(50));
        joint |= world.entries().values().any(|entry| matches!(entry.members, Members::Joint { .. }));
    }
    assert!(joint);
    let Members::One(set) = &world.entries().values().next().unwrap().members.clone() else { panic!() };
    assert_eq!(set.ack_quorum(), 3);
    assert!(world.topic("orders").ready);
}

#[test]
fn a_step_without_news_has_no_effects() {
    let mut world = World::new(3, vec![wish("orders", 6)]);
    world.run(5 * SECOND);
    let effects: Vec<Effect> = world.controller.step(world.now, Input::Tick);
    assert_eq!(effects, []);
}

#[test]
fn a_lost_volume_is_replaced_though_too_few_of_its_set_are_left_to_commit() {
    let mut world = World::new(2, vec![wish("orders", 2)]);
    world.run(2 * SECOND);
    world.kill(1);
    world.run(2 * SECOND);
    world.add_broker(1, 500);
    world.run(10 * SECOND);
    let new = ReplicaId { ordinal: Ordinal(1), incarnation: Incarnation(500) };
    for entry in world.entries().values() {
        let Members::One(set) = &entry.members else { panic!("{entry}") };
        assert!(set.contains(new) && set.replicas().len() == 2, "{entry}");
    }
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
}

#[test]
fn a_new_volume_is_not_taken_for_the_restored_one_before_it() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let copy = world.brokers[&1].clone();
    // Two processes that the copy does not know: its next one has the number of the first.
    for _ in 0..2 {
        world.kill(1);
        world.start(1);
        world.run(2 * SECOND);
    }
    world.brokers.insert(1, copy);
    world.kill(1);
    world.start(1);
    world.run(2 * SECOND);
    let restored = |world: &World| world.brokers[&1].greeting.as_ref().is_some_and(|told| told.restored);
    assert!(restored(&world), "{}", world.view.brokers[1].message);
    // The same claim, as where a container restarts on it.
    let mut fresh = world.brokers[&1].clone();
    fresh.replica.incarnation = Incarnation(500);
    fresh.processes.truncate(1);
    fresh.replicas.clear();
    world.brokers.insert(1, fresh);
    world.kill(1);
    world.start(1);
    world.run(5 * SECOND);
    assert!(world.root().brokers.iter().any(|record| record.incarnation == Incarnation(500)));
    assert!(!restored(&world));
}

#[test]
fn a_leader_that_works_keeps_its_entry_where_a_change_could_not_open() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.desired.topics[0].ack_quorum = Some(1);
    world.wish();
    world.run(2 * SECOND);
    let leader = world.topic("orders").partitions[0].leader.unwrap().0;
    // One acknowledges, so all three open: what was acknowledged may stand on the lost volume alone.
    world.kill((leader + 1) % 3);
    world.run(SECOND);
    let entries = world.entries();
    world.add_broker((leader + 1) % 3, 500);
    world.run(20 * SECOND);
    assert_eq!(world.entries(), entries);
    assert!(world.topic("orders").partitions[0].serving);
}

#[test]
fn changes_that_wait_for_a_broker_hold_up_no_others() {
    let mut world = World::new(4, vec![wish("orders", 40)]);
    world.run(2 * SECOND);
    world.kill(1);
    world.run(SECOND);
    world.add_broker(1, 500);
    let learning = |world: &World| world.entries().values().filter(|one| !one.learners.is_empty()).count();
    while learning(&world) < 16 {
        world.run(Duration::from_millis(50));
    }
    world.kill(1);
    world.run(20 * SECOND);
    let waiting = learning(&world);
    assert!(waiting > 0);
    world.kill(2);
    world.run(SECOND);
    world.add_broker(2, 501);
    world.run(30 * SECOND);
    let old = ReplicaId { ordinal: Ordinal(2), incarnation: Incarnation(3) };
    let lost = |entry: &&crate::entry::Entry| {
        entry.members.contains(old) && entry.members.replicas().iter().all(|one| one.ordinal != Ordinal(1))
    };
    assert_eq!(world.entries().values().filter(lost).count(), 0, "{waiting} wait for broker 1");
}

#[test]
fn who_was_counted_as_lost_never_counts_as_living_again() {
    let mut world = World::new(2, vec![wish("orders", 2)]);
    world.run(2 * SECOND);
    let lost = world.brokers[&1].replica;
    world.kill(1);
    world.run(2 * SECOND);
    world.add_broker(1, 500);
    world.brokers.get_mut(&1).unwrap().stuck = true;
    world.run(5 * SECOND);
    let counted = |world: &World| world.entries().values().filter(|one| one.lost.contains(&lost)).count();
    assert_eq!(counted(&world), 2, "joint entries that nobody opens: {:?}", world.entries());
    // The volume that was joined is lost too.
    world.kill(1);
    world.add_broker(1, 501);
    for _ in 0..200 {
        world.run(Duration::from_millis(50));
        for entry in world.entries().values() {
            assert!(!entry.members.contains(lost) || entry.lost.contains(&lost), "{entry}");
        }
    }
    let new = ReplicaId { ordinal: Ordinal(1), incarnation: Incarnation(501) };
    for entry in world.entries().values() {
        let Members::One(set) = &entry.members else { panic!("{entry}") };
        assert!(set.contains(new) && set.replicas().len() == 2, "{entry}");
    }
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
}
