//! Putting a batch in the place of a damaged copy of it.

use std::ops::Range;

use bytes::Bytes;
use fulmar_core::batch::Batch;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use redb::{ReadableTable, StorageError, Table};

use super::batches::{KeyBytes, LogName, base_of, join, split};

/// What a mend did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mended {
    /// The stored copy holds; nothing was changed.
    Whole,
    /// The copy is in the place of the damaged one.
    Replaced,
    /// It was missing, and is there again; the log has so many bytes more.
    Inserted(u64),
    /// Damaged ones before it hide its place. Nothing was changed.
    Unplaced,
}

/// Puts a batch in the place of a damaged copy. `end` is the log's end; the caller knows that the batch lies in the log.
pub(crate) fn mend(
    table: &mut Table<'_, &'static KeyBytes, &'static [u8]>,
    log: LogName,
    batch: &Batch,
    end: Offset,
) -> Result<Mended, StorageError> {
    let row = {
        let holder = table.range::<&KeyBytes>(&log.first()..=&log.at(batch.base()))?.next_back();
        holder.transpose()?.map(|(key, value)| (*key.value(), value.value().to_vec()))
    };
    let Some((key, mut value)) = row else { return insert_row(table, log, batch) };
    let Some(ranges) = split(&value) else { return split_off(table, log, (key, &value), batch, end) };
    let span = base_of(&key)..next_row(table, log, base_of(&key), end)?;
    match place_in(&value, &ranges, span, log.key, batch) {
        Slot::Whole => Ok(Mended::Whole),
        Slot::Unknown => Ok(Mended::Unplaced),
        Slot::Behind => insert_row(table, log, batch),
        Slot::At(range) => {
            value[range].copy_from_slice(batch.bytes());
            let slices: Vec<&[u8]> = ranges.iter().map(|range| &value[range.clone()]).collect();
            table.insert(&key, join(&slices).as_slice())?;
            Ok(Mended::Replaced)
        }
        Slot::Before(index) => {
            let mut slices: Vec<&[u8]> = ranges.iter().map(|range| &value[range.clone()]).collect();
            slices.insert(index, batch.bytes());
            let longer = join(&slices);
            table.insert(&key, longer.as_slice())?;
            Ok(Mended::Inserted((longer.len() - value.len()) as u64))
        }
    }
}

enum Slot {
    /// A copy that holds is there.
    Whole,
    /// A damaged copy is there.
    At(Range<usize>),
    /// It is missing in front of the batch with this index.
    Before(usize),
    /// It is missing behind the last one.
    Behind,
    /// Damaged ones on both sides hide where it is: one of them comes first.
    Unknown,
}

/// Where a batch belongs in a value whose index holds and which spans these offsets: behind the good one that ends where it
/// begins, or before the good one that begins where it ends.
fn place_in(
    value: &[u8],
    ranges: &[Range<usize>],
    span: Range<Offset>,
    key: PartitionKey,
    batch: &Batch,
) -> Slot {
    // How many offsets a damaged one takes is not known.
    let mut expected = Some(span.start);
    let before = |index: usize, next: Offset| {
        let slot = index.checked_sub(1).map(|last| ranges[last].clone());
        let slot = slot.filter(|slot| next == batch.end() && slot.len() == batch.size());
        slot.map_or(Slot::Unknown, Slot::At)
    };
    for (index, range) in ranges.iter().enumerate() {
        match Batch::parse(Bytes::copy_from_slice(&value[range.clone()]), key) {
            Ok(good) if good.base() == batch.base() => return Slot::Whole,
            Ok(good) if good.base() > batch.base() => {
                return expected.map_or_else(|| before(index, good.base()), |_| Slot::Before(index));
            }
            Ok(good) => expected = Some(good.end()),
            Err(_) if expected == Some(batch.base()) && range.len() == batch.size() => {
                return Slot::At(range.clone());
            }
            Err(_) => expected = None,
        }
    }
    expected.map_or_else(|| before(ranges.len(), span.end), |_| Slot::Behind)
}

/// Where the row behind this one begins, or the log ends.
fn next_row(
    table: &Table<'_, &'static KeyBytes, &'static [u8]>,
    log: LogName,
    base: Offset,
    end: Offset,
) -> Result<Offset, StorageError> {
    let behind = table.range::<&KeyBytes>(&log.at(base.plus(1))..=&log.last())?.next();
    Ok(behind.transpose()?.map_or(end, |(key, _)| base_of(key.value())))
}

/// A row for one batch, in front of or between rows.
fn insert_row(
    table: &mut Table<'_, &'static KeyBytes, &'static [u8]>,
    log: LogName,
    batch: &Batch,
) -> Result<Mended, StorageError> {
    let value = join(&[batch.bytes().as_ref()]);
    let name = log.at(batch.base());
    if table.get(&name)?.is_some() {
        return Ok(Mended::Whole);
    }
    table.insert(&name, value.as_slice())?;
    Ok(Mended::Inserted(value.len() as u64))
}

/// The value of this row does not hold together. The batch gets the row, and the damaged value moves behind it as long as
/// something is missing there: so it goes on saying that something is.
fn split_off(
    table: &mut Table<'_, &'static KeyBytes, &'static [u8]>,
    log: LogName,
    (key, value): (KeyBytes, &[u8]),
    batch: &Batch,
    end: Offset,
) -> Result<Mended, StorageError> {
    if base_of(&key) != batch.base() {
        return insert_row(table, log, batch);
    }
    let next = next_row(table, log, batch.base(), end)?;
    let own = join(&[batch.bytes().as_ref()]);
    table.insert(&key, own.as_slice())?;
    if batch.end() >= next {
        return Ok(Mended::Replaced);
    }
    table.insert(&log.at(batch.end()), value)?;
    Ok(Mended::Inserted(own.len() as u64))
}
