//! What programs ask, from a frame's body to checked fields.

use bytes::Bytes;
use fulmar_core::batch::RECORD_HEADERS_MAX;
use fulmar_core::control::table::TOPIC_NAME_BYTES_MAX;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{Earliest, Header, Latest, PublishRequest};

use super::super::error::Failure;
use super::fields::{Fields, NONE};
use super::kind;

/// Messages of one publish: they become a batch a partition.
const MESSAGES_MAX: u32 = 10_000;
/// The shortest message: its timestamp, no key, no headers, an empty value.
const MESSAGE_BYTES_MIN: usize = 8 + 4 + 2 + 4;
/// Headers of all messages of one publish.
const HEADERS_MAX: usize = 10_000;
/// The shortest header: an empty name, an empty value.
const HEADER_BYTES_MIN: usize = 4 + 4;
/// Names of all headers of one publish: they are copied, everything else stays where the frame has it.
const HEADER_NAMES_BYTES_MAX: usize = 1 << 20;
/// Read, the shortest messages and headers take at most so many times their bytes more.
const GROWTH: usize = 8;
/// And all of one publish no more than this.
const GROWTH_MAX: usize = MESSAGES_MAX as usize * size_of::<PublishRequest>()
    + HEADERS_MAX * size_of::<Header>()
    + HEADER_NAMES_BYTES_MAX
    + TOPIC_NAME_BYTES_MAX;
/// Messages of one pull.
const PULL_MAX: u32 = 10_000;
/// How long a pull may wait, in milliseconds; as long as by HTTP.
const PULL_WAIT_MAX_MS: u32 = 50_000;
/// What a ping may carry.
const PING_BYTES_MAX: usize = 128;
/// In the place of a time: the broker's clock.
const NOW: i64 = i64::MIN;

/// Where a message with a key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// As every other interface does: XXH3.
    Default,
    /// The first eight bytes of the key's SHA-256, big-endian, modulo the number of partitions: for programs that moved
    /// here from a system that hashes so.
    Sha256,
}

/// A request, its fields read.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Request {
    /// Append messages to a topic.
    Publish {
        /// Its name.
        topic: String,
        /// Where those with a key go.
        placement: Placement,
        /// At least one; their topic is not filled in.
        messages: Vec<PublishRequest>,
    },
    /// Follow a topic.
    Subscribe {
        /// Its name.
        topic: String,
        /// Absent: all of them, also those that come later.
        partition: Option<u32>,
        /// Where to begin.
        start: At,
    },
    /// End the subscription of this frame's correlation id.
    Unsubscribe,
    /// Read one partition once.
    Pull {
        /// The topic's name.
        topic: String,
        /// The partition.
        partition: u32,
        /// Where to begin.
        start: At,
        /// At most so many messages.
        max: usize,
        /// Wait so many milliseconds if there are none.
        wait_ms: u32,
    },
    /// Say the same.
    Ping(Bytes),
}

/// What a frame's body of so many bytes takes while it is a request.
pub(super) fn memory(length: usize) -> usize {
    length + (length * GROWTH).min(GROWTH_MAX)
}

impl Request {
    /// Reads the body of a frame.
    ///
    /// # Errors
    /// Names the field that is wrong and its byte.
    pub(super) fn parse(kind: u8, body: Bytes) -> Result<Self, Failure> {
        let mut fields = Fields::of(body.clone());
        let request = match kind {
            kind::PUBLISH => publish(&mut fields)?,
            kind::SUBSCRIBE => {
                let (topic, partition) = (topic(&mut fields)?, fields.u32("partition")?);
                let partition = (partition != NONE).then_some(partition);
                Self::Subscribe { topic, partition, start: start(&mut fields)? }
            }
            kind::UNSUBSCRIBE => Self::Unsubscribe,
            kind::PULL => pull(&mut fields)?,
            kind::PING if body.len() > PING_BYTES_MAX => {
                let message = format!("at most {PING_BYTES_MAX} bytes, these are {}", body.len());
                return Err(fields.wrong("body", message));
            }
            kind::PING => return Ok(Self::Ping(body)),
            other => {
                let message = format!(
                    "kind: 0x{other:02x} is no request; there are PUBLISH 0x01, SUBSCRIBE 0x02, UNSUBSCRIBE 0x03, PULL 0x04, PING 0x05"
                );
                return Err(Failure::invalid("kind", message));
            }
        };
        fields.end()?;
        Ok(request)
    }
}

