use std::time::Duration;

use super::world::{World, wish};
use crate::control::table::{Page, Root};
use crate::control::{BrokerState, Document, DocumentName, WriteFailure};
use crate::id::ClusterId;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_fresh_cluster_mints_one_id_and_serves_its_topic() {
    let mut world = World::new(3, vec![wish("orders", 6)]);
    world.run(2 * SECOND);
    let topic = world.topic("orders");
    assert!(topic.ready, "{}: {}", topic.reason, topic.message);
    assert_eq!((topic.replication_factor, topic.ack_quorum, topic.partitions.len()), (3, 2, 6));
    let leaders: Vec<u16> = topic.partitions.iter().map(|partition| partition.leader.unwrap().0).collect();
    assert!(
        (0..3).all(|broker| leaders.iter().filter(|leader| **leader == broker).count() == 2),
        "{leaders:?}"
    );
    assert_eq!(world.view.min_brokers, 3);
    assert_eq!(world.view.waiting, None);
    assert!(world.brokers.values().all(|broker| broker.cluster_id == world.view.cluster_id));
    assert!(world.view.brokers.iter().all(|broker| broker.state == BrokerState::Serving));
    // The root thrice (taken, brokers, the page), the page once; no more while nothing happens.
    let writes = world.writes;
    assert!(writes <= 8, "{writes} writes");
    world.run(30 * SECOND);
    assert_eq!(world.writes, writes, "quiet means quiet");
}

#[test]
fn nothing_is_minted_while_a_broker_is_not_heard() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.kill(2);
    world.run(20 * SECOND);
    assert_eq!(world.view.cluster_id, None);
    assert!(world.ledger.is_empty());
    assert_eq!(world.view.waiting.as_ref().map(|waiting| waiting.reason), Some("AwaitingBrokers"));
    world.start(2);
    world.run(2 * SECOND);
    assert!(world.topic("orders").ready);
}

#[test]
fn two_cluster_ids_halt_and_say_so() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.brokers.get_mut(&0).unwrap().cluster_id = Some(ClusterId(1));
    world.brokers.get_mut(&2).unwrap().cluster_id = Some(ClusterId(2));
    world.run(10 * SECOND);
    let waiting = world.view.waiting.clone().unwrap();
    assert!(waiting.halted);
    assert_eq!(waiting.reason, "TwoClusterIds");
    assert!(
        waiting.message.contains("broker 2: 00000000-0000-0000-0000-000000000002"),
        "{}",
        waiting.message
    );
    assert!(world.ledger.is_empty());
}

#[test]
fn a_foreign_volume_in_a_known_cluster_is_refused_and_the_others_serve() {
    let mut world = World::new(3, vec![wish("orders", 2)]);
    world.run(2 * SECOND);
    world.kill(2);
    world.add_broker(2, 99);
    world.brokers.get_mut(&2).unwrap().cluster_id = Some(ClusterId(77));
    world.run(3 * SECOND);
    assert_eq!(world.view.brokers[2].state, BrokerState::Refused);
    assert!(
        world.view.brokers[2].message.contains("belongs to Cluster"),
        "{}",
        world.view.brokers[2].message
    );
    assert!(world.topic("orders").ready, "two of three commit");
}

#[test]
fn a_restarted_operator_finds_the_same_entries_and_decides_nothing() {
    let mut world = World::new(3, vec![wish("orders", 6)]);
    world.run(2 * SECOND);
    let (entries, tenure) = (world.entries(), world.view.controller_epoch);
    world.restart_controller();
    world.run(3 * SECOND);
    assert_eq!(world.entries(), entries);
    assert!(world.view.controller_epoch > tenure);
    assert!(world.topic("orders").ready);
    assert_eq!(world.root().controller_epoch, world.view.controller_epoch);
    let stamped =
        world.ledger.values().all(|(document, _)| document.controller_epoch == world.view.controller_epoch);
    assert!(stamped, "every page carries the tenure");
}

#[test]
fn the_tenure_rises_above_the_wall_clock_and_above_the_root() {
    let mut world = World::new(1, vec![]);
    world.run(SECOND);
    assert_eq!(world.view.controller_epoch, 1_000);
    world.wall = 500;
    world.restart_controller();
    world.run(SECOND);
    assert_eq!(world.view.controller_epoch, 1_001);
    world.wall = 9_000;
    world.restart_controller();
    world.run(SECOND);
    assert_eq!(world.view.controller_epoch, 9_000);
}

