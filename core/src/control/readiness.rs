//! What people are told, and when a topic is ready: each partition has a leader that opened its term under the decision that
//! holds now, with enough replicas in sync to commit, and every broker that serves holds the topic's line as it is now: a
//! program may ask any of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::control::broker::Broker;
use crate::control::controller::Controller;
use crate::control::desired::{Desired, TopicWish};
use crate::control::effect::{DocumentName, Effect};
use crate::control::losses::LossWord;
use crate::control::plan::is_deleted;
use crate::control::table::TopicRecord;
use crate::control::tenure::Phase;
use crate::control::view::{BrokerState, BrokerView, PartitionView, TopicView, View, Waiting};
use crate::entry::{Entry, Members, ReplicaSet};
use crate::id::{Ordinal, ReplicaId, TopicId};

/// A message names so many partitions; the rest is counted.
const NAMED_MAX: usize = 5;

/// So many brokers there are at least if this one is there.
fn above(last: Option<Ordinal>) -> u16 {
    last.map_or(0, |ordinal| ordinal.0.saturating_add(1))
}

impl Controller {
    /// Makes the view anew, and tells it if it changed.
    pub(super) fn project(&mut self) {
        let held = self.held();
        let highest = held.keys().next_back().copied();
        let leaving = self.leaving_holders();
        let mut view = View {
            cluster_id: self.shelf.root.as_ref().map(|root| root.cluster_id),
            controller_epoch: self.tenure,
            brokers: self.broker_views(&held),
            wished: self.desired.as_ref().map_or(0, |desired| desired.brokers),
            min_brokers: self.min_brokers(),
            holding: above(leaving.last().copied().max(highest)),
            named: above(highest),
            unheard: leaving
                .into_iter()
                .filter(|one| !held.contains_key(one) && !self.has_reported(*one))
                .collect(),
            unplanned: self.moves.is_unplanned(),
            moving: self.moves.view(),
            away: self.homing.away,
            deleted: self.deleted_names(),
            waiting: self.waiting(),
            ..View::default()
        };
        let names = self.names();
        for wish in self.desired.iter().flat_map(|desired| &desired.topics) {
            let topic = names.get(&wish.name).and_then(|id| self.plan.topics.get(id));
            view.topics.insert(wish.name.clone(), self.topic_view(wish, topic));
        }
        for topic in self.plan.topics.values() {
            if self.plan.is_going(topic.id) {
                view.topics.entry(topic.name.clone()).or_insert_with(|| self.going_view(topic));
            } else if topic.retained {
                view.retained.push(topic.name.clone());
            }
        }
        view.retained.sort_unstable();
        view.under_replicated = view.topics.values().map(|topic| topic.under_replicated).sum();
        if view != *self.view {
            self.view = Arc::new(view);
            self.out.push(Effect::ViewChanged(Arc::clone(&self.view)));
        }
    }

    fn waiting(&self) -> Option<Waiting> {
        let waiting = |reason, message: String| Some(Waiting { reason, message, halted: false });
        if let Phase::Halted(why) = &self.phase {
            return Some(why.clone());
        }
        if let Some(trouble) = &self.shelf.trouble {
            return waiting("LedgerUnavailable", trouble.clone());
        }
        match &self.phase {
            Phase::Load { .. } => waiting("ReadingTable", "the partition table is being read".to_owned()),
            Phase::Identify { .. } => {
                let silent = |ordinal: &u16| {
                    self.brokers.get(&Ordinal(*ordinal)).is_none_or(|broker| broker.hello.is_none())
                };
                let expected = self.founders().into_iter();
                let names: Vec<String> = expected.filter(silent).map(|ordinal| ordinal.to_string()).collect();
                waiting(
                    "AwaitingBrokers",
                    format!("there is no table yet; not heard: broker {}", names.join(", ")),
                )
            }
            Phase::TakingOver | Phase::Stamping => {
                waiting("TakingOver", format!("tenure {} is being written", self.tenure))
            }
            Phase::Ruling if self.plan.root.as_ref().is_some_and(|root| root.rebuilding) => {
                let expected = self.desired.as_deref().map_or(0, Desired::present);
                let silent = |ordinal: &u16| !self.has_reported(Ordinal(*ordinal));
                let names: Vec<String> =
                    (0..expected).filter(silent).map(|ordinal| ordinal.to_string()).collect();
                let names = names.join(", ");
                waiting("RebuildingTable", format!("what it holds has not been reported by broker {names}"))
            }
            Phase::Ruling | Phase::Halted(_) => None,
        }
    }

