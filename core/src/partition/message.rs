//! What replicas of one partition say to each other. All of it is bound to a term; a receiver that promised a higher one
//! answers [`Message::Refused`]. Only the asking for a damaged batch is bound to that batch's own term instead.

use crate::batch::Batch;
use crate::entry::Entry;
use crate::offset::Offset;
use crate::term::{Epoch, Process, Term, TermVector};

/// One message between two replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A leader asks for a promise: nothing below `term` from now on.
    Fence {
        /// The decision that it leads by.
        entry: Entry,
        /// Its term.
        term: Term,
    },
    /// The promise is stored; this is the log that stands behind it.
    Promised {
        /// The term that was promised.
        term: Term,
        /// The whole vector.
        vector: TermVector,
        /// The oldest offset kept.
        log_start: Offset,
        /// The durable end.
        log_end: Offset,
        /// The volume may have lost something: does not count towards Qo.
        certain: bool,
    },
    /// Something higher was promised, or the sender's term has a twin here.
    Refused {
        /// The refused term.
        term: Term,
        /// The highest promised one, if any.
        promised: Option<Term>,
        /// The entry that goes with it.
        entry: Option<Entry>,
    },
    /// A leader that lacks the longest log asks for it. Answered only by who promised that very term.
    Fetch {
        /// Its term.
        term: Term,
        /// From here, where both logs agree.
        from: Offset,
        /// To here.
        until: Offset,
    },
    /// The answer to a fetch from below the source's log start: the log begins here; [`Message::Fetched`] follow.
    Snapshot {
        /// The asking leader's term.
        term: Term,
        /// The source's log start: new start and end of the asker's log.
        log_start: Offset,
        /// The source's vector up to there.
        vector: TermVector,
        /// The producers' table there.
        producers: Vec<u8>,
    },
    /// Part of the answer to a fetch.
    Fetched {
        /// The asking leader's term.
        term: Term,
        /// Batches in order.
        batches: Vec<Batch>,
    },
    /// A leader tells a follower its log, to be compared whole; the follower cuts where they part.
    Attach {
        /// The decision.
        entry: Entry,
        /// The leader's term.
        term: Term,
        /// The follower's process that this is for; another one ignores it. The comparison is bound to both.
        follower: Process,
        /// The leader's whole vector.
        vector: TermVector,
        /// The oldest offset that the leader has. If the logs part at or below it, the follower starts anew from there.
        log_start: Offset,
        /// The end of the leader's log now: who reaches it is caught up.
        log_end: Offset,
        /// What the leader counted in this term from an earlier process of this follower: a log that ends below it has
        /// lost something, and is uncertain from now on.
        counted: Offset,
        /// At a reset: the producers' table at the leader's log start; where the follower may set something aside: where the logs
        /// part; else empty.
        producers: Vec<u8>,
    },
    /// The follower's log is a durable prefix of the leader's.
    Attached {
        /// The leader's term.
        term: Term,
        /// Its durable end.
        log_end: Offset,
    },
    /// Batches in order, and how far they are committed; without batches a heartbeat.
    Append {
        /// The leader's term.
        term: Term,
        /// Where the batches begin.
        from: Offset,
        /// The batches.
        batches: Vec<Batch>,
        /// The leader's high watermark.
        high_watermark: Offset,
        /// The leader's log start: retention is the leader's decision.
        log_start: Offset,
    },
    /// The follower's durable end: acknowledgement and credit in one.
    Stored {
        /// The leader's term.
        term: Term,
        /// The durable end.
        log_end: Offset,
    },
    /// The answer to a fetch that cannot be given: a batch of the log is damaged here. The asker looks elsewhere.
    Unreadable {
        /// The asking leader's term.
        term: Term,
        /// Where the damaged batch begins.
        offset: Offset,
    },
    /// A batch of the asker's log is damaged, and a copy is wanted. The batch's own term and its offset name one batch for ever:
    /// whoever holds it may answer, leader or not, whatever it has promised.
    Refetch {
        /// The damaged batch's term, by the asker's vector.
        term: Term,
        /// An offset in it; its base, if that is known.
        offset: Offset,
    },
    /// The answer: the batch that holds the offset, and some that follow it in the same term. Without batches: it cannot be had
    /// here.
    Refetched {
        /// As asked.
        term: Term,
        /// As asked.
        offset: Offset,
        /// Batches in order.
        batches: Vec<Batch>,
    },
    /// Who left the partition may delete its records.
    Release {
        /// The decision without it.
        epoch: Epoch,
    },
}
