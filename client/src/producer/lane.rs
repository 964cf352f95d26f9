//! One partition's way to its leader: finds it, sends batches in order with several under way, and begins anew where the
//! answers stopped.
//!
//! Owns the connection's life and the deadlines. Never changes what `window` says about sequences.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use fulmar_core::batch::Compression;
use fulmar_core::id::TopicId;
use fulmar_proto::v1::{ErrorReason, ProduceRequest, ProduceResponse, produce_response::Outcome as Told};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Ack;
use super::queue::{Queue, Ready};
use super::window::Window;
use crate::connection::Connections;
use crate::error::{DescribeError, Failure, SendError, Verdict};
use crate::metadata::Metadata;
use crate::retry::Backoff;

/// Partitions that share a connection: an HTTP/2 server takes 200 streams on one by default, some fewer.
const LANES_PER_CONNECTION: u32 = 64;

/// A leader that is silent for so long may have been replaced without knowing it: others are asked.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// A stream costs the broker a task; one that nothing was sent on for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// Brokers remember a producer for at least 15 minutes after its last batch; well before that a new id is taken.
const PRODUCER_IDLE_MAX: Duration = Duration::from_mins(10);

/// One look-up gets so long, so that deadlines are answered in time.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// A topic that brokers do not know for so long is gone; before that one of them may only be behind, as after a restart.
const MISSING_MAX: Duration = Duration::from_secs(5);

/// What the lanes of a producer share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) metadata: Arc<Metadata>,
    pub(super) connections: Connections,
    pub(super) topic: String,
    pub(super) in_flight_max: usize,
    pub(super) delivery_timeout: Duration,
    pub(super) idempotent: bool,
    pub(super) compression: Compression,
    pub(super) partitions: AtomicU32,
    pub(super) record_bytes_max: AtomicUsize,
}

/// What `send` sees of a lane.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) queue: Arc<Queue>,
    /// Its leader does not answer or refuses for now: keyless records go elsewhere.
    pub(super) troubled: AtomicBool,
}

/// How a session with a leader ended.
enum End {
    /// The producer is closed and everything answered.
    Closed,
    /// Nothing to do for a while, or the answers to come would not fit any more.
    Left,
    /// Something went wrong; what is under way is to be sent again.
    Trouble(Failure),
}

/// See the module.
pub(super) struct Lane {
    context: Arc<Context>,
    gate: Arc<Gate>,
    partition: u32,
    topic_id: TopicId,
    window: Window,
    backoff: Backoff,
    /// Where the last refusal said that the leader is.
    hint: Option<String>,
    last: Failure,
    missing_since: Option<Instant>,
    /// When something was sent or answered last.
    active_at: Instant,
}

impl Lane {
    pub(super) fn new(context: Arc<Context>, gate: Arc<Gate>, partition: u32, topic_id: TopicId) -> Self {
        let window = Window::new(context.idempotent, context.compression);
        let last = Failure::lost("the leader did not answer yet");
        Self {
            context,
            gate,
            partition,
            topic_id,
            window,
            backoff: Backoff::new(),
            hint: None,
            last,
            missing_since: None,
            active_at: Instant::now(),
        }
    }

    /// Runs until the producer is closed and everything is answered.
    pub(super) async fn run(mut self) {
        loop {
            while self.window.is_empty() && self.gate.queue.is_empty() {
                if self.gate.queue.is_closed() {
                    return;
                }
                self.gate.queue.changed().await;
            }
            if self.window.is_empty() && self.active_at.elapsed() > PRODUCER_IDLE_MAX {
                self.window.renew();
            }
            let end = match self.leader() {
                Some(address) => self.session(&address).await,
                None => End::Trouble(Failure::lost("nobody leads the partition")),
            };
            match end {
                End::Closed => return,
                End::Left => self.window.connection_lost(),
                End::Trouble(failure) => self.recover(failure).await,
            }
        }
    }

    fn leader(&mut self) -> Option<String> {
        let metadata = &self.context.metadata;
        let hint = self.hint.take().filter(|address| !metadata.connections().is_unreachable(address));
        hint.or_else(|| metadata.way_to(&self.context.topic, self.partition))
    }

