//! The redb side: what was applied, and how operations change it, in one transaction with the journal's position.
//!
//! Owns the database and the replicas' state as of the last transaction. Knows no threads and no time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fulmar_core::batch::Batch;
use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{ProducerTable, Promise, Write};
use fulmar_core::term::{Process, TermVector};
use redb::{Database, Durability, ReadableDatabase, Table, WriteTransaction};
use thiserror::Error;

use super::Page;
use super::bytes::Malformed;
use super::error::OpenError;
use super::journal::Position;
use super::op::Op;
use super::seam::{Backend, Handle};
use super::tables::batches::{self, LogName, Pack};
use super::tables::logs::LogRow;
use super::tables::meta::{self, Meta};
use super::tables::{garbage, logs, pages, partition_bytes, partition_of, peers, producers, promises};

/// Its name in the data folder.
pub(super) const FILE: &str = "records.redb";

/// One sweep deletes about so much: larger ones hold up the next transaction (8 MB: 6 ms, 64 MB: 38 ms).
const SWEEP_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Batches are read back in such pieces to bring a producers' table up to date.
const CATCH_UP_BYTES: usize = 4 * 1024 * 1024;

/// A log's producers are stored again after so many bytes of batches, or eight times their own size: what a start has to
/// read again is bounded by it.
const PRODUCERS_EVERY: usize = 256 * 1024;

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
    /// Counts cuts, resets and releases since the start: a high watermark noted after one is not stored before it.
    pub(super) turns: u64,
    /// Bytes of batches since the producers were stored.
    since_producers: usize,
    store_producers: bool,
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
    pub(super) replicas: BTreeMap<PartitionKey, Replica>,
    pub(super) applied: Position,
    journal: [u8; 16],
    garbage: BTreeSet<(PartitionKey, u32)>,
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
    pub(super) fn create(file: Arc<dyn Handle>, cache_bytes: usize, journal: [u8; 16]) -> Result<(), VolumeError> {
        guarded(|| {
            let mut volume = Self::open_database(file, cache_bytes, journal)?;
            volume.apply(&[], Position::START, &[], false)
        })
    }

    /// Opens the database in this file, which must be one of this journal.
    pub(super) fn open(file: Arc<dyn Handle>, cache_bytes: usize, journal: [u8; 16]) -> Result<Self, VolumeError> {
        guarded(|| {
            let mut volume = Self::open_database(file, cache_bytes, journal)?;
            let view = View::open(&*volume.database)?;
            let meta = view.meta()?;
            if meta.journal != journal {
                return Err(VolumeError::Journal);
            }
            volume.applied = meta.applied;
            volume.replicas = view.replicas()?;
            volume.garbage = view.garbage()?;
            volume.retired = volume.replicas.keys().copied().collect();
            Ok(volume)
        })
    }

    fn open_database(file: Arc<dyn Handle>, cache_bytes: usize, journal: [u8; 16]) -> Result<Self, VolumeError> {
        let database = Database::builder().set_cache_size(cache_bytes).create_with_backend(Backend(file))?;
        Ok(Self {
            database: Arc::new(database),
            replicas: BTreeMap::new(),
            applied: Position::START,
            journal,
            garbage: BTreeSet::new(),
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
    pub(super) fn apply(&mut self, ops: &[Op], end: Position, notes: &[Note], closing: bool) -> Result<(), VolumeError> {
        let transaction = self.begin()?;
        let meta = Meta { format: meta::FORMAT, journal: self.journal, applied: end };
        {
            let mut changes = Changes::begin(&transaction, self)?;
            for op in ops {
                changes.op(op)?;
            }
            for note in notes {
                changes.note(*note);
            }
            changes.finish(closing)?;
            transaction.open_table(meta::TABLE)?.insert(meta::KEY, meta.encode().as_slice())?;
        }
        transaction.commit()?;
        self.applied = end;
        Ok(())
    }

    /// Whether something waits to be swept.
    pub(super) fn has_garbage(&self) -> bool {
        !self.garbage.is_empty() || !self.retired.is_empty()
    }

    /// Deletes about 8 MB of what retention, resets and releases left, in one transaction.
    pub(super) fn sweep(&mut self) -> Result<(), VolumeError> {
        let transaction = self.begin()?;
        let mut left = SWEEP_BYTES_MAX;
        {
            let mut values = transaction.open_table(batches::TABLE)?;
            let mut marks = transaction.open_table(garbage::TABLE)?;
            while let Some(&(key, number)) = self.garbage.first().filter(|_| left > 0) {
                let log = LogName { key, number };
                let swept = batches::sweep(&mut values, log, Offset(u64::MAX), Offset(u64::MAX), left)?;
                left = left.saturating_sub(swept.bytes);
                if swept.finished {
                    marks.remove(&garbage::encode(log))?;
                    self.garbage.pop_first();
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
                    rows.insert(&partition_bytes(key), replica.row.encode().as_slice())?;
                }
                if swept.finished {
                    self.retired.pop_first();
                }
            }
        }
        if left == SWEEP_BYTES_MAX { transaction.abort()? } else { transaction.commit()? }
        Ok(())
    }

    /// Reads what lies behind each stored producers' table, so that it is the one at the log's end again.
    pub(super) fn catch_up_producers(&mut self) -> Result<(), VolumeError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(batches::TABLE)?;
        for (key, replica) in &mut self.replicas {
            let log = LogName { key: *key, number: replica.row.number };
            let mut from = replica.row.producers_at.max(replica.row.start);
            while from < replica.row.end {
                let wanted = batches::Wanted { from, until: replica.row.end, bytes_max: CATCH_UP_BYTES };
                // A damaged batch is for who reads it to report; what it says of its producer is lost until it is mended.
                let Ok(found) = batches::read(&table, log, wanted) else { break };
                let Some(last) = found.last() else { break };
                from = last.end();
                found.iter().for_each(|batch| replica.producers.note(batch));
                replica.since_producers += found.iter().map(Batch::size).sum::<usize>();
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
                None => row.start,
                Some(Some(end)) => end,
                // Damaged but there: one batch to be fetched again, not a shorter log.
                Some(None) => row.end,
            };
            let empty_log = row.start == row.end;
            if found < row.end && !empty_log {
                row.end = found.max(row.start);
                row.vector.cut(row.end);
                row.uncertain = true;
                replica.producers.cut(row.end);
                replica.store_producers = true;
                short.push(*key);
            }
        }
        Ok(short)
    }
}

/// The tables as of the last commit, for reading.
#[derive(Debug)]
pub(super) struct View(redb::ReadTransaction);

impl View {
    pub(super) fn open(database: &impl ReadableDatabase) -> Result<Self, VolumeError> {
        Ok(Self(database.begin_read()?))
    }

    pub(super) fn meta(&self) -> Result<Meta, VolumeError> {
        let table = self.0.open_table(meta::TABLE)?;
        let found = table.get(meta::KEY)?.ok_or(VolumeError::Row { table: "meta", what: "it is not there" })?;
        let format = found.value().first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
        if format > meta::FORMAT {
            return Err(VolumeError::Format(format));
        }
        Meta::decode(found.value()).map_err(row("meta"))
    }

    pub(super) fn replicas(&self) -> Result<BTreeMap<PartitionKey, Replica>, VolumeError> {
        use redb::ReadableTable;
        let mut replicas: BTreeMap<PartitionKey, Replica> = BTreeMap::new();
        for found in self.0.open_table(logs::TABLE)?.iter()? {
            let (key, value) = found?;
            let replica = replicas.entry(partition_of(key.value())).or_default();
            replica.row = LogRow::decode(value.value()).map_err(row("logs"))?;
        }
        for found in self.0.open_table(promises::TABLE)?.iter()? {
            let (key, value) = found?;
            let replica = replicas.entry(partition_of(key.value())).or_default();
            replica.promise = promises::decode(value.value()).map_err(row("promises"))?;
        }
        for found in self.0.open_table(producers::TABLE)?.iter()? {
            let (key, value) = found?;
            let replica = replicas.entry(partition_of(key.value())).or_default();
            let wrong = |_| VolumeError::Row { table: "producers", what: "snapshot" };
            replica.producers = ProducerTable::decode(value.value()).map_err(wrong)?;
        }
        Ok(replicas)
    }

    pub(super) fn garbage(&self) -> Result<BTreeSet<(PartitionKey, u32)>, VolumeError> {
        use redb::ReadableTable;
        let table = self.0.open_table(garbage::TABLE)?;
        let mut found = BTreeSet::new();
        for mark in table.iter()? {
            let log = garbage::decode(mark?.0.value());
            found.insert((log.key, log.number));
        }
        Ok(found)
    }

    pub(super) fn pages(&self) -> Result<Vec<Page>, VolumeError> {
        use redb::ReadableTable;
        let mut found = Vec::new();
        for page in self.0.open_table(pages::TABLE)?.iter()? {
            let (number, value) = page?;
            found.push(pages::decode(number.value(), value.value()).map_err(row("pages"))?);
        }
        Ok(found)
    }

    pub(super) fn peers(&self) -> Result<Vec<(ReplicaId, Process)>, VolumeError> {
        use redb::ReadableTable;
        let mut found = Vec::new();
        for peer in self.0.open_table(peers::TABLE)?.iter()? {
            let (key, value) = peer?;
            found.push((peers::peer(key.value()), peers::decode(value.value()).map_err(row("peers"))?));
        }
        Ok(found)
    }
}

type Values<'t> = Table<'t, &'static batches::KeyBytes, &'static [u8]>;
type Rows<'t> = Table<'t, &'static [u8; 20], &'static [u8]>;

/// One transaction on its way.
struct Changes<'a> {
    values: Values<'a>,
    logs: Rows<'a>,
    producers: Rows<'a>,
    promises: Rows<'a>,
    pages: Table<'a, u32, &'static [u8]>,
    peers: Table<'a, &'static peers::KeyBytes, &'static [u8]>,
    marks: Table<'a, &'static garbage::KeyBytes, ()>,
    replicas: &'a mut BTreeMap<PartitionKey, Replica>,
    garbage: &'a mut BTreeSet<(PartitionKey, u32)>,
    retired: &'a mut BTreeSet<PartitionKey>,
    packs: BTreeMap<PartitionKey, Pack>,
    changed: BTreeSet<PartitionKey>,
}

