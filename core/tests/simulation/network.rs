//! Links between brokers and to operators: each can be cut one way or both; messages come late, twice, out of order, or
//! never. Behind a long isolation they wait, and come when it ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::random::Random;

/// Operators' places in the network, behind all brokers'.
pub(crate) const OPERATOR: usize = 1000;

/// How a world's network behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weather {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    /// So many messages in a thousand are late …
    pub(crate) late: u64,
    /// … by up to so much.
    pub(crate) late_ms: u64,
    pub(crate) delay_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Network {
    pub(crate) weather: Weather,
    /// From whom to whom nothing comes through; until when.
    pub(crate) cuts: BTreeMap<(usize, usize), u64>,
    /// From whom to whom everything waits; until when.
    pub(crate) parked: BTreeMap<(usize, usize), u64>,
    /// Connections: both ends are up and have accepted each other.
    pub(crate) connected: BTreeSet<(usize, usize)>,
    /// Connections over which nothing passes at least one way, since then.
    pub(crate) dead_since: BTreeMap<(usize, usize), u64>,
}

/// Each end of a connection asks now and then whether the other one is there, and waits so long for an answer.
const KEEPALIVE_MS: u64 = 3000;

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Network {
    /// Nothing comes from `a` to `b` any more.
    pub(crate) fn cut(&mut self, a: usize, b: usize, until_ms: u64) {
        self.cuts.insert((a, b), until_ms);
    }

    /// What `a` says to `b` arrives then.
    pub(crate) fn park(&mut self, a: usize, b: usize, until_ms: u64) {
        self.parked.insert((a, b), until_ms);
    }

    pub(crate) fn is_cut(&self, a: usize, b: usize, now_ms: u64) -> bool {
        self.cuts.get(&(a, b)).is_some_and(|until| now_ms < *until)
    }

    /// Until when what `a` says to `b` waits, if it does.
    pub(crate) fn parked(&self, a: usize, b: usize, now_ms: u64) -> Option<u64> {
        self.parked.get(&(a, b)).copied().filter(|until| now_ms < *until)
    }

    /// Whether neither can hear the other at once.
    pub(crate) fn is_hindered(&self, a: usize, b: usize, now_ms: u64) -> bool {
        let one = |a, b| self.is_cut(a, b, now_ms) || self.parked(a, b, now_ms).is_some();
        one(a, b) || one(b, a)
    }

    /// Connections that both ends have given up by now, since nothing passes over them.
    pub(crate) fn given_up(&mut self, now_ms: u64) -> Vec<(usize, usize)> {
        let is_dead = |(a, b): &(usize, usize)| self.is_cut(*a, *b, now_ms) || self.is_cut(*b, *a, now_ms);
        let dead: Vec<(usize, usize)> = self.connected.iter().copied().filter(is_dead).collect();
        let since = |pair| (pair, self.dead_since.get(&pair).copied().unwrap_or(now_ms));
        self.dead_since = dead.into_iter().map(since).collect();
        let is_over = |(_, since): &(&(usize, usize), &u64)| now_ms >= **since + KEEPALIVE_MS;
        self.dead_since.iter().filter(is_over).map(|(pair, _)| *pair).collect()
    }

    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        self.parked.clear();
        self.weather = Weather { delay_ms: self.weather.delay_ms, ..Weather::default() };
    }

    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        self.connected.insert(pair(a, b));
    }

    /// Whether they were connected.
    pub(crate) fn disconnect(&mut self, a: usize, b: usize) -> bool {
        self.connected.remove(&pair(a, b))
    }

    pub(crate) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.connected.contains(&pair(a, b))
    }

    /// When copies of a message arrive, after so many milliseconds.
    pub(crate) fn delays(&self, random: &mut Random) -> Vec<u64> {
        if random.chance(self.weather.loss) {
            return Vec::new();
        }
        let copies = if random.chance(self.weather.duplication) { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let late =
                    if random.chance(self.weather.late) { random.below(self.weather.late_ms) } else { 0 };
                random.between(1, self.weather.delay_ms.max(1)) + late
            })
            .collect()
    }
}
