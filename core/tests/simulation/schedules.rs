//! The schedules that broke weaker texts of the protocol, each step by step. Those of the operator (2, 3 and 4) are in
//! `table_schedules`.

use fulmar_core::broker::{Broker, Conclusion, HelloRefusal, Identity, conclude};
use fulmar_core::entry::Members;
use fulmar_core::id::{Incarnation, Ordinal};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Input, PromiseKind, Refusal, Write};
use fulmar_core::term::{BootId, Epoch, Process, Session};

use crate::lab::{Lab, entry, id, set};
use crate::node::CLUSTER;

fn abc() -> Members {
    Members::One(set("ABC", 2))
}

/// A leads {ABC}, and 1 is committed everywhere.
fn running() -> Lab {
    let mut lab = Lab::new("ABCDE");
    lab.assign("ABC", &entry(1, 'A', abc()));
    lab.connect_all("ABCDE");
    lab.run("ABC");
    let first = lab.publish('A', 1);
    lab.run("ABC");
    assert!(lab.is_acknowledged(first));
    lab
}

#[test]
fn schedule_1_a_release_does_not_forget_the_promise() {
    let mut lab = running();
    let joint = Members::Joint { old: set("ABC", 2), new: set("CDE", 2) };
    lab.assign("BCDE", &entry(2, 'C', joint));
    lab.run("BCDE");
    assert!(lab.replica('C').readable().is_some(), "the joint entry's term opened");
    let moved = entry(3, 'C', Members::One(set("CDE", 2)));
    lab.assign("BCDE", &moved);
    lab.run("CDE");
    lab.step('B', Input::Release(moved.epoch));
    lab.sync('B');
    let promise = lab.replica('B').promise().clone();
    assert_eq!((promise.kind, promise.entry), (PromiseKind::Tombstone, Some(moved)));
    assert_eq!(lab.replica('B').log_end(), Offset::ZERO);
    lab.crash('B', false);
    lab.start('B');
    // A still lives in the old epoch, and now hears B.
    lab.lose_messages();
    lab.connect('A', 'B');
    let lost = lab.publish('A', 2);
    lab.run("AB");
    assert!(!lab.is_acknowledged(lost), "two histories would be committed");
    assert_eq!(lab.replica('A').leading(), None, "it was refused by what B promised");
    let kept = lab.publish('C', 3);
    lab.run("CDE");
    assert!(lab.is_acknowledged(kept));
}

#[test]
fn schedule_5_an_equal_session_of_a_restored_volume_is_refused() {
    let process = |session, boot| Process { session: Session(session), boot: BootId(boot) };
    let identity = |number, processes: &[Process]| Identity {
        cluster: Some(CLUSTER),
        ordinal: Ordinal(number),
        incarnation: Incarnation(u128::from(number) + 1),
        processes: processes.to_vec(),
    };
    let mut peer = Broker::new(identity(1, &[process(1, 7)]), []).unwrap();
    let before = [process(1, 10)];
    let led = [before[0], process(2, 20)];
    peer.hear(&identity(0, &led).hello(Ordinal(1))).unwrap();
    // Snapshot before session 2, restored: it is session 2 again.
    let restored = [before[0], process(2, 21)];
    let refusal = peer.hear(&identity(0, &restored).hello(Ordinal(1))).unwrap_err();
    assert_eq!(refusal, HelloRefusal::UnknownProcess { seen: led[1] });
    assert_eq!(conclude(led[1], &restored), Conclusion::Restored);
}

