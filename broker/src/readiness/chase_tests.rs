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
    assert_eq!(chase.look(Offset(10), Some(Offset(1_010)), began + SECOND), Found::Behind);
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
    for step in 0..10 {
        let now = began + step * 50 * SECOND;
        assert_eq!(chase.look(Offset(u64::from(step) + 1), Some(Offset(1_000_000)), now), Found::Behind);
    }
    let last = began + 9 * 50 * SECOND;
    assert_eq!(chase.look(Offset(10), Some(Offset(1_000_000)), last + 59 * SECOND), Found::Behind);
    assert_eq!(chase.look(Offset(10), None, last + 60 * SECOND), Found::GivenUp);
    assert_eq!(Chase::new(began).stands_still(began + 60 * SECOND), Found::GivenUp);
}

#[test]
fn one_that_never_keeps_up_is_waited_for_ten_minutes() {
    let began = Instant::now();
    let mut chase = Chase::new(began);
    let look = |chase: &mut Chase, second: u32| {
        chase.look(
            Offset(u64::from(second)),
            Some(Offset(2 * u64::from(second) + 1_000)),
            began + second * SECOND,
        )
    };
    assert!((1..600).step_by(10).all(|second| look(&mut chase, second) == Found::Behind));
    assert_eq!(look(&mut chase, 600), Found::GivenUp);
}
