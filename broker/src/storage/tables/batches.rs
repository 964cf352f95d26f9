//! The batches: neighbours of one log packed into values just under a page of redb.
//!
//! Key: partition (20 bytes), number of the log (4), base offset of the first batch (8), big endian. A reset or a release
//! begins a log with the next number, so that both are one small commit and the old log is swept later.
//! Value: checksum of the index (4), count (4), length of each batch (4 each), the batches.

use std::ops::Range;

use bytes::Bytes;
use fulmar_core::batch::Batch;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use redb::{ReadableTable, StorageError, Table, TableDefinition};

use super::super::error::{ReadError, RotKind};
use super::partition_bytes;

pub(crate) type KeyBytes = [u8; 32];
pub(crate) const TABLE: TableDefinition<'static, &'static KeyBytes, &'static [u8]> =
    TableDefinition::new("batches");

/// Values end below this, key and redb's own bytes included: 65,536 would take a page of 128 KiB.
pub(crate) const VALUE_BYTES_MAX: usize = 65_400;
const INDEX_HEAD: usize = 8;

/// One log of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogName {
    pub(crate) key: PartitionKey,
    pub(crate) number: u32,
}

impl LogName {
    pub(crate) fn at(self, base: Offset) -> KeyBytes {
        let mut bytes = [0; 32];
        bytes[..20].copy_from_slice(&partition_bytes(self.key));
        bytes[20..24].copy_from_slice(&self.number.to_be_bytes());
        bytes[24..].copy_from_slice(&base.0.to_be_bytes());
        bytes
    }

    pub(super) fn first(self) -> KeyBytes {
        self.at(Offset::ZERO)
    }

    pub(super) fn last(self) -> KeyBytes {
        self.at(Offset(u64::MAX))
    }
}

pub(super) fn base_of(key: &KeyBytes) -> Offset {
    Offset(u64::from_be_bytes(key[24..].try_into().expect("eight bytes")))
}

/// Batches on their way into one value.
#[derive(Debug, Default)]
pub(crate) struct Pack {
    batches: Vec<Batch>,
    bytes: usize,
}

impl Pack {
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether one more goes into the same value.
    pub(crate) fn takes(&self, batch: &Batch) -> bool {
        let index = INDEX_HEAD + 4 * (self.batches.len() + 1);
        self.batches.is_empty() || index + self.bytes + batch.size() <= VALUE_BYTES_MAX
    }

    pub(crate) fn push(&mut self, batch: Batch) {
        self.bytes += batch.size();
        self.batches.push(batch);
    }

    /// The value and the base that it is stored under.
    pub(crate) fn value(&self) -> Option<(Offset, Vec<u8>)> {
        let base = self.batches.first()?.base();
        let slices: Vec<&[u8]> = self.batches.iter().map(|batch| batch.bytes().as_ref()).collect();
        Some((base, join(&slices)))
    }
}

pub(super) fn join(batches: &[&[u8]]) -> Vec<u8> {
    let total: usize = batches.iter().map(|batch| batch.len()).sum();
    let mut value = Vec::with_capacity(INDEX_HEAD + 4 * batches.len() + total);
    value.extend_from_slice(&[0; 4]);
    value.extend_from_slice(
        &u32::try_from(batches.len()).expect("a value holds below 64 KiB or one").to_le_bytes(),
    );
    for batch in batches {
        value.extend_from_slice(&u32::try_from(batch.len()).expect("a batch is at most 8 MiB").to_le_bytes());
    }
    let checksum = crc32c::crc32c(&value[4..]);
    value[..4].copy_from_slice(&checksum.to_le_bytes());
    for batch in batches {
        value.extend_from_slice(batch);
    }
    value
}

