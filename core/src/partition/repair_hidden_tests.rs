//! Claims about what damaged batches hide from the producers' table.

use super::super::bench::{Bench, batch_of, entry, sent, term, vector, writes};
use super::super::{Message, Promise, Recovered, Refusal};
use super::*;

/// Leads term 2 with 0 to 5 of term 1, whose producers' table lacks what lies in these stretches.
fn leading_without(hidden: &[(u64, u64)]) -> Bench {
    let mut bench = Bench::recovered(Recovered {
        promise: Promise { entry: Some(entry(2, 0)), ..Default::default() },
        vector: vector(&[(term(1, 1), 0)]),
        log_end: Offset(5),
        high_watermark: Offset(5),
        ..Recovered::default()
    });
    for (from, until) in hidden {
        bench.replica.recovered_damaged(Offset(*from)..Offset(*until));
    }
    bench.up(1);
    bench.sync();
    bench.up(2);
    bench.promised_with(2, 1, &[(term(1, 1), 0)], 5, true);
    bench.promised_with(2, 2, &[(term(1, 1), 0)], 5, true);
    assert_eq!(bench.replica.leading(), Some(term(2, 0)));
    bench
}

fn is_busy(effects: &[Effect]) -> bool {
    let busy = |effect: &Effect| matches!(effect, Effect::Refuse { refusal: Refusal::Busy, .. });
    effects.iter().any(busy)
}

/// Answers the next question with what the place holds: batches of producer 9, numbered from 0 at offset 0.
fn mend_next(bench: &mut Bench, count: u64) -> u64 {
    let (to, offset) = sent(&bench.settle())
        .into_iter()
        .find_map(
            |(to, said)| if let Message::Refetch { offset, .. } = said { Some((to, offset)) } else { None },
        )
        .expect("something is asked for");
    let one = |base| batch_of(term(1, 1), base, Some((9, base)), 4900);
    let batches = (offset.0..offset.0 + count).map(one).collect();
    bench.says(to.ordinal.0, Message::Refetched { term: term(1, 1), offset, batches });
    bench.sync();
    offset.0
}

#[test]
fn an_idempotent_publish_waits_while_a_damaged_batch_may_be_its_first_attempt() {
    let mut bench = leading_without(&[(0, 1)]);
    assert!(is_busy(&bench.publish(7, Some((9, 0)))));
    assert!(!is_busy(&bench.publish(8, None)));
    assert_eq!(mend_next(&mut bench, 1), 0);
    let effects = bench.publish(9, Some((9, 0)));
    assert!(writes(&effects).is_empty(), "the mended batch is the first attempt: {effects:?}");
}

#[test]
fn what_seems_out_of_sequence_waits_too_while_the_numbers_before_it_may_be_hidden() {
    let mut bench = leading_without(&[(0, 1)]);
    assert!(is_busy(&bench.publish(7, Some((9, 1)))), "0 may lie in the damaged batch");
    mend_next(&mut bench, 1);
    let effects = bench.publish(8, Some((9, 1)));
    assert!(!is_busy(&effects) && !writes(&effects).is_empty(), "{effects:?}");
}

#[test]
fn a_place_that_nobody_can_give_does_not_uncover_the_others() {
    let mut bench = leading_without(&[(0, 1), (3, 4)]);
    let refuse_all = |bench: &mut Bench| {
        while bench.replica.irreparable().is_none() {
            for (to, said) in sent(&bench.settle()) {
                if let Message::Refetch { term, offset } = said {
                    assert_eq!(offset, Offset(0), "3 is not asked for before 0 was asked of all");
                    bench.says(to.ordinal.0, Message::Refetched { term, offset, batches: Vec::new() });
                }
            }
        }
    };
    refuse_all(&mut bench);
    assert!(is_busy(&bench.publish(7, Some((8, 0)))), "its first attempt may lie in 3, which can be had");
    assert_eq!(mend_next(&mut bench, 1), 3);
    assert!(!is_busy(&bench.publish(8, Some((8, 0)))));
}

#[test]
fn a_damaged_stretch_hides_until_its_last_batch_is_mended() {
    let mut bench = leading_without(&[(1, 4)]);
    for (offset, count) in [(1, 1), (2, 2)] {
        assert!(is_busy(&bench.publish(7, Some((8, 0)))));
        assert_eq!(mend_next(&mut bench, count), offset);
    }
    assert!(!is_busy(&bench.publish(8, Some((8, 0)))));
    assert_eq!(bench.replica.unreadable(), None);
}

#[test]
fn retention_or_a_cut_within_a_damaged_stretch_leaves_the_rest_of_it_hidden() {
    let mut bench = leading_without(&[(0, 3), (4, 5)]);
    bench.replica.repairs.forget_below(Offset(2));
    assert_eq!(bench.replica.unreadable(), Some(Offset(2)));
    bench.replica.repairs.forget_below(Offset(4));
    assert!(bench.replica.hides_producers());
    bench.replica.repairs.forget_below(Offset(5));
    assert!(bench.replica.unreadable().is_none() && !bench.replica.hides_producers());
    let mut bench = leading_without(&[(1, 4)]);
    bench.replica.repairs.forget_from(Offset(2));
    assert_eq!(mend_next(&mut bench, 1), 1);
    assert_eq!(bench.replica.unreadable(), None);
}

#[test]
fn stretches_beyond_the_bound_are_hidden_by_the_last_that_is_remembered() {
    let mut bench = Bench::recovered(Recovered {
        promise: Promise { entry: Some(entry(1, 1)), ..Default::default() },
        vector: vector(&[(term(1, 1), 0)]),
        log_end: Offset(1000),
        ..Recovered::default()
    });
    bench.up(1);
    for place in 0..100 {
        bench.replica.recovered_damaged(Offset(place * 5)..Offset(place * 5 + 1));
    }
    assert_eq!(bench.replica.repairs.places.len(), REPAIRS_MAX);
    let mut asked = BTreeSet::new();
    while bench.replica.hides_producers() {
        asked.insert(mend_next(&mut bench, 1));
        assert!(asked.len() <= 1000, "no end of it");
    }
    assert!((0..100).all(|place| asked.contains(&(place * 5))), "{asked:?}");
}

#[test]
fn neighbours_of_one_producer_that_are_mended_together_are_all_known_again() {
    let mut bench = leading_without(&[(1, 3)]);
    for base in [0, 3, 4] {
        bench.replica.log.producers.note(&batch_of(term(1, 1), base, Some((9, base)), 4900));
    }
    assert_eq!(mend_next(&mut bench, 2), 1);
    for number in 1..5 {
        let effects = bench.publish(20 + number, Some((9, number)));
        let is_refused = effects.iter().any(|effect| matches!(effect, Effect::Refuse { .. }));
        assert!(writes(&effects).is_empty() && !is_refused, "{number}: {effects:?}");
    }
}
