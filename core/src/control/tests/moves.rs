//! Brokers join and leave: replicas move, a few at a time, and what was begun can be turned back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{World, wish};
use crate::control::table::BrokerStanding;
use crate::entry::{Entry, Members};
use crate::id::Ordinal;

const SECOND: Duration = Duration::from_secs(1);

/// So long at most; every wait is for a condition.
const PATIENCE: Duration = Duration::from_mins(5);

fn run_until(world: &mut World, what: &str, mut is_so: impl FnMut(&World) -> bool) {
    let until = world.now + PATIENCE;
    while !is_so(world) {
        assert!(world.now < until, "{what}: {:?}, holding {}", world.view.moving, world.view.holding);
        world.run(Duration::from_millis(50));
        within_bounds(world);
    }
}

/// Never more under way than may be, and nobody ever has fewer replicas than wished.
fn within_bounds(world: &World) {
    let mut to: BTreeMap<Ordinal, usize> = BTreeMap::new();
    let mut all = 0;
    for entry in world.entries().values() {
        for set in entry.members.sets().filter(|_| !entry.is_deletion()) {
            assert!(set.replicas().len() >= usize::from(world.view.min_brokers), "{entry}");
        }
        all += usize::from(!entry.learners.is_empty() || matches!(entry.members, Members::Joint { .. }));
        for learner in &entry.learners {
            *to.entry(learner.ordinal).or_default() += 1;
        }
    }
    assert!(all <= 16 && to.values().all(|learners| *learners <= 4), "{all} under way: {to:?}");
}

fn loads(world: &World) -> Vec<u32> {
    world.view.brokers.iter().map(|broker| broker.replicas).collect()
}

fn skew(loads: &[u32]) -> u32 {
    loads.iter().max().unwrap() - loads.iter().min().unwrap()
}

fn join(world: &mut World, brokers: u16) {
    for ordinal in world.desired.brokers..brokers {
        if !world.brokers.contains_key(&ordinal) {
            world.add_broker(ordinal, u128::from(ordinal) + 1);
        }
    }
    (world.desired.brokers, world.desired.standing) = (brokers, brokers);
    world.wish();
}

fn leave(world: &mut World, brokers: u16) {
    (world.desired.standing, world.desired.brokers) = (world.desired.present(), brokers);
    world.wish();
}

fn is_calm(world: &World) -> bool {
    let ready = |topic: &crate::control::TopicView| topic.ready && topic.under_replicated == 0;
    let rests = |entry: &Entry| entry.learners.is_empty() && matches!(entry.members, Members::One(_));
    world.view.moving.is_none()
        && world.view.topics.values().all(ready)
        && world.entries().values().all(rests)
        && world.controller.moves.is_at_rest()
}

#[test]
fn two_brokers_more_take_their_part_and_people_see_how_far_it_is() {
    let mut world = World::new(3, vec![wish("orders", 30), wish("payments", 7)]);
    world.run(2 * SECOND);
    join(&mut world, 5);
    let (mut seen, mut last) = (0, 0);
    run_until(&mut world, "it spreads", |world| {
        if let Some(moving) = world.view.moving {
            assert!(moving.done >= last && moving.done < moving.total, "{moving:?}");
            (seen, last) = (seen.max(moving.total), moving.done);
        }
        is_calm(world) && world.view.brokers.len() == 5 && skew(&loads(world)) <= 1
    });
    assert!((44..=50).contains(&seen), "two fifths of 111 replicas, not {seen}");
    assert_eq!((world.view.wished, world.view.min_brokers, world.view.holding), (5, 3, 5));
    assert!(world.told("MovingReplicas") && world.told("ReplicasMoved"));
    let entries = world.entries();
    world.run(90 * SECOND);
    let members = |entries: &BTreeMap<_, Entry>| -> Vec<Members> {
        entries.values().map(|entry| entry.members.clone()).collect()
    };
    assert_eq!(members(&entries), members(&world.entries()), "and then it rests");
    let leads = |ordinal: u16| {
        world.entries().values().filter(|one| one.leader.is_some_and(|one| one.ordinal.0 == ordinal)).count()
    };
    assert!((0..5).all(|ordinal| (6..=9).contains(&leads(ordinal))), "{:?}", [0, 1, 2, 3, 4].map(leads));
}