impl<'a> Changes<'a> {
    fn begin(transaction: &'a WriteTransaction, volume: &'a mut Volume) -> Result<Self, VolumeError> {
        Ok(Self {
            values: transaction.open_table(batches::TABLE)?,
            logs: transaction.open_table(logs::TABLE)?,
            producers: transaction.open_table(producers::TABLE)?,
            promises: transaction.open_table(promises::TABLE)?,
            pages: transaction.open_table(pages::TABLE)?,
            peers: transaction.open_table(peers::TABLE)?,
            marks: transaction.open_table(garbage::TABLE)?,
            replicas: &mut volume.replicas,
            garbage: &mut volume.garbage,
            retired: &mut volume.retired,
            packs: BTreeMap::new(),
            changed: BTreeSet::new(),
        })
    }

    fn op(&mut self, op: &Op) -> Result<(), VolumeError> {
        if let Some(key) = op.key() {
            self.changed.insert(key);
            self.replicas.entry(key).or_default();
        }
        match op {
            Op::Write(key, write) => self.write(*key, write),
            Op::Mend(key, batch) => {
                self.flush(*key)?;
                let log = LogName { key: *key, number: self.replica(*key).row.number };
                batches::mend(&mut self.values, log, batch)?;
                Ok(())
            }
            Op::Page(page) => {
                self.pages.insert(page.number, pages::encode(page).as_slice())?;
                Ok(())
            }
            Op::DropPage(number) => {
                self.pages.remove(number)?;
                Ok(())
            }
            Op::Peer(peer, process) => {
                self.peers.insert(&peers::key(*peer), peers::encode(*process).as_slice())?;
                Ok(())
            }
        }
    }

