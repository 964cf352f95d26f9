//! The way of one message from any program to its partition's leader, here or on another broker.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fulmar_core::batch::Record;
use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::{Ordinal, PartitionKey};
use fulmar_core::offset::Offset;
use fulmar_core::partitioner::partition_of;
use fulmar_proto::v1::pub_sub_client::PubSubClient;
use fulmar_proto::v1::{ErrorReason, PublishRequest, PublishResponse};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::debug;

use super::error::Failure;
use super::inflow::Received;
use super::{Door, convert, find, forward};
use crate::clock::wall_ms;
use crate::dial;

/// A publish that found no leader is tried again for so long: failovers and moves take about a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries, unless the table changes before.
const RETRY_EVERY: Duration = Duration::from_millis(100);

impl Door {
    /// Publishes one message; answers when it is committed. `received`: its memory, given back once it has some as a
    /// publish. `is_forwarded`: a broker passed it on, it is not passed on again.
    pub(super) async fn publish(
        &self,
        (request, received): (PublishRequest, Received),
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<PublishResponse, Failure> {
        let began = Instant::now();
        let outcome = self.publish_checked((request, received), is_forwarded, deadline).await;
        if !is_forwarded {
            self.shared.metrics.published(began.elapsed(), outcome.as_ref().err().map(Failure::reason_name));
        }
        outcome
    }

    async fn publish_checked(
        &self,
        (request, received): (PublishRequest, Received),
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<PublishResponse, Failure> {
        let topic = self.find(&request.topic, is_forwarded, deadline).await?;
        let partition = self.choose(&topic, &request);
        let key = Door::partition(&topic, partition)?;
        let record = convert::record_of(request, &topic, i64::try_from(wall_ms()).unwrap_or(i64::MAX))?;
        let size = record.value.len() + record.key.as_ref().map_or(0, bytes::Bytes::len);
        let admission = self.admit(size).await?;
        received.release();
        let give_up = deadline.min(Instant::now() + PATIENCE);
        loop {
            let tried = self.try_once(&topic, key, &record, is_forwarded, deadline).await;
            let failure = match tried {
                Ok(offset) => {
                    drop(admission);
                    return Ok(PublishResponse { topic: topic.name.clone(), partition, offset: offset.0 });
                }
                Err(failure) => failure,
            };
            if is_forwarded || !passes(&failure) || Instant::now() + RETRY_EVERY >= give_up {
                return Err(failure.with("topic", &topic.name).with("partition", partition));
            }
            debug!(topic = topic.name, partition, reason = failure.reason_name(), "a publish is tried again");
            let mut directory = self.shared.directory.clone();
            directory.mark_unchanged();
            // Woken early or not: the next try tells.
            let _either = timeout(RETRY_EVERY, directory.changed()).await;
            sleep(Duration::from_millis(rand::random_range(0..10))).await;
        }
    }

    fn choose(&self, topic: &TopicRecord, request: &PublishRequest) -> u32 {
        match (request.partition, &request.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) if topic.partitions > 0 => partition_of(key, topic.partitions),
            (None, _) => self.shared.turn.fetch_add(1, Ordering::Relaxed) % topic.partitions.max(1),
        }
    }

    async fn try_once(
        &self,
        topic: &TopicRecord,
        key: PartitionKey,
        record: &Record,
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<Offset, Failure> {
        match self.leader(key) {
            Some(leader) if leader == self.shared.replicas.me() => self.append(key, record, deadline).await,
            Some(leader) if !is_forwarded => self.pass_on(leader.ordinal, topic, key, record, deadline).await,
            Some(_) | None => Err(self.not_leader(key)),
        }
    }

    async fn append(&self, key: PartitionKey, record: &Record, deadline: Instant) -> Result<Offset, Failure> {
        self.check_room()?;
        let batch = convert::framed(record.clone())?;
        self.shared.metrics.appended(batch.size());
        let stopping =
            |_| Failure::new(ErrorReason::NotServing, "this broker is stopping; nothing was appended");
        let answer = self.shared.replicas.produce(key, batch, None).await.map_err(stopping)?;
        match timeout_at(deadline.into(), answer).await {
            Ok(Ok(Ok(offset))) => Ok(offset),
            Ok(Ok(Err(refusal))) => Err(self.refused(key, &refusal)),
            Ok(Err(_)) => Err(Failure::outcome_unknown()),
            Err(_) => Err(Failure::new(
                ErrorReason::OutcomeUnknown,
                "the deadline passed before enough replicas had the message: it may or may not be there",
            )),
        }
    }

    /// Waits for memory for a publish.
    pub(super) async fn admit(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let busy = "this broker's memory for publishes is taken; nothing was appended";
        let admission = self.shared.replicas.admit(bytes).await;
        admission.ok_or_else(|| Failure::new(ErrorReason::Busy, busy))
    }

    /// Below the reserve of free space nothing is appended.
    pub(super) fn check_room(&self) -> Result<(), Failure> {
        if self.shared.replicas.storage().has_room() {
            return Ok(());
        }
        Err(Failure::new(
            ErrorReason::DiskFull,
            "the leader's volume is full; nothing was appended, reading goes on",
        ))
    }

    /// A replica's refusal, with the leader's address where that helps.
    pub(super) fn refused(&self, key: PartitionKey, refusal: &fulmar_core::partition::Refusal) -> Failure {
        match refusal {
            fulmar_core::partition::Refusal::NotLeader { .. } => self.not_leader(key),
            other => Failure::refused(other),
        }
    }

    async fn pass_on(
        &self,
        leader: Ordinal,
        topic: &TopicRecord,
        key: PartitionKey,
        record: &Record,
        deadline: Instant,
    ) -> Result<Offset, Failure> {
        let channel = self.shared.channels.to(leader).await?;
        let mut request = forward::marked(request_of(topic, key, record));
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let mut client = PubSubClient::new(channel)
            .max_decoding_message_size(dial::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(dial::MESSAGE_BYTES_MAX);
        match timeout_at(deadline.into(), client.publish(request)).await {
            Ok(Ok(response)) => Ok(Offset(response.into_inner().offset)),
            Ok(Err(status)) => {
                let told = Failure::from_status(&status).map(|failure| find::behind(leader, failure));
                Err(told.unwrap_or_else(|| {
                    self.shared.channels.forget(leader);
                    debug!(%leader, %status, "a publish was passed on and not answered");
                    Failure::outcome_unknown()
                }))
            }
            Err(_) => Err(Failure::outcome_unknown()),
        }
    }
}

/// Nothing was appended, and it may pass.
fn passes(failure: &Failure) -> bool {
    matches!(
        failure.reason,
        ErrorReason::NotLeader
            | ErrorReason::Moving
            | ErrorReason::NotEnoughReplicas
            | ErrorReason::NotServing
    )
}

fn request_of(topic: &TopicRecord, key: PartitionKey, record: &Record) -> PublishRequest {
    let headers = record.headers.iter();
    let header = |header: &fulmar_core::batch::RecordHeader| fulmar_proto::v1::Header {
        name: header.name.clone(),
        value: header.value.clone(),
    };
    PublishRequest {
        topic: topic.name.clone(),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: headers.map(header).collect(),
        timestamp_ms: Some(record.timestamp_ms),
        partition: Some(key.partition),
    }
}
