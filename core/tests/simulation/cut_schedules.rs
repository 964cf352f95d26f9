//! Links that are cut, and stay so: who is dead, and who leads, with the real controller.

use fulmar_core::control::BrokerState;
use fulmar_core::entry::Entry;

use crate::network::OPERATOR;
use crate::random::Random;
use crate::world::{Shape, World};

/// Long enough for a tenure to begin, and for everything that it decides.
const SECONDS_20: u64 = 20_000;

/// Brokers, one partition on three of them, with records; and who leads it.
fn set(brokers: usize) -> (World, usize) {
    let mut world = World::shaped(7, Random::new(7), &mut Shape::quiet(brokers, 3, 2), true);
    world.set_going();
    world.pass(SECONDS_20).unwrap();
    let leader = only_entry(&world).leader.expect("it is led");
    (world, usize::from(leader.ordinal.0))
}

fn only_entry(world: &World) -> Entry {
    world.ledger.pages().remove(0).entries.remove(0)
}

/// Nothing passes between `node` and these, either way.
fn cut(world: &mut World, node: usize, others: impl IntoIterator<Item = usize>, ms: u64) {
    let until = world.now_ms + ms;
    for other in others.into_iter().filter(|other| *other != node) {
        world.network.cut(node, other, until);
        world.network.cut(other, node, until);
    }
}

fn is_dead(world: &World, node: usize) -> bool {
    let mut ruling = world.operators.iter().filter(|operator| operator.controller.is_some());
    let view = &ruling.next().expect("an operator rules").view;
    view.brokers.iter().any(|one| usize::from(one.ordinal.0) == node && one.state == BrokerState::Dead)
}

#[test]
fn a_broker_that_is_cut_from_the_operator_alone_is_not_called_dead() {
    let (mut world, leader) = set(3);
    let before = only_entry(&world);
    cut(&mut world, leader, [OPERATOR, OPERATOR + 1], 30_000);
    for _ in 0..40 {
        world.pass(1000).unwrap();
        assert!(!is_dead(&world, leader), "its peers hear it\n{}", world.story.last_lines(60, false));
    }
    assert_eq!(only_entry(&world), before, "no leader moves for it");
    assert_eq!(world.totals.of("event BrokerLost"), 0);
}

#[test]
fn a_broker_that_nobody_hears_is_dead_within_3_s_and_another_leads() {
    let (mut world, leader) = set(3);
    cut(&mut world, leader, [0, 1, 2, OPERATOR, OPERATOR + 1], 30_000);
    let since = world.now_ms;
    world.pass(900).unwrap();
    assert!(!is_dead(&world, leader), "a second of silence is none");
    while !is_dead(&world, leader) {
        world.pass(100).unwrap();
        // A second until gossip takes it for dead, and one for its silence, which are one and the same.
        assert!(world.now_ms <= since + 3000, "{}", world.story.last_lines(60, false));
    }
    world.pass(2000).unwrap();
    let now = world.leader(only_entry(&world).key).map(|node| node.number);
    assert!(now.is_some_and(|now| now != leader), "{now:?} leads");
}

/// The directions that are cut between a leader and its followers.
const WAYS: [(bool, bool); 3] = [(true, true), (true, false), (false, true)];

#[test]
fn a_leader_that_is_cut_from_its_followers_alone_is_replaced_and_the_next_one_commits() {
    // With five, others that reach both sides let gossip go round the cut.
    for (brokers, (out, back)) in [3, 5].into_iter().flat_map(|brokers| WAYS.map(|way| (brokers, way))) {
        let (mut world, first) = set(brokers);
        let key = only_entry(&world).key;
        let (from, until) = (world.now_ms, world.now_ms + 60_000);
        let followers = only_entry(&world).members.replicas().into_iter();
        for other in followers.map(|one| usize::from(one.ordinal.0)).filter(|other| *other != first) {
            if out {
                world.network.cut(first, other, until);
            }
            if back {
                world.network.cut(other, first, until);
            }
        }
        let leads = |world: &World| world.leader(key).map(|node| node.number).filter(|one| *one != first);
        while leads(&world).is_none() {
            world.pass(100).unwrap();
            let late = world.now_ms > from + 15_000;
            assert!(!late, "{brokers} {out} {back}\n{}", world.story.last_lines(60, false));
        }
        let (acknowledged, entry) = (world.totals.of("acknowledgements"), only_entry(&world));
        world.pass(until - world.now_ms + 20_000).unwrap();
        assert!(world.totals.of("acknowledgements") > acknowledged + 10, "it commits");
        assert_eq!(only_entry(&world), entry, "it is neither given back nor passed on");
        world.pass(240_000).unwrap();
        assert_eq!(leads(&world), None, "the first one leads again when all is well for long");
        world.calm = true;
        world.pass(SECONDS_20).unwrap();
        world.rests().unwrap();
        world.final_check().unwrap();
    }
}

#[test]
fn no_leader_is_replaced_that_reaches_enough_or_that_nobody_could_do_without() {
    for pairs in [&[(0, 1)][..], &[(1, 2)], &[(0, 2)], &[(0, 1), (1, 2), (0, 2)]] {
        let (mut world, _) = set(3);
        let before = only_entry(&world);
        for (node, other) in pairs {
            cut(&mut world, *node, [*other], 60_000);
        }
        world.pass(60_000).unwrap();
        assert_eq!(only_entry(&world), before, "{pairs:?}");
    }
}
