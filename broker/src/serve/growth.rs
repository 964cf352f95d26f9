//! What a gRPC request takes once it is read, told from its bytes while they arrive: an element of two bytes becomes one of
//! dozens, and a text is copied.
//!
//! Owns what each method's request may hold. Walks over the fields of the message itself and skips what is in them: nothing of
//! a payload is looked at, and nothing kept. Never refuses what protobuf's own reader refuses.
//!
//! How fields are written: <https://protobuf.dev/programming-guides/encoding/>.

use fulmar_core::batch::RECORD_HEADERS_MAX;
use fulmar_core::control::table::TOPIC_NAME_BYTES_MAX;
use fulmar_proto::v1::Header;

use super::error::Failure;
use super::grpc::{NAMES_MAX, REQUEST_BYTES_MAX};
use super::subscribe::TOPICS_MAX;

/// Counted beside every request that has texts or lists: the name of a topic, and the least room that a list has, of four.
const BESIDE_BYTES: usize = 512;
/// What is in no field that is known, or in one that came before, is kept with the message, and good for nothing. Fields of
/// later versions are numbers and flags.
const STRAY_BYTES_MAX: usize = 4 * 1024;
/// A hundred names and thousands of partitions.
const SHORT_BYTES_MAX: usize = 128 * 1024;
/// One name; of other services that stand on this port too.
const NAME_BYTES_MAX: usize = 4 * 1024;
/// One turn of a partition: two ids and four numbers.
const TURN_BYTES_MAX: usize = 4 * 1024;
/// The least room of a text.
const TEXT_BYTES_MIN: usize = 8;
/// What stands before the bytes of a field, at most: which one it is, and its length.
const HEAD_BYTES_MAX: usize = 20;
/// Of one method.
const FIELDS_MAX: usize = 6;

/// What may come in a field.
#[derive(Debug)]
enum Kind {
    /// One number, or bytes that stay where they are.
    One,
    /// One text: it is copied.
    Text,
    /// So many elements that take so many bytes each, and their texts are copied.
    List(usize, usize),
    /// Numbers of four bytes, each written with one at least.
    Numbers,
}

#[derive(Debug)]
struct Field {
    number: u64,
    name: &'static str,
    kind: Kind,
}

/// What a method's request may hold.
#[derive(Debug)]
pub(super) struct Shape {
    /// Bytes of one message.
    pub(super) bytes_max: usize,
    /// What is counted beside them before any came.
    pub(super) beside: usize,
    fields: &'static [Field],
}

/// A list has at most twice the room that it needs.
const fn listed(element: usize) -> usize {
    2 * element + TEXT_BYTES_MIN
}

const fn field(number: u64, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind }
}

const PUBLISH: Shape = Shape {
    bytes_max: REQUEST_BYTES_MAX,
    beside: BESIDE_BYTES,
    fields: &[
        field(1, "topic", Kind::Text),
        field(2, "key", Kind::One),
        field(3, "value", Kind::One),
        field(4, "headers", Kind::List(RECORD_HEADERS_MAX, listed(size_of::<Header>()))),
        field(5, "timestamp_ms", Kind::One),
        field(6, "partition", Kind::One),
    ],
};
const PRODUCE: Shape = Shape {
    bytes_max: REQUEST_BYTES_MAX,
    beside: 0,
    fields: &[
        field(1, "topic_id", Kind::One),
        field(2, "partition", Kind::One),
        field(3, "batch", Kind::One),
        field(4, "correlation_id", Kind::One),
    ],
};
const FETCH: Shape = Shape { bytes_max: TURN_BYTES_MAX, beside: 0, fields: &[] };
const SUBSCRIBE: Shape = Shape {
    bytes_max: SHORT_BYTES_MAX,
    beside: BESIDE_BYTES,
    fields: &[
        field(1, "topics", Kind::List(TOPICS_MAX, listed(size_of::<String>()))),
        field(2, "start", Kind::One),
        field(3, "partitions", Kind::Numbers),
    ],
};
const METADATA: Shape = Shape {
    // Each with its length before it.
    bytes_max: NAMES_MAX * (TOPIC_NAME_BYTES_MAX + 3) + NAME_BYTES_MAX,
    beside: BESIDE_BYTES,
    fields: &[
        field(1, "topics", Kind::List(NAMES_MAX, listed(size_of::<String>()))),
        field(2, "page_size", Kind::One),
        field(3, "page_token", Kind::Text),
    ],
};
const LIST_OFFSETS: Shape = Shape {
    bytes_max: SHORT_BYTES_MAX,
    beside: BESIDE_BYTES,
    fields: &[
        field(1, "topic", Kind::Text),
        field(2, "partitions", Kind::Numbers),
        field(3, "time_ms", Kind::One),
    ],
};
/// All of it may be one text.
const OTHER: Shape = Shape { bytes_max: NAME_BYTES_MAX, beside: NAME_BYTES_MAX, fields: &[] };

/// What the request of a method may hold, by its path.
pub(super) fn shape(path: &str) -> &'static Shape {
    match path {
        "/fulmar.v1.PubSub/Publish" => &PUBLISH,
        "/fulmar.v1.PubSub/Subscribe" => &SUBSCRIBE,
        "/fulmar.v1.Log/Produce" => &PRODUCE,
        "/fulmar.v1.Log/Fetch" => &FETCH,
        "/fulmar.v1.Log/Metadata" => &METADATA,
        "/fulmar.v1.Log/ListOffsets" => &LIST_OFFSETS,
        _ => &OTHER,
    }
}

