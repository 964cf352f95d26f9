//! The replicas on this broker: the actor that steps them and carries their effects out, the streams to peers, and the
//! handles that servers use.
//!
//! Owns the order of inputs and effects. Never decides (that is `core`), and never waits for a slow program or peer.

mod actor;
mod doorkeeper;
mod link;
pub mod peers;
mod retention;
mod room;
mod scrub;
mod ship;
mod state;
mod tell;
pub mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fulmar_core::batch::{BATCH_BYTES_MAX, Batch, ProducedBatch};
use fulmar_core::broker::{Accepted, Broker, Hello, HelloRefusal, Identity};
use fulmar_core::entry::Entry;
use fulmar_core::id::{ClusterId, PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{self, Message, Refusal, Report};
use fulmar_core::term::Epoch;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use self::actor::Actor;
pub use self::link::{Link, LinkNumber, Outbox};
pub use self::retention::retain;
pub use self::room::tell_fullness;
pub use self::scrub::scrub;
pub use self::state::{State, States};
use crate::memory::{Budget, Shares, keep};
use crate::storage::{ReadError, Storage, StorageEvent};
use crate::traces::Publishing;

/// Inputs that wait for the actor; beyond it, whoever brings one waits. A turn takes them all.
const MAILBOX_MAX: usize = 1024;

/// Messages of peers that wait for the actor: few, as each may carry some megabytes. Beyond it their sockets wait.
const SAID_MAX: usize = 8;

/// Something for the actor, heard whatever the storage does.
#[derive(Debug)]
pub(crate) enum Command {
    /// Decisions of the operator.
    Assign(Vec<Entry>),
    /// A replica was left behind.
    Release(PartitionKey, Epoch),
    /// A planned move begins.
    StopAppends(PartitionKey),
    /// The operator told an empty volume its Cluster, and the volume has stored it.
    Adopt(ClusterId),
    /// The operator's stream stands, or is gone.
    Operator(bool),
    /// Retention may go so far.
    Retain(PartitionKey, Offset),
    /// Somebody read a batch that is damaged, or whose place is empty.
    Unreadable(PartitionKey, Offset),
    /// Judge a peer's hello.
    Hear(Box<Hello>, oneshot::Sender<Result<Accepted, HelloRefusal>>),
    /// A peer passed both handshakes.
    LinkUp(Box<Link>),
    /// Its connection ended.
    LinkDown(ReplicaId, LinkNumber),
    /// A read from the disk for a peer is done, and handed over.
    Shipped(PartitionKey, LinkNumber, Box<partition::Input>),
    /// All reports, as of now.
    Reports(oneshot::Sender<Vec<(PartitionKey, Report)>>),
    /// The reports that changed since the last asking.
    Changed(oneshot::Sender<Vec<(PartitionKey, Report)>>),
}

/// What a peer's replicas said, on its way to the actor.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) from: ReplicaId,
    pub(crate) link: LinkNumber,
    pub(crate) messages: Vec<(PartitionKey, Message)>,
}

/// A publish on its way to the actor.
#[derive(Debug)]
pub(crate) struct Publish {
    key: PartitionKey,
    batch: ProducedBatch,
    answer: oneshot::Sender<Result<Offset, Refusal>>,
    /// Memory that it takes until the storage has it.
    admission: Option<OwnedSemaphorePermit>,
    /// Its sampled records, if there are any: they are told when what is done.
    traced: Option<Arc<Publishing>>,
}

/// What the actor is started with.
#[derive(Debug)]
pub struct Start {
    /// The replicas that the volume holds.
    pub broker: Broker,
    /// The volume.
    pub storage: Storage,
    /// What the volume tells; its sender was given to [`Storage::open`].
    pub events: mpsc::UnboundedReceiver<StorageEvent>,
    /// Memory.
    pub shares: Shares,
}

/// What servers and tasks hold of the replicas; a handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Replicas {
    commands: mpsc::Sender<Command>,
    publishes: mpsc::Sender<Publish>,
    said: mpsc::Sender<Said>,
    states: States,
    storage: Storage,
    identity: Arc<Identity>,
    publish_bytes: Budget,
    read_bytes: Budget,
    /// Rises when a report changed.
    changes: watch::Receiver<u64>,
    wanted: watch::Receiver<BTreeSet<ReplicaId>>,
}

/// The actor has ended, and with it the process is about to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the broker is stopping")]
pub struct Stopped;

/// What became of a publish.
pub type Answer = oneshot::Receiver<Result<Offset, Refusal>>;

/// How long a publish waits for memory before it is refused as too much.
const ADMISSION_MAX: Duration = Duration::from_secs(5);

impl Replicas {
    /// This broker in this life.
    pub fn me(&self) -> ReplicaId {
        self.identity.replica()
    }

    /// What the volume said at the start; the Cluster may have been told since.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whom this broker shares partitions with.
    pub fn wanted(&self) -> watch::Receiver<BTreeSet<ReplicaId>> {
        self.wanted.clone()
    }

