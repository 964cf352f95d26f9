//! How the memory that a broker may use is shared out, so that load never decides it.
//!
//! Owns the shares, and the budgets that count what of one is taken. Never allocates anything itself.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Parts of the limit. What is not shared out here is for code, stacks, TLS and the connections' own buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// The storage: the hot ring (which holds what is not applied) and redb's cache. An eighth, but at least what the storage needs:
    /// what followers and readers ask for behind that comes from redb's file, and thus from the system's page cache. Four times as much
    /// made nothing faster.
    pub storage: u64,
    /// Publishes that were received and are not in the storage yet. An eighth: at 512 Mi eight of the largest batches.
    pub publishes: usize,
    /// Messages of programs that arrive, from their first byte until they are publishes, or answered. A sixteenth: at 512 Mi
    /// four of the largest.
    pub requests: usize,
    /// The same of one connection: half of that, so that one program that sends and never ends leaves room for others.
    pub connection_requests: usize,
    /// Batches that are being read from the disk for consumers. A sixteenth: at 512 Mi four of the largest at a
    /// time, the others take turns.
    pub reads: usize,
    /// Answers on their way to programs' sockets, of all streams, until they are written. A sixteenth: at 512 Mi sixty-four
    /// of the largest pieces, or four of the largest batches.
    pub answers: usize,
    /// The same of one connection: an eighth of that, so that one program that does not read leaves room for the others, and
    /// eight of them lose their connections soon. Less than one of the largest batches, which goes alone then.
    pub connection_answers: usize,
    /// Programs' connections at a time, on each port: an eighth, an idle one being measured at 28 KiB; at most 10,000, for
    /// file descriptors.
    pub connections: usize,
    /// What waits for one peer's socket; beyond it the connection is dropped. A sixteenth, at most 32 MiB: more than
    /// the credit of 4 MiB a partition of a handful of busy partitions only delays the verdict that a peer does not read.
    pub peer: usize,
}

impl Shares {
    /// Shares out `limit` bytes.
    pub fn of(limit: u64) -> Self {
        let part = |divisor: u64| usize::try_from(limit / divisor).unwrap_or(usize::MAX);
        Self {
            storage: limit / 8,
            publishes: part(8),
            requests: part(16),
            connection_requests: part(32),
            reads: part(16),
            answers: part(16),
            connection_answers: part(128),
            connections: part(8 * 32 * 1024).clamp(256, 10_000),
            peer: part(16).clamp(2 * fulmar_core::batch::BATCH_BYTES_MAX, 32 << 20),
        }
    }
}

/// Memory of a fixed size, counted in KiB; a handle that can be cloned. Whoever waits is served in turn.
#[derive(Debug, Clone)]
pub struct Budget {
    room: Arc<Semaphore>,
    kibibytes: usize,
}

impl Budget {
    /// Of so many bytes, all of them free.
    pub fn new(bytes: usize) -> Self {
        let kibibytes = (bytes / 1024).clamp(1, u32::MAX as usize);
        Self { room: Arc::new(Semaphore::new(kibibytes)), kibibytes }
    }

    /// Waits for so many bytes. More than the whole takes all of it: one larger thing goes alone.
    pub async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let kibibytes = u32::try_from(bytes.div_ceil(1024).min(self.kibibytes)).unwrap_or(u32::MAX);
        self.room.clone().acquire_many_owned(kibibytes).await.expect("nobody closes this semaphore")
    }

    /// The same without waiting: `None` if they are not free now.
    pub fn try_take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kibibytes = u32::try_from(bytes.div_ceil(1024).min(self.kibibytes)).unwrap_or(u32::MAX);
        self.room.clone().try_acquire_many_owned(kibibytes).ok()
    }

    /// Adds to what was taken until it is room for so many bytes, if that is free now; the whole at most.
    pub fn try_raise(&self, taken: &mut OwnedSemaphorePermit, bytes: usize) -> bool {
        let kibibytes = bytes.div_ceil(1024).min(self.kibibytes).saturating_sub(taken.num_permits());
        let more = self.room.clone().try_acquire_many_owned(u32::try_from(kibibytes).unwrap_or(u32::MAX));
        more.map(|more| taken.merge(more)).is_ok()
    }

    /// How many bytes are taken.
    pub fn taken_bytes(&self) -> usize {
        self.kibibytes.saturating_sub(self.room.available_permits()) * 1024
    }

    /// Whether it has no room for so many bytes more, or for half of the whole if that is less.
    pub fn is_pressed(&self, bytes: usize) -> bool {
        self.room.available_permits() < bytes.div_ceil(1024).min(self.kibibytes / 2)
    }
}

/// Gives back what is beyond so many bytes.
pub fn keep(permit: &mut OwnedSemaphorePermit, bytes: usize) {
    drop(permit.split(permit.num_permits().saturating_sub(bytes.div_ceil(1024))));
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
