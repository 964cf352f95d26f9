//! A subscriber's settings, their defaults and bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use fulmar_core::pattern::Pattern;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::Subscriber;
use super::beginning::Beginning;
use super::chunk::{CHUNKS_MAX, Chunk, chunk_bytes};
use super::credit::Credit;
use super::family::{self, Family};
use super::fetch::{Order, Reader};
use crate::connection::Connections;
use crate::error::SubscribeError;
use crate::metadata::Metadata;

const BUFFER_BYTES_MAX_DEFAULT: usize = 16 * 1024 * 1024;

/// Where to begin, in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// The oldest message that is kept.
    Earliest,
    /// What is published from now on.
    #[default]
    Latest,
    /// This offset.
    Offset(u64),
    /// The first message appended at or after this time of the brokers' clock.
    Time(SystemTime),
}

/// Sets a [`Subscriber`] up. Made by [`Client::subscriber`](crate::Client::subscriber).
#[derive(Debug, Clone)]
#[must_use]
pub struct SubscriberBuilder {
    metadata: Arc<Metadata>,
    topic: String,
    start: Start,
    start_at: BTreeMap<u32, u64>,
    partitions: Vec<u32>,
    until_end: bool,
    buffer_bytes_max: usize,
}

impl SubscriberBuilder {
    pub(crate) fn new(metadata: Arc<Metadata>, topic: String) -> Self {
        Self {
            metadata,
            topic,
            start: Start::default(),
            start_at: BTreeMap::new(),
            partitions: Vec::new(),
            until_end: false,
            buffer_bytes_max: BUFFER_BYTES_MAX_DEFAULT,
        }
    }

    /// Where to begin. Default: [`Start::Latest`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Begins in these partitions at this offset, for a program that keeps how far it came: pairs of partition and the offset to
    /// read next. Where [`start`](Self::start) says, begins what is not named.
    pub fn start_at(mut self, offsets: impl IntoIterator<Item = (u32, u64)>) -> Self {
        self.start_at = offsets.into_iter().collect();
        self
    }

    /// Only these partitions. Default: all, also those that are added to the topic later, from the oldest message that is kept on;
    /// with [`until_end`](Self::until_end) those that there are when it is built. Not with a pattern, and neither is
    /// [`start_at`](Self::start_at).
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = u32>) -> Self {
        self.partitions = partitions.into_iter().collect();
        self
    }

    /// Ends at what is committed when it is built, instead of waiting for more. A topic of a pattern that is deleted meanwhile ends
    /// there, whether its data is retained or not.
    pub fn until_end(mut self) -> Self {
        self.until_end = true;
        self
    }

    /// About so many bytes are read ahead of the program, shared by the partitions, though at least 64 KiB for each; and so many
    /// again of what comes out of compressed batches.
    /// Default: 16 MiB. From 64 KiB to 1 GiB.
    pub fn buffer_bytes_max(mut self, bytes: usize) -> Self {
        self.buffer_bytes_max = bytes;
        self
    }

    /// Looks up where to begin, and starts.
    pub async fn build(self) -> Result<Subscriber, SubscribeError> {
        if !(65_536..=1024 * 1024 * 1024).contains(&self.buffer_bytes_max) {
            return Err(SubscribeError::Setting {
                setting: "buffer_bytes_max",
                given: self.buffer_bytes_max.to_string(),
                allowed: "from 65,536 to 1,073,741,824",
            });
        }
        let refused = |_| SubscribeError::Setting {
            setting: "topic",
            given: self.topic.clone(),
            allowed: "a name, or a pattern, in which * is one whole word between dots, and > at the end one or more",
        };
        match Pattern::parse(&self.topic).map_err(refused)? {
            Some(pattern) => self.build_of_pattern(pattern).await,
            None => self.build_of_topic().await,
        }
    }

    async fn build_of_topic(mut self) -> Result<Subscriber, SubscribeError> {
        let topic = self.metadata.refresh(&self.topic, Instant::now() + self.metadata.timeout()).await?;
        let count = u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX);
        let mut named = self.partitions.iter().chain(self.start_at.keys()).copied();
        if let Some(partition) = named.find(|partition| *partition >= count) {
            return Err(SubscribeError::UnknownPartition { partition, partitions: count });
        }
        let wants_all = self.partitions.is_empty();
        if wants_all {
            self.partitions = (0..count).collect();
        }
        self.partitions.sort_unstable();
        self.partitions.dedup();
        let beginning = self.beginning();
        let positions = beginning.positions(&self.metadata, &self.topic, topic.id, &self.partitions).await?;
        let (chunks, received) = mpsc::channel(CHUNKS_MAX);
        let mut order = self.order(chunks, self.partitions.len());
        order.grows_from = (wants_all && !self.until_end).then_some((topic.id, count));
        let reader = Reader::new(order, Connections::default(), positions);
        Ok(Subscriber::new(received, tokio::spawn(reader.run())))
    }

    async fn build_of_pattern(self, pattern: Pattern) -> Result<Subscriber, SubscribeError> {
        let named = [
            ("partitions", format!("{:?}", self.partitions), self.partitions.is_empty()),
            ("start_at", format!("{:?}", self.start_at), self.start_at.is_empty()),
        ];
        if let Some((setting, given, _)) = named.into_iter().find(|(.., is_empty)| !is_empty) {
            let allowed = "allowed with a pattern, whose topics have different partitions";
            return Err(SubscribeError::Setting { setting, given, allowed });
        }
        let (chunks, received) = mpsc::channel(CHUNKS_MAX);
        let found = family::found(&self.metadata, &pattern).await?;
        let partitions = found.iter().map(|topic| topic.partitions.len()).sum();
        let order = Order { is_fitting: true, ..self.order(chunks, partitions) };
        let mut family = Family::new(order, pattern, self.until_end);
        family.begin(found, &self.beginning()).await?;
        Ok(Subscriber::new(received, tokio::spawn(family.run())))
    }

    fn beginning(&self) -> Beginning {
        Beginning { start: self.start, start_at: self.start_at.clone(), until_end: self.until_end }
    }

    /// What readers of so many partitions are ordered.
    fn order(&self, chunks: mpsc::Sender<Chunk>, partitions: usize) -> Order {
        Order {
            metadata: Arc::clone(&self.metadata),
            topic: self.topic.as_str().into(),
            is_fitting: false,
            slot: 0,
            credit: Arc::new(Credit::new(self.buffer_bytes_max, partitions)),
            chunks,
            chunk_bytes: chunk_bytes(self.buffer_bytes_max),
            room: Arc::new(Semaphore::new(self.buffer_bytes_max)),
            room_bytes: u32::try_from(self.buffer_bytes_max).expect("checked to be at most 1 GiB"),
            grows_from: None,
        }
    }
}
