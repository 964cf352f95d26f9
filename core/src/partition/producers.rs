//! Which batches of which idempotent producers a log holds, so that a retried publish is appended once.
//!
//! The table is a function of (snapshot at the log's start, log): every replica has the same one, whoever led. Expiry goes by
//! append time, which the log carries. Owns admission, undo and the snapshot's bytes; never decides what is committed.

use std::collections::{BTreeMap, VecDeque};

use thiserror::Error;

use super::Refusal;
use crate::batch::{Batch, ProducerSequence};
use crate::id::ProducerId;
use crate::offset::Offset;

/// So many of a producer's last batches are recognised when they come again, and so many may be under way.
pub const PRODUCER_WINDOW: usize = 64;

/// So many batches are kept: a cut takes at most the [`PRODUCER_WINDOW`] that were under way, and leaves a whole window.
const KEPT: usize = 2 * PRODUCER_WINDOW;

/// A producer that appended nothing for so long, in append time, may be forgotten: a client gives up a retry long before.
pub const PRODUCER_IDLE_MS: u64 = 15 * 60 * 1000;

/// At most so many producers for each partition, 12 MiB if each used its whole window. A full table refuses newcomers.
pub const PRODUCERS_MAX: usize = 4096;

/// Why bytes are not a snapshot of a producers' table.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("snapshot of producers, byte {at}: {what}")]
pub struct InvalidProducers {
    /// Where it stopped making sense.
    pub at: usize,
    /// What was wrong.
    pub what: &'static str,
}

/// Where one of a producer's batches lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    base: Offset,
    count: u32,
    append_time_ms: u64,
}

impl Placed {
    fn end(self) -> Offset {
        self.base.plus(u64::from(self.count))
    }
}

/// The last batches of one producer; their numbers are consecutive, the newest last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    last_sequence: u64,
    placed: VecDeque<Placed>,
}

impl Window {
    fn newest(&self) -> Placed {
        *self.placed.back().expect("a window without batches is removed")
    }

    fn is_idle(&self, now_ms: u64) -> bool {
        self.newest().append_time_ms.saturating_add(PRODUCER_IDLE_MS) < now_ms
    }
}

/// What a publish of an idempotent producer is to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// To be appended.
    New,
    /// It is in the log already.
    Duplicate { base: Offset, end: Offset },
    /// Neither.
    Refused(Refusal),
}

/// The producers of one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ProducerTable {
    windows: BTreeMap<ProducerId, Window>,
}

impl ProducerTable {
    /// What a batch numbered `sequence` would be, appended at `now_ms`, with all below `committed` committed.
    pub(super) fn admit(&self, sequence: ProducerSequence, now_ms: u64, committed: Offset) -> Admission {
        let ProducerSequence { producer, sequence } = sequence;
        let window = self.windows.get(&producer).filter(|window| !window.is_idle(now_ms));
        let Some(window) = window else {
            return match sequence {
                0 if self.has_room(producer, now_ms) => Admission::New,
                0 => Admission::Refused(Refusal::TooManyProducers),
                got => Admission::Refused(Refusal::OutOfSequence { expected: 0, got }),
            };
        };
        if sequence > window.last_sequence {
            let expected = window.last_sequence + 1;
            if sequence != expected {
                return Admission::Refused(Refusal::OutOfSequence { expected, got: sequence });
            }
            let under_way = window.placed.iter().rev().take_while(|placed| placed.end() > committed).count();
            if under_way >= PRODUCER_WINDOW {
                return Admission::Refused(Refusal::TooManyProducers);
            }
            return Admission::New;
        }
        let back = usize::try_from(window.last_sequence - sequence).unwrap_or(usize::MAX);
        let at = window.placed.len().checked_sub(back.saturating_add(1)).filter(|_| back < PRODUCER_WINDOW);
        match at {
            Some(at) => Admission::Duplicate { base: window.placed[at].base, end: window.placed[at].end() },
            None => Admission::Refused(Refusal::DuplicateTooOld),
        }
    }

    fn has_room(&self, producer: ProducerId, now_ms: u64) -> bool {
        self.windows.len() < PRODUCERS_MAX
            || self.windows.contains_key(&producer)
            || self.windows.values().any(|window| window.is_idle(now_ms))
    }

    /// Notes a batch of the log. Batches that it knows already change nothing, so a snapshot may be ahead of the batches that
    /// are noted on top of it.
    pub fn note(&mut self, batch: &Batch) {
        let Some(ProducerSequence { producer, sequence }) = batch.sequence() else { return };
        let placed =
            Placed { base: batch.base(), count: batch.count(), append_time_ms: batch.append_time_ms() };
        if let Some(window) = self.windows.get_mut(&producer) {
            if placed.base < window.newest().end() {
                return;
            }
            if window.last_sequence.checked_add(1) != Some(sequence) {
                // The leader had forgotten an idle producer, which began anew.
                window.placed.clear();
            }
            window.last_sequence = sequence;
            window.placed.push_back(placed);
            if window.placed.len() > KEPT {
                window.placed.pop_front();
            }
            return;
        }
        if self.windows.len() >= PRODUCERS_MAX {
            self.windows.retain(|_, window| !window.is_idle(placed.append_time_ms));
        }
        self.windows.insert(producer, Window { last_sequence: sequence, placed: VecDeque::from([placed]) });
    }

