//! Disks that are full, slow or broken.

use std::io::ErrorKind;
use std::time::Duration;

use fulmar_core::partition::{Write, WriteSeq};

use super::faulty::{Crash, FaultyFiles};
use super::*;
use crate::storage::{TryWriteError, WriteError};

fn next_event(running: &Running) -> StorageEvent {
    running.events.recv_timeout(PATIENCE).unwrap()
}

fn append(running: &Running, seq: u64) -> Result<(), WriteError> {
    let batch = batch_of(key(1), seq - 1, 1, 500, term(1));
    running.storage.write_blocking(vec![(key(1), WriteSeq(seq), Write::Append(batch))])
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_ends_the_storage() {
    let files = FaultyFiles::default();
    let running = open(&files);
    append(&running, 1).unwrap();
    running.durable(key(1), 1);
    files.set(|faults| faults.fail_sync = true);
    append(&running, 2).unwrap();
    let StorageEvent::Fatal(why) = next_event(&running) else { panic!("something else was told") };
    assert!(
        why.starts_with("cannot sync the journal") || why.starts_with("cannot write records.redb"),
        "{why}"
    );
    assert!(matches!(append(&running, 3), Err(WriteError::Stopped(_))));
    files.set(|faults| faults.fail_sync = false);
    assert!(running.storage.close().is_err(), "no second try");
    assert!(running.events.try_iter().all(|event| !matches!(event, StorageEvent::Durable(_))));
    drop(running);
    files.crash(Crash::Drop);
    assert_eq!(open(&files).log(key(1), 0).len(), 1);
}

#[test]
fn a_full_disk_ends_the_storage_and_nothing_durable_is_lost() {
    let files = FaultyFiles::default();
    let running = open(&files);
    for seq in 1..=50 {
        append(&running, seq).unwrap();
    }
    running.durable(key(1), 50);
    files.set(|faults| faults.fail_write = Some(ErrorKind::StorageFull));
    append(&running, 51).unwrap();
    let StorageEvent::Fatal(why) = next_event(&running) else { panic!("something else was told") };
    assert!(why.contains("cannot write"), "{why}");
    drop(running);
    files.crash(Crash::Kill);
    assert_eq!(open(&files).log(key(1), 0).len(), 50);
}

#[test]
fn writers_that_wait_for_room_do_not_wait_for_a_transaction_to_be_due() {
    let files = FaultyFiles::default();
    // Slots that are not all used up before the room is.
    let config = StorageConfig { slot_bytes: 4 << 20, ..slow_to_apply() };
    let running = try_open(&files, &config).unwrap();
    // Nearly all the room in one call, of which the journal makes many groups; then twice as much again.
    let began = Instant::now();
    for call in 0..3 {
        let batches = (call * 18..(call + 1) * 18)
            .map(|at| (key(1), WriteSeq(at + 1), Write::Append(batch_of(key(1), at, 1, 50_000, term(1)))));
        running.storage.write_blocking(batches.collect()).unwrap();
    }
    running.durable(key(1), 54);
    let took = began.elapsed();
    assert!(took < config.apply_after / 2, "{took:?}");
}

#[test]
fn room_is_told_below_the_reserve_and_comes_back_a_quarter_above_it() {
    let files = FaultyFiles::default();
    let running = open(&files);
    assert!(running.storage.has_room());
    let reserve = config().reserve_bytes_max;
    let told = |free: u64, at_most: Duration| {
        files.set(|faults| faults.free_bytes = Some(free));
        running.events.recv_timeout(at_most).ok()
    };
    assert_eq!(told(reserve - 1, PATIENCE), Some(StorageEvent::Room(false)));
    assert!(!running.storage.has_room());
    // Promises and cuts go on.
    append(&running, 1).unwrap();
    running.durable(key(1), 1);
    // Long enough for some looks.
    assert_eq!(told(reserve + reserve / 8, Duration::from_millis(800)), None);
    assert_eq!(told(reserve + reserve / 4, PATIENCE), Some(StorageEvent::Room(true)));
    assert!(running.storage.has_room());
}

#[test]
fn a_sync_that_hangs_stops_the_heartbeat_of_the_journal() {
    let files = FaultyFiles::default();
    let running = open(&files);
    let beats = || running.storage.heartbeat();
    let before = beats();
    eventually("an idle storage beats", || {
        beats().journal > before.journal && beats().applier > before.applier
    });
    files.set(|faults| faults.hang_sync = true);
    append(&running, 1).unwrap();
    // The first to sync it is the journal; the applier comes behind it.
    eventually("a sync hangs", || files.hanging() > 0);
    let hung = beats().journal;
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(beats().journal, hung);
    files.set(|faults| faults.hang_sync = false);
    running.durable(key(1), 1);
    eventually("it beats again", || beats().journal > hung);
}

#[test]
fn who_writes_faster_than_redb_waits_and_memory_stays_bounded() {
    let files = FaultyFiles::default();
    let running = open(&files);
    // Nothing gets to redb before the first one has to wait.
    files.set(|faults| faults.hang_sync = true);
    let mut full = 0;
    let mut seq = 0;
    while seq < 300 {
        let batch = batch_of(key(1), seq, 1, 4000, term(1));
        match running.storage.try_write(&[(key(1), WriteSeq(seq + 1), Write::Append(batch))]) {
            Ok(()) => seq += 1,
            Err(TryWriteError::Full) => {
                full += 1;
                files.set(|faults| faults.hang_sync = false);
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(TryWriteError::Refused(error)) => panic!("{error}"),
        }
        let hot = running.storage.hot_bytes();
        assert!(hot <= config().hot_bytes_max, "{hot} bytes are hot");
    }
    running.durable(key(1), 300);
    assert!(full > 0);
    assert_eq!(running.log(key(1), 0).len(), 300);
}
