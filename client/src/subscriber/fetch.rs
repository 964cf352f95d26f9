//! Reading from leaders: a stream for each leader carries all the partitions it leads; what fails goes back to be looked
//! up anew.
//!
//! Owns credit and reconnecting. Never delivers out of order or twice: `position` skips what was read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fulmar_core::batch::{Batch, Compression};
use fulmar_core::id::{PartitionKey, TopicId};
use fulmar_proto::v1::{ErrorReason, FetchRequest, FetchResponse};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::chunk::{Batched, Chunk, Gathered, Room};
use super::credit::Credit;
use super::position::Position;
use super::trouble::Troubles;
use crate::admin::list_offsets;
use crate::connection::Connections;
use crate::error::{DescribeError, Failure, SubscribeError, Verdict};
use crate::metadata::{Metadata, Topic};
use crate::retry::Backoff;

/// A call that is not opened for so long is with a broker that is stopped.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// One look-up of who leads gets so long.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// A reader that got nothing for so long makes sure that its leader still leads: a stopped one keeps silent too.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Beyond it a broker that owes messages is not slow: the stream is opened anew.
const OWED_MAX: Duration = Duration::from_secs(20);

/// What is no batch so often in a row was not spoilt on the way.
const GARBLED_MAX: u32 = 5;

/// A topic that brokers do not know for so long is gone; before that one of them may only be behind, as after a restart.
const MISSING_MAX: Duration = Duration::from_secs(5);

/// How often a reader of all partitions looks whether there are more by now.
const GROWTH_EVERY: Duration = Duration::from_secs(10);

/// Partitions on their way back from sessions; beyond it a session waits, as it does for a program that does not read.
const RETURNS_MAX: usize = 64;

/// What was ordered.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) metadata: Arc<Metadata>,
    pub(super) topic: Arc<str>,
    /// It fits a pattern: that it goes ends nothing, that it is retained is a pause, and who leads is told by who looks for such
    /// topics.
    pub(super) is_fitting: bool,
    /// Which of the connections to a broker its streams share.
    pub(super) slot: u32,
    /// How much each partition may be sent ahead.
    pub(super) credit: Arc<Credit>,
    pub(super) chunks: mpsc::Sender<Chunk>,
    /// About so many bytes are handed over at once.
    pub(super) chunk_bytes: usize,
    /// What decompressed messages that wait for the program may take, by bytes.
    pub(super) room: Arc<Semaphore>,
    pub(super) room_bytes: u32,
    /// How many partitions which topic had, if those that are added later are to be read too.
    pub(super) grows_from: Option<(TopicId, u32)>,
}

impl Order {
    /// Credit bounds what is under way; what comes out of compressed batches may be far more. `None`: there is no room for it now.
    fn room_now(&self, batch: &Batch) -> Option<Room> {
        match self.room_bytes_of(batch) {
            0 => Some(None),
            bytes => Arc::clone(&self.room).try_acquire_many_owned(bytes).ok().map(Some),
        }
    }

    async fn room_for(&self, batch: &Batch) -> Room {
        Arc::clone(&self.room).acquire_many_owned(self.room_bytes_of(batch)).await.ok()
    }

    fn room_bytes_of(&self, batch: &Batch) -> u32 {
        if batch.compression() == Compression::None {
            return 0;
        }
        u32::try_from(batch.plain_size()).unwrap_or(u32::MAX).min(self.room_bytes)
    }
}

/// What a session gives back: partitions to be read on, and why.
struct Returned {
    positions: Vec<Position>,
    failure: Failure,
    progressed: bool,
}

/// Gives partitions to sessions, and takes them back.
pub(super) struct Reader {
    order: Order,
    connections: Connections,
    waiting: Vec<Position>,
    /// Where a partition's leader is, by the word of the broker that refused it.
    hints: BTreeMap<u32, String>,
    /// Partitions that went where a hint said since the last look-up: two brokers that are behind could send a reader to and
    /// fro for ever.
    hinted: BTreeSet<u32>,
    sessions: JoinSet<()>,
    back: mpsc::Sender<Returned>,
    returned: mpsc::Receiver<Returned>,
    backoff: Backoff,
    missing_since: Option<Instant>,
    troubles: Troubles,
}