    fn replica(&mut self, key: PartitionKey) -> &mut Replica {
        self.replicas.get_mut(&key).expect("made when its operation came")
    }

    fn write(&mut self, key: PartitionKey, write: &Write) -> Result<(), VolumeError> {
        match write {
            Write::Append(batch) => self.append(key, batch),
            Write::Cut { to } => self.cut(key, *to),
            Write::Reset { start, vector, producers } => {
                self.leave_log(key)?;
                let table = ProducerTable::decode(producers)
                    .map_err(|_| VolumeError::Order { key, what: "a reset's producers do not parse" })?;
                let replica = self.replica(key);
                replica.row.start = *start;
                replica.row.end = *start;
                replica.row.high_watermark = *start;
                replica.row.vector = vector.clone();
                replica.producers = table;
                Ok(())
            }
            Write::Promise(promise) => {
                self.promises.insert(&partition_bytes(key), promises::encode(promise).as_slice())?;
                self.replica(key).promise = promise.clone();
                Ok(())
            }
            Write::LogStart(start) => {
                self.retired.insert(key);
                let replica = self.replica(key);
                replica.row.start = replica.row.start.max((*start).min(replica.row.end));
                replica.row.high_watermark = replica.row.high_watermark.max(replica.row.start);
                // What was below is needed no more to make the table again.
                replica.store_producers |= replica.row.producers_at < replica.row.start;
                Ok(())
            }
            Write::Mark { uncertain } => {
                self.replica(key).row.uncertain = *uncertain;
                Ok(())
            }
            Write::Release => self.leave_log(key),
        }
    }

