//! A capricious operator: names leaders and changes members at random, by the rules of the table, and nothing else.
//!
//! In some worlds it takes the place of `core::control`, which never moves a replica between brokers that live: replicas have
//! to keep their promises whatever the controller of a later version decides.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::broker::{Broker, Input};
use fulmar_core::entry::{Entry, Members, ReplicaSet};
use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::partition::{self, Report};
use fulmar_core::term::Epoch;

use crate::event::{Event, Government, Order};
use crate::node::Node;
use crate::random::Random;
use crate::world::{Rule, World};

/// What it sees of the brokers: who runs, with which volume. The truth, but never about logs.
pub(crate) struct Sight {
    pub(crate) volumes: Vec<ReplicaId>,
    pub(crate) up: BTreeSet<ReplicaId>,
}

/// Of one partition.
pub(crate) struct Capricious {
    key: PartitionKey,
    generation: u64,
    counter: u64,
    /// The table. What is here is persisted.
    entry: Entry,
    /// Earlier states of the table, for a restore.
    past: Vec<Entry>,
    /// This tenure has made its first decision.
    decided: bool,
    /// The tenure's reports; `None` is an empty volume's.
    reports: BTreeMap<ReplicaId, Option<Report>>,
    pub(crate) committed: Option<Entry>,
    replication: usize,
    ack_quorum: u8,
}

impl Capricious {
    pub(crate) fn new(key: PartitionKey, members: Vec<ReplicaId>, ack_quorum: u8) -> Self {
        let replication = members.len();
        let entry = Entry {
            key,
            epoch: Epoch { generation: 1, counter: 1 },
            leader: Some(members[0]),
            members: Members::One(ReplicaSet::new(members, ack_quorum).expect("it is well formed")),
            learners: Vec::new(),
            lost: Vec::new(),
            accepted_loss: None,
        };
        Self {
            key,
            generation: 1,
            counter: 1,
            past: vec![entry.clone()],
            entry,
            decided: true,
            reports: BTreeMap::new(),
            committed: None,
            replication,
            ack_quorum,
        }
    }

    pub(crate) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// Another tenure. The generation never repeats, whatever the table says.
    pub(crate) fn take_over(&mut self, now_ms: u64) {
        self.generation = (self.generation + 1).max(1000 + now_ms);
        self.counter = 0;
        self.decided = false;
        self.reports.clear();
        self.committed = None;
    }

    /// The table is restored from a backup.
    pub(crate) fn restore(&mut self, random: &mut Random, now_ms: u64) {
        self.entry = random.pick(&self.past).cloned().expect("there is a first entry");
        self.take_over(now_ms);
    }

    pub(crate) fn reported(&mut self, generation: u64, from: ReplicaId, report: Option<Report>) {
        if generation != self.generation {
            return;
        }
        if let Some(report) = &report
            && report.leading.is_some_and(|term| term.epoch == self.entry.epoch)
            && report.promise.entry.as_ref() == Some(&self.entry)
        {
            self.committed = Some(self.entry.clone());
        }
        self.reports.insert(from, report);
    }

    /// Whether this tenure may decide: Qo replicas of the entry reported, and none holds a higher one.
    fn may_decide(&mut self) -> bool {
        let held = |report: &Option<Report>| report.as_ref().and_then(|report| report.promise.entry.clone());
        if let Some(higher) = self.reports.values().filter_map(held).max_by_key(|entry| entry.epoch)
            && higher.epoch > self.entry.epoch
        {
            self.entry = higher;
            self.decided = false;
        }
        self.decided |= self.entry.members.opened_by(|replica| self.reports.contains_key(&replica));
        self.decided
    }

    /// One turn: perhaps a decision, and what to tell whom.
    pub(crate) fn act(&mut self, sight: &Sight, random: &mut Random, calm: bool) -> Vec<(ReplicaId, Order)> {
        let mut orders: Vec<(ReplicaId, Order)> =
            sight.volumes.iter().map(|volume| (*volume, Order::Ask(self.generation))).collect();
        if self.may_decide()
            && let Some(next) = self.decide(sight, random, calm)
            && let Ok(next) = next.checked()
        {
            self.past.push(self.entry.clone());
            self.entry = next;
        }
        for volume in &sight.volumes {
            orders.push((*volume, Order::Assign(self.entry.clone())));
            let is_committed = self.committed.as_ref() == Some(&self.entry);
            if is_committed && matches!(self.entry.members, Members::One(_)) && !self.entry.concerns(*volume)
            {
                orders.push((*volume, Order::Release(self.entry.epoch)));
            }
        }
        if random.chance(20)
            && let Some(leader) = self.entry.leader
        {
            orders.push((leader, Order::StopAppends));
        }
        orders
    }

    fn next(&mut self) -> Entry {
        self.counter += 1;
        Entry {
            epoch: Epoch { generation: self.generation, counter: self.counter },
            lost: Vec::new(),
            ..self.entry.clone()
        }
    }

