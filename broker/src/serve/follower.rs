//! One partition of a subscription: read here if this broker leads it, else from the leader's `Log.Fetch`.
//!
//! Owns the place in the log. When the leader changes it goes on where it stood, so nothing is lost and nothing comes twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fulmar_core::batch::Batch;
use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::{Ordinal, PartitionKey};
use fulmar_core::offset::Offset;
use fulmar_core::term::Term;
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::{ErrorReason, FetchRequest, FetchResponse, Header, Message, SubscribeResponse};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::convert::{messages_of, term_bytes, term_of, topic_bytes};
use super::error::Failure;
use super::feed::{Fed, Form};
use super::outflow::{Gone, Held};
use super::subscribe::{Beginning, Queue};
use super::{DEADLINE_DEFAULT, Door, find, forward};
use crate::dial;

/// About so many bytes of messages in one response: well below the 4 MiB that clients take by default.
const RESPONSE_BYTES: usize = 512 * 1024;
/// Between two looks for a leader.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Bytes on their way from another broker, for each partition.
const CREDIT_BYTES: u32 = 1 << 20;

/// One partition of a subscription, from an offset on.
pub(super) struct Follower {
    door: Door,
    topic: Arc<TopicRecord>,
    key: PartitionKey,
    /// Delivered next.
    next: Offset,
    /// Where it was put to begin with what is kept: until it went on from there, retention may move that.
    from_start: Option<Offset>,
    /// The highest term that was seen.
    seen: Option<Term>,
    /// A pattern means it: that it goes ends nothing else, and that it is retained is a pause.
    is_fitting: bool,
    queue: Queue,
    /// Of the whole subscription.
    end: CancellationToken,
}

/// Why a follower stops looking at one source.
enum Left {
    /// Another source may go on.
    Elsewhere,
    /// The program is gone, or too slow.
    Closed,
    /// Nobody can go on.
    Failed(Failure),
}

impl Follower {
    pub(super) fn new(
        door: Door,
        start: Beginning,
        is_fitting: bool,
        queue: Queue,
        end: CancellationToken,
    ) -> Self {
        let Beginning { topic, key, next, moves_on } = start;
        let from_start = moves_on.then_some(next);
        Self { door, topic, key, next, from_start, seen: None, is_fitting, queue, end }
    }

    /// Until the subscription ends, or this partition does.
    pub(super) async fn run(mut self) {
        let end = self.end.clone();
        let failure = tokio::select! {
            () = end.cancelled() => self.door.shared.stop.is_cancelled().then(Door::leaving),
            left = self.follow() => left,
        };
        if let Some(failure) = failure {
            if self.is_fitting && failure.reason == ErrorReason::UnknownTopic {
                return;
            }
            let failure = failure.with("topic", &self.topic.name).with("partition", self.key.partition);
            // The program may be gone, or be told by another follower.
            let _gone = self.queue.send(Err(failure.into()), None).await;
        }
        end.cancel();
    }

    /// Until the program is gone or too slow, or nobody can go on: then why.
    async fn follow(&mut self) -> Option<Failure> {
        loop {
            let me = self.door.shared.replicas.me();
            let left = match self.door.leader(self.key) {
                Some(leader) if leader == me => self.read_here().await,
                Some(leader) => self.read_there(leader.ordinal).await,
                None => Left::Elsewhere,
            };
            let failure = match left {
                Left::Closed => return None,
                Left::Failed(failure) if self.is_trimmed(&failure) => self.find_start(failure).await,
                Left::Failed(failure) => Some(failure),
                // Deleted or retained meanwhile?
                Left::Elsewhere => self.door.topic_of(self.key.topic).err(),
            };
            let pauses = |failure: &Failure| self.is_fitting && failure.reason == ErrorReason::TopicRetained;
            if let Some(failure) = failure.filter(|failure| !pauses(failure)) {
                return Some(failure);
            }
            tokio::select! {
                () = self.queue.closed() => return None,
                () = sleep(RETRY_EVERY) => {}
            }
        }
    }

    /// Whether retention was faster than who is to begin with what is kept.
    fn is_trimmed(&self, failure: &Failure) -> bool {
        failure.reason == ErrorReason::OffsetOutOfRange && self.from_start == Some(self.next)
    }

    /// If nobody tells where the log starts now, the next refusal asks again. Where it ends before, a person has accepted a loss: going
    /// back would bring what nobody asked for.
    async fn find_start(&mut self, refused: Failure) -> Option<Failure> {
        let deadline = Instant::now() + DEADLINE_DEFAULT;
        match self.door.offsets(&self.topic, self.key, None, deadline).await {
            Ok(offsets) if offsets.high_watermark < self.next.0 => Some(refused),
            Ok(offsets) => {
                self.next = self.next.max(Offset(offsets.log_start));
                self.from_start = Some(self.next);
                None
            }
            Err(failure) => match left(failure) {
                Left::Failed(failure) => Some(failure),
                Left::Elsewhere | Left::Closed => None,
            },
        }
    }

    async fn read_here(&mut self) -> Left {
        let mut feed = match self.door.feed(self.key, self.next, self.seen, self.form()) {
            Ok(feed) => feed,
            Err(failure) => return left(failure),
        };
        loop {
            let queue = self.queue.clone();
            let next = tokio::select! {
                () = queue.closed() => return Left::Closed,
                next = feed.next(RESPONSE_BYTES, &queue) => next,
            };
            match next {
                Ok((Fed { batches, term, .. }, room)) => {
                    self.seen = Some(term);
                    if let Err(left) = self.deliver(&batches, room).await {
                        return left;
                    }
                }
                Err(failure) => return left(failure),
            }
        }
    }