/// Where the batches lie in a value: by its index, or, if that is damaged, by what each batch says of its own length.
pub(crate) fn split(value: &[u8]) -> Option<Vec<Range<usize>>> {
    let u32_at = |at: usize| Some(u32::from_le_bytes(value.get(at..at + 4)?.try_into().expect("four bytes")));
    let count = u32_at(4)? as usize;
    let index_end = INDEX_HEAD.checked_add(count.checked_mul(4)?)?;
    let index = value.get(4..index_end);
    if let Some(index) = index
        && crc32c::crc32c(index) == u32_at(0)?
    {
        let mut at = index_end;
        let mut ranges = Vec::with_capacity(count);
        for length in index[4..].chunks_exact(4) {
            let end = at.checked_add(u32::from_le_bytes(length.try_into().expect("four bytes")) as usize)?;
            if end > value.len() {
                return None;
            }
            ranges.push(at..end);
            at = end;
        }
        return Some(ranges);
    }
    // The true count is the one for which the batches end with the value, and the index is wrong in one place at most.
    (1..=value.len() / 4).find_map(|count| walk(value, count))
}

/// Goes from batch to batch by what each says of its length, if there are so many.
fn walk(value: &[u8], count: usize) -> Option<Vec<Range<usize>>> {
    let mut at = INDEX_HEAD + 4 * count;
    let mut ranges = Vec::new();
    let mut wrong = 0;
    while at < value.len() {
        let length = Batch::announced_size(&value[at..])?;
        let end = at.checked_add(length).filter(|end| *end <= value.len() && ranges.len() < count)?;
        let said = &value[INDEX_HEAD + 4 * ranges.len()..][..4];
        wrong += usize::from(u32::try_from(length).ok()?.to_le_bytes() != said);
        // Fields of the index may look like lengths, but hardly like a batch's version and attributes, too.
        let looks_like_one =
            value.get(at + 4..at + 8).is_some_and(|head| head[0] == 1 && head[2..] == [0, 0]);
        if wrong > 1 || !looks_like_one {
            return None;
        }
        ranges.push(at..end);
        at = end;
    }
    (ranges.len() == count).then_some(ranges)
}

/// What a read is after.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) from: Offset,
    pub(crate) until: Offset,
    pub(crate) bytes_max: usize,
}

/// Collects batches in order and notices what is missing or damaged between them.
struct Collector {
    log: LogName,
    wanted: Wanted,
    expected: Offset,
    damaged: Option<(Offset, RotKind)>,
    out: Vec<Batch>,
    bytes: usize,
}

impl Collector {
    fn rotten(&self, base: Offset, next: Option<Offset>, why: RotKind) -> ReadError {
        ReadError::Rotten { key: self.log.key, base, next, why }
    }

    /// Takes the next slice; `false` when there is enough.
    fn take(&mut self, bytes: Bytes) -> Result<bool, ReadError> {
        match Batch::parse(bytes, self.log.key) {
            Ok(batch) => self.take_good(batch),
            Err(error) => Ok(self.skip(RotKind::Batch(error))),
        }
    }

    /// Something is damaged at `expected`. It matters only if no later batch begins at or below what is wanted.
    fn skip(&mut self, why: RotKind) -> bool {
        if self.damaged.is_none() {
            self.damaged = Some((self.expected, why));
        }
        // What was collected so far can be handed out; the next read meets the damage.
        self.out.is_empty()
    }

    fn take_good(&mut self, batch: Batch) -> Result<bool, ReadError> {
        let Wanted { from, until, bytes_max } = self.wanted;
        if let Some((base, why)) = self.damaged.take_if(|_| batch.base() > from) {
            return Err(self.rotten(base, Some(batch.base()), why));
        }
        let continues = batch.base() == self.expected || self.damaged.take().is_some();
        if !continues && (batch.base() > from || !self.out.is_empty()) {
            if !self.out.is_empty() {
                return Ok(false);
            }
            let why = RotKind::Misplaced(batch.base());
            return Err(self.rotten(self.expected, Some(batch.base()), why));
        }
        self.expected = batch.end();
        if batch.end() <= from {
            return Ok(true);
        }
        let full = !self.out.is_empty() && self.bytes + batch.size() > bytes_max;
        if batch.end() > until || full {
            return Ok(false);
        }
        self.bytes += batch.size();
        self.out.push(batch);
        Ok(true)
    }

    fn finish(self) -> Result<Vec<Batch>, ReadError> {
        match self.damaged {
            Some((base, ref why)) if self.out.is_empty() => Err(self.rotten(base, None, why.clone())),
            _ => Ok(self.out),
        }
    }
}

