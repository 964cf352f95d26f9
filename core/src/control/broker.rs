//! What is known of one broker, from its stream and from what others see.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::control::effect::Greeting;
use crate::control::input::Hello;
use crate::control::view::Disk;
use crate::id::{Incarnation, Ordinal, PartitionKey, ReplicaId};
use crate::partition::{PromiseKind, Report};
use crate::term::Process;

/// One broker.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "observations that are independent of each other")]
pub(super) struct Broker {
    /// Where a stream to it is kept, and what it opens with.
    pub(super) attended: Option<(SocketAddr, Greeting)>,
    /// The stream is open, and this was answered.
    pub(super) hello: Option<Hello>,
    /// Its process is in the persisted root: it takes part.
    pub(super) accepted: bool,
    /// Why its handshake was refused; stands until another process answers or its sighting changes.
    pub(super) refused: Option<String>,
    /// The first refusal of a series, and when people were last told: it is dialled again and again, and refused each time.
    pub(super) refusal: Option<(String, Duration)>,
    /// Its volume was restored from a copy: the greeting tells it so.
    pub(super) restored: bool,
    /// The volume that answered is lost for ever: the greeting tells it so.
    pub(super) lost: Option<Incarnation>,
    /// Where it ran when it was last seen. A pod that is made anew is seen nowhere for a while, and its volume stays where it is.
    pub(super) zone: Option<String>,
    /// Since when it is known of.
    pub(super) known_since: Duration,
    /// When it last said anything on its stream.
    pub(super) heard_at: Duration,
    /// Its storage loop's rounds, and when they last moved.
    pub(super) rounds: (u64, Duration),
    /// The certificates that it uses, as it calls them; empty: it did not say.
    pub(super) certificates: String,
    /// How full its volume is, as it said last, on this stream or one before: who stopped over a full disk still has one.
    pub(super) disk: Option<Disk>,
    /// Whom it hears by gossip: what it said of it on this stream holds until it says otherwise, while heartbeats come.
    pub(super) hears: BTreeSet<Ordinal>,
    /// With whom it said on this stream that it is connected; nothing: it did not say.
    pub(super) linked: Option<BTreeSet<Ordinal>>,
    /// When its last heartbeat came.
    pub(super) beat_at: Duration,
    /// Nobody listens at its address.
    pub(super) dial_refused: bool,
    /// It was told to stop.
    pub(super) stopping: bool,
    /// It took part before: its death and its return are news.
    pub(super) served: bool,
    /// It is dead, since then.
    pub(super) dead_since: Option<Duration>,
    /// It fell silent, and since more than half did, it is being asked again.
    pub(super) suspected_since: Option<Duration>,
    /// The ask under way or answered last.
    pub(super) request: u64,
    /// When this stream's ask was answered completely.
    pub(super) answered_at: Option<Duration>,
    /// The last tenure that it told all that it holds, on whatever stream; 0: none.
    pub(super) told_all_to: u64,
    /// What it reported on this stream.
    pub(super) reports: BTreeMap<PartitionKey, Report>,
    /// When it last opened a term, of any partition.
    pub(super) opened_at: Duration,
    /// Pages sent on this stream: the tenure's count of writes.
    pub(super) pushed: BTreeMap<u32, u64>,
    /// Pages that it holds, of this tenure.
    pub(super) held: BTreeMap<u32, u64>,
    /// The address book that it has, by its count.
    pub(super) book: u64,
}

impl Broker {
    /// A stream is gone, or another begins: everything bound to it goes.
    pub(super) fn detach(&mut self) {
        self.hello = None;
        self.accepted = false;
        self.answered_at = None;
        self.reports.clear();
        self.pushed.clear();
        self.held.clear();
        self.book = 0;
        self.certificates.clear();
        self.hears.clear();
        self.linked = None;
    }

    /// It takes part, as this replica.
    pub(super) fn replica(&self) -> Option<ReplicaId> {
        self.hello.as_ref().filter(|_| self.accepted).map(|hello| hello.replica)
    }

    /// The process that speaks.
    pub(super) fn process(&self) -> Option<Process> {
        self.hello.as_ref().and_then(|hello| hello.processes.last().copied())
    }

    /// It takes part, lives, and answered this tenure's ask: it can be given partitions.
    pub(super) fn is_serving(&self) -> bool {
        self.accepted && self.dead_since.is_none() && self.answered_at.is_some()
    }

    /// It takes part and told all that it holds, which is nothing but tombstones; nor was a log ever set aside on its volume.
    pub(super) fn is_empty(&self) -> bool {
        let holds =
            |report: &Report| report.promise.kind != PromiseKind::Tombstone || report.set_aside.is_some();
        let keeps_nothing = self.hello.as_ref().is_some_and(|hello| hello.nothing_aside);
        self.is_serving() && keeps_nothing && !self.reports.values().any(holds)
    }

    /// Its volume has room for more replicas, as far as it said.
    pub(super) fn has_room(&self) -> bool {
        self.disk.is_none_or(Disk::takes_replicas)
    }
}
