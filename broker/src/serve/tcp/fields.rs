//! The fields of a body, in the order in which they stand: integers are big-endian, texts and bytes carry their length.
//!
//! Owns the reading of fields that a stranger wrote: each error names the field and its byte. Never what they mean.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::super::error::Failure;

/// In the place of a partition or a length: there is none.
pub(super) const NONE: u32 = u32::MAX;

/// A body that is read.
#[derive(Debug)]
pub(super) struct Fields {
    rest: Bytes,
    whole: usize,
}

impl Fields {
    /// From its first byte on.
    pub(super) fn of(body: Bytes) -> Self {
        Self { whole: body.len(), rest: body }
    }

    /// The field that begins here is wrong.
    pub(super) fn wrong(&self, name: &'static str, what: impl std::fmt::Display) -> Failure {
        Failure::invalid(
            name,
            format!("{name}, at byte {} of the body: {what}", self.whole - self.rest.len()),
        )
    }

    /// So many bytes are still there.
    pub(super) fn need(&self, name: &'static str, bytes: usize) -> Result<(), Failure> {
        if self.rest.len() >= bytes {
            return Ok(());
        }
        Err(self.wrong(name, format_args!("it needs {bytes} bytes, {} are left", self.rest.len())))
    }

    /// One byte.
    pub(super) fn u8(&mut self, name: &'static str) -> Result<u8, Failure> {
        self.need(name, 1)?;
        Ok(self.rest.get_u8())
    }

    /// Two bytes.
    pub(super) fn u16(&mut self, name: &'static str) -> Result<u16, Failure> {
        self.need(name, 2)?;
        Ok(self.rest.get_u16())
    }

    /// Four bytes.
    pub(super) fn u32(&mut self, name: &'static str) -> Result<u32, Failure> {
        self.need(name, 4)?;
        Ok(self.rest.get_u32())
    }

    /// Eight bytes.
    pub(super) fn u64(&mut self, name: &'static str) -> Result<u64, Failure> {
        self.need(name, 8)?;
        Ok(self.rest.get_u64())
    }

    /// Eight bytes with a sign.
    pub(super) fn i64(&mut self, name: &'static str) -> Result<i64, Failure> {
        self.need(name, 8)?;
        Ok(self.rest.get_i64())
    }

    /// A length of four bytes and so many bytes of UTF-8, `most` at most: a text is copied.
    pub(super) fn text(&mut self, name: &'static str, most: usize) -> Result<String, Failure> {
        let length = self.u32(name)? as usize;
        self.need(name, length)?;
        if length > most {
            return Err(self.wrong(name, format_args!("at most {most} bytes, these are {length}")));
        }
        let text = std::str::from_utf8(&self.rest[..length]).map(str::to_owned);
        let text = text.map_err(|error| self.wrong(name, format_args!("it is no UTF-8: {error}")))?;
        self.rest.advance(length);
        Ok(text)
    }

    /// A length of four bytes and so many bytes.
    pub(super) fn bytes(&mut self, name: &'static str) -> Result<Bytes, Failure> {
        let length = self.u32(name)?;
        self.sized(name, length)
    }

    /// The same, or [`NONE`].
    pub(super) fn optional_bytes(&mut self, name: &'static str) -> Result<Option<Bytes>, Failure> {
        match self.u32(name)? {
            NONE => Ok(None),
            length => self.sized(name, length).map(Some),
        }
    }

    fn sized(&mut self, name: &'static str, length: u32) -> Result<Bytes, Failure> {
        let length = length as usize;
        self.need(name, length)?;
        Ok(self.rest.split_to(length))
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Result<(), Failure> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.wrong("body", format_args!("{} bytes are left behind its last field", self.rest.len())))
    }
}

/// Writes what [`Fields::bytes`] and [`Fields::text`] read.
pub(super) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("a record is far below 4 GiB"));
    out.put_slice(bytes);
}

/// Writes what [`Fields::optional_bytes`] reads.
pub(super) fn put_optional_bytes(out: &mut BytesMut, bytes: Option<&Bytes>) {
    match bytes {
        Some(bytes) => put_bytes(out, bytes),
        None => out.put_u32(NONE),
    }
}
