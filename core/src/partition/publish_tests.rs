//! Claims about publishes.

use super::super::bench::{Bench, entry, id, process, produced, term};
use super::super::{Input, Message};
use super::*;

fn refusals(effects: &[Effect]) -> Vec<(u64, Refusal)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Refuse { ticket, refusal } => Some((ticket.0, refusal.clone())),
            _ => None,
        })
        .collect()
}

fn acknowledged(effects: &[Effect]) -> Vec<(u64, u64)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Acknowledge { ticket, base } => Some((ticket.0, base.0)),
            _ => None,
        })
        .collect()
}

#[test]
fn who_does_not_lead_names_the_leader() {
    let mut bench = Bench::following();
    let not_leader = Refusal::NotLeader { leader: Some(id(1)) };
    assert_eq!(refusals(&bench.publish(7, None)), [(7, not_leader)]);
}

#[test]
fn a_publish_while_the_term_opens_waits_for_it() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.step(Input::Assign(entry(1, 0)));
    assert!(bench.publish(7, None).is_empty());
    bench.sync();
    bench.promised(1, 1);
    assert_eq!(bench.replica.log_end(), Offset(2), "behind the opening record");
}

#[test]
fn a_term_that_opens_too_slowly_refuses_what_waits_with_the_figures() {
    let mut bench = Bench::empty();
    bench.step(Input::Assign(entry(1, 0)));
    bench.sync();
    bench.publish(7, None);
    bench.after(WAITING_TIME);
    let refusal = Refusal::NotEnoughReplicas { needed: 2, have: 1 };
    assert_eq!(refusals(&bench.step(Input::Tick)), [(7, refusal.clone())]);
    assert_eq!(refusals(&bench.publish(8, None)), [(8, refusal)]);
}

#[test]
fn no_more_than_so_many_wait_for_a_term() {
    let mut bench = Bench::empty();
    bench.step(Input::Assign(entry(1, 0)));
    for ticket in 0..WAITING_MAX as u64 {
        assert!(bench.publish(ticket, None).is_empty());
    }
    assert_eq!(refusals(&bench.publish(9999, None)).len(), 1);
}

#[test]
fn a_leader_without_enough_followers_refuses_after_ten_seconds_and_keeps_what_it_took() {
    let mut bench = Bench::opened();
    bench.step(Input::PeerDown(id(1)));
    bench.settle();
    assert!(refusals(&bench.publish(7, None)).is_empty());
    bench.after(SHORT_TIME);
    bench.settle();
    let refusal = Refusal::NotEnoughReplicas { needed: 2, have: 1 };
    assert_eq!(refusals(&bench.publish(8, None)), [(8, refusal)]);
    bench.sync();
    bench.up(1);
    bench.settle();
    bench.promised(1, 1);
    assert_eq!(acknowledged(&bench.attached(1, 2)), [(7, 1)]);
}

#[test]
fn a_planned_move_that_does_not_come_refuses_what_waits_and_is_forgotten() {
    let mut bench = Bench::opened();
    bench.publish(6, None);
    bench.step(Input::StopAppends);
    assert!(bench.publish(7, None).is_empty(), "it waits for the next leader's name");
    bench.after(WAITING_TIME);
    assert_eq!(refusals(&bench.step(Input::Tick)), [(7, Refusal::Moving)]);
    assert_eq!(refusals(&bench.publish(8, None)), [(8, Refusal::Moving)]);
    bench.after(STOPPED_TIME);
    bench.step(Input::Tick);
    assert!(refusals(&bench.publish(9, None)).is_empty());
    bench.sync();
    let effects = bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(3) });
    assert_eq!(acknowledged(&effects), [(6, 1), (9, 2)]);
}

#[test]
fn who_publishes_during_a_planned_move_is_told_the_next_leader_once() {
    let next = [(7, Refusal::NotLeader { leader: Some(id(1)) })];
    let mut bench = Bench::opened();
    bench.step(Input::StopAppends);
    bench.publish(7, None);
    assert_eq!(refusals(&bench.step(Input::Assign(entry(2, 1)))), next, "by the operator's page");
    let mut bench = Bench::opened();
    bench.step(Input::StopAppends);
    bench.publish(7, None);
    let fence = Message::Fence { entry: entry(2, 1), term: term(2, 1) };
    assert_eq!(refusals(&bench.says(1, fence)), next, "by the next leader itself");
}

