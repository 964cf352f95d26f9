//! Everything that can be wrong with a volume, a write or a read.

use std::io;
use std::path::PathBuf;

use fulmar_core::batch::BatchError;
use fulmar_core::id::{ClusterId, Ordinal, PartitionKey};
use fulmar_core::offset::Offset;
use thiserror::Error;

/// Why a volume cannot be opened. Nothing on it was changed, unless the text says so.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("{path}: another process has this data folder open")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A call to the system failed.
    #[error("{path}: cannot {what}: {source}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The volume belongs to another broker.
    #[error("{path}: this volume belongs to broker {found}, and this is broker {expected}")]
    ForeignOrdinal {
        /// The identity file.
        path: PathBuf,
        /// As stored.
        found: Ordinal,
        /// As configured.
        expected: Ordinal,
    },
    /// The volume belongs to another Cluster.
    #[error("{path}: this volume belongs to cluster {found}, and this broker to {expected}")]
    ForeignCluster {
        /// The identity file.
        path: PathBuf,
        /// As stored.
        found: ClusterId,
        /// As configured.
        expected: ClusterId,
    },
    /// A file that must be there is not.
    #[error("{path}: missing; {why}")]
    Missing {
        /// Which.
        path: PathBuf,
        /// Why it must be there.
        why: &'static str,
    },
    /// A file has the wrong length.
    #[error(
        "{path}: has {found} bytes and must have {expected}: it was cut short or grew outside this program"
    )]
    Length {
        /// Which.
        path: PathBuf,
        /// Bytes there are.
        found: u64,
        /// Bytes there must be.
        expected: u64,
    },
    /// Bytes that had been synced do not read as they were written.
    #[error("{path}: byte {at}: {what}")]
    Rotten {
        /// Which file.
        path: PathBuf,
        /// Where.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// Written by a later version.
    #[error("{path}: format {found}, this program knows up to {known}")]
    Format {
        /// Which file.
        path: PathBuf,
        /// As stored.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// redb refuses the file, or what it holds makes no sense.
    #[error("{path}: {what}")]
    Database {
        /// The redb file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A setting is out of range.
    #[error("storage setting {field}: {what}")]
    Config {
        /// Which.
        field: &'static str,
        /// What is allowed.
        what: String,
    },
}

/// What a person can do about a damaged volume.
pub const ADVICE: &str = "If other brokers hold replicas of its partitions, give this broker an empty volume: it comes back \
                          as a new replica and learns from them (docs/operations.md, \"A volume that is refused\")";

impl OpenError {
    /// Whether what the volume held is damaged or gone: then [`ADVICE`] helps.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Length { .. } | Self::Rotten { .. } | Self::Database { .. } => true,
            Self::Locked { .. }
            | Self::Io { .. }
            | Self::ForeignOrdinal { .. }
            | Self::ForeignCluster { .. }
            | Self::Format { .. }
            | Self::Config { .. } => false,
        }
    }
}

/// Why a write was not taken. Nothing of the call was.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WriteError {
    /// The storage failed or was closed; the process must end.
    #[error("the storage has stopped: {0}")]
    Stopped(String),
    /// A batch does not begin where the log ends, or its term is below the last.
    #[error("partition {key}: a batch at {base} does not continue a log that ends at {end}: {what}")]
    OutOfPlace {
        /// The partition.
        key: PartitionKey,
        /// Where the batch begins.
        base: Offset,
        /// Where the log ends.
        end: Offset,
        /// What does not fit.
        what: &'static str,
    },
    /// Larger than a slot of the journal.
    #[error("a write of {bytes} bytes does not fit a journal group of {bytes_max}{}", of(*key))]
    TooLarge {
        /// The partition, if it is one's.
        key: Option<PartitionKey>,
        /// Its size in the journal.
        bytes: usize,
        /// The most.
        bytes_max: usize,
    },
}

fn of(key: Option<PartitionKey>) -> String {
    key.map_or_else(String::new, |key| format!(" (partition {key})"))
}

/// Why a [`try_write`](super::Storage::try_write) was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TryWriteError {
    /// Too much waits to be applied; try again later.
    #[error("too many bytes wait to be applied")]
    Full,
    /// It will never be taken.
    #[error(transparent)]
    Refused(#[from] WriteError),
}

/// Why a read gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The partition is not on this volume.
    #[error("partition {0} is not on this volume")]
    Unknown(PartitionKey),
    /// The offset was deleted by retention, or never was.
    #[error("partition {key}: offset {from} is below the log's start {log_start}")]
    BelowStart {
        /// The partition.
        key: PartitionKey,
        /// What was asked for.
        from: Offset,
        /// The oldest.
        log_start: Offset,
    },
    /// A batch does not read as it was written.
    #[error("partition {key}: the batch at offset {base} is damaged: {why}")]
    Rotten {
        /// The partition.
        key: PartitionKey,
        /// The batch's base, as far as it is known; else the first offset that cannot be read.
        base: Offset,
        /// Where the next batch begins that holds, if one was met: between the two everything is damaged.
        next: Option<Offset>,
        /// What is wrong with it.
        why: RotKind,
    },
    /// redb failed.
    #[error("the storage cannot be read: {0}")]
    Failed(String),
}

/// How a stored batch is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RotKind {
    /// Its own checks do not hold.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The value that packs it does not hold together.
    #[error("the value that holds it is damaged")]
    Frame,
    /// Nothing is there.
    #[error("nothing is stored there")]
    Absent,
    /// Another batch is there.
    #[error("a batch with base {0} is stored there")]
    Misplaced(Offset),
}

/// Shortens the making of [`OpenError::Io`].
pub(super) fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path, what, source }
}
