use proptest::prelude::*;

use super::*;
use crate::entry::{Entry, Members, ReplicaSet};
use crate::id::{ClusterId, Incarnation, Ordinal, PartitionKey, ReplicaId, TopicId};
use crate::term::{BootId, Epoch, Process, Session};

fn replica(ordinal: u16) -> ReplicaId {
    ReplicaId { ordinal: Ordinal(ordinal), incarnation: Incarnation(u128::from(ordinal) + 100) }
}

fn set(ordinals: &[u16], ack_quorum: u8) -> ReplicaSet {
    ReplicaSet::new(ordinals.iter().map(|ordinal| replica(*ordinal)).collect(), ack_quorum).unwrap()
}

fn topic(id: u128, name: &str) -> TopicRecord {
    TopicRecord {
        id: TopicId(id),
        name: name.to_owned(),
        partitions: 2,
        replication_factor: 3,
        ack_quorum: 2,
        max_message_bytes: 1 << 20,
        retention_ms: Some(604_800_000),
        retention_bytes: None,
        retained: false,
        changed: Epoch { generation: 7, counter: 3 },
    }
}

fn entry(topic: u128, partition: u32, members: Members) -> Entry {
    let leader = members.replicas().first().copied();
    Entry {
        key: PartitionKey { topic: TopicId(topic), partition },
        epoch: Epoch { generation: 7, counter: u64::from(partition) + 1 },
        leader,
        members,
        learners: Vec::new(),
        lost: Vec::new(),
        accepted_loss: None,
    }
}

#[test]
fn a_page_reads_as_people_would_write_it() {
    let mut joint = entry(1, 1, Members::Joint { old: set(&[0, 1, 2], 2), new: set(&[0, 1, 3], 2) });
    joint.lost = vec![replica(2)];
    let mut led_by_nobody = entry(9, 0, Members::One(set(&[1], 1)));
    led_by_nobody.leader = None;
    led_by_nobody.learners = vec![replica(0)];
    let page = Page {
        number: 4,
        topics: vec![topic(1, "orders.v1")],
        entries: vec![entry(1, 0, Members::One(set(&[2, 0, 1], 2))), joint, led_by_nobody],
    };
    let lines = page.lines();
    assert_eq!(
        lines,
        [
            "format 1",
            "replica 0 0:00000000-0000-0000-0000-000000000064",
            "replica 1 1:00000000-0000-0000-0000-000000000065",
            "replica 2 2:00000000-0000-0000-0000-000000000066",
            "replica 3 3:00000000-0000-0000-0000-000000000067",
            "topic 00000000-0000-0000-0000-000000000001 name=orders.v1 partitions=2 replicationFactor=3 ackQuorum=2 \
             maxMessageBytes=1048576 retentionMs=604800000 retentionBytes=none retained=false changed=7.3",
            "0 epoch=7.1 leader=0 members=2of[2,0,1]",
            "1 epoch=7.2 leader=0 members=2of[0,1,2]+2of[0,1,3] lost=2",
            "unnamed 00000000-0000-0000-0000-000000000009",
            "0 epoch=7.1 leader=none members=1of[1] learners=0",
        ]
    );
    assert_eq!(Page::parse(4, &lines), Ok(page));
}

#[test]
fn a_broken_line_is_named_with_what_may_stand_there() {
    let page = Page {
        number: 0,
        topics: vec![topic(1, "orders")],
        entries: vec![entry(1, 0, Members::One(set(&[0, 1, 2], 2)))],
    };
    let broken = |line: usize, text: &str| {
        let mut lines = page.lines();
        lines[line - 1] = text.to_owned();
        Page::parse(0, &lines).unwrap_err().to_string()
    };
    assert!(broken(1, "format 2").contains("another version"));
    assert_eq!(
        broken(3, "replica 7 1:x"),
        "line 3 of the partition table: \"replica 7 1:x\" is not replica 1"
    );
    assert!(
        broken(5, "topic x name=a").starts_with("line 5 of the partition table: \"x\" is not a topic's id")
    );
    assert!(
        broken(6, "0 epoch=7.1 leader=9 members=2of[0,1,2]").contains("\"9\" is not the index of a replica")
    );
    assert!(broken(6, "0 epoch=7.1 leader=0 members=4of[0,1,2]").contains("ackQuorum 4 of 3 replicas"));
    assert!(broken(6, "0 epoch=7.1 leader=0 members=2of[0,1,2] more").contains("the end of the line"));
}

#[test]
fn a_partition_on_one_page_twice_is_refused() {
    let page = Page { number: 0, topics: vec![topic(1, "orders")], entries: Vec::new() };
    let mut lines = page.lines();
    lines.push(lines[1].clone());
    assert!(Page::parse(0, &lines).unwrap_err().to_string().contains("named once"));
}

