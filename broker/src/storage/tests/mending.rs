//! Damaged batches get their places back from copies, and one flipped bit costs no more than one batch.

use fulmar_core::offset::Offset;
use fulmar_core::partition::Write;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::faulty::{Crash, FaultyFiles};
use super::*;
use crate::storage::{RotKind, blocking};

/// So many batches of two records, all in redb, closed.
fn volume(count: u64, size: usize) -> (FaultyFiles, Vec<Batch>) {
    let files = FaultyFiles::default();
    let running = try_open(&files, &slow_to_apply()).unwrap();
    let mut written = Vec::new();
    for seq in 1..=count {
        let batch = batch_of(key(1), (seq - 1) * 2, 2, size, term(1));
        written.push(batch.clone());
        running.write(key(1), seq, Write::Append(batch));
        running.durable(key(1), seq);
    }
    running.storage.close().unwrap();
    drop(running);
    files.crash(Crash::Kill);
    (files, written)
}

/// Where in redb's file a batch lies.
fn place_of(files: &FaultyFiles, batch: &Batch) -> u64 {
    let bytes = files.bytes(&redb_file());
    let needle = batch.bytes().as_ref();
    bytes.windows(needle.len()).position(|window| window == needle).unwrap() as u64
}

/// Reads all, and mends what is damaged from what was written, as a replica with good peers does.
fn heal(storage: &Storage, written: &[Batch]) -> usize {
    let end = written.last().unwrap().end();
    let (mut from, mut mended) = (Offset(0), 0);
    while from < end {
        match storage.read(key(1), from, end, 3000) {
            Ok(found) => from = found.last().unwrap_or_else(|| panic!("nothing at {from}")).end(),
            Err(ReadError::Rotten { base, .. }) => {
                let copy = written.iter().find(|batch| batch.base() <= base && base < batch.end()).unwrap();
                blocking::wait(storage.mend(key(1), copy.clone())).unwrap();
                mended += 1;
                assert!(mended <= 4 * written.len(), "no end of mending at {base}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    mended
}

#[test]
fn a_mended_batch_is_read_before_redb_has_it_and_after_a_crash() {
    let (files, written) = volume(30, 700);
    files.flip(&redb_file(), place_of(&files, &written[7]) + 300, 6);
    let running = try_open(&files, &slow_to_apply()).unwrap();
    let read = |storage: &Storage| storage.read(key(1), written[7].base(), Offset(60), 1);
    let rotten = read(&running.storage).unwrap_err();
    let next = Some(written[8].base());
    assert!(
        matches!(rotten, ReadError::Rotten { base, next: n, .. } if base == written[7].base() && n == next)
    );
    running.write(key(1), 1, Write::Mend(written[7].clone()));
    running.durable(key(1), 1);
    assert_eq!(read(&running.storage).unwrap(), [written[7].clone()]);
    drop(running);
    files.crash(Crash::Drop);
    assert_eq!(open(&files).log(key(1), 0), written);
}

#[test]
fn two_damaged_neighbours_are_mended_one_after_the_other() {
    let (files, written) = volume(30, 700);
    for index in [7, 8, 9] {
        files.flip(&redb_file(), place_of(&files, &written[index]) + 300, 6);
    }
    let running = open(&files);
    assert_eq!(heal(&running.storage, &written), 3);
    running.storage.close().unwrap();
    assert_eq!(open(&files).log(key(1), 0), written);
}

#[test]
fn damage_at_a_log_start_within_a_value_is_found_there_and_mended_though_what_lies_below_cannot_be_had() {
    for start in [8, 29] {
        let (files, written) = volume(30, 700);
        for index in [start - 1, start] {
            files.flip(&redb_file(), place_of(&files, &written[index]) + 300, 6);
        }
        let running = open(&files);
        let first = written[start].base();
        running.write(key(1), 1, Write::LogStart(first));
        running.durable(key(1), 1);
        let found = running.storage.read(key(1), first, Offset(60), 1);
        assert!(matches!(found, Err(ReadError::Rotten { base, .. }) if base == first), "{found:?}");
        blocking::wait(running.storage.mend(key(1), written[start].clone())).unwrap();
        running.storage.close().unwrap();
        assert_eq!(open(&files).log(key(1), first.0), written[start..]);
    }
}

#[test]
fn a_value_that_does_not_hold_together_is_mended_batch_by_batch() {
    for crash_after in [None, Some(3), Some(20)] {
        let (files, written) = volume(30, 700);
        let first = place_of(&files, &written[0]);
        // The count of the index, and a length that would tell without it.
        files.flip(&redb_file(), first - 30 * 4 - 4, 5);
        files.flip(&redb_file(), place_of(&files, &written[4]), 3);
        let mut running = open(&files);
        let read = running.storage.read(key(1), Offset(0), Offset(60), 1);
        assert!(
            matches!(&read, Err(ReadError::Rotten { base: Offset(0), why: RotKind::Frame, .. })),
            "{read:?}"
        );
        if let Some(count) = crash_after {
            for batch in &written[..count] {
                blocking::wait(running.storage.mend(key(1), batch.clone())).unwrap();
            }
            settle(&running);
            drop(running);
            files.crash(Crash::Drop);
            running = open(&files);
            let (_, recovered) = &running.opened.replicas[0];
            assert_eq!(
                (recovered.log_end, recovered.uncertain),
                (Offset(60), false),
                "nothing counts as lost"
            );
        }
        let mended = heal(&running.storage, &written);
        assert_eq!(mended, 30 - crash_after.unwrap_or(0));
        running.storage.close().unwrap();
        assert_eq!(open(&files).log(key(1), 0), written);
    }
}

#[test]
fn a_copy_that_holds_stays_and_one_that_does_not_belong_is_not_taken() {
    let (files, written) = volume(10, 300);
    let running = open(&files);
    let other = batch_of(key(1), 6, 2, 200, term(1));
    let later = batch_of(key(1), 6, 2, 300, term(2));
    let beyond = batch_of(key(1), 20, 2, 300, term(1));
    for stranger in [other, later, beyond] {
        blocking::wait(running.storage.mend(key(1), stranger)).unwrap();
    }
    assert_eq!(running.log(key(1), 0), written);
    running.storage.close().unwrap();
    assert_eq!(open(&files).log(key(1), 0), written);
}

#[test]
fn a_cut_takes_a_copy_that_waits_for_redb_with_it() {
    let (files, written) = volume(10, 300);
    files.flip(&redb_file(), place_of(&files, &written[7]) + 300, 6);
    let running = try_open(&files, &slow_to_apply()).unwrap();
    running.write(key(1), 1, Write::Mend(written[7].clone()));
    running.write(key(1), 2, Write::Cut { to: Offset(14) });
    let new = batch_of(key(1), 14, 2, 100, term(2));
    running.write(key(1), 3, Write::Append(new.clone()));
    running.durable(key(1), 3);
    let mut expected = written[..7].to_vec();
    expected.push(new);
    assert_eq!(running.log(key(1), 0), expected);
    running.storage.close().unwrap();
    assert_eq!(open(&files).log(key(1), 0), expected);
}

#[test]
fn retention_by_time_goes_past_a_damaged_batch_that_nobody_mends() {
    let (files, written) = volume(20, 300);
    for index in [9, 10, 19] {
        files.flip(&redb_file(), place_of(&files, &written[index]) + 300, 6);
    }
    let running = open(&files);
    running.storage.note_high_watermark(key(1), Offset(40));
    // Each batch is 20 ms younger than the one before.
    let candidate = |batch: usize| {
        let older_than = written[batch].append_time_ms();
        running.storage.retention_candidate(key(1), Some(older_than), None).unwrap().start
    };
    assert_eq!(candidate(5), Some(written[5].base()));
    assert_eq!(candidate(15), Some(written[15].base()));
    assert_eq!(candidate(12), Some(written[12].base()));
    assert_eq!(
        candidate(11),
        Some(written[9].base()),
        "a damaged one is taken for as young as what lies behind it"
    );
    assert_eq!(candidate(10), Some(written[9].base()));
    assert_eq!(candidate(19), Some(written[19].base()));
}

#[test]
fn whatever_is_damaged_is_healed_from_copies_or_the_volume_is_refused() {
    let (files, written) = volume(40, 300);
    let chance = &mut StdRng::seed_from_u64(4);
    let length = files.bytes(&redb_file()).len() as u64;
    let (mut healed, mut mends) = (0, 0);
    for _ in 0..150 {
        let damaged = files.backup();
        for _ in 0..chance.random_range(1..6) {
            let near = place_of(&files, &written[chance.random_range(0..40)]);
            let at = (near + chance.random_range(0..600)).min(length - 1);
            damaged.flip(&redb_file(), at, chance.random_range(0..8));
        }
        let Ok(running) = try_open(&damaged, &config()) else { continue };
        if running.opened.replicas.first().is_none_or(|(_, replica)| replica.log_end != Offset(80)) {
            continue;
        }
        mends += heal(&running.storage, &written);
        running.storage.close().unwrap();
        assert_eq!(open(&damaged).log(key(1), 0), written);
        healed += 1;
    }
    assert!(healed > 100 && mends > 100, "{healed} volumes, {mends} batches");
}

#[test]
fn what_a_damaged_batch_says_of_its_producer_is_missing_until_it_is_mended() {
    let files = FaultyFiles::default();
    let running = try_open(&files, &config()).unwrap();
    let mut written = Vec::new();
    for number in 0..10u64 {
        let batch = stamped(key(1), number, 1, 300, term(1), Some(sequence(5, number)));
        running.write(key(1), number + 1, Write::Append(batch.clone()));
        running.durable(key(1), number + 1);
        written.push(batch);
    }
    settle(&running);
    // Not closed: the producers' table has to be made from the batches again.
    drop(running);
    files.crash(Crash::Kill);
    let whole = open(&files).opened.replicas[0].1.producers.clone();
    files.crash(Crash::Kill);
    files.flip(&redb_file(), place_of(&files, &written[6]) + 300, 6);
    let mut running = open(&files);
    assert_eq!(running.opened.damaged, [(key(1), Offset(6)..Offset(7))]);
    assert_ne!(running.opened.replicas[0].1.producers, whole);
    // The incomplete table is stored, and so is what it lacks.
    for _ in 0..2 {
        running.storage.close().unwrap();
        running = open(&files);
        assert_eq!(running.opened.damaged, [(key(1), Offset(6)..Offset(7))]);
    }
    blocking::wait(running.storage.mend(key(1), written[6].clone())).unwrap();
    running.storage.close().unwrap();
    let opened = open(&files).opened;
    assert_eq!(opened.damaged, []);
    let table = fulmar_core::partition::ProducerTable::decode(&opened.replicas[0].1.producers).unwrap();
    assert_eq!(table.len(), 1);
}

/// Ten batches of one producer, all in redb, the producers' table not stored; these of them damaged.
fn producers_volume(damaged: &[usize]) -> (FaultyFiles, Vec<Batch>) {
    let files = FaultyFiles::default();
    let running = try_open(&files, &config()).unwrap();
    let written: Vec<Batch> =
        (0..10).map(|number| stamped(key(1), number, 1, 300, term(1), Some(sequence(5, number)))).collect();
    for (seq, batch) in (1..).zip(&written) {
        running.write(key(1), seq, Write::Append(batch.clone()));
        running.durable(key(1), seq);
    }
    settle(&running);
    drop(running);
    files.crash(Crash::Kill);
    for index in damaged {
        files.flip(&redb_file(), place_of(&files, &written[*index]) + 300, 6);
    }
    (files, written)
}

#[test]
fn a_producers_table_lacks_no_more_what_a_cut_or_retention_takes() {
    let (files, _) = producers_volume(&[2, 3, 7]);
    let all = [(key(1), Offset(2)..Offset(4)), (key(1), Offset(7)..Offset(8))];
    let running = open(&files);
    assert_eq!(running.opened.damaged, all);
    running.write(key(1), 1, Write::Cut { to: Offset(6) });
    running.write(key(1), 2, Write::LogStart(Offset(3)));
    running.durable(key(1), 2);
    running.storage.close().unwrap();
    let running = open(&files);
    assert_eq!(running.opened.damaged, [(key(1), Offset(3)..Offset(4))]);
    running.write(key(1), 1, Write::Release);
    running.durable(key(1), 1);
    running.storage.close().unwrap();
    assert_eq!(open(&files).opened.damaged, []);
}