    /// How many replicas the table gives each broker, those that learn included.
    fn held(&self) -> BTreeMap<Ordinal, u32> {
        let mut held: BTreeMap<Ordinal, u32> = BTreeMap::new();
        for entry in self.plan.entries.values().filter(|entry| !is_deleted(entry)) {
            // Nearly all partitions are at rest, and then nobody is in the way twice.
            let mut met: Vec<Ordinal> = Vec::new();
            let rests = matches!(entry.members, Members::One(_)) && entry.learners.is_empty();
            for replica in entry.members.sets().flat_map(ReplicaSet::replicas).chain(&entry.learners) {
                if rests || !met.contains(&replica.ordinal) {
                    *held.entry(replica.ordinal).or_default() += 1;
                }
                if !rests {
                    met.push(replica.ordinal);
                }
            }
        }
        held
    }

    /// As many brokers as the partition with most replicas has, or is to have.
    pub(super) fn min_brokers(&self) -> u16 {
        let entries = self.plan.entries.values().filter(|entry| !is_deleted(entry));
        let sizes = entries.filter_map(|entry| Some(entry.members.sets().last()?.replicas().len()));
        u16::try_from(sizes.max().unwrap_or_default()).unwrap_or(u16::MAX)
    }

    fn broker_views(&self, held: &BTreeMap<Ordinal, u32>) -> Vec<BrokerView> {
        let wished = self.desired.as_ref().map_or(0, |desired| desired.brokers);
        let mut ordinals: BTreeSet<Ordinal> = (0..wished).map(Ordinal).collect();
        ordinals.extend(self.sightings.keys());
        let attended = self.brokers.iter().filter(|(_, broker)| broker.hello.is_some());
        ordinals.extend(attended.map(|(ordinal, _)| *ordinal));
        let replicas = |ordinal| held.get(&ordinal).copied().unwrap_or_default();
        ordinals.into_iter().map(|ordinal| self.broker_view(ordinal, replicas(ordinal))).collect()
    }

    fn broker_view(&self, ordinal: Ordinal, replicas: u32) -> BrokerView {
        let broker = self.brokers.get(&ordinal);
        let root = self.plan.root.as_ref();
        let recorded = root.and_then(|root| root.active(ordinal)).map(|record| record.incarnation);
        let told = broker.and_then(|broker| broker.hello.as_ref()).map(|hello| hello.replica.incarnation);
        let state = match broker {
            Some(broker) if broker.refusal.is_some() => BrokerState::Refused,
            Some(broker) if broker.dead_since.is_some() && broker.served => BrokerState::Dead,
            Some(broker) if broker.is_serving() && broker.stopping => BrokerState::Stopping,
            Some(broker) if broker.is_serving() => BrokerState::Serving,
            _ if self.sightings.contains_key(&ordinal) => BrokerState::Connecting,
            _ => BrokerState::Absent,
        };
        BrokerView {
            ordinal,
            incarnation: told.or(recorded),
            zone: broker.and_then(|broker| broker.zone.clone()),
            state,
            replicas,
            is_empty: broker.is_some_and(Broker::is_empty),
            message: broker.and_then(|broker| broker.refusal.clone()).map(|(why, _)| why).unwrap_or_default(),
            certificates: broker.map(|broker| broker.certificates.clone()).unwrap_or_default(),
            disk: broker.and_then(|broker| broker.disk),
        }
    }

