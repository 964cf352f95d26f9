//! Planned moves: away from a broker that was told to stop, and back to the preferred leader, the first of a set's replicas,
//! once it has been well for a while. Publishing stops, the next leader's log reaches the end, then it is named: programs see
//! one redirect. Elections go first: no move begins while one is due.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::control::controller::Controller;
use crate::control::effect::Effect;
use crate::control::plan::is_deleted;
use crate::control::view::EventKind;
use crate::entry::{Entry, Members};
use crate::id::{Ordinal, PartitionKey, ReplicaId};
use crate::partition::PromiseKind;

/// A planned move waits so long for its target's log to reach the leader's end; clients wait meanwhile.
const HANDOVER_MAX: Duration = Duration::from_millis(500);
/// A preferred leader has lived and been in sync for so long before it leads again: who comes and goes moves nothing.
const FIT: Duration = Duration::from_mins(1);
/// Moves back under way at once: each makes the clients of one partition wait for a moment, and opens a term.
pub(super) const MOVES_MAX: usize = 16;
/// Of the partitions of so many pages: a move is a write of its page, and those of one page share it.
const PAGES_AT_ONCE: usize = 2;
/// Between two looks at who may go back, and two waves of moves: a thousand partitions take a quarter of a minute.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A move whose new leader has not opened its term by then holds others up no more; who does not open at all is replaced.
const OPENING_MAX: Duration = Duration::from_secs(5);
/// Who did not take over in time (a busy machine is enough) is not moved back to for so long, doubled each time …
const AGAIN: Duration = Duration::from_mins(2);
/// … up to this.
const AGAIN_MAX: Duration = Duration::from_hours(2);

/// Moves back to preferred leaders.
#[derive(Debug, Default)]
pub(super) struct Homing {
    under_way: BTreeMap<PartitionKey, Move>,
    looked: Duration,
    moved: usize,
    /// Partitions that will go back to their preferred leader, for people.
    pub(super) away: u32,
}

#[derive(Debug, Clone, Copy)]
struct Move {
    from: ReplicaId,
    to: ReplicaId,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Publishing was stopped then.
    Stopped(Duration),
    /// The preferred leader was named then.
    Named(Duration),
}

impl Homing {
    /// No move is under way.
    pub(super) fn is_at_rest(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Another tenure: what was under way is judged anew. Leaders that were stopped go on by themselves.
    pub(super) fn forget(&mut self) {
        *self = Self { looked: self.looked, ..Self::default() };
    }
}

impl Controller {
    /// Away from a leader that stops: as soon as a follower holds the whole log, and soon in any case. True if one was named.
    pub(super) fn hand_over(
        &mut self,
        key: PartitionKey,
        leader: ReplicaId,
        leads: &mut BTreeMap<Ordinal, usize>,
    ) -> bool {
        let now = self.now;
        // Who leaves a set and is well hands over to one of the next set.
        let is_stopping = self.brokers.get(&leader.ordinal).is_none_or(|broker| broker.stopping);
        let next = match &self.plan.entries[&key].members {
            Members::Joint { new, .. } if !is_stopping => Some(new.clone()),
            Members::Joint { .. } | Members::One(_) => None,
        };
        let stays = |this: &Self, replica: ReplicaId| {
            replica != leader
                && this.serving(replica).is_some_and(|broker| !broker.stopping)
                && next.as_ref().is_none_or(|next| next.contains(replica))
        };
        let Some(any) = self.candidate(key, |replica| stays(self, replica), leads) else { return false };
        let report = self.leading(&self.plan.entries[&key]);
        let whole = report.map(|report| report.whole.clone());
        let Some(since) = self.partitions.entry(key).or_default().handover else {
            self.stop_appends(key, leader);
            return false;
        };
        let ready = |replica| whole.iter().flatten().any(|one| *one == replica) && stays(self, replica);
        let target = self.candidate(key, ready, leads);
        // Who never opened its term has nobody waiting.
        let waited = now.saturating_sub(since) >= HANDOVER_MAX || whole.is_none();
        let Some(target) = target.or(waited.then_some(any)) else { return false };
        self.appoint(key, target, leads);
        true
    }

