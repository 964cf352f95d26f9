//! A crash at every single change that a volume sees, and what a copy or a step back of redb does.

use fulmar_core::offset::Offset;
use fulmar_core::partition::{Promise, PromiseKind, Write, WriteSeq};

use super::faulty::{Crash, FaultyFiles};
use super::*;

/// One run to the death at change number `last`; gives the batches that were written and how many were durable.
fn run(files: &FaultyFiles, last: u64) -> (Vec<Batch>, usize) {
    files.set(|faults| faults.dead_after = Some(last));
    let Ok(running) = try_open(files, &config()) else { return (Vec::new(), 0) };
    let mut written = Vec::new();
    let mut told = 0;
    let mut base = 0;
    for seq in 1..=60u64 {
        let batch = batch_of(key(1), base, 2, 1000, term(1));
        base = batch.end().0;
        if running
            .storage
            .write_blocking(vec![(key(1), WriteSeq(seq), Write::Append(batch.clone()))])
            .is_err()
        {
            break;
        }
        written.push(batch);
        // Groups of one or two, so that there are many places to die at.
        if seq % 2 == 0 {
            let Some(durable) = until_durable(&running, seq) else { break };
            told = durable;
        }
    }
    if files.changes().is_multiple_of(2) {
        // Half of the runs stop in order.
        let closed = running.storage.close().is_ok();
        let Running { storage, events, .. } = running;
        drop(storage);
        let durable = if closed { written.len() } else { highest(&events).max(told) };
        return (written, durable);
    }
    let Running { storage, events, .. } = running;
    drop(storage);
    let durable = highest(&events).max(told);
    (written, durable)
}

/// Waits until so much is durable, and gives that; `None` if the storage ends first.
fn until_durable(running: &Running, seq: u64) -> Option<usize> {
    loop {
        match running.events.recv_timeout(PATIENCE).unwrap() {
            StorageEvent::Durable(writes) if writes.iter().any(|(_, told)| told.0 >= seq) => {
                return Some(usize::try_from(seq).unwrap());
            }
            StorageEvent::Durable(_) | StorageEvent::Room(_) => {}
            StorageEvent::Fatal(_) => return None,
        }
    }
}

fn highest(events: &Receiver<StorageEvent>) -> usize {
    let seqs = events.try_iter().filter_map(|event| match event {
        StorageEvent::Durable(writes) => writes.iter().map(|(_, seq)| seq.0).max(),
        StorageEvent::Room(_) | StorageEvent::Fatal(_) => None,
    });
    usize::try_from(seqs.max().unwrap_or(0)).unwrap()
}

#[test]
fn a_crash_at_any_change_loses_nothing_durable() {
    let mut deaths = 0;
    for last in 0..220 {
        for how in [Crash::Kill, Crash::Drop, Crash::Tear(last)] {
            let files = FaultyFiles::default();
            let (written, durable) = run(&files, last);
            deaths += u64::from(durable < written.len());
            files.crash(how);
            let running = open(&files);
            let found = running.log(key(1), 0);
            assert!(
                found.len() >= durable,
                "change {last}, {how:?}: {durable} durable, {} found",
                found.len()
            );
            assert_eq!(found, written[..found.len()], "change {last}, {how:?}");
            assert!(running.opened.replicas.iter().all(|(_, replica)| !replica.uncertain));
        }
    }
    assert!(deaths > 100, "most runs died with something under way");
}

#[test]
fn a_cut_tail_is_not_raised_again_by_the_journal() {
    for how in [Crash::Kill, Crash::Drop] {
        let files = FaultyFiles::default();
        let running = open(&files);
        let old = batch_of(key(1), 0, 10, 10, term(1));
        let tail = batch_of(key(1), 10, 10, 10, term(1));
        let new = batch_of(key(1), 10, 2, 10, term(2));
        for (seq, write) in [
            Write::Append(old.clone()),
            Write::Append(tail),
            Write::Cut { to: Offset(10) },
            Write::Append(new.clone()),
        ]
        .into_iter()
        .enumerate()
        {
            running.write(key(1), seq as u64 + 1, write);
        }
        running.durable(key(1), 4);
        drop(running);
        files.crash(how);
        let running = open(&files);
        assert_eq!(running.log(key(1), 0), [old.clone(), new.clone()]);
        // And again, now from redb.
        running.storage.close().unwrap();
        assert_eq!(open(&files).log(key(1), 0), [old, new]);
    }
}

/// redb's own repair may step back by one commit without an error. Here the applier commits only when the journal needs a
/// slot, so that everything that may be overwritten is.
#[test]
fn redb_stepping_back_by_one_commit_loses_nothing() {
    for count in (10..160u64).step_by(11) {
        let files = FaultyFiles::default();
        let running = try_open(&files, &slow_to_apply()).unwrap();
        let mut written = Vec::new();
        for seq in 1..=count {
            let batch = batch_of(key(1), seq - 1, 1, 100, term(1));
            written.push(batch.clone());
            let promise = Promise { entry: None, term: Some(term(seq)), kind: PromiseKind::Live };
            running.write(key(1), 2 * seq - 1, Write::Append(batch));
            running.write(key(1), 2 * seq, Write::Promise(promise));
            running.durable(key(1), 2 * seq);
        }
        // Before the handle goes: redb would close its file in order.
        files.crash(Crash::Kill);
        drop(running);
        files.step_back(&redb_file());
        let running = try_open(&files, &config()).unwrap_or_else(|error| panic!("after {count}: {error}"));
        assert_eq!(running.log(key(1), 0), written);
        assert_eq!(running.opened.replicas[0].1.promise.term, Some(term(count)));
    }
}

#[test]
fn redb_going_back_further_than_the_journal_is_refused() {
    let files = FaultyFiles::default();
    let running = open(&files);
    let early = files.bytes(&redb_file());
    let mut base = 0;
    for seq in 1..=200u64 {
        let batch = batch_of(key(1), base, 1, 4000, term(1));
        base = batch.end().0;
        running.write(key(1), seq, Write::Append(batch));
    }
    running.durable(key(1), 200);
    drop(running);
    files.crash(Crash::Kill);
    files.replace(&redb_file(), &early);
    let error = try_open(&files, &config()).err().expect("hundreds of records are gone").to_string();
    assert!(error.contains("/data/journal/slot-") && error.contains("damaged or overwritten"), "{error}");
}

#[test]
fn a_second_copy_of_a_volume_has_its_own_processes() {
    let files = FaultyFiles::default();
    let running = open(&files);
    running.storage.close().unwrap();
    let copy = files.backup();
    let (one, two) = (open(&files), open(&copy));
    let last = |running: &Running| *running.opened.identity.processes.last().unwrap();
    assert_eq!(last(&one).session, last(&two).session);
    assert_ne!(last(&one).boot, last(&two).boot, "twins are told apart");
}
