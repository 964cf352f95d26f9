//! Volumes that are damaged, cut short, foreign or somebody else's: a clear error, or one batch lost, never a wrong one.

use fulmar_core::id::ClusterId;
use fulmar_core::offset::Offset;
use fulmar_core::partition::Write;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::faulty::{Crash, FaultyFiles};
use super::*;
use crate::storage::{ReadError, blocking};

/// A volume with some batches; the last ones are only in the journal, and sealed, unless it was closed.
fn volume(count: u64, size: usize, close: bool) -> (FaultyFiles, Vec<Batch>) {
    let files = FaultyFiles::default();
    let running = try_open(&files, &slow_to_apply()).unwrap();
    let mut written = Vec::new();
    let mut base = 0;
    for seq in 1..=count {
        let batch = batch_of(key(1), base, 2, size, term(1));
        base = batch.end().0;
        written.push(batch.clone());
        running.write(key(1), seq, Write::Append(batch));
        running.durable(key(1), seq);
    }
    seal(&running);
    if close {
        running.storage.close().unwrap();
    }
    drop(running);
    files.crash(Crash::Kill);
    (files, written)
}

fn refusal(files: &FaultyFiles) -> String {
    match try_open(files, &config()) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_second_process_is_refused() {
    let files = FaultyFiles::default();
    let first = open(&files);
    assert_eq!(refusal(&files), "/data/lock: another process has this data folder open");
    first.storage.close().unwrap();
    drop(open(&files));
}

#[test]
fn the_lock_of_the_system_refuses_a_second_open_and_goes_with_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let config = StorageConfig { dir: folder.path().to_owned(), ..config() };
    let (first, _) = Storage::open(&config, &expectations(), |_| {}).unwrap();
    let second = Storage::open(&config, &expectations(), |_| {}).err().unwrap();
    assert!(second.to_string().ends_with("another process has this data folder open"), "{second}");
    drop(first);
    let (again, opened) = Storage::open(&config, &expectations(), |_| {}).unwrap();
    assert_eq!(opened.identity.processes.len(), 2);
    again.close().unwrap();
}

#[test]
fn a_volume_of_another_broker_or_cluster_is_refused_and_not_changed() {
    let files = FaultyFiles::default();
    let open_as = |ordinal: u16, cluster: Option<u128>| {
        let expectations = Expectations { ordinal: Ordinal(ordinal), cluster: cluster.map(ClusterId) };
        Storage::open_in(Arc::new(files.clone()), &config(), &expectations, |_| {})
    };
    drop(open_as(0, Some(5)).unwrap());
    let identity = files.bytes(Path::new("/data/identity"));
    let ordinal = open_as(1, Some(5)).err().unwrap().to_string();
    assert_eq!(ordinal, "/data/identity: this volume belongs to broker 0, and this is broker 1");
    let cluster = open_as(0, Some(6)).err().unwrap().to_string();
    assert!(cluster.contains("belongs to cluster 00000000-0000-0000-0000-000000000005"), "{cluster}");
    assert_eq!(files.bytes(Path::new("/data/identity")), identity);
    drop(open_as(0, None).unwrap());
}

#[test]
fn rot_in_the_journal_is_told_from_a_torn_tail_and_names_file_and_byte() {
    let (files, written) = volume(10, 100, false);
    // Slot 0: a page of head, then one page a group.
    for group in 0..10u64 {
        let damaged = files.backup();
        damaged.flip(&slot(0), 4096 + group * 4096 + 150, 3);
        damaged.flip(&slot(0), 4096 + group * 4096 + 160, 3);
        let error = refusal(&damaged);
        let place = format!("/data/journal/slot-000: byte {}:", 4096 + group * 4096);
        assert!(error.starts_with(&place) && error.contains("damaged or overwritten"), "{error}");
    }
    assert_eq!(open(&files).log(key(1), 0), written);
}

#[test]
fn one_flipped_bit_anywhere_in_the_journal_costs_nothing() {
    let (files, written) = volume(10, 100, false);
    let bits = (0..11u64).flat_map(|group| (0..330u64).map(move |byte| 4096 + group * 4096 + byte));
    for at in (0..64).chain(bits.step_by(7)) {
        let damaged = files.backup();
        damaged.flip(&slot(0), at, u8::try_from(at % 8).unwrap());
        assert_eq!(open(&damaged).log(key(1), 0), written, "byte {at}");
    }
}

#[test]
fn rot_of_groups_that_redb_has_refuses_nothing() {
    let (files, written) = volume(10, 100, true);
    for group in 0..10u64 {
        for byte in 0..300 {
            files.flip(&slot(0), 4096 + group * 4096 + byte, 5);
        }
    }
    assert_eq!(open(&files).log(key(1), 0), written);
}

#[test]
fn heads_of_slots_are_written_again_as_long_as_one_holds() {
    let (files, written) = volume(10, 100, false);
    let wipe = |files: &FaultyFiles, index| (0..40).for_each(|byte| files.flip(&slot(index), byte, 1));
    for (one, other) in [(0, 1), (1, 2), (2, 0)] {
        let damaged = files.backup();
        wipe(&damaged, one);
        wipe(&damaged, other);
        assert_eq!(open(&damaged).log(key(1), 0), written);
        for index in 0..3 {
            assert_eq!(damaged.bytes(&slot(index))[..64], files.bytes(&slot(index))[..64]);
        }
    }
    (0..3).for_each(|index| wipe(&files, index));
    assert!(refusal(&files).starts_with("/data/journal/slot-000: byte 0: no slot's head holds"));
}

