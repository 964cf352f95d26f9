//! Who a connection's other end is, and whether it is believed.
//!
//! Of two processes of one incarnation the higher session wins and everybody refuses the other. A volume that was restored
//! from a copy lacks a process that others have seen, and is refused however far its sessions climb.

use thiserror::Error;

use crate::id::{ClusterId, Incarnation, Ordinal, ReplicaId};
use crate::term::{Process, Session};

/// A volume remembers so many of its processes, and a hello carries no more: more restarts than happen between two
/// conversations of one pair of brokers, in 4 KiB.
pub const PROCESSES_MAX: usize = 256;

/// The protocol's versions that this build speaks. 2: batches may be compressed.
pub const PROTOCOL: ProtocolRange = ProtocolRange { min: 1, max: 2 };

/// Versions of the internal protocol, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolRange {
    /// The lowest that is spoken.
    pub min: u32,
    /// The highest.
    pub max: u32,
}

impl ProtocolRange {
    /// The highest version that both speak.
    pub fn common(self, other: ProtocolRange) -> Option<u32> {
        let version = self.max.min(other.max);
        (version >= self.min.max(other.min)).then_some(version)
    }
}

/// What a broker is: what its volume says, read when the process started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The Cluster. `None` for a volume that no operator has adopted yet; it talks to the operator only.
    pub cluster: Option<ClusterId>,
    /// The broker's number.
    pub ordinal: Ordinal,
    /// Its volume's life.
    pub incarnation: Incarnation,
    /// The processes that ran on the volume, oldest first, at most [`PROCESSES_MAX`]; the last one is this.
    pub processes: Vec<Process>,
}

impl Identity {
    /// As a replica.
    pub fn replica(&self) -> ReplicaId {
        ReplicaId { ordinal: self.ordinal, incarnation: self.incarnation }
    }

    /// This process; all zeros if the shell gave none, which nobody believes.
    pub fn process(&self) -> Process {
        self.processes.last().copied().unwrap_or_default()
    }

    /// What is said first on a connection to the broker `to`.
    pub fn hello(&self, to: Ordinal) -> Hello {
        Hello {
            cluster: self.cluster,
            ordinal: self.ordinal,
            incarnation: self.incarnation,
            processes: self.processes.clone(),
            protocol: PROTOCOL,
            to,
        }
    }
}

/// The first word on a connection between two brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The Cluster.
    pub cluster: Option<ClusterId>,
    /// Who speaks.
    pub ordinal: Ordinal,
    /// Its volume's life.
    pub incarnation: Incarnation,
    /// Its processes, oldest first; the last one speaks.
    pub processes: Vec<Process>,
    /// What it speaks.
    pub protocol: ProtocolRange,
    /// Whom it means to reach.
    pub to: Ordinal,
}

/// A hello that is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Who it is.
    pub peer: ReplicaId,
    /// Which process.
    pub process: Process,
    /// The version to speak.
    pub protocol: u32,
}

/// Why a hello is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HelloRefusal {
    /// Another Cluster's broker, or one that belongs to none yet.
    #[error("this broker belongs to cluster {ours:?}, the caller to {theirs:?}")]
    Cluster {
        /// Ours.
        ours: Option<ClusterId>,
        /// The caller's.
        theirs: Option<ClusterId>,
    },
    /// The caller means somebody else: an address was given to another pod.
    #[error("this is broker {ours}, the caller means {meant}")]
    Ordinal {
        /// Ours.
        ours: Ordinal,
        /// Whom it means.
        meant: Ordinal,
    },
    /// No version in common.
    #[error("no common protocol: {ours:?} here, {theirs:?} there")]
    Protocol {
        /// Ours.
        ours: ProtocolRange,
        /// The caller's.
        theirs: ProtocolRange,
    },
    /// The list of processes is empty, too long, or its sessions do not rise.
    #[error("the hello's list of processes has 1 to {PROCESSES_MAX} lines with rising sessions from 1")]
    Processes,
    /// The caller's volume is a copy of ours, or it is ourselves.
    #[error("the caller has our own incarnation {0}")]
    OurOwn(Incarnation),
    /// A later process of that volume is known, or another one with that session: the caller is a second process, or runs on
    /// a volume that was restored from a copy. It finds out by [`conclude`].
    #[error("process {seen:?} of that volume was seen, which the caller's list does not end with or lacks")]
    UnknownProcess {
        /// The last one seen.
        seen: Process,
    },
}

pub(super) fn check(ours: &Identity, hello: &Hello) -> Result<Accepted, HelloRefusal> {
    if ours.cluster.is_none() || ours.cluster != hello.cluster {
        return Err(HelloRefusal::Cluster { ours: ours.cluster, theirs: hello.cluster });
    }
    if hello.to != ours.ordinal {
        return Err(HelloRefusal::Ordinal { ours: ours.ordinal, meant: hello.to });
    }
    let protocol = PROTOCOL.common(hello.protocol);
    let protocol = protocol.ok_or(HelloRefusal::Protocol { ours: PROTOCOL, theirs: hello.protocol })?;
    if hello.incarnation == ours.incarnation {
        return Err(HelloRefusal::OurOwn(ours.incarnation));
    }
    let rises = hello.processes.windows(2).all(|pair| pair[0].session < pair[1].session)
        && hello.processes.first().is_some_and(|first| first.session > Session(0));
    let last = hello.processes.last().copied().filter(|_| rises && hello.processes.len() <= PROCESSES_MAX);
    let process = last.ok_or(HelloRefusal::Processes)?;
    let peer = ReplicaId { ordinal: hello.ordinal, incarnation: hello.incarnation };
    Ok(Accepted { peer, process, protocol })
}

/// Whether a list of processes continues after `seen`: it has that very process and nothing is later here than there.
pub(super) fn continues(processes: &[Process], seen: Process) -> bool {
    // A list that has grown past its bound begins later than what was seen so long ago; nothing speaks against it.
    let is_past = processes.len() >= PROCESSES_MAX && processes[0].session > seen.session;
    is_past || processes.contains(&seen)
}

/// What a refused process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conclusion {
    /// Another process runs on this volume. Exit, and touch nothing: the volume lives.
    SecondProcess,
    /// The volume was restored from a copy. Mark that durably, then become a new incarnation; never wipe: it may be alive
    /// under another process.
    Restored,
}

/// What a process that was refused with [`HelloRefusal::UnknownProcess`] is. `volume` is its volume's list of processes, *read
/// again* now.
pub fn conclude(seen: Process, volume: &[Process]) -> Conclusion {
    if continues(volume, seen) { Conclusion::SecondProcess } else { Conclusion::Restored }
}

/// What the operator's memory of this incarnation's last session says about this process; `None`: nothing is wrong.
/// `volume` is the volume's list of processes, read again now.
pub fn conclude_from_operator(
    ours: &Identity,
    remembered: (Incarnation, Session),
    volume: &[Process],
) -> Option<Conclusion> {
    let (incarnation, session) = remembered;
    if incarnation != ours.incarnation || session <= ours.process().session {
        return None;
    }
    let is_there = volume.iter().any(|process| process.session >= session);
    Some(if is_there { Conclusion::SecondProcess } else { Conclusion::Restored })
}