impl Reader {
    pub(super) fn new(order: Order, connections: Connections, positions: Vec<Position>) -> Self {
        let (back, returned) = mpsc::channel(RETURNS_MAX);
        Self {
            order,
            connections,
            waiting: positions,
            hints: BTreeMap::new(),
            hinted: BTreeSet::new(),
            sessions: JoinSet::new(),
            back,
            returned,
            backoff: Backoff::new(),
            missing_since: None,
            troubles: Troubles::default(),
        }
    }

    /// Runs until every partition is done or has failed, or nobody listens any more.
    pub(super) async fn run(mut self) {
        let mut growth = tokio::time::interval_at(Instant::now() + GROWTH_EVERY, GROWTH_EVERY);
        loop {
            self.start_sessions();
            if self.waiting.is_empty() && self.sessions.is_empty() && self.returned.is_empty() {
                return;
            }
            let again = if self.waiting.is_empty() { Duration::MAX } else { self.backoff.delay() };
            tokio::select! {
                () = self.order.chunks.closed() => return,
                () = tokio::time::sleep(again), if !self.waiting.is_empty() => self.look_up().await,
                Some(returned) = self.returned.recv() => self.take_back(returned).await,
                Some(_ended) = self.sessions.join_next() => {}
                _ = growth.tick(), if self.order.grows_from.is_some() => self.look_for_growth().await,
            }
        }
    }

    /// A session for each leader; partitions without one wait.
    fn start_sessions(&mut self) {
        let metadata = &self.order.metadata;
        let mut by_leader: BTreeMap<String, Vec<Position>> = BTreeMap::new();
        for position in std::mem::take(&mut self.waiting) {
            let partition = position.key.partition;
            let hint = self.hints.remove(&partition);
            if hint.is_some() {
                self.hinted.insert(partition);
            }
            let hint = hint.filter(|hint| !metadata.connections().is_unreachable(hint));
            match hint.or_else(|| metadata.way_to(&self.order.topic, partition)) {
                Some(address) => by_leader.entry(address).or_default().push(position),
                None => self.waiting.push(position),
            }
        }
        for (address, positions) in by_leader {
            let (order, back, connections) =
                (self.order.clone(), self.back.clone(), self.connections.clone());
            self.sessions
                .spawn(Session { order, back, positions, progressed: false }.run(connections, address));
        }
    }

    /// Waits a little, so that what ends together is looked up once.
    async fn take_back(&mut self, returned: Returned) {
        let mut is_known = self.note(returned);
        tokio::time::sleep(self.backoff.delay()).await;
        while let Ok(returned) = self.returned.try_recv() {
            is_known &= self.note(returned);
        }
        if !is_known {
            self.look_up().await;
        }
    }

    /// Whether it is known where to go on, and whoever is there is no news.
    fn note(&mut self, returned: Returned) -> bool {
        let Returned { positions, failure, progressed } = returned;
        tracing::debug!(topic = %self.order.topic, %failure, "reading is interrupted");
        if progressed {
            self.backoff.reset();
        }
        let is_first = positions.iter().all(|position| !self.hinted.contains(&position.key.partition));
        let hint = failure.leader.filter(|_| is_first);
        let is_known = hint.as_ref().is_some_and(|leader| self.order.metadata.hear(leader));
        if let Some(leader) = hint {
            self.hints.extend(positions.iter().map(|position| (position.key.partition, leader.clone())));
        }
        self.tell_of(&positions, &failure.message);
        self.waiting.extend(positions);
        is_known
    }

    /// What cannot be read for long is told to people; it is tried on and on.
    fn tell_of(&mut self, positions: &[Position], why: &str) {
        let now = Instant::now();
        for position in positions {
            if self.troubles.note(position, now) {
                let (topic, partition) = (&self.order.topic, position.key.partition);
                tracing::warn!(%topic, partition, %why, "a partition could not be read for a minute; it is tried further");
            }
        }
    }

    /// The same of those that wait, if it holds for where their leader is.
    fn tell_of_waiting(&mut self, why: &str, holds: impl Fn(Option<String>) -> bool) {
        let (metadata, topic) = (&self.order.metadata, &self.order.topic);
        let waiting = self.waiting.iter();
        let told = waiting.filter(|waiting| holds(metadata.leader_address(topic, waiting.key.partition)));
        let told: Vec<Position> = told.cloned().collect();
        self.tell_of(&told, why);
    }

