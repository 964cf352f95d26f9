//! The journal's thread: drains the queue, writes a group with one call, syncs it once, tells who waits.
//!
//! Owns the end of the journal. An error of write or sync is the end of the process: what the page cache says after a
//! failed sync is a lie.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use fulmar_core::id::PartitionKey;
use fulmar_core::partition::WriteSeq;
use parking_lot::{Condvar, Mutex};

use super::StorageEvent;
use super::applier::{Applied, ToApplier};
use super::journal::Writer;
use super::op::Op;
use super::shared::Shared;

/// The thread wakes at least so often, to show that it lives.
const BEAT: Duration = Duration::from_millis(100);

/// Who is told when an operation is durable.
#[derive(Debug)]
pub(super) enum Told {
    /// The replica, by [`StorageEvent::Durable`].
    Replica(PartitionKey, WriteSeq),
    /// Who waits for it.
    Caller(tokio::sync::oneshot::Sender<()>),
}

/// An operation on its way to the journal.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) op: Op,
    pub(super) told: Told,
    /// Its place in the order of appends.
    pub(super) id: u64,
    /// What it gives back to those who wait, once it is applied.
    pub(super) permits: usize,
}

/// What waits for the journal. Bounded by the permits that its operations hold.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    ops: VecDeque<Queued>,
    closed: bool,
    /// Leave what waits: the volume was dropped without being closed.
    abandoned: bool,
}

impl Queue {
    /// Queues in order; `false` if the queue is closed.
    pub(super) fn push(&self, ops: impl Iterator<Item = Queued>) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return false;
        }
        waiting.ops.extend(ops);
        self.filled.notify_one();
        true
    }

    /// Takes no more; what waits is still written.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.filled.notify_one();
    }

    /// Takes no more, and what waits is not written either.
    pub(super) fn abandon(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.abandoned = true;
        waiting.ops.clear();
        self.filled.notify_one();
    }

    /// Waits for operations and takes as many as fit a group, at least one.
    fn drain(&self, bytes_max: usize, into: &mut Vec<Queued>) -> Drained {
        let mut waiting = self.waiting.lock();
        if waiting.ops.is_empty() {
            if waiting.abandoned {
                return Drained::Abandoned;
            }
            if waiting.closed {
                return Drained::Closed;
            }
            if self.filled.wait_for(&mut waiting, BEAT).timed_out() && waiting.ops.is_empty() {
                return Drained::Nothing;
            }
        }
        let mut bytes = 0;
        while let Some(next) = waiting.ops.front() {
            bytes += next.op.weight();
            if bytes > bytes_max && !into.is_empty() {
                break;
            }
            into.extend(waiting.ops.pop_front());
        }
        Drained::Some
    }
}

enum Drained {
    Some,
    Nothing,
    Closed,
    Abandoned,
}

/// What the thread works with.
pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Writer,
    pub(super) applier: Sender<ToApplier>,
    pub(super) applied: Arc<Applied>,
    pub(super) group_bytes_max: usize,
}

/// Why the thread ends early.
struct Stop(Option<String>);

impl Committer {
    /// Runs until the queue is closed and empty, or something fails.
    pub(super) fn run(mut self) {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work())) {
            Ok(Ok(()) | Err(Stop(None))) => {}
            Ok(Err(Stop(Some(why)))) => self.shared.fail(why),
            Err(_) => self.shared.fail("the journal's thread panicked".to_owned()),
        }
    }

    fn work(&mut self) -> Result<(), Stop> {
        let mut batch = Vec::new();
        let mut sealed = true;
        loop {
            self.shared.beat_journal();
            match self.shared.queue.drain(self.group_bytes_max, &mut batch) {
                Drained::Some if batch.is_empty() => {}
                Drained::Some => {
                    self.commit(&mut batch)?;
                    sealed = false;
                }
                // Nothing came for a while: an empty group says that the last one was synced, so that rot in it can be told
                // from a torn tail. It need not be synced itself.
                Drained::Nothing if !sealed => {
                    self.seal()?;
                    sealed = true;
                }
                Drained::Nothing => {}
                Drained::Closed => return Ok(()),
                Drained::Abandoned => return Err(Stop(None)),
            }
        }
    }

    fn commit(&mut self, group: &mut Vec<Queued>) -> Result<(), Stop> {
        let body = self.writer.body();
        for queued in group.iter() {
            queued.op.encode(body);
        }
        self.write()?;
        let synced = self.writer.sync();
        synced.map_err(|error| Stop(Some(format!("cannot sync the journal: {error}"))))?;
        self.tell(std::mem::take(group))
    }

    fn seal(&mut self) -> Result<(), Stop> {
        self.writer.body();
        self.write()?;
        self.hand_on(Vec::new(), 0, 0)
    }

    fn write(&mut self) -> Result<(), Stop> {
        self.wait_for_slot()?;
        let written = self.writer.append();
        written.map_err(|error| Stop(Some(format!("cannot write the journal: {error}"))))
    }

    /// The next slot may still hold what redb could forget: then the applier must go ahead first. As long as it does, this
    /// thread counts as alive.
    fn wait_for_slot(&mut self) -> Result<(), Stop> {
        while !self.writer.fits(&self.applied.released()) {
            if self.shared.has_failed() {
                return Err(Stop(None));
            }
            let before = self.shared.applier_beats();
            self.applier.send(ToApplier::Hurry).map_err(|_| Stop(None))?;
            self.applied.wait(BEAT);
            if self.shared.applier_beats() != before {
                self.shared.beat_journal();
            }
        }
        Ok(())
    }

    /// The group is durable: tells who waits, once for each replica, and hands it to the applier.
    fn tell(&mut self, group: Vec<Queued>) -> Result<(), Stop> {
        let mut durable: HashMap<PartitionKey, WriteSeq> = HashMap::new();
        let mut ops = Vec::with_capacity(group.len());
        let (mut last_id, mut permits) = (0, 0);
        for queued in group {
            last_id = last_id.max(queued.id);
            permits += queued.permits;
            match queued.told {
                Told::Replica(key, seq) => {
                    let highest = durable.entry(key).or_default();
                    *highest = (*highest).max(seq);
                }
                // Who no longer waits need not be told.
                Told::Caller(caller) => drop(caller.send(())),
            }
            ops.push(queued.op);
        }
        if !durable.is_empty() {
            self.shared.tell(StorageEvent::Durable(durable.into_iter().collect()));
        }
        self.hand_on(ops, last_id, permits)
    }

    fn hand_on(&mut self, ops: Vec<Op>, last_id: u64, permits: usize) -> Result<(), Stop> {
        let end = self.writer.position();
        self.applier.send(ToApplier::Group { ops, end, last_id, permits }).map_err(|_| Stop(None))
    }
}
