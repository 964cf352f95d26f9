//! The one task that owns `core`'s broker: it takes what is there, steps, settles, and carries the effects out.
//!
//! A turn: everything that waits (bounded) → inputs → one write to the storage → what peers are told. While the storage
//! has no room, publishes stay outside and everything else goes on; what peers are told waits for the write before it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fulmar_core::broker::{Broker, Input};
use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{self, Effect, Refusal, Report, Ticket, Write, WriteSeq};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Interval, MissedTickBehavior};
use tracing::{debug, error, info, warn};

use super::doorkeeper::Doorkeeper;
use super::ship::Shipper;
use super::{Command, Publish, Said, State, States, room, tell};
use crate::clock::Clock;
use crate::storage::{Storage, StorageEvent, WriteError};
use crate::traces::Publishing;

/// `core` wants to know at least every 100 ms that time passes.
const TICK: Duration = Duration::from_millis(50);
/// Publishes that nobody waits for any more are looked for this often.
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// One turn takes at most so many of each kind, so that no kind starves another.
const TURN_MAX: usize = 512;
/// About so many bytes of batches in one turn's write: as much as one group of the journal takes.
const TURN_BYTES_MAX: usize = 8 << 20;

/// Behind a turn of so long a time whoever shares the actor's thread goes first: thousands of terms are opened in turns of tenths of a
/// second, and heartbeats must not wait for the last of them.
const TURN_LONG: Duration = Duration::from_millis(5);

/// Batches with sampled records that are on their way to the disk; further ones are told without their `append`.
const TRACED_MAX: usize = 1024;

type PendingWrite = Pin<Box<dyn Future<Output = Result<(), WriteError>> + Send>>;
/// Who waits for an answer, and what is told of it.
struct Waiting {
    answer: oneshot::Sender<Result<Offset, Refusal>>,
    traced: Option<Arc<Publishing>>,
}
type Asking = oneshot::Sender<Vec<(PartitionKey, Report)>>;

/// The queues that the actor drains.
#[derive(Debug)]
pub(super) struct Mailboxes {
    /// What has to be heard whatever the storage does.
    pub(super) commands: mpsc::Receiver<Command>,
    /// Publishes: left outside while the storage has no room.
    pub(super) publishes: mpsc::Receiver<Publish>,
    /// From peers: left outside while the storage has no room, as they bring batches too.
    pub(super) said: mpsc::Receiver<Said>,
    /// From the storage's threads; as many as it has groups under way.
    pub(super) events: mpsc::UnboundedReceiver<StorageEvent>,
}

/// What the actor tells whoever listens.
#[derive(Debug)]
pub(super) struct Tellings {
    /// Rises when a report changed.
    pub(super) changed: watch::Sender<u64>,
    /// Whom this broker shares partitions with.
    pub(super) want: watch::Sender<BTreeSet<ReplicaId>>,
}

/// What is handed to the storage at the end of the turn.
#[derive(Default)]
struct Outgoing {
    writes: Vec<(PartitionKey, WriteSeq, Write)>,
    /// Bytes of batches among them.
    bytes: usize,
    /// Memory that this turn's publishes held, until the storage has taken them.
    admissions: Vec<OwnedSemaphorePermit>,
    /// What peers are told behind these writes.
    peers: Vec<(PartitionKey, Effect)>,
    /// The write that the storage has no room for yet.
    pending: Option<PendingWrite>,
}

/// What runs the replicas.
pub(super) struct Actor {
    broker: Broker,
    boxes: Mailboxes,
    storage: Storage,
    shipper: Shipper,
    states: States,
    tellings: Tellings,
    clock: Clock,
    waiting: BTreeMap<Ticket, (PartitionKey, Waiting)>,
    tickets: u64,
    asking: Vec<Asking>,
    /// What producers are told at the end of the turn, behind the new states: who was told that a record is committed finds
    /// it below the high watermark.
    answers: Vec<(Ticket, Result<Offset, Refusal>)>,
    outgoing: Outgoing,
    touched: BTreeSet<PartitionKey>,
    /// Whose sampled records are told when this write is durable.
    traced: BTreeMap<(PartitionKey, WriteSeq), Arc<Publishing>>,
    has_changed: bool,
    forgot_at: Instant,
    doorkeeper: Doorkeeper,
}

enum Woken {
    Event(StorageEvent),
    Command(Box<Command>),
    Said(Said),
    Publish(Publish),
    Written(Result<(), WriteError>),
    Tick,
    Closed,
}

