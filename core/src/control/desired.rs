//! What is wished: the checked contents of a Cluster and its Topics.

use crate::control::losses::LossWord;

/// Everything that is wished of one Cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Desired {
    /// How many brokers there are to be: ordinals below it. Those above are emptied.
    pub brokers: u16,
    /// How many there are until then: ordinals from `brokers` up to it may still hold records. Less than `brokers` is as many.
    pub standing: u16,
    /// The topics. One that the table has and that is not here is retained.
    pub topics: Vec<TopicWish>,
    /// Names of topics whose data is to go. A name that is also in `topics` is not deleted.
    pub deleted: Vec<String>,
    /// How replicas may be moved between brokers.
    pub rebalance: Rebalance,
}

/// How replicas may be moved between brokers that live. It concerns no replica that takes the place of a lost one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebalance {
    /// None begins to move. Those that are under way go to their end: given up half-way, they would copy their logs twice.
    pub paused: bool,
    /// So many move at once to one broker, or from the logs of one leader; taken as at least 1.
    pub moves_a_broker: u8,
}

impl Default for Rebalance {
    fn default() -> Self {
        // Each may have 4 MiB on its way ([`IN_FLIGHT_BYTES_MAX`](crate::partition::IN_FLIGHT_BYTES_MAX)), which is 16 MiB of the
        // 512 MiB that a broker has by default.
        Self { paused: false, moves_a_broker: 4 }
    }
}

impl Desired {
    /// How many brokers may hold records.
    pub fn present(&self) -> u16 {
        self.brokers.max(self.standing)
    }
}

/// One wished topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicWish {
    /// What programs call it.
    pub name: String,
    /// How many partitions, at least 1. Fewer than there are changes nothing.
    pub partitions: u32,
    /// How many replicas; unset: min(3, brokers), fixed at creation.
    pub replication_factor: Option<u8>,
    /// On how many of them an acknowledged record is durable; unset: the majority.
    pub ack_quorum: Option<u8>,
    /// The largest record, in bytes.
    pub max_message_bytes: u32,
    /// How long a record is kept, in ms; unset: for ever.
    pub retention_ms: Option<u64>,
    /// How much of a partition is kept, in bytes; unset: no limit.
    pub retention_bytes: Option<u64>,
    /// Words by which a person accepts a loss of records; each acts at most once.
    pub accepted_losses: Vec<LossWord>,
}