    fn stop_appends(&mut self, key: PartitionKey, leader: ReplicaId) {
        self.partitions.entry(key).or_default().handover = Some(self.now);
        self.out.push(Effect::StopAppends { ordinal: leader.ordinal, key });
    }

    /// Takes the next step of every move back, and begins others.
    pub(super) fn go_home(&mut self) {
        let under_way: Vec<(PartitionKey, Move)> =
            self.homing.under_way.iter().map(|(key, one)| (*key, *one)).collect();
        for (key, one) in under_way {
            self.continue_move(key, one);
        }
        if self.now.saturating_sub(self.homing.looked) < LOOK_EVERY {
            return;
        }
        self.homing.looked = self.now;
        let fit = self.look_for_fit();
        if self.homing.under_way.is_empty() && fit.is_empty() && self.homing.moved > 0 {
            let moved = std::mem::take(&mut self.homing.moved);
            let message = format!("{moved} partitions are led by their preferred leaders again");
            self.event(EventKind::Normal, "LeadersWentHome", None, message);
        }
        self.begin_moves(fit);
    }

    fn continue_move(&mut self, key: PartitionKey, one: Move) {
        let entry = self.plan.entries.get(&key).cloned();
        let leader = entry.as_ref().and_then(|entry| entry.leader);
        let (Some(entry), Some(leader)) = (entry, leader) else {
            self.homing.under_way.remove(&key);
            return;
        };
        let next = match one.step {
            Step::Stopped(since) => {
                // An election, or a change of members, has overtaken it.
                let stands = self.partitions.get(&key).is_some_and(|state| state.handover == Some(since));
                if leader != one.from || !stands { None } else { self.finish_move(&entry, one, since) }
            }
            Step::Named(since) if leader == one.to => {
                let opened = self.leading(&entry).is_some();
                self.homing.moved += usize::from(opened);
                let waits = !opened && self.now.saturating_sub(since) < OPENING_MAX;
                waits.then_some(one)
            }
            Step::Named(_) => None,
        };
        match next {
            Some(next) => drop(self.homing.under_way.insert(key, next)),
            None => drop(self.homing.under_way.remove(&key)),
        }
    }

    /// Names the preferred leader once it holds the whole log, or lets the present one go on.
    fn finish_move(&mut self, entry: &Entry, one: Move, since: Duration) -> Option<Move> {
        let (now, key) = (self.now, entry.key);
        if !self.can_open(entry) {
            // Neither another leader nor another epoch of this one would open: who works goes on by itself.
            if let Some(state) = self.partitions.get_mut(&key) {
                (state.handover, state.fit_since) = (None, None);
            }
            return None;
        }
        let whole = self.leading(entry).is_some_and(|report| report.whole.contains(&one.to));
        let lives = self.serving(one.to).is_some_and(|broker| !broker.stopping);
        if whole && lives {
            let mut leads = self.count_leaders();
            self.appoint(key, one.to, &mut leads);
            return Some(Move { step: Step::Named(now), ..one });
        }
        if lives && now.saturating_sub(since) < HANDOVER_MAX {
            return Some(one);
        }
        // Another epoch of the same leader: what waits for the next one's name is appended there.
        if lives {
            self.note_failure(key, one.to, 1);
        }
        self.decide(entry.clone(), true);
        None
    }

    /// Who was to lead and does not is not trusted for a while; `times`: as if it had failed so often.
    pub(super) fn note_failure(&mut self, key: PartitionKey, replica: ReplicaId, times: u32) {
        let now = self.now;
        let failed = self.partitions.entry(key).or_default().failed.entry(replica).or_default();
        *failed = (failed.0.saturating_add(times), now);
    }

    fn is_trusted(&self, key: PartitionKey, replica: ReplicaId) -> bool {
        let failed = self.partitions.get(&key).and_then(|state| state.failed.get(&replica));
        failed.is_none_or(|(times, at)| {
            let wait = AGAIN.saturating_mul(1 << (times - 1).min(10)).min(AGAIN_MAX);
            self.now.saturating_sub(*at) >= wait
        })
    }

