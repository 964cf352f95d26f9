//! What replicas say to each other, as the peers' protobuf has it: `core::partition::Message` ↔ `ReplicaMessage`.
//!
//! The one place that knows both. What comes from a socket is checked whole: a batch's checksums, a vector's order.

use bytes::Bytes;
use fulmar_core::batch::{Batch, BatchError};
use fulmar_core::entry::Entry;
use fulmar_core::id::{PartitionKey, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::Message;
use fulmar_core::term::{BootId, Epoch, Process, Session, Term, TermStart, TermVector};
use fulmar_proto::internal::v1 as proto;
use fulmar_proto::internal::v1::replica_message::Message as Kind;
use thiserror::Error;

/// Why a peer's message is not understood. The connection ends: it is another version's, or damaged beyond TLS.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// A field is missing or malformed.
    #[error("field {0} is missing or malformed")]
    Field(&'static str),
    /// A batch does not hold.
    #[error("partition {key}: {error}")]
    Batch {
        /// The partition.
        key: PartitionKey,
        /// What is wrong with it.
        error: BatchError,
    },
}

/// To the peers' protobuf.
pub fn to_proto(key: PartitionKey, message: Message) -> proto::ReplicaMessage {
    let (term, kind) = kind_of(message);
    proto::ReplicaMessage {
        topic_id: Bytes::copy_from_slice(&key.topic.to_bytes()),
        partition: key.partition,
        term: term.map(term_to),
        message: Some(kind),
    }
}

fn kind_of(message: Message) -> (Option<Term>, Kind) {
    match message {
        Message::Fence { entry, term } => {
            (Some(term), Kind::Fence(proto::Fence { entry: entry.to_string() }))
        }
        Message::Promised { term, vector, log_start, log_end, certain } => {
            let vector = vector_to(&vector);
            (
                Some(term),
                Kind::Promised(proto::Promised {
                    vector,
                    log_start: log_start.0,
                    log_end: log_end.0,
                    certain,
                }),
            )
        }
        Message::Refused { term, promised, entry } => {
            let entry = entry.map(|entry| entry.to_string()).unwrap_or_default();
            (Some(term), Kind::Refused(proto::Refused { promised: promised.map(term_to), entry }))
        }
        Message::Fetch { term, from, until } => {
            (Some(term), Kind::Fetch(proto::FetchLog { from: from.0, until: until.0 }))
        }
        Message::Snapshot { term, log_start, vector, producers } => {
            let vector = vector_to(&vector);
            (
                Some(term),
                Kind::Snapshot(proto::Snapshot {
                    log_start: log_start.0,
                    vector,
                    producers: producers.into(),
                }),
            )
        }
        Message::Fetched { term, batches } => {
            (Some(term), Kind::Fetched(proto::Batches { batches: batches_to(&batches) }))
        }
        Message::Attach { entry, term, follower, vector, log_start, log_end, counted, producers } => (
            Some(term),
            Kind::Attach(proto::Attach {
                entry: entry.to_string(),
                vector: vector_to(&vector),
                log_start: log_start.0,
                log_end: log_end.0,
                producers: producers.into(),
                follower: Some(process_to(follower)),
                counted: counted.0,
            }),
        ),
        Message::Attached { term, log_end } => {
            (Some(term), Kind::Attached(proto::End { log_end: log_end.0 }))
        }
        Message::Append { term, from, batches, high_watermark, log_start } => (
            Some(term),
            Kind::Append(proto::Append {
                from: from.0,
                batches: batches_to(&batches),
                high_watermark: high_watermark.0,
                log_start: log_start.0,
            }),
        ),
        Message::Stored { term, log_end } => (Some(term), Kind::Stored(proto::End { log_end: log_end.0 })),
        Message::Unreadable { term, offset } => (Some(term), Kind::Unreadable(offset.0)),
        Message::Refetch { term, offset } => (Some(term), Kind::Refetch(offset.0)),
        Message::Refetched { term, offset, batches } => {
            let batches = batches_to(&batches);
            (Some(term), Kind::Refetched(proto::Refetched { offset: offset.0, batches }))
        }
        Message::Release { epoch } => (None, Kind::ReleaseEpoch(epoch.to_string())),
    }
}

/// From the peers' protobuf.
pub fn from_proto(message: proto::ReplicaMessage) -> Result<(PartitionKey, Message), WireError> {
    let topic = <[u8; 16]>::try_from(message.topic_id.as_ref()).map_err(|_| WireError::Field("topic_id"))?;
    let key = PartitionKey { topic: TopicId::from_bytes(topic), partition: message.partition };
    let term = message.term.map(term_from).transpose()?;
    let needed = || term.ok_or(WireError::Field("term"));
    let message = match message.message.ok_or(WireError::Field("message"))? {
        Kind::Fence(fence) => Message::Fence { entry: entry_from(&fence.entry)?, term: needed()? },
        Kind::Promised(promised) => Message::Promised {
            term: needed()?,
            vector: vector_from(promised.vector)?,
            log_start: offset(promised.log_start)?,
            log_end: offset(promised.log_end)?,
            certain: promised.certain,
        },
        Kind::Refused(refused) => Message::Refused {
            term: needed()?,
            promised: refused.promised.map(term_from).transpose()?,
            entry: if refused.entry.is_empty() { None } else { Some(entry_from(&refused.entry)?) },
        },
        Kind::Fetch(fetch) => {
            Message::Fetch { term: needed()?, from: offset(fetch.from)?, until: offset(fetch.until)? }
        }
        Kind::Fetched(fetched) => {
            Message::Fetched { term: needed()?, batches: batches_from(key, fetched.batches)? }
        }
        Kind::Snapshot(snapshot) => Message::Snapshot {
            term: needed()?,
            log_start: offset(snapshot.log_start)?,
            vector: vector_from(snapshot.vector)?,
            producers: snapshot.producers.into(),
        },
        Kind::Attach(attach) => Message::Attach {
            entry: entry_from(&attach.entry)?,
            term: needed()?,
            follower: attach.follower.as_ref().map(process_from).ok_or(WireError::Field("follower"))?,
            vector: vector_from(attach.vector)?,
            log_start: offset(attach.log_start)?,
            log_end: offset(attach.log_end)?,
            counted: offset(attach.counted)?,
            producers: attach.producers.into(),
        },
        Kind::Attached(end) => Message::Attached { term: needed()?, log_end: offset(end.log_end)? },
        Kind::Append(append) => Message::Append {
            term: needed()?,
            from: offset(append.from)?,
            batches: batches_from(key, append.batches)?,
            high_watermark: offset(append.high_watermark)?,
            log_start: offset(append.log_start)?,
        },
        Kind::Stored(end) => Message::Stored { term: needed()?, log_end: offset(end.log_end)? },
        Kind::Unreadable(at) => Message::Unreadable { term: needed()?, offset: offset(at)? },
        Kind::Refetch(at) => Message::Refetch { term: needed()?, offset: offset(at)? },
        Kind::Refetched(refetched) => Message::Refetched {
            term: needed()?,
            offset: offset(refetched.offset)?,
            batches: batches_from(key, refetched.batches)?,
        },
        Kind::ReleaseEpoch(epoch) => {
            Message::Release { epoch: epoch.parse().map_err(|_| WireError::Field("release_epoch"))? }
        }
    };
    Ok((key, message))
}

/// A process as the handshakes carry it.
pub fn process_to(process: Process) -> proto::ProcessId {
    proto::ProcessId { session: process.session.0, boot: process.boot.0 }
}

/// A process as the handshakes carry it.
pub fn process_from(process: &proto::ProcessId) -> Process {
    Process { session: Session(process.session), boot: BootId(process.boot) }
}

fn term_to(term: Term) -> proto::Term {
    proto::Term {
        generation: term.epoch.generation,
        counter: term.epoch.counter,
        session: term.process.session.0,
        boot: term.process.boot.0,
    }
}

fn term_from(term: proto::Term) -> Result<Term, WireError> {
    let epoch = Epoch { generation: term.generation, counter: term.counter };
    if epoch == Epoch::default() {
        return Err(WireError::Field("term"));
    }
    Ok(Term { epoch, process: Process { session: Session(term.session), boot: BootId(term.boot) } })
}

fn vector_to(vector: &TermVector) -> Vec<proto::TermStart> {
    let one = |line: &TermStart| proto::TermStart { term: Some(term_to(line.term)), start: line.start.0 };
    vector.starts().iter().map(one).collect()
}

fn vector_from(lines: Vec<proto::TermStart>) -> Result<TermVector, WireError> {
    let one = |line: proto::TermStart| {
        let term = term_from(line.term.ok_or(WireError::Field("vector"))?)?;
        Ok(TermStart { term, start: offset(line.start)? })
    };
    let lines = lines.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
    TermVector::new(lines).map_err(|_| WireError::Field("vector"))
}

fn batches_to(batches: &[Batch]) -> Vec<Bytes> {
    batches.iter().map(|batch| batch.bytes().clone()).collect()
}

fn batches_from(key: PartitionKey, batches: Vec<Bytes>) -> Result<Vec<Batch>, WireError> {
    // Copies: they stay in memory for long, and what they arrived in is up to twice as long.
    let copy = |bytes: Bytes| Bytes::copy_from_slice(&bytes);
    let one = |bytes| Batch::parse(copy(bytes), key).map_err(|error| WireError::Batch { key, error });
    batches.into_iter().map(one).collect()
}

fn entry_from(text: &str) -> Result<Entry, WireError> {
    text.parse().map_err(|_| WireError::Field("entry"))
}

fn offset(value: u64) -> Result<Offset, WireError> {
    if value < 1 << 63 { Ok(Offset(value)) } else { Err(WireError::Field("an offset beyond 2^63")) }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
