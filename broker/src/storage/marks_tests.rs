use proptest::prelude::*;

use super::*;

/// Batches of so many bytes, each of one record, with retention that follows a limit now and then.
fn any_life() -> impl Strategy<Value = (Vec<u64>, u64, usize)> {
    let batches = proptest::collection::vec(1..400_000u64, 1..3000);
    (batches, 1..400_000_000u64, 1..50usize)
}

proptest! {
    /// What is kept is at most the limit and at least fifteen sixteenths of it, wherever anything is said at all.
    #[test]
    fn what_is_kept_is_close_below_the_limit((batches, limit, every) in any_life()) {
        let mut marks = Marks::default();
        let mut start = Offset::ZERO;
        for (at, bytes) in batches.iter().enumerate() {
            marks.append(Offset(at as u64 + 1), *bytes);
            prop_assert!(marks.places.len() <= PLACES_MAX);
            if !at.is_multiple_of(every) {
                continue;
            }
            let Some(keeping) = marks.keeping(limit) else { continue };
            let kept: u64 = batches[usize::try_from(keeping.0).unwrap()..=at].iter().sum();
            prop_assert!(kept <= limit && kept >= limit - limit / PART, "{kept} of {limit}");
            prop_assert!(keeping >= start, "never back");
            start = keeping;
            marks.forget_below(start);
        }
    }
}

#[test]
fn a_log_that_fills_for_ever_is_told_where_to_begin_by_few_places() {
    const LIMIT: u64 = 1 << 30;
    const BATCH: u64 = 1 << 18;
    let mut marks = Marks::default();
    let mut said = 0;
    for at in 1..=100_000 {
        marks.append(Offset(at), BATCH);
        if let Some(start) = marks.keeping(LIMIT) {
            said += 1;
            marks.forget_below(start);
        }
    }
    // From when the limit was reached on, all the time.
    assert_eq!(said, 100_000 - LIMIT / BATCH + 1);
}

#[test]
fn what_came_before_is_not_known_and_a_limit_below_the_grain_neither() {
    let mut marks = Marks::default();
    marks.append(Offset(1), 10 << 20);
    assert_eq!(marks.keeping(11 << 20), None, "less came than stays");
    marks.append(Offset(2), 1 << 10);
    assert_eq!(marks.keeping(1), None, "no place is that close to the end");
    assert_eq!(marks.keeping(1 << 10), Some(Offset(1)));
}
