//! Claims about what readers and the operator are told.

use super::super::bench::{Bench, entry, id, term};
use super::super::{Effect, Input};
use super::*;

#[test]
fn a_report_is_not_older_than_what_was_promised() {
    let mut bench = Bench::following();
    bench.step(Input::Assign(entry(2, 2)));
    assert_eq!(bench.replica.report(), None, "the promise is being stored");
    assert!(bench.sync().contains(&Effect::Changed));
    assert_eq!(bench.replica.report().unwrap().promise.entry, Some(entry(2, 2)));
}

#[test]
fn a_leader_says_not_yet_until_its_opening_record_is_committed() {
    let mut bench = Bench::leading();
    assert_eq!((bench.replica.leading(), bench.replica.readable()), (Some(term(1, 0)), None));
    bench.sync();
    assert_eq!(bench.replica.report().unwrap().leading, None);
    bench.attached(1, 1);
    assert_eq!(bench.replica.readable(), Some(Offset(1)));
    assert_eq!(bench.replica.report().unwrap().leading, Some(term(1, 0)));
}

#[test]
fn a_follower_is_not_to_be_read_from() {
    let bench = Bench::following();
    assert_eq!((bench.replica.leading(), bench.replica.readable()), (None, None));
}

#[test]
fn who_lags_for_a_moment_stays_in_sync_and_who_is_gone_does_not() {
    let mut bench = Bench::opened();
    bench.step(Input::Tick);
    assert_eq!(bench.replica.report().unwrap().in_sync, [id(0), id(1)]);
    bench.step(Input::PeerDown(id(1)));
    assert!(bench.step(Input::Tick).contains(&Effect::Changed));
    assert_eq!(bench.replica.report().unwrap().in_sync, [id(0)]);
}

#[test]
fn a_learner_is_reported_once_it_reached_the_end_that_the_leader_had() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.up(3);
    bench.step(Input::Assign(crate::entry::Entry { learners: vec![id(3)], ..entry(1, 0) }));
    bench.sync();
    bench.promised(1, 1);
    bench.sync();
    bench.attached(1, 1);
    bench.promised(1, 3);
    bench.attached(3, 0);
    assert!(bench.replica.report().unwrap().caught_up.is_empty());
    bench.says(3, super::super::Message::Stored { term: term(1, 0), log_end: Offset(1) });
    assert_eq!(bench.replica.report().unwrap().caught_up, [id(3)]);
}

#[test]
fn a_leader_hears_an_open_quorum_or_not() {
    let mut bench = Bench::opened();
    assert!(bench.replica.hears_open_quorum());
    bench.step(Input::PeerDown(id(1)));
    assert!(bench.replica.hears_open_quorum(), "2 is still there");
    bench.step(Input::PeerDown(id(2)));
    assert!(!bench.replica.hears_open_quorum());
}
