//! Brokers join and leave: replicas move, a few at a time, and what was begun can be turned back.

use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{World, wish};
use crate::control::table::BrokerStanding;
use crate::entry::{Entry, Members};
use crate::id::Ordinal;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// So long at most; every wait is for a condition.
const PATIENCE: Duration = Duration::from_mins(5);

pub(super) fn run_until(world: &mut World, what: &str, mut is_so: impl FnMut(&World) -> bool) {
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
    let factor = |id| {
        let (name, _) = world.view.topics.iter().find(|(_, topic)| topic.id == Some(id))?;
        let wish = world.desired.topics.iter().find(|wish| wish.name == *name)?;
        Some(usize::from(wish.replication_factor.unwrap_or(3)))
    };
    for entry in world.entries().values() {
        for set in entry.members.sets().filter(|_| !entry.is_deletion()) {
            assert_eq!(
                set.replicas().len(),
                factor(entry.key.topic).unwrap_or(set.replicas().len()),
                "{entry}"
            );
        }
        all += usize::from(!entry.learners.is_empty() || matches!(entry.members, Members::Joint { .. }));
        for learner in &entry.learners {
            *to.entry(learner.ordinal).or_default() += 1;
        }
    }
    let most = usize::from(world.desired.rebalance.moves_a_broker);
    assert!(all <= 16 && to.values().all(|learners| *learners <= most), "{all} under way: {to:?}");
}

/// How many replicas learn, or take the place of others.
fn under_way(world: &World) -> usize {
    let moves = |entry: &&Entry| !entry.learners.is_empty() || matches!(entry.members, Members::Joint { .. });
    world.entries().values().filter(moves).count()
}

fn pause(world: &mut World, paused: bool) {
    world.desired.rebalance.paused = paused;
    world.wish();
}

pub(super) fn loads(world: &World) -> Vec<u32> {
    world.view.brokers.iter().map(|broker| broker.replicas).collect()
}

pub(super) fn skew(loads: &[u32]) -> u32 {
    loads.iter().max().unwrap() - loads.iter().min().unwrap()
}

pub(super) fn join(world: &mut World, brokers: u16) {
    for ordinal in world.desired.brokers..brokers {
        if !world.brokers.contains_key(&ordinal) {
            world.add_broker(ordinal, u128::from(ordinal) + 1);
        }
    }
    (world.desired.brokers, world.desired.standing) = (brokers, brokers);
    world.wish();
}

pub(super) fn leave(world: &mut World, brokers: u16) {
    (world.desired.standing, world.desired.brokers) = (world.desired.present(), brokers);
    world.wish();
}

