//! Who was named and lives, but does not open its term: another one is named after a bounded time, each time later than
//! before, so that two who cannot do not take turns for ever. Also who opened it, and is cut off from those whom it needs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::control::controller::Controller;
use crate::control::plan::is_deleted;
use crate::control::view::EventKind;
use crate::entry::Entry;
use crate::id::{Ordinal, PartitionKey, ReplicaId};

/// A term opens within a few round trips and syncs, or by fetching what the longest log has more. Who has not opened it by
/// then, and opened no other one since, is replaced; the next one gets twice as long, and so on …
const OPEN_MAX: Duration = Duration::from_secs(5);
/// … up to this; also the longest that a broker busy opening other terms is waited for.
const OPEN_MAX_MAX: Duration = Duration::from_mins(1);

/// Who has thousands to open at once (a broker died) gets so much longer for each thousand of them: it makes one step with all of them,
/// then the next, so the first one is open hardly sooner than the last. Another name would make all of it begin anew.
const OPEN_THOUSAND: Duration = Duration::from_secs(2);

/// As a preferred leader it is not trusted for as long as after so many moves that failed: eight minutes, then an hour.
const UNOPENED_COUNTS: u32 = 3;

/// A leader that is cut off from those whom it needs to commit, while others are not, is replaced after so long: connections that
/// broke for another reason are made anew within two seconds, and those of a broker that starts, too.
const CUT_OFF_MAX: Duration = Duration::from_secs(5);
/// It has failed once: as a preferred leader it is trusted after two minutes, then after four, and so on.
const CUT_OFF_COUNTS: u32 = 1;

/// Why a leader that lives does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    /// It has not opened its term.
    Unopened,
    /// It reaches too few of the others.
    CutOff,
}

impl Controller {
    /// Replaces who has not opened its term in time, or cannot commit in it, if so many others live that they can do without it.
    pub(super) fn replace_unopened(&mut self) {
        let entries = self.plan.entries.iter().filter(|(_, entry)| !is_deleted(entry));
        let look = |entry| {
            let unopened = self.unopened(entry).map(|leader| (leader, Trouble::Unopened));
            unopened.or_else(|| Some((self.cut_off(entry)?, Trouble::CutOff)))
        };
        let looks: Vec<(PartitionKey, Option<(ReplicaId, Trouble)>)> =
            entries.map(|(key, entry)| (*key, look(entry))).collect();
        let mut to_open: BTreeMap<ReplicaId, u32> = BTreeMap::new();
        for (leader, _) in looks.iter().filter_map(|(_, look)| *look) {
            *to_open.entry(leader).or_default() += 1;
        }
        let mut leads: Option<BTreeMap<Ordinal, usize>> = None;
        let mut replaced: BTreeMap<(Ordinal, Trouble), usize> = BTreeMap::new();
        for (key, look) in looks {
            let Some((leader, trouble)) = look else {
                self.note_opened(key);
                continue;
            };
            if !self.is_overdue(key, leader, trouble, to_open[&leader]) {
                continue;
            }
            // Once a pass, and only if it is needed: this goes over all partitions.
            let mut counted = leads.take().unwrap_or_else(|| self.count_leaders());
            if self.replace(key, leader, trouble, &mut counted) {
                *replaced.entry((leader.ordinal, trouble)).or_default() += 1;
            }
            leads = Some(counted);
        }
        self.tell_of_the_replaced(replaced);
    }

    fn tell_of_the_replaced(&mut self, replaced: BTreeMap<(Ordinal, Trouble), usize>) {
        for ((ordinal, trouble), partitions) in replaced {
            let message = match trouble {
                Trouble::Unopened => format!(
                    "broker {ordinal} lives, and has not opened the terms of {partitions} partitions in time: others lead them now"
                ),
                Trouble::CutOff => format!(
                    "broker {ordinal} is cut off from brokers that it needs to commit in {partitions} partitions: others lead them now"
                ),
            };
            self.event(EventKind::Warning, "LeadersReplaced", None, message);
        }
    }

