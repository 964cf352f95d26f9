//! `Log.Produce`: batches in, answers out in their order, many under way.

use std::sync::Arc;
use std::time::Duration;

use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::PartitionKey;
use fulmar_proto::v1::produce_response::Outcome;
use fulmar_proto::v1::{ErrorReason, ProduceRequest, ProduceResponse};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tracing::debug;

use super::super::Door;
use super::super::convert::{batch_of, topic_id};
use super::super::error::Failure;
use crate::replica::Answer;

/// Batches of one stream under way: as many as a producer's window for each of some partitions; then the stream is not read.
const UNDER_WAY_MAX: usize = 1024;
/// Answers between the one who waits for them and the socket.
const ANSWERS_MAX: usize = 64;
/// A batch that is not committed within it is answered: nobody knows. A leader without followers would keep it for ever.
const COMMIT_MAX: Duration = Duration::from_secs(30);
/// A program that does not read its answers for so long is cut off.
const STALLED_MAX: Duration = Duration::from_mins(1);

type Answers = mpsc::Sender<Result<ProduceResponse, Status>>;

/// A batch's answer, known or to come.
struct UnderWay {
    correlation_id: u64,
    key: Option<PartitionKey>,
    answer: Result<Answer, Failure>,
}

impl Door {
    pub(super) fn produce(
        &self,
        requests: Streaming<ProduceRequest>,
    ) -> mpsc::Receiver<Result<ProduceResponse, Status>> {
        let (answers, answered) = mpsc::channel(ANSWERS_MAX);
        let (put, under_way) = mpsc::channel(UNDER_WAY_MAX);
        tokio::spawn(take(self.clone(), requests, put, answers.clone()));
        tokio::spawn(answer(self.clone(), under_way, answers));
        answered
    }

    async fn append_batch(&self, request: ProduceRequest) -> UnderWay {
        let correlation_id = request.correlation_id;
        match self.checked(&request) {
            Err(failure) => UnderWay { correlation_id, key: None, answer: Err(failure) },
            Ok((topic, key)) => {
                let answer = self.append_checked(&topic, key, request).await;
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
    ) -> Result<Answer, Failure> {
        let batch = batch_of(request.batch, topic)?;
        self.check_room()?;
        let busy = || {
            Failure::new(
                ErrorReason::Busy,
                "this broker's memory for publishes is taken; nothing was appended",
            )
        };
        let admission = self.shared.replicas.admit(batch.size()).await.ok_or_else(busy)?;
        self.shared.metrics.appended(batch.size());
        let stopping =
            |_| Failure::new(ErrorReason::NotServing, "this broker is stopping; nothing was appended");
        self.shared.replicas.produce(key, batch, Some(admission)).await.map_err(stopping)
    }
}

/// Reads the stream and appends, one after the other.
async fn take(
    door: Door,
    mut requests: Streaming<ProduceRequest>,
    put: mpsc::Sender<UnderWay>,
    answers: Answers,
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
                let under_way = door.append_batch(request).await;
                if put.send(under_way).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(status) => {
                debug!(%status, "a produce stream broke");
                return;
            }
        }
    }
}

/// Waits for each batch's end, in order.
async fn answer(door: Door, mut under_way: mpsc::Receiver<UnderWay>, answers: Answers) {
    while let Some(UnderWay { correlation_id, key, answer }) = under_way.recv().await {
        let outcome = match answer {
            Ok(answer) => committed(&door, key, answer).await,
            Err(failure) => Err(failure),
        };
        let outcome = match outcome {
            Ok(offset) => Outcome::BaseOffset(offset),
            Err(failure) => {
                door.shared.metrics.failed(failure.reason_name());
                Outcome::Error(failure.to_item())
            }
        };
        let response = ProduceResponse { correlation_id, outcome: Some(outcome) };
        if !matches!(timeout(STALLED_MAX, answers.send(Ok(response))).await, Ok(Ok(()))) {
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
