use fulmar_core::term::Epoch;

use super::*;

const TOPIC: TopicId = TopicId(1);

fn record(id: TopicId, retained: bool, counter: u64) -> TopicRecord {
    TopicRecord {
        id,
        name: "events".to_owned(),
        partitions: 1,
        replication_factor: 1,
        ack_quorum: 1,
        max_message_bytes: 100,
        retention_ms: None,
        retention_bytes: None,
        retained,
        changed: Epoch { generation: 1, counter },
    }
}

fn entry(counter: u64) -> Entry {
    let replica = "0:0198a5c2-7b1e-7c3d-9f00-000000000001";
    let key = PartitionKey { topic: TOPIC, partition: 0 };
    format!("{key} epoch=1.{counter} leader={replica} members=1of[{replica}]").parse().unwrap()
}

fn page(number: u32, order: (u64, u64), topics: Vec<TopicRecord>, entries: Vec<Entry>) -> HeldPage {
    HeldPage { controller_epoch: order.0, revision: order.1, page: Page { number, topics, entries } }
}

#[test]
fn an_older_page_changes_nothing() {
    let new = Directory::default().with(page(1, (2, 1), Vec::new(), vec![entry(2)])).unwrap();
    assert!(new.with(page(1, (1, 9), Vec::new(), vec![entry(1)])).is_none());
    assert!(new.with(page(1, (2, 1), Vec::new(), vec![entry(1)])).is_none());
    assert!(new.with(page(1, (2, 2), Vec::new(), vec![entry(3)])).is_some());
    assert!(new.with(page(2, (1, 1), Vec::new(), Vec::new())).is_some());
}

#[test]
fn of_two_lines_about_one_thing_the_later_decision_holds() {
    let one =
        Directory::default().with(page(1, (1, 1), vec![record(TOPIC, true, 2)], vec![entry(2)])).unwrap();
    let both = one.with(page(2, (1, 1), vec![record(TOPIC, false, 1)], vec![entry(1)])).unwrap();
    assert!(both.topic("events").unwrap().retained);
    let key = PartitionKey { topic: TOPIC, partition: 0 };
    assert_eq!(both.entry(key).unwrap().epoch, Epoch { generation: 1, counter: 2 });
}

#[test]
fn a_wished_topic_takes_its_name_from_a_retained_one() {
    let other = TopicId(2);
    for topics in [
        vec![record(TOPIC, true, 9), record(other, false, 1)],
        vec![record(TOPIC, false, 1), record(other, true, 9)],
    ] {
        let wished = topics.iter().find(|topic| !topic.retained).unwrap().id;
        let directory = Directory::default().with(page(1, (1, 1), topics, Vec::new())).unwrap();
        assert_eq!(directory.topic("events").unwrap().id, wished);
    }
}

#[test]
fn what_replaces_a_page_replaces_its_topics() {
    let before =
        Directory::default().with(page(1, (1, 1), vec![record(TOPIC, false, 1)], vec![entry(1)])).unwrap();
    let after = before.with(page(1, (1, 2), Vec::new(), Vec::new())).unwrap();
    assert!(after.topic("events").is_none() && after.entries().next().is_none());
}
