use std::time::Duration;

use super::world::{World, wish};
use crate::id::Ordinal;

const SECOND: Duration = Duration::from_secs(1);

fn leader(world: &World) -> u16 {
    world.topic("orders").partitions[0].leader.unwrap().0
}

#[test]
fn a_leader_that_lives_and_does_not_open_its_term_is_replaced() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let first = leader(&world);
    // Its process is another one, and cannot.
    world.kill(first);
    world.brokers.get_mut(&first).unwrap().opens_nothing = true;
    world.run(SECOND);
    let second = leader(&world);
    world.brokers.get_mut(&second).unwrap().opens_nothing = true;
    world.kill(second);
    world.start(first);
    world.start(second);
    world.run(3 * SECOND);
    assert!(!world.topic("orders").ready, "{} leads, and does not open", leader(&world));
    world.run(20 * SECOND);
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
    assert!(![first, second].contains(&leader(&world)));
    assert!(world.told("LeadersReplaced"));
}

#[test]
fn where_nobody_opens_the_tries_become_seldom() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    for broker in world.brokers.values_mut() {
        broker.opens_nothing = true;
    }
    world.run(2 * SECOND);
    let decisions = |world: &World| world.entries().values().next().unwrap().epoch.counter;
    let mut before = decisions(&world);
    let mut tries = Vec::new();
    for _ in 0..4 {
        world.run(60 * SECOND);
        tries.push(decisions(&world) - before);
        before = decisions(&world);
    }
    assert_eq!(tries, [3, 1, 1, 1], "after 5 s, 10, 20, 40, and then a minute each");
    for broker in world.brokers.values_mut() {
        broker.opens_nothing = false;
    }
    world.run(2 * SECOND);
    assert!(world.topic("orders").ready);
}

#[test]
fn who_was_replaced_is_no_preferred_leader_for_eight_minutes() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let first = leader(&world);
    world.brokers.get_mut(&first).unwrap().opens_nothing = true;
    world.run(10 * SECOND);
    let second = leader(&world);
    assert_ne!(second, first);
    world.run(300 * SECOND);
    assert!(world.stops.is_empty() && leader(&world) == second, "no taking turns");
    world.brokers.get_mut(&first).unwrap().opens_nothing = false;
    world.run(420 * SECOND);
    assert_eq!(leader(&world), first);
}

#[test]
fn without_enough_others_a_leader_that_does_not_open_is_waited_for() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let first = leader(&world);
    let other = world.topic("orders").partitions[0].replicas[1].0;
    world.kill(other);
    world.brokers.get_mut(&first).unwrap().opens_nothing = true;
    let entries = world.entries();
    world.run(30 * SECOND);
    assert_eq!(world.entries(), entries);
    assert_eq!(world.topic("orders").partitions[0].leader, Some(Ordinal(first)));
}

#[test]
fn where_too_few_live_to_commit_leaders_do_not_take_turns() {
    let mut world = World::new(3, vec![wish("orders", 1), wish("others", 6)]);
    world.desired.topics[0].ack_quorum = Some(3);
    world.wish();
    world.run(2 * SECOND);
    let before = world.topic("orders").partitions[0].leader.unwrap();
    let counter = |world: &World| {
        let of = |entry: &&crate::entry::Entry| entry.members.sets().all(|set| set.ack_quorum() == 3);
        world.entries().values().find(of).unwrap().epoch.counter
    };
    let first = counter(&world);
    world.kill(before.0);
    world.run(300 * SECOND);
    assert_eq!(counter(&world) - first, 1, "another one was named, once");
    assert!(!world.told("LeadersReplaced"));
    world.start(before.0);
    world.run(90 * SECOND);
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
}

#[test]
fn who_has_a_thousand_terms_to_open_is_given_the_time_for_it() {
    let topics = || (0..3).map(|topic| wish(&format!("t{topic}"), 1_000)).collect();
    for (topics, given) in [(topics(), 7), (vec![wish("orders", 3)], 5)] {
        let mut world = World::new(3, topics);
        for broker in world.brokers.values_mut() {
            broker.opens_nothing = true;
        }
        world.run((given - 1) * SECOND);
        assert!(!world.told("LeadersReplaced"), "too early");
        world.run(4 * SECOND);
        assert!(world.told("LeadersReplaced"), "who opens nothing at all is replaced");
    }
}

#[test]
fn a_leader_that_is_cut_off_from_its_followers_and_not_from_the_operator_is_replaced() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let first = leader(&world);
    let others = [(first + 1) % 3, (first + 2) % 3];
    world.cuts = others.map(|other| (first, other)).into();
    world.run(4 * SECOND);
    assert_eq!(leader(&world), first, "a moment is no reason");
    world.run(2 * SECOND);
    let second = leader(&world);
    assert!(others.contains(&second), "{second}");
    assert!(world.told("LeadersReplaced"));
    world.run(3 * 60 * SECOND);
    assert_eq!(leader(&world), second, "it is not given back while the cut lasts");
    world.cuts.clear();
    world.run(30 * SECOND);
    assert_eq!(leader(&world), second, "nor as soon as it is over");
    world.run(3 * 60 * SECOND);
    assert_eq!(leader(&world), first, "but then it is");
}

#[test]
fn a_leader_is_left_alone_that_reaches_enough_or_that_nobody_else_could_replace() {
    for cuts in [vec![(0, 1), (1, 2), (0, 2)], vec![(0, 1)], vec![(1, 2)], vec![(0, 2)]] {
        let mut world = World::new(3, vec![wish("orders", 6)]);
        world.run(2 * SECOND);
        let entries = world.entries();
        world.cuts.clone_from(&cuts);
        world.run(60 * SECOND);
        assert!(!world.told("LeadersReplaced"), "{cuts:?}");
        assert_eq!(world.entries(), entries, "{cuts:?}: each has one other, or nobody has");
    }
}

#[test]
fn a_leader_is_left_alone_that_reaches_followers_which_do_not_follow() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let first = leader(&world);
    for ordinal in [(first + 1) % 3, (first + 2) % 3] {
        // They live and are reached: under another leader they would not follow either.
        world.brokers.get_mut(&ordinal).unwrap().stuck = true;
    }
    let entries = world.entries();
    world.run(60 * SECOND);
    assert_eq!(world.entries(), entries);
}
