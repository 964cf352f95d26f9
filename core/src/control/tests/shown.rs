use std::time::Duration;

use super::world::{World, wish};
use crate::control::DocumentName;

const SECOND: Duration = Duration::from_secs(1);
const PAGE: DocumentName = DocumentName::Page(0);

/// At rest, with a page that was written more than once; and what the page said first.
fn world() -> (World, crate::control::Document) {
    let mut world = World::new(3, vec![wish("orders", 2)]);
    world.run(3 * SECOND);
    let early = world.ledger[&PAGE].0.clone();
    world.desired.topics[0].ack_quorum = Some(3);
    world.wish();
    world.run(3 * SECOND);
    world.show(&world.ledger.clone());
    world.run(3 * SECOND);
    (world, early)
}

#[test]
fn a_page_that_goes_back_while_nothing_is_written_is_put_right_in_seconds() {
    let (mut world, early) = world();
    let (entries, tenure) = (world.entries(), world.view.controller_epoch);
    world.restore(PAGE, early);
    assert_ne!(world.entries(), entries);
    world.run(10 * SECOND);
    assert_ne!(world.entries(), entries, "nobody has shown it");
    world.show(&world.ledger.clone());
    world.run(5 * SECOND);
    assert_eq!(world.entries(), entries, "what the brokers hold stands again");
    assert!(world.view.controller_epoch > tenure, "by a tenure that asked them");
    assert!(world.told("TableRebuilt"));
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
}

#[test]
fn a_page_that_is_deleted_while_nothing_is_written_is_there_again_in_seconds() {
    let (mut world, _) = world();
    let entries = world.entries();
    world.ledger.remove(&PAGE);
    world.show(&world.ledger.clone());
    world.run(5 * SECOND);
    assert_eq!(world.entries(), entries);
    assert!(world.topic("orders").ready, "{}", world.topic("orders").message);
}

#[test]
fn a_watch_that_stays_behind_costs_one_read_for_what_it_shows_and_no_tenure() {
    let (mut world, _) = world();
    let behind = world.ledger.clone();
    world.desired.topics[0].ack_quorum = Some(2);
    world.wish();
    world.run(SECOND);
    let (loads, tenure, writes) = (world.loads, world.view.controller_epoch, world.writes);
    world.show(&behind);
    world.run(60 * SECOND);
    assert_eq!(world.loads, loads + 1);
    world.show(&world.ledger.clone());
    world.run(60 * SECOND);
    assert_eq!((world.loads, world.view.controller_epoch), (loads + 1, tenure));
    assert_eq!(world.writes, writes);
    assert!(world.topic("orders").ready);
}

#[test]
fn a_watch_that_is_a_second_late_costs_nothing() {
    let (mut world, _) = world();
    let loads = world.loads;
    for quorum in [2, 3, 2, 3] {
        world.desired.topics[0].ack_quorum = Some(quorum);
        world.wish();
        world.run(SECOND);
        world.show(&world.ledger.clone());
    }
    world.run(10 * SECOND);
    assert_eq!(world.loads, loads);
}
