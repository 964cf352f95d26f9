//! Claims about following.

use super::super::bench::{Bench, batch, entry, id, opening, process, sent, term, vector, writes};
use super::super::{Effect, Input, Promise, Recovered};
use super::*;
use crate::term::{BootId, Session};

fn fence(counter: u64, leader: u16) -> Message {
    Message::Fence { entry: entry(counter, leader), term: term(counter, leader) }
}

#[test]
fn a_fence_is_answered_once_its_promise_is_durable() {
    let mut bench = Bench::empty();
    bench.up(1);
    let effects = bench.says(1, fence(1, 1));
    assert_eq!((writes(&effects).len(), sent(&effects).len()), (1, 0));
    let [(to, Message::Promised { term: promised, certain: true, .. })] = &sent(&bench.sync())[..] else {
        panic!("it promised")
    };
    assert_eq!((*to, *promised), (id(1), term(1, 1)));
}

#[test]
fn an_answer_tells_only_what_is_durable() {
    let mut bench = Bench::following();
    bench.append(term(1, 1), vec![opening(term(1, 1), 1, 0), batch(term(1, 1), 1)], 0);
    let effects = bench.says(1, fence(1, 1));
    let [(_, Message::Promised { vector: told, log_end: Offset(0), .. })] = &sent(&effects)[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(*told, vector(&[]));
}

#[test]
fn a_lower_term_is_refused_with_what_was_promised() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.up(2);
    bench.says(2, fence(2, 2));
    bench.sync();
    let refused = Message::Refused { term: term(1, 1), promised: Some(term(2, 2)), entry: Some(entry(2, 2)) };
    assert_eq!(sent(&bench.says(1, fence(1, 1))), [(id(1), refused.clone())]);
    assert_eq!(sent(&bench.append(term(1, 1), Vec::new(), 0)), [(id(1), refused)]);
}

#[test]
fn a_higher_entry_alone_refuses_lower_terms() {
    let mut bench = Bench::following();
    bench.step(Input::Assign(entry(2, 2)));
    let effects = bench.append(term(1, 1), vec![opening(term(1, 1), 1, 0)], 0);
    assert!(writes(&effects).is_empty());
    assert!(matches!(&sent(&effects)[..], [(_, Message::Refused { .. })]), "{effects:?}");
}

#[test]
fn a_twin_of_a_promised_term_is_refused() {
    let mut bench = Bench::following();
    let twin = Process { session: Session(1), boot: BootId(999) };
    bench.step(Input::PeerUp { peer: id(1), process: twin });
    let message = Message::Fence { entry: entry(1, 1), term: Term { process: twin, ..term(1, 1) } };
    let effects = bench.step(Input::Message { from: id(1), process: twin, message });
    assert!(matches!(&sent(&effects)[..], [(_, Message::Refused { .. })]), "{effects:?}");
}

#[test]
fn only_the_entry_s_leader_and_only_its_own_process_may_fence() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.up(2);
    assert!(bench.says(2, fence(1, 1)).is_empty());
    let foreign = Message::Fence { entry: entry(1, 1), term: Term { process: process(1, 7), ..term(1, 1) } };
    assert!(bench.says(1, foreign).is_empty());
    let strange = Message::Fence { entry: entry(2, 1), term: term(1, 1) };
    assert!(bench.says(1, strange).is_empty());
}

#[test]
fn nothing_is_appended_before_the_logs_were_compared() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.says(1, fence(1, 1));
    bench.sync();
    assert!(bench.append(term(1, 1), vec![opening(term(1, 1), 1, 0)], 1).is_empty());
    assert_eq!(bench.replica.log_end(), Offset::ZERO);
}

#[test]
fn no_high_watermark_is_taken_before_the_logs_were_compared() {
    // From where they part on, this log is not what the leader speaks of.
    let recovered =
        Recovered { vector: vector(&[(term(1, 2), 0)]), log_end: Offset(9), ..Recovered::default() };
    let mut bench = Bench::recovered(recovered);
    bench.up(1);
    bench.says(1, fence(3, 1));
    bench.sync();
    let effects = bench.append(term(3, 1), Vec::new(), 7);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::HighWatermark(_))), "{effects:?}");
}

