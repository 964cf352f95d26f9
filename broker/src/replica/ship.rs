//! What peers are told: messages gathered for each connection, and batches read for them, from memory at once, from the
//! disk on a thread that may wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmar_core::batch::Batch;
use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Effect, Input, Message};
use fulmar_core::term::{Process, Term};
use fulmar_proto::internal::v1::ReplicaMessage;
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};

use super::link::{Link, LinkNumber, Outbox, READ_BYTES_MAX};
use super::{Command, wire};
use crate::storage::{ReadError, Storage};

/// Messages of one turn are handed over in pieces of about so many bytes, so that a frame stays within what the receiver
/// takes (32 MiB, with the largest batch on top).
const PIECE_BYTES: usize = 4 << 20;
/// So many reads at a time for peers whose copies are damaged, each of at most one large batch: what heals must not starve what
/// works.
const REFETCHES_MAX: usize = 2;

#[derive(Debug)]
struct Gathered {
    link: Link,
    /// Whose read for this peer it is: one after the other, as its outbox has room.
    turn: Arc<Semaphore>,
    messages: Vec<ReplicaMessage>,
    bytes: usize,
}

/// The connections and what they are told in this turn.
#[derive(Debug)]
pub(super) struct Shipper {
    links: BTreeMap<ReplicaId, Gathered>,
    storage: Storage,
    /// Weak: the actor ends when nobody else holds its mailbox.
    commands: mpsc::WeakSender<Command>,
    refetches: Arc<Semaphore>,
}

/// A read for a peer whose copy is damaged.
#[derive(Debug, Clone, Copy)]
struct Refetch {
    key: PartitionKey,
    to: ReplicaId,
    term: Term,
    offset: Offset,
    until: Offset,
    bytes_max: usize,
}

/// A read for a peer.
#[derive(Debug, Clone, Copy)]
struct Shipment {
    key: PartitionKey,
    to: ReplicaId,
    term: Term,
    from: Offset,
    until: Offset,
    bytes_max: usize,
    high_watermark: Offset,
    log_start: Offset,
    fetch: bool,
}

impl Shipper {
    pub(super) fn new(storage: Storage, commands: mpsc::WeakSender<Command>) -> Self {
        Self { links: BTreeMap::new(), storage, commands, refetches: Arc::new(Semaphore::new(REFETCHES_MAX)) }
    }

    /// Takes a new connection in the place of an earlier one, which ends.
    pub(super) fn link_up(&mut self, link: Link) {
        let turn = Arc::new(Semaphore::new(1));
        let gathered = Gathered { messages: Vec::new(), bytes: 0, link, turn };
        if let Some(before) = self.links.insert(gathered.link.accepted.peer, gathered) {
            before.link.outbox.end();
        }
    }

    /// The connection ended; its process, if it was the one in use.
    pub(super) fn link_down(&mut self, peer: ReplicaId, number: LinkNumber) -> Option<Process> {
        self.process_of(peer, number)?;
        self.links.remove(&peer).map(|gathered| gathered.link.accepted.process)
    }

    /// The process at the other end of a connection, if it is the one in use.
    pub(super) fn process_of(&self, peer: ReplicaId, number: LinkNumber) -> Option<Process> {
        let link = &self.links.get(&peer)?.link;
        (link.number == number).then_some(link.accepted.process)
    }

    /// Whether a connection is in use.
    pub(super) fn uses(&self, number: LinkNumber) -> bool {
        self.links.values().any(|gathered| gathered.link.number == number)
    }

