//! Claims about entries, releases and refusals.

use super::super::bench::{Bench, entry, entry_of, id, sent, set, term, writes};
use super::super::{Input, Message, Ticket};
use super::*;
use crate::entry::Members;

fn without_me(counter: u64) -> Entry {
    entry_of(counter, 1, Members::One(set(&[1, 2, 3], 2)))
}

fn release(counter: u64) -> Input {
    Input::Release(Epoch { generation: 1, counter })
}

#[test]
fn an_older_or_equal_entry_changes_nothing() {
    let mut bench = Bench::empty();
    bench.step(Input::Assign(entry(2, 1)));
    assert!(bench.step(Input::Assign(entry(2, 2))).is_empty());
    assert!(bench.step(Input::Assign(entry(1, 0))).is_empty());
    assert_eq!(bench.replica.leader(), Some(id(1)));
}

#[test]
fn another_partition_s_entry_changes_nothing() {
    let mut bench = Bench::empty();
    let key = crate::id::PartitionKey { partition: 5, ..super::super::bench::key() };
    assert!(bench.step(Input::Assign(Entry { key, ..entry(2, 1) })).is_empty());
}

#[test]
fn a_release_is_refused_while_the_entry_names_this_replica() {
    let mut bench = Bench::empty();
    bench.step(Input::Assign(entry(2, 1)));
    assert!(bench.step(release(3)).is_empty());
}

#[test]
fn a_release_older_than_the_entry_is_refused() {
    let mut bench = Bench::empty();
    bench.step(Input::Assign(without_me(4)));
    assert!(bench.step(release(3)).is_empty());
}

#[test]
fn who_let_a_deleted_topic_go_and_is_named_again_is_uncertain() {
    for deleted in [true, false] {
        let mut bench = Bench::following();
        let mut last = without_me(4);
        if deleted {
            let nobody = crate::entry::ReplicaSet::new(vec![crate::entry::NOBODY], 1).unwrap();
            last = Entry { leader: None, ..entry_of(4, 1, Members::One(nobody)) };
        }
        bench.step(Input::Assign(last));
        bench.step(release(4));
        bench.sync();
        let written = writes(&bench.step(Input::Assign(entry(5, 1))));
        assert_eq!(written.contains(&Write::Mark { uncertain: true }), deleted, "{written:?}");
        bench.sync();
        assert_eq!(bench.replica.report().unwrap().uncertain, deleted);
    }
}

#[test]
fn a_release_leaves_a_tombstone_with_the_entry_and_at_least_the_release_s_epoch() {
    let mut bench = Bench::following();
    bench.step(Input::Assign(without_me(4)));
    let effects = bench.step(release(5));
    let [Write::Promise(promise), Write::Release] = &writes(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!((promise.kind, promise.entry.as_ref()), (PromiseKind::Tombstone, Some(&without_me(4))));
    assert_eq!(promise.term.map(|term| term.epoch.counter), Some(5));
    bench.sync();
    let refused = bench.says(1, Message::Fence { entry: entry(3, 1), term: term(3, 1) });
    assert!(matches!(&sent(&refused)[..], [(_, Message::Refused { .. })]), "{refused:?}");
    assert!(bench.step(Input::Assign(entry(4, 1))).is_empty(), "a lower entry than what was released");
}

#[test]
fn a_tombstone_lives_again_under_a_higher_entry() {
    let mut bench = Bench::following();
    bench.step(Input::Assign(without_me(4)));
    bench.step(release(4));
    bench.step(Input::Assign(entry(6, 1)));
    assert_eq!(bench.replica.promise().kind, PromiseKind::Live);
    let effects = bench.says(1, Message::Fence { entry: entry(6, 1), term: term(6, 1) });
    assert_eq!(sent(&effects).len(), 0);
    assert!(matches!(&sent(&bench.sync())[..], [(_, Message::Promised { log_end: Offset(0), .. })]));
}

#[test]
fn a_tombstone_whose_records_were_not_released_yet_releases_them_at_start() {
    let promise = Promise { entry: Some(without_me(4)), term: None, kind: PromiseKind::Tombstone };
    let recovered =
        super::super::Recovered { promise, log_end: Offset(9), ..super::super::Recovered::default() };
    let mut bench = Bench::recovered(recovered);
    assert_eq!(writes(&bench.step(Input::Tick)), [Write::Release]);
    assert_eq!(bench.replica.log_end(), Offset::ZERO);
}

#[test]
fn who_is_refused_by_a_higher_term_steps_down_and_adopts_the_higher_entry() {
    let mut bench = Bench::opened();
    bench.publish(7, None);
    let message = Message::Refused { term: term(1, 0), promised: Some(term(2, 2)), entry: Some(entry(2, 2)) };
    let effects = bench.says(1, message);
    let refusal = Refusal::OutcomeUnknown;
    assert!(effects.contains(&Effect::Refuse { ticket: Ticket(7), refusal }), "{effects:?}");
    assert_eq!((bench.replica.leading(), bench.replica.leader()), (None, Some(id(2))));
}

#[test]
fn a_refusal_of_an_earlier_term_does_not_depose() {
    let mut bench = Bench::opened();
    bench.says(1, Message::Refused { term: term(0, 0), promised: Some(term(1, 0)), entry: None });
    assert_eq!(bench.replica.leading(), Some(term(1, 0)));
}

#[test]
fn a_leader_whose_entry_goes_to_another_steps_down_even_while_it_opens() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.step(Input::Assign(entry(1, 0)));
    bench.sync();
    bench.step(Input::Assign(entry(2, 1)));
    bench.promised(1, 1);
    assert_eq!(bench.replica.leading(), None);
    bench.after(std::time::Duration::from_secs(2));
    assert!(sent(&bench.settle()).is_empty(), "it asks nobody any more");
}

#[test]
fn who_is_lost_for_ever_is_not_heard() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.up(2);
    let mut joint = entry_of(1, 0, Members::Joint { old: set(&[0, 1], 2), new: set(&[0, 2], 2) });
    joint.lost = vec![id(1)];
    bench.step(Input::Assign(joint));
    bench.sync();
    bench.promised(1, 1);
    assert_eq!(bench.replica.leading(), None);
    let fence = Message::Fence { entry: entry(2, 1), term: term(2, 1) };
    assert!(bench.says(1, fence).is_empty());
}

#[test]
fn a_process_that_was_not_announced_is_not_heard() {
    let mut bench = Bench::empty();
    assert!(bench.says(1, Message::Fence { entry: entry(2, 1), term: term(2, 1) }).is_empty());
}
