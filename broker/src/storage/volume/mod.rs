//! The redb side: what was applied, and how operations change it, in one transaction with the journal's position.
//!
//! Owns the database and the replicas' state as of the last transaction. Knows no threads and no time.

mod changes;
mod unnoted;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fulmar_core::batch::Batch;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use fulmar_core::partition::{ProducerTable, Promise};
use fulmar_core::term::TermVector;
use redb::{Database, Durability, ReadableDatabase, WriteTransaction};
use thiserror::Error;

use self::changes::Changes;
use self::unnoted::Unnoted;
pub(super) use self::view::View;
use super::bytes::Malformed;
use super::error::{OpenError, ReadError};
use super::journal::Position;
use super::op::Op;
use super::seam::{Backend, Handle};
use super::tables::batches::{self, End, LogName};
use super::tables::logs::LogRow;
use super::tables::meta::{self, Meta};
use super::tables::{garbage, logs, partition_bytes, sealed};

/// Its name in the data folder.
pub(super) const FILE: &str = "records.redb";

/// One sweep deletes about so much: larger ones hold up the next transaction (8 MB: 6 ms, 64 MB: 38 ms).
pub(super) const SWEEP_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Batches are read back in such pieces to bring a producers' table up to date.
const CATCH_UP_BYTES: usize = 4 * 1024 * 1024;

/// Why the database cannot go on.
#[derive(Debug, Error)]
pub(super) enum VolumeError {
    #[error("redb: {0}")]
    Redb(Box<redb::Error>),
    #[error("the journal's order is broken: partition {key}: {what}")]
    Order { key: PartitionKey, what: &'static str },
    #[error("a row of table {table} does not parse: {what}")]
    Row { table: &'static str, what: &'static str },
    #[error("the tables have format {0}, only {known} is known", known = meta::FORMAT)]
    Format(u32),
    #[error("the tables belong to another journal")]
    Journal,
    #[error("redb panicked: the file is damaged")]
    Panicked,
}

impl<E: Into<redb::Error>> From<E> for VolumeError {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

fn row(table: &'static str) -> impl Fn(Malformed) -> VolumeError {
    move |malformed| VolumeError::Row { table, what: malformed.what }
}

/// One replica as of the last transaction.
#[derive(Debug, Clone, Default)]
pub(super) struct Replica {
    pub(super) row: LogRow,
    pub(super) promise: Promise,
    pub(super) producers: ProducerTable,
    /// What the table lacks of the log.
    pub(super) unnoted: Unnoted,
    /// Counts cuts, resets and releases since the start: a high watermark noted after one is not stored before it.
    pub(super) turns: u64,
    /// Bytes of batches since the producers were stored.
    since_producers: usize,
    store_producers: bool,
}

impl Replica {
    /// What lies below the log's start or behind its end is not missed.
    fn forget_unheld(&mut self) {
        self.unnoted.forget(Offset::ZERO..self.row.start);
        self.unnoted.forget(self.row.end..Offset(u64::MAX));
    }
}

/// A high watermark to be stored with the next transaction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    pub(super) key: PartitionKey,
    pub(super) turns: u64,
    pub(super) high_watermark: Offset,
}

/// The database and what it holds about each replica.
#[derive(Debug)]
pub(super) struct Volume {
    pub(super) database: Arc<Database>,
    /// Boxed, for there are many, and a tree's nodes are half empty.
    pub(super) replicas: BTreeMap<PartitionKey, Box<Replica>>,
    pub(super) applied: Position,
    journal: [u8; 16],
    /// What waits to be swept, with its bytes; none for what an earlier process left.
    garbage: BTreeMap<(PartitionKey, u32), u64>,
    /// Copies of what was given up, by the numbers of their logs.
    pub(super) aside: BTreeMap<(PartitionKey, u32), LogRow>,
    /// Logs whose start rose above what is deleted.
    retired: BTreeSet<PartitionKey>,
}

/// Whether a batch's term is the log's last, or begins behind it.
pub(super) fn continues(vector: &TermVector, batch: &Batch) -> bool {
    vector.starts().last().is_none_or(|last| {
        last.term == batch.term() || (last.term < batch.term() && last.start < batch.base())
    })
}

/// The path of the database.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

/// redb may panic on a damaged file; a start must name the file instead.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, VolumeError>) -> Result<T, VolumeError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(Err(VolumeError::Panicked))
}

