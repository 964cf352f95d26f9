//! The storage on files that fail.

mod bad_input;
mod crashes;
pub(super) mod faulty;
mod mending;
mod model;
mod small_disk;
mod space;
mod working;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fulmar_core::batch::{Batch, ProducedBatch, ProducerSequence, Record, Stamp};
use fulmar_core::id::{Ordinal, PartitionKey, ProducerId, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Write, WriteSeq};
use fulmar_core::term::{BootId, Epoch, Process, Session, Term};

use self::faulty::FaultyFiles;
use super::{Expectations, OpenError, Opened, ReadError, Storage, StorageConfig, StorageEvent};

const DIR: &str = "/data";

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn config() -> StorageConfig {
    StorageConfig {
        dir: PathBuf::from(DIR),
        slot_bytes: 64 * 1024,
        slots: 3,
        unapplied_bytes_max: 48 * 1024,
        hot_bytes_max: 64 * 1024,
        cache_bytes: 1024 * 1024,
        group_bytes_max: 32 * 1024,
        apply_bytes_max: 16 * 1024,
        apply_after: Duration::from_millis(20),
        reserve_bytes_max: 1024 * 1024,
    }
}

/// The applier commits only when somebody waits for it: writers for room, the journal for a slot.
fn slow_to_apply() -> StorageConfig {
    let mebibyte = 1024 * 1024;
    StorageConfig {
        unapplied_bytes_max: mebibyte,
        apply_bytes_max: mebibyte,
        apply_after: Duration::from_secs(30),
        ..config()
    }
}

fn expectations() -> Expectations {
    Expectations { ordinal: Ordinal(0), cluster: None }
}

fn key(number: u32) -> PartitionKey {
    PartitionKey { topic: TopicId(0x1234_5678), partition: number }
}

fn term(counter: u64) -> Term {
    Term {
        epoch: Epoch { generation: 1, counter },
        process: Process { session: Session(1), boot: BootId(7) },
    }
}

fn batch_of(key: PartitionKey, base: u64, records: usize, bytes: usize, term: Term) -> Batch {
    stamped(key, base, records, bytes, term, None)
}

fn stamped(
    key: PartitionKey,
    base: u64,
    records: usize,
    bytes: usize,
    term: Term,
    sequence: Option<ProducerSequence>,
) -> Batch {
    let value = |index: usize| {
        let seed = u8::try_from((base + index as u64) % 251).unwrap();
        bytes::Bytes::from(vec![seed; bytes])
    };
    let records: Vec<Record> =
        (0..records).map(|index| Record { value: value(index), ..Record::default() }).collect();
    let produced = ProducedBatch::build(&records, sequence).unwrap();
    produced.stamp(Stamp { key, base: Offset(base), term, append_time_ms: 1_000_000 + base * 10 })
}

fn sequence(producer: u128, sequence: u64) -> ProducerSequence {
    ProducerSequence { producer: ProducerId(producer), sequence }
}

/// An open volume and what it told.
struct Running {
    storage: Storage,
    opened: Opened,
    events: Receiver<StorageEvent>,
}

fn try_open(files: &FaultyFiles, config: &StorageConfig) -> Result<Running, OpenError> {
    let (sender, events) = channel();
    let (storage, opened) =
        Storage::open_in(Arc::new(files.clone()), config, &expectations(), move |event| {
            drop(sender.send(event));
        })?;
    Ok(Running { storage, opened, events })
}

fn open(files: &FaultyFiles) -> Running {
    try_open(files, &config()).unwrap()
}

impl Running {
    fn write(&self, key: PartitionKey, seq: u64, write: Write) {
        self.storage.write_blocking(vec![(key, WriteSeq(seq), write)]).unwrap();
    }

    /// Waits until this write is durable.
    fn durable(&self, key: PartitionKey, seq: u64) {
        loop {
            match self.events.recv_timeout(PATIENCE).unwrap() {
                StorageEvent::Durable(writes) if writes.contains(&(key, WriteSeq(seq))) => return,
                StorageEvent::Durable(_) | StorageEvent::Room(_) => {}
                StorageEvent::Fatal(why) => panic!("{why}"),
            }
        }
    }

    /// The copies of what was set aside, the oldest first.
    fn aside(&self, key: PartitionKey) -> Vec<Vec<Batch>> {
        self.storage.shared().copies(key).into_iter().map(|(_, batches)| batches).collect()
    }

    fn log(&self, key: PartitionKey, from: u64) -> Vec<Batch> {
        read_log(&self.storage, key, from)
    }
}

/// Reads to the end in small pieces.
fn read_log(storage: &Storage, key: PartitionKey, from: u64) -> Vec<Batch> {
    let mut found: Vec<Batch> = Vec::new();
    let mut from = Offset(from);
    loop {
        let more = match storage.read(key, from, Offset(u64::MAX >> 1), 3000) {
            Err(ReadError::Unknown(_)) => return found,
            more => more.unwrap(),
        };
        let Some(last) = more.last() else { return found };
        from = last.end();
        found.extend(more);
    }
}

/// Waits until something comes true.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until all that was written is in redb, high watermarks and what retention left to sweep too.
fn settle(running: &Running) {
    eventually("all is on its way to redb", || running.storage.is_applied());
    // What the applier has taken is there when it comes round again, and swept when it has come round once more.
    let before = running.storage.heartbeat().applier;
    eventually("all is in redb", || running.storage.heartbeat().applier >= before + 3);
}

/// Waits until the journal's last group is sealed: that is the first thing that its thread does once it is idle. Some beats more,
/// for it also beats while it waits for room.
fn seal(running: &Running) {
    let before = running.storage.heartbeat().journal;
    eventually("the last group is sealed", || running.storage.heartbeat().journal >= before + 6);
}

fn redb_file() -> PathBuf {
    Path::new(DIR).join("records.redb")
}

fn slot(index: u32) -> PathBuf {
    Path::new(DIR).join(format!("journal/slot-{index:03}"))
}
