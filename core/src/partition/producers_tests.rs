//! Claims about the producers' table.

use proptest::prelude::*;

use super::super::bench::{batch_of, opening, term};
use super::*;

fn sequence(producer: u128, sequence: u64) -> ProducerSequence {
    ProducerSequence { producer: ProducerId(producer), sequence }
}

/// Batches of one producer at the offsets from 0, one record each.
fn table(numbers: std::ops::Range<u64>) -> ProducerTable {
    let mut table = ProducerTable::default();
    numbers.for_each(|number| table.note(&batch_of(term(1, 1), number, Some((9, number)), 1000)));
    table
}

#[test]
fn the_next_number_is_new_and_a_gap_is_refused_for_known_and_unknown() {
    let table = table(0..3);
    let all = Offset(100);
    assert_eq!(table.admit(sequence(9, 3), 1000, all), Admission::New);
    let gap = |expected, got| Admission::Refused(Refusal::OutOfSequence { expected, got });
    assert_eq!(table.admit(sequence(9, 4), 1000, all), gap(3, 4));
    assert_eq!(table.admit(sequence(8, 1), 1000, all), gap(0, 1));
    assert_eq!(table.admit(sequence(8, 0), 1000, all), Admission::New);
}

#[test]
fn a_batch_within_the_window_is_known_by_its_first_offset_and_an_older_one_is_refused() {
    let table = table(0..100);
    let known = |number: u64| Admission::Duplicate { base: Offset(number), end: Offset(number + 1) };
    assert_eq!(table.admit(sequence(9, 99), 1000, Offset(100)), known(99));
    assert_eq!(table.admit(sequence(9, 36), 1000, Offset(100)), known(36));
    assert_eq!(table.admit(sequence(9, 35), 1000, Offset(100)), Admission::Refused(Refusal::DuplicateTooOld));
}

#[test]
fn a_mended_batch_is_known_again_and_changes_nothing_that_is_known() {
    let batch = |number: u64| batch_of(term(1, 1), number, Some((9, number)), 1000);
    let known = |number: u64| Admission::Duplicate { base: Offset(number), end: Offset(number + 1) };
    for missing in 0..6 {
        let mut lacking = ProducerTable::default();
        (0..6).filter(|number| *number != missing).for_each(|number| lacking.note(&batch(number)));
        assert_ne!(lacking.admit(sequence(9, missing), 1000, Offset(6)), known(missing));
        lacking.note_mended(&batch(missing));
        assert_eq!(lacking.admit(sequence(9, missing), 1000, Offset(6)), known(missing));
        assert_eq!(lacking.admit(sequence(9, 6), 1000, Offset(6)), Admission::New);
        let mended = lacking.clone();
        (0..6).for_each(|number| lacking.note_mended(&batch(number)));
        assert!(lacking.admit(sequence(9, 5), 1000, Offset(6)) == known(5) && lacking.len() == mended.len());
    }
}

#[test]
fn no_more_than_a_window_is_under_way() {
    let table = table(0..64);
    assert_eq!(table.admit(sequence(9, 64), 1000, Offset(0)), Admission::Refused(Refusal::TooManyProducers));
    assert_eq!(table.admit(sequence(9, 64), 1000, Offset(1)), Admission::New);
}

#[test]
fn a_cut_of_all_that_was_under_way_leaves_a_whole_window() {
    let mut cut = table(0..200);
    cut.cut(Offset(200 - 64));
    for number in 136 - 64..136 {
        let known = Admission::Duplicate { base: Offset(number), end: Offset(number + 1) };
        assert_eq!(cut.admit(sequence(9, number), 1000, Offset(136)), known);
    }
    assert_eq!(cut.admit(sequence(9, 136), 1000, Offset(136)), Admission::New);
    cut.cut(Offset(0));
    assert!(cut.is_empty());
}

