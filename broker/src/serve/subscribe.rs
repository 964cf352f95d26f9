//! A subscription: one follower for each partition, all into one bounded queue for the program's socket.
//!
//! Owns what is followed: the topics that are named or fit a pattern, and what comes to them later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::{PartitionKey, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::pattern::Pattern;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{SubscribeRequest, SubscribeResponse};
use tokio_util::sync::CancellationToken;

use super::Door;
use super::error::Failure;
use super::follower::Follower;
use super::outflow::{self, Answered, Answers, Outflow};
use crate::directory::Directory;

/// As the API says.
pub(super) const TOPICS_MAX: usize = 100;
/// A task and a queue's place each; more belong into several subscriptions.
const PARTITIONS_MAX: usize = 10_000;
/// Responses that wait for the program's socket.
const RESPONSES_MAX: usize = 4;

/// What goes to the program.
pub(super) type Queue = Answers<SubscribeResponse>;

/// Where a partition is followed from.
pub(super) struct Beginning {
    pub(super) topic: Arc<TopicRecord>,
    pub(super) key: PartitionKey,
    /// Delivered first.
    pub(super) next: Offset,
    /// What is kept was meant, not this offset: until the first batch is read, retention may move it.
    pub(super) moves_on: bool,
}

impl Door {
    pub(super) async fn subscribe(
        &self,
        request: SubscribeRequest,
        connection: Option<Outflow>,
        deadline: Instant,
    ) -> Result<Answered<SubscribeResponse>, Failure> {
        let (names, patterns) = names_and_patterns(&request)?;
        let chosen = self.chosen(&names, &patterns, &request.partitions, deadline).await?;
        let at = request.start.and_then(|start| start.at);
        // All starts first, so that the first response says truly that the subscription stands.
        let starts = chosen.into_iter().map(|(topic, key)| self.beginning(topic, key, at, deadline));
        let starts = futures::future::try_join_all(starts).await?;
        let grows = request.partitions.is_empty().then_some(patterns);
        Ok(self.follow(starts, grows, connection).await)
    }

    /// Delivers partitions, each from its offset on. `grows`: also those that their topics get later, and those of topics that fit
    /// such a pattern.
    pub(super) async fn follow(
        &self,
        starts: Vec<Beginning>,
        grows: Option<Vec<Pattern>>,
        connection: Option<Outflow>,
    ) -> Answered<SubscribeResponse> {
        let (all, stall_max) = (self.shared.answers.clone(), self.shared.stall_max);
        let (queue, messages) = outflow::stream(RESPONSES_MAX, all, connection, stall_max);
        queue.send(Ok(SubscribeResponse::default()), None).await.expect("the queue is new");
        // One that ends takes the others along.
        let end = self.shared.stop.child_token();
        let topics: BTreeMap<TopicId, u32> =
            starts.iter().map(|start| (start.topic.id, start.topic.partitions)).collect();
        for start in starts {
            let is_fitting = grows.as_deref().is_some_and(|patterns| is_fitting(patterns, &start.topic));
            tokio::spawn(Follower::new(self.clone(), start, is_fitting, queue.clone(), end.clone()).run());
        }
        if let Some(patterns) = grows {
            let growth = Growth { door: self.clone(), topics, patterns, queue, end };
            tokio::spawn(growth.follow());
        }
        messages
    }

    async fn chosen(
        &self,
        names: &[&str],
        patterns: &[Pattern],
        partitions: &[u32],
        deadline: Instant,
    ) -> Result<Vec<(Arc<TopicRecord>, PartitionKey)>, Failure> {
        let found = names.iter().map(|name| self.find(name, false, deadline));
        let mut topics = futures::future::try_join_all(found).await?;
        if !patterns.is_empty() {
            self.told_of_topics(deadline).await?;
            topics.extend(fitting(patterns, &self.directory()).cloned());
        }
        let mut chosen = Vec::new();
        // Before they are multiplied by the topics: a request has room for a hundred thousand.
        let asked: BTreeSet<u32> = partitions.iter().copied().collect();
        for topic in topics {
            let all = (0..topic.partitions).filter(|_| asked.is_empty());
            for partition in asked.iter().copied().chain(all) {
                chosen.push((topic.clone(), Door::partition(&topic, partition)?));
            }
        }
        chosen.sort_by_key(|(_, key)| *key);
        chosen.dedup_by_key(|(_, key)| *key);
        if chosen.len() > PARTITIONS_MAX { Err(too_many(chosen.len())) } else { Ok(chosen) }
    }

