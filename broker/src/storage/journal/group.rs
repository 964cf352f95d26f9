//! One group: what was written with one call and synced once (`FORMAT.md`).

use super::super::flipped::{self, Flipped};
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

/// The group of which at most one bit is wrong, at a place where one was synced: turns that bit back. `bytes` is all that follows
/// that place in its slot. Everything but a checksum, `syncedThrough` and the length of the records is known beforehand.
pub(super) fn turn_back(bytes: &[u8], journal: &[u8; 16], to: &Position) -> Option<(Head, Vec<u8>)> {
    let mut header: [u8; HEADER_BYTES] = *bytes.first_chunk()?;
    let mut expected = header;
    expected[..4].copy_from_slice(MAGIC);
    expected[8..24].copy_from_slice(journal);
    expected[24..32].copy_from_slice(&to.sequence.to_le_bytes());
    expected[32..40].copy_from_slice(&to.at.to_le_bytes());
    expected[52..56].copy_from_slice(&to.chain.to_le_bytes());
    expected[56..64].fill(0);
    let wrong: u32 = header.iter().zip(&expected).map(|(a, b)| (a ^ b).count_ones()).sum();
    if wrong > 1 {
        return None;
    }
    header = expected;
    let whole = |header: &[u8; HEADER_BYTES]| {
        let head = head(header, journal)?;
        let end = HEADER_BYTES.checked_add(head.body_bytes as usize)?;
        let mut group = bytes.get(..end)?.to_vec();
        group[..HEADER_BYTES].copy_from_slice(header);
        Some((head, group))
    };
    let found = whole(&header);
    if let Some((head, group)) = found.as_ref().filter(|(head, group)| holds(head, group)) {
        return Some((*head, group.clone()));
    }
    if wrong == 1 {
        return None;
    }
    let lengths = (48..52).flat_map(|byte| (0..8).map(move |bit| (byte, bit)));
    for (byte, bit) in lengths {
        let mut other = header;
        other[byte] ^= 1 << bit;
        if let Some((head, group)) = whole(&other).filter(|(head, group)| holds(head, group)) {
            return Some((head, group));
        }
    }
    let (mut head, mut group) = found?;
    let computed = crc32c::crc32c(&group[8..]);
    match flipped::find(group.len() - 8, computed, head.checksum)? {
        Flipped::Checksum => head.checksum = computed,
        Flipped::Bit { byte, bit } => {
            group[8 + byte] ^= 1 << bit;
            head = super::group::head(&group, journal)?;
        }
    }
    Some((head, group))
}

/// Whether head and body are as they were written.
pub(super) fn holds(head: &Head, header_and_body: &[u8]) -> bool {
    header_and_body.len() == HEADER_BYTES + head.body_bytes as usize
        && crc32c::crc32c(&header_and_body[8..]) == head.checksum
}

/// For the fuzzer: bytes where a group was synced. One that is turned back holds.
pub(in super::super) fn fuzzed(bytes: &[u8], journal: &[u8; 16], to: &Position) {
    if let Some(head) = head(bytes, journal) {
        let _ = (holds(&head, bytes), head.size());
    }
    if let Some((head, group)) = turn_back(bytes, journal, to) {
        assert!(holds(&head, &group), "a group that does not hold was given back");
    }
}

/// For the fuzzer: a group that holds.
pub(in super::super) fn sealed(body: &[u8], journal: &[u8; 16], to: &Position) -> Vec<u8> {
    let mut group = vec![0; HEADER_BYTES];
    group.extend_from_slice(body);
    seal(&mut group, journal, to);
    group
}