    /// Finds out who leads; a topic that is gone ends all that waits.
    async fn look_up(&mut self) {
        self.hinted.clear();
        let until = Instant::now() + LOOK_UP_TIMEOUT;
        let gone = match self.order.metadata.refresh(&self.order.topic, until).await {
            Ok(topic) if self.waiting.iter().all(|position| position.key.topic == topic.id) => {
                self.missing_since = None;
                self.tell_of_waiting("nobody leads it", |leader| leader.is_none());
                return;
            }
            Ok(_) => {
                DescribeError::UnknownTopic { topic: format!("{} (it was created anew)", self.order.topic) }
            }
            Err(DescribeError::Unavailable { failure, .. }) => {
                self.tell_of_waiting(&failure.message, |_| true);
                return;
            }
            // A pause, but for who waits for an end: that may never come.
            Err(DescribeError::Retained { .. })
                if self.order.is_fitting && self.waiting.iter().all(|position| position.end.is_none()) =>
            {
                return;
            }
            Err(missing @ DescribeError::UnknownTopic { .. }) => {
                let since = *self.missing_since.get_or_insert_with(Instant::now);
                if since.elapsed() < MISSING_MAX {
                    return;
                }
                missing
            }
            Err(gone) => gone,
        };
        self.waiting.clear();
        self.order.grows_from = None;
        if self.order.is_fitting {
            tracing::debug!(topic = %self.order.topic, %gone, "a topic that fitted is not read any more");
            return;
        }
        let _ = self.order.chunks.send(Err(SubscribeError::Topic(gone))).await;
    }

    /// Partitions that were added since are read from the oldest record that is kept: it was published after this reader began.
    async fn look_for_growth(&mut self) {
        let Some((id, known)) = self.order.grows_from else { return };
        let until = Instant::now() + LOOK_UP_TIMEOUT;
        // If nobody answers, the next time.
        let Ok(topic) = self.order.metadata.refresh(&self.order.topic, until).await else { return };
        let added = added((id, known), &topic);
        if added.is_empty() {
            return;
        }
        let count = known.saturating_add(u32::try_from(added.len()).unwrap_or(u32::MAX));
        tracing::debug!(topic = %self.order.topic, from = known, to = count, "the topic has more partitions");
        self.order.credit.divide(count as usize);
        self.waiting.extend(added.into_iter().map(|key| Position::at_start(key, 0, None)));
        self.order.grows_from = Some((id, count));
    }
}

/// The partitions that a topic has beyond so many. One of the same name that was created anew is another topic: none.
fn added((id, known): (TopicId, u32), topic: &Topic) -> Vec<PartitionKey> {
    if topic.id != id {
        return Vec::new();
    }
    let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
    (known..count).map(|partition| PartitionKey { topic: id, partition }).collect()
}

/// Where what is kept begins, seen from who is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogStart {
    /// It was moved there, or is not known yet.
    MayBeAhead,
    /// Its log ends before: a person has accepted a loss. Going back would bring what nobody asked for.
    IsBehind,
}

/// One fetch stream at one broker.
struct Session {
    order: Order,
    back: mpsc::Sender<Returned>,
    positions: Vec<Position>,
    progressed: bool,
}

/// Why a session ends.
enum End {
    /// The program does not listen any more, or all partitions are done.
    Done,
    Failed(Failure),
}

impl Session {
    async fn run(mut self, connections: Connections, address: String) {
        if let Err(End::Failed(failure)) = self.read(&connections, &address).await {
            let positions = std::mem::take(&mut self.positions);
            self.give_back(positions, failure).await;
        }
    }

    async fn give_back(&self, positions: Vec<Position>, failure: Failure) {
        // The reader is gone when nobody listens any more.
        let _gone = self.back.send(Returned { positions, failure, progressed: self.progressed }).await;
    }

    async fn read(&mut self, connections: &Connections, address: &str) -> Result<(), End> {
        let mut credit = self.order.credit.changes();
        // The first requests must fit before the stream is opened; later there is one request a chunk.
        let (requests, outgoing) = mpsc::channel(self.positions.len() + 16);
        for position in &self.positions {
            let _ = requests.try_send(self.request(position));
        }
        let mut answers = self.open(connections, address, outgoing).await?;
        let mut heard = Instant::now();
        while !self.positions.is_empty() {
            let answer = tokio::select! {
                answer = tokio::time::timeout(SILENCE_MAX, answers.message()) => answer,
                // Partitions have come or gone: who waits at its end would keep a share that is too large for ever.
                Ok(()) = credit.changed() => {
                    self.ask_again(&requests).await;
                    continue;
                }
            };
            let answer = match answer {
                Ok(Ok(Some(answer))) => answer,
                Ok(Ok(None)) => {
                    return Err(End::Failed(Failure::lost(format!("{address} ended the stream"))));
                }
                Ok(Err(status)) => return Err(End::Failed(Failure::from_status(&status))),
                Err(_) => {
                    self.is_replaced(address).await?;
                    self.is_owed(address, heard)?;
                    continue;
                }
            };
            self.take(answer, &requests).await?;
            heard = Instant::now();
        }
        Ok(())
    }

