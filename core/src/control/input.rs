//! What the controller is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::control::desired::Desired;
use crate::control::effect::{Document, DocumentName, Revision};
use crate::control::table::TopicRecord;
use crate::control::view::Disk;
use crate::id::{ClusterId, Ordinal, PartitionKey, ReplicaId};
use crate::partition::Report;
use crate::term::Process;

/// Something happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// What is wished changed.
    Desired(Desired),
    /// All processes of brokers that can be seen (pods, or children of `fulmar dev`), instead of those before.
    Sightings(Vec<Sighting>),
    /// The answer to [`Effect::Load`](super::Effect::Load): every document of this Cluster, by a consistent read.
    Loaded {
        /// All that is stored.
        documents: Vec<(Document, Revision)>,
        /// The wall clock, in microseconds since 1970: a lower bound of the next tenure's number.
        clock_us: u64,
        /// A random number that the next tenure's is raised by: two operators that know the same, with clocks that show the same,
        /// do not get one number. As microseconds it is less than 66 ms, so tenures do not run ahead of clocks.
        salt: u16,
    },
    /// The load failed; the controller asks again after a while.
    LoadFailed(String),
    /// Every document of this Cluster that a watch of the ledger shows, instead of those before. It may be late; what it shows only
    /// makes the controller read. A shell without a watch never says it.
    Shown(BTreeMap<DocumentName, Revision>),
    /// A [`Effect::Write`](super::Effect::Write) is stored.
    Written {
        /// Which document.
        name: DocumentName,
        /// What it is now.
        revision: Revision,
    },
    /// A [`Effect::Write`](super::Effect::Write) failed.
    WriteFailed {
        /// Which document.
        name: DocumentName,
        /// How.
        failure: WriteFailure,
    },
    /// A broker answered the hello of the stream that was asked for last.
    Answered {
        /// Whom the stream was for.
        ordinal: Ordinal,
        /// Its hello.
        hello: Hello,
    },
    /// The broker's hello does not fit: another protocol, or not a hello. `message` says what.
    Unfit {
        /// Whom the stream was for.
        ordinal: Ordinal,
        /// For a person.
        message: String,
    },
    /// The stream ended, or could not be opened. The shell tries again by itself.
    Lost {
        /// Whom the stream was for.
        ordinal: Ordinal,
        /// The dial was refused: nobody listens at that address.
        refused: bool,
    },
    /// The broker holds this page durably and acts by it.
    Held {
        /// Who.
        ordinal: Ordinal,
        /// What.
        page: HeldPage,
    },
    /// Reports of replicas.
    Reports {
        /// Who.
        ordinal: Ordinal,
        /// The ask that is answered, 0 if none.
        request: u64,
        /// The tenure that asked.
        controller_epoch: u64,
        /// One for each replica, or for each that changed.
        reports: Vec<(PartitionKey, Report)>,
        /// Topics of the pages that the broker holds.
        topics: Vec<TopicRecord>,
        /// The last part of an answer: what was not reported by now is not on the volume.
        complete: bool,
    },
    /// A broker lives.
    Heartbeat {
        /// Who.
        ordinal: Ordinal,
        /// The rounds of its storage loop. While they stand still its disk hangs.
        storage_rounds: u64,
    },
    /// Which certificates a broker uses.
    Certificates {
        /// Who says it.
        ordinal: Ordinal,
        /// Its name for them; opaque.
        worn: String,
    },
    /// How full a broker's volume is. Said when a stream begins and when it changes.
    Disk {
        /// Who says it.
        ordinal: Ordinal,
        /// What it says.
        disk: Disk,
    },
    /// Whom a broker hears by gossip. Said when a stream begins and when it changes; each heartbeat says that it still is so.
    Gossip {
        /// Who says it.
        ordinal: Ordinal,
        /// Whom it hears.
        alive: Vec<Ordinal>,
    },
    /// With whom a broker is connected, so that their replicas can talk. Said when a stream begins and when it changes.
    Links {
        /// Who says it.
        ordinal: Ordinal,
        /// The brokers at the other ends.
        linked: Vec<Ordinal>,
    },
    /// The broker was told to stop: its leaders are to be moved away.
    Stopping(Ordinal),
    /// Random numbers of 128 bits, unique for ever (UUIDs), for things to be minted.
    Ids(Vec<u128>),
    /// Time passes; at least every 100 ms.
    Tick,
}

/// A process of a broker that can be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Which broker it is meant to be.
    pub ordinal: Ordinal,
    /// Where it listens to other brokers and the operator.
    pub internal: SocketAddr,
    /// `host:port` where programs reach it.
    pub client: String,
    /// Where it runs, if known.
    pub zone: Option<String>,
    /// The uid of the claim behind its volume; empty: not known.
    pub volume_uid: String,
    /// Its container runs, as far as is known; false only if it is known to have ended.
    pub running: bool,
}

/// Why a write failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteFailure {
    /// The document is not at the expected revision: somebody else wrote it.
    Conflict,
    /// It may or may not be stored, now or later.
    OutcomeUnknown,
    /// Not stored; trying again may help.
    Unavailable(String),
    /// Not stored, and trying again does not help until a person does something.
    Refused(String),
}

/// What a broker says of itself when a stream opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Whose its volume is; nothing: it was not told yet.
    pub cluster_id: Option<ClusterId>,
    /// Who it is.
    pub replica: ReplicaId,
    /// The processes of its volume, oldest first: the last one speaks. Never empty.
    pub processes: Vec<Process>,
    /// The highest tenure that it has seen.
    pub controller_epoch: u64,
    /// The pages that it holds.
    pub pages: Vec<HeldPage>,
    /// Its volume holds replicas or tombstones.
    pub has_replicas: bool,
    /// The software's version.
    pub version: String,
    /// Nothing is kept on its volume beside its replicas: no log that was set aside before this process, and nothing of a volume that it
    /// is a copy of. An earlier version does not say so.
    pub nothing_aside: bool,
}

/// A page on a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldPage {
    /// Its number.
    pub number: u32,
    /// The tenure that wrote it.
    pub controller_epoch: u64,
    /// Which of that tenure's writes, from 1.
    pub revision: u64,
}
