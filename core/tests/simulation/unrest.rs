//! Blows that strike operators, the table and what is wished; and the calm after all of them.

use fulmar_core::control::DocumentName;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;

use crate::event::Event;
use crate::node::Node;
use crate::swarm::Blow;
use crate::world::{Rule, World};

impl World {
    pub(crate) fn fall_on_government(&mut self, blow: Blow, while_ms: u64) {
        if self.is_capricious() {
            return self.fall_on_capricious(blow, while_ms);
        }
        let until = self.now_ms + while_ms;
        let operator = self.random.below(2) as usize;
        match blow {
            Blow::OperatorDies => {
                if self.random.chance(600) {
                    self.operator_dies_in = Some(self.random.below(12));
                } else {
                    self.kill_operator(operator);
                }
                if self.random.chance(300) {
                    self.ungoverned_until = until;
                }
            }
            Blow::OperatorFreezes => {
                self.totals.count("operators frozen");
                self.operators[operator].frozen_until = until;
            }
            Blow::SecondOperator => {
                let idle = |number: &usize| self.operators[*number].controller.is_none();
                if let Some(number) = (0..self.operators.len()).find(idle) {
                    self.totals.count("second operators");
                    self.start_operator(number);
                }
            }
            Blow::LedgerAway => self.ledger.away_until = until,
            Blow::TableRestored => self.restore_table(),
            Blow::TableDeleted if self.may_lose_table() => {
                self.totals.count("tables deleted");
                self.ledger.clear();
                self.ledger.away_until = self.now_ms + self.random.below(3000);
            }
            Blow::DocumentLost if self.may_lose_table() => self.lose_document(),
            Blow::Wish => self.wish_otherwise(),
            Blow::Move => self.operators[operator].blind_until = until,
            _ => {}
        }
    }

    fn fall_on_capricious(&mut self, blow: Blow, while_ms: u64) {
        let now_ms = self.now_ms;
        let Rule::Capricious(all) = &mut self.rule else { return };
        match blow {
            Blow::OperatorDies | Blow::OperatorFreezes | Blow::SecondOperator => {
                for one in all.values_mut() {
                    one.take_over(now_ms);
                }
                self.ungoverned_until = now_ms + while_ms;
                self.totals.count("capricious tenures");
            }
            Blow::TableRestored | Blow::TableDeleted | Blow::DocumentLost => {
                for one in all.values_mut() {
                    one.restore(&mut self.random, now_ms);
                }
                self.totals.count("capricious tables restored");
            }
            _ => {}
        }
    }

    /// Not while only the table remembers that a volume is a copy, or another Cluster's.
    fn may_lose_table(&self) -> bool {
        self.ruins == 0
            && self.nodes.iter().all(|node| node.restored_after.is_none() && node.foreign.is_none())
    }

    fn restore_table(&mut self) {
        if !self.may_lose_table() || self.ledger.past() == 0 {
            return;
        }
        self.totals.count("tables restored");
        let at = self.random.below(self.ledger.past() as u64) as usize;
        self.ledger.restore(at, None);
        // Nobody restores an etcd in less: meanwhile the wall clock goes on.
        self.ledger.away_until = self.now_ms + self.random.between(3000, 8000);
    }

    fn lose_document(&mut self) {
        self.totals.count("documents of the table lost or restored");
        let names: Vec<DocumentName> = self.ledger.names();
        let Some(name) = self.random.pick(&names).copied() else { return };
        if self.random.chance(500) && self.ledger.past() > 0 {
            let at = self.random.below(self.ledger.past() as u64) as usize;
            self.ledger.restore(at, Some(name));
        } else {
            self.ledger.delete(name);
        }
        self.ledger.away_until = self.now_ms + self.random.below(3000);
    }

    /// People change their minds.
    fn wish_otherwise(&mut self) {
        let (nodes, living) = (self.nodes.iter().filter(|node| !node.is_ghost).count(), self.desired.brokers);
        let size = self.desired.topics.iter().filter_map(|wish| wish.replication_factor).max().unwrap_or(1);
        match self.random.below(5) {
            0 | 1 => {
                // Another ackQuorum, never below the least.
                let quorum = self.random.between(u64::from(self.least_quorum), u64::from(size)) as u8;
                let at = self.random.below(self.desired.topics.len().max(1) as u64) as usize;
                if let Some(wish) = self.desired.topics.get_mut(at) {
                    wish.ack_quorum = Some(quorum);
                }
            }
            2 if usize::from(living) < nodes => {
                let node = usize::from(living);
                self.totals.count("brokers that joined");
                self.desired.brokers += 1;
                self.desired.standing = self.desired.present();
                self.at(100, Event::Start { node });
            }
            3 => {
                let at = self.random.below(self.desired.topics.len().max(1) as u64) as usize;
                if let Some(wish) = self.desired.topics.get_mut(at).filter(|wish| wish.partitions < 3) {
                    wish.partitions += 1;
                }
            }
            _ => self.wish_another_topic(size),
        }
    }