#[test]
fn schedule_6_a_refused_restored_volume_does_not_climb_and_a_second_process_does_not_wipe() {
    let process = |session, boot| Process { session: Session(session), boot: BootId(boot) };
    let identity = |number, processes: &[Process]| Identity {
        cluster: Some(CLUSTER),
        ordinal: Ordinal(number),
        incarnation: Incarnation(u128::from(number) + 1),
        processes: processes.to_vec(),
    };
    let mut peer = Broker::new(identity(1, &[process(1, 7)]), []).unwrap();
    let seen = process(5, 50);
    peer.hear(&identity(0, &[process(4, 40), seen]).hello(Ordinal(1))).unwrap();
    let climbed: Vec<Process> = (1..10).map(|session| process(session, session)).collect();
    assert!(
        peer.hear(&identity(0, &climbed).hello(Ordinal(1))).is_err(),
        "session 9 does not make up for it"
    );
    // The fourth session's process still runs and dials; the volume has the fifth.
    let second = peer.hear(&identity(0, &[process(4, 40)]).hello(Ordinal(1))).unwrap_err();
    assert_eq!(second, HelloRefusal::UnknownProcess { seen });
    assert_eq!(conclude(seen, &[process(4, 40), seen]), Conclusion::SecondProcess);
}

#[test]
fn schedule_7_a_promise_survives_the_loss_of_the_last_commit() {
    let mut lab = running();
    let second = entry(2, 'C', abc());
    lab.assign("C", &second);
    lab.sync('C');
    lab.settle('C');
    lab.deliver("BC");
    lab.sync('B');
    lab.crash('B', true);
    lab.start('B');
    assert_eq!(lab.replica('B').promise().entry.as_ref(), Some(&second));
    lab.connect('A', 'B');
    let lost = lab.publish('A', 2);
    lab.run("AB");
    assert!(!lab.is_acknowledged(lost), "B had promised C's term");
}

#[test]
fn schedule_8_who_lost_something_is_uncertain_until_it_reaches_the_leader_s_end() {
    let mut lab = running();
    // C hears nothing of 2, which A and B hold.
    lab.disconnect('A', 'C');
    let second = lab.publish('A', 2);
    lab.run("AB");
    assert!(lab.is_acknowledged(second));
    lab.crash('B', true);
    assert_eq!(lab.values('B'), [1], "it lost 2, which A counted");
    lab.start('B');
    // It meets A, is past A's opening record, and A dies before B has 2 again.
    lab.lose_messages();
    lab.connect('A', 'B');
    lab.settle('A');
    lab.crash('A', false);
    lab.lose_messages();
    lab.assign("BC", &entry(2, 'C', abc()));
    lab.connect('B', 'C');
    lab.run("BC");
    assert_eq!(lab.replica('C').leading(), None, "only C is certain, and 2 of 3 are needed");
    lab.start('A');
    lab.connect_all("ABC");
    lab.run("ABC");
    assert!(lab.replica('C').readable().is_some());
    assert_eq!(lab.values('C'), [1, 2]);
}

#[test]
fn schedule_9_uncertainty_outlives_restarts_and_leaves_with_the_durable_log() {
    let mut lab = running();
    lab.crash('B', true);
    lab.start('B');
    lab.crash('B', false);
    lab.start('B');
    assert!(lab.replica('B').report().unwrap().uncertain, "the second restart had nothing to repair");
    lab.connect_all("ABC");
    lab.settle('A');
    for _ in 0..20 {
        lab.deliver("AB");
        lab.settle('A');
        lab.settle('B');
        if lab.disk('B').is_about_to(|write| *write == Write::Mark { uncertain: false }) {
            break;
        }
        lab.sync('B');
        lab.sync('A');
    }
    assert!(lab.disk('B').is_about_to(|write| *write == Write::Mark { uncertain: false }));
    assert!(lab.replica('B').report().unwrap().uncertain, "what it caught up is not durable yet");
    lab.crash('B', false);
    lab.start('B');
    assert!(lab.replica('B').report().unwrap().uncertain);
    lab.connect_all("ABC");
    lab.run("ABC");
    assert!(!lab.replica('B').report().unwrap().uncertain);
}

