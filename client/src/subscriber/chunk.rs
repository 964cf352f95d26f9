//! What readers hand over to the program: the messages of batches, some of them at a time.
//!
//! Owns how many. Never waits: readers do.

use tokio::sync::OwnedSemaphorePermit;

use super::position::Messages;
use crate::error::SubscribeError;

/// Batches of one partition in their order, or why it ends.
pub(super) type Chunk = Result<Vec<Batched>, SubscribeError>;

/// Chunks that wait for the program beside what the credit allows: enough that reading and using overlap.
pub(super) const CHUNKS_MAX: usize = 16;

/// About so many bytes make a chunk at most, if so many came together. Each may wake the program, which costs more than the messages
/// of a small batch do; and sixteen of them are no more than the largest batches that may wait.
const CHUNK_BYTES_MAX: usize = 256 * 1024;

/// The bytes of a chunk, where so many are read ahead: all chunks that wait are no more than those.
pub(super) fn chunk_bytes(ahead: usize) -> usize {
    (ahead / CHUNKS_MAX).min(CHUNK_BYTES_MAX)
}

/// The messages of one batch.
#[derive(Debug)]
pub(super) struct Batched {
    pub(super) messages: Messages,
    /// What they take beyond the bytes that came; given back when the program takes them.
    pub(super) room: Room,
}

/// Memory, if any is to be counted.
pub(super) type Room = Option<OwnedSemaphorePermit>;

impl Batched {
    pub(super) fn take(self) -> Messages {
        drop(self.room);
        self.messages
    }
}

/// Batches that came together, on their way to be handed over together.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    batches: Vec<Batched>,
    bytes: usize,
}

impl Gathered {
    /// Adds a batch of so many bytes.
    pub(super) fn push(&mut self, batched: Batched, bytes: usize) {
        self.batches.push(batched);
        self.bytes += bytes + size_of::<Batched>();
    }

    /// Whether they take so many bytes.
    pub(super) fn has(&self, bytes: usize) -> bool {
        self.bytes >= bytes
    }

    /// All of them, if there are some.
    pub(super) fn take(&mut self) -> Option<Vec<Batched>> {
        self.bytes = 0;
        Some(std::mem::take(&mut self.batches)).filter(|batches| !batches.is_empty())
    }
}