    /// Notes a batch that was damaged when those behind it were noted, and is whole again.
    pub fn note_mended(&mut self, batch: &Batch) {
        let Some(ProducerSequence { producer, sequence }) = batch.sequence() else { return };
        let placed =
            Placed { base: batch.base(), count: batch.count(), append_time_ms: batch.append_time_ms() };
        let Some(window) =
            self.windows.get_mut(&producer).filter(|window| placed.base < window.newest().base)
        else {
            return self.note(batch);
        };
        // Those that were noted without it began anew behind it.
        let first = window.last_sequence - (window.placed.len() as u64 - 1);
        let is_next = window.placed.front().is_some_and(|front| placed.end() <= front.base);
        if is_next && first.checked_sub(1) == Some(sequence) && window.placed.len() < KEPT {
            window.placed.push_front(placed);
        }
    }

    /// The log is cut: batches at or above `to` never were.
    pub fn cut(&mut self, to: Offset) {
        self.windows.retain(|_, window| {
            let kept = window.placed.partition_point(|placed| placed.base < to);
            window.last_sequence = window.last_sequence.saturating_sub((window.placed.len() - kept) as u64);
            window.placed.truncate(kept);
            !window.placed.is_empty()
        });
    }

    /// The snapshot that stands before `start`: with the log from there on it makes this table.
    #[must_use]
    pub fn before(&self, start: Offset) -> Self {
        let mut before = self.clone();
        before.cut(start);
        before
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Little endian: version 1 (1 byte), count of producers (4); each: id (16), sequence of its last batch (8), count of
    /// batches (1), each: base offset (8), count of records (4), append time (8). An empty table is no bytes at all.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.windows.is_empty() {
            return bytes;
        }
        bytes.push(1);
        bytes.extend(u32::try_from(self.windows.len()).unwrap_or(u32::MAX).to_le_bytes());
        for (producer, window) in &self.windows {
            bytes.extend(producer.to_bytes());
            bytes.extend(window.last_sequence.to_le_bytes());
            bytes.push(u8::try_from(window.placed.len()).expect("a window keeps at most 128"));
            for placed in &window.placed {
                bytes.extend(placed.base.0.to_le_bytes());
                bytes.extend(placed.count.to_le_bytes());
                bytes.extend(placed.append_time_ms.to_le_bytes());
            }
        }
        bytes
    }

    /// Back from [`encode`](Self::encode).
    pub fn decode(bytes: &[u8]) -> Result<Self, InvalidProducers> {
        let mut reader = Reader { bytes, at: 0 };
        let mut table = Self::default();
        if bytes.is_empty() {
            return Ok(table);
        }
        if reader.take::<1>()? != [1] {
            return Err(InvalidProducers { at: 0, what: "only version 1 is known" });
        }
        let count = u32::from_le_bytes(reader.take()?);
        for _ in 0..count {
            let producer = ProducerId::from_bytes(reader.take()?);
            let window = reader.window()?;
            if table.windows.insert(producer, window).is_some() {
                return Err(InvalidProducers { at: reader.at, what: "a producer comes twice" });
            }
        }
        if reader.at < bytes.len() {
            return Err(InvalidProducers { at: reader.at, what: "bytes follow the last producer" });
        }
        Ok(table)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], InvalidProducers> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let taken = taken.ok_or(InvalidProducers { at: self.at, what: "the snapshot ends early" })?;
        self.at += N;
        Ok(*taken)
    }

    fn window(&mut self) -> Result<Window, InvalidProducers> {
        let last_sequence = u64::from_le_bytes(self.take()?);
        let [count] = self.take()?;
        let invalid = |at, what| Err(InvalidProducers { at, what });
        if count == 0 || usize::from(count) > KEPT {
            return invalid(self.at, "a producer has 1 to 128 batches");
        }
        if last_sequence.checked_add(1).is_none_or(|numbers| numbers < u64::from(count)) {
            return invalid(self.at, "a producer has more batches than numbers");
        }
        let mut placed: VecDeque<Placed> = VecDeque::with_capacity(usize::from(count));
        for _ in 0..count {
            let base = Offset(u64::from_le_bytes(self.take()?));
            let count = u32::from_le_bytes(self.take()?);
            let append_time_ms = u64::from_le_bytes(self.take()?);
            if base.0 >= 1 << 63 || count == 0 || placed.back().is_some_and(|last| base < last.end()) {
                return invalid(self.at, "a producer's batches do not rise");
            }
            placed.push_back(Placed { base, count, append_time_ms });
        }
        Ok(Window { last_sequence, placed })
    }
}

#[cfg(test)]
#[path = "producers_tests.rs"]
mod tests;
