//! Claims about the high watermark.

use super::super::bench::{Bench, batch, entry, entry_of, id, opening, process, set, term, vector};
use super::super::{Input, Message, Recovered, Ticket};
use super::*;

#[test]
fn nothing_is_committed_before_the_opening_record_is() {
    // 1 holds all of an older term's log, which is therefore on two of three.
    let old = term(1, 1);
    let recovered = Recovered { vector: vector(&[(old, 0)]), log_end: Offset(3), ..Recovered::default() };
    let mut bench = Bench::recovered(recovered);
    bench.up(1);
    bench.step(Input::Assign(entry(2, 0)));
    bench.sync();
    bench.promised_with(2, 1, &[(old, 0)], 3, true);
    bench.sync();
    bench.settle();
    let attached = |log_end| Message::Attached { term: term(2, 0), log_end: Offset(log_end) };
    bench.says(1, attached(3));
    assert_eq!((bench.replica.high_watermark(), bench.replica.readable()), (Offset(0), None));
    bench.says(1, Message::Stored { term: term(2, 0), log_end: Offset(4) });
    assert_eq!(bench.replica.readable(), Some(Offset(4)));
}

#[test]
fn a_publish_is_acknowledged_when_qa_replicas_hold_it_durably() {
    let mut bench = Bench::opened();
    bench.publish(7, None);
    let stored = Message::Stored { term: term(1, 0), log_end: Offset(2) };
    assert!(
        !bench.says(1, stored).iter().any(|effect| matches!(effect, Effect::Acknowledge { .. })),
        "not ours yet"
    );
    let effects = bench.sync();
    assert!(effects.contains(&Effect::Acknowledge { ticket: Ticket(7), base: Offset(1) }), "{effects:?}");
}

#[test]
fn an_end_of_another_term_or_of_an_unattached_follower_does_not_count() {
    let mut bench = Bench::leading();
    bench.sync();
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(1) });
    bench.says(1, Message::Attached { term: term(0, 0), log_end: Offset(1) });
    assert_eq!(bench.replica.readable(), None);
}

#[test]
fn an_end_counts_no_more_once_another_process_of_the_follower_is_there() {
    let mut bench = Bench::opened();
    bench.publish(7, None);
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(2) });
    bench.step(Input::PeerUp { peer: id(1), process: process(1, 2) });
    bench.sync();
    assert_eq!(bench.replica.high_watermark(), Offset(1));
}

#[test]
fn a_joint_entry_commits_what_both_sets_hold() {
    let members = Members::Joint { old: set(&[0, 1, 2], 2), new: set(&[0, 3, 4], 3) };
    let ends = [9, 7, 5, 8, 3];
    let held = |replica: ReplicaId| Offset(ends[usize::from(replica.ordinal.0)]);
    assert_eq!(held_by_quorums(&members, held), Offset(3));
    assert_eq!(held_by_quorums(&Members::One(set(&[0, 1, 2], 2)), held), Offset(7));
}

#[test]
fn what_a_lost_replica_held_still_counts_for_the_old_set() {
    let mut bench = Bench::empty();
    bench.up(2);
    let mut joint = entry_of(1, 0, Members::Joint { old: set(&[0, 1], 2), new: set(&[0, 2], 2) });
    joint.lost = vec![id(1)];
    bench.step(Input::Assign(joint.checked().unwrap()));
    bench.sync();
    bench.promised(1, 2);
    bench.sync();
    bench.attached(2, 1);
    assert_eq!(bench.replica.readable(), Some(Offset(1)));
}

#[test]
fn a_follower_believes_no_more_than_it_holds_durably() {
    let mut bench = Bench::following();
    bench.append(term(1, 1), vec![opening(term(1, 1), 1, 0), batch(term(1, 1), 1)], 2);
    assert_eq!(bench.replica.high_watermark(), Offset(0));
    let effects = bench.sync();
    assert!(effects.contains(&Effect::HighWatermark(Offset(2))), "{effects:?}");
}

#[test]
fn a_bad_batch_of_the_own_log_does_not_count_towards_the_quorum() {
    let mut bench = Bench::opened();
    bench.publish(7, None);
    bench.sync();
    bench.step(Input::Unreadable(Offset(1)));
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(2) });
    assert_eq!(bench.replica.high_watermark(), Offset(1));
    assert_eq!(bench.replica.report().unwrap().unreadable, Some(Offset(1)));
}