#[test]
fn two_operators_with_one_clock_and_one_table_have_two_tenures() {
    for wall in [1_000, 9_000] {
        let tenure = |salt: u16| {
            let mut world = World::new(1, vec![]);
            world.run(SECOND);
            (world.wall, world.salt) = (wall, salt);
            world.restart_controller();
            world.run(SECOND);
            world.view.controller_epoch
        };
        assert_ne!(tenure(17), tenure(u16::MAX), "at {wall}, with the table's tenure at 1000");
    }
}

#[test]
fn a_tenure_of_an_earlier_version_in_seconds_is_below_every_later_one() {
    let mut world = World::new(1, vec![]);
    (world.wall, world.salt) = (1_795_000_000, 0);
    world.run(SECOND);
    assert_eq!(world.view.controller_epoch, 1_795_000_000);
    // A clock that was reset, and one that shows the same second in microseconds.
    for (wall, above) in [(0, 1_795_000_000), (1_795_000_000_000_000, 1_794_999_999_999_999)] {
        (world.wall, world.salt) = (wall, u16::MAX);
        world.restart_controller();
        world.run(SECOND);
        assert!(world.view.controller_epoch > above);
        assert!(i64::try_from(world.view.controller_epoch).is_ok(), "the resource has a signed number");
    }
}

#[test]
fn a_deposed_controller_stops() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let (root, at) = world.ledger.get_mut(&DocumentName::Root).unwrap();
    root.controller_epoch += 5;
    *at += 1_000;
    let ledger = world.ledger.clone();
    world.desired.topics.push(wish("payments", 300));
    world.wish();
    world.kill(0);
    world.start(0);
    world.run(5 * SECOND);
    let waiting = world.view.waiting.clone().unwrap();
    assert_eq!((waiting.reason, waiting.halted), ("Deposed", true));
    assert_eq!(world.ledger[&DocumentName::Root], ledger[&DocumentName::Root]);
}

#[test]
fn a_write_of_unknown_outcome_is_settled_by_reading() {
    for stored in [true, false] {
        let mut world = World::new(3, vec![wish("orders", 3)]);
        world.trouble.push_back((WriteFailure::OutcomeUnknown, stored));
        world.run(3 * SECOND);
        assert!(world.topic("orders").ready, "{:?}", world.view.waiting);
        assert_eq!(world.view.controller_epoch, 1_000, "the tenure goes on");
    }
}

#[test]
fn a_ledger_that_is_away_is_asked_again_and_nothing_is_pushed_meanwhile() {
    let mut world = World::new(3, vec![wish("orders", 3)]);
    world.run(2 * SECOND);
    let held = |world: &World| world.brokers.values().map(|broker| broker.pages.clone().len()).sum::<usize>();
    let before = (held(&world), world.entries());
    world.ledger_away = true;
    world.desired.topics.push(wish("payments", 3));
    world.wish();
    world.run(20 * SECOND);
    assert_eq!((held(&world), world.entries()), before);
    assert!(!world.topic("payments").ready);
    assert_eq!(world.view.waiting.as_ref().map(|waiting| waiting.reason), Some("LedgerUnavailable"));
    assert!(world.topic("orders").ready, "what was decided goes on");
    world.ledger_away = false;
    world.run(8 * SECOND);
    assert!(world.topic("payments").ready);
    assert_eq!(world.view.waiting, None);
}

#[test]
fn a_page_that_the_root_does_not_list_decides_nothing() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    let entry = |world: &World| {
        let held = world.brokers.values().flat_map(|broker| broker.replicas.values());
        held.map(|held| held.entry.epoch.counter).max().unwrap()
    };
    let before = entry(&world);
    // What a tenure wrote that was deposed before it could list it.
    let (mut document, at) = world.ledger[&DocumentName::Page(0)].clone();
    let mut page = Page::parse(7, &document.lines).unwrap();
    page.entries[0].epoch.counter += 5;
    (document.name, document.lines) = (DocumentName::Page(7), page.lines());
    world.ledger.insert(DocumentName::Page(7), (document, at + 1_000));
    world.restart_controller();
    world.run(3 * SECOND);
    assert!(world.topic("orders").ready, "{:?}", world.view.waiting);
    assert!(world.brokers.values().all(|broker| !broker.pages.contains_key(&7)), "it was pushed");
    assert_eq!(entry(&world), before);
}