    fn append(&mut self, key: PartitionKey, batch: &Batch) -> Result<(), VolumeError> {
        let replica = self.replica(key);
        if batch.base() != replica.row.end {
            return Err(VolumeError::Order { key, what: "a batch does not begin where the log ends" });
        }
        if !continues(&replica.row.vector, batch) {
            return Err(VolumeError::Order { key, what: "a batch's term is below the log's last" });
        }
        replica.row.vector.note(batch.term(), batch.base());
        replica.row.end = batch.end();
        replica.row.append_time_ms = replica.row.append_time_ms.max(batch.append_time_ms());
        replica.producers.note(batch);
        replica.since_producers += batch.size();
        if !self.packs.entry(key).or_default().takes(batch) {
            self.flush(key)?;
        }
        self.packs.entry(key).or_default().push(batch.clone());
        Ok(())
    }

    fn cut(&mut self, key: PartitionKey, to: Offset) -> Result<(), VolumeError> {
        if to < self.replica(key).row.start {
            return Err(VolumeError::Order { key, what: "a cut below the log's start" });
        }
        self.flush(key)?;
        let log = LogName { key, number: self.replica(key).row.number };
        let gone = batches::cut(&mut self.values, log, to)?;
        let replica = self.replica(key);
        replica.turns += 1;
        replica.row.bytes = replica.row.bytes.saturating_sub(gone);
        replica.row.end = replica.row.end.min(to);
        replica.row.high_watermark = replica.row.high_watermark.min(to);
        replica.row.vector.cut(to);
        replica.producers.cut(to);
        replica.store_producers = true;
        Ok(())
    }

    /// The log is left to be swept, and the next one begins, empty.
    fn leave_log(&mut self, key: PartitionKey) -> Result<(), VolumeError> {
        self.packs.remove(&key);
        let replica = self.replica(key);
        let left = LogName { key, number: replica.row.number };
        replica.turns += 1;
        let LogRow { uncertain, append_time_ms, .. } = replica.row;
        replica.row = LogRow { number: left.number + 1, uncertain, append_time_ms, ..LogRow::default() };
        replica.producers = ProducerTable::default();
        replica.store_producers = true;
        self.marks.insert(&garbage::encode(left), ())?;
        self.garbage.insert((left.key, left.number));
        Ok(())
    }

    fn flush(&mut self, key: PartitionKey) -> Result<(), VolumeError> {
        let Some(pack) = self.packs.remove(&key).filter(|pack| !pack.is_empty()) else { return Ok(()) };
        let log = LogName { key, number: self.replica(key).row.number };
        let bytes = batches::put(&mut self.values, log, &pack)?;
        self.replica(key).row.bytes += bytes;
        Ok(())
    }

    /// Never above what this transaction applies, and never from behind a cut that it does not.
    fn note(&mut self, note: Note) {
        let Some(replica) = self.replicas.get_mut(&note.key) else { return };
        let high_watermark = note.high_watermark.min(replica.row.end);
        if replica.turns == note.turns && high_watermark > replica.row.high_watermark {
            replica.row.high_watermark = high_watermark;
            self.changed.insert(note.key);
        }
    }

    fn finish(&mut self, closing: bool) -> Result<(), VolumeError> {
        while let Some(key) = self.packs.first_key_value().map(|(key, _)| *key) {
            self.flush(key)?;
        }
        if closing {
            self.changed.extend(self.replicas.iter().filter(|(_, replica)| replica.since_producers > 0).map(|(key, _)| *key));
        }
        for key in std::mem::take(&mut self.changed) {
            let replica = self.replicas.get_mut(&key).expect("only known replicas change");
            let due = replica.store_producers || replica.since_producers > PRODUCERS_EVERY || closing;
            if due {
                let snapshot = replica.producers.encode();
                if replica.store_producers || closing || replica.since_producers > 8 * snapshot.len() {
                    self.producers.insert(&partition_bytes(key), snapshot.as_slice())?;
                    replica.row.producers_at = replica.row.end;
                    replica.since_producers = 0;
                    replica.store_producers = false;
                }
            }
            self.logs.insert(&partition_bytes(key), replica.row.encode().as_slice())?;
        }
        Ok(())
    }
}
