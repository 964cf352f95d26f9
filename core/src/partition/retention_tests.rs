//! Claims about the log's start.

use super::super::bench::{Bench, batch, opening, term, writes};
use super::super::{Input, Message, Write};
use super::*;

#[test]
fn only_what_is_committed_goes_and_only_by_the_leader() {
    let mut bench = Bench::opened();
    bench.publish(7, None);
    assert!(bench.step(Input::Retain(Offset(2))).is_empty(), "not committed");
    assert_eq!(writes(&bench.step(Input::Retain(Offset(1)))), [Write::LogStart(Offset(1))]);
    assert!(bench.step(Input::Retain(Offset(0))).is_empty(), "never back");
    let mut follower = Bench::following();
    assert!(follower.step(Input::Retain(Offset(0))).is_empty());
}

#[test]
fn a_follower_goes_as_far_as_it_knows_to_be_committed() {
    let mut bench = Bench::following();
    bench.append(term(1, 1), vec![opening(term(1, 1), 1, 0), batch(term(1, 1), 1)], 0);
    bench.sync();
    let message = |high_watermark, log_start| Message::Append {
        term: term(1, 1),
        from: Offset(2),
        batches: Vec::new(),
        high_watermark: Offset(high_watermark),
        log_start: Offset(log_start),
    };
    assert!(writes(&bench.says(1, message(0, 2))).is_empty());
    assert_eq!(writes(&bench.says(1, message(1, 2))), [Write::LogStart(Offset(1))]);
}

#[test]
fn the_vector_and_the_producers_outlive_retention() {
    let mut bench = Bench::opened();
    bench.publish(7, Some((9, 0)));
    bench.sync();
    bench.says(1, Message::Stored { term: term(1, 0), log_end: Offset(2) });
    bench.step(Input::Retain(Offset(2)));
    assert_eq!(bench.replica.report().unwrap().last_term, Some(term(1, 0)));
    assert_eq!(bench.replica.log_start(), Offset(2));
    let effects = bench.publish(8, Some((9, 0)));
    assert!(
        matches!(effects[..], [super::super::Effect::Acknowledge { base: Offset(1), .. }]),
        "{effects:?}"
    );
}
