//! Claims about where logs part.

use proptest::prelude::*;

use super::super::bench::{term, vector};
use super::*;

fn part(ours: &[(u64, u64)], our_end: u64, theirs: &[(u64, u64)], their_end: Option<u64>) -> Offset {
    let lines = |lines: &[(u64, u64)]| {
        vector(&lines.iter().map(|(c, start)| (term(*c, 1), *start)).collect::<Vec<_>>())
    };
    parting_point(&lines(ours), Offset(our_end), &lines(theirs), their_end.map(Offset)).unwrap()
}

#[test]
fn equal_histories_part_at_the_shorter_end() {
    assert_eq!(part(&[(1, 0), (2, 5)], 9, &[(1, 0), (2, 5)], Some(7)), Offset(7));
    assert_eq!(part(&[(1, 0), (2, 5)], 6, &[(1, 0), (2, 5)], Some(7)), Offset(6));
}

#[test]
fn a_term_that_only_one_side_has_parts_them_where_it_or_the_other_s_next_began() {
    assert_eq!(part(&[(1, 0), (2, 5)], 9, &[(1, 0), (3, 4)], Some(8)), Offset(4));
    assert_eq!(part(&[(1, 0)], 9, &[(1, 0), (3, 4)], Some(8)), Offset(4));
    assert_eq!(part(&[(1, 0), (2, 5)], 9, &[(1, 0)], Some(8)), Offset(5));
    assert_eq!(part(&[(1, 0)], 9, &[(2, 0)], Some(8)), Offset(0));
}

#[test]
fn an_empty_log_parts_at_the_start() {
    assert_eq!(part(&[], 0, &[(1, 0)], None), Offset(0));
}

#[test]
fn a_leader_s_own_term_has_no_end() {
    assert_eq!(part(&[(1, 0), (2, 5)], 9, &[(1, 0), (2, 5)], None), Offset(9));
}

#[test]
fn one_term_from_two_places_is_a_contradiction() {
    let (ours, theirs) =
        (vector(&[(term(1, 1), 0), (term(2, 1), 5)]), vector(&[(term(1, 1), 0), (term(2, 1), 6)]));
    assert!(parting_point(&ours, Offset(9), &theirs, None).is_err());
}

#[test]
fn parting_below_the_log_start_needs_a_reset_and_a_true_prefix_does_not() {
    assert!(needs_reset(Offset(4), Offset(9), Offset(5)));
    assert!(needs_reset(Offset(4), Offset(4), Offset(5)));
    assert!(needs_reset(Offset(5), Offset(9), Offset(5)));
    assert!(!needs_reset(Offset(5), Offset(5), Offset(5)));
    assert!(!needs_reset(Offset(6), Offset(9), Offset(5)));
}

proptest! {
    /// Against logs compared batch by batch: a log is a list of terms, one an offset; two logs of one world share a prefix.
    #[test]
    fn vectors_find_what_a_comparison_of_all_batches_finds(
        common in proptest::collection::vec(0..2u64, 0..12),
        ours in proptest::collection::vec(0..2u64, 0..6),
        theirs in proptest::collection::vec(0..2u64, 0..6),
    ) {
        // Terms rise; behind the common prefix each side has terms of its own.
        let rise = |steps: &[u64], from: u64| {
            steps.iter().scan(from, |term, step| { *term += step; Some(*term) }).collect::<Vec<u64>>()
        };
        let prefix = rise(&common, 1);
        let last = prefix.last().copied().unwrap_or(0);
        let side = |steps: &[u64], parity: u64| {
            let tail = rise(steps, 0).into_iter().map(|term| last + 1 + term * 2 + parity);
            prefix.iter().copied().chain(tail).collect::<Vec<u64>>()
        };
        let (ours, theirs) = (side(&ours, 0), side(&theirs, 1));
        let lines = |log: &[u64]| {
            let mut vector = TermVector::default();
            for (base, counter) in log.iter().enumerate() {
                vector.note(term(*counter, 1), Offset(base as u64));
            }
            vector
        };
        let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count() as u64;
        let parting = parting_point(&lines(&ours), Offset(ours.len() as u64), &lines(&theirs), Some(Offset(theirs.len() as u64)));
        prop_assert_eq!(parting, Ok(Offset(same)));
    }
}
