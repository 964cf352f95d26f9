//! A subscription: one follower for each partition, all into one bounded queue for the program's socket.
//!
//! A follower reads here if this broker leads, else from the leader's `Log.Fetch`; when the leader changes it goes on where
//! it stood, so nothing is lost and nothing comes twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fulmar_core::batch::Batch;
use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::{Ordinal, PartitionKey, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::term::Term;
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{FetchRequest, FetchResponse, Message, SubscribeRequest, SubscribeResponse};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::convert::{messages_of, term_bytes, term_of, topic_bytes};
use super::error::Failure;
use super::feed::Fed;
use super::outflow::{self, Answered, Answers, Gone, Held, Outflow};
use super::{DEADLINE_DEFAULT, Door, find, forward};
use crate::dial;

/// As the API says.
const TOPICS_MAX: usize = 100;
/// A task and a queue's place each; more belong into several subscriptions.
const PARTITIONS_MAX: usize = 10_000;
/// Responses that wait for the program's socket.
const RESPONSES_MAX: usize = 4;
/// About so many bytes of messages in one response: well below the 4 MiB that clients take by default.
const RESPONSE_BYTES: usize = 512 * 1024;
/// Between two looks for a leader.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Bytes on their way from another broker, for each partition.
const CREDIT_BYTES: u32 = 1 << 20;

type Queue = Answers<SubscribeResponse>;

impl Door {
    pub(super) async fn subscribe(
        &self,
        request: SubscribeRequest,
        connection: Option<Outflow>,
        deadline: Instant,
    ) -> Result<Answered<SubscribeResponse>, Failure> {
        let chosen = self.chosen(&request, deadline).await?;
        let at = request.start.and_then(|start| start.at);
        // All starts first, so that the first response says truly that the subscription stands.
        let starts = chosen.into_iter().map(async |(topic, key)| {
            let next = self.start(&topic, key, at, deadline).await?;
            Ok::<_, Failure>((topic, key, next))
        });
        let starts = futures::future::try_join_all(starts).await?;
        Ok(self.follow(starts, request.partitions.is_empty(), connection).await)
    }

    /// Delivers partitions, each from its offset on. `grows`: also those that their topics get later.
    pub(super) async fn follow(
        &self,
        starts: Vec<(Arc<TopicRecord>, PartitionKey, Offset)>,
        grows: bool,
        connection: Option<Outflow>,
    ) -> Answered<SubscribeResponse> {
        let (all, stall_max) = (self.shared.answers.clone(), self.shared.stall_max);
        let (queue, messages) = outflow::stream(RESPONSES_MAX, all, connection, stall_max);
        queue.send(Ok(SubscribeResponse::default()), None).await.expect("the queue is new");
        // One that ends takes the others along.
        let end = self.shared.stop.child_token();
        let topics: BTreeMap<TopicId, u32> =
            starts.iter().map(|(topic, ..)| (topic.id, topic.partitions)).collect();
        for (topic, key, next) in starts {
            let (door, queue, end) = (self.clone(), queue.clone(), end.clone());
            tokio::spawn(Follower { door, topic, key, next, seen: None, queue, end }.run());
        }
        if grows {
            tokio::spawn(follow_growth(self.clone(), topics, queue, end));
        }
        messages
    }

    async fn chosen(
        &self,
        request: &SubscribeRequest,
        deadline: Instant,
    ) -> Result<Vec<(Arc<TopicRecord>, PartitionKey)>, Failure> {
        let topics = request.topics.len();
        if topics == 0 || topics > TOPICS_MAX {
            let message = format!("topics: 1 to {TOPICS_MAX} names, these are {topics}");
            return Err(Failure::invalid("topics", message));
        }
        let found = request.topics.iter().map(|name| self.find(name, false, deadline));
        let mut chosen = Vec::new();
        // Before they are multiplied by the topics: a request has room for millions.
        let asked: BTreeSet<u32> = request.partitions.iter().copied().collect();
        for topic in futures::future::try_join_all(found).await? {
            let all = (0..topic.partitions).filter(|_| asked.is_empty());
            for partition in asked.iter().copied().chain(all) {
                chosen.push((topic.clone(), Door::partition(&topic, partition)?));
            }
        }
        chosen.sort_by_key(|(_, key)| *key);
        chosen.dedup_by_key(|(_, key)| *key);
        if chosen.len() > PARTITIONS_MAX {
            let message = format!(
                "at most {PARTITIONS_MAX} partitions in one subscription, these are {}",
                chosen.len()
            );
            return Err(Failure::invalid("topics", message));
        }
        Ok(chosen)
    }

    /// Where a reader begins in a partition.
    pub(super) async fn start(
        &self,
        topic: &TopicRecord,
        key: PartitionKey,
        at: Option<At>,
        deadline: Instant,
    ) -> Result<Offset, Failure> {
        let time_ms = match at {
            Some(At::TimeMs(time_ms)) => Some(time_ms),
            Some(At::Earliest(_) | At::Latest(_) | At::Offset(_)) | None => None,
        };
        let offsets = self.offsets(topic, key, time_ms, deadline).await;
        let offsets =
            offsets.map_err(|failure| failure.with("topic", &topic.name).with("partition", key.partition))?;
        Ok(Offset(match at {
            Some(At::Earliest(_)) => offsets.log_start,
            Some(At::Latest(_)) | None => offsets.high_watermark,
            Some(At::Offset(offset)) => offset,
            Some(At::TimeMs(_)) => offsets.at_time.unwrap_or(offsets.high_watermark),
        }))
    }
}

/// Partitions that are added to the topics later are followed from their first message on.
async fn follow_growth(door: Door, mut topics: BTreeMap<TopicId, u32>, queue: Queue, end: CancellationToken) {
    let mut directory = door.shared.directory.clone();
    loop {
        tokio::select! {
            () = end.cancelled() => return,
            () = queue.closed() => return,
            changed = directory.changed() => if changed.is_err() { return },
        }
        let now = directory.borrow_and_update().clone();
        let mut followed: usize = topics.values().map(|known| *known as usize).sum();
        for (id, known) in &mut topics {
            let Some(topic) = now.topic_of(*id) else { continue };
            for partition in *known..topic.partitions {
                followed += 1;
                if followed > PARTITIONS_MAX {
                    info!(
                        topic = topic.name,
                        "a subscription does not grow beyond {PARTITIONS_MAX} partitions"
                    );
                    return;
                }
                let key = PartitionKey { topic: *id, partition };
                let (door, topic, queue, end) = (door.clone(), topic.clone(), queue.clone(), end.clone());
                tokio::spawn(Follower { door, topic, key, next: Offset(0), seen: None, queue, end }.run());
            }
            *known = topic.partitions.max(*known);
        }
    }
}

struct Follower {
    door: Door,
    topic: Arc<TopicRecord>,
    key: PartitionKey,
    next: Offset,
    seen: Option<Term>,
    queue: Queue,
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
    async fn run(mut self) {
        let end = self.end.clone();
        let failure = tokio::select! {
            () = end.cancelled() => self.door.shared.stop.is_cancelled().then(Door::leaving),
            left = self.follow() => left,
        };
        if let Some(failure) = failure {
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
            match left {
                Left::Closed => return None,
                Left::Failed(failure) => return Some(failure),
                Left::Elsewhere => {
                    tokio::select! {
                        () = self.queue.closed() => return None,
                        () = sleep(RETRY_EVERY) => {}
                    }
                }
            }
            // Deleted or retained meanwhile?
            if let Err(failure) = self.door.topic_of(self.key.topic) {
                return Some(failure);
            }
        }
    }

    async fn read_here(&mut self) -> Left {
        let mut feed = match self.door.feed(self.key, self.next, self.seen) {
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
        let room = self.queue.room(batches.iter().map(Batch::size).sum()).await;
        self.deliver(&batches, room).await
    }

    /// In order, from `next` on, in pieces.
    async fn deliver(&mut self, batches: &[Batch], room: Held) -> Result<(), Left> {
        let mut piece = Piece::default();
        for batch in batches {
            if batch.end() <= self.next {
                continue;
            }
            for message in messages_of(&self.topic.name, self.key.partition, batch, self.next) {
                if let Some(full) = piece.with(message) {
                    self.send(full, None).await?;
                }
            }
            self.next = batch.end();
        }
        // The last piece gives the memory back: those before it are written earlier.
        if piece.messages.is_empty() { Ok(()) } else { self.send(piece.messages, Some(room)).await }
    }

    async fn send(&self, messages: Vec<Message>, room: Option<Held>) -> Result<(), Left> {
        let count = messages.len();
        self.queue.send(Ok(SubscribeResponse { messages }), room).await.map_err(|Gone| Left::Closed)?;
        self.door.shared.metrics.delivered(count);
        Ok(())
    }
}

#[derive(Default)]
struct Piece {
    messages: Vec<Message>,
    bytes: usize,
}

impl Piece {
    /// The messages before this one, if it would be too much with them.
    fn with(&mut self, message: Message) -> Option<Vec<Message>> {
        let headers: usize =
            message.headers.iter().map(|header| header.name.len() + header.value.len() + 8).sum();
        let bytes = 64
            + message.topic.len()
            + message.value.len()
            + message.key.as_ref().map_or(0, Bytes::len)
            + headers;
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
