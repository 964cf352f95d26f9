//! Appends groups.

use std::io;

use super::group::{self, HEADER_BYTES};
use super::{Position, Slots};

/// The end of the journal, where groups are added.
#[derive(Debug)]
pub(in super::super) struct Writer {
    slots: Slots,
    next: Position,
    buffer: Vec<u8>,
}

impl Writer {
    /// Goes on at `next`, behind groups that are synced.
    pub(in super::super) fn new(slots: Slots, next: Position) -> Self {
        Self { slots, next: Position { synced_through: next.sequence - 1, ..next }, buffer: Vec::new() }
    }

    /// Behind the last group.
    pub(in super::super) fn position(&self) -> Position {
        self.next
    }

    /// The most bytes that the records of one group may take.
    pub(in super::super) fn body_bytes_max(&self) -> usize {
        usize::try_from(self.slots.shape.group_bytes_max()).expect("a slot is at most 1 GiB") - HEADER_BYTES
    }

    /// An empty body to fill with records, for [`append`](Self::append). It begins behind the place of the head.
    pub(in super::super) fn body(&mut self) -> &mut Vec<u8> {
        self.buffer.clear();
        self.buffer.resize(HEADER_BYTES, 0);
        &mut self.buffer
    }

    /// Where the group that was filled in will go.
    fn target(&self) -> Position {
        self.next.place(group::padded(self.buffer.len()), self.slots.shape)
    }

    /// Whether the group that was filled in can be written without overwriting anything at or above `released`.
    pub(in super::super) fn fits(&self, released: &Position) -> bool {
        let shape = self.slots.shape;
        let slot = self.target().at / shape.slot_bytes;
        // A lap before, the same file was this slot; all of it must lie below what is released.
        match slot.checked_sub(u64::from(shape.slots)) {
            None => true,
            Some(before) => released.at >= (before + 1) * shape.slot_bytes,
        }
    }

    /// Writes the group that was filled in with one call. Not synced yet.
    pub(in super::super) fn append(&mut self) -> io::Result<()> {
        let mut target = self.target();
        if self.next.synced_through + 1 < self.next.sequence
            && target.at / self.slots.shape.slot_bytes != (self.next.at - 1) / self.slots.shape.slot_bytes
        {
            // Another file: a sync of it would not reach what is unsynced in this one.
            self.sync()?;
            target.synced_through = self.next.synced_through;
        }
        let checksum = group::seal(&mut self.buffer, &self.slots.journal, &target);
        let (_, file, within) = self.slots.file(target.at);
        file.write_at(&self.buffer, within)?;
        self.next = Position {
            at: target.at + self.buffer.len() as u64,
            sequence: target.sequence + 1,
            chain: checksum,
            synced_through: target.synced_through,
        };
        Ok(())
    }

    /// Makes all groups so far durable.
    pub(in super::super) fn sync(&mut self) -> io::Result<()> {
        let (_, file, _) = self.slots.file(self.next.at - 1);
        file.sync()?;
        self.next.synced_through = self.next.sequence - 1;
        Ok(())
    }
}
