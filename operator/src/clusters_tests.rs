use super::*;

#[test]
fn changes_are_gathered_for_longer_the_more_topics_a_pass_looks_at_within_bounds() {
    let times = [0, 500, 1_000, 5_000, 1_000_000].map(settle);
    let expected = [100, 100, 100, 500, 1_000].map(Duration::from_millis);
    assert_eq!(times, expected);
}