#[test]
fn schedule_10_another_ack_quorum_is_a_joint_change() {
    let mut lab = running();
    lab.disconnect('A', 'C');
    let second = lab.publish('A', 2);
    lab.run("AB");
    assert!(lab.is_acknowledged(second), "on A and B");
    // With Qa 3 alone C would open with itself, and without 2.
    let joint = Members::Joint { old: set("ABC", 2), new: set("ABC", 3) };
    lab.assign("C", &entry(2, 'C', joint));
    lab.run("C");
    assert_eq!(lab.replica('C').leading(), None);
    lab.connect('B', 'C');
    lab.run("BC");
    assert_eq!(lab.values('C'), [1, 2]);
}

#[test]
fn schedule_11_a_dead_tail_below_the_leader_s_log_start_does_not_survive() {
    let mut lab = running();
    // A is alone with a tail that never becomes committed.
    lab.disconnect('A', 'B');
    lab.disconnect('A', 'C');
    lab.publish('A', 66);
    lab.sync('A');
    lab.crash('A', false);
    lab.lose_messages();
    lab.assign("BC", &entry(2, 'B', abc()));
    lab.run("BC");
    for value in 2..6 {
        lab.publish('B', value);
    }
    lab.run("BC");
    let start = lab.log('B').batches.back().unwrap().base();
    lab.step('B', Input::Retain(start));
    lab.run("BC");
    lab.start('A');
    lab.connect_all("ABC");
    lab.run("ABC");
    assert_eq!((lab.replica('A').log_start(), lab.values('A')), (start, vec![5]));
    assert_eq!(lab.replica('A').halted(), None);
}

#[test]
fn who_cannot_read_what_the_others_let_go_lets_it_go_too_and_feeds_whoever_joins() {
    let mut lab = running();
    let tickets: Vec<_> = (2..5).map(|value| lab.publish('A', value)).collect();
    lab.run("ABC");
    assert!(tickets.into_iter().all(|ticket| lab.is_acknowledged(ticket)));
    // Retention goes on where C does not hear of it.
    lab.disconnect('A', 'C');
    let start = Offset(3);
    lab.step('A', Input::Retain(start));
    lab.run("AB");
    lab.crash('A', false);
    lab.lose_messages();
    lab.assign("BC", &entry(2, 'C', abc()));
    lab.connect('B', 'C');
    lab.run("BC");
    assert!(lab.replica('C').readable().is_some());
    assert_eq!((lab.replica('B').log_start(), lab.replica('C').log_start()), (start, Offset::ZERO));
    // The value 2 lies on C alone, which cannot read it. D joins with nothing.
    lab.disconnect('C', 'E');
    lab.step('C', Input::Unreadable(Offset(2)));
    let joint = Members::Joint { old: set("ABC", 2), new: set("BCD", 2) };
    lab.assign("BCD", &entry(3, 'C', joint));
    lab.run("BCD");
    assert_eq!((lab.replica('C').log_start(), lab.replica('C').unreadable()), (start, None));
    assert_eq!((lab.replica('D').log_start(), lab.values('D')), (start, vec![3, 4]));
    assert!(lab.replica('C').readable().is_some(), "the joint entry's term opened");
    // A, which has let it go with B, comes back.
    lab.start('A');
    lab.connect_all("ABCD");
    lab.run("ABCD");
    assert_eq!((lab.replica('A').log_start(), lab.values('A')), (start, vec![3, 4]));
}

#[test]
fn schedule_12_a_replica_that_opens_alone_waits_for_somebody_who_knows_it() {
    use fulmar_core::partition::{Now, Recovered, Replica};
    let alone = entry(1, 'A', Members::One(set("AB", 2)));
    let process = Process { session: Session(3), boot: BootId(1) };
    let mut replica = Replica::new(id('A'), process, alone.key, Recovered::default()).unwrap();
    let now = Now::default();
    replica.step(now, Input::Assign(alone));
    let written = fulmar_core::partition::WriteSeq(1);
    assert!(replica.step(now, Input::Durable(written)).len() < 2 && replica.leading().is_none());
    replica.step(now, Input::Confirmed);
    assert!(replica.leading().is_some(), "Qo is 1: nobody else needs to answer");
}

