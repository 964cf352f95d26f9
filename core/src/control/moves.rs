//! Moves of replicas between brokers that live, so that all carry the same number and those that leave are emptied: which are
//! under way, how many at once, and what people are told of it. What goes where next is chosen by `spread`; how a set changes is
//! `members`' matter.
//!
//! Nothing of it is stored but what the table says of each partition: a learner, a joint entry. Another tenure makes the same
//! plan from the same table, and takes a learner that it finds for a move that was begun. So a wish that is turned back half-way
//! is a plan like any other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::control::broker::Broker;
use crate::control::controller::Controller;
use crate::control::desired::Desired;
use crate::control::plan::is_deleted;
use crate::control::spread::{Board, Carrier, Share, Shift};
use crate::control::view::{EventKind, Moving};
use crate::entry::{Entry, Members};
use crate::id::{Ordinal, PartitionKey, ReplicaId};
use crate::partition::PromiseKind;

/// Moves under way at once: each copies a log, and makes its page longer for a while. To one broker, and from the logs of one leader,
/// which also serve programs, there are as many as is wished ([`Rebalance`](super::desired::Rebalance)).
const MOVES_MAX: usize = 16;
/// With those that wait for a broker that is away.
const WAITING_MAX: usize = 4 * MOVES_MAX;
/// A plan looks so far ahead: enough for the moves that begin until the next one, and not for what may be otherwise by then.
const PAGE: usize = 64;
/// Between two plans: each goes over all partitions.
const PLAN_EVERY: Duration = Duration::from_secs(1);
/// What could not be moved when the plan was made (it had no leader just then) is looked at again after this.
const PLAN_AGAIN: Duration = Duration::from_secs(10);
/// A broker that is wished and away is waited for so long before others carry its part: it may only restart.
pub(super) const ABSENCE_MAX: Duration = Duration::from_mins(1);

/// Moves between brokers.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "what is known of the plan, each by itself")]
pub(super) struct Moves {
    under_way: BTreeMap<PartitionKey, Move>,
    next: VecDeque<Shift>,
    carriers: Vec<Carrier>,
    /// Brokers came, went or changed their zones, or carry so different numbers that this is mended to the end. Otherwise what a
    /// new topic leaves uneven is no reason to move anything.
    evens: bool,
    /// People know that moves go on.
    is_told: bool,
    /// Members changed, or who carries them, since the last plan.
    is_stale: bool,
    /// Brokers came, went or changed their zones since the last plan.
    is_old: bool,
    /// A plan of this tenure was made: who learns for no reason that is known since does it in vain.
    pub(super) is_planned: bool,
    planned: Duration,
    /// Some could not be moved when the plan was made.
    is_partial: bool,
    /// None is begun, by a person's wish.
    is_paused: bool,
    /// Since when a wished broker is away.
    incomplete_since: Option<Duration>,
    done: usize,
    left: usize,
}

/// One replica on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) from: ReplicaId,
    pub(super) to: ReplicaId,
    /// Since when the broker that it goes to is away, or its volume full.
    away_since: Option<Duration>,
}

impl Moves {
    /// Another tenure: what was under way is found in the table. What people were told, and why, stands in no table: as long as this
    /// controller lives, its end is still to be reached and told to them.
    pub(super) fn forget(&mut self) {
        let Self { is_told, done, evens, .. } = *self;
        *self = Self { is_stale: true, is_told, done, evens: evens && is_told, ..Self::default() };
    }

    /// Members of some partition are others now.
    pub(super) fn note_change(&mut self) {
        self.is_stale = true;
    }

    /// The move of a partition's replica that is under way.
    pub(super) fn of(&self, key: PartitionKey) -> Option<Move> {
        self.under_way.get(&key).copied()
    }

    /// Nothing is under way, and nothing is known that is to be.
    pub(super) fn is_at_rest(&self) -> bool {
        self.under_way.is_empty() && (self.next.is_empty() || self.is_paused) && !self.is_stale
    }

    /// What is said of moves is not what a plan would say now.
    pub(super) fn is_unplanned(&self) -> bool {
        self.is_old || !self.is_planned
    }