#[test]
fn a_planned_move_that_is_given_up_appends_what_waited() {
    let mut bench = Bench::opened();
    bench.step(Input::StopAppends);
    bench.publish(7, None);
    assert!(refusals(&bench.step(Input::Assign(entry(2, 0)))).is_empty());
    bench.sync();
    bench.promised_with(2, 1, &[(term(1, 0), 0)], 1, true);
    assert_eq!(bench.replica.log_end(), Offset(3), "behind the next opening record");
}

#[test]
fn a_follower_is_whole_only_when_appends_are_stopped_and_it_holds_all_of_the_log() {
    let mut bench = Bench::opened();
    let whole = |bench: &Bench| bench.replica.report().unwrap().whole;
    bench.publish(7, None);
    bench.sync();
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(2) });
    assert!(whole(&bench).is_empty(), "what comes next may be published at any moment");
    bench.publish(8, None);
    bench.step(Input::StopAppends);
    bench.settle();
    assert!(whole(&bench).is_empty(), "it lacks the last record");
    bench.sync();
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(3) });
    let effects = bench.settle();
    assert!(effects.contains(&Effect::Changed), "the operator is told at once");
    assert_eq!(whole(&bench), [id(1)]);
}

#[test]
fn a_duplicate_waits_for_the_commit_of_the_first_attempt() {
    let mut bench = Bench::opened();
    bench.publish(7, Some((9, 0)));
    assert!(acknowledged(&bench.publish(8, Some((9, 0)))).is_empty());
    bench.sync();
    let effects = bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(2) });
    assert_eq!(acknowledged(&effects), [(7, 1), (8, 1)]);
    assert_eq!(acknowledged(&bench.publish(9, Some((9, 0)))), [(9, 1)]);
    assert_eq!(bench.replica.log_end(), Offset(2));
}

#[test]
fn a_gap_is_refused_with_the_expected_number() {
    let mut bench = Bench::opened();
    let refusal = Refusal::OutOfSequence { expected: 0, got: 3 };
    assert_eq!(refusals(&bench.publish(7, Some((9, 3)))), [(7, refusal)]);
}

#[test]
fn a_forgotten_publish_is_answered_no_more() {
    let mut bench = Bench::opened();
    bench.publish(7, None);
    bench.step(Input::Forget(Ticket(7)));
    bench.sync();
    let effects = bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(2) });
    assert!(acknowledged(&effects).is_empty() && bench.replica.readable() == Some(Offset(2)));
}

#[test]
fn the_next_term_of_the_same_process_keeps_what_waits() {
    let mut bench = Bench::opened();
    bench.publish(7, None);
    bench.sync();
    assert!(refusals(&bench.step(Input::Assign(entry(2, 0)))).is_empty());
    bench.sync();
    let lines = [(term(1, 0), 0)];
    bench.promised_with(2, 1, &lines, 1, true);
    bench.settle();
    bench.sync();
    bench.says(1, Message::Attached { term: term(2, 0), log_end: Offset(1) });
    let effects = bench.says(1, Message::Stored { term: term(2, 0), log_end: Offset(3) });
    assert_eq!(acknowledged(&effects), [(7, 1)]);
}

#[test]
fn the_next_term_s_cut_answers_what_it_cut_with_outcome_unknown() {
    let mut bench = Bench::opened();
    bench.publish(7, None);
    bench.step(Input::Assign(entry(3, 0)));
    bench.sync();
    // Meanwhile 1 led a term that this replica did not hear of.
    let effects = bench.promised_with(3, 1, &[(term(1, 0), 0), (term(2, 1), 1)], 2, true);
    assert_eq!(refusals(&effects), [(7, Refusal::OutcomeUnknown)]);
}

#[test]
fn append_times_never_fall_though_the_clock_does() {
    let mut bench = Bench::opened();
    bench.publish(7, None);
    bench.now.clock_ms = 1;
    let effects = bench.publish(8, None);
    let Some(Effect::Write(_, super::super::Write::Append(batch))) = effects.first() else {
        panic!("{effects:?}")
    };
    assert_eq!(batch.append_time_ms(), 5000);
}

#[test]
fn a_halted_replica_refuses() {
    let mut bench = Bench::opened();
    bench.replica.halt("for the test".to_owned());
    let input = Input::Produce { ticket: Ticket(7), batch: produced(None) };
    assert_eq!(refusals(&bench.step(input)).len(), 1);
    assert!(bench.step(Input::PeerUp { peer: id(1), process: process(1, 2) }).is_empty());
}
