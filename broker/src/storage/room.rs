//! Whether there is room for records: what the volume has free, and what redb has free in its file.
//!
//! Owns the bound below which nothing is appended. Knows no files and no time; the applier tells it what happens.
//!
//! redb gives hardly anything back to the file system: what retention lets go of stays in its file as free pages, and new
//! records go there. So the file system alone would call a volume full for ever. How much lies free in the file is not
//! told by redb: it is what its records do not take, as far as is known, and every growth of the file shows that it is less.

use super::seam::Space;

const MIB: u64 = 1024 * 1024;

/// A reserve is at least so much: what is on its way to redb when the volume is found full has to fit.
const RESERVE_BYTES_MIN: u64 = 128 * MIB;

/// Below so many bytes on the file system there is no room, whatever lies free in redb's file: each commit needs some pages.
const FREE_BYTES_MIN: u64 = 16 * MIB;

/// Records take a little more in redb than their own bytes: an eighth covers keys, indices, and pages that are not full.
const SURPLUS: u64 = 8;

/// A byte by which the file grows takes away so many that were thought to be free in it.
const GROWTH_WEIGHT: u64 = 8;

/// Growth that says nothing: redb's own lists of its pages. It adds up from look to look: on a slow volume a file grows in
/// small steps.
const GROWTH_BYTES_MIN: u64 = MIB;

/// How full a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fullness {
    /// The size of the file system.
    pub total_bytes: u64,
    /// How much more may be written: free on the file system, or in redb's file.
    pub available_bytes: u64,
    /// Nothing more is appended to partitions that are led here: too little is free.
    pub is_full: bool,
    /// Nor to those that are followed here: most of the reserve is gone, too.
    pub is_exhausted: bool,
}

/// Judges.
#[derive(Debug)]
pub(super) struct Room {
    reserve_bytes_max: u64,
    /// Bytes of the records in redb's file.
    held: u64,
    /// What the file has neither free nor, by [`SURPLUS`], for them: pages that are not full, or too small for what comes. Below zero
    /// where they take less than that.
    lost: i128,
    /// What its file took when a change of that was last counted.
    taken: u64,
    /// Bytes put into it and deleted from it since then.
    moved: u64,
    fullness: Fullness,
}

impl Room {
    /// A volume that was just opened; `held`: bytes of the records in redb's file.
    pub(super) fn new(reserve_bytes_max: u64, space: Space, held: u64) -> Self {
        // Pages are at worst half full. Where there is a margin for learning better, nothing is taken off for that.
        let has_margin = space.free >= reserve(reserve_bytes_max, space.total) / 2;
        let pages = if has_margin { held } else { held.saturating_mul(2).min(space.taken) };
        let lost = i128::from(pages) - with_surplus(held);
        let (taken, fullness) = (space.taken, Fullness::default());
        let mut room = Self { reserve_bytes_max, held, lost, taken, moved: 0, fullness };
        room.judge(space);
        room
    }

    /// So many bytes of records are in redb's file now.
    pub(super) fn holds(&mut self, bytes: u64) {
        self.moved = self.moved.saturating_add(bytes.abs_diff(self.held));
        self.held = bytes;
    }

    /// So many bytes are free that were neither counted as records nor as free.
    pub(super) fn found(&mut self, bytes: u64) {
        // No record takes less than its own bytes.
        let least = -i128::from(self.held / SURPLUS);
        self.lost = (self.lost - i128::from(bytes)).max(least.min(self.lost));
        self.moved = self.moved.saturating_add(bytes);
    }

    /// Looks again.
    pub(super) fn look(&mut self, space: Space) -> Fullness {
        let grown = space.taken.saturating_sub(self.taken);
        if space.taken < self.taken {
            (self.taken, self.moved) = (space.taken, 0);
        } else if grown >= GROWTH_BYTES_MIN {
            let inside = self.inside();
            let is_low = space.free < reserve(self.reserve_bytes_max, space.total) / 2;
            let shown = if is_low { self.not_found(inside, grown) } else { 0 };
            let left = inside.saturating_sub(shown.max(grown.saturating_mul(GROWTH_WEIGHT)));
            (self.taken, self.moved) = (space.taken, 0);
            self.lost = i128::from(self.taken) - with_surplus(self.held) - i128::from(left);
        }
        self.judge(space);
        self.fullness
    }

    /// What redb is believed to have free in its file.
    fn inside(&self) -> u64 {
        let free = i128::from(self.taken) - with_surplus(self.held) - self.lost;
        u64::try_from(free).unwrap_or(0).min(self.taken.saturating_sub(self.held))
    }

    /// How much of what is thought to lie free in the file does not: all of it where the file grew by half of what was put into it and
    /// deleted from it.
    fn not_found(&self, inside: u64, grown: u64) -> u64 {
        let share = u128::from(inside) * 2 * u128::from(grown) / u128::from(self.moved.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// What was found last.
    pub(super) fn fullness(&self) -> Fullness {
        self.fullness
    }

    /// Below the reserve there is no room; a quarter above it there is again. The last quarter of it is for redb alone.
    fn judge(&mut self, space: Space) {
        let reserve = reserve(self.reserve_bytes_max, space.total);
        let needed = if self.fullness.is_full { reserve + reserve / 4 } else { reserve };
        let available = space.free.saturating_add(self.inside());
        let least = FREE_BYTES_MIN.min(reserve / 4);
        let own = if self.fullness.is_exhausted { reserve / 2 } else { reserve / 4 };
        self.fullness = Fullness {
            total_bytes: space.total,
            available_bytes: available,
            is_full: available < needed || space.free < least,
            is_exhausted: available < own || space.free < least,
        };
    }
}

fn with_surplus(bytes: u64) -> i128 {
    i128::from(bytes) + i128::from(bytes / SURPLUS)
}

/// What is kept free of a volume of this size: an eighth, so that a small one is of use, and never more than is needed.
fn reserve(bytes_max: u64, total: u64) -> u64 {
    bytes_max.min((total / 8).max(RESERVE_BYTES_MIN))
}

#[cfg(test)]
#[path = "room_tests.rs"]
mod tests;
