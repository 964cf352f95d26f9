//! Which replica hears what.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Range};
use std::time::Duration;

use super::arrivals::Arrivals;
use super::handshake::{self, Accepted, Hello, HelloRefusal, Identity};
use super::versions::Earlier;
use crate::batch::ProducedBatch;
use crate::entry::Entry;
use crate::id::{Ordinal, PartitionKey, ReplicaId};
use crate::offset::Offset;
use crate::partition::{self, Effect, InvalidProducers, Message, Now, Recovered, Refusal, Replica};
use crate::term::{Epoch, Process};

/// Of each broker number so many lives of its volume are remembered: more than anybody loses in a broker's uptime.
const LIVES_MAX: usize = 16;

/// A leader that nobody hears for so long may have been replaced, and sends readers elsewhere.
const ISOLATED_TIME: Duration = Duration::from_secs(5);

/// Replicas at rest hear of a tick in turns: one of every so many hears of each, all of them within a second (of ticks 50 ms
/// apart). What they do by the clock, they do by the second.
const TURNS: usize = 20;
/// So many hear of every tick in any case: some thousand steps a second cost nothing.
const TURN_MIN: usize = 128;
/// Of those that are not at rest so many hear of every tick. While more than that are busy at once (a broker died, and thousands of
/// terms are opened) all take turns: what they wait for comes by itself.
const STIRRED_MAX: usize = 1_024;

/// Something happened to the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// For one replica: publishes, durable writes, what was shipped, retention. Unknown partitions refuse publishes and ignore
    /// the rest.
    Partition(PartitionKey, partition::Input),
    /// A connection passed both handshakes ([`Broker::hear`]). If an earlier one still stands, what was on its way there counts
    /// as lost.
    PeerUp(Accepted),
    /// A connection is gone: exactly one for each `PeerUp`, in any order.
    PeerDown {
        /// Whose.
        peer: ReplicaId,
        /// Which process's.
        process: Process,
    },
    /// A peer's replica says something.
    Message {
        /// Which peer.
        from: ReplicaId,
        /// Which process of it.
        process: Process,
        /// Of which partition.
        key: PartitionKey,
        /// What.
        message: Message,
    },
    /// Entries of the partition table, from the operator or from the volume; older ones than those held are ignored.
    Assign(Vec<Entry>),
    /// Records of a partition that this broker has left may go.
    Release {
        /// Which.
        key: PartitionKey,
        /// The decision without this broker.
        epoch: Epoch,
    },
    /// The operator's stream passed its handshake.
    OperatorUp,
    /// It is gone.
    OperatorDown,
    /// Time passes; at least every 100 ms.
    Tick,
}

/// One broker.
#[derive(Debug)]
pub struct Broker {
    pub(super) identity: Identity,
    /// Boxed: a tree's nodes are half empty where keys come in their order, and a replica is large.
    pub(super) replicas: BTreeMap<PartitionKey, Box<Replica>>,
    /// Which process of each peer, by how many connections: while one replaces another both are there.
    pub(super) connected: BTreeMap<ReplicaId, (Process, u32)>,
    /// The last process that was seen of each life of each broker's volume.
    seen: BTreeMap<Ordinal, Vec<(ReplicaId, Process)>>,
    /// The operator accepted this process at least once.
    confirmed: bool,
    operator_up: bool,
    /// Since when neither the operator nor an open quorum is heard.
    isolated: BTreeMap<PartitionKey, Duration>,
    pub(super) changed: BTreeSet<PartitionKey>,
    /// Stepped since the last settling.
    dirty: BTreeSet<PartitionKey>,
    /// Stepped by something else than a tick in this round of turns, and in the one before: these are not at rest, and hear of
    /// every tick.
    stirred: (BTreeSet<PartitionKey>, BTreeSet<PartitionKey>),
    /// Who heard of a tick last, in the round of those at rest.
    turn: Option<PartitionKey>,
    /// Stepped by something else than a tick since the last settling.
    woken: BTreeSet<PartitionKey>,
    /// Whom this broker shared partitions with when that was last counted, and whether it has to be counted again: at once for who
    /// is new, with the next round of turns for who may have left.
    wanted: (BTreeSet<ReplicaId>, bool),
    regrouped: bool,
    /// Peers that some leaders have yet to hear of.
    pub(super) arrivals: Arrivals,
    earlier: Earlier,
}