#[test]
fn what_the_leader_has_committed_is_known_before_it_is_here() {
    let old = term(1, 2);
    let recovered = Recovered {
        vector: vector(&[(old, 0)]),
        log_end: Offset(5),
        high_watermark: Offset(5),
        ..Recovered::default()
    };
    let mut bench = Bench::recovered(recovered);
    bench.up(1);
    bench.says(1, fence(3, 1));
    bench.sync();
    bench.attach(&entry(3, 1), 1, &[(old, 0), (term(3, 1), 900)], 0, 901);
    bench.sync();
    assert_eq!(bench.replica.committed_at_leader(), None, "nothing was said of what is committed");
    bench.append(term(3, 1), Vec::new(), 901);
    assert_eq!(bench.replica.committed_at_leader(), Some(Offset(901)));
    assert_eq!(bench.replica.high_watermark(), Offset(5), "no more of it is here");
}

#[test]
fn attaching_cuts_where_the_logs_part_and_answers_when_that_is_durable() {
    let old = term(1, 2);
    let recovered = Recovered { vector: vector(&[(old, 0)]), log_end: Offset(9), ..Recovered::default() };
    let mut bench = Bench::recovered(recovered);
    bench.up(1);
    bench.says(1, fence(3, 1));
    bench.sync();
    let effects = bench.attach(&entry(3, 1), 1, &[(old, 0), (term(3, 1), 5)], 0, 6);
    assert_eq!(writes(&effects), [Write::Cut { to: Offset(5) }]);
    assert!(sent(&effects).is_empty());
    let attached = Message::Attached { term: term(3, 1), log_end: Offset(5) };
    assert_eq!(sent(&bench.sync()), [(id(1), attached)]);
}

#[test]
fn an_attach_that_comes_late_cuts_nothing_that_was_appended_since() {
    let mut bench = Bench::following();
    bench.append(term(1, 1), vec![opening(term(1, 1), 1, 0), batch(term(1, 1), 1)], 0);
    bench.sync();
    let effects = bench.attach(&entry(1, 1), 1, &[(term(1, 1), 0)], 0, 1);
    assert!(writes(&effects).is_empty());
    assert_eq!(bench.replica.log_end(), Offset(2));
}

#[test]
fn an_attach_for_another_process_is_not_heard() {
    let mut bench = Bench::following();
    let message = Message::Attach {
        entry: entry(1, 1),
        term: term(1, 1),
        follower: process(0, 9),
        vector: vector(&[(term(1, 1), 0)]),
        log_start: Offset(0),
        log_end: Offset(0),
        counted: Offset(0),
        producers: Vec::new(),
    };
    assert!(bench.says(1, message).is_empty());
}

#[test]
fn a_cut_below_what_is_committed_halts_the_replica_and_deletes_nothing() {
    let old = term(1, 2);
    let (vector, log_end, high_watermark) = (vector(&[(old, 0)]), Offset(9), Offset(7));
    let mut bench = Bench::recovered(Recovered { vector, log_end, high_watermark, ..Recovered::default() });
    bench.up(1);
    bench.says(1, fence(3, 1));
    bench.sync();
    let effects = bench.attach(&entry(3, 1), 1, &[(old, 0), (term(3, 1), 5)], 0, 6);
    assert!(writes(&effects).is_empty());
    assert!(bench.replica.halted().unwrap().contains("cut to 5 below the high watermark 7"));
    assert!(bench.append(term(3, 1), Vec::new(), 9).is_empty(), "it says and does nothing any more");
    assert!(bench.replica.report().unwrap().halted.is_some());
}

#[test]
fn logs_that_part_below_the_leader_s_start_are_replaced_in_one_write() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.says(1, fence(3, 1));
    bench.sync();
    let effects = bench.attach(&entry(3, 1), 1, &[(term(1, 2), 0), (term(3, 1), 8)], 5, 9);
    let reset = Write::Reset { start: Offset(5), vector: vector(&[(term(1, 2), 0)]), producers: Vec::new() };
    assert_eq!(writes(&effects), [reset]);
    assert_eq!((bench.replica.log_start(), bench.replica.high_watermark()), (Offset(5), Offset(5)));
}

