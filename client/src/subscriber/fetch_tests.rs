use fulmar_core::term::Epoch;

use super::*;

fn topic(id: u8, partitions: usize) -> Topic {
    let partition = crate::metadata::Partition { leader: None, epoch: Epoch::default() };
    Topic {
        id: TopicId::from_bytes([id; 16]),
        record_bytes_max: 1024,
        partitions: vec![partition; partitions],
    }
}

#[test]
fn partitions_that_a_topic_gained_are_added() {
    let topic = topic(1, 5);
    let gained: Vec<u32> = added((topic.id, 3), &topic).iter().map(|key| key.partition).collect();
    assert_eq!(gained, [3, 4]);
    assert!(added((topic.id, 5), &topic).is_empty());
    assert!(added((topic.id, 7), &topic).is_empty(), "a broker that is behind");
}

#[test]
fn partitions_of_a_topic_that_was_created_anew_are_not_added() {
    let (before, anew) = (topic(1, 3), topic(2, 5));
    assert!(added((before.id, 3), &anew).is_empty());
}
