//! The topics that fit a pattern: a reader for each that is there, and for what comes.
//!
//! Owns looking for topics and their new partitions, and telling readers who leads by what it hears so. Never reads itself.
//! Not gRPC's `Subscribe`, which knows the topics better: that begins with one offset for all, so who lost its stream could not go on
//! where each partition stood.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fulmar_core::id::TopicId;
use fulmar_core::pattern::Pattern;
use futures::StreamExt;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Start;
use super::beginning::Beginning;
use super::fetch::{Order, Reader};
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
    pub(super) partitions: Vec<u32>,
}

/// The topics that fit a pattern now.
pub(super) async fn found(metadata: &Metadata, pattern: &Pattern) -> Result<Vec<Found>, SubscribeError> {
    let told = topics(metadata).await?;
    let mut found = Vec::new();
    for told in told.iter().filter(|told| told.error.is_none() && pattern.fits(&told.name)) {
        let topic: Arc<Topic> = metadata.note_topic(&told.name, told)?;
        let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        found.push(Found { name: told.name.as_str().into(), id: topic.id, partitions: (0..count).collect() });
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
    /// Topics that were ever read, with so many partitions. One that is gone comes back under another id.
    known: BTreeMap<TopicId, u32>,
    connections: Connections,
    started: u32,
    readers: JoinSet<()>,
}

impl Family {
    pub(super) fn new(order: Order, pattern: Pattern, until_end: bool) -> Self {
        Self {
            order,
            pattern,
            until_end,
            known: BTreeMap::new(),
            connections: Connections::default(),
            started: 0,
            readers: JoinSet::new(),
        }
    }

    /// Reads what is not read yet of these. An error: nothing of them is.
    pub(super) async fn read(
        &mut self,
        found: Vec<Found>,
        beginning: Beginning,
    ) -> Result<(), SubscribeError> {
        let partitions: usize = found.iter().map(|topic| topic.partitions.len()).sum();
        if partitions > PARTITIONS_MAX {
            let (pattern, partitions_max) = (self.order.topic.to_string(), PARTITIONS_MAX);
            return Err(SubscribeError::TooMany { pattern, partitions, partitions_max });
        }
        let known = |topic: &Found| self.known.get(&topic.id).map_or(0, |known| *known as usize);
        let news = found.into_iter().filter_map(|topic| {
            let partitions = topic.partitions.get(known(&topic)..)?.to_vec();
            (!partitions.is_empty()).then_some(Found { partitions, ..topic })
        });
        let (metadata, beginning) = (&self.order.metadata, &beginning);
        let asked = news.map(|topic| async move {
            let positions = beginning.positions(metadata, &topic.name, topic.id, &topic.partitions).await?;
            Ok::<_, SubscribeError>((topic, positions))
        });
        let asked = futures::stream::iter(asked.collect::<Vec<_>>());
        let answers: Vec<_> = asked.buffer_unordered(QUESTIONS_MAX).collect().await;
        let begun = answers.into_iter().collect::<Result<Vec<_>, _>>()?;
        for (topic, positions) in begun {
            let last = topic.partitions.last().map_or(0, |last| last + 1);
            self.known.insert(topic.id, last);
            self.start(topic.name, positions);
        }
        Ok(())
    }

    fn start(&mut self, topic: Arc<str>, positions: Vec<Position>) {
        let slot = self.started / READERS_PER_CONNECTION;
        self.started = self.started.wrapping_add(1);
        let order = Order { topic, slot, ..self.order.clone() };
        self.readers.spawn(Reader::new(order, self.connections.clone(), positions).run());
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
                Some(_ended) = self.readers.join_next() => {}
                _ = listing.tick() => {
                    if let Err(error) = self.list().await {
                        let _gone = chunks.send(Err(error)).await;
                        return;
                    }
                }
            }
        }
    }

    /// What came since is read from its first message on: it was published after this subscriber began. An error: there is too
    /// much of it.
    async fn list(&mut self) -> Result<(), SubscribeError> {
        // If nobody answers, the next time.
        let Ok(found) = found(&self.order.metadata, &self.pattern).await else { return Ok(()) };
        if self.until_end {
            return Ok(());
        }
        let start = Start::Earliest;
        let beginning = Beginning { start, start_at: BTreeMap::new(), until_end: false };
        match self.read(found, beginning).await {
            Err(error @ SubscribeError::TooMany { .. }) => Err(error),
            Err(error) => {
                tracing::debug!(pattern = %self.order.topic, %error, "new topics are asked for again");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}
