//! Committed batches of a partition that this broker leads, one read after the other, waiting for new ones at the end.

use std::time::{Duration, Instant};

use fulmar_core::batch::Batch;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use fulmar_core::term::Term;
use fulmar_proto::v1::ErrorReason;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::Door;
use super::error::Failure;
use crate::replica::State;
use crate::storage::ReadError;

/// A leader whose term is not open yet lets readers wait so long, then they look for another.
const OPENING_MAX: Duration = Duration::from_secs(1);

/// A reader at a damaged batch waits so long for a copy of another replica, then it is told to come again: a round trip and a
/// sync take less, and who is told so may also ask another leader.
const REPAIR_MAX: Duration = Duration::from_secs(5);
/// Between two looks whether it is there.
const REPAIR_LOOK: Duration = Duration::from_millis(50);

/// Where a reader stands.
#[derive(Debug)]
pub(super) struct Feed {
    door: Door,
    key: PartitionKey,
    /// The next offset to deliver.
    pub(super) next: Offset,
    /// The highest term seen; nothing is delivered by a lower one.
    pub(super) seen: Option<Term>,
    state: watch::Receiver<State>,
    /// Since when the next batch is damaged.
    damaged_since: Option<Instant>,
}

/// What one read gave.
#[derive(Debug)]
pub(super) struct Fed {
    /// Whole batches; the first may begin before what was asked for.
    pub(super) batches: Vec<Batch>,
    /// What is committed.
    pub(super) high_watermark: Offset,
    /// The oldest offset.
    pub(super) log_start: Offset,
    /// The leader's term.
    pub(super) term: Term,
    /// Memory, until it is delivered.
    pub(super) held: Option<OwnedSemaphorePermit>,
}

impl Door {
    /// Reads from `next` on. An error: this broker holds no replica of it.
    pub(super) fn feed(&self, key: PartitionKey, next: Offset, seen: Option<Term>) -> Result<Feed, Failure> {
        let state = self.shared.replicas.states().watch(key).ok_or_else(|| self.not_leader(key))?;
        Ok(Feed { door: self.clone(), key, next, seen, state, damaged_since: None })
    }
}

impl Feed {
    /// Waits until there is something to read.
    pub(super) async fn ready(&mut self) -> Result<(), Failure> {
        self.serving().await.map(drop)
    }

    /// The next batches; waits for them.
    pub(super) async fn next(&mut self, bytes_max: usize) -> Result<Fed, Failure> {
        loop {
            let (state, term) = self.serving().await?;
            if let Some(fed) = self.read(&state, term, bytes_max).await? {
                return Ok(fed);
            }
        }
    }

    /// The state in which this broker leads and has more than was read.
    async fn serving(&mut self) -> Result<(State, Term), Failure> {
        loop {
            // Marked as seen before it is judged: what changes from here on wakes the wait below.
            let state = *self.state.borrow_and_update();
            let Some(term) = state.serving else {
                self.wait_for_opening().await?;
                continue;
            };
            if self.seen.is_some_and(|seen| term < seen || term.is_twin_of(&seen)) {
                return Err(self.door.not_leader(self.key));
            }
            self.seen = Some(term);
            self.check_range(&state)?;
            if self.next < state.high_watermark {
                return Ok((state, term));
            }
            if self.state.changed().await.is_err() {
                return Err(self.door.not_leader(self.key));
            }
        }
    }

    async fn wait_for_opening(&mut self) -> Result<(), Failure> {
        let is_ours = self.door.leader(self.key) == Some(self.door.shared.replicas.me());
        let opening = self.state.wait_for(|state| state.serving.is_some());
        if is_ours && matches!(timeout(OPENING_MAX, opening).await, Ok(Ok(_))) {
            self.state.mark_changed();
            return Ok(());
        }
        Err(self.door.not_leader(self.key))
    }

    fn check_range(&self, state: &State) -> Result<(), Failure> {
        let State { log_start, high_watermark, .. } = *state;
        if self.next >= log_start && self.next <= high_watermark {
            return Ok(());
        }
        let message =
            format!("offset {} is outside of what is kept, {log_start} to {high_watermark}", self.next);
        Err(Failure::new(ErrorReason::OffsetOutOfRange, message)
            .with("log_start", log_start)
            .with("high_watermark", high_watermark))
    }

    /// A copy is on its way, or nobody has one.
    async fn wait_for_repair(&mut self, base: Offset) -> Result<(), Failure> {
        let since = *self.damaged_since.get_or_insert_with(Instant::now);
        if self.state.borrow().irreparable == Some(base) {
            return Err(Failure::irreparable(base));
        }
        if since.elapsed() >= REPAIR_MAX {
            self.damaged_since = None;
            return Err(Failure::under_repair(base));
        }
        tokio::time::sleep(REPAIR_LOOK).await;
        Ok(())
    }

    /// `None`: retention was faster, or a damaged batch is being replaced: look again.
    async fn read(&mut self, state: &State, term: Term, bytes_max: usize) -> Result<Option<Fed>, Failure> {
        let read = self.door.shared.replicas.read(self.key, self.next, state.high_watermark, bytes_max).await;
        let (batches, held) = match read {
            Ok(read) => read,
            Err(ReadError::BelowStart { .. }) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                return Ok(None);
            }
            Err(ReadError::Rotten { base, .. }) => return self.wait_for_repair(base).await.map(|()| None),
            Err(error) => return Err(Failure::unread(&error)),
        };
        let Some(last) = batches.last() else {
            self.door.shared.replicas.found_damaged(self.key, self.next).await;
            return self.wait_for_repair(self.next).await.map(|()| None);
        };
        self.damaged_since = None;
        self.next = last.end();
        let State { high_watermark, log_start, .. } = *state;
        Ok(Some(Fed { batches, high_watermark, log_start, term, held }))
    }
}