    /// The leader, if it lives, can know that it leads and has enough others to open its term with, but has not opened it.
    fn unopened(&self, entry: &Entry) -> Option<ReplicaId> {
        let leader = entry.leader?;
        let settled = self.partitions.get(&entry.key).is_some_and(|state| state.settled);
        let lives = self.serving(leader).is_some_and(|broker| !broker.stopping);
        // Where too few live, another leader would not open either.
        let known = settled && lives && self.can_open(entry) && self.has_been_stored(entry.key);
        (known && self.leading(entry).is_none()).then_some(leader)
    }

    fn note_opened(&mut self, key: PartitionKey) {
        let opened = self.plan.entries.get(&key).is_some_and(|entry| self.leading(entry).is_some());
        if let Some(state) = self.partitions.get_mut(&key) {
            state.unopened = None;
            if opened {
                state.vain = 0;
            }
        }
    }

    fn is_overdue(&mut self, key: PartitionKey, leader: ReplicaId, trouble: Trouble, to_open: u32) -> bool {
        let (now, epoch) = (self.now, self.plan.entries[&key].epoch);
        let opened_at = self.brokers.get(&leader.ordinal).map_or(now, |broker| broker.opened_at);
        let state = self.partitions.entry(key).or_default();
        let since = match state.unopened {
            Some((of, since)) if of == epoch => since,
            _ => now,
        };
        state.unopened = Some((epoch, since));
        if trouble == Trouble::CutOff {
            return now.saturating_sub(since) >= CUT_OFF_MAX;
        }
        let wait = OPEN_MAX.saturating_mul(1 << state.vain.min(10)) + OPEN_THOUSAND * (to_open / 1_000);
        let wait = wait.min(OPEN_MAX_MAX);
        let busy = now.saturating_sub(opened_at) < wait && now.saturating_sub(since) < OPEN_MAX_MAX;
        now.saturating_sub(since) >= wait && !busy
    }

    fn replace(
        &mut self,
        key: PartitionKey,
        leader: ReplicaId,
        trouble: Trouble,
        leads: &mut BTreeMap<Ordinal, usize>,
    ) -> bool {
        let entry = &self.plan.entries[&key];
        let members = entry.members.replicas();
        let reaching: Vec<ReplicaId> =
            members.into_iter().filter(|one| self.can_do_without(entry, leader, *one)).collect();
        let lives = |replica: ReplicaId| {
            replica != leader && self.serving(replica).is_some_and(|broker| !broker.stopping)
        };
        if !entry.opened_by(lives) || trouble == Trouble::CutOff && reaching.is_empty() {
            return false;
        }
        // Who reaches enough others comes before who does not, or does not say.
        let lives =
            |replica: ReplicaId| lives(replica) && (reaching.is_empty() || reaching.contains(&replica));
        let failures = |replica: ReplicaId| {
            let failed = self.partitions.get(&key).and_then(|state| state.failed.get(&replica));
            failed.copied().unwrap_or_default()
        };
        let others = entry.members.replicas().into_iter().filter(|replica| lives(*replica));
        let fewest = others.filter(|replica| self.merit(key, *replica).is_some()).map(failures).min();
        // Who failed least and longest ago; of those the longest log, as ever.
        let fit = |replica| lives(replica) && Some(failures(replica)) == fewest;
        let Some(target) = self.candidate(key, fit, leads) else { return false };
        let times = match trouble {
            Trouble::Unopened => UNOPENED_COUNTS,
            // A network that heals is no fault of its.
            Trouble::CutOff => CUT_OFF_COUNTS,
        };
        self.note_failure(key, leader, times);
        if let Some(state) = self.partitions.get_mut(&key) {
            state.vain = state.vain.saturating_add(1);
        }
        self.appoint(key, target, leads);
        true
    }
}
