//! What the operator decided about one partition, and its one text form (in the table, on the wire, in opening records).

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::accepted_loss::AcceptedLoss;
use crate::id::{Incarnation, Ordinal, PartitionKey, ReplicaId};
use crate::term::{Epoch, Term};

/// At most so many replicas in one set: beyond it an acknowledgement costs more than it protects (the CRD says 7 too).
pub const REPLICAS_MAX: usize = 7;

/// The member of a partition whose topic was deleted: nobody. An entry of it is above every other one of its partition, no
/// broker is in it, so all of them accept its Release, and their tombstones tell a rebuilt table what happened.
pub const NOBODY: ReplicaId = ReplicaId { ordinal: Ordinal(u16::MAX), incarnation: Incarnation(0) };

/// Replicas of a partition with the quorum that an acknowledgement needs among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSet {
    replicas: Vec<ReplicaId>,
    ack_quorum: u8,
}

impl ReplicaSet {
    /// Checks: 1 to [`REPLICAS_MAX`] replicas, each once, on brokers of their own; 1 ≤ `ack_quorum` ≤ their number.
    pub fn new(replicas: Vec<ReplicaId>, ack_quorum: u8) -> Result<Self, InvalidEntry> {
        if replicas.is_empty() || replicas.len() > REPLICAS_MAX {
            return Err(InvalidEntry::Size(replicas.len()));
        }
        for (at, replica) in replicas.iter().enumerate() {
            if replicas[..at].iter().any(|other| other.ordinal == replica.ordinal) {
                return Err(InvalidEntry::Twice(*replica));
            }
        }
        if ack_quorum == 0 || usize::from(ack_quorum) > replicas.len() {
            return Err(InvalidEntry::Quorum { ack_quorum, replicas: replicas.len() });
        }
        Ok(Self { replicas, ack_quorum })
    }

    /// The replicas, the preferred leader first.
    pub fn replicas(&self) -> &[ReplicaId] {
        &self.replicas
    }

    /// Whether `replica` belongs to it.
    pub fn contains(&self, replica: ReplicaId) -> bool {
        self.replicas.contains(&replica)
    }

    /// Qa: on so many replicas a record must be durable to be acknowledged.
    pub fn ack_quorum(&self) -> usize {
        usize::from(self.ack_quorum)
    }

    /// Qo = size − Qa + 1: so many certain answers open a term. Every Qa-set meets every Qo-set (Howard, Malkhi,
    /// Spiegelman: Flexible Paxos, 2016).
    pub fn open_quorum(&self) -> usize {
        self.replicas.len() - self.ack_quorum() + 1
    }
}

/// The replica sets of an entry: one, or two while members change. In a joint entry both sets must give their quorum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// At rest.
    One(ReplicaSet),
    /// Between two sets.
    Joint {
        /// The set that is left.
        old: ReplicaSet,
        /// The set that is joined.
        new: ReplicaSet,
    },
}

impl Members {
    /// One or two sets.
    pub fn sets(&self) -> impl Iterator<Item = &ReplicaSet> {
        let (first, second) = match self {
            Members::One(set) => (set, None),
            Members::Joint { old, new } => (old, Some(new)),
        };
        std::iter::once(first).chain(second)
    }

