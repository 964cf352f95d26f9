use super::*;

fn id(number: u8) -> TopicId {
    TopicId::from_bytes([number; 16])
}

#[test]
fn a_partition_is_begun_once() {
    let (mut known, now) = (KnownTopics::default(), Instant::now());
    assert_eq!(known.begin(id(1), 3, now), 0..3);
    assert!(known.begin(id(1), 3, now).is_empty());
    assert!(known.begin(id(1), 2, now).is_empty(), "a broker that is behind");
    assert_eq!(known.begin(id(1), 5, now), 3..5);
    assert_eq!(known.begin(id(2), 1, now), 0..1);
    assert_eq!(known.partitions(), 6);
}

#[test]
fn what_is_gone_takes_no_share_and_is_forgotten_after_a_while() {
    let (mut known, mut now) = (KnownTopics::default(), Instant::now());
    known.begin(id(1), 3, now);
    known.begin(id(1), 4, now);
    known.begin(id(2), 1, now);
    now += FORGOTTEN_AFTER;
    known.forget(now);
    assert_eq!((known.partitions(), known.topics.len()), (5, 2), "both are read");
    known.end(id(1));
    assert_eq!(known.partitions(), 5, "the other reader of it runs");
    known.end(id(1));
    assert_eq!(known.partitions(), 1);
    assert!(known.begin(id(1), 4, now).is_empty(), "a broker that is behind names it");
    known.forget(now + FORGOTTEN_AFTER - Duration::from_secs(1));
    assert_eq!(known.topics.len(), 2);
    known.forget(now + FORGOTTEN_AFTER);
    assert_eq!(known.topics.len(), 1);
}