/// Where in a message its bytes have come to.
#[derive(Debug, Clone, Copy)]
enum At {
    /// What a field is.
    Key,
    /// A field that is a number.
    Number,
    /// How long a field is.
    Length,
    /// So many bytes of a field.
    Skip(u64),
    /// What follows is no protobuf.
    Broken,
}

/// How often a field came, and what of it is known not to be stray, if only one counts.
#[derive(Debug, Clone, Copy, Default)]
struct Came {
    times: usize,
    bytes: usize,
}

/// One message, as far as it has come.
#[derive(Debug)]
pub(super) struct Walk {
    shape: &'static Shape,
    at: At,
    /// The number that is being read, and how many of its bits are.
    value: u64,
    bits: u32,
    /// The field that is being read.
    field: u64,
    /// Of each of the shape's.
    came: [Came; FIELDS_MAX],
    /// All of it, and what of it is in known fields.
    bytes: usize,
    known: usize,
    /// What it takes, beside its bytes.
    growth: usize,
}

impl Walk {
    pub(super) fn over(shape: &'static Shape) -> Self {
        Self {
            shape,
            at: At::Key,
            value: 0,
            bits: 0,
            field: 0,
            came: [Came::default(); FIELDS_MAX],
            bytes: 0,
            known: 0,
            growth: shape.beside,
        }
    }

    /// The next bytes of the message. An error: it has too many of something.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        // A turn is short, and nothing of it is kept.
        if self.shape.fields.is_empty() {
            return Ok(());
        }
        self.bytes += bytes.len();
        let mut left = bytes;
        while !left.is_empty() {
            match self.at {
                At::Broken => return Ok(()),
                At::Skip(bytes) => {
                    let passed = usize::try_from(bytes).unwrap_or(usize::MAX).min(left.len());
                    left = &left[passed..];
                    let bytes = bytes - passed as u64;
                    self.at = if bytes == 0 { At::Key } else { At::Skip(bytes) };
                }
                At::Key | At::Number | At::Length => {
                    let (byte, rest) = (left[0], &left[1..]);
                    left = rest;
                    if let Some(number) = self.number(byte) {
                        self.read(number)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The message is whole: what it takes beside its bytes. An error: it has too much that means nothing.
    pub(super) fn end(&self) -> Result<usize, Failure> {
        let stray = self.bytes.saturating_sub(self.known);
        // Its reader refuses it at once, whatever it says that it has.
        if !matches!(self.at, At::Key) {
            return Ok(self.shape.beside);
        }
        if stray <= STRAY_BYTES_MAX || self.shape.fields.is_empty() {
            return Ok(self.growth);
        }
        let message = format!(
            "{stray} bytes of the request are in fields that are not known here or came before; {STRAY_BYTES_MAX} at most may be"
        );
        Err(Failure::invalid("request", message))
    }

    /// A number, if this byte is its last one.
    fn number(&mut self, byte: u8) -> Option<u64> {
        self.value |= u64::from(byte & 0x7f).checked_shl(self.bits).unwrap_or(0);
        self.bits += 7;
        if byte < 0x80 {
            self.bits = 0;
            return Some(std::mem::take(&mut self.value));
        }
        if self.bits >= u64::BITS {
            self.at = At::Broken;
        }
        None
    }

    fn read(&mut self, number: u64) -> Result<(), Failure> {
        self.at = match self.at {
            At::Key => {
                self.field = number >> 3;
                match number & 7 {
                    0 => At::Number,
                    1 => At::Skip(8),
                    2 => At::Length,
                    5 => At::Skip(4),
                    // The beginning and the end of a group, whose fields are looked at as if they were the message's.
                    3 | 4 => At::Key,
                    _ => At::Broken,
                }
            }
            At::Length => {
                self.count(usize::try_from(number).unwrap_or(usize::MAX))?;
                if number == 0 { At::Key } else { At::Skip(number) }
            }
            At::Number | At::Skip(_) | At::Broken => {
                self.count(0)?;
                At::Key
            }
        };
        Ok(())
    }

    /// A field of so many bytes.
    fn count(&mut self, length: usize) -> Result<(), Failure> {
        let Some(at) = self.shape.fields.iter().position(|field| field.number == self.field) else {
            return Ok(());
        };
        let (&Field { name, ref kind, .. }, Came { times, bytes }) =
            (&self.shape.fields[at], &mut self.came[at]);
        let with_head = length.saturating_add(HEAD_BYTES_MAX);
        *times += 1;
        let growth = match kind {
            // Of several the last one counts.
            Kind::One | Kind::Text => {
                self.known = self.known.saturating_sub(std::mem::replace(bytes, with_head));
                if matches!(kind, Kind::Text) { length } else { 0 }
            }
            Kind::List(most, _) if *times > *most => {
                return Err(Failure::invalid(name, format!("{name}: at most {most}, these are more")));
            }
            Kind::List(_, each) => length.saturating_add(*each),
            Kind::Numbers => length.max(1).saturating_mul(2 * size_of::<u32>()),
        };
        self.known = self.known.saturating_add(with_head);
        self.growth = self.growth.saturating_add(growth);
        Ok(())
    }
}

/// For the fuzzer: what is counted for a request, if its method takes it.
pub(super) fn counted(path: &str, message: &[u8]) -> Option<usize> {
    let shape = shape(path);
    let mut walk = Walk::over(shape);
    // As it may come from a socket: in pieces.
    let (first, second) = message.split_at(message.len() / 2);
    walk.pass(first).and_then(|()| walk.pass(second)).ok()?;
    let growth = walk.end().ok()?;
    (message.len() <= shape.bytes_max).then_some(message.len() + growth)
}

#[cfg(test)]
#[path = "growth_tests.rs"]
mod tests;
