//! What is known of each log without asking the disk, and its hot tail.
//!
//! Owns where each log begins and ends as of the last queued write, and a ring of batches over all logs: those that wait
//! to be applied, and as many older ones as the bound allows. Never touches a file.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use fulmar_core::batch::Batch;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use fulmar_core::partition::{ProducerTable, Write};
use fulmar_core::term::TermVector;

use super::error::WriteError;
use super::marks::Marks;
use super::op::Op;
use super::volume::{Note, Replica, continues};

/// Entries of the ring besides its bytes: 256 Ki small batches cost 10 MiB of bookkeeping.
const HOT_BATCHES_MAX: usize = 256 * 1024;

/// A batch in memory, with its place in the order of all appends.
#[derive(Debug)]
struct Hot {
    id: u64,
    batch: Batch,
}

/// One log as of the last queued write.
#[derive(Debug, Default)]
struct Log {
    /// As in [`LogRow`](super::tables::logs::LogRow): counted alike on both sides.
    number: u32,
    /// As in [`Replica`].
    turns: u64,
    start: Offset,
    end: Offset,
    vector: TermVector,
    high_watermark: Offset,
    noted: bool,
    stored_bytes: u64,
    /// What came since it was opened, or cut.
    marks: Marks,
    /// Consecutive batches up to `end`. What lies below the first is in redb.
    hot: VecDeque<Hot>,
}

impl Log {
    /// What was busy once, and is no more, keeps no room for it.
    fn tidy(&mut self) {
        if self.hot.is_empty() {
            self.hot = VecDeque::new();
        }
    }

    /// Below this redb is right; at or above it only memory is.
    fn hot_from(&self) -> Offset {
        self.hot.front().map_or(self.end, |hot| hot.batch.base())
    }
}

/// Where a log stands, for a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) number: u32,
    pub(super) turns: u64,
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) high_watermark: Offset,
    pub(super) hot_from: Offset,
    pub(super) stored_bytes: u64,
}

#[derive(Debug)]
struct Entry {
    key: PartitionKey,
    id: u64,
}

/// All logs.
#[derive(Debug)]
pub(super) struct Memory {
    logs: HashMap<PartitionKey, Log>,
    order: VecDeque<Entry>,
    hot_bytes: usize,
    hot_bytes_max: usize,
    last_id: u64,
    applied_id: u64,
    /// Batches that were put in the places of damaged ones, until redb has them.
    mends: BTreeMap<(PartitionKey, Offset), Hot>,
    /// How often some of them went to redb.
    mends_applied: u64,
}

impl Memory {
    /// As the volume has it, nothing hot.
    pub(super) fn new(replicas: &BTreeMap<PartitionKey, Box<Replica>>, hot_bytes_max: usize) -> Self {
        let log = |replica: &Replica| Log {
            number: replica.row.number,
            turns: replica.turns,
            start: replica.row.start,
            end: replica.row.end,
            vector: replica.row.vector.clone(),
            high_watermark: replica.row.high_watermark,
            stored_bytes: replica.row.bytes,
            ..Log::default()
        };
        let logs = replicas.iter().map(|(key, replica)| (*key, log(replica))).collect();
        let mends = BTreeMap::new();
        Self {
            logs,
            order: VecDeque::new(),
            hot_bytes: 0,
            hot_bytes_max,
            last_id: 0,
            applied_id: 0,
            mends,
            mends_applied: 0,
        }
    }

    /// Whether these may be queued in this order; all or none are.
    pub(super) fn check(&self, ops: &[Op]) -> Result<(), WriteError> {
        // Where earlier writes of the same call will leave each log.
        let mut ahead: HashMap<PartitionKey, Ahead> = HashMap::new();
        let cut: HashSet<PartitionKey> = ops
            .iter()
            .filter_map(|op| match op {
                Op::Write(key, Write::Cut { .. } | Write::SetAside { .. }) => Some(*key),
                _ => None,
            })
            .collect();
        for op in ops {
            let Op::Write(key, write) = op else { continue };
            ahead
                .entry(*key)
                .or_insert_with(|| {
                    self.logs.get(key).map_or_else(Ahead::default, |log| log.ahead(cut.contains(key)))
                })
                .check(*key, write)?;
        }
        Ok(())
    }

