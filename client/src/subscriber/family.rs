//! The topics that fit a pattern: a reader for each that is there, and for what comes.
//!
//! Owns looking for topics and their new partitions, and telling readers who leads by what it hears so. Never reads itself.
//! Not gRPC's `Subscribe`, which knows the topics better: that begins with one offset for all, so who lost its stream could not go on
//! where each partition stood.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fulmar_core::id::{PartitionKey, TopicId};
use fulmar_core::pattern::Pattern;
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::beginning::Beginning;
use super::fetch::{Order, Reader};
use super::known::KnownTopics;
use super::position::Position;
use crate::admin::topics;
use crate::connection::Connections;
use crate::error::SubscribeError;
use crate::metadata::{Metadata, Topic};

/// How often the topics are listed; as often as a reader of one topic looks for its new partitions.
const LIST_EVERY: Duration = Duration::from_secs(10);

/// As many as gRPC's `Subscribe` takes: each has its credit, at least 64 KiB.
const PARTITIONS_MAX: usize = 10_000;

/// Streams that share a connection: an HTTP/2 server takes 200 streams on one by default, some fewer.
const READERS_PER_CONNECTION: u32 = 64;

/// Topics whose beginnings are asked for at a time.
const QUESTIONS_MAX: usize = 16;

/// A topic that fits.
#[derive(Debug, Clone)]
pub(super) struct Found {
    name: Arc<str>,
    id: TopicId,
    /// Its partitions.
    pub(super) partitions: Range<u32>,
}

/// The topics that fit a pattern now.
pub(super) async fn found(metadata: &Metadata, pattern: &Pattern) -> Result<Vec<Found>, SubscribeError> {
    let told = topics(metadata).await?;
    let mut found = Vec::new();
    for told in told.iter().filter(|told| told.error.is_none() && pattern.fits(&told.name)) {
        let topic: Arc<Topic> = metadata.note_topic(&told.name, told)?;
        let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        found.push(Found { name: told.name.as_str().into(), id: topic.id, partitions: 0..count });
    }
    Ok(found)
}

/// See the module.
pub(super) struct Family {
    /// Of each reader, but for its topic.
    order: Order,
    pattern: Pattern,
    /// Nothing that comes later is read.
    until_end: bool,
    known: KnownTopics,
    connections: Connections,
    started: u32,
    /// Each says at its end of which topic it was.
    readers: JoinSet<TopicId>,
}

impl Family {
    pub(super) fn new(order: Order, pattern: Pattern, until_end: bool) -> Self {
        Self {
            order,
            pattern,
            until_end,
            known: KnownTopics::default(),
            connections: Connections::default(),
            started: 0,
            readers: JoinSet::new(),
        }
    }

    /// Begins with what is there. An error: nothing is read.
    pub(super) async fn begin(
        &mut self,
        found: Vec<Found>,
        beginning: &Beginning,
    ) -> Result<(), SubscribeError> {
        let news = self.news(found)?;
        let metadata = &self.order.metadata;
        let asked = news.into_iter().map(|topic| async move {
            let partitions: Vec<u32> = topic.partitions.clone().collect();
            let positions = beginning.positions(metadata, &topic.name, topic.id, &partitions).await?;
            Ok::<_, SubscribeError>((topic, positions))
        });
        let asked = futures::stream::iter(asked.collect::<Vec<_>>());
        let answers: Vec<_> = asked.buffer_unordered(QUESTIONS_MAX).collect().await;
        for (topic, positions) in answers.into_iter().collect::<Result<Vec<_>, _>>()? {
            self.start(topic, positions);
        }
        Ok(())
    }

    /// What is not read yet of these, taken for read from now on.
    fn news(&mut self, found: Vec<Found>) -> Result<Vec<Found>, SubscribeError> {
        let partitions: usize = found.iter().map(|topic| topic.partitions.len()).sum();
        if partitions > PARTITIONS_MAX {
            let (pattern, partitions_max) = (self.order.topic.to_string(), PARTITIONS_MAX);
            return Err(SubscribeError::TooMany { pattern, partitions, partitions_max });
        }
        let now = Instant::now();
        let news = found.into_iter().map(|topic| {
            let news = self.known.begin(topic.id, topic.partitions.end, now);
            Found { partitions: news, ..topic }
        });
        let news = news.filter(|topic| !topic.partitions.is_empty()).collect();
        self.known.forget(now);
        self.order.credit.divide(self.known.partitions());
        Ok(news)
    }

    fn start(&mut self, topic: Found, positions: Vec<Position>) {
        let slot = self.started / READERS_PER_CONNECTION;
        self.started = self.started.wrapping_add(1);
        let order = Order { topic: topic.name, slot, ..self.order.clone() };
        let reader = Reader::new(order, self.connections.clone(), positions);
        self.readers.spawn(async move {
            reader.run().await;
            topic.id
        });
    }

    /// Until nobody listens any more, or all is read that was to be.
    pub(super) async fn run(mut self) {
        let mut listing = tokio::time::interval_at(Instant::now() + LIST_EVERY, LIST_EVERY);
        loop {
            if self.until_end && self.readers.is_empty() {
                return;
            }
            let chunks = self.order.chunks.clone();
            tokio::select! {
                () = chunks.closed() => return,
                Some(ended) = self.readers.join_next() => {
                    if let Ok(id) = ended {
                        self.known.end(id);
                    }
                }
                _ = listing.tick() => {
                    if let Err(error) = self.list().await {
                        let _gone = chunks.send(Err(error)).await;
                        return;
                    }
                }
            }
        }
    }

    /// What came since is read from the oldest message that is kept: it was published after this subscriber began, or nobody could
    /// read it then. Where that is nobody is asked: one topic without a leader would hold up the others. An error: there is too much
    /// of it.
    async fn list(&mut self) -> Result<(), SubscribeError> {
        // If nobody answers, the next time.
        let Ok(found) = found(&self.order.metadata, &self.pattern).await else { return Ok(()) };
        if self.until_end {
            return Ok(());
        }
        for topic in self.news(found)? {
            let keys = topic.partitions.clone().map(|partition| PartitionKey { topic: topic.id, partition });
            let positions = keys.map(|key| Position::at_start(key, 0, None)).collect();
            self.start(topic, positions);
        }
        Ok(())
    }
}