    /// For people: nothing while everything is where it should be.
    pub(super) fn view(&self) -> Option<Moving> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        (self.left > 0).then(|| Moving {
            done: count(self.done),
            total: count(self.done + self.left),
            under_way: count(self.under_way.len()),
            is_paused: self.is_paused,
        })
    }
}

impl Controller {
    /// Looks after the moves under way, plans if something changed, and begins others.
    pub(super) fn spread(&mut self) {
        if self.plan.root.as_ref().is_none_or(|root| root.rebuilding) {
            // What is under way is found again in the table that comes of it.
            return self.moves.forget();
        }
        let Some(desired) = self.desired.as_ref().filter(|desired| desired.brokers > 0) else { return };
        let (carriers, rebalance) = (self.carriers(desired), desired.rebalance);
        self.pause_moves(rebalance.paused);
        if self.moves.carriers != carriers {
            let before = std::mem::take(&mut self.moves.carriers);
            let place = |carrier: &Carrier| (carrier.ordinal, carrier.zone.clone(), carrier.stays);
            let are_others = !before.iter().map(place).eq(carriers.iter().map(place));
            self.moves.evens |= self.moves.is_planned && are_others;
            self.moves.is_old |= are_others;
            self.moves.carriers = carriers;
            self.moves.next.clear();
            self.moves.is_stale = true;
        }
        self.end_moves();
        if !self.is_complete() {
            return;
        }
        let waited = self.now.saturating_sub(self.moves.planned);
        // While none is begun, the next ones wait for a plan that may be another by then.
        let waits = self.moves.next.is_empty() || rebalance.paused;
        let is_due = self.moves.is_stale && waits && waited >= PLAN_EVERY
            || self.moves.is_partial && waited >= PLAN_AGAIN;
        if is_due || !self.moves.is_planned {
            self.plan_moves();
        }
        // A ledger that takes nothing would leave them half-way.
        if self.shelf.trouble.is_none() && !rebalance.paused {
            self.begin_shifts(usize::from(rebalance.moves_a_broker.max(1)));
        }
    }

    /// Takes note of a person's wish, and says what comes of it if anything is to be moved.
    fn pause_moves(&mut self, is_paused: bool) {
        if self.moves.is_paused == is_paused {
            return;
        }
        self.moves.is_paused = is_paused;
        let Some(moving) = self.moves.view() else { return };
        let (reason, message) = if is_paused {
            let message = format!(
                "{} of {} replicas are moved, {} go to their end, and no other one begins",
                moving.done, moving.total, moving.under_way
            );
            ("MovesPaused", message)
        } else {
            ("MovesResumed", format!("about {} replicas are to be moved to other brokers", self.moves.left))
        };
        self.event(EventKind::Normal, reason, None, message);
    }

    /// Who carries replicas, or could, by ordinal.
    fn carriers(&self, desired: &Desired) -> Vec<Carrier> {
        // A wish that cannot be fulfilled moves nothing, of no topic.
        let present = desired.present();
        let is_refused = present > desired.brokers && self.min_brokers() > desired.brokers;
        let kept = if is_refused { present } else { desired.brokers };
        let carrier = |ordinal: u16| {
            let stays = ordinal < kept;
            let ordinal = Ordinal(ordinal);
            let broker = self.brokers.get(&ordinal);
            Carrier {
                ordinal,
                zone: broker.and_then(|broker| broker.zone.clone()),
                stays,
                takes: stays
                    && broker
                        .is_some_and(|broker| broker.is_serving() && !broker.stopping && broker.has_room()),
            }
        };
        let records = self.plan.root.iter().flat_map(|root| &root.brokers);
        let last = records.map(|record| record.ordinal.0.saturating_add(1)).max().unwrap_or_default();
        (0..last.max(present)).map(carrier).collect()
    }

