//! Reads: from memory where it is hot, else from redb, checked.
//!
//! Owns the seam between the two: memory is right at and above a log's first hot batch, redb below it.

use std::sync::Arc;

use fulmar_core::batch::Batch;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase};

use super::bytes::Malformed;
use super::error::ReadError;
use super::memory::Place;
use super::shared::Shared;
use super::tables::batches::{self, LogName, Wanted};
use super::tables::logs::{self, LogRow};
use super::tables::{partition_bytes, sealed};

/// A read that meets a cut or a sweep looks again, at most so often.
const ATTEMPTS_MAX: usize = 16;

/// Rows of a log that one question about its size goes through: 32 MiB of values, four times what a sweep deletes.
const SIZE_ROWS_MAX: usize = 512;

/// What retention is to let go of next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetGo {
    /// Where the log should start; absent: where it does.
    pub start: Option<Offset>,
    /// There is more to let go of: ask again, when some of it has been swept.
    pub is_more: bool,
}

/// The bytes of a log in the tables, and the base and the bytes of each of its first rows.
type Sizes = (u64, Vec<(Offset, u64)>);

type Values = ReadOnlyTable<&'static batches::KeyBytes, &'static [u8]>;

/// The value that holds the log's start may begin below it, and be damaged from there on: nobody has what lies below any more,
/// and what is to be mended begins at the start.
fn above(error: ReadError, start: Offset) -> ReadError {
    match error {
        ReadError::Rotten { key, base, next, why } => {
            ReadError::Rotten { key, base: base.max(start), next, why }
        }
        ReadError::BelowStart { .. } | ReadError::Unknown(_) | ReadError::Failed(_) => error,
    }
}

impl Shared {
    /// See [`Storage::read_hot`](super::Storage::read_hot).
    pub(super) fn read_hot(
        &self,
        key: PartitionKey,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Option<Vec<Batch>> {
        self.memory.lock().read(key, from, until, bytes_max)
    }

    /// See [`Storage::read`](super::Storage::read).
    pub(super) fn read(
        &self,
        key: PartitionKey,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Batch>, ReadError> {
        let mut found = Ok(Vec::new());
        for _ in 0..ATTEMPTS_MAX {
            if let Some(hot) = self.read_hot(key, from, until, bytes_max) {
                return Ok(hot);
            }
            let mends_applied = self.memory.lock().mends_applied();
            let before = self.place(key)?;
            if from < before.start {
                return Err(ReadError::BelowStart { key, from, log_start: before.start });
            }
            if from >= before.end.min(until) {
                return Ok(Vec::new());
            }
            let wanted = Wanted { from, until: until.min(before.hot_from), bytes_max };
            found = self
                .with_values(|values| batches::read(values, LogName { key, number: before.number }, wanted));
            let is_rotten = matches!(found, Err(ReadError::Rotten { .. }));
            if let Err(rotten @ ReadError::Rotten { .. }) = found {
                found = self.mended(wanted, above(rotten, before.start));
            }
            if is_rotten && self.memory.lock().mends_applied() != mends_applied {
                continue;
            }
            let after = self.place(key)?;
            if after.turns == before.turns && after.start <= from {
                break;
            }
        }
        found
    }

    /// A damaged batch may have been put back already, and wait for its transaction.
    fn mended(&self, wanted: Wanted, rotten: ReadError) -> Result<Vec<Batch>, ReadError> {
        let ReadError::Rotten { key, mut base, next, why } = rotten else { return Err(rotten) };
        let memory = self.memory.lock();
        if let Some(batch) = memory.mend_at(key, wanted.from) {
            return Ok(if batch.end() <= wanted.until { vec![batch] } else { Vec::new() });
        }
        // What is still damaged is the first that was not.
        while let Some(batch) = memory.mend_at(key, base) {
            base = batch.end();
        }
        Err(ReadError::Rotten { key, base, next, why })
    }

    fn place(&self, key: PartitionKey) -> Result<Place, ReadError> {
        self.memory.lock().place(key).ok_or(ReadError::Unknown(key))
    }

    fn with_values<T>(&self, work: impl FnOnce(&Values) -> Result<T, ReadError>) -> Result<T, ReadError> {
        self.with_snapshot(|transaction| {
            let values = transaction.open_table(batches::TABLE);
            work(&values.map_err(|error| ReadError::Failed(error.to_string()))?)
        })
    }

    fn with_snapshot<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let failed = |what: &dyn ToString| ReadError::Failed(what.to_string());
        let database: Arc<Database> = self.database.lock().clone().ok_or_else(|| failed(&"it was closed"))?;
        // Short-lived: a read transaction that is held keeps every page from being reused.
        let read = || work(&database.begin_read().map_err(|error| failed(&error))?);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(read))
            .unwrap_or_else(|_| Err(failed(&"redb panicked; the file is damaged")))
    }

    /// What was set aside of a partition and is in the tables: the rows of the copies and their batches, the oldest first.
    #[cfg(test)]
    pub(super) fn copies(&self, key: PartitionKey) -> Vec<(super::tables::logs::LogRow, Vec<Batch>)> {
        let database = self.database.lock().clone().expect("it is open");
        let view = super::volume::View::open(&*database).expect("a read transaction");
        let rows = view.aside().expect("the rows hold").into_iter().filter(|((of, _), _)| *of == key);
        let read = |row: super::tables::logs::LogRow| {
            let (log, mut from, mut found) = (LogName { key, number: row.number }, row.start, Vec::new());
            while from < row.end {
                let wanted = Wanted { from, until: row.end, bytes_max: 1 << 20 };
                let more =
                    self.with_values(|values| batches::read(values, log, wanted)).expect("it is whole");
                from = more.last().expect("there is more").end();
                found.extend(more);
            }
            (row, found)
        };
        rows.map(|(_, row)| read(row)).collect()
    }

