//! Stands outside and checks what everybody may rely on, partition by partition.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::batch::Batch;
use fulmar_core::control::View;
use fulmar_core::control::table::TopicRecord;
use fulmar_core::entry::{Entry, Members};
use fulmar_core::id::{PartitionKey, ReplicaId, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{PromiseKind, Replica};
use fulmar_core::term::{Epoch, Process, Term, TermVector};

use crate::history::History;
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
    /// What holds now.
    now: History,
    /// What held before a person accepted a loss, by when: old leaders may go on with it for a while.
    past: BTreeMap<Epoch, History>,
    /// Words by which a person accepted a loss, each good for one decision.
    words: BTreeSet<Epoch>,
    /// Which batch a leader put where.
    named: BTreeMap<(Rank, Offset), Batch>,
    leaders: BTreeMap<Rank, (ReplicaId, Process)>,
    opened: BTreeSet<Rank>,
    /// Every decision that was ever stored in the table.
    decisions: BTreeMap<Epoch, Entry>,
    /// The highest decision whose term opened.
    in_force: Option<Entry>,
    /// What lies below may go: retention said so to a leader, or a person gave it up.
    may_go: Offset,
    /// Its topic was deleted as asked, and somebody has let its records go.
    released: bool,
    /// And yet another decision followed.
    came_back: bool,
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

/// What clients, replicas and disks show.
impl Observer {
    pub(crate) fn committed(&self, node: &Node, key: PartitionKey, base: Offset) -> Option<&Batch> {
        let vector = &node.disk.written.states.get(&key)?.vector;
        self.partitions.get(&key)?.history_of(vector).committed.get(&base)
    }

    /// The base of one of the last committed batches.
    pub(crate) fn recent(&self, key: PartitionKey, back: usize) -> Option<Offset> {
        self.partitions.get(&key)?.now.committed.keys().rev().nth(back).copied()
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
            let before = seen.leaders.last_key_value().map(|(_, (before, _))| *before);
            totals.add_many("leader changes", u64::from(before.is_some_and(|before| before != node.id())));
        }
        if !seen.leaders.contains_key(&rank(term)) {
            seen.begins(node, replica, totals)?;
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
        let Some(loss) = seen.past_of(&state.vector) else { return seen.now.believed_by(node, state, to) };
        // It may be on its way to what holds now, and not have reached where that begins.
        let mut past = seen.past[&loss].clone();
        if past.believed_by(node, state, to).is_ok() {
            seen.past.insert(loss, past);
            return Ok(());
        }
        seen.now.believed_by(node, state, to)
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
        let vector = leader.disk.written.states.get(&key).map(|state| state.vector.clone());
        let history = seen.history_of_mut(&vector.unwrap_or_default());
        let Some(batch) = history.committed.get(&base) else {
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
        // So did one that has left by a later decision and has let go, as it was told to: a leader that stood still meanwhile may hear of what it
        // stored afterwards.
        let has_left = |replica: ReplicaId| {
            let promises = nodes.iter().filter(|node| node.id() == replica && !node.is_ghost);
            let mut promises = promises.filter_map(|node| node.replica(key)).map(Replica::promise);
            promises.any(|promise| {
                let later = promise.entry.as_ref().is_some_and(|own| own.epoch > entry.epoch);
                promise.kind == PromiseKind::Tombstone && later
            })
        };
        let is_going = self.forfeited.contains(&key.topic);
        if !is_going && !entry.acknowledged_by(|replica| holds(replica) || gone(replica) || has_left(replica))
        {
            return Err(format!(
                "record {value:#x} at {base} acknowledged, and not durable on an ackQuorum of {entry}"
            ));
        }
        history.acknowledged.insert(base, value);
        Ok(())
    }

    /// Retention says to a leader that everything below may go.
    pub(crate) fn may_go(&mut self, key: PartitionKey, below: Offset) {
        let seen = self.partitions.entry(key).or_default();
        seen.may_go = seen.may_go.max(below);
    }

    /// A replica lets go of what lies below.
    pub(crate) fn lets_go(&self, node: &Node, key: PartitionKey, below: Offset) -> Result<(), String> {
        let may_go = self.partitions.get(&key).map(|seen| seen.may_go).unwrap_or_default();
        if below <= may_go {
            return Ok(());
        }
        Err(format!(
            "broker {} lets go of what lies below {below} in {key}, retention has passed {may_go} only",
            node.number
        ))
    }

    /// Everything that was acknowledged is still there.
    pub(crate) fn final_check(&self, key: PartitionKey, leader: &Node) -> Result<(), String> {
        let Some(log) = leader.disk.written.states.get(&key) else { return Ok(()) };
        for (base, value) in self.partitions[&key].now.acknowledged.range(log.start..) {
            if log.batch(*base).and_then(crate::clients::value) != Some(*value) {
                return Err(format!("record {value:#x}, acknowledged at {base} of {key}, is lost"));
            }
        }
        Ok(())
    }
}

/// What a person gives up.
impl Seen {
    /// The first loss that a log has not gone through; one that holds nothing goes with who leads now.
    fn past_of(&self, vector: &TermVector) -> Option<Epoch> {
        if vector.starts().is_empty() {
            return None;
        }
        let lacks = |loss: &&Epoch| !vector.starts().iter().any(|line| line.term.epoch >= **loss);
        self.past.keys().find(lacks).copied()
    }

    fn history_of(&self, vector: &TermVector) -> &History {
        self.past_of(vector).map_or(&self.now, |loss| &self.past[&loss])
    }

    fn history_of_mut(&mut self, vector: &TermVector) -> &mut History {
        match self.past_of(vector) {
            Some(loss) => self.past.get_mut(&loss).expect("found just now"),
            None => &mut self.now,
        }
    }

    /// A term begins. If it is the first one since a person accepted a loss, what its log lacks is given up, and that is said.
    fn begins(&mut self, node: &Node, replica: &Replica, totals: &mut Totals) -> Result<(), String> {
        let entry = replica.promise().entry.as_ref().expect("a leader has an entry");
        let Some(accepted) = entry.accepted_loss else { return Ok(()) };
        let Some(state) = node.disk.written.states.get(&replica.key()) else { return Ok(()) };
        let Some(opening) = state.vector.starts().last().map(|line| line.start) else { return Ok(()) };
        let mut before = state.vector.clone();
        before.cut(opening);
        if before.starts().iter().any(|line| line.term.epoch >= accepted.epoch) {
            return Ok(());
        }
        if self.past.contains_key(&accepted.epoch) && self.now.goes_on_since(accepted.epoch) {
            return Err(format!(
                "broker {} leads without what was committed since the loss of {accepted}",
                node.number
            ));
        }
        let history = self.history_of(&before).clone();
        let next = history.without(state, opening);
        totals.count("losses that a person accepted");
        if next.committed_end < history.committed_end {
            let lost = history.acknowledged.len() - next.acknowledged.len();
            totals.add_many("acknowledged records that a person gave up", lost as u64);
            let said = replica.report().and_then(|report| report.may_have_lost);
            if said.is_none_or(|said| said > next.committed_end) {
                let from = next.committed_end;
                return Err(format!(
                    "broker {} gives up records from {from} on, and says {said:?}",
                    node.number
                ));
            }
        }
        // Who leads may lack an earlier loss, too; others have gone through that one and not through this.
        let held = std::mem::replace(&mut self.now, next);
        self.past.entry(accepted.epoch).or_insert(held);
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
        // Only where table and volumes that knew of it went together. Then it goes on with the records that it had.
        let comes_back =
            !entry.is_deletion() && seen.released && !std::mem::replace(&mut seen.came_back, true);
        totals.add_many("deleted partitions that came back with their records", u64::from(comes_back));
        if let Some(accepted) = entry.accepted_loss {
            seen.may_go = seen.may_go.max(accepted.known_end);
        }
        seen.decisions.insert(entry.epoch, entry.clone());
        totals.count("decisions");
        if let Members::Joint { .. } = entry.members {
            totals.count("joint entries");
        }
        if !entry.is_deletion() || self.forfeited.contains(&entry.key.topic) {
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

    /// A person accepts a loss.
    pub(crate) fn word(&mut self, key: PartitionKey, epoch: Epoch) {
        self.partitions.entry(key).or_default().words.insert(epoch);
    }

    /// A decision is stored where this one stood: it gives records up only by a word for what stood there, and each word once.
    pub(crate) fn accepts(&mut self, entry: &Entry, stood: Option<Epoch>) -> Result<(), String> {
        let seen = self.partitions.entry(entry.key).or_default();
        // One of which nothing was ever stored has no records to give up: the word was for a decision that its operator could not write.
        let is_new = seen.decisions.is_empty();
        if !entry.accepts_loss() || is_new || seen.decisions.contains_key(&entry.epoch) {
            return Ok(());
        }
        let used = seen.words.iter().copied().find(|word| stood.is_none_or(|stood| *word >= stood));
        match used {
            Some(word) if word < entry.epoch && seen.words.remove(&word) => Ok(()),
            _ => Err(format!(
                "{entry} gives records up, and nobody gave a word for {stood:?}: {:?}",
                seen.words
            )),
        }
    }

    /// When losses were accepted.
    pub(crate) fn losses(&self, key: PartitionKey) -> Vec<Epoch> {
        self.partitions.get(&key).map(|seen| seen.past.keys().copied().collect()).unwrap_or_default()
    }

    pub(crate) fn named(&mut self, topic: &TopicRecord) {
        self.names.entry(topic.id).or_insert_with(|| topic.name.clone());
    }

    pub(crate) fn name(&self, key: PartitionKey) -> Option<&str> {
        self.names.get(&key.topic).map(String::as_str)
    }

    /// A person wants all topics of this name gone.
    pub(crate) fn forfeit(&mut self, name: &str) {
        self.unwanted.insert(name.to_owned());
        let same = self.names.iter().filter(|(_, known)| *known == name);
        self.forfeited.extend(same.map(|(id, _)| *id));
    }

    /// A replica lets all records go, because its topic was deleted.
    pub(crate) fn released(&mut self, key: PartitionKey, totals: &mut Totals) {
        let seen = self.partitions.entry(key).or_default();
        if !std::mem::replace(&mut seen.released, true) {
            totals.count("deleted partitions");
        }
    }

    pub(crate) fn is_forfeited(&self, key: PartitionKey) -> bool {
        self.forfeited.contains(&key.topic)
    }

    /// Whether there is anything to be lost.
    pub(crate) fn has_acknowledged(&self, key: PartitionKey) -> bool {
        self.partitions.get(&key).is_some_and(|seen| !seen.now.acknowledged.is_empty())
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
        if seen.decisions.last_key_value().is_some_and(|(_, last)| last.is_deletion()) {
            return false;
        }
        let from = seen.in_force.as_ref().map(|entry| entry.epoch).unwrap_or_default();
        seen.decisions.range(from..).any(|(_, entry)| entry.members.contains(replica))
    }

    /// Whether any term of it ever opened, without which there is no record.
    pub(crate) fn has_opened(&self, key: PartitionKey) -> bool {
        self.partitions.get(&key).is_some_and(|seen| !seen.opened.is_empty())
    }

    /// Whether the last decision of all that were ever stored gives a replica a part.
    pub(crate) fn is_concerned(&self, key: PartitionKey, replica: ReplicaId) -> bool {
        let last = self.partitions.get(&key).and_then(|seen| seen.decisions.last_key_value());
        last.is_some_and(|(_, entry)| entry.concerns(replica))
    }

    /// What partitions amounted to.
    pub(crate) fn count(&self, totals: &mut Totals) {
        // One that is committed twice ends its world.
        totals.add_many("batches of idempotent producers committed twice", 0);
        for seen in self.partitions.values() {
            totals.add_many("batches of idempotent producers committed once", seen.now.idempotent());
            totals.add_many("records acknowledged and there at the end", seen.now.acknowledged.len() as u64);
        }
    }
}
