//! Stands outside and checks what everybody may rely on.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::batch::Batch;
use fulmar_core::id::{ProducerId, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::Replica;
use fulmar_core::term::{Process, Term};

use crate::node::Node;

#[derive(Default)]
pub(crate) struct Observer {
    /// What is committed, once and for ever.
    pub(crate) committed: BTreeMap<Offset, Batch>,
    committed_end: Offset,
    /// Which batch a leader put where.
    named: BTreeMap<(Term2, Offset), Batch>,
    leaders: BTreeMap<Term2, (ReplicaId, Process)>,
    pub(crate) acknowledged: BTreeMap<Offset, u64>,
    sequences: BTreeMap<(ProducerId, u64), Offset>,
    opened: BTreeSet<Term2>,
}

/// A term with a total order, for the maps here.
type Term2 = (u64, u64, u64, u64);

fn total(term: Term) -> Term2 {
    (term.epoch.generation, term.epoch.counter, term.process.session.0, term.process.boot.0)
}

impl Observer {
    pub(crate) fn opened(&self) -> u64 {
        self.opened.len() as u64
    }

    /// A batch was written somewhere.
    pub(crate) fn written(&mut self, node: &Node, batch: &Batch) -> Result<(), String> {
        let name = (total(batch.term()), batch.base());
        let known = self.named.entry(name).or_insert_with(|| batch.clone());
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
    pub(crate) fn leads(&mut self, node: &Node, replica: &Replica) -> Result<(), String> {
        let Some(term) = replica.leading() else { return Ok(()) };
        let process = node.process().expect("it runs");
        if replica.readable().is_some() {
            self.opened.insert(total(term));
        }
        let leader = *self.leaders.entry(total(term)).or_insert((node.id(), process));
        if leader == (node.id(), process) {
            Ok(())
        } else {
            Err(format!("term {term} has two leaders: {leader:?}, {}", node.id()))
        }
    }

    /// A replica believes that all below `to` is committed.
    pub(crate) fn believes_committed(&mut self, node: &Node, to: Offset) -> Result<(), String> {
        for batch in node.disk.written.batches.iter().rev() {
            if batch.base() >= to {
                continue;
            }
            match self.committed.get(&batch.base()) {
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
                None if batch.base() < self.committed_end => {
                    let end = self.committed_end;
                    return Err(format!(
                        "broker {} believes a batch at {} committed; all below {end} is known",
                        node.number,
                        batch.base()
                    ));
                }
                None => {
                    self.committed.insert(batch.base(), batch.clone());
                }
            }
        }
        let fresh: Vec<Batch> =
            self.committed.range(self.committed_end..).map(|(_, batch)| batch.clone()).collect();
        for batch in fresh {
            if batch.base() != self.committed_end {
                return Err(format!("what is committed has a gap at {}", self.committed_end));
            }
            self.committed_end = batch.end();
            let Some(sequence) = batch.sequence() else { continue };
            if let Some(first) = self.sequences.insert((sequence.producer, sequence.sequence), batch.base()) {
                return Err(format!(
                    "batch {} of producer {} is committed at {first} and {}",
                    sequence.sequence,
                    sequence.producer,
                    batch.base()
                ));
            }
        }
        if to > self.committed_end {
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
        damaged: &BTreeSet<ReplicaId>,
        base: Offset,
        value: u64,
    ) -> Result<(), String> {
        let Some(batch) = self.committed.get(&base) else {
            return Err(format!("record {value:#x} acknowledged at {base}, which is not committed"));
        };
        if crate::clients::value(batch) != Some(value) {
            return Err(format!("record {value:#x} acknowledged at {base}, where another one is"));
        }
        let entry = leader
            .replica()
            .and_then(|replica| replica.promise().entry.clone())
            .expect("a leader has an entry");
        let holds = |replica: ReplicaId| {
            let node = nodes.iter().find(|node| node.id() == replica);
            node.is_some_and(|node| {
                node.disk.durable.batch(base) == Some(batch) || node.disk.durable.start > base
            })
        };
        // A replica that lost its volume or its last commit after it had stored the record counted when it did.
        let gone =
            |replica: ReplicaId| damaged.contains(&replica) || !nodes.iter().any(|node| node.id() == replica);
        if !entry.acknowledged_by(|replica| holds(replica) || gone(replica)) {
            return Err(format!(
                "record {value:#x} at {base} acknowledged, and not durable on an ackQuorum of {entry}"
            ));
        }
        self.acknowledged.insert(base, value);
        Ok(())
    }

    /// Everything that was acknowledged is still there.
    pub(crate) fn final_check(&self, leader: &Node) -> Result<(), String> {
        let log = &leader.disk.written;
        for (base, value) in self.acknowledged.range(log.start..) {
            if log.batch(*base).and_then(crate::clients::value) != Some(*value) {
                return Err(format!("record {value:#x}, acknowledged at {base}, is lost"));
            }
        }
        Ok(())
    }
}
