//! The connection to one peer's process, as the actor sees it: a place to put messages, that never makes it wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fulmar_core::batch::BATCH_BYTES_MAX;
use fulmar_core::broker::Accepted;
use fulmar_proto::internal::v1::{Messages, PeerMessage, ReplicaMessage, peer_message};
use prost::Message;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

/// Tells a connection from an earlier one to the same process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkNumber(pub u64);

/// A connection that passed both handshakes.
#[derive(Debug)]
pub struct Link {
    /// Who is at its other end.
    pub accepted: Accepted,
    /// Which connection.
    pub number: LinkNumber,
    /// Where to put what it is to be told.
    pub outbox: Outbox,
}

/// Messages (each all that one turn says) that wait for the socket. Beyond it the peer does not read.
const MESSAGES_MAX: usize = 4096;

/// One read for one peer: its credit may be more, other partitions want their turn.
pub(super) const READ_BYTES_MAX: u64 = 1 << 20;
/// What a read may bring: so much, and a batch on top.
const READ_AND_BATCH_BYTES: usize = (1 << 20) + BATCH_BYTES_MAX;

/// What waits for a peer's socket, bounded in messages and bytes: a peer that does not read loses its connection.
#[derive(Debug, Clone)]
pub struct Outbox {
    sender: mpsc::Sender<(usize, PeerMessage)>,
    filling: Arc<Filling>,
    end: CancellationToken,
}

/// How much waits.
#[derive(Debug)]
struct Filling {
    bytes: AtomicUsize,
    bytes_max: usize,
    /// There is room for a read again.
    eased: Notify,
}

impl Filling {
    fn has_room(&self, bytes: usize) -> bool {
        bytes + READ_AND_BATCH_BYTES <= self.bytes_max
    }
}

/// The socket's end of an [`Outbox`].
#[derive(Debug)]
pub struct Outgoing {
    receiver: mpsc::Receiver<(usize, PeerMessage)>,
    filling: Arc<Filling>,
}

impl Outbox {
    /// An empty one; `end` is cancelled when the peer does not read.
    pub fn new(bytes_max: usize, end: CancellationToken) -> (Self, Outgoing) {
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        let filling = Arc::new(Filling { bytes: AtomicUsize::new(0), bytes_max, eased: Notify::new() });
        (Self { sender, filling: Arc::clone(&filling), end }, Outgoing { receiver, filling })
    }

    /// Puts messages of replicas in, or ends the connection.
    pub fn put(&self, messages: Vec<ReplicaMessage>) {
        let messages = Messages { messages };
        let size = messages.encoded_len();
        let message = PeerMessage { message: Some(peer_message::Message::Messages(messages)) };
        let queued = self.filling.bytes.fetch_add(size, Ordering::SeqCst);
        // A single message may always go, however large.
        let is_full = queued > 0 && queued + size > self.filling.bytes_max;
        if is_full || self.sender.try_send((size, message)).is_err() {
            self.end.cancel();
        }
    }

    /// Whether what a read brings may be put in now. Many replicas that catch up over one slow connection, each within its own credit,
    /// have more on their way than it may hold, and yet the peer reads.
    /// `gathered`: what will be put in before it.
    pub fn has_room(&self, gathered: usize) -> bool {
        self.filling.has_room(self.filling.bytes.load(Ordering::SeqCst) + gathered)
    }

    /// Waits for that; false: the connection ends.
    pub async fn room(&self) -> bool {
        loop {
            // Made before the look, so that nothing that happens behind it is missed.
            let eased = self.filling.eased.notified();
            if self.has_room(0) {
                return true;
            }
            tokio::select! {
                () = eased => {}
                () = self.end.cancelled() => return false,
            }
        }
    }

    /// Ends the connection.
    pub fn end(&self) {
        self.end.cancel();
    }
}

impl Outgoing {
    /// The next message to write.
    pub async fn next(&mut self) -> Option<PeerMessage> {
        let (size, message) = self.receiver.recv().await?;
        let before = self.filling.bytes.fetch_sub(size, Ordering::SeqCst);
        if !self.filling.has_room(before) && self.filling.has_room(before - size) {
            self.filling.eased.notify_waiters();
        }
        Some(message)
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