#[test]
fn brokers_that_leave_are_emptied_before_they_may_go() {
    let mut world = World::new(5, vec![wish("orders", 20)]);
    world.run(2 * SECOND);
    leave(&mut world, 3);
    world.run(Duration::from_millis(100));
    assert_eq!((world.view.holding, world.view.min_brokers, world.view.wished), (5, 3, 3));
    run_until(&mut world, "3 and 4 are empty", |world| world.view.holding == 3);
    for ordinal in [3, 4] {
        assert!(world.brokers[&ordinal].replicas.values().all(|held| held.tombstone), "it said so itself");
    }
    run_until(&mut world, "it rests", is_calm);
    assert_eq!(loads(&world)[..3], [20, 20, 20]);
    let topic = world.topic("orders");
    assert!(topic.ready && topic.under_replicated == 0, "{}", topic.message);
}

#[test]
fn a_leader_that_moves_away_hands_over_first() {
    let mut world = World::new(4, vec![wish("orders", 8)]);
    world.run(2 * SECOND);
    leave(&mut world, 3);
    let led: Vec<_> =
        world.entries().into_values().filter(|one| one.leader.unwrap().ordinal == Ordinal(3)).collect();
    assert!(!led.is_empty());
    run_until(&mut world, "3 is empty", |world| world.view.holding == 3);
    for entry in led {
        let stopped = world.brokers[&3].stopped_appends.get(&entry.key);
        assert!(stopped.is_some_and(|epoch| *epoch > entry.epoch), "{} was not stopped", entry.key);
    }
}

#[test]
fn a_wish_that_is_turned_back_half_way_returns() {
    let mut world = World::new(5, vec![wish("orders", 40)]);
    world.run(2 * SECOND);
    leave(&mut world, 3);
    run_until(&mut world, "some have moved", |world| {
        world.view.moving.is_some_and(|moving| moving.done >= 8)
    });
    join(&mut world, 5);
    run_until(&mut world, "all is even again", |world| is_calm(world) && skew(&loads(world)) <= 1);
    assert_eq!((world.view.wished, world.view.holding), (5, 5));
    leave(&mut world, 3);
    run_until(&mut world, "and once more", |world| world.view.holding == 3 && is_calm(world));
    join(&mut world, 5);
    run_until(&mut world, "and back", |world| is_calm(world) && skew(&loads(world)) <= 1);
}

#[test]
fn another_tenure_goes_on_with_what_was_begun() {
    let mut world = World::new(3, vec![wish("orders", 30)]);
    world.run(2 * SECOND);
    join(&mut world, 5);
    for _ in 0..4 {
        run_until(&mut world, "somebody learns", |world| {
            world.entries().values().any(|entry| !entry.learners.is_empty())
        });
        let learning: Vec<Entry> =
            world.entries().into_values().filter(|entry| !entry.learners.is_empty()).collect();
        world.wall += 1_000_000;
        world.restart_controller();
        run_until(&mut world, "it rules again", |world| world.view.controller_epoch > 0);
        for entry in learning {
            let key = entry.key;
            let is_done = |entry: &Entry| entry.members.contains(entry.learners[0]);
            run_until(&mut world, "who learnt is a member", |world| {
                let now = &world.entries()[&key];
                assert!(
                    !now.learners.is_empty() || now.members.contains(entry.learners[0]),
                    "{now} forgot it"
                );
                is_done(&Entry { learners: entry.learners.clone(), ..now.clone() })
            });
        }
    }
    run_until(&mut world, "it spreads", |world| is_calm(world) && skew(&loads(world)) <= 1);
}

