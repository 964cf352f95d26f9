//! The applier's thread: takes durable groups and puts them into redb, some MiB or some seconds at a time; sweeps what
//! retention left; watches the free space.
//!
//! Owns what may be reused of the journal: a group is released by the *second* commit that covers it, so that redb
//! stepping back by one commit finds everything in the journal.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::journal::Position;
use super::op::Op;
use super::room::Room;
use super::shared::Shared;
use super::volume::{SWEEP_BYTES_MAX, Volume};

/// The thread wakes at least so often.
const BEAT: Duration = Duration::from_millis(100);
/// What gives room back, or ends a log, waits no longer: others may be waiting for the room.
const RELEASE_AFTER: Duration = Duration::from_millis(500);
/// Writers that find no room wait for transactions of at least such a part of it: smaller ones cost more than they give.
const AWAITED_PARTS: usize = 4;
/// Groups of less leave time for a sweep behind each of them.
const LITTLE_BYTES: u64 = 1 << 20;
/// The free space is asked for so often: at 1 GB/s half a reserve of 512 MiB could go meanwhile.
const ROOM_EVERY: Duration = Duration::from_millis(250);

/// What the applier is sent.
#[derive(Debug)]
pub(super) enum ToApplier {
    /// A synced group.
    Group { ops: Vec<Op>, end: Position, last_id: u64, permits: usize },
    /// The journal waits for a slot.
    Hurry,
}

/// Up to where the journal may be overwritten.
#[derive(Debug)]
pub(super) struct Applied {
    released: Mutex<Position>,
    moved: Condvar,
}

impl Applied {
    pub(super) fn new(released: Position) -> Self {
        Self { released: Mutex::new(released), moved: Condvar::new() }
    }

    pub(super) fn released(&self) -> Position {
        *self.released.lock()
    }

    fn release(&self, to: Position) {
        *self.released.lock() = to;
        self.moved.notify_all();
    }

    /// Waits for more to be released, or for the timeout.
    pub(super) fn wait(&self, timeout: Duration) {
        self.moved.wait_for(&mut self.released.lock(), timeout);
    }
}

/// When to apply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) bytes_max: usize,
    pub(super) after: Duration,
}

/// Groups that wait for their transaction.
#[derive(Debug, Default)]
struct Pending {
    ops: Vec<Op>,
    bytes: usize,
    end: Option<Position>,
    last_id: u64,
    permits: usize,
    due: Option<Instant>,
}

/// What the thread works with.
pub(super) struct Applier {
    shared: Arc<Shared>,
    volume: Volume,
    applied: Arc<Applied>,
    pace: Pace,
    pending: Pending,
    room: Room,
    room_asked: Option<Instant>,
    committed: Instant,
    /// Bytes that came and were not swept for yet.
    to_sweep: u64,
}

impl Applier {
    pub(super) fn new(
        shared: Arc<Shared>,
        volume: Volume,
        applied: Arc<Applied>,
        pace: Pace,
        room: Room,
    ) -> Self {
        let pending = Pending::default();
        Self {
            shared,
            volume,
            applied,
            pace,
            pending,
            room,
            room_asked: None,
            committed: Instant::now(),
            to_sweep: 0,
        }
    }

