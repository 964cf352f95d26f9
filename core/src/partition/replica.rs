//! The replica itself: what it remembers, and which handler takes which input.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::follow::Following;
use super::lead::Leading;
use super::log::Log;
use super::open::Opening;
use super::publish::Publishes;
use super::repair::Repairs;
use super::{
    Effect, Input, InvalidProducers, Message, ProducerTable, Promise, PromiseKind, Recovered, Refusal, Write,
    WriteSeq,
};
use crate::entry::Entry;
use crate::id::{PartitionKey, ReplicaId};
use crate::offset::Offset;
use crate::term::{Process, Term};

/// Time, given by the shell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Since the shell started; never goes back.
    pub since_start: Duration,
    /// The wall clock, milliseconds since 1970. Only append times come from it.
    pub clock_ms: u64,
}

/// One replica of one partition.
#[derive(Debug)]
pub struct Replica {
    pub(super) me: ReplicaId,
    pub(super) process: Process,
    pub(super) key: PartitionKey,
    pub(super) promise: Promise,
    pub(super) promise_seq: WriteSeq,
    pub(super) log: Log,
    /// The largest offset that is known to be committed; below it nothing is ever cut.
    pub(super) high_watermark: Offset,
    pub(super) uncertain: bool,
    pub(super) role: Role,
    /// Connected processes of other replicas of this partition, as the shell tells.
    pub(super) peers: BTreeMap<ReplicaId, Process>,
    /// A member or the operator was heard since the start.
    pub(super) confirmed: bool,
    pub(super) publishes: Publishes,
    pub(super) may_have_lost: Option<Offset>,
    /// What was set aside last: from here, to here.
    pub(super) set_aside: Option<(Offset, Offset)>,
    /// Damaged batches of the log.
    pub(super) repairs: Repairs,
    pub(super) in_sync: Vec<ReplicaId>,
    pub(super) caught_up_seen: Vec<ReplicaId>,
    pub(super) whole_seen: Vec<ReplicaId>,
    /// The high watermark that the operator was told, and when.
    pub(super) watermark_told: (Offset, Duration),
    /// What the operator was told of damage: the first place that cannot be read, and the first that cannot be had.
    pub(super) damage_told: (Option<Offset>, Option<Offset>),
    life: Life,
    written: WriteSeq,
    synced: WriteSeq,
    parked: VecDeque<(WriteSeq, Parked)>,
    effects: Vec<Effect>,
}

#[derive(Debug)]
enum Life {
    /// Not stepped yet. A process ended between a tombstone and the release of its records: they are still to go.
    Fresh {
        release_is_due: bool,
    },
    Started,
}

/// What a replica does now.
#[derive(Debug)]
pub(super) enum Role {
    /// It waits for a leader, or for the operator.
    Idle,
    /// It leads as soon as enough have promised.
    Opening(Opening),
    /// It leads.
    Leading(Leading),
    /// It promised a leader's term.
    Following(Following),
    /// Something impossible happened. It says and stores nothing any more, and keeps everything.
    Halted(String),
}

/// What waits for a write to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parked {
    /// Our own promise to lead this term.
    Fences(Term),
    /// The answer to a fence.
    Promised { to: ReplicaId, term: Term },
    /// The answer to an attach.
    Attached { to: ReplicaId, term: Term },
    /// The uncertain mark is off the disk.
    Certain,
    /// A damaged batch's copy, up to this offset, is in its place.
    Mended { from: Offset, until: Offset },
    /// What the operator is told is stored.
    Report,
}

impl Replica {
    /// A replica as its volume left it. Says nothing before its first [`step`](Self::step).
    ///
    /// Refuses a producers' snapshot that does not parse.
    pub fn new(
        me: ReplicaId,
        process: Process,
        key: PartitionKey,
        recovered: Recovered,
    ) -> Result<Self, InvalidProducers> {
        let release_is_due =
            recovered.promise.kind == PromiseKind::Tombstone && recovered.log_end > Offset::ZERO;
        // The process ended between a tombstone and the release of its records.
        let recovered = if release_is_due { recovered.without_log() } else { recovered };
        let Recovered { promise, vector, log_start, log_end, high_watermark, append_time_ms, .. } = recovered;
        let producers = ProducerTable::decode(&recovered.producers)?;
        // An end below what was known to be committed: storage stepped back.
        let stepped_back = log_end < high_watermark;
        Ok(Self {
            me,
            process,
            key,
            promise,
            promise_seq: WriteSeq(0),
            log: Log::new(vector, (log_start, log_end), append_time_ms, producers),
            high_watermark: high_watermark.min(log_end).max(log_start),
            uncertain: recovered.uncertain || stepped_back,
            role: Role::Idle,
            peers: BTreeMap::new(),
            confirmed: false,
            publishes: Publishes::default(),
            may_have_lost: None,
            set_aside: None,
            repairs: Repairs::default(),
            in_sync: Vec::new(),
            caught_up_seen: Vec::new(),
            whole_seen: Vec::new(),
            watermark_told: (Offset::ZERO, Duration::ZERO),
            damage_told: (None, None),
            life: Life::Fresh { release_is_due },
            written: WriteSeq(0),
            synced: WriteSeq(0),
            parked: VecDeque::new(),
            effects: Vec::new(),
        })
    }

