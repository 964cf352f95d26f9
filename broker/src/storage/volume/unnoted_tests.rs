//! Claims about what a producers' table lacks.

use super::*;

fn unnoted(stretches: &[(u64, u64)]) -> Unnoted {
    let mut unnoted = Unnoted::default();
    for (from, until) in stretches {
        unnoted.add(Offset(*from)..Offset(*until));
    }
    unnoted
}

#[test]
fn what_is_noted_cut_or_retained_leaves_the_rest_of_each_stretch() {
    let after = |gone: Range<u64>| {
        let mut left = unnoted(&[(2, 6), (8, 9)]);
        left.forget(Offset(gone.start)..Offset(gone.end));
        left
    };
    assert_eq!(after(2..3), unnoted(&[(3, 6), (8, 9)]));
    assert_eq!(after(3..4), unnoted(&[(2, 3), (4, 6), (8, 9)]));
    assert_eq!(after(0..4), unnoted(&[(4, 6), (8, 9)]));
    assert_eq!(after(4..u64::MAX), unnoted(&[(2, 4)]));
    assert_eq!(after(6..8), unnoted(&[(2, 6), (8, 9)]));
    assert_eq!(after(0..9), Unnoted::default());
}

#[test]
fn beyond_the_bound_the_last_stretch_stands_for_what_follows() {
    let all: Vec<(u64, u64)> = (0..100).map(|place| (place * 5, place * 5 + 1)).collect();
    let kept: Vec<Range<Offset>> = unnoted(&all).stretches().collect();
    assert_eq!(kept.len(), STRETCHES_MAX);
    assert_eq!(kept.last(), Some(&(Offset(63 * 5)..Offset(99 * 5 + 1))));
}