    /// Notes who is fit to lead again, and gives back those who have been for long enough.
    fn look_for_fit(&mut self) -> Vec<(u32, PartitionKey, ReplicaId, ReplicaId)> {
        let now = self.now;
        let mut fit = Vec::new();
        let mut verdicts = Vec::new();
        let mut away = 0;
        for (key, entry) in &self.plan.entries {
            let Some((from, to)) = self.preferred(entry) else {
                verdicts.push((*key, None));
                continue;
            };
            away += 1;
            let since = self.partitions.get(key).and_then(|state| state.fit_since).unwrap_or(now);
            verdicts.push((*key, Some(since)));
            if now.saturating_sub(since) >= FIT
                && let Some(page) = self.plan.places.get(key)
            {
                fit.push((*page, *key, from, to));
            }
        }
        for (key, since) in verdicts {
            if let Some(state) = self.partitions.get_mut(&key) {
                state.fit_since = since;
            }
        }
        self.homing.away = away;
        fit.sort_unstable();
        fit
    }

    /// Who leads, and who should, if that is somebody else who lives, is in sync and is trusted.
    fn preferred(&self, entry: &Entry) -> Option<(ReplicaId, ReplicaId)> {
        let Members::One(set) = &entry.members else { return None };
        let (from, to) = (entry.leader?, *set.replicas().first()?);
        let rests = from != to && entry.learners.is_empty() && !is_deleted(entry);
        let stays = |replica| self.serving(replica).is_some_and(|broker| !broker.stopping);
        if !rests || !self.can_open(entry) || !stays(from) || !stays(to) || !self.is_trusted(entry.key, to) {
            return None;
        }
        let report = self.report(to, entry.key)?;
        let sound = report.halted.is_none()
            && !report.uncertain
            && report.unreadable.is_none()
            && report.promise.kind == PromiseKind::Live;
        (sound && self.leading(entry)?.in_sync.contains(&to)).then_some((from, to))
    }

    fn begin_moves(&mut self, fit: Vec<(u32, PartitionKey, ReplicaId, ReplicaId)>) {
        // A ledger that does not take the next leader's name would leave publishers waiting.
        if fit.is_empty() || self.shelf.trouble.is_some() || self.is_electing() {
            return;
        }
        let mut pages: BTreeSet<u32> =
            self.homing.under_way.keys().filter_map(|key| self.plan.places.get(key).copied()).collect();
        for (page, key, from, to) in fit {
            let room = pages.contains(&page) || pages.len() < PAGES_AT_ONCE;
            if self.homing.under_way.len() >= MOVES_MAX {
                return;
            }
            if !room || self.homing.under_way.contains_key(&key) {
                continue;
            }
            pages.insert(page);
            self.stop_appends(key, from);
            self.homing.under_way.insert(key, Move { from, to, step: Step::Stopped(self.now) });
        }
    }

    /// Whether a partition has no leader that lives: that comes first.
    fn is_electing(&self) -> bool {
        let unopened_for = |entry: &Entry| {
            let since = self.partitions.get(&entry.key).and_then(|state| state.unopened);
            self.now.saturating_sub(since.map_or(self.now, |(_, since)| since))
        };
        let is_headless = |entry: &Entry| {
            // One that does not open at all is replaced in its own time, and holds up no others meanwhile.
            let opens = || self.leading(entry).is_some() || unopened_for(entry) >= OPENING_MAX;
            let alive = |leader: ReplicaId| self.can_lead(entry, leader) && opens();
            !is_deleted(entry) && !entry.leader.is_some_and(alive) && self.is_led_soon(entry)
        };
        self.plan.entries.values().any(is_headless)
    }

    /// Enough members live to open a term. What waits for somebody who is away holds nobody up.
    fn is_led_soon(&self, entry: &Entry) -> bool {
        !self.homing.under_way.contains_key(&entry.key) && self.can_open(entry)
    }
}
