//! What one broker keeps on its volume: journal, memory, redb.
//!
//! Owns the data folder and every byte in it (`FORMAT.md`, to the byte), the order in which writes become durable, and
//! what is told about them after a crash. Never decides what to write, never talks to a peer, never retries a failed
//! call to the disk.
//!
//! The way of a batch: [`Storage::write`] puts it into memory, where reads find it at once, and into the queue of the
//! journal's thread, which writes a group with one call, syncs it once and tells [`StorageEvent::Durable`]. The
//! applier's thread packs it into redb later; then its place in the journal may be reused.

mod config;
mod error;

use std::sync::Arc;

use fulmar_core::batch::Batch;
use fulmar_core::id::{ClusterId, Incarnation, Ordinal, PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Recovered, Write, WriteSeq};
use fulmar_core::term::Process;

pub use self::config::{Expectations, SLOT_BYTES_MIN, StorageConfig};
pub use self::error::{OpenError, ReadError, RotKind, TryWriteError, WriteError};

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

/// The open volume; a handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Storage {
    shared: Arc<()>,
}

impl Storage {
    /// Locks and opens the volume, raises its session, replays its journal and syncs. Blocks for as long as that takes.
    pub fn open(
        config: StorageConfig,
        expectations: Expectations,
        events: impl Fn(StorageEvent) + Send + Sync + 'static,
    ) -> Result<(Storage, Opened), OpenError> {
        todo!()
    }

    /// Queues writes, in order; waits while too much is unapplied. They can be read at once, and are durable when
    /// [`StorageEvent::Durable`] says so. Writes of one partition come from one task at a time.
    pub async fn write(&self, writes: Vec<(PartitionKey, WriteSeq, Write)>) -> Result<(), WriteError> {
        todo!()
    }

    /// The same without waiting: [`TryWriteError::Full`] instead.
    pub fn try_write(&self, writes: Vec<(PartitionKey, WriteSeq, Write)>) -> Result<(), TryWriteError> {
        todo!()
    }

    /// The same for a thread that may block.
    pub fn write_blocking(&self, writes: Vec<(PartitionKey, WriteSeq, Write)>) -> Result<(), WriteError> {
        todo!()
    }

    /// Batches from the one that holds `from`, all ending at or below `until`, as many as fit `bytes_max`, at least one
    /// if there is one; from memory, never blocking. `None`: they are not in memory, ask [`read`](Self::read).
    pub fn read_hot(&self, key: PartitionKey, from: Offset, until: Offset, bytes_max: usize) -> Option<Vec<Batch>> {
        todo!()
    }

    /// The same, from memory or redb; blocks on the disk. Both checksums are checked. May give less than fits; empty
    /// only if nothing lies between `from` and `until`.
    pub fn read(&self, key: PartitionKey, from: Offset, until: Offset, bytes_max: usize) -> Result<Vec<Batch>, ReadError> {
        todo!()
    }

    /// The first batch appended at or after this time (milliseconds since 1970): its base and append time. Blocks.
    pub fn offset_at_time(&self, key: PartitionKey, at_ms: u64) -> Result<Option<(Offset, u64)>, ReadError> {
        todo!()
    }

    /// Where the log should start for records older than `older_than_ms` (append time, since 1970) to go, and for it to
    /// keep at most `bytes_max`; `None` if nothing has to go. Never above the stored high watermark. Goes in
    /// steps: ask again after [`Write::LogStart`]. Blocks.
    pub fn retention_candidate(
        &self,
        key: PartitionKey,
        older_than_ms: Option<u64>,
        bytes_max: Option<u64>,
    ) -> Result<Option<Offset>, ReadError> {
        todo!()
    }

    /// Bytes of batches that the log keeps, those that retention has yet to sweep included.
    pub fn log_bytes(&self, key: PartitionKey) -> u64 {
        todo!()
    }

    /// Puts a batch that a peer sent in the place of a damaged one with the same base, end and term. Resolves when it is
    /// durable.
    pub async fn mend(&self, key: PartitionKey, batch: Batch) -> Result<(), WriteError> {
        todo!()
    }

    /// How far the log is committed: the next transaction of redb stores min(it, what it applied). Costs no sync; a crash may
    /// forget it. (The producers' table is kept by the storage itself, from the batches.)
    pub fn note_high_watermark(&self, key: PartitionKey, high_watermark: Offset) {
        todo!()
    }

    /// Takes the mark "uncertain" off a replica, behind all that was written so far. Resolves when it is durable.
    pub async fn mark_certain(&self, key: PartitionKey) -> Result<(), WriteError> {
        todo!()
    }

    /// Puts the mark "uncertain" on a replica (a peer counted more than this volume holds). Resolves when it is durable.
    pub async fn mark_uncertain(&self, key: PartitionKey) -> Result<(), WriteError> {
        todo!()
    }

    /// Stores a page of the partition table in the place of the one with its number. Resolves when it is durable.
    pub async fn put_page(&self, page: Page) -> Result<(), WriteError> {
        todo!()
    }

    /// Forgets a page. Resolves when it is durable.
    pub async fn drop_page(&self, number: u32) -> Result<(), WriteError> {
        todo!()
    }

    /// Stores the last process seen of a peer. Resolves when it is durable.
    pub async fn put_peer_seen(&self, peer: ReplicaId, process: Process) -> Result<(), WriteError> {
        todo!()
    }

    /// Writes the Cluster's id into the identity, synced. Refuses a second, other one. Blocks.
    pub fn adopt_cluster(&self, cluster: ClusterId) -> Result<(), OpenError> {
        todo!()
    }

    /// Reads the identity from the volume again (who was refused by a peer compares it with its own). Blocks.
    pub fn identity(&self) -> Result<Identity, OpenError> {
        todo!()
    }

    /// Marks the volume as a restored copy, synced: at the next start it becomes a new incarnation, and what it holds is
    /// set aside. Blocks.
    pub fn mark_restored(&self) -> Result<(), OpenError> {
        todo!()
    }

    /// Whether appends should be taken: false below the reserve of free space, until there is a quarter more again.
    pub fn has_room(&self) -> bool {
        todo!()
    }

    /// See [`Heartbeat`].
    pub fn heartbeat(&self) -> Heartbeat {
        todo!()
    }

    /// Applies everything, marks the stop as clean and releases the lock. Writes are refused from now on. Blocks.
    pub fn close(&self) -> Result<(), WriteError> {
        todo!()
    }
}