pub(super) fn is_calm(world: &World) -> bool {
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
fn paused_moves_go_to_their_end_and_no_other_one_begins_until_they_are_resumed() {
    let mut world = World::new(3, vec![wish("orders", 30)]);
    world.run(2 * SECOND);
    join(&mut world, 5);
    run_until(&mut world, "some are under way", |world| under_way(world) >= 4);
    pause(&mut world, true);
    run_until(&mut world, "they go to their end", |world| under_way(world) == 0);
    let moving = world.view.moving.unwrap();
    assert!(moving.is_paused && moving.under_way == 0 && (4..=24).contains(&moving.done), "{moving:?}");
    assert!(moving.total >= 36, "people see how many are left: {moving:?}");
    assert!(world.told("MovesPaused") && !world.told("ReplicasMoved"));
    let members =
        |world: &World| -> Vec<Members> { world.entries().into_values().map(|one| one.members).collect() };
    let before = members(&world);
    world.run(90 * SECOND);
    assert_eq!(members(&world), before);
    assert!(world.controller.moves.is_at_rest(), "and nothing is looked at in vain");
    // Nor does another tenure, which knows nothing of what was before.
    world.wall += 1_000_000;
    world.restart_controller();
    world.run(90 * SECOND);
    assert_eq!(members(&world), before);
    assert!(world.view.moving.is_some_and(|moving| moving.is_paused), "{:?}", world.view.moving);
    pause(&mut world, false);
    run_until(&mut world, "it spreads", |world| is_calm(world) && skew(&loads(world)) <= 1);
    assert!(world.told("MovesResumed") && world.told("ReplicasMoved"));
}

#[test]
fn a_lost_volume_is_replaced_though_moves_are_paused() {
    let mut world = World::new(3, vec![wish("orders", 4)]);
    world.run(2 * SECOND);
    pause(&mut world, true);
    world.kill(1);
    world.run(SECOND);
    world.add_broker(1, 500);
    run_until(&mut world, "all is whole", |world| {
        let joined = |entry: &Entry| entry.members.replicas().iter().any(|one| one.incarnation.0 == 500);
        is_calm(world) && world.entries().values().all(joined)
    });
}

#[test]
fn brokers_that_leave_keep_what_they_hold_while_moves_are_paused() {
    let mut world = World::new(5, vec![wish("orders", 20)]);
    world.run(2 * SECOND);
    pause(&mut world, true);
    leave(&mut world, 3);
    world.run(60 * SECOND);
    assert_eq!((world.view.holding, under_way(&world)), (5, 0));
    assert!(world.view.brokers.iter().all(|broker| !broker.is_empty), "{:?}", world.view.brokers);
    pause(&mut world, false);
    run_until(&mut world, "3 and 4 are empty", |world| world.view.holding == 3);
    let empty = |world: &World| -> Vec<u16> {
        world.view.brokers.iter().filter(|broker| broker.is_empty).map(|broker| broker.ordinal.0).collect()
    };
    assert_eq!(empty(&world), [3, 4], "and it is known that they are");
    world.kill(4);
    world.run(5 * SECOND);
    assert_eq!(empty(&world), [3], "who does not answer says nothing");
    // Its next process finds that it keeps a log that a person gave up.
    world.brokers.get_mut(&4).unwrap().keeps_copies = true;
    world.start(4);
    world.run(5 * SECOND);
    assert_eq!((empty(&world), world.view.holding), (vec![3], 3));
}

#[test]
fn as_many_move_to_a_broker_at_once_as_is_wished() {
    let most_with = |moves_a_broker: u8| {
        let mut world = World::new(3, vec![wish("orders", 40)]);
        world.desired.rebalance.moves_a_broker = moves_a_broker;
        world.wish();
        world.run(2 * SECOND);
        // Not one is done, so that all that may be are under way.
        world.add_broker(3, 4);
        world.brokers.get_mut(&3).unwrap().stuck = true;
        join(&mut world, 4);
        run_until(&mut world, "as many as may", |world| under_way(world) >= usize::from(moves_a_broker));
        world.run(5 * SECOND);
        within_bounds(&world);
        let most = under_way(&world);
        unstick(&mut world, 3);
        run_until(&mut world, "it spreads", |world| is_calm(world) && skew(&loads(world)) <= 1);
        most
    };
    assert_eq!([1, 4, 5].map(most_with), [1, 4, 5]);
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
fn the_end_of_moves_is_told_though_the_table_is_lost_before_the_plan_that_finds_none_left() {
    let mut world = World::new(3, vec![wish("orders", 6)]);
    world.run(2 * SECOND);
    join(&mut world, 5);
    run_until(&mut world, "the last move is done, and no plan has seen it", |world| {
        world.told("MovingReplicas") && skew(&loads(world)) <= 1 && under_way(world) == 0
    });
    assert!(!world.told("ReplicasMoved"), "too late to lose anything");
    world.ledger.clear();
    world.show(&world.ledger.clone());
    run_until(&mut world, "the table is rebuilt", |world| world.told("TableLost") && is_calm(world));
    run_until(&mut world, "it is told", |world| world.told("ReplicasMoved"));
    assert_eq!(world.events.iter().filter(|event| event.reason == "MovingReplicas").count(), 1);
    let told = world.events.iter().find(|event| event.reason == "ReplicasMoved").unwrap();
    assert!(!told.message.starts_with("0 replicas"), "{}", told.message);
}

#[test]
fn moves_go_on_to_the_end_though_the_table_is_lost_while_none_is_under_way() {
    let mut world = World::new(3, vec![wish("orders", 6)]);
    world.desired.rebalance.moves_a_broker = 1;
    world.wish();
    world.run(2 * SECOND);
    join(&mut world, 4);
    run_until(&mut world, "the last but one is under way", |world| loads(world).get(3) == Some(&3));
    pause(&mut world, true);
    run_until(&mut world, "it has arrived", |world| under_way(world) == 0);
    assert_eq!(skew(&loads(&world)), 2, "{:?}: no reason to begin", loads(&world));
    world.ledger.clear();
    world.show(&world.ledger.clone());
    run_until(&mut world, "the table is rebuilt", |world| world.told("TableLost") && under_way(world) == 0);
    pause(&mut world, false);
    run_until(&mut world, "the end is told", |world| world.told("ReplicasMoved"));
    assert!(skew(&loads(&world)) <= 1, "{:?}", loads(&world));
}

#[test]
fn below_the_floor_nothing_is_moved_and_nobody_may_go() {
    let mut world = World::new(4, vec![wish("orders", 6), wish("payments", 6)]);
    world.desired.topics[0].replication_factor = Some(4);
    world.desired.topics[1].replication_factor = Some(2);
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

#[test]
fn zones_are_put_right_when_a_broker_turns_out_to_be_in_another_one_and_again_when_it_is_back() {
    let mut world = World::new(3, vec![wish("orders", 12)]);
    world.desired.topics[0].replication_factor = Some(2);
    for (ordinal, zone) in [(0, "a"), (1, "b"), (2, "c")] {
        world.brokers.get_mut(&ordinal).unwrap().zone = Some(zone.to_owned());
    }
    world.see();
    world.wish();
    world.run(2 * SECOND);
    assert!(world.topic("orders").ready && !world.told("MovingReplicas"));
    world.brokers.get_mut(&2).unwrap().zone = Some("b".to_owned());
    world.see();
    run_until(&mut world, "each has one in a", |world| is_calm(world) && loads(world) == [12, 6, 6]);
    assert!(world.told("MovingReplicas"));
    run_until(&mut world, "the end is told", |world| world.told("ReplicasMoved"));
    world.brokers.get_mut(&2).unwrap().zone = Some("c".to_owned());
    world.see();
    run_until(&mut world, "all is even again", |world| is_calm(world) && skew(&loads(world)) <= 1);
}

/// A topic of one partition with one replica, on this broker; and the ledger as it was before.
pub(super) fn alone_on(world: &mut World, ordinal: u16) -> (String, super::world::Ledger) {
    for number in 0..20 {
        let (name, before) = (format!("alone{number}"), world.ledger.clone());
        let mut wished = wish(&name, 1);
        wished.replication_factor = Some(1);
        world.desired.topics.push(wished);
        world.wish();
        world.run(2 * SECOND);
        if world.topic(&name).partitions[0].replicas[0].0 == ordinal {
            return (name, before);
        }
    }
    panic!("none is placed on broker {ordinal}")
}

#[test]
fn who_is_dead_and_was_never_heard_stays_while_the_table_may_be_an_older_copy() {
    let mut world = World::new(4, vec![wish("orders", 4)]);
    world.run(2 * SECOND);
    let (name, before) = alone_on(&mut world, 3);
    world.kill(3);
    world.ledger = before;
    world.wall += 1_000_000;
    leave(&mut world, 3);
    world.restart_controller();
    world.run(SECOND);
    for _ in 0..600 {
        world.run(Duration::from_millis(100));
        assert_eq!(world.view.holding, 4, "its volume has {name}: {:?}", world.view.waiting);
    }
    world.start(3);
    run_until(&mut world, "3 is empty", |world| world.view.holding == 3 && is_calm(world));
    assert!(world.topic(&name).ready, "{}", world.topic(&name).message);
}

#[test]
fn of_a_dead_broker_another_tenure_asks_those_that_stay() {
    let mut world = World::new(4, vec![wish("orders", 12)]);
    world.run(2 * SECOND);
    world.kill(3);
    leave(&mut world, 3);
    run_until(&mut world, "nothing is left on it", |world| world.view.holding == 3 && is_calm(world));
    world.kill(0);
    world.wall += 1_000_000;
    world.restart_controller();
    for _ in 0..200 {
        world.run(Duration::from_millis(100));
        assert!(world.view.controller_epoch == 0 || world.view.holding == 4, "0 was not heard either");
    }
    world.start(0);
    run_until(&mut world, "all that stay have said it", |world| world.view.holding == 3 && is_calm(world));
}

#[test]
fn a_dead_broker_stays_until_what_it_holds_and_is_to_be_deleted_is_gone() {
    let mut world = World::new(4, vec![wish("orders", 4)]);
    world.run(2 * SECOND);
    let (name, _) = alone_on(&mut world, 3);
    world.kill(3);
    world.run(2 * SECOND);
    world.desired.topics.retain(|wish| wish.name != name);
    world.desired.deleted = vec![name.clone()];
    leave(&mut world, 3);
    for _ in 0..600 {
        world.run(Duration::from_millis(100));
        assert!(
            world.view.holding == 4 && !world.view.deleted.contains(&name),
            "its volume would bring it back"
        );
    }
    world.start(3);
    run_until(&mut world, "3 has let it go", |world| world.view.holding == 3 && is_calm(world));
    assert!(world.view.deleted.contains(&name) && world.view.retained.is_empty());
}

/// What was pushed to it meanwhile is pushed to its next process again.
fn unstick(world: &mut World, ordinal: u16) {
    world.kill(ordinal);
    world.brokers.get_mut(&ordinal).unwrap().stuck = false;
    world.start(ordinal);
}

/// In which joint entries another replica joins than the one that moves.
fn joins_two(entry: &Entry) -> bool {
    let Members::Joint { old, new } = &entry.members else { return false };
    new.replicas().iter().filter(|replica| !old.contains(**replica)).count() > 1
}

#[test]
fn a_volume_that_is_lost_during_a_move_is_replaced_first() {
    let mut world = World::new(4, vec![wish("orders", 24)]);
    world.run(2 * SECOND);
    join(&mut world, 5);
    world.brokers.get_mut(&4).unwrap().stuck = true;
    run_until(&mut world, "some wait for broker 4", |world| {
        world.entries().values().filter(|entry| !entry.learners.is_empty()).count() >= 4
    });
    world.kill(1);
    world.run(SECOND);
    world.add_broker(1, 500);
    world.run(5 * SECOND);
    unstick(&mut world, 4);
    run_until(&mut world, "all is whole and even", |world| {
        let joins: Vec<String> =
            world.entries().values().filter(|entry| joins_two(entry)).map(Entry::to_string).collect();
        assert!(joins.is_empty(), "nobody could lead, should one of them go too: {joins:?}");
        is_calm(world) && skew(&loads(world)) <= 1
    });
}

#[test]
fn a_leader_that_leaves_hands_over_though_a_volume_of_the_next_set_is_lost_meanwhile() {
    let mut world = World::new(3, vec![wish("orders", 6)]);
    world.desired.topics[0].replication_factor = Some(2);
    world.wish();
    world.run(2 * SECOND);
    leave(&mut world, 2);
    let is_leaver = |entry: &Entry| match &entry.members {
        Members::Joint { new, .. } => entry.leader.is_some_and(|leader| !new.contains(leader)),
        Members::One(_) => false,
    };
    run_until(&mut world, "a leader leaves", |world| world.entries().values().any(is_leaver));
    let entry = world.entries().into_values().find(is_leaver).unwrap();
    let Members::Joint { old, new } = &entry.members else { panic!("{entry}") };
    let stays = *new.replicas().iter().find(|replica| old.contains(**replica)).unwrap();
    world.kill(stays.ordinal.0);
    world.add_broker(stays.ordinal.0, 500);
    run_until(&mut world, "2 is empty", |world| world.view.holding == 2 && is_calm(world));
    assert_eq!(loads(&world)[..2], [6, 6]);
}

#[test]
fn nobody_gives_its_place_to_one_that_has_not_caught_up() {
    let mut world = World::new(3, vec![wish("orders", 12)]);
    world.run(2 * SECOND);
    let members =
        |world: &World| -> Vec<Members> { world.entries().into_values().map(|one| one.members).collect() };
    let before = members(&world);
    world.add_broker(3, 4);
    world.brokers.get_mut(&3).unwrap().stuck = true;
    join(&mut world, 4);
    run_until(&mut world, "some wait for broker 3", |world| {
        world.entries().values().any(|entry| !entry.learners.is_empty())
    });
    world.run(60 * SECOND);
    assert_eq!(members(&world), before);
    assert!(world.topic("orders").partitions.iter().all(|partition| partition.serving));
    unstick(&mut world, 3);
    run_until(&mut world, "it carries its part", |world| is_calm(world) && skew(&loads(world)) <= 1);
}
