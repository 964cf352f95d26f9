//! The way of messages from any program to its partition's leader, here or on another broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fulmar_core::batch::{Record, RecordHeader};
use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::{Ordinal, PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partitioner::partition_of;
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::produce_response::Outcome;
use fulmar_proto::v1::pub_sub_client::PubSubClient;
use fulmar_proto::v1::{ErrorReason, ProduceRequest, ProduceResponse, PublishRequest, PublishResponse};
use opentelemetry::TraceId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::debug;

use super::error::Failure;
use super::inflow::Received;
use super::{Door, convert, find, forward};
use crate::clock::wall_ms;
use crate::dial;
use crate::traces::Publishing;

/// A publish that found no leader is tried again for so long: failovers and moves take about a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries, unless the table changes before.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// What holds of every publish that a full volume refuses.
const WITHOUT_ROOM: &str =
    "nothing was appended, reading goes on, and publishing when retention or a larger volume makes room";

/// Records of one partition, which become one batch, and what is told of those that are sampled.
struct Together<'a> {
    records: &'a [Record],
    traced: Option<Arc<Publishing>>,
}

/// Where the first of them stands, or why not; and the same.
type Committed = (Result<Offset, Failure>, Option<Arc<Publishing>>);

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
            let told = outcome.as_ref().map(|(_, trace)| *trace).map_err(Failure::reason_name);
            self.shared.metrics.published(began.elapsed(), told);
        }
        outcome.map(|(response, _)| response)
    }

    async fn publish_checked(
        &self,
        (request, received): (PublishRequest, Received),
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<(PublishResponse, Option<TraceId>), Failure> {
        let began = Instant::now();
        let topic = self.find(&request.topic, is_forwarded, deadline).await?;
        let partition = Self::named_partition(&topic, &request).unwrap_or_else(|| self.turn(&topic));
        let key = Door::partition(&topic, partition)?;
        let record = [convert::record_of(request, &topic, now_ms())?];
        // Its fields are slices of the whole message.
        let _admission = self.admit(size(&record[0]).max(received.bytes())).await?;
        received.release();
        let batch = self.together(&topic, partition, &record, began);
        let offset = self.commit(&topic, key, &batch, is_forwarded, deadline).await?;
        let trace = batch.traced.and_then(|traced| traced.trace_of(0));
        Ok((PublishResponse { topic: topic.name.clone(), partition, offset: offset.0 }, trace))
    }

    /// Publishes messages of one topic, those of a partition in their order and as one batch; answers when all are committed,
    /// or not: what became of each, in the order of the messages. An error: nothing was appended.
    pub(super) async fn publish_all(
        &self,
        topic: &str,
        (requests, received): (Vec<PublishRequest>, Received),
        deadline: Instant,
    ) -> Result<Vec<Result<PublishResponse, Failure>>, Failure> {
        let began = Instant::now();
        let topic = self.find(topic, false, deadline).await?;
        // Those without a key stay together: each batch costs a round of acknowledgements.
        let keyless = self.turn(&topic);
        let mut places = Vec::with_capacity(requests.len());
        let mut batches: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
        for (at, request) in requests.into_iter().enumerate() {
            let partition = Self::named_partition(&topic, &request).unwrap_or(keyless);
            let record = Door::partition(&topic, partition)
                .and_then(|_| convert::record_of(request, &topic, now_ms()))
                .map_err(|failure| failure.about(&format!("messages[{at}]")))?;
            let batch = batches.entry(partition).or_default();
            places.push((partition, batch.len()));
            batch.push(record);
        }
        let _admission = self.admit(batches.values().flatten().map(size).sum()).await?;
        received.release();
        let committed = batches.iter().map(async |(partition, records)| {
            let key = PartitionKey { topic: topic.id, partition: *partition };
            let batch = self.together(&topic, *partition, records, began);
            let committed = self.commit(&topic, key, &batch, false, deadline).await;
            (*partition, (committed, batch.traced))
        });
        let committed: BTreeMap<u32, Committed> =
            futures::future::join_all(committed).await.into_iter().collect();
        let outcome = |(partition, at): (u32, usize)| {
            let (committed, traced) = &committed[&partition];
            let outcome = match committed {
                Ok(base) => Ok(PublishResponse {
                    topic: topic.name.clone(),
                    partition,
                    offset: base.plus(at as u64).0,
                }),
                Err(failure) => Err(failure.clone()),
            };
            let trace = || traced.as_ref().and_then(|traced| traced.trace_of(at));
            let told = outcome.as_ref().map(|_| trace()).map_err(Failure::reason_name);
            self.shared.metrics.published(began.elapsed(), told);
            outcome
        };
        Ok(places.into_iter().map(outcome).collect())
    }

    fn together<'a>(
        &self,
        topic: &TopicRecord,
        partition: u32,
        records: &'a [Record],
        began: Instant,
    ) -> Together<'a> {
        Together { records, traced: self.shared.traces.of_records(&topic.name, partition, records, began) }
    }

    /// Appends records of one partition as one batch, here or at its leader; the first one's offset when it is committed.
    async fn commit(
        &self,
        topic: &TopicRecord,
        key: PartitionKey,
        batch: &Together<'_>,
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<Offset, Failure> {
        let outcome = self.commit_in_time(topic, key, batch, is_forwarded, deadline).await;
        if let Some(traced) = &batch.traced {
            traced.answered(outcome.as_ref().copied().map_err(Failure::reason_name));
        }
        outcome
    }

    async fn commit_in_time(
        &self,
        topic: &TopicRecord,
        key: PartitionKey,
        batch: &Together<'_>,
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<Offset, Failure> {
        let (partition, give_up) = (key.partition, deadline.min(Instant::now() + PATIENCE));
        loop {
            let tried = self.try_once(topic, key, batch, is_forwarded, deadline).await;
            let failure = match tried {
                Ok(offset) => return Ok(offset),
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

    /// The partition that a message says, or its key.
    fn named_partition(topic: &TopicRecord, request: &PublishRequest) -> Option<u32> {
        let of_key = |key| partition_of(key, topic.partitions);
        request.partition.or_else(|| request.key.as_deref().filter(|_| topic.partitions > 0).map(of_key))
    }

    /// The partition whose turn it is.
    fn turn(&self, topic: &TopicRecord) -> u32 {
        self.shared.turn.fetch_add(1, Ordering::Relaxed) % topic.partitions.max(1)
    }

    async fn try_once(
        &self,
        topic: &TopicRecord,
        key: PartitionKey,
        batch: &Together<'_>,
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<Offset, Failure> {
        match (self.leader(key), batch.records) {
            (Some(leader), _) if leader == self.shared.replicas.me() => {
                self.append(key, batch, deadline).await
            }
            (Some(leader), [record]) if !is_forwarded => {
                self.pass_on(leader.ordinal, topic, key, record, deadline).await
            }
            (Some(leader), records) if !is_forwarded => {
                self.pass_batch_on(leader.ordinal, key, records, deadline).await
            }
            (Some(_) | None, _) => Err(self.not_leader(key)),
        }
    }

    async fn append(
        &self,
        key: PartitionKey,
        Together { records, traced }: &Together<'_>,
        deadline: Instant,
    ) -> Result<Offset, Failure> {
        self.check_room(key)?;
        let batch = convert::framed(records)?;
        self.shared.metrics.appended(batch.size());
        let stopping =
            |_| Failure::new(ErrorReason::NotServing, "this broker is stopping; nothing was appended");
        let answer =
            self.shared.replicas.produce(key, batch, None, traced.clone()).await.map_err(stopping)?;
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

    /// Below the reserve of free space nothing is appended, nor where that leaves too few replicas to acknowledge it.
    pub(super) fn check_room(&self, key: PartitionKey) -> Result<(), Failure> {
        let (me, fullness) = (self.shared.replicas.me(), self.shared.replicas.storage().fullness());
        if fullness.is_full {
            let message = format!(
                "the volume of broker {}, the leader, is full: {} MiB of {} MiB are available, too few to append more; {WITHOUT_ROOM}",
                me.ordinal,
                fullness.available_bytes >> 20,
                fullness.total_bytes >> 20,
            );
            return Err(Failure::new(ErrorReason::DiskFull, message));
        }
        let directory = self.shared.directory.borrow();
        let Some(entry) = directory.entry(key) else { return Ok(()) };
        let is_full = |replica: ReplicaId| replica != me && self.shared.brokers.is_full(replica.ordinal);
        if entry.acknowledged_by(|replica| !is_full(replica)) {
            return Ok(());
        }
        let members = entry.members.replicas().into_iter().filter(|one| is_full(*one));
        let full: Vec<String> = members.map(|one| one.ordinal.to_string()).collect();
        let message = format!(
            "the volumes of brokers {} are full, and without them too few replicas acknowledge; {WITHOUT_ROOM}",
            full.join(", ")
        );
        Err(Failure::new(ErrorReason::DiskFull, message))
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

    async fn pass_batch_on(
        &self,
        leader: Ordinal,
        key: PartitionKey,
        records: &[Record],
        deadline: Instant,
    ) -> Result<Offset, Failure> {
        let request = ProduceRequest {
            topic_id: convert::topic_bytes(key.topic),
            partition: key.partition,
            batch: convert::framed(records)?.bytes().clone(),
            correlation_id: 0,
        };
        let channel = self.shared.channels.to(leader).await?;
        let mut client = LogClient::new(channel).max_encoding_message_size(dial::MESSAGE_BYTES_MAX);
        let answered = async {
            let answers = client.produce(forward::marked(tokio_stream::once(request))).await?;
            answers.into_inner().message().await
        };
        match timeout_at(deadline.into(), answered).await {
            Ok(Ok(Some(ProduceResponse { outcome: Some(Outcome::BaseOffset(offset)), .. }))) => {
                Ok(Offset(offset))
            }
            Ok(Ok(Some(ProduceResponse { outcome: Some(Outcome::Error(error)), .. }))) => {
                Err(find::behind(leader, Failure::from_item(&error)))
            }
            Ok(Ok(_) | Err(_)) => {
                self.shared.channels.forget(leader);
                debug!(%leader, "a batch was passed on and not answered");
                Err(Failure::outcome_unknown())
            }
            Err(_) => Err(Failure::outcome_unknown()),
        }
    }
}

fn now_ms() -> i64 {
    i64::try_from(wall_ms()).unwrap_or(i64::MAX)
}

/// About what a record takes as a publish.
fn size(record: &Record) -> usize {
    let header = |header: &RecordHeader| size_of::<RecordHeader>() + header.name.len() + header.value.len();
    let headers: usize = record.headers.iter().map(header).sum();
    record.value.len() + record.key.as_ref().map_or(0, bytes::Bytes::len) + headers
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
    let header = |header: &RecordHeader| fulmar_proto::v1::Header {
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
