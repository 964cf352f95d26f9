use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn who_is_told_nothing_yet_is_behind_though_all_that_it_knows_is_committed() {
    let began = Instant::now();
    let mut chase = Chase::new(began);
    assert_eq!(chase.look(Offset(7), None, began), Found::Behind);
    assert_eq!(chase.look(Offset(7), Some(Offset(9)), began), Found::Behind);
    assert_eq!(chase.look(Offset(9), Some(Offset(9)), began), Found::CaughtUp);
}

#[test]
fn who_follows_closely_has_caught_up_though_it_is_never_seen_at_the_end() {
    let began = Instant::now();
    let mut chase = Chase::new(began);
    assert_eq!(chase.look(Offset(0), Some(Offset(1_000)), began), Found::Behind);
    // It took long, and much came meanwhile.
    assert_eq!(chase.look(Offset(1_010), Some(Offset(1_500)), began + 40 * SECOND), Found::Behind);
    assert_eq!(chase.look(Offset(1_400), Some(Offset(1_590)), began + 41 * SECOND), Found::Behind);
    assert_eq!(chase.look(Offset(1_510), Some(Offset(1_600)), began + 42 * SECOND), Found::CaughtUp);
}

#[test]
fn looks_that_are_far_apart_do_not_keep_it_behind() {
    let began = Instant::now();
    let mut chase = Chase::new(began);
    assert_eq!(chase.look(Offset(990), Some(Offset(1_000)), began), Found::Behind);
    assert_eq!(chase.look(Offset(1_990), Some(Offset(2_000)), began + 10 * SECOND), Found::CaughtUp);
}

#[test]
fn it_is_waited_for_as_long_as_it_moves_and_a_minute_more() {
    let began = Instant::now();
    let mut chase = Chase::new(began);
    for minute in 0..100 {
        let now = began + minute * 50 * SECOND;
        assert_eq!(chase.look(Offset(u64::from(minute) + 1), Some(Offset(1_000_000)), now), Found::Behind);
    }
    let last = began + 99 * 50 * SECOND;
    assert_eq!(chase.look(Offset(100), Some(Offset(1_000_000)), last + 59 * SECOND), Found::Behind);
    assert_eq!(chase.look(Offset(100), None, last + 60 * SECOND), Found::GivenUp);
    assert_eq!(Chase::new(began).stands_still(began + 60 * SECOND), Found::GivenUp);
}
