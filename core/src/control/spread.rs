//! Which replica should go where next, so that brokers carry the same number: those that leave are emptied, then zones are put
//! right, then the fullest give to the emptiest.
//!
//! Owns the choice. Knows nothing of the table, of time, or of what is under way: the same board gives the same moves. Every
//! move makes one thing better and nothing that comes before it worse, so that one after the other comes to an end.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Ordinal, PartitionKey};

/// A broker that carries replicas, or could.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Carrier {
    pub(super) ordinal: Ordinal,
    /// One whose zone is not known is alone in a zone.
    pub(super) zone: Option<String>,
    /// It is wished; who is not is to be emptied.
    pub(super) stays: bool,
    /// It serves: it can be given replicas, and is balanced with the others. Who is away for a while keeps what it has.
    pub(super) takes: bool,
}

/// A partition, where its replicas are going to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) key: PartitionKey,
    /// The preferred leader first.
    pub(super) replicas: Vec<Ordinal>,
    /// It may be moved now: it is led, and nothing else is changed about it.
    pub(super) movable: bool,
}

/// One replica of one partition, from one broker to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shift {
    pub(super) key: PartitionKey,
    pub(super) from: Ordinal,
    pub(super) to: Ordinal,
}

/// Which of the carriers an ordinal is: asked for some times for each of thousands of replicas.
#[derive(Debug)]
struct Places(Vec<Option<usize>>);

impl Places {
    fn of(carriers: &[Carrier]) -> Self {
        let mut places = Vec::new();
        for (at, carrier) in carriers.iter().enumerate() {
            let place = usize::from(carrier.ordinal.0);
            places.resize(places.len().max(place + 1), None);
            places[place] = Some(at);
        }
        Self(places)
    }

    fn get(&self, ordinal: Ordinal) -> Option<usize> {
        self.0.get(usize::from(ordinal.0)).copied().flatten()
    }
}

/// Who carries what.
#[derive(Debug)]
pub(super) struct Board<'a> {
    carriers: &'a [Carrier],
    at: Places,
    /// Of each carrier.
    zones: Vec<usize>,
    /// Zones with somebody who takes: few, where there are many brokers.
    open: BTreeSet<usize>,
    keys: BTreeMap<PartitionKey, usize>,
    shares: Vec<Share>,
    /// Shares of each carrier, in order: neighbours are on one page of the table, and one write moves many of them.
    held: Vec<BTreeSet<usize>>,
    /// How many shares each carrier is the preferred leader of.
    led: Vec<usize>,
}

impl<'a> Board<'a> {
    /// Every replica of the shares is on a carrier; one on a broker that is no carrier is not looked at.
    pub(super) fn new(carriers: &'a [Carrier], shares: Vec<Share>) -> Self {
        let at = Places::of(carriers);
        let mut names: Vec<&str> = carriers.iter().filter_map(|carrier| carrier.zone.as_deref()).collect();
        names.sort_unstable();
        names.dedup();
        let zone = |(at, carrier): (usize, &Carrier)| match &carrier.zone {
            Some(zone) => names.binary_search(&zone.as_str()).expect("the list has all names"),
            None => names.len() + at,
        };
        let zones: Vec<usize> = carriers.iter().enumerate().map(zone).collect();
        let takes = |carrier: &Carrier| carrier.stays && carrier.takes;
        let open = carriers.iter().zip(&zones).filter(|(one, _)| takes(one)).map(|(_, zone)| *zone).collect();
        let mut held = vec![BTreeSet::new(); carriers.len()];
        let mut led = vec![0; carriers.len()];
        for (number, share) in shares.iter().enumerate() {
            for (position, ordinal) in share.replicas.iter().enumerate() {
                let Some(carrier) = at.get(*ordinal) else { continue };
                held[carrier].insert(number);
                led[carrier] += usize::from(position == 0);
            }
        }
        let keys = shares.iter().enumerate().map(|(number, share)| (share.key, number)).collect();
        Self { carriers, at, zones, open, keys, shares, held, led }
    }

    /// Whether a replica that is on its way from one broker to another (the board has it at its end already) is better there.
    pub(super) fn is_worth(&self, shift: Shift) -> bool {
        let (Some(number), Some(from), Some(to)) =
            (self.keys.get(&shift.key).copied(), self.at.get(shift.from), self.at.get(shift.to))
        else {
            return false;
        };
        if !self.carriers[to].stays {
            return false;
        }
        // As it was before: there the one counts, and the other does not.
        let here = self.in_zone(number, self.zones[from]) + usize::from(!self.is_same_zone(from, to));
        let there = self.in_zone(number, self.zones[to]) - usize::from(!self.is_same_zone(from, to));
        let same = self.is_same_zone(from, to);
        if !self.carriers[from].stays || !same && here >= there + 2 {
            return true;
        }
        (same || here > there) && self.held[from].len() >= self.held[to].len()
    }

