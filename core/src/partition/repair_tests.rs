//! Claims about damaged batches.

use super::super::bench::{Bench, batch, entry, id, opening, sent, term, vector, writes};
use super::super::{Input, Message, Recovered};
use super::*;

/// Replica 0 holds 0 to 5 of term 1, which 1 led, and knows 1 and 2; nobody leads.
fn whole_log() -> Bench {
    let recovered = Recovered {
        promise: super::super::Promise {
            entry: Some(entry(1, 1)),
            term: Some(term(1, 1)),
            ..Default::default()
        },
        vector: vector(&[(term(1, 1), 0)]),
        log_end: Offset(5),
        high_watermark: Offset(5),
        ..Recovered::default()
    };
    let mut bench = Bench::recovered(recovered);
    bench.up(1);
    bench.up(2);
    bench
}

fn question(offset: u64) -> Message {
    Message::Refetch { term: term(1, 1), offset: Offset(offset) }
}

fn answer(offset: u64, batches: Vec<Batch>) -> Message {
    Message::Refetched { term: term(1, 1), offset: Offset(offset), batches }
}

fn mends(effects: &[Effect]) -> Vec<Batch> {
    writes(effects)
        .into_iter()
        .filter_map(|write| if let Write::Mend(batch) = write { Some(batch) } else { None })
        .collect()
}

fn asked(effects: &[Effect]) -> Vec<ReplicaId> {
    let questions = sent(effects).into_iter();
    questions.filter(|(_, said)| matches!(said, Message::Refetch { .. })).map(|(to, _)| to).collect()
}

#[test]
fn a_damaged_batch_is_asked_for_by_its_own_term_and_offset_and_put_back() {
    let mut bench = whole_log();
    bench.step(Input::Unreadable(Offset(3)));
    assert_eq!(bench.replica.report().unwrap().unreadable, Some(Offset(3)));
    assert_eq!(sent(&bench.settle()), [(id(1), question(3))]);
    assert!(bench.settle().is_empty(), "one question at a time");
    let copy = batch(term(1, 1), 3);
    let effects = bench.says(1, answer(3, vec![copy.clone()]));
    assert_eq!(mends(&effects), [copy]);
    assert_eq!(bench.replica.unreadable(), Some(Offset(3)), "not before it is durable");
    bench.sync();
    let report = bench.replica.report().unwrap();
    assert_eq!((report.unreadable, report.irreparable, bench.replica.mended_count()), (None, None, 1));
}

#[test]
fn a_copy_of_another_term_place_or_beyond_the_log_is_not_taken() {
    let later = term(2, 1);
    for wrong in [
        vec![batch(later, 3)],
        vec![batch(term(1, 1), 2)],
        vec![batch(term(1, 1), 4)],
        vec![batch(term(1, 1), 5)],
        vec![],
    ] {
        let mut bench = whole_log();
        bench.step(Input::Unreadable(Offset(3)));
        bench.settle();
        let effects = bench.says(1, answer(3, wrong));
        assert_eq!(mends(&effects), []);
        assert_eq!(asked(&bench.settle()), [id(2)], "the next one is asked at once");
    }
}

#[test]
fn neighbours_that_come_with_the_copy_are_put_back_too_up_to_the_first_that_does_not_belong() {
    let mut bench = whole_log();
    bench.step(Input::Unreadable(Offset(2)));
    bench.step(Input::Unreadable(Offset(3)));
    bench.settle();
    let copies: Vec<Batch> = (2..6).map(|base| batch(term(1, 1), base)).collect();
    let effects = bench.says(1, answer(2, copies.clone()));
    assert_eq!(mends(&effects), copies[..3]);
    bench.sync();
    assert_eq!((bench.replica.unreadable(), bench.replica.mended_count()), (None, 2));
}

#[test]
fn an_answer_that_nobody_asked_for_is_not_heard() {
    let mut bench = whole_log();
    let copy = || answer(3, vec![batch(term(1, 1), 3)]);
    assert_eq!(mends(&bench.says(1, copy())), []);
    bench.step(Input::Unreadable(Offset(3)));
    bench.settle();
    assert_eq!(mends(&bench.says(2, copy())), []);
}

