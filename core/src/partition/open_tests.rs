//! Claims about opening a term.

use super::super::bench::{
    Bench, batch, entry, entry_of, id, opening, process, sent, set, term, vector, writes,
};
use super::super::{Effect, Input, Promise, Recovered, WriteSeq};
use super::*;
use crate::entry::Members;

fn with_log(lines: &[(Term, u64)], end: u64) -> Recovered {
    let vector = vector(lines);
    Recovered { vector, log_end: Offset(end), ..Recovered::default() }
}

#[test]
fn nobody_is_fenced_before_the_own_promise_is_durable() {
    let mut bench = Bench::empty();
    bench.up(1);
    let effects = bench.step(Input::Assign(entry(1, 0)));
    let promise = Promise { entry: Some(entry(1, 0)), term: Some(term(1, 0)), kind: PromiseKind::Live };
    assert_eq!(writes(&effects), [Write::Promise(promise)]);
    assert!(sent(&bench.settle()).is_empty());
    bench.sync();
    let fence = Message::Fence { entry: entry(1, 0), term: term(1, 0) };
    assert_eq!(sent(&bench.settle()), [(id(1), fence)]);
}

#[test]
fn a_term_opens_with_qo_certain_answers_and_not_with_less() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.up(2);
    bench.step(Input::Assign(entry(1, 0)));
    bench.sync();
    bench.promised_with(1, 1, &[], 0, false);
    assert_eq!(bench.replica.leading(), None, "an uncertain answer does not count");
    let effects = bench.promised(1, 2);
    assert_eq!(bench.replica.leading(), Some(term(1, 0)));
    let [Write::Append(opening)] = &writes(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((opening.entry(), opening.base(), opening.term()), (Some(entry(1, 0)), Offset(0), term(1, 0)));
}

#[test]
fn if_everybody_answered_and_nobody_is_certain_the_longest_log_leads_and_the_loss_is_reported() {
    let mut bench = Bench::recovered(Recovered { uncertain: true, ..Recovered::default() });
    bench.up(1);
    bench.up(2);
    bench.step(Input::Assign(entry(1, 0)));
    bench.sync();
    bench.promised_with(1, 1, &[], 0, false);
    assert_eq!(bench.replica.leading(), None);
    bench.promised_with(1, 2, &[], 0, false);
    bench.sync();
    assert_eq!(bench.replica.leading(), Some(term(1, 0)));
    assert_eq!(bench.replica.report().unwrap().may_have_lost, Some(Offset(0)));
}

#[test]
fn a_joint_entry_needs_an_open_quorum_of_both_sets() {
    let mut bench = Bench::empty();
    (1..5).for_each(|number| drop(bench.up(number)));
    let members = Members::Joint { old: set(&[0, 1, 2], 2), new: set(&[0, 3, 4], 2) };
    bench.step(Input::Assign(entry_of(1, 0, members)));
    bench.sync();
    bench.promised(1, 1);
    bench.promised(1, 2);
    assert_eq!(bench.replica.leading(), None, "the new set has not answered");
    bench.promised(1, 4);
    assert_eq!(bench.replica.leading(), Some(term(1, 0)));
}

#[test]
fn a_leader_that_is_behind_cuts_where_the_logs_part_and_fetches_all_that_was_answered() {
    let (old, longer) = (term(1, 1), term(2, 2));
    let mut bench = Bench::recovered(with_log(&[(old, 0)], 6));
    bench.up(1);
    bench.step(Input::Assign(entry(3, 0)));
    bench.sync();
    let effects = bench.promised_with(3, 1, &[(old, 0), (longer, 4)], 7, true);
    assert_eq!(writes(&effects), [Write::Cut { to: Offset(4) }]);
    let fetch = |from| Message::Fetch { term: term(3, 0), from: Offset(from), until: Offset(7) };
    assert_eq!(sent(&effects), [(id(1), fetch(4))]);
    let some = vec![opening(longer, 2, 4), batch(longer, 5)];
    let effects = bench.says(1, Message::Fetched { term: term(3, 0), batches: some });
    assert_eq!(sent(&effects), [(id(1), fetch(6))]);
    assert_eq!(bench.replica.leading(), None, "not less than was answered");
    bench.says(1, Message::Fetched { term: term(3, 0), batches: vec![batch(longer, 6)] });
    assert_eq!(bench.replica.leading(), Some(term(3, 0)));
    assert_eq!(bench.replica.log_end(), Offset(8));
}

