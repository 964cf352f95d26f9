//! One broker: a volume and, while it runs, a process on it, with what the shell around `core` remembers.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use fulmar_core::broker::{Broker, Identity};
use fulmar_core::entry::Entry;
use fulmar_core::id::{ClusterId, Ordinal, PartitionKey, ReplicaId};
use fulmar_core::partition::{Now, Replica};
use fulmar_core::term::Process;

use crate::disk::{Disk, State, StoredPage};
use crate::random::Random;

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);

/// Gossip takes a broker for dead that it has heard nothing of for so long.
const GOSSIP_SILENCE_MS: u64 = 1_000;

pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) ordinal: Ordinal,
    pub(crate) disk: Disk,
    pub(crate) broker: Option<Broker>,
    /// Counts its processes: what was meant for an earlier one is not delivered.
    pub(crate) life: u64,
    /// How far its clock is off.
    pub(crate) skew_ms: u64,
    pub(crate) started_ms: u64,
    /// It does nothing until then (SIGSTOP).
    pub(crate) frozen_until: u64,
    /// Its syncs take until then.
    pub(crate) hangs_until: u64,
    /// Its volume has no room for publishes until then.
    pub(crate) full_until: u64,
    /// It does not start before then.
    pub(crate) away_until: u64,
    /// A copy of the volume, to be restored one day.
    pub(crate) copy: Option<Disk>,
    /// It runs on such a copy; the volume's last session before that.
    pub(crate) restored_after: Option<u64>,
    /// Its own volume, while it runs on another Cluster's.
    pub(crate) foreign: Option<Disk>,
    /// Its volume was taken away and given to another process: it lives on in memory, and syncs nothing any more.
    pub(crate) is_ghost: bool,
    /// It was told to stop.
    pub(crate) is_stopping: bool,
    pub(crate) address: SocketAddr,
    /// Rounds of its storage loop.
    pub(crate) rounds: u64,
    /// The highest tenure that it saw.
    pub(crate) tenure: u64,
    /// The pages that it acts by.
    pub(crate) pages: BTreeMap<u32, StoredPage>,
    /// The operator's stream, with its tenure.
    pub(crate) attending: Option<(u64, u64)>,
    /// When gossip last heard of each broker, through others too.
    pub(crate) heard_of: BTreeMap<Ordinal, u64>,
    /// Asks that wait for a promise to be stored: stream and request.
    pub(crate) asks: VecDeque<(u64, u64)>,
}

impl Node {
    pub(crate) fn new(number: usize, random: &mut Random) -> Self {
        Self {
            number,
            ordinal: Ordinal(number as u16),
            disk: Disk::new(1 << 8 | number as u128, number as u64 + 1),
            broker: None,
            life: 0,
            skew_ms: random.below(2000),
            started_ms: 0,
            frozen_until: 0,
            hangs_until: 0,
            full_until: 0,
            away_until: 0,
            copy: None,
            restored_after: None,
            foreign: None,
            is_ghost: false,
            is_stopping: false,
            address: ([10, 0, 0, number as u8], 1).into(),
            rounds: 0,
            tenure: 0,
            pages: BTreeMap::new(),
            attending: None,
            heard_of: BTreeMap::new(),
            asks: VecDeque::new(),
        }
    }

    pub(crate) fn id(&self) -> ReplicaId {
        ReplicaId { ordinal: self.ordinal, incarnation: self.disk.incarnation }
    }

    /// Whether its volume is not simply its own.
    pub(crate) fn is_odd(&self) -> bool {
        self.is_ghost || self.restored_after.is_some() || self.foreign.is_some()
    }

    pub(crate) fn process(&self) -> Option<Process> {
        self.broker.as_ref().map(|broker| broker.identity().process())
    }

    pub(crate) fn replica(&self, key: PartitionKey) -> Option<&Replica> {
        self.broker.as_ref()?.replica(key)
    }

    /// Whom gossip sees alive.
    pub(crate) fn hears(&self, now_ms: u64) -> Vec<Ordinal> {
        let heard = self.heard_of.iter().filter(|(_, at)| now_ms <= **at + GOSSIP_SILENCE_MS);
        heard.map(|(ordinal, _)| *ordinal).collect()
    }

    /// What survives of a partition.
    pub(crate) fn durable(&self, key: PartitionKey) -> Option<&State> {
        self.disk.durable.states.get(&key)
    }

    pub(crate) fn now(&self, now_ms: u64) -> Now {
        Now {
            since_start: std::time::Duration::from_millis(now_ms - self.started_ms),
            clock_ms: 1_000_000 + now_ms + self.skew_ms,
        }
    }

    /// A new process on the volume as it is; the entries that its pages say.
    pub(crate) fn start(&mut self, now_ms: u64, random: &mut Random) -> Vec<Entry> {
        self.disk.begin_session(random);
        self.life += 1;
        self.started_ms = now_ms;
        (self.frozen_until, self.is_stopping, self.attending) = (0, false, None);
        self.asks.clear();
        self.heard_of.clear();
        let identity = Identity {
            cluster: self.disk.cluster,
            ordinal: self.ordinal,
            incarnation: self.disk.incarnation,
            processes: self.disk.processes.clone(),
        };
        let broker = Broker::new(identity, self.disk.recovered());
        let mut broker = broker.expect("the snapshots are core's own");
        broker.remember(self.disk.seen.iter().map(|(peer, process)| (*peer, *process)));
        self.broker = Some(broker);
        self.pages.clone_from(&self.disk.durable.pages);
        self.tenure = self.pages.values().map(|page| page.controller_epoch).max().unwrap_or_default();
        entries(&self.pages).into_values().collect()
    }

    pub(crate) fn crash(&mut self, random: &mut Random, drops_commit: bool) {
        self.broker = None;
        self.disk.crash(random, drops_commit);
    }

    /// The volume is gone; an empty one takes its place.
    pub(crate) fn lose_volume(&mut self, uid: u64) {
        self.broker = None;
        self.disk = Disk::new(self.disk.incarnation.0 + (1 << 8), uid);
        self.copy = None;
        self.restored_after = None;
    }
}

/// What pages say about partitions: of two entries the higher.
pub(crate) fn entries(pages: &BTreeMap<u32, StoredPage>) -> BTreeMap<PartitionKey, Entry> {
    let mut entries: BTreeMap<PartitionKey, Entry> = BTreeMap::new();
    for entry in pages.values().flat_map(|page| &page.page.entries) {
        if entries.get(&entry.key).is_none_or(|known| known.epoch < entry.epoch) {
            entries.insert(entry.key, entry.clone());
        }
    }
    entries
}