    /// Runs until the journal's thread is gone. A closed volume is applied to the end.
    pub(super) fn run(mut self, groups: &Receiver<ToApplier>) {
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.work(groups)));
        match worked {
            Ok(Ok(())) => {}
            Ok(Err(why)) => self.shared.fail(format!("cannot write {}: {why}", super::volume::FILE)),
            Err(_) => {
                self.shared.fail(format!("{}: redb panicked; the file is damaged", super::volume::FILE));
            }
        }
    }

    fn work(&mut self, groups: &Receiver<ToApplier>) -> Result<(), super::volume::VolumeError> {
        loop {
            self.shared.beat_applier();
            self.watch_room();
            let until_due = |due: Instant| due.saturating_duration_since(Instant::now());
            let wait = self.pending.due.map_or(BEAT, |due| until_due(due).min(BEAT));
            let (mut is_quiet, mut came) = (false, 0);
            match groups.recv_timeout(wait) {
                Ok(ToApplier::Group { ops, end, last_id, permits }) => {
                    let bytes: usize = ops.iter().map(Op::weight).sum();
                    came = bytes as u64;
                    if self.pending.bytes > 0 && self.pending.bytes + bytes > self.pace.bytes_max {
                        self.commit(false)?;
                    }
                    self.pending.due = self.due_with(&ops);
                    self.pending.add(ops, bytes, end, last_id, permits);
                }
                Ok(ToApplier::Hurry) => self.hurry()?,
                Err(RecvTimeoutError::Timeout) => is_quiet = true,
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            }
            if self.is_due() || self.is_awaited(is_quiet) {
                self.commit(false)?;
            }
            self.sweep_beside(came)?;
        }
    }

    /// Applies what there is; a second commit lets go of what the first one covers.
    fn hurry(&mut self) -> Result<(), super::volume::VolumeError> {
        if self.pending.end.is_some() {
            self.commit(false)?;
        }
        if self.applied.released() != self.volume.applied {
            self.commit(false)?;
        }
        Ok(())
    }

    /// When what waits is to be applied, with these operations behind it.
    fn due_with(&self, ops: &[Op]) -> Option<Instant> {
        let wait = |op: &Op| if op.adds() { self.pace.after } else { self.pace.after.min(RELEASE_AFTER) };
        let due = ops.iter().map(wait).min().map(|wait| Instant::now() + wait);
        self.pending.due.into_iter().chain(due).min()
    }

    fn is_due(&self) -> bool {
        let waited = self.pending.due.is_some_and(|due| due <= Instant::now());
        // High watermarks alone are worth a transaction only when nothing else comes.
        let noted = self.pending.due.is_none()
            && self.committed.elapsed() >= self.pace.after
            && self.shared.memory.lock().has_notes();
        waited || noted || self.pending.bytes >= self.pace.bytes_max
    }

    /// Whether somebody waits for the room that this takes: a good part of all there is, or no more comes while they wait.
    fn is_awaited(&self, is_quiet: bool) -> bool {
        let is_much = self.pending.permits >= self.shared.permits_max / AWAITED_PARTS;
        self.pending.end.is_some() && self.shared.is_awaited() && (is_much || is_quiet)
    }

    fn finish(&mut self) -> Result<(), super::volume::VolumeError> {
        if self.shared.is_closing() { self.commit(true) } else { Ok(()) }
    }

    fn commit(&mut self, closing: bool) -> Result<(), super::volume::VolumeError> {
        let pending = std::mem::take(&mut self.pending);
        let notes = self.shared.memory.lock().take_notes();
        let before = self.volume.applied;
        let end = pending.end.unwrap_or(before);
        self.volume.apply(&pending.ops, end, &notes, closing)?;
        self.tell(pending.last_id);
        self.shared.permits.add_permits(pending.permits);
        self.applied.release(before);
        self.committed = Instant::now();
        Ok(())
    }

    /// Sweeps a quarter more than came: what retention takes from a log must not grow while that log does, and what comes must not wait for
    /// more than that. While little comes, some all the same.
    fn sweep_beside(&mut self, came: u64) -> Result<(), super::volume::VolumeError> {
        self.to_sweep += came + came / 4;
        let sweeps = self.to_sweep / SWEEP_BYTES_MAX;
        self.to_sweep %= SWEEP_BYTES_MAX;
        let least = u64::from(came < LITTLE_BYTES);
        for _ in 0..sweeps.max(least) {
            if !self.volume.has_garbage() {
                self.to_sweep = 0;
                return Ok(());
            }
            self.shared.beat_applier();
            self.sweep()?;
        }
        Ok(())
    }

    fn sweep(&mut self) -> Result<(), super::volume::VolumeError> {
        let unknown = self.volume.sweep()?;
        self.shared.note_sweep();
        self.room.found(unknown);
        self.tell(0);
        Ok(())
    }

    /// Says what redb's file holds now, and up to which operation (0: none but those that were told before).
    fn tell(&mut self, last_id: u64) {
        self.room.holds(self.volume.held_bytes());
        let stored = self.volume.replicas.iter().map(|(key, replica)| (*key, replica.row.bytes));
        self.shared.memory.lock().applied(last_id, stored);
    }

    /// Retention and a volume that was grown make room, whoever else writes there takes it.
    fn watch_room(&mut self) {
        if self.room_asked.is_some_and(|asked| asked.elapsed() < ROOM_EVERY) {
            return;
        }
        self.room_asked = Some(Instant::now());
        // Unknown is not full: if the volume is in trouble, writes will say so.
        let Ok(space) = self.shared.files.space(&super::volume::path(&self.shared.dir)) else { return };
        self.shared.set_fullness(self.room.look(space));
    }
}

impl Pending {
    fn add(&mut self, ops: Vec<Op>, bytes: usize, end: Position, last_id: u64, permits: usize) {
        self.ops.extend(ops);
        self.bytes += bytes;
        self.end = Some(end);
        self.last_id = self.last_id.max(last_id);
        self.permits += permits;
    }
}