#[test]
fn the_longest_log_is_not_waited_for_when_who_has_it_went_before_it_was_asked() {
    let old = term(1, 1);
    let mut bench = Bench::recovered(with_log(&[(old, 0)], 6));
    (1..5).for_each(|number| drop(bench.up(number)));
    bench.step(Input::Assign(entry_of(3, 0, Members::One(set(&[0, 1, 2, 3, 4], 3)))));
    bench.sync();
    bench.promised_with(3, 1, &[(old, 0)], 9, true);
    bench.step(Input::PeerDown(id(1)));
    let effects = bench.promised_with(3, 2, &[(old, 0)], 5, true);
    assert_eq!(
        (sent(&effects), bench.replica.leading()),
        (vec![], None),
        "Qo is 3 of those who can still be asked"
    );
    bench.promised_with(3, 3, &[(old, 0)], 6, true);
    assert_eq!(bench.replica.leading(), Some(term(3, 0)));
}

#[test]
fn a_higher_last_term_is_longer_than_a_higher_end() {
    let (old, newer) = (term(1, 1), term(2, 2));
    let mut bench = Bench::recovered(with_log(&[(old, 0), (newer, 2)], 3));
    bench.up(1);
    bench.step(Input::Assign(entry(3, 0)));
    bench.sync();
    bench.promised_with(3, 1, &[(old, 0)], 50, true);
    assert_eq!(bench.replica.leading(), Some(term(3, 0)), "its own log was the longest");
}

#[test]
fn a_source_whose_log_begins_later_replaces_the_leader_s() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.step(Input::Assign(entry(3, 0)));
    bench.sync();
    let lines = [(term(1, 1), 0), (term(2, 1), 4)];
    let log_start = Offset(6);
    let answer = Message::Promised {
        term: term(3, 0),
        vector: vector(&lines),
        log_start,
        log_end: Offset(7),
        certain: true,
    };
    let effects = bench.says(1, answer);
    assert_eq!(sent(&effects).len(), 1);
    let snapshot =
        Message::Snapshot { term: term(3, 0), log_start, vector: vector(&lines), producers: Vec::new() };
    let effects = bench.says(1, snapshot);
    let reset = Write::Reset { start: log_start, vector: vector(&lines), producers: Vec::new() };
    assert_eq!(writes(&effects), [reset]);
    bench.says(1, Message::Fetched { term: term(3, 0), batches: vec![batch(term(2, 1), 6)] });
    assert_eq!(bench.replica.leading(), Some(term(3, 0)));
}

#[test]
fn a_restarted_leader_opens_a_new_term_and_never_resumes_its_old_one() {
    let promise = Promise { entry: Some(entry(1, 0)), term: Some(term(1, 0)), kind: PromiseKind::Live };
    let recovered = Recovered { promise, ..with_log(&[(term(1, 0), 0)], 3) };
    let mut replica = Replica::new(id(0), process(0, 2), super::super::bench::key(), recovered).unwrap();
    let effects = replica.step(Now::default(), Input::Tick);
    let [Write::Promise(promise)] = &writes(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(promise.term.unwrap().process, process(0, 2));
}

#[test]
fn the_same_process_never_opens_one_term_twice() {
    let promise = Promise { entry: Some(entry(1, 0)), term: Some(term(1, 0)), kind: PromiseKind::Live };
    let mut bench = Bench::recovered(Recovered { promise, ..Recovered::default() });
    let effects = bench.step(Input::Tick);
    assert!(writes(&effects).is_empty());
    assert_eq!(bench.replica.leading(), None);
}

#[test]
fn only_who_promised_that_very_term_answers_a_fetch() {
    let mut bench = Bench::following();
    bench.append(term(1, 1), vec![opening(term(1, 1), 1, 0)], 0);
    bench.sync();
    bench.up(2);
    let ask = |term| Message::Fetch { term, from: Offset(0), until: Offset(1) };
    let effects = bench.says(1, ask(term(1, 1)));
    assert!(matches!(effects[..], [Effect::Ship { fetch: true, .. }]), "{effects:?}");
    assert!(bench.says(2, ask(term(2, 2))).is_empty(), "it has not promised term 2");
    let refused = Message::Refused { term: term(0, 2), promised: Some(term(1, 1)), entry: Some(entry(1, 1)) };
    assert_eq!(sent(&bench.says(2, ask(term(0, 2)))), [(id(2), refused)]);
}

#[test]
fn an_answer_of_an_earlier_process_is_void() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.step(Input::Assign(entry_of(1, 0, Members::One(set(&[0, 1, 2], 1)))));
    bench.sync();
    bench.promised(1, 1);
    bench.step(Input::PeerDown(id(1)));
    bench.step(Input::PeerUp { peer: id(1), process: process(1, 2) });
    bench.up(2);
    bench.promised(1, 2);
    assert_eq!(bench.replica.leading(), None, "Qo is 3");
    assert!(bench.step(Input::Durable(WriteSeq(1))).is_empty());
}