    /// The batch that holds `at`, which lies in the log.
    fn batch_at(&self, key: PartitionKey, at: Offset, end: Offset) -> Result<Option<Batch>, ReadError> {
        Ok(self.read(key, at, end, 1)?.into_iter().next())
    }

    /// See [`Storage::offset_at_time`](super::Storage::offset_at_time).
    pub(super) fn offset_at_time(
        &self,
        key: PartitionKey,
        at_ms: u64,
    ) -> Result<Option<(Offset, u64)>, ReadError> {
        let Place { start, end, .. } = self.place(key)?;
        let (mut low, mut high) = (start, end);
        let mut found = None;
        while low < high {
            let middle = Offset(low.0 + (high.0 - low.0) / 2);
            let batch = match self.batch_at(key, middle, end) {
                Ok(Some(batch)) => batch,
                Ok(None) => break,
                Err(ReadError::Rotten { base, next, .. }) => {
                    // Append times do not fall: what lies behind tells, and what cannot be told passes for young.
                    match next.map(|next| self.batch_at(key, next, end)).transpose()?.flatten() {
                        Some(behind) if behind.append_time_ms() < at_ms => low = behind.end(),
                        Some(behind) => {
                            found = Some((base.max(start), behind.append_time_ms()));
                            high = base.min(middle);
                        }
                        None => {
                            found = Some((base.max(start), at_ms));
                            high = base.min(middle);
                        }
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            if batch.append_time_ms() >= at_ms {
                found = Some((batch.base().max(start), batch.append_time_ms()));
                high = batch.base();
            } else {
                low = batch.end();
            }
        }
        Ok(found)
    }

    /// See [`Storage::retention_candidate`](super::Storage::retention_candidate).
    pub(super) fn retention_candidate(
        &self,
        key: PartitionKey,
        older_than_ms: Option<u64>,
        bytes_max: Option<u64>,
    ) -> Result<LetGo, ReadError> {
        let (place, known) = {
            let memory = self.memory.lock();
            let place = memory.place(key).ok_or(ReadError::Unknown(key))?;
            (place, bytes_max.and_then(|bytes_max| memory.keeping(key, bytes_max)))
        };
        let (mut candidate, mut is_more) = (place.start, false);
        if let Some(older_than_ms) = older_than_ms {
            let first_young = self.offset_at_time(key, older_than_ms)?;
            candidate = candidate.max(first_young.map_or(place.end, |(base, _)| base));
        }
        if let Some(bytes_max) = bytes_max.filter(|bytes_max| place.stored_bytes > *bytes_max) {
            let start;
            (start, is_more) = match known {
                Some(start) => (start.min(place.hot_from), false),
                None => self.start_for_bytes(key, place, bytes_max)?,
            };
            candidate = candidate.max(start);
        }
        let candidate = candidate.min(place.high_watermark);
        Ok(LetGo { start: (candidate > place.start).then_some(candidate), is_more })
    }

    /// The oldest value that stays if at most `bytes_max` do, and whether more than that stays all the same: what was let go of is
    /// still among the rows until it is swept, and of those only some are looked at. The last value always stays.
    fn start_for_bytes(
        &self,
        key: PartitionKey,
        place: Place,
        bytes_max: u64,
    ) -> Result<(Offset, bool), ReadError> {
        let Some((mut left, rows)) = self.sizes(key, place.number)? else { return Ok((place.start, false)) };
        let are_all = rows.len() < SIZE_ROWS_MAX;
        let mut start = place.start;
        for (base, bytes) in rows {
            start = base;
            if left <= bytes_max {
                break;
            }
            left = left.saturating_sub(bytes);
        }
        // What is hot or not committed does not go, however often it is asked for.
        let until = place.hot_from.min(place.high_watermark);
        Ok((start.min(until), left > bytes_max && !are_all && start < until))
    }

    /// The bytes of a log in the tables, and its first rows, both as of one transaction: what was swept in between would be counted and
    /// not be there. `None`: it is another log by now.
    fn sizes(&self, key: PartitionKey, number: u32) -> Result<Option<Sizes>, ReadError> {
        let failed = |what: &dyn ToString| ReadError::Failed(what.to_string());
        self.with_snapshot(|transaction| {
            let name = partition_bytes(key);
            let logs = transaction.open_table(logs::TABLE).map_err(|error| failed(&error))?;
            let Some(row) = logs.get(&name).map_err(|error| failed(&error))? else { return Ok(None) };
            let malformed = |error: Malformed| failed(&format!("a row of the table logs: {}", error.what));
            let body = sealed::open(&name, row.value()).map_err(malformed)?;
            let row = LogRow::decode(&body).map_err(malformed)?;
            if row.number != number {
                return Ok(None);
            }
            let values = transaction.open_table(batches::TABLE).map_err(|error| failed(&error))?;
            let rows = batches::sizes(&values, LogName { key, number }, SIZE_ROWS_MAX);
            Ok(Some((row.bytes, rows.map_err(|error| failed(&error))?)))
        })
    }
}
