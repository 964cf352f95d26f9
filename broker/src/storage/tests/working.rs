//! What it does when nothing fails.

use fulmar_core::id::{ClusterId, Incarnation, Ordinal, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{ProducerTable, Promise, PromiseKind, Write, WriteSeq};
use fulmar_core::term::{BootId, Process, Session, TermStart, TermVector};

use super::faulty::{Crash, FaultyFiles};
use super::*;
use crate::storage::blocking;
use crate::storage::{Page, ReadError};

/// Appends `count` batches of these sizes; gives them.
fn fill(running: &Running, key: PartitionKey, count: u64, sizes: &[usize]) -> Vec<Batch> {
    let mut written = Vec::new();
    let mut base = 0;
    for index in 0..count {
        let size = sizes[usize::try_from(index).unwrap() % sizes.len()];
        let batch = batch_of(key, base, 2, size, term(1));
        base = batch.end().0;
        written.push(batch.clone());
        running.write(key, index + 1, Write::Append(batch));
    }
    running.durable(key, count);
    written
}

#[test]
fn what_is_written_is_read_at_once_and_after_a_restart() {
    let files = FaultyFiles::default();
    let running = open(&files);
    let written = fill(&running, key(1), 300, &[10, 700, 90, 3000]);
    assert_eq!(running.log(key(1), 0), written);
    running.storage.close().unwrap();
    let running = open(&files);
    assert_eq!(running.opened.replayed_bytes, 0, "a clean stop leaves nothing to replay");
    let (_, recovered) = &running.opened.replicas[0];
    assert_eq!(recovered.log_end, written.last().unwrap().end());
    assert_eq!(recovered.append_time_ms, written.last().unwrap().append_time_ms());
    assert_eq!(running.log(key(1), 0), written);
}

#[test]
fn appends_wait_for_more_to_be_applied_and_what_gives_room_back_takes_them_along() {
    let files = FaultyFiles::default();
    let config = slow_to_apply();
    let running = try_open(&files, &config).unwrap();
    fill(&running, key(1), 3, &[100]);
    // Longer than what gives room back waits, and much shorter than appends do.
    std::thread::sleep(Duration::from_secs(1));
    assert!(!running.storage.is_applied());
    running.write(key(1), 4, Write::LogStart(Offset(2)));
    let until = Instant::now() + config.apply_after / 2;
    while !running.storage.is_applied() {
        assert!(Instant::now() < until, "what gives room back waits as long as appends do");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn small_neighbours_are_packed_and_one_is_found_from_any_offset() {
    let files = FaultyFiles::default();
    let running = open(&files);
    let written = fill(&running, key(1), 400, &[20]);
    running.storage.close().unwrap();
    let running = open(&files);
    for batch in &written {
        for offset in batch.base().0..batch.end().0 {
            let found = running.storage.read(key(1), Offset(offset), Offset(u64::MAX >> 1), 1).unwrap();
            assert_eq!(found, vec![batch.clone()]);
        }
    }
    assert!(running.storage.read(key(1), Offset(800), Offset(900), 1).unwrap().is_empty());
}

#[test]
fn a_read_ends_below_its_limit() {
    let files = FaultyFiles::default();
    let running = open(&files);
    let written = fill(&running, key(1), 10, &[100]);
    let found = running.storage.read_hot(key(1), Offset(4), Offset(9), usize::MAX).unwrap();
    assert_eq!(found, written[2..4], "a batch that ends above the limit is not given");
    assert_eq!(running.storage.read(key(2), Offset(0), Offset(1), 1), Err(ReadError::Unknown(key(2))));
}

#[test]
fn the_journal_goes_round_its_slots_many_times() {
    let files = FaultyFiles::default();
    let running = open(&files);
    // 600 batches of over 3 KiB in groups of whole pages: some thirty slots.
    let written = fill(&running, key(1), 600, &[1500]);
    assert_eq!(running.log(key(1), 0), written);
    drop(running);
    files.crash(Crash::Kill);
    assert_eq!(open(&files).log(key(1), 0), written);
}

#[test]
fn a_batch_larger_than_a_group_is_refused_and_one_as_large_as_all_unapplied_goes_through() {
    let files = FaultyFiles::default();
    let running = open(&files);
    let large = batch_of(key(1), 0, 1, 56 * 1024, term(1));
    running.write(key(1), 1, Write::Append(large.clone()));
    running.durable(key(1), 1);
    assert_eq!(running.log(key(1), 0), vec![large]);
    let too_large = batch_of(key(1), 1, 1, 80 * 1024, term(1));
    let refused = running.storage.write_blocking(vec![(key(1), WriteSeq(2), Write::Append(too_large))]);
    assert!(refused.unwrap_err().to_string().contains("does not fit a journal group"));
}

#[test]
fn a_batch_that_does_not_continue_the_log_is_refused_and_nothing_of_its_call_is_taken() {
    let files = FaultyFiles::default();
    let running = open(&files);
    let first = batch_of(key(1), 0, 1, 10, term(2));
    let hole = batch_of(key(1), 5, 1, 10, term(2));
    let calls =
        vec![(key(1), WriteSeq(1), Write::Append(first.clone())), (key(1), WriteSeq(2), Write::Append(hole))];
    assert!(running.storage.write_blocking(calls).unwrap_err().to_string().contains("does not continue"));
    running.write(key(1), 1, Write::Append(first));
    let old = batch_of(key(1), 1, 1, 10, term(1));
    let refused = running.storage.write_blocking(vec![(key(1), WriteSeq(2), Write::Append(old))]);
    assert!(refused.unwrap_err().to_string().contains("its term is below the last"));
}

#[test]
fn cuts_resets_and_releases_hold_across_the_applied_boundary() {
    for settled in [false, true] {
        let files = FaultyFiles::default();
        let running = open(&files);
        let pause = || {
            if settled {
                settle(&running);
            }
        };
        fill(&running, key(1), 20, &[100]);
        pause();
        running.write(key(1), 21, Write::Cut { to: Offset(12) });
        let again = batch_of(key(1), 12, 3, 50, term(2));
        pause();
        running.write(key(1), 22, Write::Append(again.clone()));
        running.durable(key(1), 22);
        fill(&running, key(2), 5, &[100]);
        pause();
        let vector = TermVector::new(vec![TermStart { term: term(1), start: Offset(0) }]).unwrap();
        let reset = Write::Reset { start: Offset(50), vector: vector.clone(), producers: Vec::new() };
        running.write(key(2), 6, reset);
        let after = batch_of(key(2), 50, 1, 10, term(1));
        running.write(key(2), 7, Write::Append(after.clone()));
        fill(&running, key(3), 5, &[100]);
        pause();
        running.write(key(3), 6, Write::Release);
        running.durable(key(3), 6);
        let check = |running: &Running| {
            let log = running.log(key(1), 0);
            assert_eq!((log.len(), log.last()), (7, Some(&again)), "what was cut stays cut");
            assert_eq!(running.log(key(2), 50), vec![after.clone()]);
            let below = running.storage.read(key(2), Offset(3), Offset(9), 1);
            assert!(matches!(below, Err(ReadError::BelowStart { .. })), "{below:?}");
            assert!(running.log(key(3), 0).is_empty());
        };
        check(&running);
        drop(running);
        files.crash(Crash::Drop);
        let running = open(&files);
        check(&running);
        let ends: Vec<u64> = running.opened.replicas.iter().map(|(_, found)| found.log_end.0).collect();
        assert_eq!(ends, [15, 51, 0]);
        assert_eq!(running.opened.replicas[1].1.vector, vector);
        assert_eq!(running.opened.replicas[0].1.vector.starts().len(), 2);
    }
}

#[test]
fn promises_marks_pages_and_peers_come_back() {
    let files = FaultyFiles::default();
    let running = open(&files);
    let promise = Promise { entry: None, term: Some(term(9)), kind: PromiseKind::Tombstone };
    running.write(key(1), 1, Write::Promise(promise.clone()));
    running.write(key(1), 2, Write::Mark { uncertain: true });
    let page = Page { number: 3, revision: 17, lines: vec!["one".into(), "two".into()] };
    let peer = ReplicaId { ordinal: Ordinal(2), incarnation: Incarnation(5) };
    let process = Process { session: Session(4), boot: BootId(99) };
    blocking::wait(running.storage.put_page(page.clone())).unwrap();
    blocking::wait(running.storage.put_page(Page { number: 4, ..page.clone() })).unwrap();
    blocking::wait(running.storage.drop_page(4)).unwrap();
    blocking::wait(running.storage.put_peer_seen(peer, process)).unwrap();
    running.storage.adopt_cluster(ClusterId(77)).unwrap();
    assert!(
        running.storage.adopt_cluster(ClusterId(78)).unwrap_err().to_string().contains("belongs to cluster")
    );
    drop(running);
    files.crash(Crash::Drop);
    let opened = open(&files).opened;
    let (_, recovered) = &opened.replicas[0];
    assert_eq!((&recovered.promise, recovered.uncertain), (&promise, true));
    assert_eq!((opened.pages, opened.peers), (vec![page], vec![(peer, process)]));
    assert_eq!(opened.identity.cluster, Some(ClusterId(77)));
}

#[test]
fn producers_come_back_as_of_the_logs_end() {
    let files = FaultyFiles::default();
    let mut expected = ProducerTable::default();
    let running = open(&files);
    for number in 0..30 {
        let batch = stamped(key(1), number, 1, 900, term(1), Some(sequence(5, number)));
        expected.note(&batch);
        running.write(key(1), number + 1, Write::Append(batch));
    }
    running.write(key(1), 31, Write::Cut { to: Offset(28) });
    expected.cut(Offset(28));
    running.durable(key(1), 31);
    for how in [Crash::Drop, Crash::Kill] {
        files.crash(how);
        let recovered = open(&files).opened.replicas[0].1.clone();
        assert_eq!(ProducerTable::decode(&recovered.producers).unwrap(), expected);
    }
}

#[test]
fn the_stored_high_watermark_never_exceeds_what_is_applied_with_it() {
    let files = FaultyFiles::default();
    let running = open(&files);
    fill(&running, key(1), 10, &[100]);
    running.storage.note_high_watermark(key(1), Offset(12));
    settle(&running);
    drop(running);
    files.crash(Crash::Drop);
    let running = open(&files);
    assert_eq!(running.opened.replicas[0].1.high_watermark, Offset(12));
    running.write(key(1), 1, Write::Cut { to: Offset(6) });
    running.durable(key(1), 1);
    drop(running);
    files.crash(Crash::Drop);
    assert_eq!(open(&files).opened.replicas[0].1.high_watermark, Offset(6));
}

#[test]
fn time_and_size_say_where_retention_may_cut() {
    let files = FaultyFiles::default();
    let running = open(&files);
    let written = fill(&running, key(1), 200, &[700]);
    settle(&running);
    let at = |index: usize| (written[index].base(), written[index].append_time_ms());
    assert_eq!(running.storage.offset_at_time(key(1), 0).unwrap(), Some(at(0)));
    assert_eq!(running.storage.offset_at_time(key(1), at(71).1).unwrap(), Some(at(71)));
    assert_eq!(running.storage.offset_at_time(key(1), at(71).1 + 1).unwrap(), Some(at(72)));
    assert_eq!(running.storage.offset_at_time(key(1), u64::MAX).unwrap(), None);
    let candidate = |older, bytes| running.storage.retention_candidate(key(1), older, bytes).unwrap().start;
    assert_eq!(candidate(Some(u64::MAX), None), None, "nothing is known to be committed");
    running.storage.note_high_watermark(key(1), Offset(300));
    assert_eq!(candidate(Some(at(100).1), None), Some(at(100).0));
    assert_eq!(candidate(Some(u64::MAX), None), Some(Offset(300)));
    assert_eq!(candidate(None, Some(u64::MAX)), None);
    let half = running.storage.log_bytes(key(1)) / 2;
    let start = candidate(None, Some(half)).unwrap();
    assert!((150..=300).contains(&start.0), "{start}");
    running.write(key(1), 201, Write::LogStart(start));
    running.durable(key(1), 201);
    eventually("what retention took is swept", || running.storage.log_bytes(key(1)) <= half + 65_536);
    assert_eq!(candidate(None, Some(half + 65_536)), None);
    let is_more = running.storage.retention_candidate(key(1), None, Some(half + 65_536)).unwrap().is_more;
    assert!(!is_more, "there is nothing more to let go of");
    assert!(matches!(
        running.storage.read(key(1), Offset(0), Offset(9), 1),
        Err(ReadError::BelowStart { .. })
    ));
    running.storage.close().unwrap();
    let running = open(&files);
    assert_eq!(running.opened.replicas[0].1.log_start, start);
    let first = written.iter().position(|batch| batch.end() > start).unwrap();
    assert_eq!(running.log(key(1), start.0), written[first..]);
}

#[test]
fn retention_by_size_counts_no_more_what_was_cut() {
    const LIMIT: u64 = 3_000_000;
    let files = FaultyFiles::default();
    let running = open(&files);
    let written = fill(&running, key(1), 400, &[25_000]);
    let end = written[160].base();
    running.write(key(1), 401, Write::Cut { to: end });
    running.durable(key(1), 401);
    settle(&running);
    running.storage.note_high_watermark(key(1), end);
    let start = running.storage.retention_candidate(key(1), None, Some(LIMIT)).unwrap().start.unwrap();
    let left = written.iter().filter(|batch| batch.base() >= start && batch.base() < end);
    let kept: u64 = left.map(|batch| batch.size() as u64).sum();
    assert!((LIMIT * 15 / 16..=LIMIT).contains(&kept), "{kept}");
}

#[test]
fn each_start_is_a_session_and_only_a_restored_volume_changes_its_incarnation() {
    let files = FaultyFiles::default();
    let first = open(&files);
    fill(&first, key(1), 3, &[10]);
    let identity = first.opened.identity.clone();
    assert_eq!(identity.processes.len(), 1);
    assert_eq!(first.storage.identity().unwrap(), identity);
    first.storage.close().unwrap();
    let second = open(&files);
    assert_eq!(second.opened.identity.incarnation, identity.incarnation);
    let sessions: Vec<u64> = second.opened.identity.processes.iter().map(|one| one.session.0).collect();
    assert_eq!(sessions, [1, 2]);
    second.storage.mark_restored().unwrap();
    drop(second);
    files.crash(Crash::Drop);
    let third = open(&files);
    assert_ne!(third.opened.identity.incarnation, identity.incarnation);
    assert!(third.storage.keeps_copies());
    assert!(third.opened.replicas.is_empty());
    let aside = format!("/data/set-aside-{}/records.redb", identity.incarnation);
    assert!(files.paths().contains(&aside.into()), "nothing is deleted");
}

#[test]
fn that_a_volume_keeps_copies_is_known_at_once_and_at_each_start_until_they_are_gone() {
    let files = FaultyFiles::default();
    let running = open(&files);
    fill(&running, key(1), 20, &[100]);
    assert!(!running.storage.keeps_copies());
    let producers = ProducerTable::default().encode();
    running.write(key(1), 21, Write::SetAside { to: Offset(10), producers });
    assert!(running.storage.keeps_copies(), "before it is durable");
    running.durable(key(1), 21);
    drop(running);
    files.crash(Crash::Drop);
    let running = open(&files);
    assert!(running.storage.keeps_copies());
    running.write(key(1), 1, Write::ForgetAside);
    running.durable(key(1), 1);
    running.storage.close().unwrap();
    let running = open(&files);
    assert!(!running.storage.keeps_copies());
    running.storage.mark_restored().unwrap();
    running.storage.close().unwrap();
    for _ in 0..2 {
        let copy = open(&files);
        assert!(copy.storage.keeps_copies(), "what it held before is beside it");
        copy.storage.close().unwrap();
    }
}

#[test]
fn an_inspected_volume_is_told_whole_and_not_changed() {
    let files = FaultyFiles::default();
    let running = open(&files);
    fill(&running, key(1), 40, &[100]);
    let locked = crate::storage::inspect::inspect_in(&files, Path::new(DIR));
    assert!(matches!(locked, Err(OpenError::Locked { .. })));
    drop(running);
    files.crash(Crash::Kill);
    let before: Vec<Vec<u8>> = files.paths().iter().map(|path| files.bytes(path)).collect();
    let report = crate::storage::inspect::inspect_in(&files, Path::new(DIR)).unwrap();
    let after: Vec<Vec<u8>> = files.paths().iter().map(|path| files.bytes(path)).collect();
    assert!(before == after);
    assert_eq!(report.replicas[0].log_end, Offset(80));
    let text = report.to_string();
    assert!(text.contains("log 0 to 80") && text.contains("by a crash or a kill"), "{text}");
}
