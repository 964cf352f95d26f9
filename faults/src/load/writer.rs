//! Producers: for each partition a lane that sends in order, several records under way, and notes what became of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fulmar_client::{Client, Delivery, Producer, Record, SendError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::book::{Book, Fate, Sent};
use super::record::{self, Name};

/// Of one lane, not acknowledged: enough for batches of several, little enough to be held by thousands of blows.
const UNDER_WAY: usize = 64;

/// How a producer is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Longer than any blow and what settling may take: everything must be acknowledged.
    Long,
    /// Shorter than many: records time out, and what is said about them then must be true.
    Short,
}

impl Patience {
    fn timeout(self) -> Duration {
        match self {
            // The most that the SDK takes.
            Self::Long => Duration::from_mins(10),
            Self::Short => Duration::from_millis(1500),
        }
    }

    /// Between two bursts of a lane.
    fn pause(self) -> Duration {
        match self {
            Self::Long => Duration::from_millis(25),
            Self::Short => Duration::from_millis(60),
        }
    }
}

/// What one producer does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) topic: &'static str,
    pub(crate) partitions: u32,
    pub(crate) patience: Patience,
    pub(crate) seed: u64,
}

/// Starts a producer and its lanes.
pub(crate) async fn start(
    client: &Client,
    order: &Order,
    book: &Arc<Book>,
    writing: &watch::Receiver<bool>,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let producer = client.producer(order.topic).delivery_timeout(order.patience.timeout()).build().await?;
    for partition in 0..order.partitions {
        let writer = book.new_writer(order.topic, partition, order.patience == Patience::Long);
        let (sent, outcomes) = mpsc::channel(UNDER_WAY);
        let lane = Lane { producer: producer.clone(), order: *order, partition, writer, sent };
        tasks.spawn(lane.send(Arc::clone(book), writing.clone()));
        tasks.spawn(collect(Arc::clone(book), *order, outcomes));
    }
    Ok(())
}

struct Lane {
    producer: Producer,
    order: Order,
    partition: u32,
    writer: u64,
    sent: mpsc::Sender<(Sent, Delivery)>,
}

impl Lane {
    async fn send(self, book: Arc<Book>, writing: watch::Receiver<bool>) -> Result<()> {
        let mut number = 0;
        loop {
            // Bursts of one to seven, by the record's number: batches of every size.
            for _ in 0..=number % 7 {
                if !*writing.borrow() {
                    std::future::pending::<()>().await;
                }
                number += 1;
                let name = Name { writer: self.writer, number };
                let value = record::value(name, self.order.seed);
                let print = record::print(&value);
                let sent = Sent {
                    topic: self.order.topic,
                    partition: self.partition,
                    name,
                    print,
                    at: Instant::now(),
                };
                book.sent(&sent);
                let mut fresh = Record::new(value).partition(self.partition);
                if number % 3 == 0 {
                    fresh = fresh.key(number.to_be_bytes().to_vec()).header("number", number.to_string());
                }
                let delivery = self.producer.send(fresh).await?;
                self.sent.send((sent, delivery)).await?;
            }
            tokio::time::sleep(self.order.patience.pause()).await;
        }
    }
}

/// Notes what became of a lane's records, in order.
async fn collect(
    book: Arc<Book>,
    order: Order,
    mut outcomes: mpsc::Receiver<(Sent, Delivery)>,
) -> Result<()> {
    let mut failures: BTreeMap<String, u64> = BTreeMap::new();
    while let Some((sent, delivery)) = outcomes.recv().await {
        let fate = match delivery.await {
            Ok(ack) => Fate::Acknowledged { offset: ack.offset },
            Err(SendError::OutcomeUnknown { .. }) => Fate::Unknown,
            Err(SendError::TimedOut { .. }) => Fate::Absent,
            Err(other) => {
                *failures.entry(other.to_string()).or_default() += 1;
                book.refused(&sent, &other.to_string());
                Fate::Absent
            }
        };
        book.fate(&sent, fate, order.patience == Patience::Long);
    }
    anyhow::bail!("a producer ended; refusals: {failures:?}")
}