    fn wish_another_topic(&mut self, size: u8) {
        let name = if self.random.chance(500) { "payments" } else { "audit" };
        let at = self.desired.topics.iter().position(|wish| wish.name == name);
        let Some(at) = at else {
            self.desired.deleted.retain(|deleted| deleted != name);
            let wish = fulmar_core::control::TopicWish {
                name: name.to_owned(),
                partitions: 1,
                replication_factor: Some(size),
                ack_quorum: Some(self.least_quorum),
                max_message_bytes: 1 << 20,
                retention_ms: None,
                retention_bytes: None,
                accepted_losses: Vec::new(),
            };
            self.desired.topics.push(wish);
            return;
        };
        self.desired.topics.remove(at);
        if self.random.chance(500) {
            self.totals.count("topics deleted");
            self.desired.deleted.push(name.to_owned());
            self.observer.forfeit(name);
        } else {
            self.totals.count("topics retained");
        }
    }

    pub(crate) fn come_to_rest(&mut self) {
        self.story.line(self.now_ms, || "calm".to_owned());
        self.calm = true;
        self.network.heal();
        self.swarm.unknown = 0;
        (self.ungoverned_until, self.ledger.away_until, self.operator_dies_in) = (0, 0, None);
        for node in 0..self.nodes.len() {
            let this = &mut self.nodes[node];
            // Who is frozen thaws in its own time: what waits for it must not be overtaken by what comes now.
            (this.hangs_until, this.full_until) = (0, 0);
            if this.is_ghost {
                self.crash(node, false);
            } else if this.foreign.is_some() {
                self.bring_back_volume(node);
            } else if this.life > 0 || self.is_capricious() {
                self.at(1, Event::Start { node });
            }
        }
        for operator in &mut self.operators {
            operator.blind_until = 0;
        }
        self.at(1000, Event::Rest);
    }

    /// Whether everything works again, or what does not.
    pub(crate) fn rests(&self) -> Result<(), String> {
        if let Rule::Controllers = self.rule {
            self.operators_rest()?;
            self.is_spread()?;
        }
        for key in self.observer.keys().into_iter().filter(|key| self.is_served(*key)) {
            if self.leader(key).is_none() {
                return Err(format!("nobody leads {key}"));
            }
            let is_of = |(of, _): &(PartitionKey, Offset)| *of == key;
            let rotten =
                |node: &&Node| self.observer.needs(key, node.id()) && node.disk.damaged().iter().any(is_of);
            if let Some(node) = self.nodes.iter().filter(|node| !node.is_ghost).find(rotten) {
                return Err(format!("a batch of {key} on broker {} is damaged", node.number));
            }
            let busy = |producer: &&crate::clients::Producer| producer.key == key && !producer.is_done();
            if self.clients.producers.iter().any(|producer| busy(&producer)) {
                return Err(format!("a producer of {key} has not heard of all its records"));
            }
        }
        Ok(())
    }

    fn operators_rest(&self) -> Result<(), String> {
        let mut ruling = self.operators.iter().filter(|operator| operator.controller.is_some());
        let (Some(one), None) = (ruling.next(), ruling.next()) else {
            return Err("not one operator rules".to_owned());
        };
        if let Some(waiting) = &one.view.waiting {
            return Err(format!("the operator waits: {}: {}", waiting.reason, waiting.message));
        }
        for wish in &self.desired.topics {
            let shown = one.view.topics.get(&wish.name);
            let shown = shown.ok_or_else(|| format!("topic {} is not known", wish.name))?;
            if !shown.ready || shown.under_replicated > 0 {
                let (reason, message) = (shown.reason, &shown.message);
                return Err(format!("topic {} is not whole: {reason}: {message}", wish.name));
            }
        }
        Ok(())
    }

    /// Whether somebody must serve this partition: not if it was to be deleted, or no broker ever acknowledged anything in it
    /// and the table knows it no more.
    pub(crate) fn is_served(&self, key: PartitionKey) -> bool {
        if self.is_capricious() {
            return true;
        }
        // Of a topic that nobody wishes nobody accepts the loss of anything.
        let is_wished = |name: &str| self.desired.topics.iter().any(|wish| wish.name == name);
        let is_left = self.ruins > 0 && self.observer.name(key).is_some_and(|name| !is_wished(name));
        !is_left && !self.observer.is_forfeited(key) && self.observer.has_acknowledged(key)
    }

    pub(crate) fn leader(&self, key: PartitionKey) -> Option<&Node> {
        let leads = |node: &&Node| {
            let Some(replica) = node.replica(key).filter(|replica| replica.readable().is_some()) else {
                return false;
            };
            match &self.rule {
                Rule::Controllers => true,
                Rule::Capricious(all) => {
                    replica.leading().is_some_and(|term| term.epoch == all[&key].entry().epoch)
                }
            }
        };
        // Of two that believe to lead the later one.
        let epoch = |node: &&Node| {
            let term = node.replica(key).and_then(fulmar_core::partition::Replica::leading);
            term.map(|term| (term.epoch, term.process.session))
        };
        self.nodes.iter().filter(leads).max_by_key(epoch)
    }

    /// Everything that was acknowledged is there.
    pub(crate) fn final_check(&self) -> Result<(), String> {
        for key in self.observer.keys().into_iter().filter(|key| self.is_served(*key)) {
            let leader = self.leader(key).ok_or_else(|| format!("nobody leads {key}"))?;
            self.observer.final_check(key, leader)?;
        }
        Ok(())
    }
}