    /// Whether every wished broker is there, or has been away for so long that the others go on without it.
    fn is_complete(&mut self) -> bool {
        let lacks = self.moves.carriers.iter().any(|carrier| carrier.stays && !carrier.takes);
        if !lacks {
            self.moves.incomplete_since = None;
            return true;
        }
        let since = *self.moves.incomplete_since.get_or_insert(self.now);
        self.now.saturating_sub(since) >= ABSENCE_MAX
    }

    /// Takes note of moves that are done, or that cannot be.
    fn end_moves(&mut self) {
        let under_way: Vec<(PartitionKey, Move)> =
            self.moves.under_way.iter().map(|(key, one)| (*key, *one)).collect();
        for (key, mut one) in under_way {
            // A full volume takes nothing, and holds up others.
            let is_full = |broker: &Broker| broker.disk.is_some_and(|disk| disk.is_full);
            let takes = self.serving(one.to).is_some_and(|broker| !is_full(broker));
            one.away_since = if takes { None } else { one.away_since.or(Some(self.now)) };
            let gave_up = one.away_since.is_some_and(|since| self.now.saturating_sub(since) >= ABSENCE_MAX);
            let stays = |ordinal: Ordinal| {
                self.moves.carriers.iter().any(|carrier| carrier.ordinal == ordinal && carrier.stays)
            };
            let goes_on = match self.plan.entries.get(&key).map(|entry| &entry.members) {
                None => false,
                Some(Members::Joint { new, .. }) => new.contains(one.to),
                Some(Members::One(set)) => {
                    let done = set.contains(one.to);
                    self.moves.done += usize::from(done);
                    self.moves.left = self.moves.left.saturating_sub(usize::from(done));
                    // A lost volume is replaced first, by its own broker: both at once could leave nobody to lead.
                    let root = self.shelf.root.as_ref();
                    let loses = |replica: &ReplicaId| root.is_none_or(|root| root.is_lost(*replica));
                    let is_whole = !set.replicas().iter().any(loses);
                    set.contains(one.from) && !done && !gave_up && is_whole && stays(one.to.ordinal)
                }
            };
            if goes_on {
                self.moves.under_way.insert(key, one);
            } else {
                self.moves.under_way.remove(&key);
                self.moves.is_stale = true;
            }
        }
    }

    /// Looks at everything, and notes the next moves.
    fn plan_moves(&mut self) {
        let carriers = std::mem::take(&mut self.moves.carriers);
        let mut board = Board::new(&carriers, self.shares());
        let shift = |(key, one): (&PartitionKey, &Move)| Shift {
            key: *key,
            from: one.from.ordinal,
            to: one.to.ordinal,
        };
        // Who learns is taken back if it is for nothing now; a joint entry goes to its end.
        let is_vain = |(key, one): &(&PartitionKey, &Move)| {
            matches!(self.plan.entries[key].members, Members::One(_)) && !board.is_worth(shift((key, one)))
        };
        let vain: Vec<PartitionKey> =
            self.moves.under_way.iter().filter(is_vain).map(|(key, _)| *key).collect();
        let begun = if self.moves.is_planned { Vec::new() } else { self.begun(&board) };
        let evens = self.moves.evens || !begun.is_empty() || self.is_joining() || board.is_uneven();
        let (about, is_partial, sure) = (board.left(evens), board.is_partial(), board.left(false));
        let next = board.propose(PAGE, evens);
        // Where zones differ in size their brokers are never even, and that is nothing to be done.
        let left = if next.is_empty() { sure } else { about };
        drop(board);
        self.moves.evens = evens;
        self.moves.carriers = carriers;
        self.moves.is_stale = !vain.is_empty() || !begun.is_empty();
        for key in vain {
            self.moves.under_way.remove(&key);
        }
        self.moves.under_way.extend(begun);
        (self.moves.is_planned, self.moves.planned, self.moves.is_partial) = (true, self.now, is_partial);
        self.moves.is_old = false;
        let under_way = self.moves.under_way.len();
        let rests = next.is_empty() && under_way == 0 && !self.moves.is_stale;
        // Evenness may have been reached as far as it goes; a broker that leaves has to be empty.
        let is_over = rests && (left == 0 || !is_partial && sure == 0);
        self.moves.left = if is_over { 0 } else { (left + under_way).max(next.len()) };
        self.moves.next = if self.moves.is_stale { VecDeque::new() } else { next.into() };
        self.tell_of_moves(is_over);
    }

