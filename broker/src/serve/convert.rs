//! Programs' messages ↔ records: fields are checked here and nowhere behind.

use bytes::Bytes;
use fulmar_core::batch::{Batch, ProducedBatch, RECORD_HEADERS_MAX, Record, RecordHeader};
use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::TopicId;
use fulmar_core::offset::Offset;
use fulmar_core::term::{BootId, Epoch, Process, Session, Term};
use fulmar_proto::v1::{self as proto, ErrorReason};

use super::error::Failure;

/// A record's own size as the topic's limit counts it: key, value, headers' names and values.
fn payload_bytes(record: &Record) -> usize {
    let headers: usize = record.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    record.key.as_ref().map_or(0, Bytes::len) + record.value.len() + headers
}

/// One message to publish, checked against the topic.
pub fn record_of(
    request: proto::PublishRequest,
    topic: &TopicRecord,
    now_ms: i64,
) -> Result<Record, Failure> {
    if request.headers.len() > RECORD_HEADERS_MAX {
        let message = format!("headers: at most {RECORD_HEADERS_MAX}, these are {}", request.headers.len());
        return Err(Failure::invalid("headers", message));
    }
    if let Some(at) = request.headers.iter().position(|header| header.name.is_empty()) {
        return Err(Failure::invalid("headers", format!("headers[{at}].name is empty; a header has a name")));
    }
    let headers = request.headers.into_iter();
    let record = Record {
        key: request.key,
        value: request.value,
        headers: headers.map(|header| RecordHeader { name: header.name, value: header.value }).collect(),
        timestamp_ms: request.timestamp_ms.unwrap_or(now_ms),
    };
    check_size(payload_bytes(&record), topic)?;
    Ok(record)
}

fn check_size(bytes: usize, topic: &TopicRecord) -> Result<(), Failure> {
    if bytes <= topic.max_message_bytes as usize {
        return Ok(());
    }
    let limit = topic.max_message_bytes;
    let message =
        format!("the message has {bytes} bytes with key and headers; topic {:?} allows {limit}", topic.name);
    Err(Failure::new(ErrorReason::RecordTooLarge, message).with("limit", limit).with("bytes", bytes))
}

/// Bytes of a produced batch, checked whole: the frame, each record (decompressed for that), and the topic's limit.
///
/// It is a copy, for it stays in memory for long: what it arrived in is up to twice as long, or has other batches in it.
pub fn batch_of(bytes: &[u8], topic: &TopicRecord) -> Result<ProducedBatch, Failure> {
    let batch =
        ProducedBatch::parse(Bytes::copy_from_slice(bytes)).map_err(|error| Failure::corrupt(&error))?;
    check_size(batch.record_bytes_max(), topic)?;
    Ok(batch)
}

/// Messages of one partition as one batch.
pub fn framed(records: &[Record]) -> Result<ProducedBatch, Failure> {
    ProducedBatch::build(records, None).map_err(|error| Failure::corrupt(&error))
}

/// The records of a batch from `from` on, as programs see them, one after the other: as values a million records of four bytes
/// take hundreds. [`Batch::plain_size`] of memory, if it is compressed, and what of the messages is kept.
pub fn messages_of<'a>(
    topic: &'a str,
    partition: u32,
    batch: &Batch,
    from: Offset,
) -> Result<impl Iterator<Item = proto::Message> + use<'a>, Failure> {
    let (base, append_time_ms) = (batch.base(), i64::try_from(batch.append_time_ms()).unwrap_or(i64::MAX));
    let numbered = batch.records().map_err(|error| Failure::corrupt(&error))?.enumerate();
    let wanted = numbered
        .map(move |(at, record)| (base.plus(at as u64), record))
        .filter(move |(offset, _)| *offset >= from);
    Ok(wanted.map(move |(offset, record)| proto::Message {
        topic: topic.to_owned(),
        partition,
        offset: offset.0,
        key: record.key,
        value: record.value,
        headers: record
            .headers
            .into_iter()
            .map(|header| proto::Header { name: header.name, value: header.value })
            .collect(),
        timestamp_ms: record.timestamp_ms,
        append_time_ms,
    }))
}

/// A topic's id from the wire.
pub fn topic_id(bytes: &[u8]) -> Result<TopicId, Failure> {
    let wrong = || Failure::invalid("topic_id", format!("topic_id: 16 bytes, these are {}", bytes.len()));
    Ok(TopicId::from_bytes(bytes.try_into().map_err(|_| wrong())?))
}

/// A topic's id for the wire.
pub fn topic_bytes(id: TopicId) -> Bytes {
    Bytes::copy_from_slice(&id.to_bytes())
}

/// A term, opaque to programs: four numbers of eight bytes.
pub fn term_bytes(term: Term) -> Bytes {
    let parts = [term.epoch.generation, term.epoch.counter, term.process.session.0, term.process.boot.0];
    Bytes::from(parts.map(u64::to_be_bytes).concat())
}

/// Back from [`term_bytes`]; nothing for empty bytes.
pub fn term_of(bytes: &[u8]) -> Result<Option<Term>, Failure> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let wrong = || Failure::invalid("term", "term: as a FetchResponse said it, or empty");
    let (parts, rest) = bytes.as_chunks::<8>();
    let [generation, counter, session, boot] = parts else { return Err(wrong()) };
    if !rest.is_empty() {
        return Err(wrong());
    }
    Ok(Some(Term {
        epoch: Epoch { generation: u64::from_be_bytes(*generation), counter: u64::from_be_bytes(*counter) },
        process: Process {
            session: Session(u64::from_be_bytes(*session)),
            boot: BootId(u64::from_be_bytes(*boot)),
        },
    }))
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
