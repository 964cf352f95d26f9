//! What befalls the world: which blow falls, and those that strike brokers.

use std::collections::BTreeSet;

use fulmar_core::broker::Input;
use fulmar_core::id::{ClusterId, PartitionKey, ReplicaId};
use fulmar_core::partition::{self, Write};

use crate::disk::Disk;
use crate::event::Event;
use crate::network::OPERATOR;
use crate::random::Random;
use crate::swarm::Blow;
use crate::world::World;

impl World {
    pub(crate) fn blow(&mut self) {
        if self.calm {
            return;
        }
        let number = self.blows;
        self.blows += 1;
        // Of its own numbers, so that the other blows stay what they are when one is spared.
        let mut random = Random::new(self.seed ^ (number + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
        let again = if random.chance(self.swarm.settles) {
            random.between(2000, 6000)
        } else {
            random.between(1, 2 * self.swarm.each_ms)
        };
        self.at(again, Event::Blow);
        let Some(blow) = self.swarm.pick(&mut random) else { return };
        if self.spared.contains(&number) {
            return;
        }
        let node = random.below(self.nodes.len() as u64) as usize;
        let other = random.below(self.nodes.len() as u64) as usize;
        self.story.line(self.now_ms, || format!("blow {number}: {blow:?} at {node} ({other})"));
        self.totals.count(&format!("blow {blow:?}"));
        std::mem::swap(&mut self.random, &mut random);
        self.fall(blow, node, other);
        std::mem::swap(&mut self.random, &mut random);
    }

    fn fall(&mut self, blow: Blow, node: usize, other: usize) {
        let while_ms = self.random.between(100, 8000);
        let until = self.now_ms + while_ms;
        match blow {
            Blow::Crash => self.crash(node, false),
            Blow::CrashAtWrite => self.crash_at_write(),
            Blow::DropCommit => self.drop_commit(node),
            Blow::LoseVolume => self.lose_volume(node),
            Blow::CopyVolume => self.nodes[node].copy = Some(self.nodes[node].disk.clone()),
            Blow::RestoreVolume => self.restore_volume(node),
            Blow::ForeignVolume => self.foreign_volume(node),
            Blow::Cut if node != other => {
                self.network.cut(node, other, until);
                self.network.cut(other, node, until);
                if self.random.chance(500) {
                    self.disconnect(node, other);
                }
            }
            Blow::CutOneWay if node != other => self.network.cut(node, other, until),
            Blow::CutOperator => {
                let operator = OPERATOR + self.random.below(2) as usize;
                self.network.cut(node, operator, until);
                if self.random.chance(700) {
                    self.network.cut(operator, node, until);
                }
            }
            Blow::CutLeader => self.cut_leader(node),
            Blow::Isolate => self.isolate(node),
            Blow::Disconnect => self.disconnect(node, other),
            Blow::Freeze => self.nodes[node].frozen_until = until,
            Blow::Ghost => self.make_ghost(node),
            Blow::Stop => self.stop(node),
            Blow::Hang => self.nodes[node].hangs_until = until,
            Blow::Full => self.nodes[node].full_until = until,
            Blow::Retain => self.retain(),
            Blow::Rot => self.rot(node),
            Blow::Ruin => self.ruin(),
            Blow::FalseWord => self.say_false_word(),
            Blow::OperatorDies
            | Blow::OperatorFreezes
            | Blow::SecondOperator
            | Blow::LedgerAway
            | Blow::TableRestored
            | Blow::TableDeleted
            | Blow::DocumentLost
            | Blow::Wish
            | Blow::Move => self.fall_on_government(blow, while_ms),
            Blow::Cut | Blow::CutOneWay => {}
        }
    }

    pub(crate) fn crash(&mut self, node: usize, drops_commit: bool) {
        if self.nodes[node].broker.is_none() {
            return;
        }
        self.story.line(self.now_ms, || {
            format!("{node} crashes{}", if drops_commit { " and loses its last commit" } else { "" })
        });
        self.count_crash(node);
        self.disconnect_all(node);
        if self.random.chance(300) && !self.nodes[node].is_ghost {
            self.nodes[node].copy = Some(self.nodes[node].disk.clone());
        }
        self.nodes[node].crash(&mut self.random, drops_commit);
        let back = self.random.between(10, 4000);
        self.at(back, Event::Start { node });
    }

    /// In the midst of what it fell.
    fn count_crash(&mut self, node: usize) {
        self.totals.count("crashes");
        let this = &self.nodes[node];
        let disk = &this.disk;
        let mut midst = Vec::new();
        for (what, waits) in [
            ("an append", disk.is_about_to(|write| matches!(write, Write::Append(_)))),
            ("a promise", disk.is_about_to(|write| matches!(write, Write::Promise(_)))),
            ("a cut", disk.is_about_to(|write| matches!(write, Write::Cut { .. }))),
            ("setting a log aside", disk.is_about_to(|write| matches!(write, Write::SetAside { .. }))),
            ("a reset", disk.is_about_to(|write| matches!(write, Write::Reset { .. }))),
            ("a release", disk.is_about_to(|write| matches!(write, Write::Release))),
            ("becoming certain", disk.is_about_to(|write| matches!(write, Write::Mark { uncertain: false }))),
            ("a full disk", this.full_until > self.now_ms),
            ("a hanging sync", this.hangs_until > self.now_ms),
            ("a rebuild of the table", self.ledger.root().is_some_and(|root| root.rebuilding)),
        ] {
            midst.extend(waits.then_some(what));
        }
        let me = this.id();
        for replica in this.broker.iter().flat_map(fulmar_core::broker::Broker::replicas) {
            let Some(entry) = &replica.promise().entry else { continue };
            let opens = entry.leader == Some(me) && replica.leading().is_none();
            midst.extend(opens.then_some("opening a term"));
            let joint = matches!(entry.members, fulmar_core::entry::Members::Joint { .. });
            midst.extend(joint.then_some("a joint change"));
            let suffix = replica.log_end() > replica.high_watermark();
            midst.extend(suffix.then_some("an uncertain suffix"));
        }
        midst.sort_unstable();
        midst.dedup();
        for what in midst {
            self.totals.count(&format!("crashes in the midst of {what}"));
        }
    }

    /// Somebody who is just about to make something important durable.
    fn crash_at_write(&mut self) {
        let important = |write: &Write| !matches!(write, Write::Append(_) | Write::LogStart(_));
        let about: Vec<usize> = self
            .nodes
            .iter()
            .filter(|node| node.broker.is_some() && node.disk.is_about_to(important))
            .map(|node| node.number)
            .collect();
        if let Some(node) = self.random.pick(&about).copied() {
            self.crash(node, false);
        }
    }

    fn drop_commit(&mut self, node: usize) {
        let this = &self.nodes[node];
        if this.broker.is_none() || this.is_odd() || !self.may_damage(node) {
            return;
        }
        self.totals.count("dropped commits");
        self.damage(node);
        self.crash(node, true);
    }

    /// Whether the world may damage one more volume: with Qa copies, Qa − 1 may be hurt at a time.
    fn may_damage(&self, node: usize) -> bool {
        let id = self.nodes[node].id();
        let concerned = self.observer.keys().iter().any(|key| self.observer.needs(*key, id))
            || !self.nodes[node].disk.written.states.is_empty();
        let others = self.hurt().into_iter().filter(|one| *one != id).count();
        // A decision on its way into the table may name it already; a single copy is never hurt.
        self.least_quorum > 1 && (!concerned || others + 1 < usize::from(self.least_quorum))
    }

    /// Volumes that lost something, or have damaged batches.
    pub(crate) fn hurt(&self) -> BTreeSet<ReplicaId> {
        let volume = |node: &'_ crate::node::Node| {
            let own = node.foreign.as_ref().unwrap_or(&node.disk);
            let id = ReplicaId { ordinal: node.ordinal, incarnation: own.incarnation };
            (!node.is_ghost && !own.damaged().is_empty()).then_some(id)
        };
        self.nodes.iter().filter_map(volume).chain(self.damaged.keys().copied()).collect()
    }

    /// A bit flips in a batch that others hold too. Several volumes may be rotten, each in another place.
    fn rot(&mut self, node: usize) {
        let id = self.nodes[node].id();
        let lost = self.damaged.keys().filter(|one| **one != id).count();
        if self.nodes[node].is_odd() || lost + 1 >= usize::from(self.least_quorum) {
            return;
        }
        let mut places = Vec::new();
        for (key, state) in &self.nodes[node].disk.durable.states {
            for batch in state.batches.iter().rev().take(30) {
                let others = self.nodes.iter().filter(|other| other.number != node && !other.is_odd());
                let whole = |other: &&crate::node::Node| {
                    other.durable(*key).and_then(|state| state.batch(batch.base())) == Some(batch)
                };
                let rotten = others.clone().any(|other| other.disk.is_rotten(*key, batch.base()));
                if !rotten && others.filter(whole).count() + 1 >= usize::from(self.least_quorum) {
                    places.push((*key, batch.base()));
                }
            }
        }
        if let Some((key, base)) = self.random.pick(&places).copied() {
            self.story.line(self.now_ms, || format!("a batch of {node} rots at {base}"));
            self.totals.count("bits flipped");
            self.nodes[node].disk.rot(key, base);
        }
    }

    /// Every log is read now and then.
    pub(crate) fn scrub(&mut self, node: usize) {
        if self.calm || self.random.chance(20) {
            for (key, base) in self.nodes[node].disk.damaged() {
                self.unreadable(node, key, Some(base));
            }
        }
    }

    pub(crate) fn damage(&mut self, node: usize) {
        let id = self.nodes[node].id();
        let mut keys: Vec<PartitionKey> = self.nodes[node].disk.written.states.keys().copied().collect();
        keys.extend(self.observer.keys().into_iter().filter(|key| self.observer.needs(*key, id)));
        if !keys.is_empty() {
            self.damaged.entry(id).or_default().extend(keys);
        }
    }

    /// A replica that reports itself whole, durably, is.
    pub(crate) fn heals(&mut self, node: usize, key: PartitionKey) {
        let this = &self.nodes[node];
        let is_whole =
            this.replica(key).is_some_and(|replica| replica.report().is_some_and(|report| !report.uncertain));
        let is_marked = this.durable(key).is_some_and(|state| state.uncertain);
        if is_whole && !is_marked && !this.is_odd() {
            let id = this.id();
            self.heal(id, |other| other == key);
        }
    }

    fn heal(&mut self, volume: ReplicaId, whole: impl Fn(PartitionKey) -> bool) {
        if let Some(keys) = self.damaged.get_mut(&volume) {
            keys.retain(|key| !whole(*key));
            if keys.is_empty() {
                self.damaged.remove(&volume);
            }
        }
    }

    /// A lost volume matters no more once no decision that may hold names it.
    pub(crate) fn forget_damage(&mut self) {
        let living: Vec<ReplicaId> =
            self.nodes.iter().filter(|node| !node.is_ghost).map(crate::node::Node::id).collect();
        let lost: Vec<ReplicaId> =
            self.damaged.keys().filter(|volume| !living.contains(volume)).copied().collect();
        for volume in lost {
            let needless: Vec<PartitionKey> = self.damaged[&volume]
                .iter()
                .filter(|key| !self.observer.needs(**key, volume))
                .copied()
                .collect();
            self.heal(volume, |key| needless.contains(&key));
        }
    }

    fn lose_volume(&mut self, node: usize) {
        if !self.nodes[node].is_odd() && self.nodes[node].life > 0 && self.may_damage(node) {
            self.take_volume(node);
        }
    }

    pub(crate) fn take_volume(&mut self, node: usize) {
        self.story.line(self.now_ms, || format!("{node} loses its volume"));
        self.totals.count("lost volumes");
        self.damage(node);
        self.disconnect_all(node);
        let uid = self.number();
        self.nodes[node].lose_volume(uid);
        self.move_pod(node);
        let back = self.random.between(100, 3000);
        self.at(back, Event::Start { node });
    }

    /// An old copy of the volume is put in its place.
    fn restore_volume(&mut self, node: usize) {
        let disk = &self.nodes[node].disk;
        let is_older =
            |copy: &Disk| copy.incarnation == disk.incarnation && copy.processes.len() < disk.processes.len();
        let copy = self.nodes[node].copy.clone().filter(is_older);
        let Some(copy) = copy.filter(|_| self.may_damage(node) && self.knows_volume(node)) else { return };
        self.nodes[node].copy = None;
        self.story.line(self.now_ms, || format!("{node} is restored from a copy of its volume"));
        self.totals.count("restored volumes");
        self.damage(node);
        self.disconnect_all(node);
        let uid = self.number();
        let this = &mut self.nodes[node];
        this.broker = None;
        this.restored_after = Some(this.disk.processes.len() as u64);
        this.disk = copy;
        this.disk.uid = uid;
        this.disk.crash(&mut self.random, false);
        self.move_pod(node);
        self.at(500, Event::Start { node });
    }

    /// Whether somebody remembers this volume: nothing tells a copy from it otherwise.
    fn knows_volume(&self, node: usize) -> bool {
        let this = &self.nodes[node];
        if this.is_odd() {
            return false;
        }
        if self.is_capricious() {
            return true;
        }
        let (id, uid) = (this.id(), this.disk.uid.to_string());
        let root = self.ledger.root();
        root.and_then(|root| root.active(this.ordinal).cloned())
            .is_some_and(|record| record.replica() == id && record.volume == Some(uid))
    }

    /// Its pod gets a volume of another Cluster for a while.
    fn foreign_volume(&mut self, node: usize) {
        let this = &self.nodes[node];
        if this.is_odd() || this.life == 0 || self.is_capricious() || self.ledger.root().is_none() {
            return;
        }
        self.totals.count("foreign volumes");
        self.crash(node, false);
        let uid = self.number();
        let mut foreign = Disk::new(u128::from(uid) << 32, uid);
        foreign.cluster = Some(ClusterId(0xbad));
        let own = std::mem::replace(&mut self.nodes[node].disk, foreign);
        self.nodes[node].foreign = Some(own);
        self.move_pod(node);
    }

    /// Its own volume comes back.
    pub(crate) fn bring_back_volume(&mut self, node: usize) {
        let Some(own) = self.nodes[node].foreign.take() else { return };
        self.disconnect_all(node);
        self.nodes[node].broker = None;
        self.nodes[node].disk = own;
        self.nodes[node].copy = None;
        self.move_pod(node);
        self.at(100, Event::Start { node });
    }

    /// Another pod, another address.
    pub(crate) fn move_pod(&mut self, node: usize) {
        let number = self.number();
        let bytes = number.to_be_bytes();
        self.nodes[node].address = ([10, bytes[5], bytes[6], bytes[7]], 1).into();
    }

    /// Long, and what is said meanwhile comes when it ends.
    fn isolate(&mut self, node: usize) {
        let until = self.now_ms + self.random.between(2000, 15_000);
        let silent = self.random.chance(300);
        for other in (0..self.nodes.len()).chain([OPERATOR, OPERATOR + 1]).filter(|other| *other != node) {
            self.network.park(node, other, until);
            if silent {
                self.network.cut(other, node, until);
            } else {
                self.network.park(other, node, until);
            }
        }
    }

    /// Whoever leads something, else that broker.
    fn cut_leader(&mut self, node: usize) {
        let keys = self.observer.keys();
        let key = self.random.pick(&keys).copied();
        let node = key.and_then(|key| self.leader(key)).map_or(node, |leader| leader.number);
        let until = self.now_ms + self.random.between(2000, 25_000);
        let (out, back) = *self.random.pick(&[(true, true), (true, false), (false, true)]).expect("three");
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            if out {
                self.network.cut(node, other, until);
            }
            if back {
                self.network.cut(other, node, until);
            }
        }
    }

