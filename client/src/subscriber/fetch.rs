//! Reading from leaders: a stream for each leader carries all the partitions it leads; what fails goes back to be looked
//! up anew.
//!
//! Owns credit and reconnecting. Never delivers out of order or twice: `position` skips what was read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fulmar_proto::v1::{ErrorReason, FetchRequest, FetchResponse};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Chunk;
use super::position::Position;
use crate::connection::Connections;
use crate::error::{DescribeError, Failure, SubscribeError, Verdict};
use crate::metadata::Metadata;
use crate::retry::Backoff;

/// A call that is not opened for so long is with a broker that is stopped.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// One look-up of who leads gets so long.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// A reader that got nothing for so long makes sure that its leader still leads: a stopped one keeps silent too.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What is no batch so often in a row was not spoilt on the way.
const GARBLED_MAX: u32 = 5;

/// What was ordered.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) metadata: Arc<Metadata>,
    pub(super) topic: String,
    /// So many bytes a partition may be sent ahead.
    pub(super) credit_bytes: u32,
    pub(super) chunks: mpsc::Sender<Chunk>,
}

/// What a session gives back when it ends: partitions to be read on, and why. Without a failure the program has gone.
struct Returned {
    positions: Vec<Position>,
    failure: Option<Failure>,
    progressed: bool,
}

/// Gives partitions to sessions, and takes them back.
pub(super) struct Reader {
    order: Order,
    connections: Connections,
    waiting: Vec<Position>,
    hints: BTreeMap<u32, String>,
    sessions: JoinSet<Returned>,
    backoff: Backoff,
}

impl Reader {
    pub(super) fn new(order: Order, positions: Vec<Position>) -> Self {
        Self {
            order,
            connections: Connections::default(),
            waiting: positions,
            hints: BTreeMap::new(),
            sessions: JoinSet::new(),
            backoff: Backoff::new(),
        }
    }

    /// Runs until every partition is done or has failed, or nobody listens any more.
    pub(super) async fn run(mut self) {
        loop {
            self.start_sessions();
            if self.waiting.is_empty() && self.sessions.is_empty() {
                return;
            }
            let again = async {
                if self.waiting.is_empty() {
                    std::future::pending::<()>().await;
                } else {
                    tokio::time::sleep(self.backoff.delay()).await;
                }
            };
            tokio::select! {
                () = self.order.chunks.closed() => return,
                () = again => self.look_up().await,
                Some(returned) = self.sessions.join_next() => {
                    let Ok(returned) = returned else { continue };
                    self.take_back(returned).await;
                }
            }
        }
    }

    /// A session for each leader; partitions without one wait.
    fn start_sessions(&mut self) {
        let metadata = &self.order.metadata;
        let mut by_leader: BTreeMap<String, Vec<Position>> = BTreeMap::new();
        for position in std::mem::take(&mut self.waiting) {
            let partition = position.key.partition;
            let hint =
                self.hints.remove(&partition).filter(|hint| !metadata.connections().is_unreachable(hint));
            match hint.or_else(|| metadata.way_to(&self.order.topic, partition)) {
                Some(address) => by_leader.entry(address).or_default().push(position),
                None => self.waiting.push(position),
            }
        }
        for (address, positions) in by_leader {
            let (order, connections) = (self.order.clone(), self.connections.clone());
            self.sessions.spawn(Session { order, positions, progressed: false }.run(connections, address));
        }
    }

    async fn take_back(&mut self, returned: Returned) {
        if returned.progressed {
            self.backoff.reset();
        }
        let Some(failure) = returned.failure else { return };
        tracing::debug!(topic = %self.order.topic, %failure, "reading is interrupted");
        if let Some(leader) = &failure.leader {
            self.hints.extend(returned.positions.iter().map(|at| (at.key.partition, leader.clone())));
        }
        let looked_up = failure.leader.is_some();
        self.waiting.extend(returned.positions);
        tokio::time::sleep(self.backoff.delay()).await;
        if !looked_up {
            self.look_up().await;
        }
    }

    /// Finds out who leads; a topic that is gone ends all that waits.
    async fn look_up(&mut self) {
        let until = Instant::now() + LOOK_UP_TIMEOUT;
        let gone = match self.order.metadata.refresh(&self.order.topic, until).await {
            Ok(topic) if self.waiting.iter().all(|position| position.key.topic == topic.id) => return,
            Ok(_) => {
                DescribeError::UnknownTopic { topic: format!("{} (it was created anew)", self.order.topic) }
            }
            Err(DescribeError::Unavailable { .. }) => return,
            Err(gone) => gone,
        };
        self.waiting.clear();
        let _ = self.order.chunks.send(Err(SubscribeError::Topic(gone))).await;
    }
}

