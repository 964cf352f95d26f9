//! A volume: what is synced survives a crash, what is not may or may not, and the last commit may be lost with a mark.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use fulmar_core::batch::Batch;
use fulmar_core::control::table::Page;
use fulmar_core::id::{ClusterId, Incarnation, PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{ProducerTable, Promise, Recovered, Write, WriteSeq};
use fulmar_core::term::{BootId, Process, Session, TermVector};

use crate::random::Random;

/// What a volume holds of one partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    pub(crate) promise: Promise,
    pub(crate) batches: VecDeque<Batch>,
    pub(crate) vector: TermVector,
    pub(crate) start: Offset,
    pub(crate) end: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) producers: ProducerTable,
    pub(crate) uncertain: bool,
    /// What was set aside, because a person gave it up.
    pub(crate) aside: Vec<Batch>,
    append_time_ms: u64,
}

impl State {
    fn apply(&mut self, write: &Write) {
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
            Write::SetAside { to, producers } => {
                assert!(*to >= self.start, "set aside from below the log's start");
                self.aside.extend(self.batches.iter().filter(|batch| batch.base() >= *to).cloned());
                self.batches.retain(|batch| batch.base() < *to);
                self.vector.cut(*to);
                self.producers = ProducerTable::decode(producers).expect("core wrote it");
                self.end = *to;
                self.high_watermark = self.high_watermark.min(*to);
            }
            Write::ForgetAside => self.aside.clear(),
            Write::Promise(promise) => self.promise = promise.clone(),
            Write::LogStart(start) => {
                self.batches.retain(|batch| batch.base() >= *start);
                self.start = *start;
                self.high_watermark = self.high_watermark.max(*start);
            }
            Write::Mend(batch) => {
                if let Some(there) = self.batch(batch.base()) {
                    assert_eq!(there, batch, "another batch under the same term and offset");
                }
            }
            Write::Mark { uncertain } => self.uncertain = *uncertain,
            Write::Release => {
                let promise = self.promise.clone();
                let append_time_ms = self.append_time_ms;
                let aside = std::mem::take(&mut self.aside);
                *self = Self { promise, aside, append_time_ms, ..Self::default() };
            }
        }
    }

    /// The batch at `base`.
    pub(crate) fn batch(&self, base: Offset) -> Option<&Batch> {
        let at = self.batches.binary_search_by_key(&base, Batch::base).ok()?;
        self.batches.get(at)
    }

    fn recovered(&self) -> Recovered {
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

/// A page of the table as a broker keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPage {
    pub(crate) controller_epoch: u64,
    pub(crate) revision: u64,
    pub(crate) page: Page,
}

impl StoredPage {
    pub(crate) fn order(&self) -> (u64, u64) {
        (self.controller_epoch, self.revision)
    }
}

/// Everything that a volume holds, as of some moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contents {
    pub(crate) states: BTreeMap<PartitionKey, State>,
    pub(crate) pages: BTreeMap<u32, StoredPage>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write(PartitionKey, WriteSeq, Write),
    /// For the stream that brought it.
    Page(u64, StoredPage),
}

impl Contents {
    fn apply(&mut self, one: &Pending) {
        match one {
            Pending::Write(key, _, write) => self.states.entry(*key).or_default().apply(write),
            Pending::Page(_, page) => drop(self.pages.insert(page.page.number, page.clone())),
        }
    }

    fn high_watermark(&self, key: PartitionKey) -> Offset {
        self.states.get(&key).map(|state| state.high_watermark).unwrap_or_default()
    }
}

/// What a sync made durable.
#[derive(Debug, Default)]
pub(crate) struct Synced {
    pub(crate) writes: BTreeMap<PartitionKey, WriteSeq>,
    /// Pages, with the streams that brought them.
    pub(crate) pages: Vec<(u64, StoredPage)>,
}

/// One broker's volume.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) incarnation: Incarnation,
    /// Of the claim behind it: a copy has another one.
    pub(crate) uid: u64,
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) processes: Vec<Process>,
    /// Survives.
    pub(crate) durable: Contents,
    /// Before the last commit …
    previous: Contents,
    /// … which was this.
    last_group: Vec<Pending>,
    /// With everything that was written.
    pub(crate) written: Contents,
    pending: VecDeque<Pending>,
    pub(crate) sync_is_due: bool,
    /// Batches with a flipped bit, by where they begin.
    rotten: BTreeSet<(PartitionKey, Offset)>,
    /// The last process that was seen of each peer's volume.
    pub(crate) seen: BTreeMap<ReplicaId, Process>,
}

impl Disk {
    /// Whether a log was set aside here, as far as was written.
    pub(crate) fn keeps_copies(&self) -> bool {
        self.written.states.values().any(|state| !state.aside.is_empty())
    }

