//! Who leads: another one for who is dead or stops. Planned moves back are `homing`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::control::controller::Controller;
use crate::control::plan::is_deleted;
use crate::control::view::EventKind;
use crate::entry::Entry;
use crate::id::{Ordinal, PartitionKey, ReplicaId};
use crate::offset::Offset;
use crate::partition::{PromiseKind, Report};
use crate::term::{Epoch, Session};

/// When many return together, replicas that have not reported are waited for so long: one of them may have the longest log.
const REPORTS_PATIENCE: Duration = Duration::from_secs(3);

/// What speaks for a candidate, the more the better.
type Merit = (bool, bool, (Epoch, Session), Offset);

impl Controller {
    /// Names leaders where there is none that lives.
    pub(super) fn lead(&mut self) {
        let mut leads = self.count_leaders();
        let keys: Vec<PartitionKey> = self.plan.entries.keys().copied().collect();
        let mut elected = 0;
        for key in keys {
            let entry = &self.plan.entries[&key];
            let settled = self.partitions.get(&key).is_some_and(|state| state.settled);
            if !settled || is_deleted(entry) {
                continue;
            }
            match entry.leader {
                Some(leader) if self.can_lead(entry, leader) => {
                    if self.brokers.get(&leader.ordinal).is_some_and(|broker| broker.stopping) {
                        elected += usize::from(self.hand_over(key, leader, &mut leads));
                    }
                }
                _ => elected += usize::from(self.elect(key, &mut leads)),
            }
        }
        if elected > 0 {
            let message = format!("{elected} partitions got another leader");
            self.event(EventKind::Normal, "LeadersElected", None, message);
        }
    }

    /// How many partitions each broker is to lead.
    pub(super) fn count_leaders(&self) -> BTreeMap<Ordinal, usize> {
        let mut leads: BTreeMap<Ordinal, usize> = BTreeMap::new();
        for leader in self.plan.entries.values().filter_map(|entry| entry.leader) {
            *leads.entry(leader.ordinal).or_default() += 1;
        }
        leads
    }

    /// Whether the broker of that very life serves, and its replica is not stopped. A leader that has not reported yet, but
    /// is not dead either, is waited for.
    pub(super) fn can_lead(&self, entry: &Entry, leader: ReplicaId) -> bool {
        let root = self.plan.root.as_ref();
        if root.and_then(|root| root.active(leader.ordinal)).is_none_or(|record| record.replica() != leader) {
            return false;
        }
        let Some(broker) = self.brokers.get(&leader.ordinal) else { return false };
        let halted =
            |report: &Report| report.halted.is_some() || report.promise.kind == PromiseKind::Tombstone;
        let sighted = broker.hello.is_some() || self.sightings.contains_key(&leader.ordinal);
        sighted
            && broker.refused.is_none()
            && broker.dead_since.is_none()
            && !broker.reports.get(&entry.key).is_some_and(halted)
    }

    /// Whether so many members serve that a term of this entry can be opened: Qo to choose its log, Qa to commit its opening
    /// record.
    pub(super) fn can_open(&self, entry: &Entry) -> bool {
        let serves = |replica| self.serving(replica).is_some();
        entry.opened_by(serves) && entry.acknowledged_by(serves)
    }

    /// A member that can lead now, with what speaks for it.
    pub(super) fn merit(&self, key: PartitionKey, replica: ReplicaId) -> Option<Merit> {
        let broker = self.serving(replica)?;
        let staying = !broker.stopping;
        let Some(report) = broker.reports.get(&key) else {
            return Some((staying, true, Default::default(), Offset::ZERO));
        };
        if report.halted.is_some() || report.promise.kind == PromiseKind::Tombstone {
            return None;
        }
        let last = report.last_term.map(|term| (term.epoch, term.process.session)).unwrap_or_default();
        Some((staying, !report.uncertain, last, report.log_end))
    }

    /// The best candidate of those who are fit: with the longest log, and of those who leads least; `None` if too few live to
    /// open a term.
    pub(super) fn candidate(
        &self,
        key: PartitionKey,
        fit: impl Fn(ReplicaId) -> bool,
        leads: &BTreeMap<Ordinal, usize>,
    ) -> Option<ReplicaId> {
        let entry = self.plan.entries.get(&key)?;
        if !entry.opened_by(|replica| self.serving(replica).is_some()) {
            return None;
        }
        let load = |replica: &ReplicaId| leads.get(&replica.ordinal).copied().unwrap_or_default();
        let order = |replica: &ReplicaId| {
            let sets = entry.members.sets().last().expect("one set or two");
            sets.replicas().iter().position(|member| member == replica).unwrap_or(usize::MAX)
        };
        // Who is lost for ever never leads, whatever else may be known of it.
        let lives = |replica: &ReplicaId| fit(*replica) && !entry.lost.contains(replica);
        let candidates = entry.members.replicas().into_iter().filter(lives);
        candidates
            .filter_map(|replica| Some((self.merit(key, replica)?, replica)))
            .max_by(|(one, a), (other, b)| {
                one.cmp(other).then(load(b).cmp(&load(a))).then(order(b).cmp(&order(a)))
            })
            .map(|(_, replica)| replica)
    }

    fn elect(&mut self, key: PartitionKey, leads: &mut BTreeMap<Ordinal, usize>) -> bool {
        if self.awaits_reports(key) {
            return false;
        }
        let Some(leader) = self.candidate(key, |_| true, leads) else {
            return false;
        };
        self.appoint(key, leader, leads);
        true
    }

    pub(super) fn appoint(
        &mut self,
        key: PartitionKey,
        leader: ReplicaId,
        leads: &mut BTreeMap<Ordinal, usize>,
    ) {
        let mut entry = self.plan.entries[&key].clone();
        if let Some(before) = entry.leader.and_then(|before| leads.get_mut(&before.ordinal)) {
            *before = before.saturating_sub(1);
        }
        *leads.entry(leader.ordinal).or_default() += 1;
        entry.leader = Some(leader);
        self.decide(entry, true);
    }

    /// Whether a member has still to report that is worth waiting for: one that is not dead, or any if the others have come
    /// back only after the leader's death, so that it may come back too.
    fn awaits_reports(&self, key: PartitionKey) -> bool {
        let entry = &self.plan.entries[&key];
        let members = entry.members.replicas();
        let coming = members.iter().any(|replica| {
            let Some(broker) = self.brokers.get(&replica.ordinal) else { return false };
            let coming =
                broker.answered_at.is_none() && broker.dead_since.is_none() && broker.refused.is_none();
            let since = self.ruling.1.max(broker.known_since).max(broker.heard_at);
            coming && self.now.saturating_sub(since) < REPORTS_PATIENCE
        });
        let leader = entry.leader.and_then(|leader| self.brokers.get(&leader.ordinal));
        let died = leader.and_then(|broker| broker.dead_since).unwrap_or(self.ruling.1);
        let seasoned = |replica| {
            let answered = self.serving(replica).and_then(|broker| broker.answered_at);
            answered.is_some_and(|at| at <= died || self.now.saturating_sub(at) >= REPORTS_PATIENCE)
        };
        let all_serve = members.iter().all(|replica| self.serving(*replica).is_some());
        coming || !all_serve && !entry.opened_by(seasoned)
    }
}