    /// Where a reader begins in a partition.
    pub(super) async fn beginning(
        &self,
        topic: Arc<TopicRecord>,
        key: PartitionKey,
        at: Option<At>,
        deadline: Instant,
    ) -> Result<Beginning, Failure> {
        let time_ms = match at {
            Some(At::TimeMs(time_ms)) => Some(time_ms),
            Some(At::Earliest(_) | At::Latest(_) | At::Offset(_)) | None => None,
        };
        let offsets = self.offsets(&topic, key, time_ms, deadline).await;
        let offsets =
            offsets.map_err(|failure| failure.with("topic", &topic.name).with("partition", key.partition))?;
        let (next, moves_on) = match at {
            Some(At::Earliest(_)) => (offsets.log_start, true),
            Some(At::Latest(_)) | None => (offsets.high_watermark, false),
            Some(At::Offset(offset)) => (offset, false),
            Some(At::TimeMs(_)) => (offsets.at_time.unwrap_or(offsets.high_watermark), true),
        };
        Ok(Beginning { topic, key, next: Offset(next), moves_on })
    }
}

/// Each name is one or the other.
fn names_and_patterns(request: &SubscribeRequest) -> Result<(Vec<&str>, Vec<Pattern>), Failure> {
    let topics = request.topics.len();
    if topics == 0 || topics > TOPICS_MAX {
        let message = format!("topics: 1 to {TOPICS_MAX} names or patterns, these are {topics}");
        return Err(Failure::invalid("topics", message));
    }
    let (mut names, mut patterns) = (Vec::new(), Vec::new());
    for text in &request.topics {
        let pattern = Pattern::parse(text);
        match pattern.map_err(|refused| Failure::invalid("topics", format!("topics: {refused}")))? {
            Some(pattern) => patterns.push(pattern),
            None => names.push(text.as_str()),
        }
    }
    if !patterns.is_empty() && !request.partitions.is_empty() {
        let message = "partitions: none with a pattern, whose topics have different numbers of them";
        return Err(Failure::invalid("partitions", message));
    }
    Ok((names, patterns))
}

fn is_fitting(patterns: &[Pattern], topic: &TopicRecord) -> bool {
    !topic.retained && patterns.iter().any(|pattern| pattern.fits(&topic.name))
}

fn fitting<'a>(
    patterns: &'a [Pattern],
    directory: &'a Directory,
) -> impl Iterator<Item = &'a Arc<TopicRecord>> {
    directory.topics().filter(|topic| is_fitting(patterns, topic))
}

fn too_many(partitions: usize) -> Failure {
    let message =
        format!("topics: at most {PARTITIONS_MAX} partitions in one subscription, these are {partitions}");
    Failure::invalid("topics", message)
}

/// What a subscription is still to follow: partitions that its topics get later, and topics that fit its patterns later, from
/// the oldest message that is kept on. A topic that was retained and comes back is one that fits later: what is published between
/// its coming back and this broker's hearing of it must not be missed.
struct Growth {
    door: Door,
    /// Topics that are followed, with so many partitions.
    topics: BTreeMap<TopicId, u32>,
    patterns: Vec<Pattern>,
    queue: Queue,
    end: CancellationToken,
}

impl Growth {
    async fn follow(mut self) {
        let mut directory = self.door.shared.directory.clone();
        loop {
            tokio::select! {
                () = self.end.cancelled() => return,
                () = self.queue.closed() => return,
                changed = directory.changed() => if changed.is_err() { return },
            }
            let now = directory.borrow_and_update().clone();
            if let Err(failure) = self.grow(&now) {
                let _gone = self.queue.send(Err(failure.into()), None).await;
                return self.end.cancel();
            }
        }
    }

    fn grow(&mut self, now: &Directory) -> Result<(), Failure> {
        self.topics.retain(|id, _| now.topic_of(*id).is_some());
        for topic in fitting(&self.patterns, now) {
            self.topics.entry(topic.id).or_insert(0);
        }
        let followed =
            self.topics.iter().filter_map(|(id, known)| Some((now.topic_of(*id)?.partitions, *known)));
        let followed: usize = followed.map(|(partitions, known)| partitions.max(known) as usize).sum();
        if followed > PARTITIONS_MAX {
            return Err(too_many(followed));
        }
        for (id, known) in &mut self.topics {
            let Some(topic) = now.topic_of(*id) else { continue };
            for partition in *known..topic.partitions {
                let key = PartitionKey { topic: *id, partition };
                // The oldest, as far as is known here: only its leader could say, and may not be there yet.
                let start = Beginning { topic: topic.clone(), key, next: Offset(0), moves_on: true };
                let (door, queue, end) = (self.door.clone(), self.queue.clone(), self.end.clone());
                let is_fitting = is_fitting(&self.patterns, topic);
                tokio::spawn(Follower::new(door, start, is_fitting, queue, end).run());
            }
            *known = topic.partitions.max(*known);
        }
        Ok(())
    }
}