#[test]
fn many_appends_of_a_turn_are_answered_by_one_word() {
    let mut bench = Bench::following();
    bench.append(term(1, 1), vec![opening(term(1, 1), 1, 0)], 0);
    bench.append(term(1, 1), vec![batch(term(1, 1), 1)], 0);
    assert!(sent(&bench.settle()).is_empty(), "nothing is durable yet");
    bench.sync();
    let stored = Message::Stored { term: term(1, 1), log_end: Offset(2) };
    assert_eq!(sent(&bench.settle()), [(id(1), stored)]);
    assert!(bench.settle().is_empty());
}

#[test]
fn a_gap_is_answered_with_the_end_and_a_duplicate_changes_nothing() {
    let mut bench = Bench::following();
    assert!(writes(&bench.append(term(1, 1), vec![batch(term(1, 1), 4)], 0)).is_empty());
    let attached = Message::Attached { term: term(1, 1), log_end: Offset(0) };
    assert_eq!(sent(&bench.settle()), [(id(1), attached)]);
    let first = vec![opening(term(1, 1), 1, 0)];
    assert_eq!(writes(&bench.append(term(1, 1), first.clone(), 0)).len(), 1);
    assert!(writes(&bench.append(term(1, 1), first, 0)).is_empty());
}

#[test]
fn a_heartbeat_is_answered() {
    let mut bench = Bench::following();
    bench.append(term(1, 1), Vec::new(), 0);
    assert!(matches!(&sent(&bench.settle())[..], [(_, Message::Stored { .. })]));
}

#[test]
fn who_ends_below_what_the_leader_counted_is_uncertain_from_then_on() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.says(1, fence(1, 1));
    bench.sync();
    let message = Message::Attach {
        entry: entry(1, 1),
        term: term(1, 1),
        follower: process(0, 1),
        vector: vector(&[(term(1, 1), 0)]),
        log_start: Offset(0),
        log_end: Offset(2),
        counted: Offset(2),
        producers: Vec::new(),
    };
    assert_eq!(writes(&bench.says(1, message)), [Write::Mark { uncertain: true }]);
    bench.sync();
    bench.append(term(1, 1), vec![opening(term(1, 1), 1, 0)], 0);
    bench.sync();
    assert!(bench.replica.report().unwrap().uncertain);
    let effects = bench.append(term(1, 1), vec![batch(term(1, 1), 1)], 0);
    assert_eq!(
        writes(&effects).last(),
        Some(&Write::Mark { uncertain: false }),
        "it reached what was counted"
    );
    assert!(bench.replica.report().unwrap().uncertain, "and is whole only once that is durable");
    bench.sync();
    assert!(!bench.replica.report().unwrap().uncertain);
}

#[test]
fn an_end_below_the_stored_high_watermark_is_uncertain() {
    let recovered = Recovered { high_watermark: Offset(5), ..Recovered::default() };
    let mut bench = Bench::recovered(recovered);
    let effects = bench.step(Input::Tick);
    assert_eq!(writes(&effects), [Write::Mark { uncertain: true }]);
}

#[test]
fn a_batch_that_is_not_the_log_s_next_is_not_taken() {
    let mut bench = Bench::following();
    let no_opening = vec![batch(term(1, 1), 0)];
    assert!(
        writes(&bench.append(term(1, 1), no_opening, 0)).is_empty(),
        "a term begins with its opening record"
    );
    let from_the_future = vec![opening(term(2, 1), 1, 0)];
    assert!(writes(&bench.append(term(1, 1), from_the_future, 0)).is_empty());
}

#[test]
fn a_released_replica_answers_no_fence_of_an_older_term() {
    let promise = Promise {
        entry: Some(entry(4, 1)),
        term: Some(term(4, 1)),
        kind: super::super::PromiseKind::Tombstone,
    };
    let mut bench = Bench::recovered(Recovered { promise, ..Recovered::default() });
    bench.up(1);
    let effects = bench.says(1, fence(3, 1));
    assert!(matches!(&sent(&effects)[..], [(_, Message::Refused { .. })]));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Write(..))));
}