    fn going_view(&self, topic: &TopicRecord) -> TopicView {
        let open = self.plan.entries_of(topic.id).filter(|entry| !is_deleted(entry)).count();
        let held: Vec<String> = self
            .brokers
            .iter()
            .filter(|(_, broker)| {
                broker
                    .reports
                    .range(crate::control::plan::keys_of(topic.id))
                    .any(|(_, report)| report.promise.kind != crate::partition::PromiseKind::Tombstone)
            })
            .map(|(ordinal, _)| ordinal.to_string())
            .collect();
        TopicView {
            id: Some(topic.id),
            replication_factor: topic.replication_factor,
            ack_quorum: topic.ack_quorum,
            partitions: Vec::new(),
            ready: false,
            reason: "Deleting",
            message: format!(
                "{open} partitions wait for their brokers; records are still on brokers: {}",
                held.join(", ")
            ),
            under_replicated: 0,
            bereft: 0,
        }
    }

    fn topic_view(&self, wish: &TopicWish, topic: Option<&TopicRecord>) -> TopicView {
        let wait = self.waits.get(&wish.name).cloned();
        let Some(topic) = topic else {
            let halted = self.waiting();
            let (reason, message) = wait.unwrap_or_else(|| match halted {
                Some(waiting) => (waiting.reason, waiting.message),
                None => ("Creating", "it is being created".to_owned()),
            });
            return TopicView {
                id: None,
                replication_factor: 0,
                ack_quorum: 0,
                partitions: Vec::new(),
                ready: false,
                reason,
                message,
                under_replicated: 0,
                bereft: 0,
            };
        };
        let entries: BTreeMap<u32, &Entry> =
            self.plan.entries_of(topic.id).map(|entry| (entry.key.partition, entry)).collect();
        let partitions: Vec<PartitionView> = (0..)
            .map_while(|partition| entries.get(&partition))
            .map(|entry| self.partition_view(entry, &wish.accepted_losses))
            .collect();
        let bereft = entries.values().filter(|entry| self.is_bereft(entry)).count();
        let wanted = usize::from(topic.replication_factor);
        let under = partitions.iter().filter(|partition| partition.in_sync.len() < wanted).count();
        let verdict = self.verdict(topic, &partitions, wait);
        let (ready, reason, message) = match verdict {
            Ok(()) => (true, "Serving", format!("all {} partitions have leaders", partitions.len())),
            Err((reason, message)) => (false, reason, message),
        };
        TopicView {
            id: Some(topic.id),
            replication_factor: topic.replication_factor,
            ack_quorum: topic.ack_quorum,
            partitions,
            ready,
            reason,
            message,
            under_replicated: u32::try_from(under).unwrap_or(u32::MAX),
            bereft: u32::try_from(bereft).unwrap_or(u32::MAX),
        }
    }

    fn is_bereft(&self, entry: &Entry) -> bool {
        let root = self.plan.root.as_ref();
        root.is_some_and(|root| entry.members.replicas().iter().any(|replica| root.is_lost(*replica)))
    }