    fn tell_of_moves(&mut self, is_over: bool) {
        if is_over {
            let done = std::mem::take(&mut self.moves.done);
            self.moves.evens &= self.moves.is_partial;
            if std::mem::take(&mut self.moves.is_told) {
                let message =
                    format!("{done} replicas were moved to other brokers; none is left to be moved");
                self.event(EventKind::Normal, "ReplicasMoved", None, message);
            }
        } else if !std::mem::replace(&mut self.moves.is_told, true) {
            let paused = if self.moves.is_paused { "; that is paused" } else { "" };
            let message =
                format!("about {} replicas are to be moved to other brokers{paused}", self.moves.left);
            self.event(EventKind::Normal, "MovingReplicas", None, message);
        }
    }

    /// Another tenure may have begun it.
    fn is_joining(&self) -> bool {
        let is_joint =
            |entry: &Entry| matches!(entry.members, Members::Joint { .. }) && entry.lost.is_empty();
        !self.moves.is_planned && self.plan.entries.values().any(is_joint)
    }

    /// Where every partition's replicas are going to be.
    fn shares(&self) -> Vec<Share> {
        let entries = self.plan.entries.values().filter(|entry| !is_deleted(entry));
        let share = |entry: &Entry| {
            let set = entry.members.sets().last().expect("one set or two");
            let one = self.moves.of(entry.key);
            let place = |replica: &ReplicaId| match one {
                Some(one) if one.from == *replica => one.to.ordinal,
                _ => replica.ordinal,
            };
            let replicas = set.replicas().iter().map(place).collect();
            Share { key: entry.key, replicas, movable: one.is_none() && self.is_movable(entry) }
        };
        entries.map(share).collect()
    }

    /// It is led, and nothing is being changed about it, nor is about to be.
    fn is_movable(&self, entry: &Entry) -> bool {
        let rests = entry.learners.is_empty() && matches!(entry.members, Members::One(_));
        rests
            && self.partitions.get(&entry.key).is_some_and(|state| state.settled)
            && self.leading(entry).is_some()
            && self.can_open(entry)
            && self.shelf.root.as_ref().is_some_and(|root| !self.is_wanting(entry, root))
    }

    /// Moves that an earlier tenure began: somebody learns, and not in a lost volume's place.
    fn begun(&self, board: &Board<'_>) -> Vec<(PartitionKey, Move)> {
        let learning = self.plan.entries.values().filter(|entry| !entry.learners.is_empty());
        let found = learning.filter_map(|entry| {
            let Members::One(set) = &entry.members else { return None };
            let root = self.shelf.root.as_ref()?;
            let [to] = entry.learners[..] else { return None };
            let lost = set.replicas().iter().any(|replica| root.is_lost(*replica));
            if lost || self.moves.of(entry.key).is_some() || self.serving(to).is_none() {
                return None;
            }
            let shift = board.exchange(entry.key, to.ordinal)?;
            let from = *set.replicas().iter().find(|replica| replica.ordinal == shift.from)?;
            Some((entry.key, Move { from, to, away_since: None }))
        });
        found.take(MOVES_MAX).collect()
    }

