//! What one replica of a partition wants done. Effects are carried out in order.

use crate::batch::Batch;
use crate::entry::Entry;
use crate::id::{Ordinal, ReplicaId};
use crate::offset::Offset;
use crate::partition::input::Ticket;
use crate::partition::message::Message;
use crate::term::{Term, TermVector};

/// Numbers one replica's writes, from 1; a later one is never durable before an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct WriteSeq(pub u64);

/// What a replica has promised, and must never forget.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Promise {
    /// The highest decision.
    pub entry: Option<Entry>,
    /// The highest term.
    pub term: Option<Term>,
    /// What remains of the replica.
    pub kind: PromiseKind,
}

/// Whether a promise still has a log behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromiseKind {
    /// It has, if only an empty one.
    #[default]
    Live,
    /// The records were released. It refuses and reports like any other for as long as the volume lives.
    Tombstone,
}

/// A change of what the volume holds. All writes of a replica go through one journal, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// At the log's end.
    Append(Batch),
    /// Everything at or above `to` goes, from the log and from the vector.
    Cut {
        /// The new end.
        to: Offset,
    },
    /// The log is replaced by an empty one at `start`, in one commit.
    Reset {
        /// New start and end, and high watermark.
        start: Offset,
        /// The vector up to there.
        vector: TermVector,
        /// The producers' table there.
        producers: Vec<u8>,
    },
    /// A cut that keeps a copy: everything at or above `to` goes from log and vector, and is kept beside it under a name of its
    /// own, with the vector and the high watermark as they were. A person gave up what it holds; the high watermark falls.
    SetAside {
        /// The new end; not below the log's start.
        to: Offset,
        /// The producers' table there.
        producers: Vec<u8>,
    },
    /// The copies of [`Write::SetAside`] go too: the topic was deleted.
    ForgetAside,
    /// A promise. Storage stepping back by one commit must not reach it.
    Promise(Promise),
    /// Everything below goes, when convenient. All of it is committed, so the stored high watermark is not below it.
    LogStart(Offset),
    /// The mark "may have lost something that it had synced". It leaves in one commit with the writes before it, never sooner.
    Mark {
        /// Whether it stands.
        uncertain: bool,
    },
    /// A batch of the log as another replica has it, to be put in the place of a damaged copy. A copy that holds stays.
    Mend(Batch),
    /// The records go; a [`PromiseKind::Tombstone`] was written before.
    Release,
}

/// Why a publish, a read or a message is refused. The shells turn it into each protocol's error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This replica does not lead; nothing was appended.
    NotLeader {
        /// Who should, as far as this replica knows.
        leader: Option<ReplicaId>,
    },
    /// The leader changed while it was under way: it may or may not become committed.
    OutcomeUnknown,
    /// The term is not open yet, or too few replicas answer; nothing was appended.
    NotEnoughReplicas {
        /// How many are needed.
        needed: usize,
        /// How many are there.
        have: usize,
    },
    /// A planned move is under way; nothing was appended. Retry soon.
    Moving,
    /// An idempotent producer left a gap.
    OutOfSequence {
        /// The number that must come next.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// A number from before the window of remembered batches.
    DuplicateTooOld,
    /// Too many producers are remembered, or too many batches of this one are under way.
    TooManyProducers,
    /// Too much waits for its acknowledgement; nothing was appended.
    Busy,
    /// The batch is compressed, and a broker of the partition runs an earlier version that could not follow any more; nothing
    /// was appended.
    EarlierVersion {
        /// Which broker.
        broker: Ordinal,
    },
}

/// What the operator is told about one replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The entry that it holds, and the highest term.
    pub promise: Promise,
    /// The term that it leads and whose opening record is committed, if so.
    pub leading: Option<Term>,
    /// Followers (and itself) that hold all that is committed, for people to see.
    pub in_sync: Vec<ReplicaId>,
    /// Learners that are caught up.
    pub caught_up: Vec<ReplicaId>,
    /// While publishing is stopped for a planned move and all that was taken is committed: members that hold the whole log.
    /// Whoever of them is named next has nothing to fetch, and nobody waits for an acknowledgement.
    pub whole: Vec<ReplicaId>,
    /// The oldest offset.
    pub log_start: Offset,
    /// The durable end.
    pub log_end: Offset,
    /// What is committed, as far as it knows.
    pub high_watermark: Offset,
    /// Its log's last term.
    pub last_term: Option<Term>,
    /// The volume may have lost something.
    pub uncertain: bool,
    /// A term was opened although every replica was uncertain, or because a person accepted a loss: committed records from here
    /// on may be lost.
    pub may_have_lost: Option<Offset>,
    /// What this process set aside last, because a person gave it up: from here, to here.
    pub set_aside: Option<(Offset, Offset)>,
    /// A batch of the log that cannot be read; the replica is not counted beyond it. It asks the others for a copy.
    pub unreadable: Option<Offset>,
    /// A batch that no other member can give either: a person must look.
    pub irreparable: Option<Offset>,
    /// It stopped because something impossible happened; a person must look.
    pub halted: Option<String>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Write, then say [`Input::Durable`](super::Input::Durable) when it and all before it are synced.
    Write(WriteSeq, Write),
    /// Tell a peer, if it is connected; otherwise drop it (a new connection starts anew).
    Send {
        /// Whom.
        to: ReplicaId,
        /// What.
        message: Message,
    },
    /// Read batches of the log and send them as [`Message::Append`], or as [`Message::Fetched`] for a fetch; as many whole
    /// batches as fit `bytes_max`, at least one. Then say [`Input::Shipped`](super::Input::Shipped).
    Ship {
        /// Whom.
        to: ReplicaId,
        /// In which term.
        term: Term,
        /// From here.
        from: Offset,
        /// Not beyond here.
        until: Offset,
        /// Credit.
        bytes_max: u64,
        /// For the message.
        high_watermark: Offset,
        /// For the message.
        log_start: Offset,
        /// The answer to a fetch instead of an append.
        fetch: bool,
    },
    /// Read the batch that holds `offset` and those behind it, all ending at or below `until`, as many as fit `bytes_max`, at
    /// least one, and send them as [`Message::Refetched`]; send it without batches if that one cannot be read, and then say
    /// [`Input::Unreadable`](super::Input::Unreadable).
    Refetch {
        /// Whom.
        to: ReplicaId,
        /// For the message.
        term: Term,
        /// For the message.
        offset: Offset,
        /// The end of what is known to be of that term.
        until: Offset,
        /// About a value of the storage.
        bytes_max: u64,
    },
    /// The publish is committed; its first record has this offset.
    Acknowledge {
        /// Which.
        ticket: Ticket,
        /// Its first record's offset, or that of the first attempt at it.
        base: Offset,
    },
    /// The publish failed.
    Refuse {
        /// Which.
        ticket: Ticket,
        /// Why.
        refusal: Refusal,
    },
    /// Readers may read below this; storage keeps min(it, durable end).
    HighWatermark(Offset),
    /// What the operator or a reader is told about this replica has changed.
    Changed,
}