    /// Gathers a message, or reads for one. What was read at once is an input for the replica.
    pub(super) fn carry_out(&mut self, key: PartitionKey, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Send { to, message } => {
                self.gather(key, to, message);
                None
            }
            Effect::Ship { to, term, from, until, bytes_max, high_watermark, log_start, fetch } => {
                let bytes_max = usize::try_from(bytes_max.min(READ_BYTES_MAX)).unwrap_or(usize::MAX);
                self.ship(Shipment {
                    key,
                    to,
                    term,
                    from,
                    until,
                    bytes_max,
                    high_watermark,
                    log_start,
                    fetch,
                })
            }
            Effect::Refetch { to, term, offset, until, bytes_max } => {
                let bytes_max = usize::try_from(bytes_max.min(READ_BYTES_MAX)).unwrap_or(usize::MAX);
                self.refetch(Refetch { key, to, term, offset, until, bytes_max });
                None
            }
            Effect::Write(..)
            | Effect::Acknowledge { .. }
            | Effect::Refuse { .. }
            | Effect::HighWatermark(_)
            | Effect::Changed => unreachable!("the actor sorts effects"),
        }
    }

    fn gather(&mut self, key: PartitionKey, to: ReplicaId, message: Message) {
        let Some(gathered) = self.links.get_mut(&to) else { return };
        gathered.bytes += match &message {
            Message::Append { batches, .. }
            | Message::Fetched { batches, .. }
            | Message::Refetched { batches, .. } => batches.iter().map(Batch::size).sum::<usize>(),
            _ => 256,
        };
        gathered.messages.push(wire::to_proto(key, message));
        if gathered.bytes >= PIECE_BYTES {
            gathered.hand_over();
        }
    }

    fn ship(&mut self, shipment: Shipment) -> Option<Input> {
        let Shipment { key, to, from, until, bytes_max, .. } = shipment;
        let gathered = self.links.get_mut(&to)?;
        if gathered.link.outbox.has_room(gathered.bytes)
            && let Some(batches) = self.storage.read_hot(key, from, until, bytes_max)
        {
            let (message, input) = shipment.shipped(Ok(batches));
            if let Some(message) = message {
                self.gather(key, to, message);
            }
            return Some(input);
        }
        // What was gathered before goes before.
        gathered.hand_over();
        let (number, outbox, turn) =
            (gathered.link.number, gathered.link.outbox.clone(), gathered.turn.clone());
        let (storage, commands) = (self.storage.clone(), self.commands.clone());
        tokio::spawn(async move {
            let Ok(_turn) = turn.acquire().await else { return };
            if !outbox.room().await {
                return;
            }
            let read = move || {
                let (message, input) = shipment.shipped(storage.read(key, from, until, bytes_max));
                hand_over(&outbox, key, message);
                input
            };
            // Only a read that panics fails, or one that a stop ends.
            let Ok(input) = tokio::task::spawn_blocking(read).await else { return };
            if let Some(commands) = commands.upgrade() {
                // The actor may be ending.
                let _ended = commands.send(Command::Shipped(key, number, Box::new(input))).await;
            }
        });
        None
    }

    fn refetch(&self, asked: Refetch) {
        let Refetch { key, to, term, offset, until, bytes_max } = asked;
        let Some(gathered) = self.links.get(&to) else { return };
        let (outbox, commands) = (gathered.link.outbox.clone(), self.commands.clone());
        let (storage, turns) = (self.storage.clone(), self.refetches.clone());
        tokio::spawn(async move {
            let Ok(_turn) = turns.acquire().await else { return };
            let read = tokio::task::spawn_blocking(move || storage.read(key, offset, until, bytes_max)).await;
            let (batches, damaged) = match read {
                Ok(Ok(batches)) => (batches, None),
                Ok(Err(ReadError::Rotten { base, .. })) => (Vec::new(), Some(base)),
                Ok(Err(_)) | Err(_) => (Vec::new(), None),
            };
            hand_over(&outbox, key, Some(Message::Refetched { term, offset, batches }));
            if let (Some(base), Some(commands)) = (damaged, commands.upgrade()) {
                // The actor may be ending.
                let _ended = commands.send(Command::Unreadable(key, base)).await;
            }
        });
    }

    /// Hands over what this turn gathered.
    pub(super) fn flush(&mut self) {
        for gathered in self.links.values_mut() {
            gathered.hand_over();
        }
    }
}

fn hand_over(outbox: &Outbox, key: PartitionKey, message: Option<Message>) {
    if let Some(message) = message {
        outbox.put(vec![wire::to_proto(key, message)]);
    }
}

impl Gathered {
    fn hand_over(&mut self) {
        if !self.messages.is_empty() {
            self.link.outbox.put(std::mem::take(&mut self.messages));
            self.bytes = 0;
        }
    }
}

impl Shipment {
    /// The message to send, and what the replica is told.
    fn shipped(&self, read: Result<Vec<Batch>, ReadError>) -> (Option<Message>, Input) {
        let Shipment { key, to, term, from, high_watermark, log_start, .. } = *self;
        match read {
            Ok(batches) => {
                let Some(last) = batches.last() else {
                    warn!(partition = %key, %from, until = %self.until, "nothing is stored where a batch must be");
                    return (None, Input::Unreadable(from));
                };
                let until = last.end();
                let bytes = batches.iter().map(|batch| batch.size() as u64).sum();
                let message = if self.fetch {
                    Message::Fetched { term, batches }
                } else {
                    Message::Append { term, from, batches, high_watermark, log_start }
                };
                (Some(message), Input::Shipped { to, until, bytes })
            }
            Err(ReadError::Rotten { base, why, .. }) => {
                debug!(partition = %key, offset = %base, %why, "what a peer needs is damaged");
                (None, Input::Unreadable(base))
            }
            // Retention was faster: the replica starts anew with this peer.
            Err(error @ (ReadError::BelowStart { .. } | ReadError::Unknown(_))) => {
                debug!(partition = %key, %error, "what a peer needs is gone");
                (None, Input::Shipped { to, until: from, bytes: 0 })
            }
            Err(ReadError::Failed(what)) => {
                warn!(partition = %key, what, "a read for a peer failed");
                (None, Input::Shipped { to, until: from, bytes: 0 })
            }
        }
    }
}