    /// The states that readers watch.
    pub fn states(&self) -> &States {
        &self.states
    }

    /// The storage, for reads.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Rises when something changed that the operator is told.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Waits for room for so many bytes of publishes; `None` if there was none for [`ADMISSION_MAX`].
    pub async fn admit(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        tokio::time::timeout(ADMISSION_MAX, self.publish_bytes.take(bytes)).await.ok()
    }

    /// Hands a publish to the actor; its answer comes when it is committed or failed. Calls of one task are appended in
    /// their order.
    pub async fn produce(
        &self,
        key: PartitionKey,
        batch: ProducedBatch,
        admission: Option<OwnedSemaphorePermit>,
        traced: Option<Arc<Publishing>>,
    ) -> Result<Answer, Stopped> {
        let (answer, answered) = oneshot::channel();
        if let Some(traced) = &traced {
            traced.handed();
        }
        let publish = Publish { key, batch, answer, admission, traced };
        self.publishes.send(publish).await.map_err(|_| Stopped)?;
        Ok(answered)
    }

    /// Whole batches from the one that holds `from`, below `until`, of about `bytes_max`, but one at least: from memory, or
    /// from the disk on a thread that may wait. What came from the disk counts against the memory for reads until the
    /// returned permit is dropped. A damaged batch is reported to its replica, which asks the others for a copy.
    pub async fn read(
        &self,
        key: PartitionKey,
        from: Offset,
        until: Offset,
        bytes_max: usize,
    ) -> Result<(Vec<Batch>, Option<OwnedSemaphorePermit>), ReadError> {
        if let Some(batches) = self.storage.read_hot(key, from, until, bytes_max) {
            return Ok((batches, None));
        }
        // Readers of old records take turns; nobody else waits for them. How large the next batch is shows when it is read.
        let held = self.read_bytes.take(bytes_max.max(BATCH_BYTES_MAX)).await;
        let storage = self.storage.clone();
        // A read that nobody waits for any more goes on, and so does what it holds.
        let reading =
            tokio::task::spawn_blocking(move || (storage.read(key, from, until, bytes_max), held)).await;
        let (read, mut held) = reading.map_err(|_| ReadError::Failed("the read was cancelled".to_owned()))?;
        if let Err(ReadError::Rotten { base, .. }) = &read {
            self.found_damaged(key, *base).await;
        }
        let batches = read?;
        keep(&mut held, batches.iter().map(Batch::size).sum());
        Ok((batches, Some(held)))
    }

    /// Tells the replica that a read met a damaged batch. Telling it twice does no harm.
    pub async fn found_damaged(&self, key: PartitionKey, offset: Offset) {
        // Fails only when the actor has ended.
        let _stopped = self.send(Command::Unreadable(key, offset)).await;
    }

    /// All reports, for an asking operator.
    pub async fn reports(&self) -> Result<Vec<(PartitionKey, Report)>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Reports(answer)).await?;
        answered.await.map_err(|_| Stopped)
    }

    /// The reports that changed since the last call.
    pub async fn changed_reports(&self) -> Result<Vec<(PartitionKey, Report)>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Changed(answer)).await?;
        answered.await.map_err(|_| Stopped)
    }

    pub(crate) async fn hear(&self, said: Said) -> Result<(), Stopped> {
        self.said.send(said).await.map_err(|_| Stopped)
    }

    pub(crate) async fn send(&self, command: Command) -> Result<(), Stopped> {
        self.commands.send(command).await.map_err(|_| Stopped)
    }
}

/// Starts the actor. The returned task ends with the reason if the storage fails: then the process must end at once.
pub fn start(start: Start) -> (Replicas, JoinHandle<Result<(), String>>) {
    let (commands, command_box) = mpsc::channel(MAILBOX_MAX);
    let (publishes, publish_box) = mpsc::channel(MAILBOX_MAX);
    let (said, said_box) = mpsc::channel(SAID_MAX);
    let (tell_changed, changes) = watch::channel(0);
    let (want, wanted) = watch::channel(BTreeSet::new());
    let states = States::default();
    let identity = start.broker.identity().clone();
    let replicas = Replicas {
        commands: commands.clone(),
        publishes,
        said,
        states: states.clone(),
        storage: start.storage.clone(),
        identity: Arc::new(identity),
        publish_bytes: Budget::new(start.shares.publishes),
        read_bytes: Budget::new(start.shares.reads),
        changes,
        wanted,
    };
    let boxes = actor::Mailboxes {
        commands: command_box,
        publishes: publish_box,
        said: said_box,
        events: start.events,
    };
    let shipper = ship::Shipper::new(start.storage.clone(), commands.downgrade());
    let actor = Actor::new(
        start.broker,
        boxes,
        start.storage,
        shipper,
        states,
        actor::Tellings { changed: tell_changed, want },
    );
    (replicas, tokio::spawn(actor.run()))
}