    /// The replica of a share that could best go for one that is on its way to `to` and has no place yet: nothing, if it is not
    /// worth it.
    pub(super) fn exchange(&self, key: PartitionKey, to: Ordinal) -> Option<Shift> {
        let (number, to_at) = (*self.keys.get(&key)?, self.at.get(to)?);
        if !self.carriers[to_at].stays || self.shares[number].replicas.contains(&to) {
            return None;
        }
        let replicas = self.shares[number].replicas.iter();
        let from = replicas.filter_map(|ordinal| self.at.get(*ordinal));
        let fit = |from: &usize| {
            let (here, there) =
                (self.in_zone(number, self.zones[*from]), self.in_zone(number, self.zones[to_at]));
            let same = self.is_same_zone(*from, to_at);
            let leaves = !self.carriers[*from].stays;
            let mends = !same && here >= there + 2;
            let evens = (same || here > there) && self.held[*from].len() >= self.held[to_at].len() + 2;
            (leaves || mends || evens).then_some((leaves, mends, self.held[*from].len()))
        };
        let best = from.filter_map(|from| Some((fit(&from)?, from))).max()?;
        Some(Shift { key, from: self.carriers[best.1].ordinal, to })
    }

    /// Up to so many moves, of different partitions. Each is worth it after those before it; none: it is as it should be, and
    /// as even as it can be, if that is asked for.
    pub(super) fn propose(&mut self, most: usize, evens: bool) -> Vec<Shift> {
        let mut shifts = Vec::new();
        self.empty(most, &mut shifts);
        self.mend(most, &mut shifts);
        let mut futile = BTreeSet::new();
        while evens && shifts.len() < most {
            let Some(shift) = self.even(&mut futile) else { break };
            shifts.push(shift);
        }
        shifts
    }

    /// Whether brokers carry so different numbers that it is worth moving what nothing else moves: a new topic alone leaves
    /// them two apart.
    pub(super) fn is_uneven(&self) -> bool {
        let loads =
            || self.numbers(|carrier| carrier.stays && carrier.takes).map(|taker| self.held[taker].len());
        let (least, most) = (loads().min().unwrap_or_default(), loads().max().unwrap_or_default());
        most >= least + 3 || least == 0 && most >= 2
    }

    /// About how many moves there are still to come.
    pub(super) fn left(&self, evens: bool) -> usize {
        let leaving: usize =
            self.numbers(|carrier| !carrier.stays).map(|carrier| self.held[carrier].len()).sum();
        let crowded = (0..self.shares.len()).filter(|number| self.crowd(*number).is_some()).count();
        let takers: Vec<usize> = self.numbers(|carrier| carrier.stays && carrier.takes).collect();
        if takers.is_empty() || !evens {
            return leaving + crowded;
        }
        let all = leaving + takers.iter().map(|taker| self.held[*taker].len()).sum::<usize>();
        let (low, high) = (all / takers.len(), all.div_ceil(takers.len()));
        let over: usize = takers.iter().map(|taker| self.held[*taker].len().saturating_sub(high)).sum();
        let under: usize = takers.iter().map(|taker| low.saturating_sub(self.held[*taker].len())).sum();
        (leaving + over).max(under).max(leaving + crowded)
    }

    /// Whether some share cannot be moved now.
    pub(super) fn is_partial(&self) -> bool {
        self.shares.iter().any(|share| !share.movable)
    }

    /// How many replicas a broker carries.
    #[cfg(test)]
    pub(super) fn load(&self, ordinal: Ordinal) -> usize {
        self.at.get(ordinal).map_or(0, |carrier| self.held[carrier].len())
    }

    /// Where everything is.
    #[cfg(test)]
    pub(super) fn shares(&self) -> &[Share] {
        &self.shares
    }

    fn numbers(&self, fit: impl Fn(&Carrier) -> bool) -> impl Iterator<Item = usize> {
        (0..self.carriers.len()).filter(move |number| fit(&self.carriers[*number]))
    }

    fn is_same_zone(&self, one: usize, other: usize) -> bool {
        self.zones[one] == self.zones[other]
    }

    /// Replicas of a share in a zone.
    fn in_zone(&self, number: usize, zone: usize) -> usize {
        let replicas = self.shares[number].replicas.iter();
        replicas.filter_map(|ordinal| self.at.get(*ordinal)).filter(|at| self.zones[*at] == zone).count()
    }

    fn holds(&self, carrier: usize, number: usize) -> bool {
        self.shares[number].replicas.contains(&self.carriers[carrier].ordinal)
    }

