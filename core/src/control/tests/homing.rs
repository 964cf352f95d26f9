use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{World, wish};
use crate::control::WriteFailure;
use crate::control::homing::MOVES_MAX;

const SECOND: Duration = Duration::from_secs(1);

/// Partitions that are led by another than the first of their replicas.
fn away(world: &World) -> usize {
    let partitions = world.view.topics.values().flat_map(|topic| &topic.partitions);
    partitions.filter(|partition| partition.leader != partition.replicas.first().copied()).count()
}

/// A broker is made anew: told to stop, gone, back.
fn roll(world: &mut World, ordinal: u16) {
    world.tell_to_stop(ordinal);
    world.run(SECOND);
    world.kill(ordinal);
    world.run(5 * SECOND);
    world.start(ordinal);
    world.run(2 * SECOND);
}

#[test]
fn after_a_roll_every_leader_goes_home_a_minute_after_its_broker_is_well() {
    let mut world = World::new(3, vec![wish("orders", 12)]);
    world.run(2 * SECOND);
    for broker in 0..3 {
        roll(&mut world, broker);
    }
    assert!(away(&world) >= 8, "they piled up on the survivors: {}", away(&world));
    assert_eq!(world.view.away as usize, away(&world));
    world.stops.clear();
    world.run(30 * SECOND);
    assert!(world.stops.is_empty(), "not before a minute has passed");
    world.run(40 * SECOND);
    assert_eq!((away(&world), world.view.away), (0, 0));
    assert!(world.topic("orders").ready);
    assert!(world.told("LeadersWentHome"));
    let (stops, entries) = (world.stops.len(), world.entries());
    world.run(120 * SECOND);
    assert_eq!((world.stops.len(), world.entries()), (stops, entries), "then it is quiet");
}

#[test]
fn a_move_names_the_next_leader_only_when_it_holds_the_whole_log() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.run(2 * SECOND);
    roll(&mut world, 0);
    let before = world.entries();
    // Its followers never report the whole log.
    world.never_whole = true;
    world.run(60 * SECOND);
    assert_eq!(away(&world), 1);
    assert_eq!(world.stops.len() - 1, 1, "one was tried, beside the one of the roll");
    let after = world.entries();
    let again = after.values().filter(|entry| before[&entry.key].epoch < entry.epoch).count();
    assert_eq!(again, 1, "the present leader got another epoch, and goes on");
    assert!(world.topic("orders").ready);
    world.run(120 * SECOND);
    assert_eq!(world.stops.len() - 1, 1, "it is not tried again at once");
    world.never_whole = false;
    world.run(600 * SECOND);
    assert_eq!(away(&world), 0);
}

#[test]
fn moves_are_few_at_once_and_their_pages_written_together() {
    let mut world = World::new(3, vec![wish("orders", 300)]);
    world.run(2 * SECOND);
    for broker in 0..3 {
        roll(&mut world, broker);
    }
    world.run(50 * SECOND);
    world.stops.clear();
    let (writes, moves) = (world.writes, away(&world));
    world.run(30 * SECOND);
    assert_eq!(away(&world), 0);
    let mut waves: BTreeMap<Duration, usize> = BTreeMap::new();
    for (at, _) in &world.stops {
        *waves.entry(*at).or_default() += 1;
    }
    assert_eq!(world.stops.len(), moves);
    assert!(waves.values().all(|wave| *wave <= MOVES_MAX), "{waves:?}");
    let spent = world.writes - writes;
    println!("{moves} moves: {} waves, {spent} writes of pages", waves.len());
    assert!(spent <= 3 * waves.len(), "{spent} writes for {} waves", waves.len());
}

#[test]
fn a_broker_that_comes_and_goes_gets_nothing_back() {
    let mut world = World::new(3, vec![wish("orders", 6)]);
    world.run(2 * SECOND);
    roll(&mut world, 1);
    world.stops.clear();
    for _ in 0..4 {
        world.run(50 * SECOND);
        world.kill(1);
        world.run(SECOND);
        world.start(1);
    }
    assert!(world.stops.is_empty());
    world.run(70 * SECOND);
    assert_eq!(away(&world), 0);
}

#[test]
fn no_move_begins_while_the_ledger_takes_nothing() {
    let mut world = World::new(3, vec![wish("orders", 6)]);
    world.run(2 * SECOND);
    roll(&mut world, 1);
    world.run(50 * SECOND);
    world.stops.clear();
    world.trouble = (0..10_000).map(|_| (WriteFailure::Unavailable("away".to_owned()), false)).collect();
    world.desired.topics[0].retention_bytes = Some(7);
    world.wish();
    world.run(30 * SECOND);
    assert!(world.stops.is_empty(), "publishers would wait for a name that cannot be given");
    world.trouble.clear();
    world.run(30 * SECOND);
    assert_eq!(away(&world), 0);
}

#[test]
fn where_no_term_can_be_opened_a_leader_that_works_is_not_moved() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.desired.topics[0].ack_quorum = Some(1);
    world.wish();
    world.run(2 * SECOND);
    roll(&mut world, 0);
    world.run(2 * SECOND);
    let of = |world: &World, leader: u16| {
        let partitions = &world.topic("orders").partitions;
        partitions.iter().position(|one| one.replicas[0].0 == 0 && one.leader.is_some_and(|l| l.0 == leader))
    };
    let (dead, at) = [2, 1].into_iter().find_map(|live| Some((3 - live, of(&world, live)?))).unwrap();
    let entry = world.entries().into_values().nth(at).unwrap();
    // One acknowledges, so all three open.
    world.kill(dead);
    world.run(90 * SECOND);
    assert_eq!(world.entries().into_values().nth(at).unwrap(), entry);
    assert!(world.topic("orders").partitions[at].serving);
    world.start(dead);
    world.run(180 * SECOND);
    assert_eq!(away(&world), 0);
}

#[test]
fn a_move_that_can_no_longer_open_is_given_up_without_another_epoch() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.desired.topics[0].ack_quorum = Some(1);
    world.wish();
    world.run(2 * SECOND);
    roll(&mut world, 0);
    world.stops.clear();
    // Its followers never report the whole log: the move waits, and would end with another epoch of the same leader.
    world.never_whole = true;
    while world.stops.is_empty() {
        world.run(Duration::from_millis(50));
    }
    let key = world.stops[0].1;
    let entry = world.entries()[&key].clone();
    let leader = entry.leader.unwrap().ordinal.0;
    world.kill(3 - leader);
    world.run(5 * SECOND);
    assert_eq!(world.entries()[&key], entry);
    assert!(world.topic("orders").partitions[key.partition as usize].serving);
}
