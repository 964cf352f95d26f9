//! What people are told: a projection of what the controller knows, from which statuses are written. Nothing depends on it.

use std::collections::BTreeMap;

use crate::control::losses::LossWord;
use crate::id::{ClusterId, Incarnation, Ordinal, TopicId};
use crate::offset::Offset;
use crate::term::Epoch;

/// What is known of one Cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// Its identity, once there is one.
    pub cluster_id: Option<ClusterId>,
    /// The tenure; 0 before it is taken.
    pub controller_epoch: u64,
    /// Every broker that is wished or was seen, by ordinal.
    pub brokers: Vec<BrokerView>,
    /// Every wished topic, by name, and every one that is being deleted.
    pub topics: BTreeMap<String, TopicView>,
    /// Names of topics that nobody wishes and whose data is kept.
    pub retained: Vec<String>,
    /// How many brokers were wished when this was so.
    pub wished: u16,
    /// The fewest brokers that can hold all replicas: as many as the partition with most of them has; 0 without replicas.
    pub min_brokers: u16,
    /// The fewest brokers that hold all replicas now: one above the highest ordinal that holds one, or may; 0 without replicas.
    pub holding: u16,
    /// One above the highest ordinal that the table names, for a partition that it is to hold; 0 without replicas.
    pub named: u16,
    /// Brokers that are not wished any more and that the table names for nothing, but that do not answer, and may hold a topic
    /// that is being deleted, or what an older copy of the table does not know.
    pub unheard: Vec<Ordinal>,
    /// Who carries replicas is other than it was when moves were planned last, or they never were: what is said of them is not
    /// the last word.
    pub unplanned: bool,
    /// How far replicas are on their way between brokers; nothing while all are where they should be.
    pub moving: Option<Moving>,
    /// Partitions with fewer replicas in sync than they have.
    pub under_replicated: u32,
    /// Partitions that are led by another than their preferred leader, which is well and will get them back.
    pub away: u32,
    /// Names of [`Desired::deleted`](super::Desired::deleted) of which nothing is left, on any volume.
    pub deleted: Vec<String>,
    /// What the controller as a whole waits for, or why it has halted; nothing while it works.
    pub waiting: Option<Waiting>,
}

/// Replicas on their way between brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moving {
    /// So many have arrived, since this controller began or all were last where they should be.
    pub done: u32,
    /// Of about so many.
    pub total: u32,
    /// So many were begun, and neither have arrived nor were given up.
    pub under_way: u32,
    /// No other ones are begun, by a person's wish.
    pub is_paused: bool,
}

/// Why nothing can be decided for the whole Cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// In CamelCase, for a condition.
    pub reason: &'static str,
    /// For a person, with the names in it.
    pub message: String,
    /// It will not pass by waiting: a person must look.
    pub halted: bool,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerView {
    /// Which.
    pub ordinal: Ordinal,
    /// Its volume's life, once it told.
    pub incarnation: Option<Incarnation>,
    /// Where it runs, if known.
    pub zone: Option<String>,
    /// How it is.
    pub state: BrokerState,
    /// How many replicas the table gives it.
    pub replicas: u32,
    /// It answers, and said in this tenure that its volume holds nothing that anybody could want: no replica, whether the table knows of
    /// it or not, and no log that was set aside.
    pub is_empty: bool,
    /// More about it, for people; empty if there is nothing to say.
    pub message: String,
    /// The certificates that it uses, as it calls them; empty: not known.
    pub certificates: String,
    /// How full its volume is, as it said last; nothing: it never said.
    pub disk: Option<Disk>,
}

/// How full a broker's volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// The size of its file system.
    pub total_bytes: u64,
    /// How much of it is taken, 0 to 100. Whole, so that a volume that fills up is not news with each record.
    pub used_percent: u8,
    /// Partitions that are led there take no records.
    pub is_full: bool,
}

/// A volume that has so much left, or so much of itself, gets replicas. With less it would soon take no records of those that it has: a
/// broker keeps back an eighth of a small volume and 512 MiB of a large one.
const ROOM_BYTES: u64 = 2 << 30;
const ROOM_PERCENT: u8 = 15;

impl Disk {
    /// Whether replicas may move to it.
    pub fn takes_replicas(self) -> bool {
        let free_percent = 100_u8.saturating_sub(self.used_percent);
        let free_bytes = self.total_bytes / 100 * u64::from(free_percent);
        !self.is_full && (free_percent > ROOM_PERCENT || free_bytes >= ROOM_BYTES)
    }
}

/// How a broker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerState {
    /// Wished, and no process of it was seen.
    Absent,
    /// A process was seen, and has not passed the handshake.
    Connecting,
    /// It answers.
    Serving,
    /// It was told to stop.
    Stopping,
    /// It does not answer any more; its partitions get other leaders.
    Dead,
    /// The handshake was refused: `message` says why.
    Refused,
}

impl BrokerState {
    /// Its name in statuses.
    pub fn name(self) -> &'static str {
        match self {
            BrokerState::Absent => "Absent",
            BrokerState::Connecting => "Connecting",
            BrokerState::Serving => "Serving",
            BrokerState::Stopping => "Stopping",
            BrokerState::Dead => "Dead",
            BrokerState::Refused => "Refused",
        }
    }
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its identity, once it has one.
    pub id: Option<TopicId>,
    /// Replicas of each partition; 0 before that is decided.
    pub replication_factor: u8,
    /// Durable on so many replicas means acknowledged; 0 before that is decided.
    pub ack_quorum: u8,
    /// Its partitions, from 0; those that no decision exists for are absent from the end.
    pub partitions: Vec<PartitionView>,
    /// Each wished partition has a leader that opened its term under the decision that holds now, with enough replicas in
    /// sync to commit; and every broker that serves knows the topic as it is now.
    pub ready: bool,
    /// In CamelCase, for the condition.
    pub reason: &'static str,
    /// For a person, with the names in it.
    pub message: String,
    /// Partitions with fewer replicas in sync than they are to have.
    pub under_replicated: u32,
    /// Partitions that a replica is missing of for good, and not for a while: its volume is lost, and none has taken its place yet.
    pub bereft: u32,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// Who is to lead.
    pub leader: Option<Ordinal>,
    /// Who holds it, the preferred leader first.
    pub replicas: Vec<Ordinal>,
    /// Who holds all that is committed, as the leader last said.
    pub in_sync: Vec<Ordinal>,
    /// The leader opened its term under the decision that holds now, and can commit.
    pub serving: bool,
    /// The decision that holds now.
    pub epoch: Epoch,
    /// The leader opened its term without a quorum that is sure of its logs: records from here on may have been lost.
    pub may_have_lost: Option<Offset>,
    /// Nothing but a person's word can help it.
    pub stuck: Option<Stuck>,
}

/// What a person is told of a partition that cannot be opened without a loss.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// The word that lets it go on with what is left; nothing if that would not help either.
    pub word: Option<LossWord>,
    /// Who is missing, what the others have, and what stands in the way.
    pub message: String,
}

/// Something worth an Event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlEvent {
    /// Whether a person should look.
    pub kind: EventKind,
    /// In CamelCase.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
    /// The name of the topic that it is about, if it is about one.
    pub topic: Option<String>,
}

/// The two kinds that Kubernetes has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// As it should be.
    Normal,
    /// A person may want to look.
    Warning,
}
