//! Claims about losses that a person accepted.

use super::super::bench::{
    Bench, batch, entry, entry_of, id, opening, process, sent, set, term, vector, writes,
};
use super::super::{Input, Message, Promise, Recovered};
use super::*;
use crate::accepted_loss::AcceptedLoss;
use crate::entry::{Members, NOBODY};
use crate::partition::PromiseKind;
use crate::term::{Epoch, Term};

fn accepted(counter: u64, leader: u16, known_end: u64) -> Entry {
    let entry = entry(counter, leader);
    let accepted_loss = Some(AcceptedLoss { epoch: entry.epoch, known_end: Offset(known_end) });
    Entry { accepted_loss, ..entry }
}

/// A log of one term up to `end`, all of it committed, as far as this replica knows up to `high_watermark`.
fn with_log(first: Term, end: u64, high_watermark: u64) -> Recovered {
    Recovered {
        vector: vector(&[(first, 0)]),
        log_end: Offset(end),
        high_watermark: Offset(high_watermark),
        ..Recovered::default()
    }
}

/// Replica 0 hears the decision, and nobody answers it.
fn alone(recovered: Recovered, entry: Entry) -> Bench {
    let mut bench = Bench::recovered(recovered);
    bench.step(Input::Confirmed);
    bench.step(Input::Assign(entry));
    bench.sync();
    bench
}

fn leads_after_patience(bench: &mut Bench) -> bool {
    bench.after(ANSWERS_PATIENCE);
    bench.settle();
    bench.replica.leading().is_some()
}

#[test]
fn a_term_opens_without_its_quorum_only_by_the_word_for_that_very_epoch() {
    let log = || with_log(term(1, 1), 6, 4);
    let mut without = alone(log(), entry(3, 0));
    assert!(!leads_after_patience(&mut without), "nobody gave a word");
    let later = Entry { accepted_loss: accepted(3, 0, 0).accepted_loss, ..entry(4, 0) };
    let mut later = alone(log(), later);
    assert!(!leads_after_patience(&mut later), "the word was for an earlier decision");
    let mut bench = alone(log(), accepted(3, 0, 0));
    bench.settle();
    assert_eq!(bench.replica.leading(), None, "the others have time to answer");
    assert!(leads_after_patience(&mut bench));
    bench.sync();
    assert_eq!(
        bench.replica.report().unwrap().may_have_lost,
        Some(Offset(4)),
        "what was known to be committed stays"
    );
}

#[test]
fn the_word_is_good_for_the_first_term_of_its_epoch_only() {
    let promise = Promise {
        entry: Some(accepted(3, 0, 0)),
        term: Some(Term { epoch: Epoch { generation: 1, counter: 3 }, process: process(0, 0) }),
        kind: PromiseKind::Live,
    };
    let mut bench = Bench::recovered(Recovered { promise, ..with_log(term(1, 1), 6, 4) });
    bench.step(Input::Confirmed);
    bench.sync();
    assert!(!leads_after_patience(&mut bench), "an earlier process had its term");
    bench.up(1);
    bench.promised_with(3, 1, &[(term(1, 1), 0)], 6, true);
    assert!(bench.replica.leading().is_some(), "with a quorum it opens as any other");
}

#[test]
fn a_replica_alone_with_its_memory_waits_until_somebody_knows_it() {
    let mut bench = Bench::recovered(with_log(term(1, 1), 6, 4));
    bench.step(Input::Assign(accepted(3, 0, 0)));
    bench.sync();
    assert!(!leads_after_patience(&mut bench));
    bench.step(Input::Confirmed);
    assert!(bench.replica.leading().is_some());
}

#[test]
fn once_all_have_answered_nobody_is_waited_for_and_their_answers_prove_nothing() {
    let mut bench = alone(with_log(term(1, 1), 6, 4), accepted(3, 0, 0));
    bench.up(1);
    bench.up(2);
    bench.promised(3, 1);
    assert_eq!(bench.replica.leading(), None, "a quorum may be of members that know nothing");
    bench.promised(3, 2);
    bench.sync();
    assert!(bench.replica.leading().is_some(), "at once");
    assert_eq!(bench.replica.report().unwrap().may_have_lost, Some(Offset(4)));
}

#[test]
fn the_longest_log_of_those_who_answer_is_taken_also_an_uncertain_one() {
    let mut bench = alone(with_log(term(1, 1), 6, 4), accepted(3, 0, 0));
    bench.up(1);
    bench.promised_with(3, 1, &[(term(1, 1), 0)], 9, false);
    bench.after(ANSWERS_PATIENCE);
    let effects = bench.settle();
    let fetch = Message::Fetch { term: term(3, 0), from: Offset(6), until: Offset(9) };
    assert!(sent(&effects).contains(&(id(1), fetch)), "{effects:?}");
}

#[test]
fn a_log_of_which_nothing_is_left_begins_behind_all_that_was_known() {
    let mut bench = alone(Recovered::default(), accepted(3, 0, 40));
    assert!(leads_after_patience(&mut bench));
    assert_eq!((bench.replica.log_start(), bench.replica.log_end()), (Offset(40), Offset(41)));
}

