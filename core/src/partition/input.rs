//! What one replica of a partition is told.

use crate::batch::ProducedBatch;
use crate::entry::Entry;
use crate::id::ReplicaId;
use crate::offset::Offset;
use crate::partition::effect::{Promise, WriteSeq};
use crate::partition::message::Message;
use crate::term::{Epoch, Process, TermVector};

/// The shell's name for a publish that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What the volume said about one replica when the broker started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Entry and highest term that were promised.
    pub promise: Promise,
    /// The log's terms.
    pub vector: TermVector,
    /// The oldest offset that is kept.
    pub log_start: Offset,
    /// The offset behind the last durable batch.
    pub log_end: Offset,
    /// A lower bound of what is committed. A log that ends below it has lost something: it is taken as uncertain.
    pub high_watermark: Offset,
    /// The append time of the last batch, 0 if there never was one: the next is not earlier.
    pub append_time_ms: u64,
    /// The producers' table as of `log_end`, encoded by [`ProducerTable`](super::ProducerTable); empty for none. Storage
    /// keeps one of some earlier moment and notes the batches behind it, or cuts it where the log was cut.
    pub producers: Vec<u8>,
    /// The volume may have lost something that it had synced.
    pub uncertain: bool,
}

impl Recovered {
    pub(super) fn without_log(self) -> Self {
        Self { promise: self.promise, append_time_ms: self.append_time_ms, ..Self::default() }
    }
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The operator decided (pushed by it, kept from before, or relayed by a peer: the highest epoch wins).
    Assign(Entry),
    /// The partition has left this replica behind, as of this epoch: records may go, the promise stays as a tombstone.
    Release(Epoch),
    /// A publish. `now_ms` of the step becomes its append time, or later.
    Produce {
        /// To answer with.
        ticket: Ticket,
        /// What to append.
        batch: ProducedBatch,
    },
    /// All writes up to this one are synced to the volume.
    Durable(WriteSeq),
    /// A peer's process is connected and passed the handshake.
    PeerUp {
        /// Who.
        peer: ReplicaId,
        /// Which process: what it said before in another session counts no more.
        process: Process,
    },
    /// The connection to it is gone, and everything that was on its way.
    PeerDown(ReplicaId),
    /// A peer's process says something.
    Message {
        /// Who.
        from: ReplicaId,
        /// Which process.
        process: Process,
        /// What.
        message: Message,
    },
    /// An [`Effect::Ship`](super::Effect::Ship) has been read and handed to the connection: batches up to `until`, so many bytes.
    Shipped {
        /// To whom.
        to: ReplicaId,
        /// Where the next one begins.
        until: Offset,
        /// Their size; the credit it takes.
        bytes: u64,
    },
    /// Somebody read the log and found a batch damaged: where it begins, or, if that is not known, an offset in it. Also said
    /// instead of [`Input::Shipped`] if an [`Effect::Ship`](super::Effect::Ship) met it.
    Unreadable(Offset),
    /// The operator accepted this process's handshake: the volume is not a restored copy. A broker that would open a term
    /// on its own word alone waits for it, or for a member.
    Confirmed,
    /// The client of this publish waits no more. It may be committed all the same.
    Forget(Ticket),
    /// Retention: everything below this base offset of a batch may go. Ignored unless this replica leads, and above the high
    /// watermark.
    Retain(Offset),
    /// A planned move: append nothing until another epoch comes, so that the followers' ends reach the log's. Publishes wait
    /// meanwhile, and are told who leads then.
    StopAppends,
    /// Time passes; at least every 100 ms.
    Tick,
}