    /// Its volume is taken to another place, where another process starts on it; it lives on for a while, and syncs nothing.
    fn make_ghost(&mut self, node: usize) {
        let this = &self.nodes[node];
        let ghosts = self.nodes.iter().filter(|node| node.is_ghost).count();
        if this.is_odd() || this.broker.is_none() || ghosts >= 3 {
            return;
        }
        self.totals.count("second processes");
        let number = self.nodes.len();
        // The one that lives on keeps memory and links under another number; volume and name go to its heir.
        let mut ghost = crate::node::Node::new(number, &mut self.random);
        let this = &mut self.nodes[node];
        ghost.is_ghost = true;
        ghost.ordinal = this.ordinal;
        ghost.disk = this.disk.clone();
        ghost.broker = this.broker.take();
        (ghost.life, ghost.started_ms, ghost.skew_ms) = (this.life, this.started_ms, this.skew_ms);
        (ghost.pages, ghost.tenure) = (this.pages.clone(), this.tenure);
        self.nodes.push(ghost);
        self.haunt(node, number);
        self.nodes[node].crash(&mut self.random, false);
        self.move_pod(node);
        let back = self.random.between(10, 1000);
        self.at(back, Event::Start { node });
        let (life, dies) = (self.nodes[number].life, self.random.between(500, 8000));
        self.at(dies, Event::Stopped { node: number, life });
        self.at(1, Event::Tick { node: number, life });
    }