#[test]
fn an_idle_producer_begins_anew_and_a_young_one_is_never_forgotten() {
    let table = table(0..3);
    let idle = 1000 + PRODUCER_IDLE_MS + 1;
    assert_eq!(table.admit(sequence(9, 0), idle, Offset(100)), Admission::New);
    assert!(matches!(table.admit(sequence(9, 0), idle - 1, Offset(100)), Admission::Duplicate { .. }));
}

#[test]
fn a_full_table_refuses_newcomers_until_somebody_is_idle() {
    let mut full = ProducerTable::default();
    for number in 0..PRODUCERS_MAX as u64 {
        full.note(&batch_of(term(1, 1), number, Some((u128::from(number) + 1, 0)), 1000));
    }
    let newcomer = sequence(1 << 70, 0);
    assert_eq!(full.admit(newcomer, 1000, Offset(0)), Admission::Refused(Refusal::TooManyProducers));
    assert_eq!(full.admit(newcomer, 1001 + PRODUCER_IDLE_MS, Offset(0)), Admission::New);
    let end = PRODUCERS_MAX as u64;
    full.note(&batch_of(term(1, 1), end, Some((1 << 70, 0)), 1001 + PRODUCER_IDLE_MS));
    assert_eq!(full.len(), 1);
}

#[test]
fn opening_records_and_plain_batches_leave_no_trace() {
    let mut table = ProducerTable::default();
    table.note(&opening(term(1, 1), 1, 0));
    table.note(&batch_of(term(1, 1), 1, None, 1000));
    assert!(table.is_empty() && table.encode().is_empty());
}

#[derive(Debug, Clone)]
struct Step {
    producer: u128,
    restarts: bool,
}

fn any_log() -> impl Strategy<Value = Vec<Batch>> {
    let step = (1..4u128, proptest::bool::weighted(0.02))
        .prop_map(|(producer, restarts)| Step { producer, restarts });
    proptest::collection::vec(step, 0..300).prop_map(|steps| {
        let mut next: BTreeMap<u128, u64> = BTreeMap::new();
        let place = |(base, step): (usize, Step)| {
            let number = next.entry(step.producer).or_default();
            if step.restarts {
                *number = 0;
            }
            *number += 1;
            batch_of(term(1, 1), base as u64, Some((step.producer, *number - 1)), 1000 + base as u64)
        };
        steps.into_iter().enumerate().map(place).collect()
    })
}

proptest! {
    #[test]
    fn the_table_is_a_function_of_snapshot_and_log(log in any_log(), start in any::<prop::sample::Index>(), at in any::<prop::sample::Index>()) {
        let start = start.index(log.len() + 1);
        let mut whole = ProducerTable::default();
        for batch in &log {
            whole.note(batch);
        }
        // A follower that begins at the leader's log start, with what the leader knows of before.
        let mut follower = whole.before(Offset(start as u64));
        log[start..].iter().for_each(|batch| follower.note(batch));
        prop_assert_eq!(&follower, &whole);
        // A batch that is noted twice, and storage that replays what its snapshot already had.
        let mut again = whole.clone();
        log[at.index(log.len() + 1)..].iter().for_each(|batch| again.note(batch));
        prop_assert_eq!(&again, &whole);
        prop_assert_eq!(ProducerTable::decode(&whole.encode()), Ok(whole));
    }

    #[test]
    fn a_changed_snapshot_is_refused_or_at_least_well_formed(log in any_log(), at in any::<prop::sample::Index>(), bit in 0..8u8, length in any::<prop::sample::Index>()) {
        let mut table = ProducerTable::default();
        for batch in &log {
            table.note(batch);
        }
        let mut bytes = table.encode();
        let short = &bytes[..length.index(bytes.len() + 1)];
        prop_assert!(short.is_empty() || short.len() == bytes.len() || ProducerTable::decode(short).is_err());
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(read) = ProducerTable::decode(&bytes) {
                prop_assert_eq!(read.encode().len(), bytes.len());
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ProducerTable::decode(&bytes);
    }
}
