//! Reads out what was set aside, record by record: for people who gave it up and want it after all.

use std::io;
use std::path::Path;

use fulmar_core::batch::{Batch, Record};
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use redb::ReadableDatabase;
use thiserror::Error;

use super::super::error::{OpenError, ReadError};
use super::super::seam::SystemFiles;
use super::super::tables::batches::{self, LogName, Wanted};
use super::super::volume::Volume;
use super::{Opened, open};

/// Batches are read in such pieces; one that is larger comes alone.
const PIECE_BYTES: usize = 1 << 20;

/// What one step of reading copies gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Salvaged {
    /// A record of a copy.
    Record {
        /// The partition.
        key: PartitionKey,
        /// Where it stood in the log that was given up. What is in the log now at this offset is another record.
        offset: Offset,
        /// When its leader appended it: milliseconds since 1970.
        append_time_ms: u64,
        /// The record.
        record: Record,
    },
    /// A stretch of a copy that does not read as it was written.
    Damaged {
        /// The partition.
        key: PartitionKey,
        /// The first offset that cannot be read.
        from: Offset,
        /// Behind the last one.
        to: Offset,
        /// What is wrong.
        why: String,
    },
}

/// Why reading copies ended early.
#[derive(Debug, Error)]
pub enum SalvageError {
    /// The volume cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The storage below fails.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nobody takes what was read.
    #[error(transparent)]
    Take(#[from] io::Error),
}

/// Hands out every record of every copy on a volume that no process has open: partition by partition, the oldest copy first,
/// in the order of offsets. Nothing is changed. What is damaged is told in its place, and the rest goes on.
pub fn salvage(dir: &Path, mut take: impl FnMut(Salvaged) -> io::Result<()>) -> Result<(), SalvageError> {
    let Opened { volume, _lock, .. } = open(&SystemFiles, dir)?;
    let Some((volume, _)) = volume else { return Ok(()) };
    for ((key, number), row) in &volume.aside {
        let log = LogName { key: *key, number: *number };
        let mut from = row.start;
        while from < row.end {
            from = piece(&volume, log, from, row.end, &mut take)?;
        }
    }
    Ok(())
}

/// Hands out some batches, or a stretch that is damaged; gives where to go on.
fn piece(
    volume: &Volume,
    log: LogName,
    from: Offset,
    until: Offset,
    take: &mut impl FnMut(Salvaged) -> io::Result<()>,
) -> Result<Offset, SalvageError> {
    let key = log.key;
    match read(volume, log, Wanted { from, until, bytes_max: PIECE_BYTES }) {
        Ok(batches) => {
            // A batch that would end behind the copy is not of it: nothing is left.
            let end = batches.last().map_or(until, Batch::end);
            for batch in batches {
                let records = match batch.records() {
                    Ok(records) => records,
                    Err(error) => {
                        let (from, to) = (from.max(batch.base()), batch.end());
                        take(Salvaged::Damaged { key, from, to, why: error.to_string() })?;
                        continue;
                    }
                };
                let offsets = (batch.base().0..).map(Offset);
                for (offset, record) in offsets.zip(records).filter(|(offset, _)| *offset >= from) {
                    take(Salvaged::Record { key, offset, append_time_ms: batch.append_time_ms(), record })?;
                }
            }
            Ok(end)
        }
        Err(ReadError::Rotten { next, why, .. }) => {
            let to = next.unwrap_or(until).min(until);
            take(Salvaged::Damaged { key, from, to, why: why.to_string() })?;
            Ok(to)
        }
        Err(error) => Err(error.into()),
    }
}

fn read(volume: &Volume, log: LogName, wanted: Wanted) -> Result<Vec<Batch>, ReadError> {
    let failed = |what: &dyn ToString| ReadError::Failed(what.to_string());
    let work = || {
        let transaction = volume.database.begin_read().map_err(|error| failed(&error))?;
        let values = transaction.open_table(batches::TABLE).map_err(|error| failed(&error))?;
        batches::read(&values, log, wanted)
    };
    // redb panics on some files that are damaged.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(failed(&"redb panicked; the file is damaged")))
}