#[test]
fn below_the_floor_nothing_is_moved_and_nobody_may_go() {
    let mut world = World::new(4, vec![wish("orders", 6)]);
    world.desired.topics[0].replication_factor = Some(4);
    world.wish();
    world.run(2 * SECOND);
    let entries = world.entries();
    leave(&mut world, 3);
    world.run(30 * SECOND);
    assert_eq!((world.view.min_brokers, world.view.holding), (4, 4));
    assert_eq!(world.entries(), entries);
}

#[test]
fn a_dead_broker_that_leaves_is_replaced_by_the_others() {
    let mut world = World::new(4, vec![wish("orders", 12)]);
    world.run(2 * SECOND);
    world.kill(3);
    world.run(2 * SECOND);
    leave(&mut world, 3);
    run_until(&mut world, "nothing is left on it", |world| world.view.holding == 3 && is_calm(world));
    assert_eq!(loads(&world)[..3], [12, 12, 12]);
}

#[test]
fn a_topic_can_be_deleted_after_brokers_were_taken_away() {
    let mut world = World::new(4, vec![wish("orders", 4), wish("payments", 4)]);
    world.run(2 * SECOND);
    leave(&mut world, 3);
    run_until(&mut world, "3 is empty", |world| world.view.holding == 3 && is_calm(world));
    world.kill(3);
    world.run(SECOND);
    let taken = world.brokers.remove(&3).unwrap();
    world.see();
    (world.desired.standing, world.desired.deleted) = (3, vec!["payments".to_owned()]);
    world.desired.topics.pop();
    world.wish();
    run_until(&mut world, "payments is gone", |world| world.view.deleted == ["payments"]);
    let record = world.root().brokers.into_iter().find(|record| record.ordinal == Ordinal(3));
    assert_eq!(record.unwrap().standing, BrokerStanding::Active, "its volume is remembered");
    // Its volume comes back, with tombstones of both.
    world.brokers.insert(3, taken);
    world.start(3);
    world.see();
    join(&mut world, 4);
    run_until(&mut world, "it carries its part", |world| is_calm(world) && skew(&loads(world)) <= 1);
    assert!(!world.view.topics.contains_key("payments") && world.view.retained.is_empty());
}

#[test]
fn a_broker_that_is_away_for_a_moment_moves_nothing() {
    let mut world = World::new(5, vec![wish("orders", 20)]);
    world.run(2 * SECOND);
    join(&mut world, 6);
    world.kill(5);
    world.run(20 * SECOND);
    let members =
        |world: &World| -> Vec<Members> { world.entries().into_values().map(|one| one.members).collect() };
    let before = members(&world);
    world.kill(0);
    world.run(30 * SECOND);
    assert_eq!(members(&world), before);
}

#[test]
fn a_new_topic_alone_moves_nothing() {
    let mut world = World::new(5, vec![wish("orders", 7)]);
    world.run(2 * SECOND);
    for number in 0..9 {
        world.desired.topics.push(wish(&format!("t{number}"), number % 3 + 1));
        world.wish();
        world.run(3 * SECOND);
    }
    assert!(!world.told("MovingReplicas"), "{:?}", loads(&world));
}

#[test]
fn zones_are_put_right_when_a_third_one_comes() {
    let mut world = World::new(4, vec![wish("orders", 12)]);
    for (ordinal, zone) in [(0, "a"), (1, "a"), (2, "b"), (3, "b")] {
        world.brokers.get_mut(&ordinal).unwrap().zone = Some(zone.to_owned());
    }
    world.see();
    world.run(2 * SECOND);
    world.add_broker(4, 5);
    world.brokers.get_mut(&4).unwrap().zone = Some("c".to_owned());
    world.see();
    join(&mut world, 5);
    run_until(&mut world, "each has one in c", |world| is_calm(world) && loads(world).get(4) == Some(&12));
    assert!(loads(&world)[..4].iter().all(|load| *load == 6), "{:?}", loads(&world));
}
