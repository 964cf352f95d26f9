//! One group: what was written with one call and synced once (`FORMAT.md`).

use super::{ALIGN, Position};

/// Bytes in front of the records.
pub(crate) const HEADER_BYTES: usize = 64;
const MAGIC: &[u8; 4] = b"FJG1";

/// A group's head. Its checksum covers everything behind it, the records included, and the checksum of the group before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) checksum: u32,
    pub(super) sequence: u64,
    pub(super) at: u64,
    pub(super) synced_through: u64,
    pub(super) body_bytes: u32,
    pub(super) chain: u32,
}

impl Head {
    /// The bytes that a group of this size takes in a slot.
    pub(super) fn size(&self) -> u64 {
        padded(HEADER_BYTES + self.body_bytes as usize)
    }
}

/// Groups begin at page boundaries, so that writing one never touches a page that was synced before.
pub(super) fn padded(bytes: usize) -> u64 {
    (bytes as u64).next_multiple_of(ALIGN)
}

/// Fills in the head in front of a body and pads to a page. Gives the checksum, which the next group carries.
pub(super) fn seal(group: &mut Vec<u8>, journal: &[u8; 16], to: &Position) -> u32 {
    let body_bytes = u32::try_from(group.len() - HEADER_BYTES).expect("a group is smaller than its slot");
    group[..4].copy_from_slice(MAGIC);
    group[8..24].copy_from_slice(journal);
    group[24..32].copy_from_slice(&to.sequence.to_le_bytes());
    group[32..40].copy_from_slice(&to.at.to_le_bytes());
    group[40..48].copy_from_slice(&to.synced_through.to_le_bytes());
    group[48..52].copy_from_slice(&body_bytes.to_le_bytes());
    group[52..56].copy_from_slice(&to.chain.to_le_bytes());
    group[56..64].fill(0);
    let checksum = crc32c::crc32c(&group[8..]);
    group[4..8].copy_from_slice(&checksum.to_le_bytes());
    let padded = usize::try_from(padded(group.len())).expect("a group is smaller than its slot");
    group.resize(padded, 0);
    checksum
}

/// Reads a head of this journal; `None` if these bytes are none.
pub(super) fn head(bytes: &[u8], journal: &[u8; 16]) -> Option<Head> {
    let bytes: &[u8; HEADER_BYTES] = bytes.get(..HEADER_BYTES)?.try_into().expect("as long as asked for");
    if &bytes[..4] != MAGIC || &bytes[8..24] != journal {
        return None;
    }
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    Some(Head {
        checksum: u32_at(4),
        sequence: u64_at(24),
        at: u64_at(32),
        synced_through: u64_at(40),
        body_bytes: u32_at(48),
        chain: u32_at(52),
    })
}

/// Whether head and body are as they were written.
pub(super) fn holds(head: &Head, header_and_body: &[u8]) -> bool {
    header_and_body.len() == HEADER_BYTES + head.body_bytes as usize
        && crc32c::crc32c(&header_and_body[8..]) == head.checksum
}