#[test]
fn padding_behind_a_group_does_not_matter() {
    let (files, written) = volume(3, 100, false);
    files.flip(&slot(0), 4096 + 4000, 1);
    assert_eq!(open(&files).log(key(1), 0), written);
}

#[test]
fn a_file_that_is_gone_or_cut_short_is_named() {
    for closed in [false, true] {
        let (files, _) = volume(10, 100, closed);
        for index in 0..3 {
            let damaged = files.backup();
            damaged.cut_short(&slot(index), 20_000);
            let error = refusal(&damaged);
            assert!(
                error.starts_with(&format!(
                    "/data/journal/slot-00{index}: has 20000 bytes and must have 65536"
                )),
                "{error}"
            );
            damaged.delete(&slot(index));
            assert!(refusal(&damaged).starts_with(&format!("/data/journal/slot-00{index}: missing")));
        }
        let damaged = files.backup();
        damaged.delete(&redb_file());
        assert!(refusal(&damaged).starts_with("/data/records.redb: missing"));
        let damaged = files.backup();
        damaged.cut_short(&redb_file(), 0);
        assert!(refusal(&damaged).starts_with("/data/records.redb: has 0 bytes"));
        let damaged = files.backup();
        damaged.cut_short(&redb_file(), 10_000);
        let error = refusal(&damaged);
        assert!(error.starts_with("/data/records.redb: "), "{error}");
        let damaged = files.backup();
        damaged.replace(&redb_file(), &vec![7; 1 << 20]);
        let error = refusal(&damaged);
        assert!(error.starts_with("/data/records.redb: "), "{error}");
        let damaged = files.backup();
        damaged.delete(Path::new("/data/identity"));
        assert!(refusal(&damaged).starts_with("/data/identity: missing; there are records beside it"));
    }
}

#[test]
fn the_identity_survives_one_flipped_bit_anywhere_and_names_itself_after_two() {
    let (files, written) = volume(3, 100, true);
    let path = Path::new("/data/identity");
    let length = files.bytes(path).len() as u64;
    for at in 0..length {
        let damaged = files.backup();
        damaged.flip(path, at, 2);
        assert_eq!(open(&damaged).log(key(1), 0), written, "byte {at}");
    }
    files.flip(path, 20, 1);
    files.flip(path, length / 2 + 20, 1);
    assert!(
        refusal(&files).starts_with("/data/identity: byte 0: the identity's checksum"),
        "{}",
        refusal(&files)
    );
}

#[test]
fn a_flipped_bit_in_a_stored_batch_costs_that_batch_and_can_be_mended() {
    let (files, written) = volume(30, 700, true);
    let bytes = files.bytes(&redb_file());
    for index in [0, 7, 29] {
        let needle = written[index].bytes();
        let at = bytes.windows(needle.len()).position(|window| window == needle.as_ref()).unwrap() as u64;
        for flipped in [at + 2, at + 60, at + 300] {
            let damaged = files.backup();
            damaged.flip(&redb_file(), flipped, 6);
            let running = open(&damaged);
            for batch in &written {
                let found = running.storage.read(key(1), batch.base(), batch.end(), 1);
                if batch == &written[index] {
                    let bad = batch.base();
                    assert!(matches!(found, Err(ReadError::Rotten { base, .. }) if base == bad), "{found:?}");
                } else {
                    assert_eq!(found.unwrap(), vec![batch.clone()]);
                }
            }
            blocking::wait(running.storage.mend(key(1), written[index].clone())).unwrap();
            running.storage.close().unwrap();
            assert_eq!(open(&damaged).log(key(1), 0), written);
        }
    }
}

/// redb does not check its pages when it reads them: whatever it makes of a flipped bit, no read gives a wrong batch.
#[test]
fn a_flipped_bit_anywhere_in_redb_never_gives_a_wrong_batch() {
    let (files, written) = volume(40, 300, true);
    let length = files.bytes(&redb_file()).len() as u64;
    let chance = &mut StdRng::seed_from_u64(9);
    let (mut refused, mut rotten) = (0, 0);
    for round in 0..400 {
        let damaged = files.backup();
        let at = if round < 100 { round * 3 } else { chance.random_range(0..length) };
        damaged.flip(&redb_file(), at, chance.random_range(0..8));
        let Ok(running) = try_open(&damaged, &config()) else {
            refused += 1;
            continue;
        };
        let Some((_, recovered)) = running.opened.replicas.first() else {
            panic!("byte {at}: the replica is gone, and nothing says so");
        };
        assert!(recovered.log_end == Offset(80) || recovered.uncertain, "byte {at}: {recovered:?}");
        for batch in &written {
            match running.storage.read(key(1), batch.base(), batch.end(), 1) {
                Ok(found) if batch.end() <= recovered.log_end => {
                    assert_eq!(found, vec![batch.clone()], "byte {at}");
                }
                Ok(_) => {}
                Err(_) => rotten += 1,
            }
        }
    }
    println!("of 400 volumes {refused} were refused; {rotten} reads said rotten");
}