    /// From brokers that leave, to where their zones and loads allow best.
    fn empty(&mut self, most: usize, shifts: &mut Vec<Shift>) {
        let leaving: BTreeSet<usize> =
            self.numbers(|carrier| !carrier.stays).flat_map(|carrier| self.held[carrier].clone()).collect();
        for number in leaving.into_iter().filter(|number| self.shares[*number].movable).collect::<Vec<_>>() {
            if shifts.len() >= most {
                return;
            }
            let mut replicas =
                self.shares[number].replicas.iter().filter_map(|ordinal| self.at.get(*ordinal));
            let Some(from) = replicas.find(|carrier| !self.carriers[*carrier].stays) else {
                continue;
            };
            let free = self.numbers(|carrier| carrier.stays && carrier.takes);
            let free = free.filter(|carrier| !self.holds(*carrier, number));
            let to = free.min_by_key(|to| {
                let others =
                    self.in_zone(number, self.zones[*to]) - usize::from(self.is_same_zone(from, *to));
                (others, self.held[*to].len(), *to)
            });
            if let Some(to) = to {
                shifts.push(self.shift(number, from, to));
            }
        }
    }

    /// Out of zones that have two replicas more of a partition than another one would have.
    fn mend(&mut self, most: usize, shifts: &mut Vec<Shift>) {
        for number in 0..self.shares.len() {
            if shifts.len() >= most {
                return;
            }
            if let Some((from, to)) = self.crowd(number).filter(|_| self.shares[number].movable) {
                shifts.push(self.shift(number, from, to));
            }
        }
    }

    /// The move that puts a partition's zones right.
    fn crowd(&self, number: usize) -> Option<(usize, usize)> {
        let replicas = self.shares[number].replicas.iter().filter_map(|ordinal| self.at.get(*ordinal));
        let crowd = |carrier: &usize| (self.in_zone(number, self.zones[*carrier]), self.held[*carrier].len());
        let from = replicas.filter(|carrier| self.carriers[*carrier].stays);
        let from = from.max_by_key(|carrier| (crowd(carrier), *carrier))?;
        // Nearly all partitions are as they should be, and that is seen without a look at every broker.
        let most = crowd(&from).0;
        if most < 2 || !self.open.iter().any(|zone| most >= self.in_zone(number, *zone) + 2) {
            return None;
        }
        let free = self.numbers(|carrier| carrier.stays && carrier.takes);
        let free = free.filter(|to| !self.holds(*to, number));
        let to = free.min_by_key(|to| (crowd(to), *to))?;
        (crowd(&from).0 >= crowd(&to).0 + 2).then_some((from, to))
    }

    /// From the fullest to the emptiest that has two less, without making a zone more crowded than another would be. Two between
    /// which nothing can be moved are `futile` for the rest of a plan: what comes to them meanwhile stays.
    fn even(&mut self, futile: &mut BTreeSet<(usize, usize)>) -> Option<Shift> {
        let mut takers: Vec<usize> = self.numbers(|carrier| carrier.stays && carrier.takes).collect();
        takers.sort_by_key(|taker| (self.held[*taker].len(), *taker));
        for from in takers.iter().rev() {
            for to in &takers {
                if self.held[*from].len() < self.held[*to].len() + 2 {
                    break;
                }
                if futile.contains(&(*from, *to)) {
                    continue;
                }
                if let Some(number) = self.find(*from, *to) {
                    return Some(self.shift(number, *from, *to));
                }
                futile.insert((*from, *to));
            }
        }
        None
    }

    /// A share that may go from one to the other: one that is led there as long as the first leads more than the second.
    fn find(&self, from: usize, to: usize) -> Option<usize> {
        let leads = self.led[from] > self.led[to];
        let mut any = None;
        for number in &self.held[from] {
            let share = &self.shares[*number];
            if !share.movable || self.holds(to, *number) {
                continue;
            }
            let (here, there) =
                (self.in_zone(*number, self.zones[from]), self.in_zone(*number, self.zones[to]));
            if !self.is_same_zone(from, to) && here <= there {
                continue;
            }
            if leads == (share.replicas.first() == Some(&self.carriers[from].ordinal)) {
                return Some(*number);
            }
            any = any.or(Some(*number));
        }
        any
    }

    /// Makes the move on the board. Who comes takes the place of who goes: also as the preferred leader.
    fn shift(&mut self, number: usize, from: usize, to: usize) -> Shift {
        let (gone, new) = (self.carriers[from].ordinal, self.carriers[to].ordinal);
        let share = &mut self.shares[number];
        share.movable = false;
        let position = share.replicas.iter().position(|one| *one == gone).expect("who gives has it");
        share.replicas[position] = new;
        self.held[from].remove(&number);
        self.held[to].insert(number);
        if position == 0 {
            self.led[from] -= 1;
            self.led[to] += 1;
        }
        Shift { key: share.key, from: gone, to: new }
    }
}

#[cfg(test)]
#[path = "spread_tests.rs"]
mod tests;
