//! Who is connected with whom, and what is said at first.

use fulmar_core::broker::{Accepted, Conclusion, HelloRefusal, Input, conclude, conclude_from_operator};
use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::partition::Message;
use fulmar_core::term::Process;

use crate::event::Event;
use crate::world::World;

/// A network that carries so much at once loses what is sent on top of it.
const CONGESTED: usize = 5_000;

impl World {
    pub(crate) fn disconnect_all(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            self.disconnect(node, other);
        }
        let own = self.streams.iter().filter(|(_, stream)| stream.node == node).map(|(id, _)| *id);
        for stream in own.collect::<Vec<u64>>() {
            self.end_stream(stream, 300);
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

    /// Brokers dial each other; both judge the other's hello.
    pub(crate) fn connect(&mut self) {
        for (a, b) in self.network.given_up(self.now_ms) {
            self.totals.count("connections given up since nothing passed");
            self.disconnect(a, b);
        }
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                let talks = |node: usize| {
                    let node = &self.nodes[node];
                    let identity = node.broker.as_ref().map(fulmar_core::broker::Broker::identity);
                    node.frozen_until <= self.now_ms
                        && identity.is_some_and(|identity| identity.cluster.is_some())
                };
                let both = talks(a) && talks(b) && self.nodes[a].ordinal != self.nodes[b].ordinal;
                let both = both && self.would_notice(a, b) && self.would_notice(b, a);
                let apart = self.network.is_connected(a, b) || self.network.is_hindered(a, b, self.now_ms);
                if both && !apart {
                    self.shake_hands(a, b);
                }
            }
            if self.is_capricious() {
                self.meet_operator(a);
            }
        }
    }

    /// Who never met the last process of a volume takes an older copy of it for the volume. So a restored volume meets peers
    /// that saw that one, or the operator, first.
    fn would_notice(&self, here: usize, there: usize) -> bool {
        let Some(session) = self.nodes[there].restored_after else { return true };
        let seen = self.nodes[here].disk.seen.get(&self.nodes[there].id());
        seen.is_some_and(|seen| seen.session.0 >= session) && self.nodes[here].restored_after.is_none()
    }

    fn shake_hands(&mut self, a: usize, b: usize) {
        let mut accepted: Vec<(usize, Accepted)> = Vec::new();
        for (here, there) in [(a, b), (b, a)] {
            let to = self.nodes[here].ordinal;
            let hello = self.nodes[there].broker.as_ref().map(|broker| broker.identity().hello(to));
            let (Some(hello), Some(broker)) = (hello, self.nodes[here].broker.as_mut()) else { return };
            match broker.hear(&hello) {
                Ok(one) => {
                    // Stored before it is answered.
                    self.nodes[here].disk.seen.insert(one.peer, one.process);
                    accepted.push((here, one));
                }
                Err(HelloRefusal::UnknownProcess { seen }) => {
                    let conclusion = conclude(seen, &self.volume(there));
                    return self.refused(there, conclusion);
                }
                // Another Cluster's volume was put in its place.
                Err(HelloRefusal::Cluster { .. }) => return,
                Err(other) => return self.violate(format!("{here} refuses {there}: {other}")),
            }
        }
        self.network.connect(a, b);
        for (here, there) in [(a, b), (b, a)] {
            let partner = (here, self.nodes[there].id());
            if let Some(before) = self.partners.insert(partner, there).filter(|before| *before != there) {
                self.disconnect(here, before);
            }
        }
        for (here, one) in accepted {
            self.input(here, Input::PeerUp(one));
        }
    }

    /// A round of gossip: who is heard says of whom it has heard, and when.
    pub(crate) fn gossip(&mut self, node: usize) {
        let now_ms = self.now_ms;
        let is_heard = |other: &&crate::node::Node| {
            let parked = self.network.parked(other.number, node, now_ms).is_some();
            let reached = !parked && !self.network.is_cut(other.number, node, now_ms);
            other.broker.is_some() && other.frozen_until <= now_ms && reached
        };
        let mut heard_of = self.nodes[node].heard_of.clone();
        for other in self.nodes.iter().filter(is_heard) {
            let said = other.heard_of.iter().map(|(ordinal, at)| (*ordinal, *at));
            for (ordinal, at) in said.chain([(other.ordinal, now_ms)]) {
                let last = heard_of.entry(ordinal).or_default();
                *last = at.max(*last);
            }
        }
        self.nodes[node].heard_of = heard_of;
    }

    /// The processes that a volume knows, read again. A ghost's volume lives under another process.
    pub(crate) fn volume(&self, node: usize) -> Vec<Process> {
        let this = &self.nodes[node];
        let heir =
            self.nodes.iter().find(|other| this.is_ghost && !other.is_ghost && other.id() == this.id());
        heir.unwrap_or(this).disk.processes.clone()
    }

    pub(crate) fn refused(&mut self, node: usize, conclusion: Conclusion) {
        self.story.line(self.now_ms, || format!("{node} is refused and concludes {conclusion:?}"));
        self.totals.count(match conclusion {
            Conclusion::SecondProcess => "second processes that ended themselves",
            Conclusion::Restored => "restored volumes that became new incarnations",
        });
        self.disconnect_all(node);
        match conclusion {
            Conclusion::SecondProcess => self.nodes[node].crash(&mut self.random, false),
            Conclusion::Restored if self.nodes[node].is_ghost => self.nodes[node].broker = None,
            Conclusion::Restored => {
                let uid = self.nodes[node].disk.uid;
                self.nodes[node].lose_volume(uid);
            }
        }
        self.at(100, Event::Start { node });
    }

    /// The capricious operator's handshake: what it remembers of sessions and volumes.
    fn meet_operator(&mut self, node: usize) {
        if self.now_ms < self.ungoverned_until || self.random.chance(500) {
            return;
        }
        let this = &self.nodes[node];
        let (Some(broker), id) = (&this.broker, this.id()) else { return };
        let session = broker.identity().process().session;
        let remembered = self.sessions.get(&id).copied().unwrap_or_default();
        let volume = self.volume(node);
        let conclusion = conclude_from_operator(broker.identity(), (id.incarnation, remembered), &volume);
        // A restored volume has another uid, which the operator remembers too: sessions alone may come out equal.
        let conclusion = conclusion.or(this.restored_after.map(|_| Conclusion::Restored));
        if let Some(conclusion) = conclusion {
            return self.refused(node, conclusion);
        }
        self.sessions.insert(id, session);
        if remembered < session {
            self.input(node, Input::OperatorUp);
        }
    }

    pub(crate) fn send(&mut self, from: usize, to: ReplicaId, key: PartitionKey, message: &Message) {
        let Some(number) = self.partners.get(&(from, to)).copied() else { return };
        let Some(process) = self.nodes[from].process() else { return };
        let is_there = self.nodes[number].id() == to && self.nodes[number].broker.is_some();
        if !is_there
            || !self.network.is_connected(from, number)
            || self.network.is_cut(from, number, self.now_ms)
        {
            return;
        }
        if self.events.len() > CONGESTED {
            // Batches that overtake each other are answered and sent again, and beget ever more of them.
            self.totals.count("messages lost in a congestion");
            return;
        }
        let (sender, life) = (self.nodes[from].id(), self.nodes[number].life);
        let parked = self.network.parked(from, number, self.now_ms);
        if parked.is_some() {
            self.totals.count("messages parked behind an isolation");
        }
        let wait = parked.map_or(0, |until| until - self.now_ms);
        for delay in self.network.delays(&mut self.random) {
            let message = message.clone();
            self.at(wait + delay, Event::Message { to: number, life, from: sender, process, key, message });
        }
    }
}
