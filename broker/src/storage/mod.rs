//! What one broker keeps on its volume: journal, memory, redb.
//!
//! Owns the data folder and every byte in it (`FORMAT.md`, to the byte), the order in which writes become durable, and
//! what is told about them after a crash. Never decides what to write, never talks to a peer, never retries a failed
//! call to the disk.
//!
//! The way of a batch: [`Storage::write`] puts it into memory, where reads find it at once, and into the queue of the
//! journal's thread, which writes a group with one call, syncs it once and tells [`StorageEvent::Durable`]. The
//! applier's thread packs it into redb later; then its place in the journal may be reused.

mod applier;
mod blocking;
mod bytes;
mod committer;
mod config;
mod error;
#[cfg(debug_assertions)]
pub(crate) mod faulty_disk;
mod flipped;
pub mod fuzzed;
mod identity;
pub mod inspect;
mod journal;
mod marks;
mod memory;
mod op;
mod promise;
mod reading;
mod recovery;
mod room;
pub mod seam;
mod shared;
mod tables;
#[cfg(test)]
mod tests;
mod volume;

use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use fulmar_core::batch::Batch;
use fulmar_core::id::{ClusterId, Incarnation, Ordinal, PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Recovered, Write, WriteSeq};
use fulmar_core::term::Process;

use parking_lot::Mutex;
use tokio::sync::{SemaphorePermit, TryAcquireError, oneshot};

use self::committer::{Queued, Told};
pub use self::config::{Expectations, SLOT_BYTES_MIN, StorageConfig};
pub use self::error::{ADVICE, OpenError, ReadError, RotKind, TryWriteError, WriteError};
use self::op::Op;
pub use self::reading::LetGo;
pub use self::room::Fullness;
use self::seam::Files;
use self::shared::Shared;

/// Who this volume says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The Cluster, once told.
    pub cluster: Option<ClusterId>,
    /// The broker's place.
    pub ordinal: Ordinal,
    /// This life of the volume.
    pub incarnation: Incarnation,
    /// The last 256 processes on this volume, oldest first; the last one is the one that opened it.
    pub processes: Vec<Process>,
}

/// A page of the partition table, as the operator pushed it. Its lines are opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Which.
    pub number: u32,
    /// The newest wins; that is the caller's to see to.
    pub revision: u64,
    /// One partition a line.
    pub lines: Vec<String>,
}

/// What a volume held when it was opened.
#[derive(Debug)]
pub struct Opened {
    /// Who it is, this process included.
    pub identity: Identity,
    /// Each replica, tombstones included.
    pub replicas: Vec<(PartitionKey, Recovered)>,
    /// The partition table's pages.
    pub pages: Vec<Page>,
    /// The last process that was seen of each peer.
    pub peers: Vec<(ReplicaId, Process)>,
    /// Damaged stretches of one or more batches, each log's lowest first, that were met while its producers' table was brought
    /// up to date, now or before: what they say of their producers is missing in the table.
    pub damaged: Vec<(PartitionKey, Range<Offset>)>,
    /// How many bytes of the journal were replayed, for the log line at the start.
    pub replayed_bytes: u64,
}

/// Something that the storage tells. Told from the storage's own threads: the receiver must not block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageEvent {
    /// All writes of these replicas up to these are synced.
    Durable(Vec<(PartitionKey, WriteSeq)>),
    /// Whether there is room for appends; told when it changes.
    Room(bool),
    /// A write or a sync failed. The process must end, without another sync: what the page cache says is a lie now.
    Fatal(String),
}

/// Counters that move as long as the storage's threads do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Of the journal's thread: moves at least every 100 ms. Standing still for 2 s is a dead broker.
    pub journal: u64,
    /// Of the applier: moves at least every 100 ms but for commits.
    pub applier: u64,
}

