//! Claims about the log's start.

use super::super::bench::{Bench, batch, entry, opening, term, vector, writes};
use super::super::open::Answer;
use super::super::{Effect, Input, Message, Promise, Recovered, Write};
use super::*;

#[test]
fn only_what_is_committed_goes_and_only_by_the_leader() {
    let mut bench = Bench::opened();
    bench.publish(7, None);
    assert!(bench.step(Input::Retain(Offset(2))).is_empty(), "not committed");
    assert_eq!(writes(&bench.step(Input::Retain(Offset(1)))), [Write::LogStart(Offset(1))]);
    assert!(bench.step(Input::Retain(Offset(0))).is_empty(), "never back");
    let mut follower = Bench::following();
    assert!(follower.step(Input::Retain(Offset(0))).is_empty());
}

#[test]
fn a_follower_goes_as_far_as_it_knows_to_be_committed() {
    let mut bench = Bench::following();
    bench.append(term(1, 1), vec![opening(term(1, 1), 1, 0), batch(term(1, 1), 1)], 0);
    bench.sync();
    let message = |high_watermark, log_start| Message::Append {
        term: term(1, 1),
        from: Offset(2),
        batches: Vec::new(),
        high_watermark: Offset(high_watermark),
        log_start: Offset(log_start),
    };
    assert!(writes(&bench.says(1, message(0, 2))).is_empty());
    assert_eq!(writes(&bench.says(1, message(1, 2))), [Write::LogStart(Offset(1))]);
}

#[test]
fn the_vector_and_the_producers_outlive_retention() {
    let mut bench = Bench::opened();
    bench.publish(7, Some((9, 0)));
    bench.sync();
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(2) });
    bench.step(Input::Retain(Offset(2)));
    assert_eq!(bench.replica.report().unwrap().last_term, Some(term(1, 0)));
    assert_eq!(bench.replica.log_start(), Offset(2));
    let effects = bench.publish(8, Some((9, 0)));
    assert!(matches!(effects[..], [Effect::Acknowledge { base: Offset(1), .. }]), "{effects:?}");
}

#[test]
fn that_damage_has_gone_with_retention_is_told() {
    let mut bench = Bench::following();
    bench.append(term(1, 1), vec![opening(term(1, 1), 1, 0), batch(term(1, 1), 1), batch(term(1, 1), 2)], 0);
    bench.sync();
    bench.step(Input::Unreadable(Offset(0)));
    assert_eq!(bench.replica.report().unwrap().unreadable, Some(Offset(0)));
    assert!(bench.settle().contains(&Effect::Changed));
    let mut starts_at = |log_start| {
        let (term, from, batches) = (term(1, 1), Offset(3), Vec::new());
        let (high_watermark, log_start) = (Offset(2), Offset(log_start));
        let effects = bench.says(1, Message::Append { term, from, batches, high_watermark, log_start });
        assert_eq!(writes(&effects), [Write::LogStart(log_start)]);
        (bench.settle().contains(&Effect::Changed), bench.replica.report().unwrap().unreadable)
    };
    assert_eq!(starts_at(1), (true, None));
    assert_eq!(starts_at(2), (false, None), "a start alone is no news");
}

#[test]
fn that_damage_has_gone_with_the_log_is_told() {
    let mut bench = Bench::recovered(Recovered {
        vector: vector(&[(term(1, 2), 0)]),
        log_end: Offset(3),
        ..Recovered::default()
    });
    bench.up(1);
    bench.step(Input::Unreadable(Offset(1)));
    assert!(bench.settle().contains(&Effect::Changed));
    bench.says(1, Message::Fence { entry: entry(3, 1), term: term(3, 1) });
    bench.sync();
    bench.settle();
    // What comes before its leader's start is gone from here, too.
    bench.attach(&entry(3, 1), 1, &[(term(1, 2), 0), (term(3, 1), 8)], 5, 9);
    assert!(bench.settle().contains(&Effect::Changed));
    assert_eq!((bench.replica.log_start(), bench.replica.unreadable()), (Offset(5), None));
}