#[test]
fn a_page_beyond_its_bytes_is_refused() {
    let mut lines = vec!["format 1".to_owned()];
    lines.extend((0..2_000).map(|index| format!("replica {index} {}", replica(1))));
    assert!(
        matches!(Page::parse(0, &lines), Err(InvalidTable::TooLarge { bytes }) if bytes > PAGE_BYTES_MAX)
    );
}

#[test]
fn a_full_root_round_trips_within_a_page() {
    let record = |ordinal| BrokerRecord {
        ordinal: Ordinal(ordinal),
        incarnation: Incarnation(u128::MAX),
        process: Process { session: Session(u64::MAX), boot: BootId(u64::MAX) },
        volume: Some("0198a5c2-7b1e-7c3d-9f00-1234567890ab".to_owned()),
        standing: if ordinal == 0 { BrokerStanding::Lost } else { BrokerStanding::Active },
    };
    let root = Root {
        cluster_id: ClusterId(5),
        controller_epoch: u64::MAX,
        rebuilding: true,
        pages: (0..u32::try_from(PAGES_MAX).unwrap()).collect(),
        brokers: (0..u16::try_from(RECORDS_MAX).unwrap()).map(record).collect(),
    };
    let lines = root.lines();
    assert!(lines.iter().all(|line| line.len() <= 2_048));
    assert_eq!(Root::parse(&lines).as_ref(), Ok(&root));
    assert_eq!(root.lost().count(), 1);
}

#[test]
fn a_root_without_its_cluster_is_refused() {
    let lines: Vec<String> = ["format 1", "controllerEpoch 3", "pages none"].map(str::to_owned).to_vec();
    assert!(Root::parse(&lines).unwrap_err().to_string().contains("cluster ID"));
}

fn arbitrary_set() -> impl Strategy<Value = ReplicaSet> {
    (proptest::sample::subsequence((0u16..12).collect::<Vec<_>>(), 1..=7), any::<prop::sample::Index>())
        .prop_map(|(ordinals, quorum)| {
            let quorum = u8::try_from(quorum.index(ordinals.len()) + 1).unwrap();
            set(&ordinals, quorum)
        })
}

fn arbitrary_entry(topic: u128, partition: u32) -> impl Strategy<Value = Entry> {
    let members = prop_oneof![
        arbitrary_set().prop_map(Members::One),
        (arbitrary_set(), arbitrary_set()).prop_map(|(old, new)| Members::Joint { old, new }),
    ];
    (members, any::<(u64, u64, bool, bool)>()).prop_map(
        move |(members, (generation, counter, led, learns))| {
            let mut entry = entry(topic, partition, members);
            entry.epoch = Epoch { generation, counter };
            entry.leader = entry.leader.filter(|_| led);
            entry.learners = if learns { vec![replica(50)] } else { Vec::new() };
            entry
        },
    )
}

proptest! {
    #[test]
    fn every_page_round_trips(
        entries in (arbitrary_entry(1, 0), arbitrary_entry(1, 1_023), arbitrary_entry(2, 7)),
        name in "[a-zA-Z0-9_-]{1,249}",
        (bytes, ms) in any::<(Option<u64>, Option<u64>)>(),
    ) {
        let mut topic = topic(1, &name);
        (topic.retention_bytes, topic.retention_ms) = (bytes, ms);
        let page = Page { number: 1, topics: vec![topic.clone()], entries: vec![entries.0, entries.1, entries.2] };
        prop_assert_eq!(Page::parse(1, &page.lines()), Ok(page));
        prop_assert_eq!(topic.to_string().parse(), Ok(topic));
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(
        lines in prop::collection::vec("(format 1|replica|topic|broker|pages|[0-9]|epoch=|leader=|members=|of\\[|[ ,+=\\]]|\\PC){0,12}", 0..12),
    ) {
        let mut lines = lines;
        let _ = Page::parse(0, &lines);
        lines.insert(0, "format 1".to_owned());
        let _ = (Page::parse(0, &lines), Root::parse(&lines));
    }

    #[test]
    fn a_page_with_one_byte_changed_never_panics(
        entry in arbitrary_entry(1, 3), at in any::<prop::sample::Index>(), byte in 0x20u8..0x7f,
    ) {
        let page = Page { number: 0, topics: vec![topic(1, "orders")], entries: vec![entry] };
        let mut text = page.lines().join("\n").into_bytes();
        let at = at.index(text.len());
        text[at] = byte;
        let lines: Vec<String> = String::from_utf8(text).unwrap().split('\n').map(str::to_owned).collect();
        let _ = Page::parse(0, &lines);
    }
}