#[test]
fn who_does_not_answer_is_passed_over_and_asked_again_in_later_and_later_rounds() {
    let mut bench = whole_log();
    bench.step(Input::Unreadable(Offset(3)));
    let mut questions = Vec::new();
    for _ in 0..400 {
        let to = asked(&bench.settle());
        questions.extend(to.iter().map(|_| bench.now.since_start.as_secs()));
        bench.after(Duration::from_secs(1));
    }
    // Two each round of 6 s; pauses of 1, 2, 4, … 60 s between rounds.
    assert!((18..=26).contains(&questions.len()), "{questions:?}");
    let pauses: Vec<u64> = questions.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| (3..=64).contains(pause)), "{questions:?}");
}

#[test]
fn a_replica_that_comes_back_is_asked_at_once() {
    let mut bench = whole_log();
    bench.step(Input::PeerDown(id(2)));
    bench.step(Input::Unreadable(Offset(3)));
    bench.settle();
    bench.says(1, answer(3, vec![]));
    assert_eq!(asked(&bench.settle()), []);
    assert_eq!(bench.replica.irreparable(), None, "2 may have it");
    bench.up(2);
    assert_eq!(asked(&bench.settle()), [id(2)]);
    bench.says(2, answer(3, vec![]));
    assert_eq!(bench.replica.report().unwrap().irreparable, Some(Offset(3)));
    bench.up(1);
    assert_eq!(bench.replica.irreparable(), None);
}

#[test]
fn a_replica_gives_a_batch_of_the_asked_term_whatever_it_has_promised() {
    let mut bench = whole_log();
    bench.step(Input::Assign(entry(4, 2)));
    let effects = bench.says(1, question(3));
    let expected = Effect::Refetch {
        to: id(1),
        term: term(1, 1),
        offset: Offset(3),
        until: Offset(5),
        bytes_max: ANSWER_BYTES_MAX,
    };
    assert_eq!(effects, [expected]);
}

#[test]
fn what_is_not_held_or_damaged_here_too_is_refused_by_an_empty_answer() {
    let mut bench = whole_log();
    bench.step(Input::Unreadable(Offset(2)));
    for (term, offset) in [(term(1, 1), 2), (term(1, 1), 5), (term(2, 1), 3)] {
        let effects = bench.says(1, Message::Refetch { term, offset: Offset(offset) });
        let refusal = Message::Refetched { term, offset: Offset(offset), batches: Vec::new() };
        assert_eq!(sent(&effects), [(id(1), refusal)]);
    }
    let effects = bench.says(1, question(1));
    let until =
        |effect: &Effect| if let Effect::Refetch { until, .. } = effect { Some(*until) } else { None };
    assert_eq!(effects.iter().find_map(until), Some(Offset(2)), "not beyond its own damage");
}

#[test]
fn damage_that_is_found_again_in_a_mended_place_is_asked_for_less_and_less_often() {
    let mut bench = whole_log();
    let mut at = Vec::new();
    for _ in 0..60 {
        bench.step(Input::Unreadable(Offset(3)));
        if let [peer] = asked(&bench.settle())[..] {
            at.push(bench.now.since_start.as_secs());
            let number = peer.ordinal.0;
            bench.says(number, answer(3, vec![batch(term(1, 1), 3)]));
            bench.sync();
        }
        bench.after(Duration::from_secs(1));
    }
    assert_eq!(at, [0, 2, 5, 10, 19, 36]);
}

#[test]
fn a_cut_a_reset_of_the_start_and_a_stale_read_leave_nothing_to_mend() {
    let mut bench = whole_log();
    bench.step(Input::Unreadable(Offset(5)));
    bench.step(Input::Unreadable(Offset(9)));
    assert_eq!(bench.replica.unreadable(), None);
    let mut bench = Bench::opened();
    for ticket in 1..5 {
        bench.publish(ticket, None);
    }
    bench.sync();
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(5) });
    bench.step(Input::Unreadable(Offset(2)));
    assert_eq!(bench.replica.unreadable(), Some(Offset(2)));
    bench.step(Input::Retain(Offset(3)));
    assert_eq!(bench.replica.unreadable(), None);
}