/// Reads batches from the one that holds `from`, all ending at or below `until`. The caller knows that `from` is in the log.
pub(crate) fn read(
    table: &impl ReadableTable<&'static KeyBytes, &'static [u8]>,
    log: LogName,
    wanted: Wanted,
) -> Result<Vec<Batch>, ReadError> {
    let failed = |error: StorageError| ReadError::Failed(error.to_string());
    let holder = table.range::<&KeyBytes>(&log.first()..=&log.at(wanted.from)).map_err(failed)?.next_back();
    let Some(holder) = holder.transpose().map_err(failed)? else {
        return Err(ReadError::Rotten { key: log.key, base: wanted.from, next: None, why: RotKind::Absent });
    };
    let first = *holder.0.value();
    drop(holder);
    let expected = base_of(&first);
    let mut collector = Collector { log, wanted, expected, damaged: None, out: Vec::new(), bytes: 0 };
    for row in table.range::<&KeyBytes>(&first..&log.at(wanted.until)).map_err(failed)? {
        let (key, value) = row.map_err(failed)?;
        // A value tells by its key where it begins, even if the one before it was damaged.
        let value = Bytes::copy_from_slice(value.value());
        let Some(ranges) = split(&value) else {
            collector.expected = base_of(key.value());
            if collector.skip(RotKind::Frame) {
                continue;
            }
            break;
        };
        let mut more = true;
        for range in ranges {
            more = collector.take(value.slice(range))?;
            if !more {
                break;
            }
        }
        if !more {
            break;
        }
    }
    collector.finish()
}

/// How a log ends in its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// There is no value.
    Empty,
    /// The last batch ends here.
    At(Offset),
    /// The last batch is there and damaged.
    Damaged,
}

/// The end of a log as its last value has it.
pub(crate) fn end(
    table: &impl ReadableTable<&'static KeyBytes, &'static [u8]>,
    log: LogName,
) -> Result<End, StorageError> {
    let Some(row) = table.range::<&KeyBytes>(&log.first()..=&log.last())?.next_back() else {
        return Ok(End::Empty);
    };
    let value = Bytes::copy_from_slice(row?.1.value());
    let last = split(&value).and_then(|ranges| ranges.last().cloned());
    let last = last.and_then(|last| Batch::parse(value.slice(last), log.key).ok());
    Ok(last.map_or(End::Damaged, |batch| End::At(batch.end())))
}

/// The first rows of a log in order, those that wait to be swept included: the base and the bytes of each value.
pub(crate) fn sizes(
    table: &impl ReadableTable<&'static KeyBytes, &'static [u8]>,
    log: LogName,
    rows_max: usize,
) -> Result<Vec<(Offset, u64)>, StorageError> {
    let rows = table.range::<&KeyBytes>(&log.first()..=&log.last())?;
    rows.take(rows_max)
        .map(|row| row.map(|(key, value)| (base_of(key.value()), value.value().len() as u64)))
        .collect()
}

/// Puts a value; gives its bytes.
pub(crate) fn put(
    table: &mut Table<'_, &'static KeyBytes, &'static [u8]>,
    log: LogName,
    pack: &Pack,
) -> Result<u64, StorageError> {
    let Some((base, value)) = pack.value() else { return Ok(0) };
    let old = table.insert(&log.at(base), value.as_slice())?;
    debug_assert!(old.is_none(), "a base is stored once");
    Ok(value.len() as u64)
}

