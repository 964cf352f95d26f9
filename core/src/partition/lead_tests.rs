//! Claims about pushing to followers.

use super::super::bench::{Bench, batch, entry, id, process, sent, term};
use super::super::{Input, Write};
use super::*;

fn ship(effects: &[Effect]) -> Option<(Offset, Offset, u64)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Ship { from, until, bytes_max, .. } => Some((*from, *until, *bytes_max)),
        _ => None,
    })
}

fn shipped(bench: &mut Bench, until: u64, bytes: u64) {
    bench.step(Input::Shipped { to: id(1), until: Offset(until), bytes });
}

#[test]
fn what_many_publishes_of_a_turn_appended_is_shipped_at_once_before_it_is_durable() {
    let mut bench = Bench::opened();
    bench.publish(1, None);
    bench.publish(2, None);
    assert_eq!(ship(&bench.settle()), Some((Offset(1), Offset(3), IN_FLIGHT_BYTES_MAX)));
    assert_eq!(ship(&bench.settle()), None, "one at a time");
}

#[test]
fn credit_comes_back_with_the_follower_s_durable_end() {
    let mut bench = Bench::opened();
    bench.publish(1, None);
    bench.settle();
    shipped(&mut bench, 2, IN_FLIGHT_BYTES_MAX);
    bench.publish(2, None);
    assert_eq!(ship(&bench.settle()), None, "4 MiB are on their way");
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(2) });
    assert_eq!(ship(&bench.settle()), Some((Offset(2), Offset(3), IN_FLIGHT_BYTES_MAX)));
}

#[test]
fn a_follower_that_found_a_gap_is_sent_again_what_it_lacks() {
    let mut bench = Bench::opened();
    bench.publish(1, None);
    bench.settle();
    shipped(&mut bench, 2, 100);
    bench.says(1, Message::Attached { term: term(1, 0), log_end: Offset(1) });
    assert_eq!(ship(&bench.settle()), Some((Offset(1), Offset(2), IN_FLIGHT_BYTES_MAX)));
}

#[test]
fn what_makes_no_progress_is_sent_again_after_a_while() {
    let mut bench = Bench::opened();
    bench.publish(1, None);
    bench.settle();
    shipped(&mut bench, 2, 100);
    bench.after(ASK_AGAIN * 5);
    assert_eq!(ship(&bench.settle()).map(|(from, ..)| from), Some(Offset(1)));
}

#[test]
fn a_fence_without_an_answer_is_repeated_each_second_and_an_attach_too() {
    let mut bench = Bench::leading();
    let kinds = |effects: &[Effect]| -> Vec<&'static str> {
        let kind = |message: &Message| match message {
            Message::Fence { .. } => "fence",
            Message::Attach { .. } => "attach",
            _ => "other",
        };
        sent(effects).iter().map(|(_, message)| kind(message)).collect()
    };
    assert_eq!(kinds(&bench.settle()), ["attach", "fence"]);
    assert_eq!(kinds(&bench.settle()), [""; 0]);
    bench.after(ASK_AGAIN);
    assert_eq!(kinds(&bench.settle()), ["attach", "fence"]);
}

#[test]
fn a_risen_watermark_is_told_soon_and_a_quiet_follower_seldom() {
    let mut bench = Bench::opened();
    bench.settle();
    bench.after(WATERMARK_EACH);
    let told = sent(&bench.settle());
    assert!(
        matches!(&told[..], [(_, Message::Append { high_watermark: Offset(1), batches, .. })] if batches.is_empty()),
        "{told:?}"
    );
    bench.after(HEARTBEAT_BUSY * 2);
    let to_1 = |effects: &[Effect]| sent(effects).iter().filter(|(to, _)| *to == id(1)).count();
    assert_eq!(to_1(&bench.settle()), 0);
    bench.after(HEARTBEAT_IDLE);
    assert_eq!(to_1(&bench.settle()), 1);
}

#[test]
fn a_follower_that_retention_went_past_begins_anew() {
    let mut bench = Bench::opened();
    bench.up(2);
    for ticket in 1..4 {
        bench.publish(ticket, None);
    }
    bench.sync();
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(4) });
    bench.promised(1, 2);
    bench.settle();
    bench.says(2, Message::Attached { term: term(1, 0), log_end: Offset(0) });
    bench.step(Input::Retain(Offset(3)));
    let told = sent(&bench.settle());
    assert!(
        told.iter().any(|(to, message)| *to == id(2) && matches!(message, Message::Fence { .. })),
        "{told:?}"
    );
    bench.promised(1, 2);
    let told = sent(&bench.settle());
    let attach = told.iter().find(|(to, _)| *to == id(2));
    assert!(matches!(attach, Some((_, Message::Attach { log_start: Offset(3), .. }))), "{told:?}");
}

#[test]
fn what_an_earlier_process_had_durable_is_told_to_the_next() {
    let mut bench = Bench::opened();
    bench.step(Input::PeerDown(id(1)));
    bench.step(Input::PeerUp { peer: id(1), process: process(1, 2) });
    bench.settle();
    let promised = Message::Promised {
        term: term(1, 0),
        vector: crate::term::TermVector::default(),
        log_start: Offset(0),
        log_end: Offset(0),
        certain: true,
    };
    bench.step(Input::Message { from: id(1), process: process(1, 2), message: promised });
    let told = sent(&bench.settle());
    assert!(
        matches!(told.last(), Some((_, Message::Attach { counted: Offset(1), follower, .. })) if *follower == process(1, 2)),
        "{told:?}"
    );
}

#[test]
fn a_claim_beyond_the_leader_s_own_end_is_not_heard() {
    let mut bench = Bench::opened();
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(50) });
    bench.publish(1, None);
    bench.sync();
    assert_eq!(bench.replica.high_watermark(), Offset(1));
}

#[test]
fn a_leader_takes_no_batches_from_anybody() {
    let mut bench = Bench::opened();
    let effects = bench.append(term(1, 0), vec![batch(term(1, 0), 1)], 5);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Write(_, Write::Append(_)))));
    assert_eq!(bench.replica.promise().entry, Some(entry(1, 0)));
}

#[test]
fn what_a_follower_misses_is_sent_again_once_in_a_round_trip() {
    let mut bench = Bench::opened();
    bench.publish(7, None);
    bench.publish(8, None);
    bench.sync();
    let ships = |effects: &[Effect]| effects.iter().filter(|one| matches!(one, Effect::Ship { .. })).count();
    let shipped = |bench: &mut Bench| {
        bench.step(Input::Shipped { to: id(1), until: Offset(3), bytes: 10 });
    };
    let misses = |bench: &mut Bench, end| {
        bench.says(1, Message::Attached { term: term(1, 0), log_end: Offset(end) });
        ships(&bench.settle())
    };
    assert_eq!(ships(&bench.settle()), 1);
    shipped(&mut bench);
    bench.after(Duration::from_millis(300));
    assert_eq!(misses(&mut bench, 1), 1);
    shipped(&mut bench);
    assert_eq!(misses(&mut bench, 1), 0, "it is on its way");
    assert_eq!(misses(&mut bench, 2), 1, "from elsewhere");
    shipped(&mut bench);
    assert_eq!(misses(&mut bench, 1), 0, "overtaken on its way");
    bench.after(Duration::from_millis(300));
    assert_eq!(misses(&mut bench, 2), 1, "lost once more");
}