    /// Talks to one broker until something ends it.
    async fn session(&mut self, address: &str) -> End {
        let (requests, outgoing) = mpsc::channel(self.context.in_flight_max);
        self.fill(&requests);
        let slot = self.partition / LANES_PER_CONNECTION;
        let mut client = match self.context.connections.log(address, slot) {
            Ok(client) => client,
            Err(error) => return End::Trouble(Failure::lost(error.to_string())),
        };
        let opening = client.produce(self.context.metadata.request(address, ReceiverStream::new(outgoing)));
        // Beyond a connection's own timeout only a broker that is stopped keeps a call unanswered.
        let mut answers = match tokio::time::timeout(LOOK_UP_TIMEOUT, opening).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return self.not_opened(address, Failure::from_status(&status)),
            Err(_) => return self.not_opened(address, Failure::lost("the leader does not answer")),
        };
        self.context.metadata.connections().note_reached(address);
        self.active_at = Instant::now();
        let mut asked_at = Instant::now();
        loop {
            self.fill(&requests);
            if self.window.is_empty() && self.gate.queue.is_empty() && self.gate.queue.is_closed() {
                return End::Closed;
            }
            let wake_at = self.wake_at(asked_at);
            tokio::select! {
                answer = next(&mut answers, address) => {
                    let end = answer.and_then(|answer| self.take(answer).map_err(|end| *end));
                    if let Err(end) = end { return end; }
                }
                () = self.gate.queue.changed() => {}
                () = tokio::time::sleep_until(wake_at) => {
                    if self.expire() { return End::Left; }
                    if self.window.is_empty() && self.active_at.elapsed() >= IDLE_MAX { return End::Left; }
                    if self.is_silent(asked_at) {
                        asked_at = Instant::now();
                        if let Some(end) = self.is_replaced(address).await { return end; }
                    }
                }
            }
        }
    }

    fn not_opened(&self, address: &str, failure: Failure) -> End {
        if failure.reason.is_none() {
            self.context.metadata.connections().note_unreachable(address);
        }
        End::Trouble(failure)
    }

    /// Moves what may go from the queue into the window, and from the window onto the stream.
    fn fill(&mut self, requests: &mpsc::Sender<ProduceRequest>) {
        while self.window.len() < self.context.in_flight_max
            && self.gate.queue.ready(!self.window.is_empty()) == Ready::Now
        {
            let Some(pending) = self.gate.queue.take() else { break };
            self.window.push(pending);
        }
        while let Some(to_send) = self.window.next_to_send() {
            let request = ProduceRequest {
                topic_id: self.topic_id.to_bytes().to_vec().into(),
                partition: self.partition,
                batch: to_send.batch.bytes().clone(),
                correlation_id: to_send.correlation,
            };
            self.active_at = Instant::now();
            // The channel holds a whole window. If it is closed, the answers' side says so too.
            let _ = requests.try_send(request);
        }
    }

    /// When something has to be looked at without an answer.
    fn wake_at(&self, asked_at: Instant) -> Instant {
        let mut wake_at = Instant::now() + IDLE_MAX;
        if self.window.len() < self.context.in_flight_max
            && let Ready::At(at) = self.gate.queue.ready(!self.window.is_empty())
        {
            wake_at = wake_at.min(at);
        }
        if !self.window.is_empty() {
            wake_at = wake_at.min(self.active_at.max(asked_at) + SILENCE_MAX);
        }
        [self.window.deadline(), self.gate.queue.deadline()].into_iter().flatten().fold(wake_at, Instant::min)
    }

    fn is_silent(&self, asked_at: Instant) -> bool {
        !self.window.is_empty() && self.active_at.max(asked_at).elapsed() >= SILENCE_MAX
    }

    /// Asks whether another broker leads by now.
    async fn is_replaced(&mut self, address: &str) -> Option<End> {
        let context = &self.context;
        let until = Instant::now() + LOOK_UP_TIMEOUT;
        // If nobody answers there is nobody better to go to.
        context.metadata.refresh(&context.topic, until).await.ok()?;
        let leader = context.metadata.leader_address(&context.topic, self.partition)?;
        let replaced = leader != address && !context.metadata.connections().is_unreachable(&leader);
        // Behind an address that no broker calls its own may be any of them, the leader too.
        (replaced && context.metadata.is_of_a_broker(address))
            .then(|| End::Trouble(Failure::lost("the leader was replaced")))
    }

    /// Takes an answer; an error ends the session.
    fn take(&mut self, answer: ProduceResponse) -> Result<(), Box<End>> {
        let garbled = |what: &str| Box::new(End::Trouble(Failure::garbled(what)));
        if !self.window.expects(answer.correlation_id) {
            return Err(garbled("the broker answered out of order"));
        }
        self.active_at = Instant::now();
        match answer.outcome {
            Some(Told::BaseOffset(offset)) => {
                self.window.answer_front(Ok(Ack { partition: self.partition, offset }));
                self.backoff.reset();
                self.gate.troubled.store(false, Ordering::Relaxed);
                Ok(())
            }
            Some(Told::Error(error)) => Err(Box::new(self.refusal(Failure::from_error(error)))),
            None => Err(garbled("the broker's answer is empty")),
        }
    }

    /// The front batch was refused: for good, or for now.
    fn refusal(&mut self, failure: Failure) -> End {
        match failure.verdict() {
            Verdict::Retry | Verdict::Missing => self.window.refused_for_now(),
            Verdict::Unknown => {}
            // The broker has forgotten the producer; what it remembers of others says that nothing of this is there.
            Verdict::Sequence if self.window.is_idempotent() && !self.window.front_is_first() => {
                self.window.renew();
            }
            Verdict::Sequence | Verdict::Refused => {
                let in_doubt = self.unknown(&failure);
                self.window.fail_front(SendError::Refused(failure), &in_doubt);
                return End::Left;
            }
        }
        End::Trouble(failure)
    }

    /// After a session or a look-up failed: waits, finds out who leads, gives up what is too late.
    async fn recover(&mut self, failure: Failure) {
        self.gate.troubled.store(true, Ordering::Relaxed);
        tracing::debug!(topic = %self.context.topic, partition = self.partition, %failure, "publishing is interrupted");
        if failure.verdict() == Verdict::Refused {
            let error = SendError::Refused(failure);
            self.give_up(&error);
            return;
        }
        self.window.connection_lost();
        if !self.window.is_idempotent() && failure.verdict() == Verdict::Unknown {
            let unknown = self.unknown(&failure);
            self.window.fail_all(&unknown, &unknown);
        }
        self.hint.clone_from(&failure.leader);
        self.last = failure;
        self.expire();
        let deadline = [self.window.deadline(), self.gate.queue.deadline()].into_iter().flatten().min();
        let Some(deadline) = deadline else { return };
        self.backoff.wait_until(deadline).await;
        if !self.hint.as_ref().is_some_and(|address| self.context.metadata.hear(address)) {
            self.look_up().await;
        }
        self.expire();
    }

    async fn look_up(&mut self) {
        let context = Arc::clone(&self.context);
        let told = context.metadata.refresh(&context.topic, Instant::now() + LOOK_UP_TIMEOUT).await;
        if let Err(DescribeError::UnknownTopic { .. }) = &told {
            let since = *self.missing_since.get_or_insert_with(Instant::now);
            if since.elapsed() < MISSING_MAX {
                return;
            }
        } else {
            self.missing_since = None;
        }
        match told {
            Ok(topic) if topic.id != self.topic_id => {
                // Created anew: what was sent to the old one is not in this one.
                self.topic_id = topic.id;
                self.window.renew();
            }
            Ok(topic) => {
                let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
                context.partitions.fetch_max(count, Ordering::Relaxed);
            }
            Err(DescribeError::Unavailable { failure, .. }) => self.last = failure,
            Err(gone) => {
                let reason = match gone {
                    DescribeError::Retained { .. } => ErrorReason::TopicRetained,
                    _ => ErrorReason::UnknownTopic,
                };
                let failure = Failure { reason: Some(reason), ..Failure::lost(gone.to_string()) };
                self.give_up(&SendError::Refused(failure));
            }
        }
    }

    fn unknown(&self, failure: &Failure) -> SendError {
        SendError::OutcomeUnknown { timeout: self.context.delivery_timeout, failure: failure.clone() }
    }

    /// Answers everything that waits with `error`; what is in doubt, with that.
    fn give_up(&mut self, error: &SendError) {
        let in_doubt = self.unknown(&self.last);
        self.window.fail_all(&in_doubt, error);
        for pending in self.gate.queue.take_all() {
            pending.waiter.complete(Err(error.clone()));
        }
    }

    /// Answers what is too late. Returns whether the connection is to be left.
    fn expire(&mut self) -> bool {
        let now = Instant::now();
        let timeout = self.context.delivery_timeout;
        let in_time = SendError::TimedOut { timeout, failure: self.last.clone() };
        for pending in self.gate.queue.take_expired(now) {
            pending.waiter.complete(Err(in_time.clone()));
        }
        let unknown = self.unknown(&self.last);
        self.window.expire(now, &unknown, &in_time)
    }
}

/// The next answer, or how the stream ended.
async fn next(answers: &mut Streaming<ProduceResponse>, address: &str) -> Result<ProduceResponse, End> {
    match answers.message().await {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(End::Trouble(Failure::lost(format!("{address} ended the stream")))),
        Err(status) => Err(End::Trouble(Failure::from_status(&status))),
    }
}