#[test]
fn a_table_of_a_later_version_halts() {
    let mut world = World::new(1, vec![]);
    world.run(SECOND);
    world.ledger.get_mut(&DocumentName::Root).unwrap().0.lines[0] = "format 2".to_owned();
    world.restart_controller();
    world.run(SECOND);
    assert_eq!(world.view.waiting.as_ref().map(|waiting| waiting.reason), Some("TableOfAnotherVersion"));
}

#[test]
fn a_restored_volume_is_refused() {
    let mut world = World::new(3, vec![wish("orders", 1)]);
    world.run(2 * SECOND);
    world.kill(1);
    world.start(1);
    world.run(2 * SECOND);
    // The volume goes back to before the last process, which ran as session 2 under another boot id.
    world.kill(1);
    world.brokers.get_mut(&1).unwrap().processes.truncate(1);
    world.start(1);
    world.brokers.get_mut(&1).unwrap().processes.last_mut().unwrap().boot.0 += 1;
    world.run(2 * SECOND);
    assert_eq!(world.view.brokers[1].state, BrokerState::Refused);
    assert!(
        world.view.brokers[1].message.contains("restored from a copy"),
        "{}",
        world.view.brokers[1].message
    );
}

/// A root that names no page and no broker, as the first one is written.
fn first_root(cluster_id: ClusterId) -> Document {
    let (pages, brokers) = (Vec::new(), Vec::new());
    let root = Root { cluster_id, controller_epoch: 1, rebuilding: false, pages, brokers };
    Document { name: DocumentName::Root, cluster_id, controller_epoch: 1, lines: root.lines() }
}

#[test]
fn a_first_root_that_arrives_when_its_table_has_come_and_gone_gives_nobody_another_identity() {
    for restarts in [false, true] {
        let mut world = World::new(3, vec![wish("orders", 2)]);
        world.run(2 * SECOND);
        let id = world.view.cluster_id;
        world.ledger.clear();
        world.restore(DocumentName::Root, first_root(ClusterId(77)));
        if restarts {
            world.restart_controller();
        } else {
            let stray = world.ledger.clone();
            world.show(&stray);
        }
        world.run(10 * SECOND);
        assert_eq!((world.view.cluster_id, world.root().cluster_id), (id, id.unwrap()));
        assert!(world.topic("orders").ready, "{:?}", world.view.waiting);
        assert!(world.told("TableLost"));
    }
}

#[test]
fn a_single_foreign_volume_does_not_outweigh_a_first_root() {
    for brokers in [1, 3] {
        let mut world = World::new(brokers, vec![wish("orders", 1)]);
        world.restore(DocumentName::Root, first_root(ClusterId(77)));
        world.brokers.get_mut(&0).unwrap().cluster_id = Some(ClusterId(13));
        world.run(10 * SECOND);
        assert_eq!(world.view.cluster_id, Some(ClusterId(77)));
        assert_eq!(world.view.brokers[0].state, BrokerState::Refused);
    }
}

#[test]
fn a_first_root_that_nobody_was_told_of_keeps_its_id() {
    let mut world = World::new(3, vec![wish("orders", 2)]);
    world.restore(DocumentName::Root, first_root(ClusterId(77)));
    // One of them was told of it before the operator ended.
    world.brokers.get_mut(&1).unwrap().cluster_id = Some(ClusterId(77));
    world.run(3 * SECOND);
    assert_eq!(world.view.cluster_id, Some(ClusterId(77)));
    assert!(world.topic("orders").ready && !world.told("ClusterCreated") && !world.told("TableLost"));
    let mut world = World::new(3, vec![wish("orders", 2)]);
    world.restore(DocumentName::Root, first_root(ClusterId(77)));
    world.run(3 * SECOND);
    assert_eq!(world.view.cluster_id, Some(ClusterId(77)));
    assert!(world.topic("orders").ready && !world.told("ClusterCreated"));
}
