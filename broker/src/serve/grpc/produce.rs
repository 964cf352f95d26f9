//! `Log.Produce`: batches in, answers out in their order, many under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fulmar_core::batch::ProducedBatch;
use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use fulmar_proto::v1::produce_response::Outcome;
use fulmar_proto::v1::{ErrorReason, ProduceRequest, ProduceResponse};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tracing::debug;

use super::super::Door;
use super::super::convert::{batch_of, topic_id};
use super::super::error::Failure;
use super::super::outflow::{self, Answered, Answers, Outflow};
use super::relay::Relays;
use crate::replica::Answer;
use crate::traces::Publishing;

/// Batches of one stream under way: as many as a producer's window for each of some partitions; then the stream is not read.
const UNDER_WAY_MAX: usize = 1024;
/// Answers between the one who waits for them and the socket.
const ANSWERS_MAX: usize = 64;
/// A batch that is not committed within it is answered: nobody knows. A leader without followers would keep it for ever.
const COMMIT_MAX: Duration = Duration::from_secs(30);

type Queue = Answers<ProduceResponse>;

/// A batch's answer, known or to come.
struct UnderWay {
    correlation_id: u64,
    key: Option<PartitionKey>,
    answer: Result<Pending, Failure>,
}

/// Whose answer is waited for.
enum Pending {
    /// This broker's replica; and who is told, if some of its records are sampled.
    Here(Answer, Option<Arc<Publishing>>),
    /// The leader that the batch was passed on to.
    There(oneshot::Receiver<Outcome>),
}

impl Door {
    pub(super) fn produce(
        &self,
        requests: Streaming<ProduceRequest>,
        connection: Option<Outflow>,
        passes_on: bool,
    ) -> Answered<ProduceResponse> {
        let (all, stall_max) = (self.shared.answers.clone(), self.shared.stall_max);
        let (answers, answered) = outflow::stream(ANSWERS_MAX, all, connection, stall_max);
        let (put, under_way) = mpsc::channel(UNDER_WAY_MAX);
        let relays = passes_on.then(Relays::default);
        tokio::spawn(take((self.clone(), relays), requests, put, answers.clone()));
        tokio::spawn(answer(self.clone(), under_way, answers));
        answered
    }

    async fn append_batch(&self, request: ProduceRequest, relays: Option<&mut Relays>) -> UnderWay {
        let correlation_id = request.correlation_id;
        match self.checked(&request) {
            Err(failure) => UnderWay { correlation_id, key: None, answer: Err(failure) },
            Ok((topic, key)) => {
                let me = self.shared.replicas.me();
                let elsewhere = self.leader(key).filter(|leader| *leader != me);
                let answer = match relays.zip(elsewhere) {
                    Some((relays, leader)) => match self.admit(request.batch.len()).await {
                        Ok(admission) => {
                            let passed = relays.pass(self, leader.ordinal, (request, admission)).await;
                            Ok(Pending::There(passed))
                        }
                        Err(busy) => Err(busy),
                    },
                    None => self.append_checked(&topic, key, request).await,
                };
                UnderWay { correlation_id, key: Some(key), answer }
            }
        }
    }

    fn checked(&self, request: &ProduceRequest) -> Result<(Arc<TopicRecord>, PartitionKey), Failure> {
        let topic = self.topic_of(topic_id(&request.topic_id)?)?;
        let key = Door::partition(&topic, request.partition)?;
        Ok((topic, key))
    }

    async fn append_checked(
        &self,
        topic: &TopicRecord,
        key: PartitionKey,
        request: ProduceRequest,
    ) -> Result<Pending, Failure> {
        let began = Instant::now();
        // What is compressed is looked through without: for so long it takes that memory, too.
        let looked_through = match ProducedBatch::bytes_to_parse(&request.batch) {
            0 => None,
            bytes => Some(self.admit(bytes).await?),
        };
        let batch = batch_of(&request.batch, topic)?;
        // The batch is a copy: what it arrived in, which was counted, is not kept while it waits for its room.
        drop(request);
        let traced = self.shared.traces.of_batch(&topic.name, key.partition, &batch, began);
        drop(looked_through);
        let handed = self.hand_over(key, batch, traced.clone()).await;
        if let (Some(traced), Err(failure)) = (&traced, &handed) {
            traced.answered(Err(failure.reason_name()));
        }
        Ok(Pending::Here(handed?, traced))
    }

    async fn hand_over(
        &self,
        key: PartitionKey,
        batch: ProducedBatch,
        traced: Option<Arc<Publishing>>,
    ) -> Result<Answer, Failure> {
        self.check_room(key)?;
        let admission = self.admit(batch.size()).await?;
        self.shared.metrics.appended(batch.size());
        let stopping =
            |_| Failure::new(ErrorReason::NotServing, "this broker is stopping; nothing was appended");
        self.shared.replicas.produce(key, batch, Some(admission), traced).await.map_err(stopping)
    }
}

/// Reads the stream and appends, one after the other.
async fn take(
    (door, mut relays): (Door, Option<Relays>),
    mut requests: Streaming<ProduceRequest>,
    put: mpsc::Sender<Result<UnderWay, Status>>,
    answers: Queue,
) {
    loop {
        let request = tokio::select! {
            () = answers.closed() => return,
            // What is under way is answered; then the stream ends, and the program goes on at another broker.
            () = door.shared.stop.cancelled() => return,
            request = requests.message() => request,
        };
        match request {
            Ok(Some(request)) => {
                let under_way = door.append_batch(request, relays.as_mut()).await;
                if put.send(Ok(under_way)).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(status) => {
                debug!(%status, "a produce stream broke");
                // Told behind the answers that are due; the program may be gone.
                let _gone = put.send(Err(status)).await;
                return;
            }
        }
    }
}

/// Waits for each batch's end, in order.
async fn answer(door: Door, mut under_way: mpsc::Receiver<Result<UnderWay, Status>>, answers: Queue) {
    while let Some(under_way) = under_way.recv().await {
        let UnderWay { correlation_id, key, answer } = match under_way {
            Ok(under_way) => under_way,
            Err(status) => {
                let _gone = answers.send(Err(status), None).await;
                return;
            }
        };
        let outcome = match answer {
            Ok(Pending::Here(answer, traced)) => {
                let committed = committed(&door, key, answer).await;
                if let Some(traced) = traced {
                    traced.answered(committed.as_ref().copied().map(Offset).map_err(Failure::reason_name));
                }
                committed.map(Outcome::BaseOffset)
            }
            Ok(Pending::There(outcome)) => match timeout(COMMIT_MAX, outcome).await {
                Ok(Ok(outcome)) => Ok(outcome),
                Ok(Err(_)) | Err(_) => Err(Failure::outcome_unknown()),
            },
            Err(failure) => Err(failure),
        };
        let outcome = outcome.unwrap_or_else(|failure| {
            door.shared.metrics.failed(failure.reason_name());
            Outcome::Error(failure.to_item())
        });
        let response = ProduceResponse { correlation_id, outcome: Some(outcome) };
        // A few bytes each: their number bounds them.
        if answers.send(Ok(response), None).await.is_err() {
            return;
        }
    }
}

async fn committed(door: &Door, key: Option<PartitionKey>, answer: Answer) -> Result<u64, Failure> {
    match timeout(COMMIT_MAX, answer).await {
        Ok(Ok(Ok(offset))) => Ok(offset.0),
        Ok(Ok(Err(refusal))) => {
            let key = key.expect("a batch that was handed to a replica has a partition");
            Err(door.refused(key, &refusal))
        }
        Ok(Err(_)) | Err(_) => Err(Failure::outcome_unknown()),
    }
}
