//! Committed batches of a partition that this broker leads, one read after the other, waiting for new ones at the end.
//!
//! Owns the order: whoever waits, for a leader, for new batches or for a repair, holds no memory for answers. Never
//! delivers what is not committed.

use std::time::{Duration, Instant};

use fulmar_core::batch::Batch;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use fulmar_core::term::Term;
use fulmar_proto::v1::Message;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;

use super::Door;
use super::error::Failure;
use super::outflow::{Answers, Held};
use crate::replica::State;
use crate::storage::ReadError;

/// A leader whose term is not open yet lets readers wait so long, then they look for another.
const OPENING_MAX: Duration = Duration::from_secs(1);

/// A reader at a damaged batch waits so long for a copy of another replica, then it is told to come again: a round trip and a
/// sync take less, and who is told so may also ask another leader.
const REPAIR_MAX: Duration = Duration::from_secs(5);
/// Between two looks whether it is there.
const REPAIR_LOOK: Duration = Duration::from_millis(50);
/// Retention has taken what was asked for, and does not say so yet: a moment.
const TRIM_PAUSE: Duration = Duration::from_millis(10);

/// Memory that is taken before a read, at least: what is asked for may be one byte, and a batch comes all the same. Most
/// batches are smaller; what they do not need is given back.
const ROOM_MIN: usize = 1 << 20;

/// What the messages of one reader take at a time beyond their bytes, however many there are: they are made in pieces of 512 KiB,
/// of which four wait, one is written and one is made; and a pull has 10,000 with a topic's name each.
const MESSAGES_BYTES_MAX: usize = 4 << 20;

/// As what batches go on, and so what memory they take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Batches,
    /// As their messages, each with its topic's name of so many bytes: what is compressed is decompressed.
    Messages(usize),
}

impl Form {
    /// As messages of a topic of this name.
    pub(super) fn messages(topic: &str) -> Self {
        Self::Messages(topic.len())
    }

    /// What a batch takes.
    pub(super) fn size(self, batch: &Batch) -> usize {
        match self {
            Self::Batches => batch.size(),
            Self::Messages(name_bytes) => {
                let messages = (batch.count() as usize).saturating_mul(size_of::<Message>() + name_bytes);
                batch.plain_size() + messages.min(MESSAGES_BYTES_MAX)
            }
        }
    }

    /// What batches take together.
    pub(super) fn size_of_all(self, batches: &[Batch]) -> usize {
        batches.iter().map(|batch| self.size(batch)).sum()
    }

    /// How many of these batches take about `bytes_max`; one at least. Those that were read small and take a lot are left for
    /// later.
    pub(super) fn together(self, batches: &[Batch], bytes_max: usize) -> usize {
        let mut bytes = 0;
        let goes = |batch: &&Batch| {
            let is_first = bytes == 0;
            bytes += self.size(batch);
            is_first || bytes <= bytes_max
        };
        batches.iter().take_while(goes).count()
    }
}

/// Where a reader stands.
#[derive(Debug)]
pub(super) struct Feed {
    door: Door,
    key: PartitionKey,
    form: Form,
    /// The next offset to deliver.
    pub(super) next: Offset,
    /// The highest term seen; nothing is delivered by a lower one.
    pub(super) seen: Option<Term>,
    state: watch::Receiver<State>,
    /// Why the last read gave nothing.
    setback: Option<Setback>,
}

/// A read that gave nothing, and from where on: it says nothing about another place.
#[derive(Debug, Clone, Copy)]
struct Setback {
    at: Offset,
    cause: Cause,
}

#[derive(Debug, Clone, Copy)]
enum Cause {
    /// Retention was faster.
    Trimmed,
    /// The batch from this base on is damaged, known since then.
    Damaged { base: Offset, since: Instant },
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
}

impl Door {
    /// Reads from `next` on. An error: this broker holds no replica of it.
    pub(super) fn feed(
        &self,
        key: PartitionKey,
        next: Offset,
        seen: Option<Term>,
        form: Form,
    ) -> Result<Feed, Failure> {
        let state = self.shared.replicas.states().watch(key).ok_or_else(|| self.not_leader(key))?;
        Ok(Feed { door: self.clone(), key, form, next, seen, state, setback: None })
    }
}