    /// Connections of a process stay with it though it has another number now.
    fn haunt(&mut self, node: usize, ghost: usize) {
        let id = self.nodes[ghost].id();
        for other in 0..self.nodes.len() {
            if self.network.disconnect(node, other) {
                self.network.connect(ghost, other);
                self.partners.insert((other, id), ghost);
                let peer = self.nodes[other].id();
                self.partners.insert((ghost, peer), other);
            }
        }
        let own = self.streams.iter().filter(|(_, stream)| stream.node == node).map(|(id, _)| *id);
        for stream in own.collect::<Vec<u64>>() {
            self.end_stream(stream, 300);
        }
    }

    /// It is told to stop, and has some seconds.
    fn stop(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        if this.broker.is_none() || this.is_stopping {
            return;
        }
        this.is_stopping = true;
        let life = this.life;
        self.totals.count("graceful stops");
        let grace = self.random.between(300, 4000);
        self.at(grace, Event::Stopped { node, life });
    }

    fn retain(&mut self) {
        let keys = self.observer.keys();
        let Some(key) = self.random.pick(&keys).copied() else { return };
        let back = self.random.below(20) as usize;
        let Some(base) = self.observer.recent(key, back) else { return };
        for node in 0..self.nodes.len() {
            if self.nodes[node].replica(key).is_some_and(|replica| replica.leading().is_some()) {
                self.observer.may_go(key, base);
                self.input(node, Input::Partition(key, partition::Input::Retain(base)));
            }
        }
    }
}
