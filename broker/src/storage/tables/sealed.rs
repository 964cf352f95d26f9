//! A checksum in front of each small row: redb checks its pages only after a crash, and a promise or a log's end must not
//! change by a flipped bit. It covers the key, so that a row under a damaged key does not pass either.

use std::borrow::Cow;

use super::super::bytes::Malformed;
use super::super::flipped::{self, Flipped};

/// The row with its checksum: CRC32C (4 bytes) over key and body, then the body.
pub(crate) fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(4 + body.len());
    row.extend_from_slice(&checksum(key, body).to_le_bytes());
    row.extend_from_slice(body);
    row
}

/// The body, if the checksum holds. One flipped bit is turned back: a row stands for a whole replica.
pub(crate) fn open<'a>(key: &[u8], row: &'a [u8]) -> Result<Cow<'a, [u8]>, Malformed> {
    let (stored, body) = row.split_first_chunk().ok_or(Malformed { what: "checksum" })?;
    let (stored, computed) = (u32::from_le_bytes(*stored), checksum(key, body));
    if stored == computed {
        return Ok(Cow::Borrowed(body));
    }
    let mut body = body.to_vec();
    match flipped::find(body.len(), computed, stored) {
        Some(Flipped::Checksum) => {}
        Some(Flipped::Bit { byte, bit }) => body[byte] ^= 1 << bit,
        None => return Err(Malformed { what: "checksum" }),
    }
    tracing::warn!(bytes = body.len(), "one bit of a stored row was flipped: its checksum told which");
    Ok(Cow::Owned(body))
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key), body)
}
