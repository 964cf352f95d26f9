//! The journal: what is synced first, in one order (`FORMAT.md`).
//!
//! Owns slots, groups and the chain between groups. Never knows what a record means, and never reuses a slot that it was
//! not told it may.

pub(super) mod group;
mod reader;
mod slots;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use self::reader::Reader;
pub(super) use self::slots::{Slots, folder};
pub(super) use self::writer::Writer;

use super::bytes;
use super::error::OpenError;

/// Groups begin at multiples of this: a page of disk and cache.
pub(super) const ALIGN: u64 = 4096;

/// How many slots of which size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) slots: u32,
    pub(super) slot_bytes: u64,
}

impl Shape {
    pub(super) fn check(self) -> Result<(), OpenError> {
        let wrong = |field, what: &str| Err(OpenError::Config { field, what: what.to_owned() });
        if !(3..=64).contains(&self.slots) {
            return wrong("slots", "from 3 to 64");
        }
        if !self.slot_bytes.is_multiple_of(ALIGN) || !(16 * ALIGN..=1 << 30).contains(&self.slot_bytes) {
            return wrong("slot_bytes", "a multiple of 4096 from 64 KiB to 1 GiB");
        }
        Ok(())
    }

    /// The largest group, head included.
    pub(super) fn group_bytes_max(self) -> u64 {
        self.slot_bytes - ALIGN
    }
}

/// A place between two groups. `at` counts bytes as if no slot were ever reused: slot number times slot size plus the
/// byte in the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) at: u64,
    /// The next group's number, from 1.
    pub(super) sequence: u64,
    /// The checksum of the group before.
    pub(super) chain: u32,
    /// The last group known to be synced.
    pub(super) synced_through: u64,
}

impl Position {
    /// Where a journal begins.
    pub(super) const START: Position = Position { at: ALIGN, sequence: 1, chain: 0, synced_through: 0 };

    /// Where a group of so many bytes goes: here, or at the start of the next slot.
    fn place(mut self, size: u64, shape: Shape) -> Self {
        let within = self.at % shape.slot_bytes;
        if within < ALIGN || within + size > shape.slot_bytes {
            self.at = self.next_slot(shape);
        }
        self
    }

    fn next_slot(self, shape: Shape) -> u64 {
        // `within` is 0 exactly behind a slot that is full to its last byte.
        let slot = self.at / shape.slot_bytes;
        let slot = if self.at.is_multiple_of(shape.slot_bytes) { slot } else { slot + 1 };
        slot * shape.slot_bytes + ALIGN
    }

    pub(super) fn encode(self, into: &mut bytes::Writer<'_>) {
        into.u64(self.at).u64(self.sequence).u32(self.chain).u64(self.synced_through);
    }

    pub(super) fn decode(from: &mut bytes::Reader<'_>) -> Result<Self, bytes::Malformed> {
        Ok(Self {
            at: from.u64("journal place")?,
            sequence: from.u64("journal sequence")?,
            chain: from.u32("journal chain")?,
            synced_through: from.u64("journal synced")?,
        })
    }
}
