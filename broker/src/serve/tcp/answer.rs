//! What programs are answered, as frames.

use bytes::{BufMut, Bytes, BytesMut};
use fulmar_proto::v1::{Message, PublishResponse};

use super::super::error::Failure;
use super::fields::{put_bytes, put_optional_bytes};
use super::frame::frame;
use super::kind;

/// What became of each message of a publish, in their order.
pub(super) fn published(correlation: u32, outcomes: &[Result<PublishResponse, Failure>]) -> Bytes {
    frame(kind::PUBLISHED, correlation, |out| {
        out.put_u32(length(outcomes.len()));
        for outcome in outcomes {
            match outcome {
                Ok(PublishResponse { partition, offset, .. }) => {
                    out.put_u16(0);
                    out.put_u32(*partition);
                    out.put_u64(*offset);
                    put_bytes(out, b"");
                }
                Err(failure) => {
                    put_reason(out, failure);
                    out.put_u32(0);
                    out.put_u64(0);
                    put_bytes(out, failure.message.as_bytes());
                }
            }
        }
    })
}

/// The subscription stands.
pub(super) fn subscribed(correlation: u32) -> Bytes {
    frame(kind::SUBSCRIBED, correlation, |_| {})
}

/// Nothing comes of the subscription any more.
pub(super) fn unsubscribed(correlation: u32) -> Bytes {
    frame(kind::UNSUBSCRIBED, correlation, |_| {})
}

/// Messages of a subscription; none: it still stands.
pub(super) fn delivered(correlation: u32, messages: &[Message]) -> Bytes {
    frame(kind::DELIVERED, correlation, |out| put_messages(out, messages))
}

/// What a pull found, and where the next one goes on.
pub(super) fn pulled(correlation: u32, messages: &[Message], next: u64) -> Bytes {
    frame(kind::PULLED, correlation, |out| {
        out.put_u64(next);
        put_messages(out, messages);
    })
}

/// What a ping said.
pub(super) fn pong(correlation: u32, said: &[u8]) -> Bytes {
    frame(kind::PONG, correlation, |out| out.put_slice(said))
}

/// A request failed, or, with correlation id 0, the connection.
pub(super) fn error(correlation: u32, failure: &Failure) -> Bytes {
    frame(kind::ERROR, correlation, |out| {
        put_reason(out, failure);
        let after = failure.retry_after().map_or(0, |after| after.as_millis());
        out.put_u32(u32::try_from(after).unwrap_or(u32::MAX));
        put_bytes(out, failure.message.as_bytes());
    })
}

fn put_reason(out: &mut BytesMut, failure: &Failure) {
    let reason = i32::from(failure.reason);
    out.put_u16(u16::try_from(reason).expect("reasons are numbered from 0 on"));
}

fn put_messages(out: &mut BytesMut, messages: &[Message]) {
    out.put_u32(length(messages.len()));
    for message in messages {
        out.put_u32(message.partition);
        out.put_u64(message.offset);
        out.put_i64(message.append_time_ms);
        out.put_i64(message.timestamp_ms);
        put_optional_bytes(out, message.key.as_ref());
        out.put_u16(u16::try_from(message.headers.len()).expect("a record has few headers"));
        for header in &message.headers {
            put_bytes(out, header.name.as_bytes());
            put_bytes(out, &header.value);
        }
        put_bytes(out, &message.value);
    }
}

fn length(of: usize) -> u32 {
    u32::try_from(of).expect("lists are bounded far below 4 billion")
}
