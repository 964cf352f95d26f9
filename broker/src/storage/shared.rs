//! What the handle and both threads share.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use redb::Database;
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use super::committer::Queue;
use super::error::WriteError;
use super::identity::Stored;
use super::memory::Memory;
use super::room::Fullness;
use super::seam::{Files, Lock};
use super::{Heartbeat, StorageEvent};

type Events = Box<dyn Fn(StorageEvent) + Send + Sync>;

pub(super) struct Shared {
    pub(super) files: Arc<dyn Files>,
    pub(super) dir: PathBuf,
    pub(super) memory: Mutex<Memory>,
    pub(super) queue: Queue,
    /// Bytes that may still be queued before something is applied.
    pub(super) permits: Semaphore,
    pub(super) permits_max: usize,
    /// Calls that wait for some of them.
    waiters: AtomicUsize,
    /// The largest operation that one group of the journal takes.
    pub(super) op_bytes_max: usize,
    /// Gone once the volume is closed.
    pub(super) database: Mutex<Option<Arc<Database>>>,
    pub(super) identity: Mutex<Stored>,
    pub(super) lock: Mutex<Option<Box<dyn Lock>>>,
    events: Events,
    failed: OnceLock<String>,
    closing: AtomicBool,
    fullness: Mutex<Fullness>,
    keeps_copies: AtomicBool,
    journal_beats: AtomicU64,
    applier_beats: AtomicU64,
    sweeps: AtomicU64,
}

/// One who waits, until it is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(waiters: &'a AtomicUsize) -> Self {
        waiters.fetch_add(1, Ordering::Relaxed);
        Self(waiters)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage")
            .field("dir", &self.dir)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// What a shared state begins with.
pub(super) struct Start {
    pub(super) files: Arc<dyn Files>,
    pub(super) dir: PathBuf,
    pub(super) memory: Memory,
    pub(super) permits_max: usize,
    pub(super) op_bytes_max: usize,
    pub(super) database: Arc<Database>,
    pub(super) identity: Stored,
    pub(super) lock: Box<dyn Lock>,
    pub(super) fullness: Fullness,
    pub(super) keeps_copies: bool,
}

impl Shared {
    pub(super) fn new(start: Start, events: Events) -> Self {
        Self {
            files: start.files,
            dir: start.dir,
            memory: Mutex::new(start.memory),
            queue: Queue::default(),
            permits: Semaphore::new(start.permits_max),
            permits_max: start.permits_max,
            waiters: AtomicUsize::new(0),
            op_bytes_max: start.op_bytes_max,
            database: Mutex::new(Some(start.database)),
            identity: Mutex::new(start.identity),
            lock: Mutex::new(Some(start.lock)),
            events,
            failed: OnceLock::new(),
            closing: AtomicBool::new(false),
            fullness: Mutex::new(start.fullness),
            keeps_copies: AtomicBool::new(start.keeps_copies),
            journal_beats: AtomicU64::new(0),
            applier_beats: AtomicU64::new(0),
            sweeps: AtomicU64::new(0),
        }
    }

    /// So many bytes, as soon as that much is applied. What is gathered for a transaction does not wait for more meanwhile.
    pub(super) async fn acquire(&self, bytes: u32) -> Result<SemaphorePermit<'_>, WriteError> {
        match self.permits.try_acquire_many(bytes) {
            Ok(held) => Ok(held),
            Err(TryAcquireError::NoPermits) => {
                let _waits = Waits::begin(&self.waiters);
                self.permits.acquire_many(bytes).await.map_err(|_| self.stopped())
            }
            Err(TryAcquireError::Closed) => Err(self.stopped()),
        }
    }

    /// Whether somebody waits for something to be applied.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiters.load(Ordering::Relaxed) > 0
    }

    pub(super) fn tell(&self, event: StorageEvent) {
        (self.events)(event);
    }

    /// The first failure is told; all who wait are refused.
    pub(super) fn fail(&self, why: String) {
        if self.failed.set(why.clone()).is_ok() {
            self.permits.close();
            // Who waits for an operation in the queue learns it by that.
            self.queue.abandon();
            self.tell(StorageEvent::Fatal(why));
        }
    }

    /// Refuses whatever comes from now on, and who waits.
    pub(super) fn stop(&self) {
        self.permits.close();
        self.queue.close();
    }

    /// Refuses whatever comes from now on; what was taken is written and applied.
    pub(super) fn begin_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.stop();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.get().is_some()
    }

    pub(super) fn stopped(&self) -> WriteError {
        WriteError::Stopped(self.failed.get().map_or("it was closed", String::as_str).to_owned())
    }

    pub(super) fn beat_journal(&self) {
        self.journal_beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn beat_applier(&self) {
        self.applier_beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn applier_beats(&self) -> u64 {
        self.applier_beats.load(Ordering::Relaxed)
    }

    /// Something that waited to be swept has been.
    pub(super) fn note_sweep(&self) {
        self.sweeps.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sweeps(&self) -> u64 {
        self.sweeps.load(Ordering::Relaxed)
    }

    pub(super) fn heartbeat(&self) -> Heartbeat {
        Heartbeat { journal: self.journal_beats.load(Ordering::Relaxed), applier: self.applier_beats() }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.fullness().is_full
    }

    pub(super) fn fullness(&self) -> Fullness {
        *self.fullness.lock()
    }

    pub(super) fn keeps_copies(&self) -> bool {
        self.keeps_copies.load(Ordering::SeqCst)
    }

    /// A log is about to be set aside. That its copy may go again, with its topic, is found at the next start.
    pub(super) fn note_copy(&self) {
        self.keeps_copies.store(true, Ordering::SeqCst);
    }

    /// Notes how full the volume is, and tells when room comes or goes.
    pub(super) fn set_fullness(&self, fullness: Fullness) {
        let before = std::mem::replace(&mut *self.fullness.lock(), fullness);
        if before.is_full != fullness.is_full {
            self.tell(StorageEvent::Room(!fullness.is_full));
        }
    }
}