impl Feed {
    /// The next batches, and memory for them among the answers; waits for both, in turns: the memory is taken before
    /// anything is read for it, and let go of before anything else is waited for.
    ///
    /// About `bytes_max`, but at least one batch; then memory for that one.
    pub(super) async fn next<T>(
        &mut self,
        bytes_max: usize,
        queue: &Answers<T>,
    ) -> Result<(Fed, Held), Failure> {
        let mut room_bytes = bytes_max.max(ROOM_MIN);
        loop {
            self.ready().await?;
            let mut room = queue.room(room_bytes).await;
            // What was read is counted as being read until the answer's memory stands for it.
            let Some((mut fed, _reading)) = self.read(bytes_max).await? else { continue };
            if self.form != Form::Batches {
                fed.batches.truncate(self.form.together(&fed.batches, room_bytes));
            }
            let bytes = self.form.size_of_all(&fed.batches);
            if bytes > room_bytes {
                // What a reader asks for is its own choice, and no bound of what it is given.
                room_bytes = bytes;
                continue;
            }
            room.keep(bytes);
            self.next = fed.batches.last().map_or(self.next, Batch::end);
            return Ok((fed, room));
        }
    }

    /// Waits until there is something to read.
    async fn ready(&mut self) -> Result<(), Failure> {
        self.sit_out().await?;
        loop {
            // Marked as seen before it is judged: what changes from here on wakes the wait below.
            let state = *self.state.borrow_and_update();
            let Some(term) = state.serving else {
                self.wait_for_opening().await?;
                continue;
            };
            self.seen = Some(self.check(&state, term)?);
            if self.next < state.high_watermark {
                return Ok(());
            }
            if self.state.changed().await.is_err() {
                return Err(self.door.not_leader(self.key));
            }
        }
    }

    /// The term, if this reader may go on in it.
    fn check(&self, state: &State, term: Term) -> Result<Term, Failure> {
        if self.seen.is_some_and(|seen| term < seen || term.is_twin_of(&seen)) {
            return Err(self.door.not_leader(self.key));
        }
        self.check_range(state)?;
        Ok(term)
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
        Err(Failure::out_of_range(self.next, log_start, high_watermark))
    }

    /// Waits a little for what kept the last read from giving anything. A copy of a damaged batch is on its way, or nobody
    /// has one.
    async fn sit_out(&mut self) -> Result<(), Failure> {
        let Some(Setback { cause, .. }) = self.setback.filter(|setback| setback.at == self.next) else {
            return Ok(());
        };
        match cause {
            Cause::Trimmed => tokio::time::sleep(TRIM_PAUSE).await,
            Cause::Damaged { base, .. } if self.state.borrow().irreparable == Some(base) => {
                return Err(Failure::irreparable(base));
            }
            Cause::Damaged { base, since } if since.elapsed() >= REPAIR_MAX => {
                self.setback = None;
                return Err(Failure::under_repair(base));
            }
            Cause::Damaged { .. } => tokio::time::sleep(REPAIR_LOOK).await,
        }
        Ok(())
    }

    fn set_back(&mut self, cause: Cause) {
        let before = self.setback.take().filter(|before| before.at == self.next);
        let cause = match (cause, before.map(|before| before.cause)) {
            (Cause::Damaged { base, .. }, Some(Cause::Damaged { since, .. })) => {
                Cause::Damaged { base, since }
            }
            (cause, _) => cause,
        };
        self.setback = Some(Setback { at: self.next, cause });
    }

    /// `None`: there is nothing to read any more, retention was faster, or a damaged batch is being replaced: to be
    /// waited for without memory.
    async fn read(
        &mut self,
        bytes_max: usize,
    ) -> Result<Option<(Fed, Option<OwnedSemaphorePermit>)>, Failure> {
        let state = *self.state.borrow();
        let Some(term) = state.serving else { return Ok(None) };
        let term = self.check(&state, term)?;
        let State { high_watermark, log_start, .. } = state;
        if self.next >= high_watermark {
            return Ok(None);
        }
        let read = self.door.shared.replicas.read(self.key, self.next, high_watermark, bytes_max).await;
        let (batches, reading) = match read {
            Ok(read) => read,
            Err(ReadError::BelowStart { .. }) => {
                self.set_back(Cause::Trimmed);
                return Ok(None);
            }
            Err(ReadError::Rotten { base, .. }) => {
                self.set_back(Cause::Damaged { base, since: Instant::now() });
                return Ok(None);
            }
            Err(error) => return Err(Failure::unread(&error)),
        };
        if batches.is_empty() {
            self.door.shared.replicas.found_damaged(self.key, self.next).await;
            self.set_back(Cause::Damaged { base: self.next, since: Instant::now() });
            return Ok(None);
        }
        self.setback = None;
        self.seen = Some(term);
        Ok(Some((Fed { batches, high_watermark, log_start, term }, reading)))
    }
}