/// Leads term 2 with 0 to 5 of term 1. 1 follows with a log that begins at 3, and so does 2, at `other`.
fn leading_with_starts(other: u64) -> Bench {
    let mut bench = Bench::recovered(Recovered {
        promise: Promise { entry: Some(entry(1, 1)), term: Some(term(1, 1)), ..Promise::default() },
        vector: vector(&[(term(1, 1), 0)]),
        log_end: Offset(5),
        high_watermark: Offset(5),
        ..Recovered::default()
    });
    bench.up(1);
    bench.up(2);
    bench.step(Input::Assign(entry(2, 0)));
    bench.sync();
    for (number, log_start) in [(1, 3), (2, other)] {
        let (term, vector) = (term(2, 0), vector(&[(term(1, 1), 0)]));
        let (log_start, log_end, certain) = (Offset(log_start), Offset(5), true);
        bench.says(number, Message::Promised { term, vector, log_start, log_end, certain });
        bench.settle();
        bench.says(number, Message::Attached { term, log_end });
    }
    assert_eq!(bench.replica.leading(), Some(term(2, 0)));
    bench
}

/// It has no batch to give at 2.
fn has_none(bench: &mut Bench, number: u16) -> Vec<Write> {
    let (term, offset, batches) = (term(1, 1), Offset(2), Vec::new());
    bench.says(number, Message::Refetched { term, offset, batches });
    writes(&bench.settle())
}

#[test]
fn a_leader_lets_go_of_what_it_cannot_read_once_nobody_can_give_what_others_let_go() {
    let mut bench = leading_with_starts(4);
    bench.step(Input::Unreadable(Offset(2)));
    assert!(writes(&bench.settle()).is_empty(), "nobody was asked yet");
    assert!(has_none(&mut bench, 1).is_empty(), "2 may have it");
    assert_eq!(has_none(&mut bench, 2), [Write::LogStart(Offset(3))], "1 has what lies behind it");
    let report = bench.replica.report().unwrap();
    assert_eq!((report.log_start, report.unreadable, report.irreparable), (Offset(3), None, None));
    assert!(writes(&bench.settle()).is_empty(), "once");
}

#[test]
fn a_leader_does_not_let_go_of_what_somebody_else_can_give() {
    let mut bench = leading_with_starts(0);
    bench.step(Input::Unreadable(Offset(2)));
    bench.settle();
    assert!(has_none(&mut bench, 1).is_empty());
    let (copy_term, offset) = (term(1, 1), Offset(2));
    let batches = vec![batch(term(1, 1), 2)];
    bench.says(2, Message::Refetched { term: copy_term, offset, batches });
    bench.sync();
    assert!(writes(&bench.settle()).is_empty());
    assert_eq!((bench.replica.log_start(), bench.replica.unreadable()), (Offset(0), None));
}

#[test]
fn a_leader_does_not_let_go_of_what_no_retention_has_passed() {
    let mut bench = leading_with_starts(4);
    // Behind both starts: that is damage, and no retention.
    bench.step(Input::Unreadable(Offset(4)));
    bench.settle();
    for number in [1, 2] {
        let (term, offset, batches) = (term(1, 1), Offset(4), Vec::new());
        bench.says(number, Message::Refetched { term, offset, batches });
        assert!(writes(&bench.settle()).is_empty());
    }
    assert_eq!(bench.replica.report().unwrap().irreparable, Some(Offset(4)));
}

#[test]
fn a_start_counts_only_in_a_log_that_agrees_up_to_it() {
    let recovered =
        Recovered { vector: vector(&[(term(1, 1), 0)]), log_end: Offset(5), ..Recovered::default() };
    let bench = Bench::recovered(recovered);
    let start_of = |lines: &[(crate::term::Term, u64)], end| {
        let (log_start, log_end) = (Offset(3), Offset(end));
        let answer = Answer { vector: vector(lines), log_start, log_end, certain: true };
        bench.replica.log.start_agreed_with(&answer)
    };
    assert_eq!(start_of(&[(term(1, 1), 0)], 4), Offset(3));
    assert_eq!(start_of(&[(term(1, 1), 0), (term(2, 2), 3)], 4), Offset(3));
    assert_eq!(start_of(&[(term(1, 1), 0), (term(2, 2), 2)], 4), Offset(0), "another history from 2 on");
    assert_eq!(start_of(&[(term(0, 2), 0)], 4), Offset(0));
}