#[test]
fn a_leader_ships_up_to_a_damaged_batch_and_on_when_it_is_mended() {
    let mut bench = Bench::opened();
    for ticket in 1..5 {
        bench.publish(ticket, None);
    }
    bench.sync();
    bench.step(Input::Unreadable(Offset(3)));
    let shipped = |effects: &[Effect]| {
        let one = |effect: &Effect| {
            if let Effect::Ship { from, until, .. } = effect { Some((from.0, until.0)) } else { None }
        };
        effects.iter().find_map(one)
    };
    assert_eq!(shipped(&bench.settle()), Some((1, 3)));
    bench.step(Input::Shipped { to: id(1), until: Offset(3), bytes: 200 });
    assert_eq!(shipped(&bench.settle()), None);
    let own = |base| batch(term(1, 0), base);
    bench.says(1, Message::Refetched { term: term(1, 0), offset: Offset(3), batches: vec![own(3)] });
    bench.sync();
    assert_eq!(shipped(&bench.settle()), Some((3, 5)));
}

#[test]
fn a_ship_that_met_a_damaged_batch_is_not_under_way_any_more() {
    let mut bench = Bench::opened();
    bench.publish(1, None);
    bench.publish(2, None);
    bench.sync();
    assert!(bench.settle().iter().any(|effect| matches!(effect, Effect::Ship { .. })));
    bench.step(Input::Unreadable(Offset(2)));
    let effects = bench.settle();
    assert!(
        effects.iter().any(|effect| matches!(effect, Effect::Ship { until: Offset(2), .. })),
        "{effects:?}"
    );
}

#[test]
fn a_committed_batch_that_is_damaged_does_not_stop_what_comes_behind_it() {
    let mut bench = Bench::opened();
    bench.publish(1, None);
    bench.sync();
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(2) });
    bench.step(Input::Unreadable(Offset(1)));
    bench.publish(2, None);
    bench.sync();
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(3) });
    assert_eq!(bench.replica.high_watermark(), Offset(3));
}

#[test]
fn an_answer_to_a_fence_says_uncertain_while_a_batch_is_damaged_and_certain_once_it_is_mended() {
    let mut bench = whole_log();
    bench.step(Input::Unreadable(Offset(3)));
    bench.settle();
    bench.says(2, Message::Fence { entry: entry(2, 2), term: term(2, 2) });
    let certain = |effects: &[Effect]| {
        sent(effects).into_iter().find_map(|(to, said)| match said {
            Message::Promised { certain, .. } if to == id(2) => Some(certain),
            _ => None,
        })
    };
    assert_eq!(certain(&bench.sync()), Some(false));
    bench.says(1, answer(3, vec![batch(term(1, 1), 3)]));
    assert_eq!(certain(&bench.sync()), Some(true));
}

/// Leads term 2 with an empty log, 1 and 2 answered with five offsets of term 1.
fn fetching() -> (Bench, Vec<Effect>) {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.up(2);
    bench.step(Input::Assign(entry(2, 0)));
    bench.sync();
    let mut effects = bench.promised_with(2, 1, &[(term(1, 1), 0)], 5, true);
    effects.extend(bench.promised_with(2, 2, &[(term(1, 1), 0)], 5, true));
    (bench, effects)
}

fn fetches(effects: &[Effect]) -> Vec<(ReplicaId, u64, u64)> {
    let asked = |(to, said): (ReplicaId, Message)| match said {
        Message::Fetch { from, until, .. } => Some((to, from.0, until.0)),
        _ => None,
    };
    sent(effects).into_iter().filter_map(asked).collect()
}

