use std::collections::BTreeSet;
use std::time::Duration;

use super::world::{World, wish};
use crate::id::Ordinal;

const SECOND: Duration = Duration::from_secs(1);

/// More than are looked through in no time.
fn large(grouped: bool) -> World {
    let topics = (0..4).map(|topic| wish(&format!("t{topic}"), 1_000)).collect();
    let mut world = World::new(3, topics);
    world.grouped = grouped;
    world.run(8 * SECOND);
    let unready: Vec<_> = world.view.topics.values().filter(|topic| !topic.ready).collect();
    assert!(unready.is_empty(), "{:?}", unready.iter().map(|topic| &topic.message).collect::<Vec<_>>());
    world
}

#[test]
fn thousands_of_a_dead_brokers_partitions_are_led_again_by_one_write_a_page() {
    for grouped in [false, true] {
        let mut world = large(grouped);
        let (writes, pages) = (world.writes, world.ledger.len() - 1);
        assert!(pages > 5);
        world.kill(0);
        world.run(SECOND);
        let entries = world.entries();
        let led =
            entries.values().filter(|entry| entry.leader.is_some_and(|leader| leader.ordinal != Ordinal(0)));
        assert_eq!(led.count(), 4_000);
        assert_eq!(world.writes - writes, pages);
        world.run(2 * SECOND);
        assert!(world.view.topics.values().all(|topic| topic.ready), "two of three commit");
    }
}

#[test]
fn a_large_table_at_rest_is_looked_through_seldom_and_a_death_is_seen_at_once() {
    let mut world = large(true);
    world.run(5 * SECOND);
    let mut looks = BTreeSet::new();
    for _ in 0..100 {
        world.run(Duration::from_millis(100));
        looks.insert(world.controller.looked);
    }
    assert!(looks.len() <= 17, "every 0.6 s or less often, not every 0.1 s: {}", looks.len());
    world.kill(1);
    world.run(Duration::from_millis(50));
    let dead = |ordinal| {
        world
            .entries()
            .values()
            .filter(|entry| entry.leader.is_some_and(|one| one.ordinal == ordinal))
            .count()
    };
    assert_eq!(dead(Ordinal(1)), 0);
}