    /// Notes a checked operation; gives its place in the order of appends.
    pub(super) fn take(&mut self, op: &Op) -> u64 {
        let Op::Write(key, write) = op else { return self.last_id };
        self.forget_mends(*key, write);
        let log = self.logs.entry(*key).or_default();
        match write {
            Write::Append(batch) => {
                self.last_id += 1;
                log.vector.note(batch.term(), batch.base());
                log.end = batch.end();
                log.marks.append(batch.end(), batch.size() as u64);
                if log.hot.is_empty() {
                    // Many logs have one batch here for a long time.
                    log.hot.reserve_exact(1);
                }
                log.hot.push_back(Hot { id: self.last_id, batch: batch.clone() });
                self.hot_bytes += batch.size();
                self.order.push_back(Entry { key: *key, id: self.last_id });
                self.evict();
            }
            Write::Cut { to } | Write::SetAside { to, .. } => {
                log.turns += 1;
                while let Some(hot) = log.hot.pop_back_if(|hot| hot.batch.end() > *to) {
                    self.hot_bytes -= hot.batch.size();
                }
                log.tidy();
                log.marks = Marks::default();
                log.end = log.end.min(*to);
                log.vector.cut(*to);
                log.high_watermark = log.high_watermark.min(*to);
            }
            Write::Reset { start, vector, .. } => {
                self.hot_bytes -= log.leave();
                (log.start, log.end, log.high_watermark) = (*start, *start, *start);
                log.vector = vector.clone();
            }
            Write::LogStart(start) => {
                log.start = log.start.max((*start).min(log.end));
                log.high_watermark = log.high_watermark.max(log.start);
                log.marks.forget_below(log.start);
                while let Some(hot) =
                    log.hot.pop_front_if(|hot| hot.batch.end() <= log.start && hot.id <= self.applied_id)
                {
                    self.hot_bytes -= hot.batch.size();
                }
                log.tidy();
            }
            Write::Mend(batch) => {
                if batch.base() >= log.start && batch.end() <= log.end {
                    self.last_id += 1;
                    self.mends.insert((*key, batch.base()), Hot { id: self.last_id, batch: batch.clone() });
                }
            }
            Write::Promise(_) | Write::Mark { .. } | Write::ForgetAside => {}
            Write::Release => self.hot_bytes -= log.leave(),
        }
        self.last_id
    }

    /// What a cut or a new log leaves behind is not to be read any more.
    fn forget_mends(&mut self, key: PartitionKey, write: &Write) {
        let from = match write {
            Write::Cut { to } | Write::SetAside { to, .. } => *to,
            Write::Reset { .. } | Write::Release => Offset::ZERO,
            Write::Append(_)
            | Write::Mend(_)
            | Write::Promise(_)
            | Write::LogStart(_)
            | Write::Mark { .. }
            | Write::ForgetAside => {
                return;
            }
        };
        self.mends.retain(|(of, _), hot| *of != key || hot.batch.end() <= from);
    }

    /// Rises when redb gets some of the batches that [`mend_at`](Self::mend_at) tells of no more: a read of before is out of date.
    pub(super) fn mends_applied(&self) -> u64 {
        self.mends_applied
    }

    /// A batch that was put in the place of a damaged one, and holds `at`, if redb does not have it yet.
    pub(super) fn mend_at(&self, key: PartitionKey, at: Offset) -> Option<Batch> {
        let (_, hot) = self.mends.range((key, Offset::ZERO)..=(key, at)).next_back()?;
        (hot.batch.end() > at).then(|| hot.batch.clone())
    }

    /// Everything up to this append is in redb.
    pub(super) fn applied(&mut self, id: u64, stored_bytes: impl Iterator<Item = (PartitionKey, u64)>) {
        self.applied_id = self.applied_id.max(id);
        let waiting = self.mends.len();
        self.mends.retain(|_, hot| hot.id > self.applied_id);
        self.mends_applied += u64::from(self.mends.len() < waiting);
        for (key, bytes) in stored_bytes {
            if let Some(log) = self.logs.get_mut(&key) {
                log.stored_bytes = bytes;
            }
        }
        self.evict();
    }

    /// Lets the oldest go until the bounds hold; what is not applied stays.
    fn evict(&mut self) {
        while let Some(first) = self.order.front() {
            let over = self.hot_bytes > self.hot_bytes_max || self.order.len() > HOT_BATCHES_MAX;
            if !over || first.id > self.applied_id {
                return;
            }
            // A cut or a reset may have taken it already.
            if let Some(log) = self.logs.get_mut(&first.key)
                && let Some(gone) = log.hot.pop_front_if(|hot| hot.id == first.id)
            {
                self.hot_bytes -= gone.batch.size();
                log.tidy();
            }
            self.order.pop_front();
        }
    }

    /// Bytes of batches in memory.
    pub(super) fn hot_bytes(&self) -> usize {
        self.hot_bytes
    }