    /// Takes one input. The effects are to be carried out in order.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.start(now);
        if let Role::Halted(_) = self.role {
            self.refuse_halted(&input);
            return std::mem::take(&mut self.effects);
        }
        match input {
            Input::Assign(entry) => self.assign(now, entry),
            Input::Release(epoch) => self.release(epoch),
            Input::Produce { ticket, batch } => self.produce(now, ticket, batch),
            Input::Durable(seq) => self.durable(now, seq),
            Input::PeerUp { peer, process } => self.peer_up(now, peer, process),
            Input::PeerDown(peer) => self.peer_down(now, peer),
            Input::Message { from, process, message } => self.message(now, from, process, message),
            Input::Shipped { to, until, bytes } => self.shipped(to, until, bytes),
            Input::Unreadable(offset) => self.found_unreadable(now, offset),
            Input::Confirmed => {
                self.confirmed = true;
                self.choose_log(now);
            }
            Input::Forget(ticket) => self.publishes.forget(ticket),
            Input::Retain(offset) => self.retain(offset),
            Input::StopAppends => self.stop_appends(now),
            Input::Tick => self.refresh_in_sync(now),
        }
        std::mem::take(&mut self.effects)
    }

    /// To be called once at the end of each turn of the shell, after all inputs that were there: what many inputs changed
    /// costs one message.
    pub fn settle(&mut self, now: Now) -> Vec<Effect> {
        self.start(now);
        self.settle_repairs(now);
        match &self.role {
            Role::Opening(_) => self.settle_opening(now),
            Role::Leading(_) => self.settle_leading(now),
            Role::Following(_) => self.settle_following(),
            Role::Idle | Role::Halted(_) => {}
        }
        self.tell_damage();
        std::mem::take(&mut self.effects)
    }

    fn start(&mut self, now: Now) {
        let Life::Fresh { release_is_due } = std::mem::replace(&mut self.life, Life::Started) else { return };
        if release_is_due {
            self.write(Write::Release);
        }
        if self.uncertain {
            self.write(Write::Mark { uncertain: true });
        }
        if self.promise.kind == PromiseKind::Live {
            self.open_if_named(now);
        }
    }

    fn message(&mut self, now: Now, from: ReplicaId, process: Process, message: Message) {
        // Another process of the peer, or one that the shell has not announced, is not listened to.
        if self.peers.get(&from) != Some(&process) || self.is_lost(from) {
            return;
        }
        match message {
            Message::Fence { entry, term } => self.fence(from, process, entry, term),
            Message::Promised { term, vector, log_start, log_end, certain } => {
                let answer = super::open::Answer { vector, log_start, log_end, certain };
                self.promised(now, from, term, answer);
            }
            Message::Refused { term, promised, entry } => self.refused(now, term, promised, entry),
            Message::Fetch { term, from: offset, until } => self.fetch(from, term, offset, until),
            Message::Snapshot { term, log_start, vector, producers } => {
                self.snapshot(now, from, term, log_start, vector, &producers);
            }
            Message::Fetched { term, batches } => self.fetched(now, from, term, batches),
            Message::Attach { entry, term, follower, vector, log_start, log_end, counted, producers } => {
                if follower == self.process {
                    let offer = super::follow::Offer { vector, log_start, log_end, counted, producers };
                    self.attach(from, process, entry, term, offer);
                }
            }
            Message::Attached { term, log_end } => self.attached(now, from, term, log_end),
            Message::Append { term, from: offset, batches, high_watermark, log_start } => {
                let known = (high_watermark, log_start);
                self.append_from(from, term, offset, batches, known);
            }
            Message::Stored { term, log_end } => self.stored(now, from, term, log_end),
            Message::Unreadable { term, offset } => self.fetch_is_unreadable(now, from, term, offset),
            Message::Refetch { term, offset } => self.refetch(from, term, offset),
            Message::Refetched { term: _, offset, batches } => self.refetched(now, from, offset, &batches),
            Message::Release { epoch } => self.release(epoch),
        }
    }

    fn durable(&mut self, now: Now, seq: WriteSeq) {
        self.synced = self.synced.max(seq);
        self.log.synced(self.synced);
        while let Some((_, parked)) = self.parked.pop_front_if(|(seq, _)| *seq <= self.synced) {
            self.unpark(now, parked);
        }
        if self.parked.is_empty() {
            // Most of the time nothing waits, and there are many replicas.
            self.parked = VecDeque::new();
        }
        match self.role {
            Role::Leading(_) => self.advance_commit(),
            Role::Following(_) => self.learn_commit(),
            Role::Idle | Role::Opening(_) | Role::Halted(_) => {}
        }
    }

    fn unpark(&mut self, now: Now, parked: Parked) {
        match parked {
            Parked::Fences(term) => self.promise_stored(now, term),
            Parked::Promised { to, term } => self.answer_fence(to, term),
            Parked::Attached { to, term } => self.answer_attach(to, term),
            Parked::Certain => {
                self.uncertain = false;
                self.changed();
            }
            Parked::Mended { from, until } => self.mended(now, from, until),
            Parked::Report => self.changed(),
        }
    }

    /// Hands a write to storage.
    pub(super) fn write(&mut self, write: Write) -> WriteSeq {
        self.written = WriteSeq(self.written.0 + 1);
        self.effects.push(Effect::Write(self.written, write));
        self.written
    }

    /// Stores what is promised now. Nothing that depends on it may be said before it is durable.
    pub(super) fn write_promise(&mut self) {
        self.promise_seq = self.write(Write::Promise(self.promise.clone()));
        self.park(self.promise_seq, Parked::Report);
    }

    /// Whether all that was promised is stored.
    pub(super) fn promise_is_durable(&self) -> bool {
        self.promise_seq <= self.synced
    }

    /// Does it as soon as the write `seq` is durable, which may be now.
    pub(super) fn park(&mut self, seq: WriteSeq, parked: Parked) {
        match parked {
            Parked::Promised { to, term } if seq <= self.synced => self.answer_fence(to, term),
            Parked::Attached { to, term } if seq <= self.synced => self.answer_attach(to, term),
            // A question that came twice is answered once.
            Parked::Promised { .. } | Parked::Attached { .. } if self.parked.contains(&(seq, parked)) => {}
            Parked::Fences(_)
            | Parked::Promised { .. }
            | Parked::Attached { .. }
            | Parked::Certain
            | Parked::Mended { .. }
            | Parked::Report => {
                // In the order of the writes; most belong at the back.
                let at = self.parked.iter().rposition(|(earlier, _)| *earlier <= seq).map_or(0, |at| at + 1);
                self.parked.insert(at, (seq, parked));
            }
        }
    }

    /// The last write that was handed out: durable means that everything is.
    pub(super) fn last_write(&self) -> WriteSeq {
        self.written
    }

    pub(super) fn send(&mut self, to: ReplicaId, message: Message) {
        self.effects.push(Effect::Send { to, message });
    }

    pub(super) fn emit(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(super) fn changed(&mut self) {
        self.effects.push(Effect::Changed);
    }

    pub(super) fn entry(&self) -> Option<&Entry> {
        self.promise.entry.as_ref()
    }

    pub(super) fn is_lost(&self, replica: ReplicaId) -> bool {
        self.entry().is_some_and(|entry| entry.lost.contains(&replica))
    }

    /// Something impossible happened: keeps everything, says nothing any more, and reports.
    pub(super) fn halt(&mut self, reason: String) {
        self.give_up_publishes(&Refusal::OutcomeUnknown);
        self.role = Role::Halted(reason);
        self.parked.clear();
        self.changed();
    }

    fn refuse_halted(&mut self, input: &Input) {
        if let Input::Produce { ticket, .. } = input {
            self.emit(Effect::Refuse { ticket: *ticket, refusal: Refusal::NotLeader { leader: None } });
        }
    }
}
