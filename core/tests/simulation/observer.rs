//! Stands outside and checks what everybody may rely on, partition by partition.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::batch::Batch;
use fulmar_core::control::View;
use fulmar_core::control::table::TopicRecord;
use fulmar_core::entry::{Entry, Members};
use fulmar_core::id::{Ordinal, PartitionKey, ProducerId, ReplicaId, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::Replica;
use fulmar_core::term::{Epoch, Process, Term};

use crate::node::Node;
use crate::totals::Totals;

/// Volumes that lost something, with the partitions that are not whole again.
pub(crate) type Damaged = BTreeMap<ReplicaId, BTreeSet<PartitionKey>>;

/// A term with a total order, for the maps here.
type Rank = (u64, u64, u64, u64);

fn rank(term: Term) -> Rank {
    (term.epoch.generation, term.epoch.counter, term.process.session.0, term.process.boot.0)
}

/// What was seen of one partition.
#[derive(Default)]
struct Seen {
    /// What is committed, once and for ever.
    committed: BTreeMap<Offset, Batch>,
    committed_end: Offset,
    /// Which batch a leader put where.
    named: BTreeMap<(Rank, Offset), Batch>,
    leaders: BTreeMap<Rank, (ReplicaId, Process)>,
    acknowledged: BTreeMap<Offset, u64>,
    sequences: BTreeMap<(ProducerId, u64), Offset>,
    opened: BTreeSet<Rank>,
    /// Every decision that was ever stored in the table.
    decisions: BTreeMap<Epoch, Entry>,
    /// The highest decision whose term opened.
    in_force: Option<Entry>,
}

#[derive(Default)]
pub(crate) struct Observer {
    partitions: BTreeMap<PartitionKey, Seen>,
    names: BTreeMap<TopicId, String>,
    /// Names that a person once wanted gone, with all their records.
    unwanted: BTreeSet<String>,
    /// The topics that had such a name then.
    forfeited: BTreeSet<TopicId>,
}

/// Whether the entry says that its topic was deleted.
fn is_deletion(entry: &Entry) -> bool {
    entry.members.replicas().iter().all(|replica| replica.ordinal == Ordinal(u16::MAX))
}

/// What clients, replicas and disks show.
impl Observer {
    pub(crate) fn committed(&self, key: PartitionKey, base: Offset) -> Option<&Batch> {
        self.partitions.get(&key)?.committed.get(&base)
    }

    /// The base of one of the last committed batches.
    pub(crate) fn recent(&self, key: PartitionKey, back: usize) -> Option<Offset> {
        self.partitions.get(&key)?.committed.keys().rev().nth(back).copied()
    }

    pub(crate) fn keys(&self) -> Vec<PartitionKey> {
        self.partitions.keys().copied().collect()
    }

    /// A batch was written somewhere.
    pub(crate) fn written(&mut self, node: &Node, key: PartitionKey, batch: &Batch) -> Result<(), String> {
        let name = (rank(batch.term()), batch.base());
        let seen = self.partitions.entry(key).or_default();
        let known = seen.named.entry(name).or_insert_with(|| batch.clone());
        if known == batch {
            return Ok(());
        }
        Err(format!(
            "({}, {}) names two batches; broker {} wrote the second",
            batch.term(),
            batch.base(),
            node.number
        ))
    }

    /// Somebody leads.
    pub(crate) fn leads(
        &mut self,
        node: &Node,
        replica: &Replica,
        totals: &mut Totals,
    ) -> Result<(), String> {
        let Some(term) = replica.leading() else { return Ok(()) };
        let process = node.process().expect("it runs");
        let seen = self.partitions.entry(replica.key()).or_default();
        if replica.readable().is_some() && seen.opened.insert(rank(term)) {
            let entry = replica.promise().entry.as_ref().expect("a leader has an entry");
            totals.count("terms whose opening record was committed");
            if let Members::Joint { .. } = entry.members {
                totals.count("joint entries committed");
            }
            if replica.report().is_some_and(|report| report.may_have_lost.is_some()) {
                totals.count("terms opened by uncertain replicas alone");
            }
            if seen.in_force.as_ref().is_none_or(|known| known.epoch < entry.epoch) {
                seen.in_force = Some(entry.clone());
            }
        }
        if !seen.leaders.contains_key(&rank(term)) {
            totals.count("terms opened");
        }
        let leader = *seen.leaders.entry(rank(term)).or_insert((node.id(), process));
        if leader == (node.id(), process) {
            Ok(())
        } else {
            Err(format!("term {term} has two leaders: {leader:?}, {}", node.id()))
        }
    }

    /// A replica believes that all below `to` is committed.
    pub(crate) fn believes_committed(
        &mut self,
        node: &Node,
        key: PartitionKey,
        to: Offset,
    ) -> Result<(), String> {
        let seen = self.partitions.entry(key).or_default();
        let Some(state) = node.disk.written.states.get(&key) else { return Ok(()) };
        for batch in state.batches.iter().rev() {
            if batch.base() >= to {
                continue;
            }
            match seen.committed.get(&batch.base()) {
                Some(known) if known == batch => break,
                Some(known) => {
                    return Err(format!(
                        "at {}: broker {} believes a batch of term {} committed, another one of term {} is",
                        batch.base(),
                        node.number,
                        batch.term(),
                        known.term()
                    ));
                }
                None if batch.base() < seen.committed_end => {
                    let end = seen.committed_end;
                    return Err(format!(
                        "broker {} believes a batch at {} committed; all below {end} is known",
                        node.number,
                        batch.base()
                    ));
                }
                None => drop(seen.committed.insert(batch.base(), batch.clone())),
            }
        }
        seen.extend()?;
        if to > seen.committed_end {
            return Err(format!(
                "broker {} believes {to} committed and has no batches up to it",
                node.number
            ));
        }
        Ok(())
    }

    /// A client heard that its record is safe.
    pub(crate) fn acknowledged(
        &mut self,
        nodes: &[Node],
        leader: &Node,
        key: PartitionKey,
        damaged: &Damaged,
        base: Offset,
        value: u64,
    ) -> Result<(), String> {
        let seen = self.partitions.entry(key).or_default();
        let Some(batch) = seen.committed.get(&base) else {
            return Err(format!("record {value:#x} acknowledged at {base}, which is not committed"));
        };
        if crate::clients::value(batch) != Some(value) {
            return Err(format!("record {value:#x} acknowledged at {base}, where another one is"));
        }
        let entry = leader.replica(key).and_then(|replica| replica.promise().entry.clone());
        let entry = entry.expect("a leader has an entry");
        let holds = |replica: ReplicaId| {
            let state = nodes.iter().filter(|node| node.id() == replica && !node.is_ghost);
            let mut state = state.filter_map(|node| node.durable(key));
            state.any(|state| state.batch(base) == Some(batch) || state.start > base)
        };
        // A replica that lost its volume or its last commit after it had stored the record counted when it did.
        let gone = |replica: ReplicaId| {
            let lives = |node: &Node| !node.is_ghost && node.id() == replica;
            damaged.contains_key(&replica) || !nodes.iter().any(lives)
        };
        let is_going = self.forfeited.contains(&key.topic);
        if !is_going && !entry.acknowledged_by(|replica| holds(replica) || gone(replica)) {
            return Err(format!(
                "record {value:#x} at {base} acknowledged, and not durable on an ackQuorum of {entry}"
            ));
        }
        seen.acknowledged.insert(base, value);
        Ok(())
    }

    /// Everything that was acknowledged is still there.
    pub(crate) fn final_check(&self, key: PartitionKey, leader: &Node) -> Result<(), String> {
        let Some(log) = leader.disk.written.states.get(&key) else { return Ok(()) };
        for (base, value) in self.partitions[&key].acknowledged.range(log.start..) {
            if log.batch(*base).and_then(crate::clients::value) != Some(*value) {
                return Err(format!("record {value:#x}, acknowledged at {base} of {key}, is lost"));
            }
        }
        Ok(())
    }
}

impl Seen {
    /// What became committed just now is without gaps, and holds every producer's batch once.
    fn extend(&mut self) -> Result<(), String> {
        let fresh: Vec<Batch> =
            self.committed.range(self.committed_end..).map(|(_, batch)| batch.clone()).collect();
        for batch in fresh {
            if batch.base() != self.committed_end {
                return Err(format!("what is committed has a gap at {}", self.committed_end));
            }
            self.committed_end = batch.end();
            let Some(sequence) = batch.sequence() else { continue };
            let (producer, number) = (sequence.producer, sequence.sequence);
            if let Some(first) = self.sequences.insert((producer, number), batch.base()) {
                return Err(format!(
                    "batch {number} of producer {producer} is committed at {first} and {}",
                    batch.base()
                ));
            }
        }
        Ok(())
    }
}

/// What operators decide and say.
impl Observer {
    /// A decision is stored in the table.
    pub(crate) fn decided(&mut self, entry: &Entry, totals: &mut Totals) -> Result<(), String> {
        let seen = self.partitions.entry(entry.key).or_default();
        if let Some(known) = seen.decisions.get(&entry.epoch) {
            if known == entry {
                return Ok(());
            }
            return Err(format!("epoch {} names two decisions: {known} and {entry}", entry.epoch));
        }
        seen.decisions.insert(entry.epoch, entry.clone());
        totals.count("decisions");
        if let Members::Joint { .. } = entry.members {
            totals.count("joint entries");
        }
        if !is_deletion(entry) || self.forfeited.contains(&entry.key.topic) {
            return Ok(());
        }
        // It may have been made and deleted before the table heard of it.
        let name = self.names.get(&entry.key.topic);
        if name.is_none_or(|name| !self.unwanted.contains(name)) {
            return Err(format!("{} is deleted, and nobody asked for it", entry.key));
        }
        self.forfeited.insert(entry.key.topic);
        Ok(())
    }

    pub(crate) fn named(&mut self, topic: &TopicRecord) {
        self.names.entry(topic.id).or_insert_with(|| topic.name.clone());
    }

    /// A person wants all topics of this name gone.
    pub(crate) fn forfeit(&mut self, name: &str) {
        self.unwanted.insert(name.to_owned());
        let same = self.names.iter().filter(|(_, known)| *known == name);
        self.forfeited.extend(same.map(|(id, _)| *id));
    }

    pub(crate) fn is_forfeited(&self, key: PartitionKey) -> bool {
        self.forfeited.contains(&key.topic)
    }

    /// Whether there is anything to be lost.
    pub(crate) fn has_acknowledged(&self, key: PartitionKey) -> bool {
        self.partitions.get(&key).is_some_and(|seen| !seen.acknowledged.is_empty())
    }

    /// People are told: a partition serves only if its term under that very decision opened.
    pub(crate) fn told(&self, view: &View) -> Result<(), String> {
        for (name, topic) in &view.topics {
            let Some(id) = topic.id else { continue };
            for (partition, shown) in topic.partitions.iter().enumerate().filter(|(_, shown)| shown.serving) {
                let key = PartitionKey { topic: id, partition: partition as u32 };
                let opened = self.partitions.get(&key).is_some_and(|seen| {
                    let Epoch { generation, counter } = shown.epoch;
                    let from = (generation, counter, 0, 0);
                    seen.opened
                        .range(from..)
                        .next()
                        .is_some_and(|rank| (rank.0, rank.1) == (generation, counter))
                });
                if !opened {
                    return Err(format!(
                        "topic {name}, partition {partition} is called serving in {}, and no term of it opened",
                        shown.epoch
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a replica is needed by a decision that may hold: the last that opened, or any after it.
    pub(crate) fn needs(&self, key: PartitionKey, replica: ReplicaId) -> bool {
        let Some(seen) = self.partitions.get(&key) else { return false };
        if seen.decisions.last_key_value().is_some_and(|(_, last)| is_deletion(last)) {
            return false;
        }
        let from = seen.in_force.as_ref().map(|entry| entry.epoch).unwrap_or_default();
        seen.decisions.range(from..).any(|(_, entry)| entry.members.contains(replica))
    }

    /// What partitions amounted to.
    pub(crate) fn count(&self, totals: &mut Totals) {
        for seen in self.partitions.values() {
            totals.add_many("records acknowledged and there at the end", seen.acknowledged.len() as u64);
        }
    }
}