    /// All members, each once, in a fixed order.
    pub fn replicas(&self) -> Vec<ReplicaId> {
        let mut all: Vec<ReplicaId> = self.sets().flat_map(|set| set.replicas().iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether `replica` belongs to any set.
    pub fn contains(&self, replica: ReplicaId) -> bool {
        self.sets().any(|set| set.contains(replica))
    }

    /// Whether those for whom `holds` is true are an ackQuorum of every set.
    pub fn acknowledged_by(&self, holds: impl Fn(ReplicaId) -> bool) -> bool {
        self.sets().all(|set| set.replicas().iter().filter(|r| holds(**r)).count() >= set.ack_quorum())
    }

    /// Whether those for whom `answered` is true are an open quorum of every set.
    pub fn opened_by(&self, answered: impl Fn(ReplicaId) -> bool) -> bool {
        self.sets().all(|set| set.replicas().iter().filter(|r| answered(**r)).count() >= set.open_quorum())
    }
}

/// What the operator decided about one partition. Every change raises the epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The partition.
    pub key: PartitionKey,
    /// Its place in the order of decisions.
    pub epoch: Epoch,
    /// Who opens the next term, a member; nobody while the operator waits for somebody.
    pub leader: Option<ReplicaId>,
    /// Who holds the records.
    pub members: Members,
    /// Replicas that are not members yet and catch up.
    pub learners: Vec<ReplicaId>,
    /// Members of the old set of a joint entry whose volume is lost for ever: they count towards its ackQuorum, never
    /// towards its open quorum, and are refused for ever. Without it a lost volume could not be replaced.
    pub lost: Vec<ReplicaId>,
    /// The last time that a person accepted a loss of records, at this decision or before.
    pub accepted_loss: Option<AcceptedLoss>,
}

impl Entry {
    /// Checks what the parts cannot: the leader is a member, a learner is none, not too many learners.
    pub fn checked(self) -> Result<Self, InvalidEntry> {
        if let Some(leader) = self.leader
            && !self.members.contains(leader)
        {
            return Err(InvalidEntry::ForeignLeader(leader));
        }
        if self.learners.len() > REPLICAS_MAX {
            return Err(InvalidEntry::Size(self.learners.len()));
        }
        if let Some(learner) = self.learners.iter().find(|learner| self.members.contains(**learner)) {
            return Err(InvalidEntry::Twice(*learner));
        }
        if let Some(accepted) = self.accepted_loss.filter(|accepted| accepted.epoch > self.epoch) {
            return Err(InvalidEntry::AcceptedLater(accepted.epoch));
        }
        for (at, lost) in self.lost.iter().enumerate() {
            let replaced = match &self.members {
                Members::One(_) => false,
                Members::Joint { old, new } => old.contains(*lost) && !new.contains(*lost),
            };
            if !replaced || self.leader == Some(*lost) || self.lost[..at].contains(lost) {
                return Err(InvalidEntry::Lost(*lost));
            }
        }
        Ok(self)
    }

    /// Whether those for whom `holds` is true, and who is lost for ever, are an ackQuorum of every set.
    pub fn acknowledged_by(&self, holds: impl Fn(ReplicaId) -> bool) -> bool {
        // A lost replica is in no set but the old one of a joint entry: `checked` saw to it.
        self.members.acknowledged_by(|replica| self.lost.contains(&replica) || holds(replica))
    }

    /// Whether those for whom `answered` is true are an open quorum of every set. Who is lost for ever never counts.
    pub fn opened_by(&self, answered: impl Fn(ReplicaId) -> bool) -> bool {
        self.members.opened_by(|replica| !self.lost.contains(&replica) && answered(replica))
    }

    /// Whether a person's word stands for exactly this decision: its first term needs no open quorum, and no other one ever.
    pub fn accepts_loss(&self) -> bool {
        self.accepted_loss.is_some_and(|accepted| accepted.epoch == self.epoch)
    }

    /// Whether a log that ends in this term was left behind by a loss that a person accepted: what it has and its leader has
    /// not is what was given up.
    pub fn gave_up(&self, last: Option<Term>) -> bool {
        self.accepted_loss.is_some_and(|accepted| last.is_some_and(|last| last.epoch < accepted.epoch))
    }

    /// Whether it says that its topic was deleted.
    pub fn is_deletion(&self) -> bool {
        self.members.contains(NOBODY)
    }

    /// Whether `replica` is a member or a learner.
    pub fn concerns(&self, replica: ReplicaId) -> bool {
        self.members.contains(replica) || self.learners.contains(&replica)
    }
}

/// Why a text or a set of parts is not an [`Entry`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidEntry {
    /// No replicas, or too many.
    #[error("a replica set has 1 to {REPLICAS_MAX} replicas, not {0}")]
    Size(usize),
    /// A replica, or its broker, is named twice.
    #[error("replica {0} or its broker is named twice")]
    Twice(ReplicaId),
    /// The quorum does not fit the set.
    #[error("ackQuorum {ack_quorum} of {replicas} replicas: it is from 1 to their number")]
    Quorum {
        /// What was given.
        ack_quorum: u8,
        /// The size of the set.
        replicas: usize,
    },
    /// The leader is not a member.
    #[error("leader {0} is not a member")]
    ForeignLeader(ReplicaId),
    /// A replica is called lost that is not one that a joint entry leaves behind.
    #[error(
        "lost replica {0} is not one that only the old set of a joint entry names, once, and that does not lead"
    )]
    Lost(ReplicaId),
    /// The accepted loss names a decision that comes later.
    #[error("a loss that was accepted in epoch {0} stands in an earlier decision")]
    AcceptedLater(Epoch),
    /// The text breaks the form.
    #[error("entry field {field}: {text:?} is not {wanted}")]
    Text {
        /// Which field.
        field: &'static str,
        /// What stood there, shortened.
        text: String,
        /// What may stand there.
        wanted: &'static str,
    },
}

