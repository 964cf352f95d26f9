//! A volume: what is synced survives a crash, what is not may or may not, and the last commit may be lost with a mark.

use std::collections::VecDeque;

use fulmar_core::batch::Batch;
use fulmar_core::id::Incarnation;
use fulmar_core::offset::Offset;
use fulmar_core::partition::{ProducerTable, Promise, Recovered, Write, WriteSeq};
use fulmar_core::term::{BootId, Process, Session, TermVector};

use crate::random::Random;

/// What a volume holds of the partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) exists: bool,
    pub(crate) promise: Promise,
    pub(crate) batches: VecDeque<Batch>,
    pub(crate) vector: TermVector,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) producers: ProducerTable,
    pub(crate) uncertain: bool,
    append_time_ms: u64,
}

impl State {
    fn apply(&mut self, write: &Write) {
        self.exists = true;
        match write {
            Write::Append(batch) => {
                assert_eq!(batch.base(), self.end, "appended where the log does not end");
                self.vector.note(batch.term(), batch.base());
                self.producers.note(batch);
                self.append_time_ms = self.append_time_ms.max(batch.append_time_ms());
                self.end = batch.end();
                self.batches.push_back(batch.clone());
            }
            Write::Cut { to } => {
                self.batches.retain(|batch| batch.base() < *to);
                self.vector.cut(*to);
                self.producers.cut(*to);
                self.end = *to;
            }
            Write::Reset { start, vector, producers } => {
                self.batches.clear();
                self.vector = vector.clone();
                (self.start, self.end, self.high_watermark) = (*start, *start, *start);
                self.producers = ProducerTable::decode(producers).expect("core wrote it");
            }
            Write::Promise(promise) => self.promise = promise.clone(),
            Write::LogStart(start) => {
                self.batches.retain(|batch| batch.base() >= *start);
                self.start = *start;
                self.high_watermark = self.high_watermark.max(*start);
            }
            Write::Mend(batch) => {
                if let Ok(at) = self.batches.binary_search_by_key(&batch.base(), Batch::base) {
                    assert_eq!(&self.batches[at], batch, "another batch under the same term and offset");
                }
            }
            Write::Mark { uncertain } => self.uncertain = *uncertain,
            Write::Release => {
                let promise = self.promise.clone();
                let append_time_ms = self.append_time_ms;
                *self = Self { exists: true, promise, append_time_ms, ..Self::default() };
            }
        }
    }

    /// The batch at `base`.
    pub(crate) fn batch(&self, base: Offset) -> Option<&Batch> {
        let at = self.batches.binary_search_by_key(&base, Batch::base).ok()?;
        self.batches.get(at)
    }

    pub(crate) fn recovered(&self) -> Recovered {
        Recovered {
            promise: self.promise.clone(),
            vector: self.vector.clone(),
            log_start: self.start,
            log_end: self.end,
            high_watermark: self.high_watermark,
            append_time_ms: self.append_time_ms,
            producers: self.producers.encode(),
            uncertain: self.uncertain,
        }
    }
}

/// One broker's volume.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) incarnation: Incarnation,
    pub(crate) processes: Vec<Process>,
    /// Survives.
    pub(crate) durable: State,
    /// Before the last commit …
    previous: State,
    /// … which was this.
    last_group: Vec<Write>,
    /// With everything that was written.
    pub(crate) written: State,
    pending: VecDeque<(WriteSeq, Write)>,
    pub(crate) sync_is_due: bool,
}

impl Disk {
    pub(crate) fn new(incarnation: u128) -> Self {
        Self {
            incarnation: Incarnation(incarnation),
            processes: Vec::new(),
            durable: State::default(),
            previous: State::default(),
            last_group: Vec::new(),
            written: State::default(),
            pending: VecDeque::new(),
            sync_is_due: false,
        }
    }

    pub(crate) fn write(&mut self, seq: WriteSeq, write: Write) {
        self.written.apply(&write);
        self.pending.push_back((seq, write));
    }

    pub(crate) fn high_watermark(&mut self, offset: Offset) {
        self.written.high_watermark = self.written.high_watermark.max(offset);
    }

    /// Syncs some of what waits, in order.
    pub(crate) fn sync(&mut self, random: &mut Random) -> Option<WriteSeq> {
        let count = random.between(1, self.pending.len().max(1) as u64);
        self.commit(count as usize)
    }

    fn commit(&mut self, count: usize) -> Option<WriteSeq> {
        let group: Vec<(WriteSeq, Write)> = self.pending.drain(..count.min(self.pending.len())).collect();
        let last = group.last()?.0;
        for write in std::mem::take(&mut self.last_group) {
            self.previous.apply(&write);
        }
        self.previous.high_watermark = self.durable.high_watermark;
        for (_, write) in group {
            self.durable.apply(&write);
            self.last_group.push(write);
        }
        let known = self.written.high_watermark.min(self.durable.end);
        self.durable.high_watermark = self.durable.high_watermark.max(known);
        Some(last)
    }

    /// Syncs all that waits.
    pub(crate) fn sync_all(&mut self) {
        self.commit(self.pending.len());
    }

    /// What was not synced will not survive.
    pub(crate) fn forget_pending(&mut self) {
        self.pending.clear();
    }

    /// Whether such a write waits for its sync.
    pub(crate) fn is_about_to(&self, what: impl Fn(&Write) -> bool) -> bool {
        self.pending.iter().any(|(_, write)| what(write))
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The process is gone. What was not synced may have reached the disk, from its front; the last commit may be lost.
    pub(crate) fn crash(&mut self, random: &mut Random, drops_commit: bool) {
        if random.chance(300) {
            let count = random.between(0, self.pending.len() as u64);
            self.commit(count as usize);
        }
        self.pending.clear();
        self.sync_is_due = false;
        if drops_commit {
            // Promises are committed so that a step back of one commit does not reach them.
            let promise = self.durable.promise.clone();
            self.durable = State { promise, exists: self.durable.exists, ..self.previous.clone() };
            self.durable.uncertain = true;
        }
        self.last_group.clear();
        self.previous = self.durable.clone();
        self.written = self.durable.clone();
    }

    pub(crate) fn begin_session(&mut self, random: &mut Random) {
        let session = self.processes.last().map_or(1, |last| last.session.0 + 1);
        self.processes.push(Process { session: Session(session), boot: BootId(random.next()) });
    }

    /// Batches from `from`, not beyond `until`, as many whole ones as fit, at least one.
    pub(crate) fn read(&self, from: Offset, until: Offset, bytes_max: u64) -> Vec<Batch> {
        let mut size = 0;
        let mut batches = Vec::new();
        let first = self.written.batches.partition_point(|batch| batch.base() < from);
        for batch in self.written.batches.iter().skip(first).take_while(|batch| batch.end() <= until) {
            size += batch.size() as u64;
            if size > bytes_max && !batches.is_empty() {
                break;
            }
            batches.push(batch.clone());
        }
        batches
    }
}
