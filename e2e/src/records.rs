//! Records of mixed size with hashes: publish many while things break, read all back, compare.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, bail, ensure};
use fulmar_client::{Ack, Client, Record, Start};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use sha2::{Digest, Sha256};

use crate::clients::producer;

/// So many publishes of one producer are awaited together: enough to keep batches full, little enough to hold.
const UNDER_WAY: usize = 2_000;

/// A large record: half of what a topic takes unless it says otherwise.
const LARGE: usize = 512 << 10;

/// SHA-256 of a value.
pub(crate) type Hash = [u8; 32];

/// What was acknowledged: where each record stands, and its hash.
#[derive(Debug, Default)]
pub struct Acknowledged {
    hashes: HashMap<(u32, u64), Hash>,
}

pub(crate) fn hash(value: &[u8]) -> Hash {
    Sha256::digest(value).into()
}

/// The value of the record with this number: 1 byte to 8 KiB, mostly small, made from a seed.
pub(crate) fn value(random: &mut StdRng, number: u64) -> Vec<u8> {
    let size = match random.random_range(0..100) {
        0..70 => random.random_range(0..256),
        70..95 => random.random_range(256..2048),
        _ => random.random_range(2048..8192),
    };
    let mut value = format!("{number}:").into_bytes();
    let start = value.len();
    value.resize(start + size, 0);
    random.fill_bytes(&mut value[start..]);
    value
}

impl Acknowledged {
    /// How many records were acknowledged.
    pub fn count(&self) -> usize {
        self.hashes.len()
    }

    /// Publishes `count` records and keeps where each was acknowledged. An error of any is an error.
    pub async fn publish(&mut self, client: &Client, topic: &str, count: u64, seed: u64) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        self.publish_values(client, topic, (0..count).map(|number| value(&mut random, number))).await
    }

    /// The same with so many MiB of large records.
    pub async fn publish_large(&mut self, client: &Client, topic: &str, mib: u64, seed: u64) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        let large = |_| {
            let mut value = vec![0; LARGE];
            random.fill_bytes(&mut value);
            value
        };
        self.publish_values(client, topic, (0..mib << 20 >> LARGE.ilog2()).map(large)).await
    }

    async fn publish_values(
        &mut self,
        client: &Client,
        topic: &str,
        values: impl Iterator<Item = Vec<u8>>,
    ) -> Result<()> {
        let producer = producer(client, topic).await?;
        let mut waiting = Vec::with_capacity(UNDER_WAY);
        for (number, value) in (0u64..).zip(values) {
            let hash = hash(&value);
            let record = if number % 3 == 0 {
                Record::new(value)
            } else {
                Record::new(value).key(number.to_be_bytes().to_vec())
            };
            waiting.push((number, hash, producer.send(record).await?));
            if waiting.len() == UNDER_WAY {
                self.collect(waiting.drain(..)).await?;
            }
        }
        self.collect(waiting.drain(..)).await?;
        producer.close().await;
        Ok(())
    }

    async fn collect(
        &mut self,
        waiting: impl Iterator<Item = (u64, Hash, fulmar_client::Delivery)>,
    ) -> Result<()> {
        for (number, hash, delivery) in waiting {
            let Ack { partition, offset } = delivery.await.with_context(|| format!("record {number}"))?;
            self.note(partition, offset, hash)?;
        }
        Ok(())
    }

    /// One more was acknowledged.
    pub(crate) fn note(&mut self, partition: u32, offset: u64, hash: Hash) -> Result<()> {
        if self.hashes.insert((partition, offset), hash).is_some() {
            bail!("two records were acknowledged at offset {offset} of partition {partition}");
        }
        Ok(())
    }

    /// Whether this was acknowledged there.
    pub(crate) fn is(&self, partition: u32, offset: u64, hash: &Hash) -> bool {
        self.hashes.get(&(partition, offset)) == Some(hash)
    }

    /// Partition and offset of each, in no order.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u32, u64)> {
        self.hashes.keys().copied()
    }

    /// The lowest offset that was acknowledged in a partition.
    pub fn first(&self, partition: u32) -> Option<u64> {
        self.offsets(partition).min()
    }

    /// The highest offset that was acknowledged in a partition.
    pub fn last(&self, partition: u32) -> Option<u64> {
        self.offsets(partition).max()
    }

    fn offsets(&self, partition: u32) -> impl Iterator<Item = u64> {
        self.hashes.keys().filter(move |(of, _)| *of == partition).map(|(_, offset)| *offset)
    }

    /// What others acknowledged belongs to it too.
    pub fn add(&mut self, other: Self) -> Result<()> {
        other
            .hashes
            .into_iter()
            .try_for_each(|((partition, offset), hash)| self.note(partition, offset, hash))
    }

    /// Reads the topic from the earliest record to its end and compares: each acknowledged record is there, once, in its place,
    /// and nothing else is.
    pub async fn compare(&self, client: &Client, topic: &str) -> Result<()> {
        let mut subscriber = client.subscriber(topic).start(Start::Earliest).until_end().build().await?;
        let mut last: BTreeMap<u32, u64> = BTreeMap::new();
        let mut found = 0usize;
        while let Some(message) = subscriber.next().await {
            let message = message?;
            let (partition, offset) = (message.partition, message.offset);
            if let Some(before) = last.insert(partition, offset) {
                ensure!(before < offset, "partition {partition}: offset {offset} after {before}");
            }
            let Some(acknowledged) = self.hashes.get(&(partition, offset)) else {
                bail!("partition {partition} has a record at {offset} that was never acknowledged")
            };
            ensure!(
                *acknowledged == hash(&message.value),
                "partition {partition}, offset {offset}: another record than acknowledged"
            );
            found += 1;
        }
        ensure!(found == self.count(), "{found} of {} acknowledged records are there", self.count());
        Ok(())
    }
}