/// Deletes everything at or above `to`; gives the bytes that went.
pub(crate) fn cut(
    table: &mut Table<'_, &'static KeyBytes, &'static [u8]>,
    log: LogName,
    to: Offset,
) -> Result<u64, StorageError> {
    let mut gone = 0;
    table.retain_in::<&KeyBytes, _>(&log.at(to)..=&log.last(), |_, value| {
        gone += value.len() as u64;
        false
    })?;
    let straddling = {
        let below = table.range::<&KeyBytes>(&log.first()..&log.at(to))?.next_back();
        below.transpose()?.map(|(key, value)| (*key.value(), Bytes::copy_from_slice(value.value())))
    };
    let Some((key, value)) = straddling else { return Ok(gone) };
    let Some(ranges) = split(&value) else { return Ok(gone) };
    let above = |range: &Range<usize>| {
        Batch::parse(value.slice(range.clone()), log.key).is_ok_and(|batch| batch.base() >= to)
    };
    let kept = ranges.iter().position(above).unwrap_or(ranges.len());
    if kept < ranges.len() {
        let slices: Vec<&[u8]> = ranges[..kept].iter().map(|range| &value[range.clone()]).collect();
        let shorter = join(&slices);
        gone += (value.len() - shorter.len()) as u64;
        table.insert(&key, shorter.as_slice())?;
    }
    Ok(gone)
}

/// So much is held in memory while a copy is made.
const MOVE_BYTES: usize = 4 * 1024 * 1024;

/// Moves everything at or above `to` into another log; gives the bytes that left this one and those that the other one has.
pub(crate) fn set_aside(
    table: &mut Table<'_, &'static KeyBytes, &'static [u8]>,
    log: LogName,
    copy: LogName,
    to: Offset,
) -> Result<(u64, u64), StorageError> {
    let (mut gone, mut kept) = (0, 0);
    let straddling = {
        let below = table.range::<&KeyBytes>(&log.first()..&log.at(to))?.next_back();
        below.transpose()?.map(|(key, value)| (*key.value(), Bytes::copy_from_slice(value.value())))
    };
    if let Some((key, value)) = straddling
        && let Some(ranges) = split(&value)
    {
        let base = |range: &Range<usize>| {
            Batch::parse(value.slice(range.clone()), log.key).map(|batch| batch.base())
        };
        let first = ranges.iter().position(|range| base(range).is_ok_and(|base| base >= to));
        if let Some(first) = first {
            let slices: Vec<&[u8]> = ranges.iter().map(|range| &value[range.clone()]).collect();
            let (below, above) = (join(&slices[..first]), join(&slices[first..]));
            let begins = base(&ranges[first]).unwrap_or(to);
            gone += (value.len() - below.len()) as u64;
            kept += above.len() as u64;
            table.insert(&copy.at(begins), above.as_slice())?;
            table.insert(&key, below.as_slice())?;
        }
    }
    loop {
        let mut rows: Vec<(KeyBytes, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        for row in table.range::<&KeyBytes>(&log.at(to)..=&log.last())? {
            let (key, value) = row?;
            bytes += value.value().len();
            rows.push((*key.value(), value.value().to_vec()));
            if bytes >= MOVE_BYTES {
                break;
            }
        }
        if rows.is_empty() {
            return Ok((gone, kept));
        }
        (gone, kept) = (gone + bytes as u64, kept + bytes as u64);
        for (key, value) in rows {
            table.insert(&copy.at(base_of(&key)), value.as_slice())?;
            table.remove(&key)?;
        }
    }
}

/// What one sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Swept {
    pub(crate) bytes: u64,
    pub(crate) finished: bool,
}

/// Deletes values that end at or below `below`, oldest first, about `bytes_max` of them. `end` is the log's end.
pub(crate) fn sweep(
    table: &mut Table<'_, &'static KeyBytes, &'static [u8]>,
    log: LogName,
    below: Offset,
    end: Offset,
    bytes_max: u64,
) -> Result<Swept, StorageError> {
    let (mut doomed, mut bytes, mut finished) = (None, 0, true);
    {
        let mut rows = table.range::<&KeyBytes>(&log.first()..=&log.last())?.peekable();
        while let Some(row) = rows.next() {
            let (key, value) = row?;
            let ends = match rows.peek() {
                Some(Ok((next, _))) => base_of(next.value()),
                Some(Err(_)) => break,
                None => end,
            };
            if ends > below {
                break;
            }
            if bytes >= bytes_max {
                finished = false;
                break;
            }
            bytes += value.value().len() as u64;
            doomed = Some(*key.value());
        }
    }
    if let Some(last) = doomed {
        table.retain_in::<&KeyBytes, _>(&log.first()..=&last, |_, _| false)?;
    }
    Ok(Swept { bytes, finished })
}
