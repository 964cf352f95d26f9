//! Records inside a batch: variable-length fields behind the header.

use bytes::{BufMut, Bytes, BytesMut};

use super::{BatchError, HEADER_BYTES};

/// The most headers of one record.
pub const RECORD_HEADERS_MAX: usize = 256;

/// One message, as programs see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Decides the partition and groups what belongs together; absent is not the same as empty.
    pub key: Option<Bytes>,
    /// The payload.
    pub value: Bytes,
    /// Names and values beside the payload, in order, at most [`RECORD_HEADERS_MAX`].
    pub headers: Vec<Header>,
    /// The program's own clock: milliseconds since 1970, negative before.
    pub timestamp_ms: i64,
}

/// A name and a value beside the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// UTF-8.
    pub name: String,
    /// Any bytes.
    pub value: Bytes,
}

fn put_varint(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    out.put_u8(u8::try_from(value).expect("seven bits"));
}

/// Seven bits a byte; zero takes one, too.
fn varint_size(value: u64) -> usize {
    (u64::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

fn zigzag(value: i64) -> u64 {
    (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn put_bytes(bytes: &[u8], out: &mut BytesMut) {
    put_varint(bytes.len() as u64, out);
    out.put_slice(bytes);
}

fn bytes_size(bytes: &[u8]) -> usize {
    varint_size(bytes.len() as u64) + bytes.len()
}

/// How many bytes [`encode`] writes.
pub(super) fn size(record: &Record, base_timestamp_ms: i64) -> usize {
    let timestamp = varint_size(zigzag(record.timestamp_ms.wrapping_sub(base_timestamp_ms)));
    let key = record.key.as_ref().map_or(1, |key| varint_size(key.len() as u64 + 1) + key.len());
    let headers = record.headers.iter();
    let headers: usize =
        headers.map(|header| bytes_size(header.name.as_bytes()) + bytes_size(&header.value)).sum();
    timestamp + key + bytes_size(&record.value) + varint_size(record.headers.len() as u64) + headers
}

/// Timestamp, key, value, headers, as `FORMAT.md` lays them out.
pub(super) fn encode(record: &Record, base_timestamp_ms: i64, out: &mut BytesMut) {
    put_varint(zigzag(record.timestamp_ms.wrapping_sub(base_timestamp_ms)), out);
    match &record.key {
        None => put_varint(0, out),
        Some(key) => {
            put_varint(key.len() as u64 + 1, out);
            out.put_slice(key);
        }
    }
    put_bytes(&record.value, out);
    put_varint(record.headers.len() as u64, out);
    for header in &record.headers {
        put_bytes(header.name.as_bytes(), out);
        put_bytes(&header.value, out);
    }
}

/// Reads fields one after the other and remembers where it is, for errors that name the byte.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A piece of the batch: where it starts and ends.
type Span = (usize, usize);

impl Cursor<'_> {
    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at).ok_or("the batch ends inside a number")?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err("a number has more than 64 bits");
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number has more than ten bytes")
    }

    fn span(&mut self, length: u64) -> Result<Span, &'static str> {
        let start = self.at;
        let length = usize::try_from(length).map_err(|_| "a field is longer than the batch")?;
        let end = start.checked_add(length).filter(|end| *end <= self.bytes.len());
        self.at = end.ok_or("a field is longer than the batch")?;
        Ok((start, self.at))
    }
}

/// Where a record's fields lie.
struct Layout {
    timestamp_delta: i64,
    key: Option<Span>,
    value: Span,
    headers: u64,
}

fn read(cursor: &mut Cursor<'_>) -> Result<Layout, &'static str> {
    let timestamp_delta = unzigzag(cursor.varint()?);
    let key = match cursor.varint()? {
        0 => None,
        length => Some(cursor.span(length - 1)?),
    };
    let length = cursor.varint()?;
    let value = cursor.span(length)?;
    let headers = cursor.varint()?;
    if headers > RECORD_HEADERS_MAX as u64 {
        return Err("a record has more than 256 headers");
    }
    Ok(Layout { timestamp_delta, key, value, headers })
}

fn read_header(cursor: &mut Cursor<'_>) -> Result<(Span, Span), &'static str> {
    let length = cursor.varint()?;
    let name = cursor.span(length)?;
    if std::str::from_utf8(&cursor.bytes[name.0..name.1]).is_err() {
        return Err("a header's name is not UTF-8");
    }
    let length = cursor.varint()?;
    Ok((name, cursor.span(length)?))
}

/// Passes over a record; the bytes of its key, value and headers.
fn pass(cursor: &mut Cursor<'_>) -> Result<usize, &'static str> {
    let length = |(start, end): Span| end - start;
    let layout = read(cursor)?;
    let mut bytes = layout.key.map_or(0, length) + length(layout.value);
    for _ in 0..layout.headers {
        let (name, value) = read_header(cursor)?;
        bytes += length(name) + length(value);
    }
    Ok(bytes)
}

/// Every record's frame holds, and nothing follows the last. Gives the size of the largest one: key, value and headers.
pub(super) fn check(bytes: &[u8], count: u32) -> Result<usize, BatchError> {
    let mut cursor = Cursor { bytes, at: HEADER_BYTES };
    let mut largest = 0;
    for index in 0..count {
        let size = pass(&mut cursor).map_err(|what| BatchError::Record { index, at: cursor.at, what })?;
        largest = largest.max(size);
    }
    if cursor.at < bytes.len() {
        return Err(BatchError::Record { index: count, at: cursor.at, what: "bytes follow the last record" });
    }
    Ok(largest)
}

/// The records of a batch, in order, as slices of its bytes, or of what those were before they were compressed.
#[derive(Debug)]
pub struct Records {
    bytes: Bytes,
    at: usize,
    base_timestamp_ms: i64,
    left: u32,
}

impl Records {
    pub(super) fn new(bytes: Bytes, base_timestamp_ms: i64, count: u32) -> Self {
        Self { bytes, at: HEADER_BYTES, base_timestamp_ms, left: count }
    }

    /// The batch that they are slices of, without compression.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    fn next_record(&mut self) -> Result<Record, &'static str> {
        let Self { bytes, at, .. } = self;
        let mut cursor = Cursor { bytes, at: *at };
        let layout = read(&mut cursor)?;
        let mut headers = Vec::with_capacity(usize::try_from(layout.headers).unwrap_or(0));
        for _ in 0..layout.headers {
            let (name, value) = read_header(&mut cursor)?;
            let name = String::from_utf8_lossy(&bytes[name.0..name.1]).into_owned();
            headers.push(Header { name, value: bytes.slice(value.0..value.1) });
        }
        *at = cursor.at;
        Ok(Record {
            key: layout.key.map(|(start, end)| bytes.slice(start..end)),
            value: bytes.slice(layout.value.0..layout.value.1),
            headers,
            timestamp_ms: self.base_timestamp_ms.wrapping_add(layout.timestamp_delta),
        })
    }
}

impl Iterator for Records {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        self.left = self.left.checked_sub(1)?;
        Some(self.next_record().expect("whoever gave these bytes checked them whole"))
    }
}