#[test]
fn a_leader_whose_source_is_damaged_fetches_the_same_log_from_another_replica() {
    let (mut bench, effects) = fetching();
    assert_eq!(fetches(&effects), [(id(1), 0, 5)]);
    let first = vec![opening(term(1, 1), 1, 0), batch(term(1, 1), 1)];
    let effects = bench.says(1, Message::Fetched { term: term(2, 0), batches: first });
    assert_eq!(fetches(&effects), [(id(1), 2, 5)]);
    let effects = bench.says(1, Message::Unreadable { term: term(2, 0), offset: Offset(2) });
    assert_eq!(fetches(&effects), [(id(2), 2, 5)]);
    let rest = (2..5).map(|base| batch(term(1, 1), base)).collect();
    bench.says(2, Message::Fetched { term: term(2, 0), batches: rest });
    assert_eq!(bench.replica.leading(), Some(term(2, 0)));
}

#[test]
fn sources_that_are_all_damaged_are_asked_in_turn_once_a_second() {
    let (mut bench, _) = fetching();
    let mut count = 0;
    for _ in 0..100 {
        bench.after(Duration::from_millis(100));
        for (to, _, _) in fetches(&bench.settle()) {
            count += 1;
            let message = Message::Unreadable { term: term(2, 0), offset: Offset(0) };
            let more = bench.says(to.ordinal.0, message);
            count += fetches(&more).len();
        }
    }
    assert!((8..=20).contains(&count), "{count} questions in 10 s");
}

#[test]
fn another_source_is_asked_only_for_what_its_log_shares_with_the_longest() {
    let mut bench = Bench::empty();
    bench.up(1);
    bench.up(2);
    bench.step(Input::Assign(entry(3, 0)));
    bench.sync();
    // Not enough before both have answered.
    bench.promised_with(3, 2, &[(term(1, 1), 0)], 9, false);
    let effects = bench.promised_with(3, 1, &[(term(1, 1), 0), (term(2, 1), 4)], 6, true);
    assert_eq!(fetches(&effects), [(id(1), 0, 6)]);
    let effects = bench.says(1, Message::Unreadable { term: term(3, 0), offset: Offset(0) });
    assert_eq!(fetches(&effects), [(id(2), 0, 4)]);
}

#[test]
fn a_source_tells_at_once_that_what_it_is_asked_for_is_damaged() {
    let mut bench = whole_log();
    bench.says(2, Message::Fence { entry: entry(2, 2), term: term(2, 2) });
    bench.sync();
    let fetch = |from| Message::Fetch { term: term(2, 2), from: Offset(from), until: Offset(5) };
    bench.says(2, fetch(1));
    let effects = bench.step(Input::Unreadable(Offset(3)));
    let told = (id(2), Message::Unreadable { term: term(2, 2), offset: Offset(3) });
    assert!(sent(&effects).contains(&told), "{effects:?}");
    let effects = bench.says(2, fetch(1));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Ship { until: Offset(3), .. })));
    assert_eq!(sent(&bench.says(2, fetch(3))), [told]);
}

#[test]
fn more_damage_than_is_remembered_is_healed_in_its_turn() {
    let recovered = Recovered {
        promise: super::super::Promise { entry: Some(entry(1, 1)), ..Default::default() },
        vector: vector(&[(term(1, 1), 0)]),
        log_end: Offset(1000),
        ..Recovered::default()
    };
    let mut bench = Bench::recovered(recovered);
    bench.up(1);
    // A reader that goes through the log again and again.
    let mut damaged: BTreeSet<u64> = (0..200).map(|place| place * 5).collect();
    for _ in 0..400 {
        for offset in &damaged {
            bench.step(Input::Unreadable(Offset(*offset)));
        }
        let Some((_, Message::Refetch { offset, .. })) = sent(&bench.settle()).pop() else { continue };
        bench.says(1, answer(offset.0, vec![batch(term(1, 1), offset.0)]));
        bench.sync();
        damaged.remove(&offset.0);
    }
    assert!(damaged.is_empty(), "{damaged:?}");
    assert!(bench.replica.repairs.places.len() <= REPAIRS_MAX);
}
