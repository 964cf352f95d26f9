//! The connection to one peer's process, as the actor sees it: a place to put messages, that never makes it wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fulmar_core::broker::Accepted;
use fulmar_proto::internal::v1::{Messages, PeerMessage, ReplicaMessage, peer_message};
use prost::Message;
use tokio::sync::mpsc;
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

/// What waits for a peer's socket, bounded in messages and bytes: a peer that does not read loses its connection.
#[derive(Debug, Clone)]
pub struct Outbox {
    sender: mpsc::Sender<(usize, PeerMessage)>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    end: CancellationToken,
}

/// The socket's end of an [`Outbox`].
#[derive(Debug)]
pub struct Outgoing {
    receiver: mpsc::Receiver<(usize, PeerMessage)>,
    bytes: Arc<AtomicUsize>,
}

impl Outbox {
    /// An empty one; `end` is cancelled when the peer does not read.
    pub fn new(bytes_max: usize, end: CancellationToken) -> (Self, Outgoing) {
        let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
        let bytes = Arc::new(AtomicUsize::new(0));
        (Self { sender, bytes: bytes.clone(), bytes_max, end }, Outgoing { receiver, bytes })
    }

    /// Puts messages of replicas in, or ends the connection.
    pub fn put(&self, messages: Vec<ReplicaMessage>) {
        let messages = Messages { messages };
        let size = messages.encoded_len();
        let message = PeerMessage { message: Some(peer_message::Message::Messages(messages)) };
        let queued = self.bytes.fetch_add(size, Ordering::Relaxed);
        // A single message may always go, however large.
        let is_full = queued > 0 && queued + size > self.bytes_max;
        if is_full || self.sender.try_send((size, message)).is_err() {
            self.end.cancel();
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
        self.bytes.fetch_sub(size, Ordering::Relaxed);
        Some(message)
    }
}
