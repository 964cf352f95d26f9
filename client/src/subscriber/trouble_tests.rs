use fulmar_core::id::{PartitionKey, TopicId};

use super::*;

fn position(partition: u32, next: u64) -> Position {
    Position::new(PartitionKey { topic: TopicId::from_bytes([1; 16]), partition }, next, None)
}

/// After which of these seconds it is told of a partition that is interrupted in each.
fn told(seconds: impl IntoIterator<Item = u64>, next: impl Fn(u64) -> u64) -> Vec<u64> {
    let (mut troubles, began) = (Troubles::default(), Instant::now());
    let is_told =
        |second: &u64| troubles.note(&position(0, next(*second)), began + Duration::from_secs(*second));
    seconds.into_iter().filter(is_told).collect()
}

#[test]
fn a_partition_that_cannot_be_read_for_a_minute_is_told_once() {
    assert_eq!(told(0..600, |_| 7), [60]);
    let mut troubles = Troubles::default();
    let now = Instant::now();
    assert!(!troubles.note(&position(0, 7), now));
    assert!(!troubles.note(&position(1, 7), now + TOLD_AFTER), "another one");
}

#[test]
fn a_partition_that_is_read_in_between_is_in_no_trouble() {
    assert!(told(0..600, |second| second / 50).is_empty(), "it goes on");
    assert!(told((0..600).step_by(40), |_| 7).is_empty(), "nothing kept it for half a minute");
    assert_eq!(told((0..100).chain(200..300), |_| 7), [60, 260], "a second time");
}