/// One fetch stream at one broker.
struct Session {
    order: Order,
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
    async fn run(mut self, connections: Connections, address: String) -> Returned {
        let failure = match self.read(&connections, &address).await {
            Err(End::Done) | Ok(()) => None,
            Err(End::Failed(failure)) => Some(failure),
        };
        Returned { positions: self.positions, failure, progressed: self.progressed }
    }

    async fn read(&mut self, connections: &Connections, address: &str) -> Result<(), End> {
        // The first requests must fit before the stream is opened; later there is one request a chunk.
        let (requests, outgoing) = mpsc::channel(self.positions.len() + 16);
        for position in &self.positions {
            let _ = requests.try_send(self.request(position));
        }
        let mut answers = self.open(connections, address, outgoing).await?;
        while !self.positions.is_empty() {
            let answer = match tokio::time::timeout(SILENCE_MAX, answers.message()).await {
                Ok(Ok(Some(answer))) => answer,
                Ok(Ok(None)) => {
                    return Err(End::Failed(Failure::lost(format!("{address} ended the stream"))));
                }
                Ok(Err(status)) => return Err(End::Failed(Failure::from_status(&status))),
                Err(_) => {
                    self.is_replaced(address).await?;
                    continue;
                }
            };
            self.take(answer, &requests).await?;
        }
        Ok(())
    }

    async fn open(
        &self,
        connections: &Connections,
        address: &str,
        outgoing: mpsc::Receiver<FetchRequest>,
    ) -> Result<Streaming<FetchResponse>, End> {
        let mut client =
            connections.log(address, 0).map_err(|error| End::Failed(Failure::lost(error.to_string())))?;
        let reached = self.order.metadata.connections();
        let opening = client.fetch(ReceiverStream::new(outgoing));
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
            bytes_max: self.order.credit_bytes,
        }
    }

    /// Nothing came for a while: if another broker leads one of the partitions, all are looked up anew.
    async fn is_replaced(&self, address: &str) -> Result<(), End> {
        let metadata = &self.order.metadata;
        if metadata.servers().iter().any(|server| server == address) {
            return Ok(());
        }
        let until = Instant::now() + LOOK_UP_TIMEOUT;
        if metadata.refresh(&self.order.topic, until).await.is_err() {
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
        for bytes in answer.batches {
            let messages = match self.positions[at].read(bytes) {
                Ok(messages) => messages,
                Err(failure) if self.positions[at].garbled < GARBLED_MAX => return Err(End::Failed(failure)),
                Err(failure) => return self.give_up(at, failure).await,
            };
            self.progressed = true;
            if !messages.is_empty() && self.order.chunks.send(Ok(messages)).await.is_err() {
                self.positions.clear();
                return Err(End::Done);
            }
        }
        if let Some(error) = answer.error {
            return self.refused(at, Failure::from_error(error)).await;
        }
        if self.positions[at].is_done() {
            let done = self.positions.swap_remove(at);
            let _ = requests.send(FetchRequest { stop: true, ..self.request(&done) }).await;
        } else if self.positions[at].uncredited * 2 >= self.order.credit_bytes as usize {
            self.positions[at].uncredited = 0;
            let _ = requests.send(self.request(&self.positions[at])).await;
        }
        Ok(())
    }

    /// A partition is not delivered any more: it alone ends, or the whole session is looked up anew.
    async fn refused(&mut self, at: usize, failure: Failure) -> Result<(), End> {
        match failure.verdict() {
            Verdict::Retry | Verdict::Unknown | Verdict::Missing => Err(End::Failed(failure)),
            Verdict::Sequence | Verdict::Refused => self.give_up(at, failure).await,
        }
    }

    async fn give_up(&mut self, at: usize, failure: Failure) -> Result<(), End> {
        let position = self.positions.swap_remove(at);
        let partition = position.key.partition;
        let error = match failure.reason {
            Some(ErrorReason::OffsetOutOfRange) => {
                SubscribeError::OffsetOutOfRange { partition, asked: position.next, message: failure.message }
            }
            _ => SubscribeError::Refused { partition, failure },
        };
        if self.order.chunks.send(Err(error)).await.is_err() {
            self.positions.clear();
        }
        Ok(())
    }
}