/// The open volume; a handle that can be cloned. Dropping the last one without [`close`](Self::close) stops like a crash.
///
/// The receiver of events must not own a handle: the threads that tell it would wait for themselves.
#[derive(Debug, Clone)]
pub struct Storage {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Owner {
    fn join(&self) {
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // A panic has been told as fatal, by the thread itself.
            drop(thread.join());
        }
        drop(self.shared.database.lock().take());
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.stop();
        self.shared.queue.abandon();
        self.join();
        drop(self.shared.lock.lock().take());
    }
}

impl Storage {
    /// Locks and opens the volume, raises its session, replays its journal and syncs. Blocks for as long as that takes.
    pub fn open(
        config: &StorageConfig,
        expectations: &Expectations,
        events: impl Fn(StorageEvent) + Send + Sync + 'static,
    ) -> Result<(Storage, Opened), OpenError> {
        Self::open_in(Arc::new(seam::SystemFiles), config, expectations, events)
    }

    /// The same on other files than the operating system's.
    pub fn open_in(
        files: Arc<dyn Files>,
        config: &StorageConfig,
        expectations: &Expectations,
        events: impl Fn(StorageEvent) + Send + Sync + 'static,
    ) -> Result<(Storage, Opened), OpenError> {
        let running = recovery::open(config, files, expectations, Box::new(events))?;
        let owner = Owner { shared: running.shared, threads: Mutex::new(running.threads) };
        Ok((Self { owner: Arc::new(owner) }, running.opened))
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    /// Queues writes, in order; waits while too much is unapplied. They can be read at once, and are durable when
    /// [`StorageEvent::Durable`] says so. Writes of one partition come from one task at a time.
    ///
    /// Dropping the future before it is ready takes back the whole call.
    pub async fn write(&self, writes: Vec<(PartitionKey, WriteSeq, Write)>) -> Result<(), WriteError> {
        let (ops, told) = of_replicas(writes);
        self.queue(ops, told).await
    }

    /// The same without waiting: [`TryWriteError::Full`] instead, with nothing taken.
    pub fn try_write(&self, writes: &[(PartitionKey, WriteSeq, Write)]) -> Result<(), TryWriteError> {
        let (ops, told) = of_replicas(writes.to_vec());
        let permits = self.needed(&ops)?;
        match self.shared().permits.try_acquire_many(permits) {
            Ok(held) => Ok(self.enqueue(ops, told, held)?),
            Err(TryAcquireError::NoPermits) => Err(TryWriteError::Full),
            Err(TryAcquireError::Closed) => Err(TryWriteError::Refused(self.shared().stopped())),
        }
    }

    /// The same for a thread that may block; never call it from an asynchronous task.
    pub fn write_blocking(&self, writes: Vec<(PartitionKey, WriteSeq, Write)>) -> Result<(), WriteError> {
        blocking::wait(self.write(writes))
    }

    /// Queues one operation and waits until it is durable.
    async fn write_one(&self, op: Op) -> Result<(), WriteError> {
        let (sender, durable) = oneshot::channel();
        self.queue(vec![op], vec![Told::Caller(sender)]).await?;
        durable.await.map_err(|_| self.shared().stopped())
    }

    async fn queue(&self, ops: Vec<Op>, told: Vec<Told>) -> Result<(), WriteError> {
        let permits = self.needed(&ops)?;
        let held = self.shared().acquire(permits).await?;
        self.enqueue(ops, told, held)
    }

    /// The permits of these operations; what is larger than all there are takes all.
    fn needed(&self, ops: &[Op]) -> Result<u32, WriteError> {
        let bytes_max = self.shared().op_bytes_max;
        if let Some(large) = ops.iter().find(|op| op.weight() > bytes_max) {
            let (key, bytes) = (large.key(), large.weight());
            return Err(WriteError::TooLarge { key, bytes, bytes_max });
        }
        let bytes = ops.iter().map(Op::weight).sum::<usize>().min(self.shared().permits_max);
        Ok(u32::try_from(bytes).expect("the bound on unapplied bytes is at most 1 GiB"))
    }

    /// Puts operations into memory and queue, in one order for both.
    fn enqueue(&self, ops: Vec<Op>, told: Vec<Told>, held: SemaphorePermit<'_>) -> Result<(), WriteError> {
        let shared = self.shared();
        let mut permits = held.num_permits();
        let mut memory = shared.memory.lock();
        memory.check(&ops)?;
        if shared.has_failed() || shared.is_closing() {
            return Err(shared.stopped());
        }
        if ops.iter().any(|op| matches!(op, Op::Write(_, Write::SetAside { .. }))) {
            shared.note_copy();
        }
        let last = ops.len().saturating_sub(1);
        let queued = ops.into_iter().zip(told).enumerate().map(|(at, (op, told))| {
            let id = memory.take(&op);
            // Each gives back its own, for they may be applied in several steps.
            let own = if at == last { permits } else { op.weight().min(permits) };
            permits -= own;
            Queued { op, told, id, permits: own }
        });
        if !shared.queue.push(queued) {
            return Err(shared.stopped());
        }
        held.forget();
        Ok(())
    }

    /// Batches from the one that holds `from`, all ending at or below `until`, as many as fit `bytes_max`, at least one
    /// if there is one; from memory, never blocking. `None`: they are not in memory, ask [`read`](Self::read).
    pub fn read_hot(
        &self,
        key: PartitionKey,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Option<Vec<Batch>> {
        self.shared().read_hot(key, from, until, bytes_max)
    }

    /// The same, from memory or redb; blocks on the disk. Both checksums are checked. May give less than fits; empty
    /// only if nothing lies between `from` and `until`.
    pub fn read(
        &self,
        key: PartitionKey,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Batch>, ReadError> {
        self.shared().read(key, from, until, bytes_max)
    }

    /// The file that batches are read from, for people.
    pub fn records_path(&self) -> std::path::PathBuf {
        volume::path(&self.shared().dir)
    }

    /// The first batch appended at or after this time (milliseconds since 1970): its base and append time. A damaged batch
    /// passes for as young as the one behind it. Blocks.
    pub fn offset_at_time(&self, key: PartitionKey, at_ms: u64) -> Result<Option<(Offset, u64)>, ReadError> {
        self.shared().offset_at_time(key, at_ms)
    }

    /// Where the log should start for records older than `older_than_ms` (append time, since 1970) to go, and for it to
    /// keep at most `bytes_max`. Never above the stored high watermark. Goes in steps: ask again after
    /// [`Write::LogStart`], soon if there is more. Blocks.
    pub fn retention_candidate(
        &self,
        key: PartitionKey,
        older_than_ms: Option<u64>,
        bytes_max: Option<u64>,
    ) -> Result<LetGo, ReadError> {
        self.shared().retention_candidate(key, older_than_ms, bytes_max)
    }

    /// How often something was swept: rises as what retention let go of leaves the tables.
    pub fn sweeps(&self) -> u64 {
        self.shared().sweeps()
    }

    /// Bytes of batches that the log keeps, those that retention has yet to sweep included.
    pub fn log_bytes(&self, key: PartitionKey) -> u64 {
        self.shared().memory.lock().place(key).map_or(0, |place| place.stored_bytes)
    }

    /// [`Write::Mend`] alone: puts a batch that a peer sent in the place of a damaged copy. Resolves when it is durable.
    pub async fn mend(&self, key: PartitionKey, batch: Batch) -> Result<(), WriteError> {
        self.write_one(Op::Write(key, Write::Mend(batch))).await
    }

    /// How far the log is committed: the next transaction of redb stores min(it, what it applied). Costs no sync; a crash may
    /// forget it. (The producers' table is kept by the storage itself, from the batches.)
    pub fn note_high_watermark(&self, key: PartitionKey, high_watermark: Offset) {
        self.shared().memory.lock().note_high_watermark(key, high_watermark);
    }

    /// Stores a page of the partition table in the place of the one with its number. Resolves when it is durable.
    pub async fn put_page(&self, page: Page) -> Result<(), WriteError> {
        self.write_one(Op::Page(page)).await
    }

    /// Forgets a page. Resolves when it is durable.
    pub async fn drop_page(&self, number: u32) -> Result<(), WriteError> {
        self.write_one(Op::DropPage(number)).await
    }

    /// Stores the last process seen of a peer. Resolves when it is durable.
    pub async fn put_peer_seen(&self, peer: ReplicaId, process: Process) -> Result<(), WriteError> {
        self.write_one(Op::Peer(peer, process)).await
    }

    /// Writes the Cluster's id into the identity, synced. Refuses a second, other one. Blocks.
    pub fn adopt_cluster(&self, cluster: ClusterId) -> Result<(), OpenError> {
        let shared = self.shared();
        let mut identity = shared.identity.lock();
        let expectations = Expectations { ordinal: identity.ordinal, cluster: Some(cluster) };
        let mut adopted = identity.clone();
        adopted.check(&identity::path(&shared.dir), &expectations)?;
        identity::save(shared.files.as_ref(), &shared.dir, &adopted)?;
        *identity = adopted;
        Ok(())
    }

    /// Reads the identity from the volume again (who was refused by a peer compares it with its own). Blocks.
    pub fn identity(&self) -> Result<Identity, OpenError> {
        let shared = self.shared();
        // Not while it is being replaced.
        let _held = shared.identity.lock();
        match identity::load(shared.files.as_ref(), &shared.dir)? {
            Some(stored) => Ok(recovery::public(&stored)),
            None => Err(OpenError::Missing {
                path: identity::path(&shared.dir),
                why: "this process has the volume open",
            }),
        }
    }

    /// Marks the volume as a restored copy, synced: at the next start it becomes a new incarnation, and what it holds is
    /// set aside. Blocks.
    pub fn mark_restored(&self) -> Result<(), OpenError> {
        let shared = self.shared();
        let mut identity = shared.identity.lock();
        identity.restored = true;
        identity::save(shared.files.as_ref(), &shared.dir, &identity)
    }

    /// Whether appends should be taken: false below the reserve of free space, until there is a quarter more again.
    pub fn has_room(&self) -> bool {
        self.shared().has_room()
    }

    /// How full the volume is, as of the last look, at most a quarter of a second ago.
    pub fn fullness(&self) -> Fullness {
        self.shared().fullness()
    }

    /// Whether the volume keeps something beside its replicas, or has since it was opened: logs that were set aside because a person gave
    /// them up, or what belongs to the volume that this one is a copy of.
    pub fn keeps_copies(&self) -> bool {
        self.shared().keeps_copies()
    }

    /// Bytes of batches in memory.
    pub fn hot_bytes(&self) -> usize {
        self.shared().memory.lock().hot_bytes()
    }

    /// Whether no operation waits for redb any more, nor a high watermark to be taken there: for tests, which do not guess how long
    /// that takes.
    #[cfg(test)]
    fn is_applied(&self) -> bool {
        let shared = self.shared();
        shared.permits.available_permits() == shared.permits_max && !shared.memory.lock().has_notes()
    }

    /// See [`Heartbeat`].
    pub fn heartbeat(&self) -> Heartbeat {
        self.shared().heartbeat()
    }

    /// Applies everything, marks the stop as clean and releases the lock. Writes are refused from now on. Blocks.
    pub fn close(&self) -> Result<(), WriteError> {
        let shared = self.shared();
        shared.begin_closing();
        self.owner.join();
        if shared.has_failed() {
            return Err(shared.stopped());
        }
        let mut identity = shared.identity.lock();
        if shared.lock.lock().is_some() {
            identity.clean = true;
            let saved = identity::save(shared.files.as_ref(), &shared.dir, &identity);
            saved.map_err(|error| WriteError::Stopped(error.to_string()))?;
        }
        drop(shared.lock.lock().take());
        Ok(())
    }
}

/// Writes as operations, each told to its replica.
fn of_replicas(writes: Vec<(PartitionKey, WriteSeq, Write)>) -> (Vec<Op>, Vec<Told>) {
    let split = |(key, seq, write)| (Op::Write(key, write), Told::Replica(key, seq));
    writes.into_iter().map(split).unzip()
}