/// With the file's name, for who opens a volume.
pub(super) fn named(dir: &Path) -> impl Fn(VolumeError) -> OpenError {
    let path = path(dir);
    move |error| OpenError::Database { path: path.clone(), what: error.to_string() }
}

impl Volume {
    /// Makes the database in an empty file.
    pub(super) fn create(
        file: Arc<dyn Handle>,
        cache_bytes: usize,
        journal: [u8; 16],
    ) -> Result<(), VolumeError> {
        guarded(|| {
            let mut volume = Self::open_database(file, cache_bytes, journal)?;
            volume.apply(&[], Position::START, &[], false)
        })
    }

    /// Opens the database in this file, which must be one of this journal.
    pub(super) fn open(
        file: Arc<dyn Handle>,
        cache_bytes: usize,
        journal: [u8; 16],
    ) -> Result<Self, VolumeError> {
        guarded(|| {
            let mut volume = Self::open_database(file, cache_bytes, journal)?;
            let view = View::open(&*volume.database)?;
            let meta = view.meta()?;
            if meta.journal != journal {
                return Err(VolumeError::Journal);
            }
            volume.applied = meta.applied;
            volume.replicas = view.replicas(meta.replicas)?;
            volume.garbage = view.garbage()?;
            volume.aside = view.aside()?;
            volume.retired = volume.replicas.keys().copied().collect();
            Ok(volume)
        })
    }

    fn open_database(
        file: Arc<dyn Handle>,
        cache_bytes: usize,
        journal: [u8; 16],
    ) -> Result<Self, VolumeError> {
        let database = Database::builder().set_cache_size(cache_bytes).create_with_backend(Backend(file))?;
        Ok(Self {
            database: Arc::new(database),
            replicas: BTreeMap::new(),
            applied: Position::START,
            journal,
            garbage: BTreeMap::new(),
            aside: BTreeMap::new(),
            retired: BTreeSet::new(),
        })
    }

    fn begin(&self) -> Result<WriteTransaction, VolumeError> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        // On every commit: it helps only if the last one before a crash had it.
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Applies operations of the journal up to `end`, with what was noted besides, in one durable transaction.
    /// `closing` stores what is otherwise stored now and then.
    pub(super) fn apply(
        &mut self,
        ops: &[Op],
        end: Position,
        notes: &[Note],
        closing: bool,
    ) -> Result<(), VolumeError> {
        let transaction = self.begin()?;
        let mut meta = Meta { format: meta::FORMAT, journal: self.journal, replicas: 0, applied: end };
        {
            let mut changes = Changes::begin(&transaction, self)?;
            for op in ops {
                changes.op(op)?;
            }
            for note in notes {
                changes.note(*note);
            }
            meta.replicas = changes.finish(closing)?;
            let meta = sealed::seal(meta::KEY.as_bytes(), &meta.encode());
            transaction.open_table(meta::TABLE)?.insert(meta::KEY, meta.as_slice())?;
        }
        transaction.commit()?;
        self.applied = end;
        Ok(())
    }

    /// Whether something waits to be swept.
    pub(super) fn has_garbage(&self) -> bool {
        !self.garbage.is_empty() || !self.retired.is_empty()
    }

    /// Bytes of the batches in redb's file: those that count, those that are set aside, and those that wait to be swept.
    pub(super) fn held_bytes(&self) -> u64 {
        let logs = self.replicas.values().map(|replica| replica.row.bytes);
        let aside = self.aside.values().map(|row| row.bytes);
        logs.chain(aside).chain(self.garbage.values().copied()).sum()
    }

