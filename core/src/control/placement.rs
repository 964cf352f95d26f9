//! Which brokers get a new partition's replicas: spread over zones, then over brokers, leaders balanced.

use crate::id::Ordinal;

/// A broker that can take replicas, and what it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) ordinal: Ordinal,
    /// A broker whose zone is not known is alone in a zone.
    pub(super) zone: Option<String>,
    pub(super) replicas: usize,
    pub(super) leaders: usize,
}

/// Chooses `count` brokers, the leader first, and notes them in the seats. Nothing if there are too few.
///
/// The leader is who leads least; each other one is of a zone that has fewest of the chosen so far, and there who carries
/// least. Ties go by ordinal, rotated by `turn`, so that neighbours do not always follow each other.
pub(super) fn choose(seats: &mut [Seat], count: usize, turn: usize) -> Option<Vec<Ordinal>> {
    if seats.len() < count || count == 0 {
        return None;
    }
    let size = seats.len();
    // A second rotation, slower: else a leader would always have the same followers.
    let turn = (turn + turn / size) % size;
    let rotated = |at: usize| (at + size - turn) % size;
    let mut chosen: Vec<usize> = Vec::with_capacity(count);
    for _ in 0..count {
        let free = (0..size).filter(|at| !chosen.contains(at));
        let is_same =
            |other: usize, at: usize| seats[at].zone.is_some() && seats[other].zone == seats[at].zone;
        let of_zone = |at: usize| chosen.iter().filter(|other| is_same(**other, at)).count();
        let best = free.min_by_key(|at| {
            let seat = &seats[*at];
            let leads = if chosen.is_empty() { seat.leaders } else { 0 };
            (of_zone(*at), leads, seat.replicas, rotated(*at))
        })?;
        chosen.push(best);
    }
    for (at, seat) in chosen.iter().enumerate() {
        seats[*seat].replicas += 1;
        seats[*seat].leaders += usize::from(at == 0);
    }
    Some(chosen.into_iter().map(|at| seats[at].ordinal).collect())
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