#[test]
fn what_was_given_up_is_set_aside_before_the_log_goes_on_without_it() {
    let mut bench = Bench::recovered(with_log(term(1, 2), 9, 8));
    bench.up(1);
    // Long after the word: a later decision tells of it.
    let entry = Entry { accepted_loss: accepted(3, 1, 0).accepted_loss, ..entry(5, 1) };
    let leader = Term { epoch: entry.epoch, process: process(1, 1) };
    let lines = [(term(1, 2), 0), (term(3, 1), 5), (leader, 7)];
    let effects = bench.attach(&entry, 1, &lines, 0, 8);
    let aside = Write::SetAside { to: Offset(5), producers: Vec::new() };
    assert_eq!(writes(&effects)[1..], [aside], "{effects:?}");
    bench.sync();
    let report = bench.replica.report().unwrap();
    assert_eq!((report.set_aside, report.halted), (Some((Offset(5), Offset(9))), None));
    assert_eq!((report.log_end, report.high_watermark), (Offset(5), Offset(5)));
    let effects = bench.says(
        1,
        Message::Append {
            term: leader,
            from: Offset(5),
            batches: vec![opening(term(3, 1), 1, 5), batch(term(3, 1), 6)],
            high_watermark: Offset(5),
            log_start: Offset::ZERO,
        },
    );
    assert_eq!(writes(&effects).len(), 2, "it goes on from where they parted");
}

#[test]
fn without_a_word_a_cut_of_what_is_committed_halts() {
    let log = || Bench::recovered(with_log(term(4, 2), 9, 8));
    let lines = |last| [(term(1, 1), 0), last];
    let words = [entry(5, 1), Entry { accepted_loss: accepted(3, 1, 0).accepted_loss, ..entry(5, 1) }];
    for word in words {
        let mut bench = log();
        bench.up(1);
        bench.attach(&word, 1, &lines((term(5, 1), 5)), 0, 8);
        assert!(bench.replica.halted().is_some(), "its term is not one that was given up: {word}");
    }
}

#[test]
fn a_log_that_begins_above_where_they_part_is_kept_whole_beside_a_new_one() {
    let mut bench = Bench::recovered(Recovered { log_start: Offset(6), ..with_log(term(1, 2), 9, 8) });
    bench.up(1);
    let lines = [(term(1, 2), 0), (term(3, 1), 5)];
    let effects = bench.attach(&accepted(3, 1, 0), 1, &lines, 2, 6);
    let [_, aside, reset] = &writes(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(*aside, Write::SetAside { to: Offset(6), producers: Vec::new() });
    assert!(matches!(reset, Write::Reset { start: Offset(2), .. }), "{reset:?}");
}

#[test]
fn who_lost_its_place_by_the_word_keeps_its_log_beside_the_tombstone() {
    let mut bench = Bench::recovered(with_log(term(1, 0), 9, 8));
    let members = Members::One(set(&[1, 2], 1));
    let entry = Entry { accepted_loss: accepted(3, 1, 0).accepted_loss, ..entry_of(3, 1, members) };
    bench.step(Input::Assign(entry.clone()));
    let effects = bench.step(Input::Release(entry.epoch));
    let [_, aside, release] = &writes(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(*aside, Write::SetAside { to: Offset(0), producers: Vec::new() });
    assert_eq!(*release, Write::Release);
}

#[test]
fn with_the_topic_the_copies_go() {
    let mut bench = Bench::recovered(with_log(term(1, 0), 9, 8));
    let members = Members::One(crate::entry::ReplicaSet::new(vec![NOBODY], 1).unwrap());
    let gone =
        Entry { leader: None, accepted_loss: accepted(3, 1, 0).accepted_loss, ..entry_of(4, 0, members) };
    bench.step(Input::Assign(gone.clone()));
    let effects = bench.step(Input::Release(gone.epoch));
    assert_eq!(writes(&effects)[1..], [Write::Release, Write::ForgetAside], "{effects:?}");
}

/// Leads by the word, with the damage at 3 told, and 1 asked for it.
fn damaged() -> Bench {
    let mut bench = alone(with_log(term(1, 1), 6, 5), accepted(3, 0, 0));
    bench.up(1);
    bench.step(Input::Unreadable(Offset(3)));
    bench.settle();
    bench.promised_with(3, 1, &[(term(1, 1), 0)], 2, true);
    bench
}

#[test]
fn a_log_ends_before_a_batch_that_nobody_here_has_and_that_keeps_others_from_following() {
    let mut bench = damaged();
    assert!(!leads_after_patience(&mut bench), "it may still be mended");
    bench.after(Duration::from_secs(1));
    assert!(matches!(sent(&bench.settle())[..], [(_, Message::Refetch { .. }), ..]), "it is asked for again");
    bench.says(1, Message::Refetched { term: term(1, 1), offset: Offset(3), batches: Vec::new() });
    let effects = bench.settle();
    let [aside, append] = &writes(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(*aside, Write::SetAside { to: Offset(3), producers: Vec::new() });
    assert!(matches!(append, Write::Append(opening) if opening.base() == Offset(3)), "{append:?}");
    bench.sync();
    assert_eq!(bench.replica.report().unwrap().may_have_lost, Some(Offset(3)));
}

#[test]
fn what_lies_behind_damage_stays_where_enough_have_it() {
    let mut bench = alone(with_log(term(1, 1), 6, 5), accepted(3, 0, 0));
    bench.up(1);
    bench.step(Input::Unreadable(Offset(3)));
    bench.promised_with(3, 1, &[(term(1, 1), 0)], 6, false);
    assert!(leads_after_patience(&mut bench));
    assert_eq!(bench.replica.log_end(), Offset(7), "nothing was cut");
}
