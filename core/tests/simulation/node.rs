//! One broker: a volume and, while it runs, a process on it.

use fulmar_core::broker::{Broker, Identity};
use fulmar_core::id::{ClusterId, Ordinal, PartitionKey, ReplicaId, TopicId};
use fulmar_core::partition::{Now, Replica};
use fulmar_core::term::Process;

use crate::disk::Disk;
use crate::random::Random;

pub(crate) const CLUSTER: ClusterId = ClusterId(0xc1);

/// The one partition.
pub(crate) fn key() -> PartitionKey {
    PartitionKey { topic: TopicId(0x7001), partition: 0 }
}

pub(crate) struct Node {
    pub(crate) number: usize,
    pub(crate) disk: Disk,
    pub(crate) broker: Option<Broker>,
    /// Counts its processes: what was meant for an earlier one is not delivered.
    pub(crate) life: u64,
    /// How far its clock is off.
    pub(crate) skew_ms: u64,
    pub(crate) started_ms: u64,
    /// A copy of the volume, to be restored one day.
    pub(crate) copy: Option<Disk>,
    /// It runs on such a copy; the volume's last session before that.
    pub(crate) restored_after: Option<u64>,
}

impl Node {
    pub(crate) fn new(number: usize, random: &mut Random) -> Self {
        let disk = Disk::new(1 << 8 | number as u128);
        let skew_ms = random.below(2000);
        Self { number, disk, broker: None, life: 0, skew_ms, started_ms: 0, copy: None, restored_after: None }
    }

    pub(crate) fn ordinal(&self) -> Ordinal {
        Ordinal(self.number as u16)
    }

    pub(crate) fn id(&self) -> ReplicaId {
        ReplicaId { ordinal: self.ordinal(), incarnation: self.disk.incarnation }
    }

    pub(crate) fn process(&self) -> Option<Process> {
        self.broker.as_ref().map(|broker| broker.identity().process())
    }

    pub(crate) fn replica(&self) -> Option<&Replica> {
        self.broker.as_ref()?.replica(key())
    }

    pub(crate) fn now(&self, now_ms: u64) -> Now {
        Now {
            since_start: std::time::Duration::from_millis(now_ms - self.started_ms),
            clock_ms: 1_000_000 + now_ms + self.skew_ms,
        }
    }

    pub(crate) fn start(&mut self, now_ms: u64, random: &mut Random) {
        self.disk.begin_session(random);
        self.life += 1;
        self.started_ms = now_ms;
        let identity = Identity {
            cluster: Some(CLUSTER),
            ordinal: self.ordinal(),
            incarnation: self.disk.incarnation,
            processes: self.disk.processes.clone(),
        };
        let stored = self.disk.durable.exists.then(|| (key(), self.disk.durable.recovered()));
        self.broker = Some(Broker::new(identity, stored).expect("the snapshot is core's own"));
    }

    pub(crate) fn crash(&mut self, random: &mut Random, drops_commit: bool) {
        self.broker = None;
        self.disk.crash(random, drops_commit);
    }

    /// The volume is gone; an empty one takes its place.
    pub(crate) fn lose_volume(&mut self) {
        self.broker = None;
        self.disk = Disk::new(self.disk.incarnation.0 + (1 << 8));
        self.copy = None;
        self.restored_after = None;
    }
}