    fn decide(&mut self, sight: &Sight, random: &mut Random, calm: bool) -> Option<Entry> {
        let lost: Vec<ReplicaId> = self
            .entry
            .members
            .replicas()
            .into_iter()
            .filter(|member| !sight.volumes.contains(member))
            .collect();
        let is_committed = self.committed.as_ref() == Some(&self.entry);
        let leader_lives = self.entry.leader.is_some_and(|leader| sight.up.contains(&leader));
        match self.entry.members.clone() {
            Members::Joint { new, .. } if is_committed => {
                let mut next = self.next();
                next.members = Members::One(new.clone());
                next.leader = Self::lead(
                    &next.members,
                    sight,
                    random,
                    next.leader.filter(|leader| new.contains(*leader)),
                );
                next.learners.clear();
                Some(next)
            }
            Members::Joint { old, new }
                if lost.iter().any(|one| new.contains(*one)) || (!calm && random.chance(30)) =>
            {
                let mut next = self.next();
                next.members = Members::One(old);
                next.leader = Self::lead(&next.members, sight, random, None);
                next.learners.clear();
                Some(next)
            }
            Members::Joint { new, .. } if lost.iter().any(|one| !self.entry.lost.contains(one)) => {
                let mut next = self.next();
                next.lost = lost.into_iter().filter(|one| !new.contains(*one)).collect();
                next.leader = Self::lead(&next.members, sight, random, next.leader);
                Some(next)
            }
            Members::One(old) if !lost.is_empty() || (!calm && random.chance(60)) => {
                let mut next = self.next();
                let new = self.another_set(&old, sight, random)?;
                next.lost = lost.into_iter().filter(|one| !new.contains(*one)).collect();
                next.members = Members::Joint { old, new };
                next.learners.clear();
                next.leader = Self::lead(&next.members, sight, random, next.leader);
                Some(next)
            }
            Members::One(_) | Members::Joint { .. } => {
                let restless = !calm && random.chance(40);
                let stuck = !leader_lives && random.chance(700);
                if !restless && !stuck {
                    return None;
                }
                let lost = std::mem::take(&mut self.entry.lost);
                let mut next = self.next();
                self.entry.lost.clone_from(&lost);
                next.lost = lost;
                next.leader = Self::lead(&next.members, sight, random, None);
                if random.chance(200) {
                    next.learners =
                        sight.volumes.iter().copied().filter(|one| !next.members.contains(*one)).collect();
                }
                Some(next)
            }
        }
    }

    fn lead(
        members: &Members,
        sight: &Sight,
        random: &mut Random,
        keep: Option<ReplicaId>,
    ) -> Option<ReplicaId> {
        if let Some(keep) = keep.filter(|keep| members.contains(*keep) && sight.up.contains(keep)) {
            return Some(keep);
        }
        let living: Vec<ReplicaId> =
            members.replicas().into_iter().filter(|member| sight.up.contains(member)).collect();
        random.pick(&living).copied()
    }

    fn another_set(&self, old: &ReplicaSet, sight: &Sight, random: &mut Random) -> Option<ReplicaSet> {
        let mut members: Vec<ReplicaId> =
            old.replicas().iter().copied().filter(|member| sight.volumes.contains(member)).collect();
        if members.len() == self.replication && random.chance(800) {
            members.remove(random.below(members.len() as u64) as usize);
        }
        let mut others: Vec<ReplicaId> =
            sight.volumes.iter().copied().filter(|volume| !members.contains(volume)).collect();
        while members.len() < self.replication && !others.is_empty() {
            members.push(others.remove(random.below(others.len() as u64) as usize));
        }
        let ack_quorum = if random.chance(200) {
            random.between(u64::from(self.ack_quorum), members.len() as u64) as u8
        } else {
            self.ack_quorum
        };
        ReplicaSet::new(members, ack_quorum).ok()
    }
}

impl World {
    pub(crate) fn capricious_turn(&mut self) {
        let again = self.random.between(100, 500);
        self.at(again, Event::Government(Government::Capricious));
        if self.now_ms < self.ungoverned_until {
            return;
        }
        let living = || self.nodes.iter().filter(|node| !node.is_ghost);
        let up = living().filter(|node| node.broker.is_some()).map(Node::id).collect();
        let sight = Sight { volumes: living().map(Node::id).collect(), up };
        let mut said = Vec::new();
        let Rule::Capricious(all) = &mut self.rule else { return };
        for one in all.values_mut() {
            let before = one.entry.epoch;
            let orders = one.act(&sight, &mut self.random, self.calm);
            if one.entry.epoch != before {
                let entry = crate::story::entry(&one.entry);
                self.story.line(self.now_ms, || format!("the operator decides {entry}"));
                if let Err(violation) = self.observer.decided(&one.entry, &mut self.totals) {
                    self.violation.get_or_insert(violation);
                }
            }
            said.extend(orders.into_iter().map(|(to, order)| (to, one.key, order)));
        }
        for (to, key, order) in said {
            for delay in self.network.delays(&mut self.random) {
                let order = order.clone();
                self.at(delay, Event::Government(Government::Order { to, key, order }));
            }
        }
        self.forget_damage();
    }

    /// A broker hears the capricious operator.
    pub(crate) fn order(&mut self, to: ReplicaId, key: PartitionKey, order: Order) {
        let Some(node) = self.nodes.iter().position(|node| node.id() == to && !node.is_ghost) else { return };
        match order {
            Order::Assign(entry) => self.input(node, Input::Assign(vec![entry])),
            Order::Release(epoch) => self.input(node, Input::Release { key, epoch }),
            Order::StopAppends => self.input(node, Input::Partition(key, partition::Input::StopAppends)),
            Order::Ask(generation) => {
                let all = self.nodes[node].broker.as_ref().and_then(Broker::all_reports);
                let Some(all) = all else { return };
                let report = all.into_iter().find(|(of, _)| *of == key).map(|(_, report)| report);
                for delay in self.network.delays(&mut self.random) {
                    let report = report.clone();
                    let report = Government::Report { key, generation, from: to, report };
                    self.at(delay, Event::Government(report));
                }
            }
        }
    }
}
