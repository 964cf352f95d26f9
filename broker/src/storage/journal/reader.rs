//! Reads the chain of groups from a position on, and tells a torn tail from rot.

use bytes::{Bytes, BytesMut};

use super::super::error::{OpenError, io};
use super::group::{self, HEADER_BYTES, Head};
use super::{ALIGN, Position, Slots};

/// Groups are some MiB; a larger one is not searched for a flipped bit, which takes that much memory.
const TURNED_BACK_MAX: u64 = 64 * 1024 * 1024;

/// A group that holds.
#[derive(Debug)]
pub(in super::super) struct Group {
    /// Its records.
    pub(in super::super) body: Bytes,
    /// Behind it.
    pub(in super::super) end: Position,
}

/// Goes through the chain.
#[derive(Debug)]
pub(in super::super) struct Reader<'a> {
    slots: &'a Slots,
    next: Position,
}

impl<'a> Reader<'a> {
    pub(in super::super) fn new(slots: &'a Slots, from: Position) -> Self {
        Self { slots, next: from }
    }

    /// The next group of the chain; `None` at its end, which is then checked to be one: groups at or above it that were
    /// written after it was synced mean that synced bytes have changed. One flipped bit is turned back; more is an error.
    pub(in super::super) fn next(&mut self) -> Result<Option<Group>, OpenError> {
        let here = self.next.place(ALIGN, self.slots.shape).at;
        // A group that did not fit the rest of its slot begins the next one.
        let after = Position { at: here, ..self.next }.next_slot(self.slots.shape);
        for at in [here, after] {
            if let Some((head, body)) = self.group_at(at)?
                && head.sequence == self.next.sequence
                && head.chain == self.next.chain
            {
                self.next = Position {
                    at: at + head.size(),
                    sequence: head.sequence + 1,
                    chain: head.checksum,
                    synced_through: head.synced_through,
                };
                return Ok(Some(Group { body, end: self.next }));
            }
        }
        let Some(witness) = self.largest_synced_through()?.filter(|witness| *witness >= self.next.sequence)
        else {
            return Ok(None);
        };
        // It had been synced. If just one bit of it is wrong, that bit can be told.
        for at in [here, after] {
            if let Some(group) = self.turned_back(at)? {
                return Ok(Some(group));
            }
        }
        Err(self.rot(here, witness))
    }

    /// The group that was synced at this very place, if no more than one bit of it is wrong.
    fn turned_back(&mut self, at: u64) -> Result<Option<Group>, OpenError> {
        let (path, file, within) = self.slots.file(at);
        let length = (self.slots.shape.slot_bytes - within).min(TURNED_BACK_MAX);
        let length = usize::try_from(length).expect("at most 64 MiB");
        let mut bytes = vec![0; length];
        file.read_at(&mut bytes, within).map_err(io("read", path))?;
        let expected = Position { at, ..self.next };
        let Some((head, group)) = group::turn_back(&bytes, &self.slots.journal, &expected) else {
            return Ok(None);
        };
        tracing::warn!(
            file = %path.display(), byte = within, group = head.sequence,
            "one bit of a group of the journal was flipped: its checksum told which, and it was read as it was written"
        );
        self.next = Position {
            at: at + head.size(),
            sequence: head.sequence + 1,
            chain: head.checksum,
            synced_through: head.synced_through,
        };
        Ok(Some(Group { body: Bytes::from(group).slice(HEADER_BYTES..), end: self.next }))
    }

    /// Where it stopped.
    pub(in super::super) fn position(&self) -> Position {
        self.next
    }

    /// The group at this very place, if one holds.
    fn group_at(&self, at: u64) -> Result<Option<(Head, Bytes)>, OpenError> {
        let (path, file, within) = self.slots.file(at);
        let mut header = [0; HEADER_BYTES];
        file.read_at(&mut header, within).map_err(io("read", path))?;
        let Some(head) = group::head(&header, &self.slots.journal).filter(|head| head.at == at) else {
            return Ok(None);
        };
        if within + head.size() > self.slots.shape.slot_bytes {
            return Ok(None);
        }
        let mut bytes = BytesMut::zeroed(HEADER_BYTES + head.body_bytes as usize);
        file.read_at(&mut bytes, within).map_err(io("read", path))?;
        if !group::holds(&head, &bytes) {
            return Ok(None);
        }
        Ok(Some((head, bytes.freeze().slice(HEADER_BYTES..))))
    }

    /// Synced bytes have changed, and a promise may have been among them.
    fn rot(&self, here: u64, witness: u64) -> OpenError {
        let (path, _, at) = self.slots.file(here);
        let what = format!(
            "group {} of the journal is damaged or overwritten, although group {witness} was synced after it; \
             records or promises may be lost",
            self.next.sequence
        );
        OpenError::Rotten { path: path.to_owned(), at, what }
    }

    /// The largest `syncedThrough` of any group that holds, anywhere.
    fn largest_synced_through(&self) -> Result<Option<u64>, OpenError> {
        const PAGE: usize = 4096;
        const PIECE: u64 = 256 * ALIGN;
        let shape = self.slots.shape;
        let mut largest = None;
        let mut piece = Vec::new();
        for (index, path, file) in self.slots.each() {
            let mut from = ALIGN;
            while from < shape.slot_bytes {
                let length = PIECE.min(shape.slot_bytes - from);
                piece.resize(usize::try_from(length).expect("at most 1 MiB"), 0);
                file.read_at(&mut piece, from).map_err(io("read", path))?;
                for (page, within) in piece.chunks(PAGE).zip((from..).step_by(PAGE)) {
                    let Some(head) = group::head(page, &self.slots.journal) else { continue };
                    let here = head.at / shape.slot_bytes % u64::from(shape.slots) == u64::from(index)
                        && head.at % shape.slot_bytes == within;
                    if here && Some(head.synced_through) > largest && self.group_at(head.at)?.is_some() {
                        largest = Some(head.synced_through);
                    }
                }
                from += length;
            }
        }
        Ok(largest)
    }
}