impl Broker {
    /// A broker with the replicas that its volume holds, tombstones included. Says nothing before its first step.
    ///
    /// Refuses a producers' snapshot that does not parse.
    pub fn new(
        identity: Identity,
        recovered: impl IntoIterator<Item = (PartitionKey, Recovered)>,
    ) -> Result<Self, InvalidProducers> {
        let mut broker = Self {
            identity,
            replicas: BTreeMap::new(),
            connected: BTreeMap::new(),
            seen: BTreeMap::new(),
            confirmed: false,
            operator_up: false,
            isolated: BTreeMap::new(),
            changed: BTreeSet::new(),
            dirty: BTreeSet::new(),
            stirred: (BTreeSet::new(), BTreeSet::new()),
            turn: None,
            woken: BTreeSet::new(),
            wanted: (BTreeSet::new(), true),
            regrouped: false,
            arrivals: Arrivals::default(),
            earlier: Earlier::default(),
        };
        for (key, recovered) in recovered {
            let (me, process) = (broker.identity.replica(), broker.identity.process());
            broker.replicas.insert(key, Box::new(Replica::new(me, process, key, recovered)?));
            broker.changed.insert(key);
            broker.dirty.insert(key);
        }
        Ok(broker)
    }

    /// What the volume remembers of peers: the last process that was seen of each. To be told before the first hello is heard:
    /// a restored volume is recognised by the process that it lacks, also by who was restarted meanwhile.
    pub fn remember(&mut self, seen: impl IntoIterator<Item = (ReplicaId, Process)>) {
        for (peer, process) in seen {
            self.note_seen(peer, process);
        }
    }

    /// Damaged batches that the volume met when it was opened: see [`Replica::recovered_damaged`].
    pub fn recovered_damaged(&mut self, key: PartitionKey, stretch: Range<Offset>) {
        if let Some(replica) = self.replicas.get_mut(&key) {
            replica.recovered_damaged(stretch);
        }
    }

    /// The last process that was seen of a peer's volume.
    pub fn seen(&self, peer: ReplicaId) -> Option<Process> {
        let lives = self.seen.get(&peer.ordinal)?;
        lives.iter().find(|(known, _)| *known == peer).map(|(_, process)| *process)
    }

    fn note_seen(&mut self, peer: ReplicaId, process: Process) {
        let lives = self.seen.entry(peer.ordinal).or_default();
        if let Some((_, seen)) = lives.iter_mut().find(|(known, _)| *known == peer) {
            *seen = process;
            return;
        }
        if lives.len() == LIVES_MAX {
            lives.remove(0);
        }
        lives.push((peer, process));
    }

    /// What this broker is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The operator told an adopted volume its Cluster; the shell has stored it.
    pub fn adopt(&mut self, cluster: crate::id::ClusterId) {
        self.identity.cluster.get_or_insert(cluster);
    }

    /// A replica, for reading.
    pub fn replica(&self, key: PartitionKey) -> Option<&Replica> {
        self.replicas.get(&key).map(AsRef::as_ref)
    }

    /// All replicas, tombstones included.
    pub fn replicas(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values().map(AsRef::as_ref)
    }

    /// [`wanted_peers`](Self::wanted_peers), if they may be others than those that were told last.
    pub fn newly_wanted_peers(&mut self) -> Option<BTreeSet<ReplicaId>> {
        if !std::mem::take(&mut self.wanted.1) {
            return None;
        }
        self.wanted.0 = self.wanted_peers();
        Some(self.wanted.0.clone())
    }

    /// Replicas that were stepped since they were last asked for so, by something else than a tick.
    pub fn take_woken(&mut self) -> BTreeSet<PartitionKey> {
        std::mem::take(&mut self.woken)
    }