    /// Asks for all from where they stand, with the credit of now.
    async fn ask_again(&mut self, requests: &mpsc::Sender<FetchRequest>) {
        for at in 0..self.positions.len() {
            self.positions[at].uncredited = 0;
            // If nobody takes requests any more, the answers' side says so too.
            let _ = requests.send(self.request(&self.positions[at])).await;
        }
    }

    /// What is to be read up to its end is there: a broker that does not send it has lost the request.
    fn is_owed(&self, address: &str, heard: Instant) -> Result<(), End> {
        let owed = self.positions.iter().find(|position| position.end.is_some());
        match owed {
            Some(position) if heard.elapsed() >= OWED_MAX => Err(End::Failed(Failure::lost(format!(
                "{address} sends nothing of partition {} from offset {} on",
                position.key.partition, position.next
            )))),
            Some(_) | None => Ok(()),
        }
    }

    async fn open(
        &self,
        connections: &Connections,
        address: &str,
        outgoing: mpsc::Receiver<FetchRequest>,
    ) -> Result<Streaming<FetchResponse>, End> {
        let mut client = connections
            .log(address, self.order.slot)
            .map_err(|error| End::Failed(Failure::lost(error.to_string())))?;
        let reached = self.order.metadata.connections();
        let opening = client.fetch(self.order.metadata.request(address, ReceiverStream::new(outgoing)));
        let failure = match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(response)) => {
                reached.note_reached(address);
                return Ok(response.into_inner());
            }
            Ok(Err(status)) => Failure::from_status(&status),
            Err(_) => Failure::lost(format!("{address} does not answer")),
        };
        if failure.reason.is_none() {
            reached.note_unreachable(address);
        }
        Err(End::Failed(failure))
    }

    fn request(&self, position: &Position) -> FetchRequest {
        FetchRequest {
            topic_id: position.key.topic.to_bytes().to_vec().into(),
            partition: position.key.partition,
            offset: position.next,
            term: position.term.clone(),
            stop: false,
            bytes_max: self.order.credit.each(),
        }
    }

    /// Nothing came for a while: if another broker leads one of the partitions, all are looked up anew.
    async fn is_replaced(&self, address: &str) -> Result<(), End> {
        let metadata = &self.order.metadata;
        // Behind an address that no broker calls its own may be any of them, the leader too.
        if !metadata.is_of_a_broker(address) {
            return Ok(());
        }
        let until = Instant::now() + LOOK_UP_TIMEOUT;
        if !self.order.is_fitting && metadata.refresh(&self.order.topic, until).await.is_err() {
            return Ok(());
        }
        let replaced = self.positions.iter().any(|position| {
            let leader = metadata.leader_address(&self.order.topic, position.key.partition);
            leader.is_some_and(|leader| leader != address && !metadata.connections().is_unreachable(&leader))
        });
        if replaced { Err(End::Failed(Failure::lost("a leader was replaced"))) } else { Ok(()) }
    }

    async fn take(
        &mut self,
        answer: FetchResponse,
        requests: &mpsc::Sender<FetchRequest>,
    ) -> Result<(), End> {
        let of_answer = |position: &Position| {
            position.key.partition == answer.partition
                && position.key.topic.to_bytes()[..] == answer.topic_id[..]
        };
        // What was under way for a partition that is done needs nobody any more.
        let Some(at) = self.positions.iter().position(of_answer) else { return Ok(()) };
        if !answer.term.is_empty() {
            self.positions[at].term = answer.term;
        }
        if let Some(failure) = self.deliver(at, answer.batches).await? {
            if self.positions[at].garbled < GARBLED_MAX {
                return Err(End::Failed(failure));
            }
            let position = self.positions.swap_remove(at);
            return self.give_up(position, failure).await;
        }
        if let Some(error) = answer.error {
            return self.refused(at, Failure::from_error(error)).await;
        }
        if self.positions[at].is_done() {
            let done = self.positions.swap_remove(at);
            let _ = requests.send(FetchRequest { stop: true, ..self.request(&done) }).await;
        } else if self.positions[at].uncredited * 2 >= self.order.credit.each() as usize {
            self.positions[at].uncredited = 0;
            let _ = requests.send(self.request(&self.positions[at])).await;
        }
        Ok(())
    }

    /// Hands over the messages of batches, whatever comes behind them; gives why one of them cannot be read.
    async fn deliver(&mut self, at: usize, batches: Vec<Bytes>) -> Result<Option<Failure>, End> {
        let mut gathered = Gathered::default();
        let mut failure = None;
        for bytes in batches {
            match self.gather(at, bytes, &mut gathered).await {
                Ok(()) if gathered.has(self.order.chunk_bytes) => self.hand_over(&mut gathered).await?,
                Ok(()) => {}
                Err(End::Failed(why)) => {
                    failure = Some(why);
                    break;
                }
                Err(End::Done) => return Err(End::Done),
            }
        }
        self.hand_over(&mut gathered).await?;
        Ok(failure)
    }

    async fn gather(&mut self, at: usize, bytes: Bytes, gathered: &mut Gathered) -> Result<(), End> {
        let batch = self.positions[at].parse(bytes).map_err(End::Failed)?;
        let room = if let Some(room) = self.order.room_now(&batch) {
            room
        } else {
            // What is gathered may hold the room, and gives none of it back before it is taken.
            self.hand_over(gathered).await?;
            self.order.room_for(&batch).await
        };
        let messages = self.positions[at].read(&self.order.topic, &batch).map_err(End::Failed)?;
        self.progressed = true;
        if let Some(messages) = messages {
            gathered.push(Batched { messages, room }, batch.size());
        }
        Ok(())
    }

    async fn hand_over(&mut self, gathered: &mut Gathered) -> Result<(), End> {
        let Some(batches) = gathered.take() else { return Ok(()) };
        if self.order.chunks.send(Ok(batches)).await.is_err() {
            self.positions.clear();
            return Err(End::Done);
        }
        Ok(())
    }

    /// A partition is not delivered any more: it alone goes back to be looked up, or ends. The others are read on: they may
    /// be led here and nowhere else.
    async fn refused(&mut self, at: usize, failure: Failure) -> Result<(), End> {
        let pauses = self.order.is_fitting && failure.reason == Some(ErrorReason::TopicRetained);
        let is_trimmed =
            failure.reason == Some(ErrorReason::OffsetOutOfRange) && self.positions[at].is_at_start();
        match failure.verdict() {
            Verdict::Sequence | Verdict::Refused if !pauses && !is_trimmed => {
                let position = self.positions.swap_remove(at);
                self.give_up(position, failure).await
            }
            Verdict::Sequence | Verdict::Refused | Verdict::Retry | Verdict::Unknown | Verdict::Missing => {
                let mut position = self.positions.swap_remove(at);
                if is_trimmed && self.find_start(&mut position).await == LogStart::IsBehind {
                    return self.give_up(position, failure).await;
                }
                if !position.is_done() {
                    self.give_back(vec![position], failure).await;
                }
                Ok(())
            }
        }
    }

    /// Retention was faster than who begins with what is kept. If it is not told where that is, the next refusal asks again.
    async fn find_start(&self, position: &mut Position) -> LogStart {
        let (metadata, partition) = (&self.order.metadata, position.key.partition);
        let told = list_offsets(metadata, &self.order.topic, &[partition], None).await;
        let told = told.ok().and_then(|told| told.into_iter().find(|told| told.partition == partition));
        match told.filter(|told| told.error.is_none()) {
            Some(told) if told.high_watermark < position.next => return LogStart::IsBehind,
            Some(told) if told.log_start > position.next => position.move_start(told.log_start),
            Some(_) | None => {}
        }
        LogStart::MayBeAhead
    }

    async fn give_up(&mut self, position: Position, failure: Failure) -> Result<(), End> {
        let (topic, partition) = (self.order.topic.to_string(), position.key.partition);
        let error = match failure.reason {
            Some(ErrorReason::OffsetOutOfRange) => {
                let (asked, message) = (position.next, failure.message);
                SubscribeError::OffsetOutOfRange { topic, partition, asked, message }
            }
            _ => SubscribeError::Refused { topic, partition, failure },
        };
        if self.order.chunks.send(Err(error)).await.is_err() {
            self.positions.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "fetch_tests.rs"]
mod tests;
