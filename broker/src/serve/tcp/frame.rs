//! Frames: where one ends, whether it is whole, and which request it belongs to. `docs/protocol.md` says each byte.
//!
//! Owns the bytes around a body. Never looks into bodies.

use bytes::{BufMut, Bytes, BytesMut};
use crc32c::crc32c_append;
use fulmar_core::batch::BATCH_BYTES_MAX;
use thiserror::Error;

/// How every frame begins: `FM`.
pub(super) const MAGIC: [u8; 2] = *b"FM";
/// The version that is spoken.
pub(super) const VERSION: u8 = 1;
/// Magic, version, kind, correlation id and the body's length.
pub(super) const HEAD_BYTES: usize = 12;
/// The CRC32C behind a body.
pub(super) const CRC_BYTES: usize = 4;
/// A body has at most so many bytes: the largest batch and what stands around it.
pub(super) const BODY_BYTES_MAX: usize = BATCH_BYTES_MAX + 64 * 1024;

/// What stands in front of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// What the body is.
    pub(super) kind: u8,
    /// The program's own number of a request; answers carry it.
    pub(super) correlation: u32,
    /// The body's length.
    pub(super) length: usize,
}

/// Bytes that are no frame: what comes behind them cannot be told apart any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum FrameError {
    /// Another protocol.
    #[error(
        "bytes 0 and 1 are 0x{0:02x}{1:02x}, and a frame begins with 0x464d (\"FM\"): see docs/protocol.md"
    )]
    Magic(u8, u8),
    /// A later version, or garbage.
    #[error("byte 2: version {0} is not spoken here, {VERSION} is")]
    Version(u8),
    /// Longer than [`BODY_BYTES_MAX`].
    #[error("bytes 8 to 11: a body has at most {BODY_BYTES_MAX} bytes, this one says {0}")]
    Length(usize),
    /// Changed on its way.
    #[error(
        "the CRC32C says 0x{said:08x}, and the bytes have 0x{have:08x}: the frame was changed on its way"
    )]
    Crc {
        /// What stands behind the body.
        said: u32,
        /// What it should have been.
        have: u32,
    },
}

impl Head {
    /// Reads and checks it.
    ///
    /// # Errors
    /// A [`FrameError`] but [`FrameError::Crc`].
    pub(super) fn parse(bytes: &[u8; HEAD_BYTES]) -> Result<Self, FrameError> {
        let [first, second, version, kind, a, b, c, d, length @ ..] = *bytes;
        if [first, second] != MAGIC {
            return Err(FrameError::Magic(first, second));
        }
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > BODY_BYTES_MAX {
            return Err(FrameError::Length(length));
        }
        Ok(Self { kind, correlation: u32::from_be_bytes([a, b, c, d]), length })
    }

    /// How many bytes follow it: the body and its CRC.
    pub(super) fn rest(&self) -> usize {
        self.length + CRC_BYTES
    }
}

/// The body behind a head, checked. `rest` has [`Head::rest`] bytes.
///
/// # Errors
/// [`FrameError::Crc`].
pub(super) fn body(head: &[u8; HEAD_BYTES], mut rest: Bytes) -> Result<Bytes, FrameError> {
    let crc = rest.split_off(rest.len().saturating_sub(CRC_BYTES));
    let said = crc.iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
    let have = crc32c_append(crc32c_append(0, head), &rest);
    if said == have { Ok(rest) } else { Err(FrameError::Crc { said, have }) }
}

/// A whole frame; `write` puts the body.
pub(super) fn frame(kind: u8, correlation: u32, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut bytes = BytesMut::with_capacity(128);
    bytes.put_slice(&MAGIC);
    bytes.put_slice(&[VERSION, kind]);
    bytes.put_u32(correlation);
    bytes.put_u32(0);
    write(&mut bytes);
    let length = u32::try_from(bytes.len() - HEAD_BYTES).expect("answers are bounded far below 4 GiB");
    bytes[HEAD_BYTES - 4..HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c_append(0, &bytes);
    bytes.put_u32(crc);
    bytes.freeze()
}