    /// Begins as many of the next moves as may be under way at once.
    fn begin_shifts(&mut self, moves_a_broker: usize) {
        if self.moves.next.is_empty() {
            return;
        }
        // One that waits for somebody who is away copies nothing, and holds up no others.
        let goes_on = |(key, one): (&PartitionKey, &Move)| {
            let entry = self.plan.entries.get(key).filter(|entry| self.can_open(entry))?;
            Some([entry.leader?.ordinal, self.serving(one.to).map(|_| one.to.ordinal)?])
        };
        let copying: Vec<[Ordinal; 2]> = self.moves.under_way.iter().filter_map(goes_on).collect();
        let mut load: BTreeMap<Ordinal, usize> = BTreeMap::new();
        for ordinal in copying.iter().flatten() {
            *load.entry(*ordinal).or_default() += 1;
        }
        let mut copying = copying.len();
        for shift in std::mem::take(&mut self.moves.next) {
            let Some((leader, one)) = self.begins(shift) else {
                self.moves.is_stale = true;
                continue;
            };
            let has_room = |ordinal: Ordinal| load.get(&ordinal).is_none_or(|load| *load < moves_a_broker);
            let is_room = copying < MOVES_MAX && self.moves.under_way.len() < WAITING_MAX;
            if is_room && has_room(leader) && has_room(shift.to) {
                copying += 1;
                *load.entry(leader).or_default() += 1;
                *load.entry(shift.to).or_default() += 1;
                self.moves.under_way.insert(shift.key, one);
            } else {
                self.moves.next.push_back(shift);
            }
        }
    }

    /// The move, if it can still be made, and whose log is copied.
    fn begins(&self, shift: Shift) -> Option<(Ordinal, Move)> {
        let entry = self.plan.entries.get(&shift.key)?;
        let takes = |broker: &&Broker| broker.is_serving() && !broker.stopping && broker.has_room();
        let to = self.brokers.get(&shift.to).filter(takes)?;
        let to = to.replica()?;
        let from = *entry.members.replicas().iter().find(|replica| replica.ordinal == shift.from)?;
        let is_free = self.moves.of(shift.key).is_none() && self.is_movable(entry);
        let leader = entry.leader.filter(|_| is_free && !entry.members.contains(to))?;
        Some((leader.ordinal, Move { from, to, away_since: None }))
    }

    /// Brokers that are not wished any more and may not be taken away: they hold records, or it is not known whether they do.
    pub(super) fn leaving_holders(&self) -> Vec<Ordinal> {
        let (wished, present) = self.desired.as_ref().map_or((0, 0), |one| (one.brokers, one.present()));
        let seen = self.sightings.keys().map(|ordinal| ordinal.0).filter(|ordinal| *ordinal >= wished);
        let leaving: BTreeSet<Ordinal> = (wished..present).chain(seen).map(Ordinal).collect();
        if leaving.is_empty() {
            return Vec::new();
        }
        // Each looks at all partitions.
        let is_told_all = self.is_told_all();
        let is_word_enough = is_told_all && self.is_word_enough();
        let may_hold = |ordinal: &Ordinal| {
            let Some(broker) = self.brokers.get(ordinal) else { return !is_word_enough };
            if broker.answered_at.is_some() {
                return broker.reports.values().any(|report| report.promise.kind != PromiseKind::Tombstone);
            }
            // Who told this tenure all that it holds was given nothing since but by this tenure.
            let is_known = broker.told_all_to == self.tenure && is_told_all;
            broker.dead_since.is_none() || !is_known && !is_word_enough
        };
        leaving.into_iter().filter(may_hold).collect()
    }

    /// Every partition is settled, as it is stored, and none is going that somebody who is dead may still hold: its volume could
    /// come back when nobody knows any more that it went.
    fn is_told_all(&self) -> bool {
        let is_stored = self.shelf.documents.values().all(|one| !one.is_dirty() && one.writing.is_none());
        let is_settled = |key| self.partitions.get(key).is_some_and(|state| state.settled);
        is_stored && self.plan.entries.iter().all(|(key, entry)| is_settled(key) && !is_deleted(entry))
    }

    /// The table's word is enough of a broker that this tenure has never heard: it names it for nothing, and it is not an older
    /// copy, or one of the brokers that stay would know of something that it lacks. To be asked once all is told.
    fn is_word_enough(&self) -> bool {
        let wished = self.desired.as_ref().map_or(0, |desired| desired.brokers);
        let is_copy = self.heard_topics.keys().any(|topic| !self.plan.topics.contains_key(topic));
        let is_whole = self.plan.root.as_ref().is_some_and(|root| !root.rebuilding);
        is_whole && !is_copy && (0..wished).all(|ordinal| self.has_reported(Ordinal(ordinal)))
    }
}
