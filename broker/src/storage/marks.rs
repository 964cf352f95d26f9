//! How many bytes came behind which places of a log, so that retention by size needs no look at the disk.
//!
//! Owns a bounded number of places, and how far they are apart. Knows only what came since the volume was opened, or the log was cut.

use std::collections::VecDeque;

use fulmar_core::offset::Offset;

/// Places of one log: 2 KiB of a busy one.
const PLACES_MAX: usize = 128;

/// Fewer places than this are put closer together from now on.
const PLACES_FEW: usize = PLACES_MAX / 4;

/// The least between two places: what most logs get in their lives is no place at all.
const GRAIN_MIN: u64 = 1 << 20;

/// What is kept may be less than a limit by such a part of it: then two places are close enough.
const PART: u64 = 16;

/// A place: what comes next, and how many bytes came before.
#[derive(Debug, Clone, Copy)]
struct Place {
    next: Offset,
    before: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Marks {
    places: VecDeque<Place>,
    grain: u64,
    came: u64,
}

impl Default for Marks {
    fn default() -> Self {
        Self { places: VecDeque::new(), grain: GRAIN_MIN, came: 0 }
    }
}

impl Marks {
    /// So many bytes came, up to this offset.
    pub(super) fn append(&mut self, end: Offset, bytes: u64) {
        self.came += bytes;
        let last = self.places.back().map_or(0, |place| place.before);
        if self.came - last < self.grain {
            return;
        }
        if self.places.len() == PLACES_MAX {
            let mut is_kept = true;
            self.places.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            self.grain *= 2;
        }
        self.places.push_back(Place { next: end, before: self.came });
    }

    /// The log begins here now.
    pub(super) fn forget_below(&mut self, start: Offset) {
        while self.places.pop_front_if(|place| place.next < start).is_some() {}
        if self.places.len() < PLACES_FEW {
            self.grain = (self.grain / 2).max(GRAIN_MIN);
        }
        if self.places.is_empty() {
            // Many logs have had a place once.
            self.places = VecDeque::new();
        }
    }

    /// Where the log is to begin for at most so many bytes to stay, and not much less. `None`: that is not known.
    pub(super) fn keeping(&self, bytes_max: u64) -> Option<Offset> {
        let goes = self.came.checked_sub(bytes_max)?;
        let at = self.places.partition_point(|place| place.before < goes);
        let place = self.places.get(at)?;
        (place.before - goes <= bytes_max / PART).then_some(place.next)
    }
}

#[cfg(test)]
#[path = "marks_tests.rs"]
mod tests;