    fn verdict(
        &self,
        topic: &TopicRecord,
        partitions: &[PartitionView],
        wait: Option<(&'static str, String)>,
    ) -> Result<(), (&'static str, String)> {
        if let Some(wait) = wait {
            return Err(wait);
        }
        if !self.rules() {
            return Err(("AwaitingController", format!("tenure {} has not begun to decide", self.tenure)));
        }
        let missing =
            usize::try_from(topic.partitions).unwrap_or(usize::MAX).saturating_sub(partitions.len());
        if missing > 0 {
            return Err((
                "AwaitingReplicas",
                format!("{missing} partitions wait for reports of their replicas"),
            ));
        }
        let silent: Vec<usize> = (0..partitions.len()).filter(|at| !partitions[*at].serving).collect();
        if !silent.is_empty() {
            let stuck = silent.iter().filter_map(|at| partitions[*at].stuck.as_ref());
            let stuck: Vec<&str> = stuck.map(|stuck| stuck.message.as_str()).collect();
            return Err(match &stuck[..] {
                [] => self.why_silent(topic.id, &silent),
                stuck => ("QuorumLost", why_stuck(stuck)),
            });
        }
        let behind = self.behind(topic);
        if !behind.is_empty() {
            let named: Vec<String> = behind.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            let message = format!("not acknowledged yet by broker {}", named.join(", "));
            return Err(("Pushing", message));
        }
        Ok(())
    }

    fn why_silent(&self, topic: TopicId, silent: &[usize]) -> (&'static str, String) {
        let named: Vec<String> = silent.iter().take(NAMED_MAX).map(ToString::to_string).collect();
        let more = silent.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let awaits: BTreeSet<ReplicaId> =
            self.plan.entries_of(topic).flat_map(|entry| self.awaited(entry)).collect();
        let partitions = format!("partitions {}{more}", named.join(", "));
        if awaits.is_empty() {
            return (
                "OpeningTerms",
                format!("{partitions}: no leader has opened its term with enough replicas yet"),
            );
        }
        let brokers: Vec<String> = awaits
            .iter()
            .take(NAMED_MAX)
            .map(|replica| {
                let lost = self.plan.root.as_ref().is_some_and(|root| root.is_lost(*replica));
                format!("{}{}", replica.ordinal, if lost { " (its volume is lost)" } else { "" })
            })
            .collect();
        ("AwaitingReplicas", format!("{partitions} wait for replicas on broker {}", brokers.join(", ")))
    }

    /// Members that a leader cannot do without, and that do not take part.
    fn awaited(&self, entry: &Entry) -> Vec<ReplicaId> {
        let serves = |replica| self.serving(replica).is_some();
        let enough = self.can_open(entry);
        let absent = entry.members.replicas().into_iter().filter(|replica| !enough && !serves(*replica));
        absent.collect()
    }

    /// Brokers that serve and do not hold the topic as it is to be: they would say that they do not know it. One that is away,
    /// or stops, is not asked by anybody.
    fn behind(&self, topic: &TopicRecord) -> Vec<Ordinal> {
        let lines: BTreeMap<u32, u64> = self
            .plan
            .pages_of(topic.id)
            .into_iter()
            .map(|page| {
                let document = self.shelf.documents.get(&DocumentName::Page(page));
                let line = document.and_then(|document| document.topics.get(&topic.id));
                let since = line.filter(|(changed, _)| *changed == topic.changed).map(|(_, since)| *since);
                // Not stored yet: nobody holds it.
                (page, since.unwrap_or(u64::MAX))
            })
            .collect();
        let holds = |held: &BTreeMap<u32, u64>| {
            lines.iter().all(|(page, since)| held.get(page).is_some_and(|held| held >= since))
        };
        let serving = self.brokers.iter().filter(|(_, broker)| broker.is_serving() && !broker.stopping);
        serving.filter(|(_, broker)| !holds(&broker.held)).map(|(ordinal, _)| *ordinal).collect()
    }

    fn partition_view(&self, entry: &Entry, words: &[LossWord]) -> PartitionView {
        let replicas: Vec<ReplicaId> = match entry.members.sets().last() {
            Some(set) => set.replicas().to_vec(),
            None => Vec::new(),
        };
        let report = self.leading(entry);
        let in_sync: Vec<ReplicaId> = report.map_or_else(Vec::new, |report| {
            let lives = |replica: &&ReplicaId| self.serving(**replica).is_some();
            report.in_sync.iter().filter(lives).copied().collect()
        });
        PartitionView {
            leader: entry.leader.map(|leader| leader.ordinal),
            in_sync: replicas
                .iter()
                .filter(|replica| in_sync.contains(replica))
                .map(|replica| replica.ordinal)
                .collect(),
            replicas: replicas.iter().map(|replica| replica.ordinal).collect(),
            serving: report.is_some() && entry.acknowledged_by(|replica| in_sync.contains(&replica)),
            epoch: entry.epoch,
            may_have_lost: report.and_then(|report| report.may_have_lost),
            stuck: self.stuck(entry.key, words),
        }
    }
}

/// Each of them, for a person gives up what each has lost; up to a bound.
fn why_stuck(messages: &[&str]) -> String {
    let more = messages.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!("; and {more} more partitions") } else { String::new() };
    format!("{}{more}", messages[..messages.len().min(NAMED_MAX)].join("; "))
}