impl Actor {
    pub(super) fn new(
        broker: Broker,
        boxes: Mailboxes,
        storage: Storage,
        shipper: Shipper,
        states: States,
        tellings: Tellings,
    ) -> Self {
        let touched = broker.replicas().map(partition::Replica::key).collect();
        let doorkeeper = Doorkeeper::new(storage.clone());
        let mut actor = Self {
            doorkeeper,
            broker,
            boxes,
            storage,
            shipper,
            states,
            tellings,
            clock: Clock::start(),
            waiting: BTreeMap::new(),
            tickets: 0,
            asking: Vec::new(),
            answers: Vec::new(),
            outgoing: Outgoing::default(),
            touched,
            traced: BTreeMap::new(),
            has_changed: false,
            forgot_at: Instant::now(),
        };
        // What the volume holds is known before anybody can ask.
        actor.tell_states();
        actor
    }

    /// Runs until all handles are gone, or the storage fails: then the reason, and the process must end.
    pub(super) async fn run(mut self) -> Result<(), String> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let woken = self.wake(&mut tick).await;
            let began = Instant::now();
            match woken {
                Woken::Event(event) => self.event(event)?,
                Woken::Command(command) => self.command(*command),
                Woken::Said(said) => self.said(said),
                Woken::Publish(publish) => self.publish(publish),
                Woken::Written(written) => {
                    self.outgoing.pending = None;
                    written.map_err(|error| error.to_string())?;
                }
                Woken::Tick => self.tick(),
                Woken::Closed => return Ok(()),
            }
            self.drain()?;
            self.end_turn()?;
            let took = began.elapsed();
            if took >= TURN_LONG {
                debug!(took_ms = took.as_millis(), "a long turn");
                tokio::task::yield_now().await;
            }
        }
    }

    async fn wake(&mut self, tick: &mut Interval) -> Woken {
        let pending = &mut self.outgoing.pending;
        let has_room = pending.is_none();
        let written = async {
            match pending {
                Some(write) => write.as_mut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            written = written => Woken::Written(written),
            Some(event) = self.boxes.events.recv() => Woken::Event(event),
            command = self.boxes.commands.recv() => command.map_or(Woken::Closed, |command| Woken::Command(Box::new(command))),
            _ = tick.tick() => Woken::Tick,
            Some(said) = self.boxes.said.recv(), if has_room => Woken::Said(said),
            Some(publish) = self.boxes.publishes.recv(), if has_room => Woken::Publish(publish),
        }
    }

    /// Takes what else is there already, so that it shares this turn's write and messages.
    fn drain(&mut self) -> Result<(), String> {
        for _ in 0..TURN_MAX {
            let Ok(event) = self.boxes.events.try_recv() else { break };
            self.event(event)?;
        }
        // All of them: a connection's messages must not overtake its beginning.
        while let Ok(command) = self.boxes.commands.try_recv() {
            self.command(command);
        }
        for _ in 0..TURN_MAX {
            if self.is_full() {
                break;
            }
            let Ok(said) = self.boxes.said.try_recv() else { break };
            self.said(said);
        }
        for _ in 0..TURN_MAX {
            if self.is_full() {
                break;
            }
            let Ok(publish) = self.boxes.publishes.try_recv() else { break };
            self.publish(publish);
        }
        Ok(())
    }

    /// Whether this turn takes no more batches.
    fn is_full(&self) -> bool {
        self.outgoing.pending.is_some() || self.outgoing.bytes >= TURN_BYTES_MAX
    }

    fn step(&mut self, input: Input) {
        let effects = self.broker.step(self.clock.now(), input);
        self.carry_out(effects);
    }

    fn deliver(&mut self, key: PartitionKey, input: partition::Input) {
        self.touched.insert(key);
        self.step(Input::Partition(key, input));
    }

    fn event(&mut self, event: StorageEvent) -> Result<(), String> {
        match event {
            StorageEvent::Durable(all) => {
                for (key, seq) in all {
                    if !self.traced.is_empty() {
                        let until_here = (key, WriteSeq::default())..=(key, seq);
                        let durable = self.traced.extract_if(until_here, |_, _| true);
                        durable.for_each(|(_, traced)| traced.durable());
                    }
                    self.deliver(key, partition::Input::Durable(seq));
                }
            }
            StorageEvent::Room(true) => info!("the volume has room again: publishes are taken"),
            StorageEvent::Room(false) => {
                warn!("the volume is nearly full: publishes are refused, retention and reading go on");
            }
            StorageEvent::Fatal(what) => return Err(what),
        }
        Ok(())
    }

    fn said(&mut self, said: Said) {
        let Said { from, link, messages } = said;
        // A connection that was replaced is not listened to any more.
        let Some(process) = self.shipper.process_of(from, link) else { return };
        let is_exhausted = self.storage.fullness().is_exhausted;
        for (key, message) in messages {
            let message = if is_exhausted { room::without_batches(message) } else { message };
            self.touched.insert(key);
            self.step(Input::Message { from, process, key, message });
        }
    }

    fn publish(&mut self, publish: Publish) {
        let Publish { key, batch, answer, admission, traced } = publish;
        if answer.is_closed() {
            return;
        }
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.waiting.insert(ticket, (key, Waiting { answer, traced: traced.clone() }));
        self.outgoing.admissions.extend(admission);
        let before = self.outgoing.writes.len();
        self.deliver(key, partition::Input::Produce { ticket, batch });
        if let Some(traced) = traced {
            self.trace(key, before, traced);
        }
    }

    /// Remembers the write of a traced batch: what was written since there were so many. Nothing, if it was refused, or is
    /// there already.
    fn trace(&mut self, key: PartitionKey, before: usize, traced: Arc<Publishing>) {
        let written = self.outgoing.writes[before..].iter().find_map(|(of, seq, write)| {
            let Write::Append(batch) = write else { return None };
            (*of == key).then(|| (*seq, batch.term()))
        });
        if let Some((seq, term)) = written {
            traced.written(term);
            if self.traced.len() < TRACED_MAX {
                self.traced.insert((key, seq), traced);
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Assign(entries) => {
                self.touched.extend(entries.iter().map(|entry| entry.key));
                self.step(Input::Assign(entries));
                self.tell_wanted();
            }
            Command::Release(key, epoch) => self.step(Input::Release { key, epoch }),
            Command::StopAppends(key) => self.deliver(key, partition::Input::StopAppends),
            Command::Retain(key, offset) => self.deliver(key, partition::Input::Retain(offset)),
            Command::Adopt(cluster) => self.broker.adopt(cluster),
            Command::Operator(true) => self.step(Input::OperatorUp),
            Command::Operator(false) => self.step(Input::OperatorDown),
            Command::Unreadable(key, offset) => self.deliver(key, partition::Input::Unreadable(offset)),
            Command::Hear(hello, answer) => self.doorkeeper.answer(self.broker.hear(&hello), answer),
            Command::LinkUp(link) => {
                let accepted = link.accepted;
                self.shipper.link_up(*link);
                self.step(Input::PeerUp(accepted));
            }
            Command::LinkDown(peer, number) => {
                if let Some(process) = self.shipper.link_down(peer, number) {
                    self.step(Input::PeerDown { peer, process });
                }
            }
            Command::Shipped(key, number, input) => {
                if self.shipper.uses(number) {
                    self.deliver(key, *input);
                }
            }
            Command::Reports(answer) => self.asking.push(answer),
            Command::Changed(answer) => {
                let _gone = answer.send(self.broker.reports());
            }
        }
    }

    fn tick(&mut self) {
        self.step(Input::Tick);
        self.tell_wanted();
        if self.forgot_at.elapsed() < FORGET_EVERY {
            return;
        }
        self.forgot_at = Instant::now();
        // Of a replica that was let go of nothing becomes durable any more.
        let broker = &self.broker;
        self.traced.retain(|(key, _), _| broker.replica(*key).is_some());
        let gone = self.waiting.iter().filter(|(_, (_, waiting))| waiting.answer.is_closed());
        let gone: Vec<(Ticket, PartitionKey)> = gone.map(|(ticket, (key, _))| (*ticket, *key)).collect();
        for (ticket, key) in gone {
            self.waiting.remove(&ticket);
            self.deliver(key, partition::Input::Forget(ticket));
        }
    }

    fn tell_wanted(&mut self) {
        let Some(wanted) = self.broker.newly_wanted_peers() else { return };
        self.tellings.want.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
    }

    /// Sorts effects: answers for the end of the turn, writes for its write, the rest behind that.
    fn carry_out(&mut self, effects: Vec<(PartitionKey, Effect)>) {
        for (key, effect) in effects {
            self.touched.insert(key);
            match effect {
                Effect::Write(seq, write) => {
                    if let Write::Append(batch) | Write::Mend(batch) = &write {
                        self.outgoing.bytes += batch.size();
                    }
                    self.outgoing.writes.push((key, seq, write));
                }
                Effect::Send { .. } | Effect::Ship { .. } | Effect::Refetch { .. } => {
                    self.outgoing.peers.push((key, effect));
                }
                Effect::Acknowledge { ticket, base } => self.answers.push((ticket, Ok(base))),
                Effect::Refuse { ticket, refusal } => self.answers.push((ticket, Err(refusal))),
                Effect::HighWatermark(offset) => self.storage.note_high_watermark(key, offset),
                Effect::Changed => self.has_changed = true,
            }
        }
    }

    fn answer(&mut self) {
        for (ticket, result) in self.answers.drain(..) {
            if let Some((_, Waiting { answer, traced })) = self.waiting.remove(&ticket) {
                if let Some(traced) = traced {
                    traced.decided();
                }
                // Who asked may have gone; the record stays.
                let _gone = answer.send(result);
            }
        }
    }

    fn end_turn(&mut self) -> Result<(), String> {
        // What is handed over at once (reads from memory) makes more inputs, until credit is used up.
        loop {
            self.touched.append(&mut self.broker.take_woken());
            let effects = self.broker.settle(self.clock.now());
            self.carry_out(effects);
            self.write()?;
            if self.outgoing.pending.is_some() || self.outgoing.peers.is_empty() {
                break;
            }
            for (key, effect) in std::mem::take(&mut self.outgoing.peers) {
                if let Some(input) = self.shipper.carry_out(key, effect) {
                    self.deliver(key, input);
                }
            }
        }
        self.shipper.flush();
        self.tell_states();
        self.answer();
        if std::mem::take(&mut self.has_changed) {
            self.tellings.changed.send_modify(|count| *count += 1);
        }
        if !self.asking.is_empty()
            && let Some(reports) = self.broker.all_reports()
        {
            for answer in self.asking.drain(..) {
                let _gone = answer.send(reports.clone());
            }
        }
        Ok(())
    }

    /// Hands this turn's writes to the storage. If it has no room now they stay pending, and later ones wait behind.
    fn write(&mut self) -> Result<(), String> {
        if self.outgoing.pending.is_some() {
            return Ok(());
        }
        let admissions = std::mem::take(&mut self.outgoing.admissions);
        if self.outgoing.writes.is_empty() {
            return Ok(());
        }
        self.outgoing.bytes = 0;
        let (storage, writes) = (self.storage.clone(), std::mem::take(&mut self.outgoing.writes));
        let mut write: PendingWrite = Box::pin(async move {
            let _held = admissions;
            storage.write(writes).await
        });
        let waker = std::task::Waker::noop();
        match write.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            std::task::Poll::Ready(written) => written.map_err(|error| error.to_string()),
            std::task::Poll::Pending => {
                // Polled again, with a real waker, in the next turn.
                self.outgoing.pending = Some(write);
                Ok(())
            }
        }
    }

    fn tell_states(&mut self) {
        let now = self.clock.now();
        for key in std::mem::take(&mut self.touched) {
            let Some(replica) = self.broker.replica(key) else { continue };
            let halted = replica.halted();
            let before = self.states.get(key).unwrap_or_default();
            if let Some(reason) = halted
                && !before.is_halted
            {
                error!(partition = %key, reason, "the replica has halted: it keeps everything and says nothing");
            }
            let serving = replica.leading().filter(|_| replica.readable().is_some());
            let entry = replica.promise().entry.as_ref();
            let state = State {
                epoch: entry.map(|entry| entry.epoch).unwrap_or_default(),
                leader: entry.and_then(|entry| entry.leader),
                serving: serving.filter(|_| !self.broker.sends_readers_elsewhere(key, now)),
                high_watermark: replica.high_watermark(),
                committed: replica.committed_at_leader(),
                log_start: replica.log_start(),
                log_end: replica.durable_end(),
                is_halted: halted.is_some(),
                damaged: replica.unreadable(),
                irreparable: replica.irreparable(),
                mended: replica.mended_count(),
            };
            tell::damage(&self.storage, key, &before, &state);
            self.states.set(key, state);
        }
    }
}