    /// Where a log is to begin for at most so many bytes to stay, if what came to it tells.
    pub(super) fn keeping(&self, key: PartitionKey, bytes_max: u64) -> Option<Offset> {
        self.logs.get(&key)?.marks.keeping(bytes_max)
    }

    /// Where a log stands.
    pub(super) fn place(&self, key: PartitionKey) -> Option<Place> {
        let log = self.logs.get(&key)?;
        Some(Place {
            number: log.number,
            turns: log.turns,
            start: log.start,
            end: log.end,
            high_watermark: log.high_watermark,
            hot_from: log.hot_from(),
            stored_bytes: log.stored_bytes,
        })
    }

    /// Batches from memory; `None` if the one that holds `from` is not there.
    pub(super) fn read(
        &self,
        key: PartitionKey,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Option<Vec<Batch>> {
        let log = self.logs.get(&key)?;
        if from < log.hot_from().max(log.start) {
            return None;
        }
        let first = log.hot.partition_point(|hot| hot.batch.end() <= from);
        let mut bytes = 0;
        let mut found = Vec::new();
        for hot in log.hot.range(first..) {
            bytes += hot.batch.size();
            if hot.batch.end() > until || (bytes > bytes_max && !found.is_empty()) {
                break;
            }
            found.push(hot.batch.clone());
        }
        Some(found)
    }

    /// How far a log is committed.
    pub(super) fn note_high_watermark(&mut self, key: PartitionKey, high_watermark: Offset) {
        if let Some(log) = self.logs.get_mut(&key)
            && high_watermark > log.high_watermark
        {
            log.high_watermark = high_watermark.min(log.end);
            log.noted = true;
        }
    }

    /// Whether [`take_notes`](Self::take_notes) would give any.
    pub(super) fn has_notes(&self) -> bool {
        self.logs.values().any(|log| log.noted)
    }

    /// High watermarks that rose since they were last taken.
    pub(super) fn take_notes(&mut self) -> Vec<Note> {
        let noted = self.logs.iter_mut().filter(|(_, log)| log.noted);
        let taken = noted.map(|(key, log)| {
            log.noted = false;
            Note { key: *key, turns: log.turns, high_watermark: log.high_watermark }
        });
        taken.collect()
    }
}

impl Log {
    /// Where it stands; of the vector only the last line, unless a cut will need the others.
    fn ahead(&self, whole: bool) -> Ahead {
        let starts = self.vector.starts();
        let shown = if whole { starts } else { &starts[starts.len().saturating_sub(1)..] };
        let vector = TermVector::new(shown.to_vec()).expect("a part of a vector rises like the whole");
        Ahead { start: self.start, end: self.end, vector }
    }

    /// Begins the next log; gives the bytes that leave memory.
    fn leave(&mut self) -> usize {
        let bytes = self.hot.iter().map(|hot| hot.batch.size()).sum();
        let (number, turns) = (self.number + 1, self.turns + 1);
        *self = Self { number, turns, ..Self::default() };
        bytes
    }
}

/// Where a log will stand behind the writes that were checked.
#[derive(Debug, Default)]
struct Ahead {
    start: Offset,
    end: Offset,
    vector: TermVector,
}

impl Ahead {
    fn check(&mut self, key: PartitionKey, write: &Write) -> Result<(), WriteError> {
        let wrong = |base, end, what| Err(WriteError::OutOfPlace { key, base, end, what });
        match write {
            Write::Append(batch) => {
                if batch.base() != self.end {
                    return wrong(batch.base(), self.end, "it begins elsewhere");
                }
                if !continues(&self.vector, batch) {
                    return wrong(batch.base(), self.end, "its term is below the last, or its twin");
                }
                self.vector.note(batch.term(), batch.base());
                self.end = batch.end();
            }
            Write::Cut { to } | Write::SetAside { to, .. } => {
                if *to < self.start {
                    return wrong(*to, self.end, "a cut below the log's start");
                }
                if let Write::SetAside { producers, .. } = write
                    && ProducerTable::decode(producers).is_err()
                {
                    return wrong(
                        *to,
                        self.end,
                        "the producers' table of a log that is set aside does not parse",
                    );
                }
                self.end = self.end.min(*to);
                self.vector.cut(*to);
            }
            Write::Reset { start, vector, producers } => {
                if ProducerTable::decode(producers).is_err() {
                    return wrong(*start, self.end, "the producers' table of a reset does not parse");
                }
                *self = Self { start: *start, end: *start, vector: vector.clone() };
            }
            Write::LogStart(start) => self.start = self.start.max((*start).min(self.end)),
            Write::Mend(_) | Write::Promise(_) | Write::Mark { .. } | Write::ForgetAside => {}
            Write::Release => *self = Self::default(),
        }
        Ok(())
    }
}