/// A name or a pattern; longer than a name no pattern means anything.
fn topic(fields: &mut Fields) -> Result<String, Failure> {
    fields.text("topic", TOPIC_NAME_BYTES_MAX)
}

fn publish(fields: &mut Fields) -> Result<Request, Failure> {
    let (topic, partition) = (topic(fields)?, fields.u32("partition")?);
    let partition = (partition != NONE).then_some(partition);
    let placement = match fields.u8("placement")? {
        0 => Placement::Default,
        1 => Placement::Sha256,
        other => return Err(fields.wrong("placement", format_args!("0 (XXH3) or 1 (SHA-256), not {other}"))),
    };
    let count = fields.u32("count")?;
    if count == 0 || count > MESSAGES_MAX {
        return Err(fields.wrong("count", format_args!("1 to {MESSAGES_MAX} messages, not {count}")));
    }
    fields.need("messages", count as usize * MESSAGE_BYTES_MIN)?;
    let mut left = Left { headers: HEADERS_MAX, names_bytes: HEADER_NAMES_BYTES_MAX };
    // As many as there are, so that they take no more than `memory` says.
    let mut messages = Vec::with_capacity(count as usize);
    for _ in 0..count {
        messages.push(message(fields, partition, &mut left)?);
    }
    Ok(Request::Publish { topic, placement, messages })
}

/// What may still come in a publish.
struct Left {
    headers: usize,
    names_bytes: usize,
}

fn message(fields: &mut Fields, partition: Option<u32>, left: &mut Left) -> Result<PublishRequest, Failure> {
    let timestamp_ms = fields.i64("timestamp")?;
    let key = fields.optional_bytes("key")?;
    let count = usize::from(fields.u16("headers")?);
    if count > RECORD_HEADERS_MAX {
        return Err(fields.wrong("headers", format_args!("at most {RECORD_HEADERS_MAX}, not {count}")));
    }
    left.headers = left.headers.checked_sub(count).ok_or_else(|| {
        fields.wrong("headers", format_args!("at most {HEADERS_MAX} in one publish, these are more"))
    })?;
    fields.need("headers", count * HEADER_BYTES_MIN)?;
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = fields.text("header's name", left.names_bytes)?;
        left.names_bytes -= name.len();
        headers.push(Header { name, value: fields.bytes("header's value")? });
    }
    let value = fields.bytes("value")?;
    let timestamp_ms = (timestamp_ms != NOW).then_some(timestamp_ms);
    Ok(PublishRequest { topic: String::new(), key, value, headers, timestamp_ms, partition })
}

fn pull(fields: &mut Fields) -> Result<Request, Failure> {
    let (topic, partition) = (topic(fields)?, fields.u32("partition")?);
    let start = start(fields)?;
    let max = fields.u32("max")?;
    if max == 0 || max > PULL_MAX {
        return Err(fields.wrong("max", format_args!("1 to {PULL_MAX} messages, not {max}")));
    }
    let wait_ms = fields.u32("wait")?;
    if wait_ms > PULL_WAIT_MAX_MS {
        return Err(fields.wrong("wait", format_args!("at most {PULL_WAIT_MAX_MS} ms, not {wait_ms}")));
    }
    Ok(Request::Pull { topic, partition, start, max: max as usize, wait_ms })
}

fn start(fields: &mut Fields) -> Result<At, Failure> {
    let (kind, value) = (fields.u8("start")?, fields.u64("start's value")?);
    match kind {
        0 => Ok(At::Earliest(Earliest {})),
        1 => Ok(At::Latest(Latest {})),
        2 => Ok(At::Offset(value)),
        3 => i64::try_from(value).map(At::TimeMs).map_err(|_| {
            fields.wrong("start's value", format_args!("milliseconds since 1970, below 2^63, not {value}"))
        }),
        other => {
            Err(fields
                .wrong("start", format_args!("0 earliest, 1 latest, 2 an offset, 3 a time, not {other}")))
        }
    }
}

/// The partition of a key for [`Placement::Sha256`].
pub(super) fn sha256(key: &[u8], partitions: u32) -> u32 {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key);
    let first = digest.as_ref().iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte));
    u32::try_from(first % u64::from(partitions)).expect("a remainder is below a u32")
}