impl fmt::Display for ReplicaSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}of", self.ack_quorum)?;
        for (at, replica) in self.replicas.iter().enumerate() {
            write!(f, "{}{replica}", if at == 0 { '[' } else { ',' })?;
        }
        f.write_str("]")
    }
}

/// `TOPIC/PARTITION epoch=G.C leader=REPLICA|none members=QofSET[+QofSET] [learners=REPLICA,…] [lost=REPLICA,…] [accepted=EPOCH@OFFSET]`
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} epoch={} leader=", self.key, self.epoch)?;
        match self.leader {
            Some(leader) => write!(f, "{leader}")?,
            None => f.write_str("none")?,
        }
        match &self.members {
            Members::One(set) => write!(f, " members={set}")?,
            Members::Joint { old, new } => write!(f, " members={old}+{new}")?,
        }
        for (at, learner) in self.learners.iter().enumerate() {
            write!(f, "{}{learner}", if at == 0 { " learners=" } else { "," })?;
        }
        for (at, lost) in self.lost.iter().enumerate() {
            write!(f, "{}{lost}", if at == 0 { " lost=" } else { "," })?;
        }
        if let Some(accepted) = self.accepted_loss {
            write!(f, " accepted={accepted}")?;
        }
        Ok(())
    }
}

fn text(field: &'static str, text: &str, wanted: &'static str) -> InvalidEntry {
    InvalidEntry::Text { field, text: text.chars().take(64).collect(), wanted }
}

fn parse_replicas(field: &'static str, list: &str) -> Result<Vec<ReplicaId>, InvalidEntry> {
    list.split(',').map(|one| one.parse().map_err(|_| text(field, one, "ORDINAL:INCARNATION"))).collect()
}

impl FromStr for ReplicaSet {
    type Err = InvalidEntry;
    fn from_str(line: &str) -> Result<Self, InvalidEntry> {
        let wanted = "QofREPLICAS, such as 2of[0:…,1:…,2:…]";
        let invalid = || text("members", line, wanted);
        let (quorum, list) = line.split_once("of[").ok_or_else(invalid)?;
        let list = list.strip_suffix(']').ok_or_else(invalid)?;
        ReplicaSet::new(parse_replicas("members", list)?, quorum.parse().map_err(|_| invalid())?)
    }
}

impl FromStr for PartitionKey {
    type Err = InvalidEntry;
    fn from_str(key: &str) -> Result<Self, InvalidEntry> {
        let invalid = || text("partition", key, "TOPIC-ID/PARTITION");
        let (topic, partition) = key.split_once('/').ok_or_else(invalid)?;
        Ok(Self {
            topic: topic.parse().map_err(|_| invalid())?,
            partition: partition.parse().map_err(|_| invalid())?,
        })
    }
}

impl FromStr for Entry {
    type Err = InvalidEntry;
    fn from_str(line: &str) -> Result<Self, InvalidEntry> {
        let mut words = line.split(' ');
        let key = words.next().unwrap_or_default().parse()?;
        let mut named = |field: &'static str| {
            let word = words.next().unwrap_or_default();
            match word.split_once('=') {
                Some((name, value)) if name == field => Ok(value),
                _ => Err(text(field, word, "FIELD=VALUE in its place")),
            }
        };
        let epoch = named("epoch")?;
        let epoch = epoch.parse().map_err(|_| text("epoch", epoch, "GENERATION.COUNTER"))?;
        let leader = match named("leader")? {
            "none" => None,
            one => Some(one.parse().map_err(|_| text("leader", one, "ORDINAL:INCARNATION or none"))?),
        };
        let members = named("members")?;
        let members = match members.split_once('+') {
            None => Members::One(members.parse()?),
            Some((old, new)) => Members::Joint { old: old.parse()?, new: new.parse()? },
        };
        let mut words = words.peekable();
        let mut optional = |field: &'static str| {
            let list = words.peek().and_then(|word| word.strip_prefix(field)?.strip_prefix('='));
            let Some(list) = list else { return Ok(Vec::new()) };
            words.next();
            parse_replicas(field, list)
        };
        let learners = optional("learners")?;
        let lost = optional("lost")?;
        let accepted = words.peek().and_then(|word| word.strip_prefix("accepted="));
        let accepted_loss = match accepted {
            None => None,
            Some(one) => {
                words.next();
                Some(one.parse().map_err(|_| text("accepted", one, "EPOCH@OFFSET"))?)
            }
        };
        if let Some(word) = words.next() {
            let wanted =
                "learners=REPLICA,…, lost=REPLICA,… or accepted=EPOCH@OFFSET, or the end of the line";
            return Err(text("end", word, wanted));
        }
        Entry { key, epoch, leader, members, learners, lost, accepted_loss }.checked()
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