#[test]
fn a_publish_that_was_under_way_when_its_leader_stepped_down_is_never_acknowledged() {
    let mut lab = running();
    lab.disconnect('A', 'B');
    lab.disconnect('A', 'C');
    let open = lab.publish('A', 2);
    lab.sync('A');
    lab.assign("ABC", &entry(2, 'A', abc()));
    assert!(!lab.answers.contains_key(&open), "the same process opens the next term: it may wait");
    lab.assign("ABC", &entry(3, 'B', abc()));
    assert_eq!(lab.answers.get(&open), Some(&Err(Refusal::OutcomeUnknown)));
    lab.lose_messages();
    lab.connect_all("ABC");
    lab.run("ABC");
    assert_eq!(lab.answers.get(&open), Some(&Err(Refusal::OutcomeUnknown)));
    assert!(lab.replica('B').readable().is_some());
}

#[test]
fn a_change_of_members_costs_who_publishes_nothing() {
    let mut lab = running();
    let during = lab.publish('A', 2);
    let joint = Members::Joint { old: set("ABC", 2), new: set("ABD", 2) };
    lab.assign("ABCD", &entry(2, 'A', joint));
    let while_opening = lab.publish('A', 3);
    lab.run("ABCD");
    lab.assign("ABCD", &entry(3, 'A', Members::One(set("ABD", 2))));
    let after = lab.publish('A', 4);
    lab.run("ABCD");
    assert!(
        [during, while_opening, after].iter().all(|ticket| lab.is_acknowledged(*ticket)),
        "{:?}",
        lab.answers
    );
    assert_eq!(lab.values('D'), [1, 2, 3, 4]);
}

#[test]
fn a_lost_volume_is_replaced_though_its_set_has_no_ack_quorum_any_more() {
    let mut lab = Lab::new("ABC");
    lab.connect_all("ABC");
    lab.assign("AB", &entry(1, 'A', Members::One(set("AB", 2))));
    lab.run("AB");
    let first = lab.publish('A', 1);
    lab.run("AB");
    assert!(lab.is_acknowledged(first));
    lab.crash('B', false);
    let joint = Members::Joint { old: set("AB", 2), new: set("AC", 2) };
    let mut next = entry(2, 'A', joint);
    lab.assign("AC", &next);
    lab.run("AC");
    assert_eq!(lab.replica('A').readable(), None, "B has to acknowledge, and cannot");
    next.epoch = Epoch { generation: 1, counter: 3 };
    next.lost = vec![id('B')];
    lab.assign("AC", &next.checked().unwrap());
    lab.run("AC");
    assert!(lab.replica('A').readable().is_some());
    assert_eq!(lab.values('C'), [1]);
}

#[test]
fn if_all_are_uncertain_the_longest_log_is_taken_and_the_range_reported() {
    let mut lab = running();
    for name in ['A', 'B', 'C'] {
        lab.crash(name, true);
    }
    lab.lose_messages();
    for name in ['A', 'B', 'C'] {
        lab.start(name);
    }
    lab.connect_all("ABC");
    lab.run("AB");
    assert_eq!(lab.replica('A').leading(), None, "C may have what they lack");
    lab.connect_all("ABC");
    lab.run("ABC");
    let report = lab.replica('A').report().unwrap();
    assert!(report.leading.is_some() && report.may_have_lost.is_some() && !report.uncertain, "{report:?}");
}

#[test]
fn a_duplicate_is_acknowledged_with_the_first_offset_once_that_is_committed() {
    let mut lab = running();
    lab.disconnect('A', 'B');
    lab.disconnect('A', 'C');
    let first = lab.publish_as('A', 2, Some((9, 0)));
    let again = lab.publish_as('A', 2, Some((9, 0)));
    lab.run("A");
    assert!(!lab.is_acknowledged(first) && !lab.is_acknowledged(again));
    lab.connect_all("ABC");
    lab.run("ABC");
    assert_eq!(lab.answers.get(&again), lab.answers.get(&first));
    assert!(lab.is_acknowledged(again));
    assert_eq!(lab.values('C'), [1, 2]);
}
