//! How much each partition may be sent ahead of the program.
//!
//! Owns dividing the whole among the partitions that are read now. Never asks for anything: sessions do, whenever it changes.

use tokio::sync::watch;

/// Less makes a request of nearly every batch.
const EACH_BYTES_MIN: usize = 64 * 1024;

/// As much as brokers allow.
const EACH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Credit {
    all_bytes: usize,
    each_bytes: watch::Sender<u32>,
}

impl Credit {
    /// So many bytes, for so many partitions at first.
    pub(super) fn new(all_bytes: usize, partitions: usize) -> Self {
        let (each_bytes, _) = watch::channel(share(all_bytes, partitions));
        Self { all_bytes, each_bytes }
    }

    /// So many partitions are read from now on.
    pub(super) fn divide(&self, partitions: usize) {
        let share = share(self.all_bytes, partitions);
        self.each_bytes.send_if_modified(|each| std::mem::replace(each, share) != share);
    }

    /// Bytes for each partition.
    pub(super) fn each(&self) -> u32 {
        *self.each_bytes.borrow()
    }

    /// Tells of every change from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u32> {
        self.each_bytes.subscribe()
    }
}

fn share(all_bytes: usize, partitions: usize) -> u32 {
    let share = (all_bytes / partitions.max(1)).clamp(EACH_BYTES_MIN, EACH_BYTES_MAX);
    u32::try_from(share).expect("at most 16 MiB")
}