    /// Deletes about 8 MB of what retention, resets and releases left, in one transaction. Gives bytes that nobody knew of: what an
    /// earlier process left.
    pub(super) fn sweep(&mut self) -> Result<u64, VolumeError> {
        let transaction = self.begin()?;
        let (mut left, mut unknown) = (SWEEP_BYTES_MAX, 0);
        {
            let mut values = transaction.open_table(batches::TABLE)?;
            let mut marks = transaction.open_table(garbage::TABLE)?;
            while let Some(mut first) = self.garbage.first_entry().filter(|_| left > 0) {
                let &(key, number) = first.key();
                let log = LogName { key, number };
                let swept = batches::sweep(&mut values, log, Offset(u64::MAX), Offset(u64::MAX), left)?;
                left = left.saturating_sub(swept.bytes);
                unknown += swept.bytes.saturating_sub(*first.get());
                *first.get_mut() = first.get().saturating_sub(swept.bytes);
                if swept.finished {
                    marks.remove(&garbage::encode(log))?;
                    first.remove();
                }
            }
            let mut rows = transaction.open_table(logs::TABLE)?;
            while let Some(key) = self.retired.first().copied().filter(|_| left > 0) {
                let replica = self.replicas.get_mut(&key).expect("only known replicas are retired");
                let LogRow { number, start, end, .. } = replica.row;
                let swept = batches::sweep(&mut values, LogName { key, number }, start, end, left)?;
                left = left.saturating_sub(swept.bytes);
                if swept.bytes > 0 {
                    replica.row.bytes = replica.row.bytes.saturating_sub(swept.bytes);
                    let name = partition_bytes(key);
                    rows.insert(&name, sealed::seal(&name, &replica.row.encode()).as_slice())?;
                }
                if swept.finished {
                    self.retired.pop_first();
                }
            }
        }
        if left == SWEEP_BYTES_MAX {
            transaction.abort()?;
        } else {
            transaction.commit()?;
        }
        Ok(unknown)
    }

    /// Reads what lies behind each stored producers' table, so that it is the one at the log's end again, and notes for
    /// each what was damaged: what that says of producers is not known until it is mended.
    pub(super) fn catch_up_producers(&mut self) -> Result<(), VolumeError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(batches::TABLE)?;
        for (key, replica) in &mut self.replicas {
            let log = LogName { key: *key, number: replica.row.number };
            let mut from = replica.row.producers_at.max(replica.row.start);
            while from < replica.row.end {
                let wanted = batches::Wanted { from, until: replica.row.end, bytes_max: CATCH_UP_BYTES };
                let found = match batches::read(&table, log, wanted) {
                    Ok(found) => found,
                    Err(ReadError::Rotten { base, next, .. }) => {
                        // A value may begin below the log's start, and be damaged from there on.
                        let until = next.unwrap_or(replica.row.end);
                        replica.unnoted.add(base.max(from)..until);
                        from = until;
                        continue;
                    }
                    Err(_) => break,
                };
                let Some(last) = found.last() else { break };
                from = last.end();
                for batch in &found {
                    replica.producers.note(batch);
                    replica.since_producers += batch.size();
                }
            }
        }
        Ok(())
    }

    /// Compares each log's row with its last value. A log whose values end early ends there, and is marked uncertain.
    /// Gives those replicas; the next transaction must store them.
    pub(super) fn check_ends(&mut self) -> Result<Vec<PartitionKey>, VolumeError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(batches::TABLE)?;
        let mut short = Vec::new();
        for (key, replica) in &mut self.replicas {
            let row = &mut replica.row;
            let found = match batches::end(&table, LogName { key: *key, number: row.number })? {
                End::Empty => row.start,
                End::At(end) => end,
                // Damaged but there: one batch to be fetched again, not a shorter log.
                End::Damaged => row.end,
            };
            let empty_log = row.start == row.end;
            if found < row.end && !empty_log {
                row.end = found.max(row.start);
                row.vector.cut(row.end);
                row.uncertain = true;
                replica.producers.cut(row.end);
                replica.forget_unheld();
                replica.store_producers = true;
                short.push(*key);
            }
        }
        Ok(short)
    }
}
