//! What the storage may use: sizes, and where it lies.

use std::path::PathBuf;
use std::time::Duration;

use fulmar_core::id::{ClusterId, Ordinal};

/// The smallest slot that holds every legal batch ([`BATCH_BYTES_MAX`](fulmar_core::batch::BATCH_BYTES_MAX)) twice.
pub const SLOT_BYTES_MIN: u64 = 16 * MIB;

const MIB: u64 = 1024 * 1024;

/// Sizes and places. Every bound of the storage's memory and preparation of disk is here.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// The data folder; made if it is not there.
    pub dir: PathBuf,
    /// The size of one journal slot, a multiple of 4096. Counts when the volume is new; later the volume's own does.
    pub slot_bytes: u64,
    /// How many slots, at least 3: one is written, one waits to be applied, one is kept against a step back.
    pub slots: u32,
    /// So many bytes of batches may wait to be applied; beyond it, writers wait.
    pub unapplied_bytes_max: usize,
    /// Bytes of batches in memory, the unapplied ones included: what followers and readers at the tail are served from.
    pub hot_bytes_max: usize,
    /// redb's page cache; half of it is its write buffer.
    pub cache_bytes: usize,
    /// One group of the journal, and its buffer.
    pub group_bytes_max: usize,
    /// A transaction of redb takes at most so many bytes of batches (one larger batch goes alone).
    pub apply_bytes_max: usize,
    /// A batch waits at most so long for its transaction, what gives room back half a second.
    pub apply_after: Duration,
    /// Below so many free bytes appends are refused: redb needs pages to delete, the journal needs none. Of a volume below
    /// 4 GiB less is kept back: an eighth.
    pub reserve_bytes_max: u64,
}

impl StorageConfig {
    /// Sizes for a broker whose storage may use `memory_bytes` (at least 48 MiB are used).
    pub fn for_memory(dir: PathBuf, memory_bytes: u64) -> Self {
        let part = |divisor: u64, least: u64, most: u64| {
            usize::try_from((memory_bytes / divisor).clamp(least * MIB, most * MIB)).expect("below 1 GiB")
        };
        Self {
            dir,
            slot_bytes: 64 * MIB,
            slots: 3,
            // What two turns of the replicas write, each with a largest batch at its end: one is being applied, one comes in.
            unapplied_bytes_max: part(2, 16, 64),
            // As a rule some of it was applied, and is there for who is at the tail.
            hot_bytes_max: part(3, 24, 512),
            // More than 32 MiB made commits slower, not faster.
            cache_bytes: part(8, 8, 32),
            // The largest batch and its frame; a group beyond it gains nothing.
            group_bytes_max: 8 * 1024 * 1024 + 64 * 1024,
            apply_bytes_max: 8 * 1024 * 1024,
            // What comes slowly is in few transactions, each of which writes a dozen pages beside the batches: at 200 records of 1 KiB a second
            // as much again when it was half a second. A start that has 8 MiB more to read from the journal is no slower.
            apply_after: Duration::from_secs(5),
            reserve_bytes_max: 512 * MIB,
        }
    }

    /// The same with other journal slots, for volumes that are small (`fulmar dev`, tests).
    #[must_use]
    pub fn with_slots(mut self, slots: u32, slot_bytes: u64) -> Self {
        self.slots = slots;
        self.slot_bytes = slot_bytes;
        self
    }
}

/// What the shell knows about itself before the volume is opened; a volume that says otherwise is refused.
#[derive(Debug, Clone, Copy)]
pub struct Expectations {
    /// This broker's place.
    pub ordinal: Ordinal,
    /// The Cluster, if the shell was told.
    pub cluster: Option<ClusterId>,
}
