//! Compressed records: which codecs there are, and how bytes become bytes.
//!
//! Owns the codecs and their numbers. Never looks into records, and never allocates what comes out: whoever decompresses gives
//! the room, which was checked against the bound of a batch before.

use super::BatchError;

/// How a producer compresses the records of its batches; brokers store and deliver them so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4, one block: the quickest.
    Lz4,
    /// Snappy, without frames: much like LZ4, for those who know it from elsewhere.
    Snappy,
    /// Zstandard: the smallest, for more time of the processor.
    Zstd,
}

/// Zstandard's own default: beyond it a little smaller costs a lot more.
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    /// All of them, by number.
    pub const ALL: [Self; 4] = [Self::None, Self::Lz4, Self::Snappy, Self::Zstd];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
        }
    }

    /// What byte 6 of a batch says.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Snappy => 2,
            Self::Zstd => 3,
        }
    }

    pub(super) fn of_number(number: u8) -> Result<Self, BatchError> {
        let known = Self::ALL.into_iter().find(|codec| codec.number() == number);
        known.ok_or(BatchError::Compression(number))
    }

    /// The bytes made smaller, by more than `beside` that they then need beside them; `None` if they cannot be, or nothing is to be done.
    pub(super) fn compress(self, plain: &[u8], beside: usize) -> Option<Vec<u8>> {
        // They fail for lack of memory, or of more bytes than a batch has; then it goes as it is.
        let smaller = match self {
            Self::None => None,
            Self::Lz4 => Some(lz4_flex::block::compress(plain)),
            Self::Snappy => snap::raw::Encoder::new().compress_vec(plain).ok(),
            Self::Zstd => zstd::bulk::compress(plain, ZSTD_LEVEL).ok(),
        };
        smaller.filter(|smaller| smaller.len() + beside < plain.len())
    }

    /// Fills `plain` with what the bytes were, and nothing else.
    pub(super) fn decompress(self, compressed: &[u8], plain: &mut [u8]) -> Result<(), BatchError> {
        let room = plain.len();
        let filled = match self {
            Self::None => return Err(BatchError::Compression(self.number())),
            Self::Lz4 => {
                lz4_flex::block::decompress_into(compressed, plain).map_err(|error| error.to_string())
            }
            Self::Snappy => {
                snap::raw::Decoder::new().decompress(compressed, plain).map_err(|error| error.to_string())
            }
            Self::Zstd => {
                zstd::bulk::decompress_to_buffer(compressed, plain).map_err(|error| error.to_string())
            }
        };
        let failed = |what| Err(BatchError::Decompress { codec: self.name(), what });
        match filled {
            Ok(filled) if filled == room => Ok(()),
            Ok(filled) => failed(format!("bytes 100-103 say {room} bytes, they make {filled}")),
            Err(what) => failed(what),
        }
    }
}