    /// Whom this broker shares partitions with, and therefore has to be connected to.
    pub fn wanted_peers(&self) -> BTreeSet<ReplicaId> {
        let entries = self.replicas.values().filter_map(|replica| replica.promise().entry.as_ref());
        let concerned = entries.filter(|entry| entry.concerns(self.identity.replica()));
        let mut wanted: BTreeSet<ReplicaId> = concerned
            .flat_map(|entry| entry.members.replicas().into_iter().chain(entry.learners.iter().copied()))
            .collect();
        wanted.remove(&self.identity.replica());
        wanted
    }

    /// Judges a peer's hello. Who is believed replaces an earlier process of the same volume. The shell stores what is
    /// [`seen`](Self::seen) from then on before it answers.
    pub fn hear(&mut self, hello: &Hello) -> Result<Accepted, HelloRefusal> {
        let accepted = handshake::check(&self.identity, hello)?;
        if let Some(seen) = self.seen(accepted.peer)
            && (accepted.process.session < seen.session || !handshake::continues(&hello.processes, seen))
        {
            return Err(HelloRefusal::UnknownProcess { seen });
        }
        self.note_seen(accepted.peer, accepted.process);
        Ok(accepted)
    }

    /// Takes one input. The effects are to be carried out in order; each belongs to a partition.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<(PartitionKey, Effect)> {
        let mut out = Vec::new();
        match input {
            Input::Partition(key, input) => self.deliver_or_refuse(now, key, input, &mut out),
            Input::PeerUp(accepted) => self.peer_up(now, accepted, &mut out),
            Input::PeerDown { peer, process } => self.peer_down(now, peer, process, &mut out),
            Input::Message { from, process, key, message } => {
                self.message(now, (from, process), key, message, &mut out);
            }
            Input::Assign(entries) => {
                for entry in entries {
                    self.create_if_concerned(now, &entry, &mut out);
                    self.deliver(now, entry.key, partition::Input::Assign(entry), &mut out);
                }
            }
            Input::Release { key, epoch } => {
                self.deliver(now, key, partition::Input::Release(epoch), &mut out);
            }
            Input::OperatorUp => {
                (self.confirmed, self.operator_up) = (true, true);
                self.deliver_to_all(now, &partition::Input::Confirmed, &mut out);
            }
            Input::OperatorDown => self.operator_up = false,
            Input::Tick => {
                for key in self.next_turn() {
                    self.deliver_quietly(now, key, partition::Input::Tick, &mut out);
                }
                self.admit_next(now, &mut out);
                self.watch_isolation(now);
            }
        }
        out
    }

    /// To be called once at the end of each turn of the shell: see [`Replica::settle`].
    pub fn settle(&mut self, now: Now) -> Vec<(PartitionKey, Effect)> {
        let mut out = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            if let Some(replica) = self.replicas.get_mut(&key) {
                out.extend(replica.settle(now).into_iter().map(|effect| (key, effect)));
                self.arrivals.note(replica);
            }
        }
        self.note_changes(&out);
        out
    }

    /// Who hears of this tick: who is not at rest, and the next of those who are. Ten thousand idle partitions cost little so.
    pub(super) fn next_turn(&mut self) -> Vec<PartitionKey> {
        let size = (self.replicas.len() / TURNS).max(TURN_MIN);
        let from = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let mut turn: Vec<PartitionKey> =
            self.replicas.range((from, Bound::Unbounded)).take(size).map(|(key, _)| *key).collect();
        let ends = turn.len() < size;
        self.turn = turn.last().copied().filter(|_| !ends);
        if self.stirred.0.len() + self.stirred.1.len() <= STIRRED_MAX {
            turn.extend(self.stirred.0.iter().chain(&self.stirred.1));
        }
        if ends {
            self.stirred.1 = std::mem::take(&mut self.stirred.0);
            self.wanted.1 |= std::mem::take(&mut self.regrouped);
        }
        turn
    }

    /// Whether readers of a partition that this broker leads are to look for its leader elsewhere: nobody who could have
    /// replaced it was heard for 5 s, neither the operator.
    pub fn sends_readers_elsewhere(&self, key: PartitionKey, now: Now) -> bool {
        self.isolated.get(&key).is_some_and(|since| now.since_start >= *since + ISOLATED_TIME)
    }

    fn watch_isolation(&mut self, now: Now) {
        let before = std::mem::take(&mut self.isolated);
        if !self.operator_up {
            let alone = |replica: &Replica| replica.leading().is_some() && !replica.hears_open_quorum();
            for (key, _) in self.replicas.iter().filter(|(_, replica)| alone(replica)) {
                let since = before.get(key).copied().unwrap_or(now.since_start);
                self.isolated.insert(*key, since);
            }
        }
        // Readers are told when it begins to matter, and when it is over.
        self.woken.extend(self.isolated.keys().chain(before.keys()));
    }

    fn peer_up(&mut self, now: Now, accepted: Accepted, out: &mut Vec<(PartitionKey, Effect)>) {
        let Accepted { peer, process, .. } = accepted;
        self.earlier.note(accepted);
        // A new connection starts anew, even of the same process.
        let connections = match self.connected.get(&peer) {
            Some((before, connections)) if *before == process => connections + 1,
            Some(_) | None => 1,
        };
        if self.connected.insert(peer, (process, connections)).is_some() {
            self.part(now, peer, out);
        }
        let me = self.identity.replica();
        let concerned = |entry: &Entry| entry.concerns(peer);
        let keys: Vec<PartitionKey> = self.keys_where(concerned);
        for key in keys {
            self.arrive(now, key, peer, out);
        }
        // Who is its partition's only member has no member to hear: any broker that knows this volume will do.
        let alone = |entry: &Entry| entry.members.replicas() == [me];
        for key in self.keys_where(alone) {
            self.deliver(now, key, partition::Input::Confirmed, out);
        }
    }

    /// The end of an older connection, or of an older process's, does not end the newer one.
    fn peer_down(
        &mut self,
        now: Now,
        peer: ReplicaId,
        process: Process,
        out: &mut Vec<(PartitionKey, Effect)>,
    ) {
        let Some((_, connections)) = self.connected.get_mut(&peer).filter(|(current, _)| *current == process)
        else {
            return;
        };
        *connections -= 1;
        if *connections == 0 {
            self.connected.remove(&peer);
            self.part(now, peer, out);
        }
    }

    fn part(&mut self, now: Now, peer: ReplicaId, out: &mut Vec<(PartitionKey, Effect)>) {
        self.arrivals.forget(peer);
        self.deliver_to_all(now, &partition::Input::PeerDown(peer), out);
        self.admit_all(now, out);
    }

    fn keys_where(&self, holds: impl Fn(&Entry) -> bool) -> Vec<PartitionKey> {
        let has = |replica: &Replica| replica.promise().entry.as_ref().is_some_and(&holds);
        self.replicas.iter().filter(|(_, replica)| has(replica)).map(|(key, _)| *key).collect()
    }

    fn message(
        &mut self,
        now: Now,
        (from, process): (ReplicaId, Process),
        key: PartitionKey,
        message: Message,
        out: &mut Vec<(PartitionKey, Effect)>,
    ) {
        if self.connected.get(&from).is_none_or(|(current, _)| *current != process) {
            return;
        }
        if let Message::Fence { entry, .. } | Message::Attach { entry, .. } = &message
            && entry.key == key
        {
            self.create_if_concerned(now, entry, out);
        }
        // A leader whose entry this broker has not seen yet is unknown to the replica until now.
        if self.replicas.get(&key).is_some_and(|replica| !replica.knows(from)) {
            self.deliver(now, key, partition::Input::PeerUp { peer: from, process }, out);
        }
        self.deliver(now, key, partition::Input::Message { from, process, message }, out);
    }

    fn create_if_concerned(&mut self, now: Now, entry: &Entry, out: &mut Vec<(PartitionKey, Effect)>) {
        let (me, process) = (self.identity.replica(), self.identity.process());
        if self.replicas.contains_key(&entry.key) || !entry.concerns(me) {
            return;
        }
        let Ok(replica) = Replica::new(me, process, entry.key, Recovered::default()) else { return };
        self.replicas.insert(entry.key, Box::new(replica));
        if self.confirmed {
            self.deliver(now, entry.key, partition::Input::Confirmed, out);
        }
    }

    fn deliver_or_refuse(
        &mut self,
        now: Now,
        key: PartitionKey,
        input: partition::Input,
        out: &mut Vec<(PartitionKey, Effect)>,
    ) {
        if let partition::Input::Produce { ticket, batch } = &input
            && let Some(refusal) = self.refusal(key, batch)
        {
            out.push((key, Effect::Refuse { ticket: *ticket, refusal }));
            return;
        }
        self.deliver(now, key, input, out);
    }

    /// Why a publish does not even reach its replica.
    fn refusal(&self, key: PartitionKey, batch: &ProducedBatch) -> Option<Refusal> {
        let Some(replica) = self.replicas.get(&key) else {
            return Some(Refusal::NotLeader { leader: None });
        };
        let entry = replica.promise().entry.as_ref();
        let led_here = entry.filter(|entry| entry.leader == Some(self.identity.replica()))?;
        let broker = self.earlier.cannot_take(batch, led_here)?;
        Some(Refusal::EarlierVersion { broker })
    }

    fn deliver_to_all(&mut self, now: Now, input: &partition::Input, out: &mut Vec<(PartitionKey, Effect)>) {
        let keys: Vec<PartitionKey> = self.replicas.keys().copied().collect();
        for key in keys {
            self.deliver(now, key, input.clone(), out);
        }
    }

    pub(super) fn deliver(
        &mut self,
        now: Now,
        key: PartitionKey,
        input: partition::Input,
        out: &mut Vec<(PartitionKey, Effect)>,
    ) {
        if self.replicas.contains_key(&key) {
            self.stirred.0.insert(key);
            self.woken.insert(key);
        }
        self.deliver_quietly(now, key, input, out);
    }

    /// Without keeping a replica from its rest.
    fn deliver_quietly(
        &mut self,
        now: Now,
        key: PartitionKey,
        input: partition::Input,
        out: &mut Vec<(PartitionKey, Effect)>,
    ) {
        let Some(replica) = self.replicas.get_mut(&key) else { return };
        let epoch = |replica: &Replica| replica.promise().entry.as_ref().map(|entry| entry.epoch);
        let before = epoch(replica);
        let mut effects = replica.step(now, input);
        if epoch(replica) != before {
            // Another entry, other peers.
            self.regrouped = true;
            let me = self.identity.replica();
            let is_new = |replica: &ReplicaId| *replica != me && !self.wanted.0.contains(replica);
            self.wanted.1 |= replica
                .promise()
                .entry
                .as_ref()
                .is_some_and(|entry| entry.members.replicas().iter().chain(&entry.learners).any(is_new));
            let entry = replica.promise().entry.clone();
            let known =
                self.connected.iter().filter(|(peer, _)| entry.as_ref().is_some_and(|e| e.concerns(**peer)));
            for (peer, (process, _)) in known.filter(|(peer, _)| **peer != self.identity.replica()) {
                if !replica.knows(*peer) {
                    effects.extend(
                        replica.step(now, partition::Input::PeerUp { peer: *peer, process: *process }),
                    );
                }
            }
        }
        self.dirty.insert(key);
        let from = out.len();
        out.extend(effects.into_iter().map(|effect| (key, effect)));
        self.note_changes(&out[from..]);
    }

    fn note_changes(&mut self, effects: &[(PartitionKey, Effect)]) {
        let changed = effects.iter().filter(|(_, effect)| matches!(effect, Effect::Changed));
        self.changed.extend(changed.map(|(key, _)| *key));
    }
}
