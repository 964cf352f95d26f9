//! Who is connected with whom, and what is said at first.

use fulmar_core::broker::{Accepted, Conclusion, HelloRefusal, Input, conclude, conclude_from_operator};
use fulmar_core::id::ReplicaId;
use fulmar_core::partition::Message;

use crate::world::{Event, World};

impl World {
    pub(crate) fn disconnect_all(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            self.disconnect(node, other);
        }
    }

    pub(crate) fn disconnect(&mut self, a: usize, b: usize) {
        if a == b || !self.network.disconnect(a, b) {
            return;
        }
        for (node, peer) in [(a, b), (b, a)] {
            if let Some(process) = self.nodes[peer].process() {
                let (life, peer) = (self.nodes[node].life, self.nodes[peer].id());
                let notice = self.random.between(0, 300);
                self.at(notice, Event::PeerDown { node, life, peer, process });
            }
        }
    }

    /// Brokers dial each other; both judge the other's hello. The operator does the like.
    pub(crate) fn connect(&mut self) {
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                let both = self.nodes[a].broker.is_some() && self.nodes[b].broker.is_some();
                let both = both && self.would_notice(a, b) && self.would_notice(b, a);
                if both && !self.network.is_connected(a, b) && !self.network.is_cut(a, b, self.now_ms) {
                    self.shake_hands(a, b);
                }
            }
            self.meet_operator(a);
        }
    }

    /// Peers that restarted since have forgotten whom they saw; the operator has not. So a restored volume meets peers that
    /// remember its last session, or the operator first.
    pub(crate) fn would_notice(&self, here: usize, there: usize) -> bool {
        let restored = self.nodes[there].restored_after;
        restored.is_none_or(|session| self.met.contains(&(here, self.nodes[here].life, there, session)))
            && (restored.is_none() || self.nodes[here].restored_after.is_none())
    }

    pub(crate) fn shake_hands(&mut self, a: usize, b: usize) {
        let mut accepted: Vec<(usize, Accepted)> = Vec::new();
        for (here, there) in [(a, b), (b, a)] {
            let to = self.nodes[here].ordinal();
            let Some(hello) = self.nodes[there].broker.as_ref().map(|broker| broker.identity().hello(to))
            else {
                return;
            };
            let Some(broker) = self.nodes[here].broker.as_mut() else { return };
            match broker.hear(&hello) {
                Ok(one) => accepted.push((here, one)),
                Err(HelloRefusal::UnknownProcess { seen }) => {
                    return self.refused(there, conclude(seen, &self.nodes[there].disk.processes));
                }
                Err(other) => {
                    self.violation.get_or_insert(format!("{here} refuses {there}: {other}"));
                    return;
                }
            }
        }
        self.network.connect(a, b);
        for (here, there) in [(a, b), (b, a)] {
            let session = self.nodes[there].disk.processes.len() as u64;
            self.met.insert((here, self.nodes[here].life, there, session));
        }
        for (here, one) in accepted {
            self.input(here, Input::PeerUp(one));
        }
    }

    pub(crate) fn refused(&mut self, node: usize, conclusion: Conclusion) {
        self.story.line(self.now_ms, || format!("{node} is refused and concludes {conclusion:?}"));
        self.disconnect_all(node);
        match conclusion {
            Conclusion::SecondProcess => self.nodes[node].crash(&mut self.random, false),
            Conclusion::Restored => self.nodes[node].lose_volume(),
        }
        self.at(100, Event::Start { node });
    }

    pub(crate) fn meet_operator(&mut self, node: usize) {
        if self.now_ms < self.operator.down_until || self.random.chance(500) {
            return;
        }
        let this = &self.nodes[node];
        let (Some(broker), id) = (&this.broker, this.id()) else { return };
        let session = broker.identity().process().session;
        let remembered = self.operator_knows.get(&id).copied().unwrap_or_default();
        let conclusion =
            conclude_from_operator(broker.identity(), (id.incarnation, remembered), &this.disk.processes);
        // A restored volume has another uid, which the operator remembers too: sessions alone may come out equal.
        let conclusion = conclusion.or(this.restored_after.map(|_| Conclusion::Restored));
        if let Some(conclusion) = conclusion {
            return self.refused(node, conclusion);
        }
        self.operator_knows.insert(id, session);
        if remembered < session {
            self.input(node, Input::OperatorUp);
        }
    }

    pub(crate) fn number(&self, replica: ReplicaId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id() == replica)
    }

    pub(crate) fn send(&mut self, from: usize, to: ReplicaId, message: &Message) {
        let Some(number) = self.number(to) else { return };
        let (Some(from_process), Some(to_process)) =
            (self.nodes[from].process(), self.nodes[number].process())
        else {
            return;
        };
        if !self.network.is_connected(from, number) || self.network.is_cut(from, number, self.now_ms) {
            return;
        }
        let sender = self.nodes[from].id();
        for delay in self.network.delays(&mut self.random) {
            self.at(
                delay,
                Event::Message {
                    to: number,
                    to_process,
                    from: sender,
                    from_process,
                    message: message.clone(),
                },
            );
        }
    }
}