    pub(crate) fn new(incarnation: u128, uid: u64) -> Self {
        Self {
            incarnation: Incarnation(incarnation),
            uid,
            cluster: None,
            processes: Vec::new(),
            durable: Contents::default(),
            previous: Contents::default(),
            last_group: Vec::new(),
            written: Contents::default(),
            pending: VecDeque::new(),
            sync_is_due: false,
            rotten: BTreeSet::new(),
            seen: BTreeMap::new(),
        }
    }

    pub(crate) fn write(&mut self, key: PartitionKey, seq: WriteSeq, write: Write) {
        self.push(Pending::Write(key, seq, write));
    }

    pub(crate) fn write_page(&mut self, stream: u64, page: StoredPage) {
        self.push(Pending::Page(stream, page));
    }

    fn push(&mut self, one: Pending) {
        self.written.apply(&one);
        self.pending.push_back(one);
    }

    pub(crate) fn high_watermark(&mut self, key: PartitionKey, offset: Offset) {
        let state = self.written.states.entry(key).or_default();
        state.high_watermark = state.high_watermark.max(offset);
    }

    /// Syncs some of what waits, in order.
    pub(crate) fn sync(&mut self, random: &mut Random) -> Synced {
        let count = random.between(1, self.pending.len().max(1) as u64);
        self.commit(count as usize)
    }

    fn commit(&mut self, count: usize) -> Synced {
        let group: Vec<Pending> = self.pending.drain(..count.min(self.pending.len())).collect();
        let mut synced = Synced::default();
        if group.is_empty() {
            return synced;
        }
        for one in std::mem::take(&mut self.last_group) {
            self.previous.apply(&one);
        }
        for (key, state) in &mut self.previous.states {
            state.high_watermark = self.durable.high_watermark(*key);
        }
        for one in group {
            self.durable.apply(&one);
            match &one {
                Pending::Write(key, seq, write) => {
                    if let Write::Append(batch) | Write::Mend(batch) = write {
                        self.rotten.remove(&(*key, batch.base()));
                    }
                    synced.writes.insert(*key, *seq);
                }
                Pending::Page(stream, page) => synced.pages.push((*stream, page.clone())),
            }
            self.last_group.push(one);
        }
        for (key, state) in &mut self.durable.states {
            let known = self.written.high_watermark(*key).min(state.end);
            state.high_watermark = state.high_watermark.max(known);
        }
        synced
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
        self.pending.iter().any(|one| matches!(one, Pending::Write(_, _, write) if what(write)))
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
            self.step_back();
        }
        self.last_group.clear();
        self.previous = self.durable.clone();
        self.written = self.durable.clone();
    }

    /// The last commit never was. Promises are committed so that a step back of one commit does not reach them.
    fn step_back(&mut self) {
        let after = std::mem::replace(&mut self.durable, self.previous.clone());
        for (key, state) in after.states {
            let before = self.durable.states.entry(key).or_default();
            before.promise = state.promise;
            before.uncertain = true;
        }
    }

    pub(crate) fn begin_session(&mut self, random: &mut Random) {
        let session = self.processes.last().map_or(1, |last| last.session.0 + 1);
        self.processes.push(Process { session: Session(session), boot: BootId(random.next()) });
    }

    pub(crate) fn recovered(&self) -> Vec<(PartitionKey, Recovered)> {
        self.durable.states.iter().map(|(key, state)| (*key, state.recovered())).collect()
    }

    /// A bit flips in the batch at `base`.
    pub(crate) fn rot(&mut self, key: PartitionKey, base: Offset) {
        self.rotten.insert((key, base));
    }

    pub(crate) fn is_rotten(&self, key: PartitionKey, base: Offset) -> bool {
        self.rotten.contains(&(key, base))
    }

    /// The damaged batches of the logs.
    pub(crate) fn damaged(&self) -> Vec<(PartitionKey, Offset)> {
        let is_there = |(key, base): &&(PartitionKey, Offset)| {
            self.durable.states.get(key).is_some_and(|state| state.batch(*base).is_some())
        };
        self.rotten.iter().filter(is_there).copied().collect()
    }

    /// Batches from `from`, not beyond `until`, as many whole ones as fit, at least one; or where the first one is, if it is
    /// damaged.
    pub(crate) fn read(
        &self,
        key: PartitionKey,
        from: Offset,
        until: Offset,
        bytes_max: u64,
    ) -> Result<Vec<Batch>, Offset> {
        let mut size = 0;
        let mut batches = Vec::new();
        let Some(state) = self.written.states.get(&key) else { return Ok(batches) };
        let first = state.batches.partition_point(|batch| batch.end() <= from);
        for batch in state.batches.iter().skip(first).take_while(|batch| batch.end() <= until) {
            if self.is_rotten(key, batch.base()) {
                return if batches.is_empty() { Err(batch.base()) } else { Ok(batches) };
            }
            size += batch.size() as u64;
            if size > bytes_max && !batches.is_empty() {
                break;
            }
            batches.push(batch.clone());
        }
        Ok(batches)
    }
}