    async fn read_there(&mut self, leader: Ordinal) -> Left {
        let Ok(channel) = self.door.shared.channels.to(leader).await else { return Left::Elsewhere };
        let mut client = LogClient::new(channel).max_decoding_message_size(dial::MESSAGE_BYTES_MAX);
        let (ask, asks) = mpsc::channel(2);
        ask.try_send(self.request()).expect("the queue is new");
        let fetching =
            timeout(DEADLINE_DEFAULT, client.fetch(forward::marked(ReceiverStream::new(asks)))).await;
        let mut inbound = match fetching {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => {
                debug!(%leader, %status, "a leader was not reached for reading");
                self.door.shared.channels.forget(leader);
                return Left::Elsewhere;
            }
            Err(_) => return Left::Elsewhere,
        };
        let mut directory = self.door.shared.directory.clone();
        loop {
            let queue = self.queue.clone();
            let response = tokio::select! {
                () = queue.closed() => return Left::Closed,
                _ = directory.changed() => {
                    if self.door.leader(self.key).map(|replica| replica.ordinal) == Some(leader) { continue }
                    return Left::Elsewhere;
                }
                response = inbound.message() => response,
            };
            let response = match response {
                Ok(Some(response)) => response,
                Ok(None) => return Left::Elsewhere,
                Err(status) => {
                    debug!(%leader, %status, "a leader's stream broke");
                    self.door.shared.channels.forget(leader);
                    return Left::Elsewhere;
                }
            };
            if let Err(left) = self.take(leader, response).await {
                return left;
            }
            if ask.send(self.request()).await.is_err() {
                return Left::Elsewhere;
            }
        }
    }

    fn form(&self) -> Form {
        Form::messages(&self.topic.name)
    }

    fn request(&self) -> FetchRequest {
        FetchRequest {
            topic_id: topic_bytes(self.key.topic),
            partition: self.key.partition,
            offset: self.next.0,
            term: self.seen.map(term_bytes).unwrap_or_default(),
            stop: false,
            bytes_max: CREDIT_BYTES,
        }
    }

    async fn take(&mut self, leader: Ordinal, response: FetchResponse) -> Result<(), Left> {
        if let Some(error) = &response.error {
            return Err(left(find::behind(leader, Failure::from_item(error))));
        }
        self.seen = term_of(&response.term).map_err(Left::Failed)?.or(self.seen);
        let parse = |bytes: Bytes| {
            Batch::parse(bytes, self.key).map_err(|error| Left::Failed(Failure::corrupt(&error)))
        };
        let batches: Vec<Batch> = response.batches.into_iter().map(parse).collect::<Result<_, _>>()?;
        let mut batches = &batches[..];
        while !batches.is_empty() {
            let (now, later) = batches.split_at(self.form().together(batches, RESPONSE_BYTES));
            let room = self.queue.room(self.form().size_of_all(now)).await;
            self.deliver(now, room).await?;
            batches = later;
        }
        Ok(())
    }

    /// In order, from `next` on, in pieces: no more of the messages is there at a time.
    async fn deliver(&mut self, batches: &[Batch], room: Held) -> Result<(), Left> {
        let mut piece = Piece::default();
        let mut traced = self.door.shared.traces.delivering(&self.topic.name, self.key.partition);
        for batch in batches {
            if batch.end() <= self.next {
                continue;
            }
            let topic = Arc::clone(&self.topic);
            let messages = messages_of(&topic.name, self.key.partition, batch, self.next);
            for message in messages.map_err(Left::Failed)? {
                if let Some(traced) = &mut traced {
                    traced.message(batch.term(), &message);
                }
                if let Some(full) = piece.with(message) {
                    self.send(full, None).await?;
                }
            }
            self.next = batch.end();
        }
        // The last piece gives the memory back: those before it are written earlier.
        if !piece.messages.is_empty() {
            self.send(piece.messages, Some(room)).await?;
        }
        if let Some(traced) = traced {
            traced.done();
        }
        Ok(())
    }

    async fn send(&self, messages: Vec<Message>, room: Option<Held>) -> Result<(), Left> {
        let count = messages.len();
        self.queue.send(Ok(SubscribeResponse { messages }), room).await.map_err(|Gone| Left::Closed)?;
        self.door.shared.metrics.delivered(count);
        Ok(())
    }
}

/// What goes into one response, by what it takes here: more than what is written.
#[derive(Default)]
struct Piece {
    messages: Vec<Message>,
    bytes: usize,
}

impl Piece {
    /// The messages before this one, if it would be too much with them.
    fn with(&mut self, message: Message) -> Option<Vec<Message>> {
        let header = |header: &Header| size_of::<Header>() + header.name.len() + header.value.len();
        let bytes = size_of::<Message>()
            + message.topic.len()
            + message.value.len()
            + message.key.as_ref().map_or(0, Bytes::len)
            + message.headers.iter().map(header).sum::<usize>();
        let full = self.bytes > 0 && self.bytes + bytes > RESPONSE_BYTES;
        let before = full.then(|| {
            self.bytes = 0;
            std::mem::take(&mut self.messages)
        });
        self.bytes += bytes;
        self.messages.push(message);
        before
    }
}

fn left(failure: Failure) -> Left {
    if failure.retry_after().is_some() { Left::Elsewhere } else { Left::Failed(failure) }
}
