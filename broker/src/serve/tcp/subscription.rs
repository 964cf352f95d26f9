//! What programs follow, each a task that turns answers into frames.
//!
//! Owns the beginning and the end of each: `SUBSCRIBED`, then `DELIVERED` as often as there is something, then
//! `UNSUBSCRIBED` or `ERROR`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fulmar_core::pattern::Pattern;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{ErrorReason, Start, SubscribeRequest, SubscribeResponse};
use futures::StreamExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::super::DEADLINE_DEFAULT;
use super::super::error::Failure;
use super::super::outflow::Answered;
use super::writer::Piece;
use super::{Connection, answer};

/// Of one connection: each has its followers and its queue.
const SUBSCRIPTIONS_MAX: usize = 64;
/// Something is sent so often: a program whose broker vanished learns it, and a broker whose program did.
const QUIET_MAX: Duration = Duration::from_secs(15);

impl Connection {
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        correlation: u32,
        topic: String,
        partition: Option<u32>,
        start: At,
    ) {
        let end = self.end.child_token();
        if let Err(failure) = self.enter(correlation, &topic, end.clone()) {
            return self.answer(answer::error(correlation, &failure)).await;
        }
        let request = SubscribeRequest {
            topics: vec![topic],
            start: Some(Start { at: Some(start) }),
            partitions: partition.into_iter().collect(),
        };
        let connection = Arc::clone(self);
        tokio::spawn(async move {
            let last = connection.follow(correlation, request, &end).await;
            // Its correlation id is free again before the program can know.
            connection.subscriptions.lock().remove(&correlation);
            if let Some(last) = last {
                connection.answer(last).await;
            }
        });
    }

    fn enter(&self, correlation: u32, topic: &str, end: CancellationToken) -> Result<(), Failure> {
        // What is delivered here does not name its topic.
        if !matches!(Pattern::parse(topic), Ok(None)) {
            let message = format!(
                "topic: {topic:?} is a pattern; here it is one name, and gRPC's Subscribe takes patterns"
            );
            return Err(Failure::invalid("topic", message));
        }
        let mut subscriptions = self.subscriptions.lock();
        if subscriptions.len() >= SUBSCRIPTIONS_MAX {
            let message = format!("a connection has at most {SUBSCRIPTIONS_MAX} subscriptions");
            return Err(Failure::new(ErrorReason::Busy, message));
        }
        if subscriptions.contains_key(&correlation) {
            let message =
                format!("correlation id: {correlation} is that of a subscription which still stands");
            return Err(Failure::invalid("correlation_id", message));
        }
        subscriptions.insert(correlation, end);
        Ok(())
    }

    pub(super) async fn unsubscribe(&self, correlation: u32) {
        let known = self.subscriptions.lock().get(&correlation).cloned();
        if let Some(end) = known {
            return end.cancel();
        }
        let message = format!("correlation id: there is no subscription {correlation}");
        let failure = Failure::invalid("correlation_id", message);
        self.answer(answer::error(correlation, &failure)).await;
    }

    /// Until it ends; then what is said last.
    async fn follow(
        &self,
        correlation: u32,
        request: SubscribeRequest,
        end: &CancellationToken,
    ) -> Option<Bytes> {
        let deadline = Instant::now() + DEADLINE_DEFAULT;
        let connection = Some(self.outflow.clone());
        let answered = tokio::select! {
            () = end.cancelled() => return Some(answer::unsubscribed(correlation)),
            answered = self.door.subscribe(request, connection, deadline) => answered,
        };
        let mut answered = match answered {
            Ok(answered) => answered,
            Err(failure) => return Some(answer::error(correlation, &failure)),
        };
        let handed = answered.handed();
        let mut stands = false;
        loop {
            let next = tokio::select! {
                () = end.cancelled() => return Some(answer::unsubscribed(correlation)),
                next = timeout(QUIET_MAX, answered.next()) => next,
            };
            let frame = match next {
                Err(_) => answer::delivered(correlation, &[]),
                Ok(None) => return None,
                Ok(Some(Ok(SubscribeResponse { .. }))) if !stands => {
                    stands = true;
                    answer::subscribed(correlation)
                }
                Ok(Some(Ok(SubscribeResponse { messages }))) => answer::delivered(correlation, &messages),
                Ok(Some(Err(status))) => {
                    let unknown = || Failure::new(ErrorReason::NotServing, status.message());
                    let failure = Failure::from_status(&status).unwrap_or_else(unknown);
                    return Some(answer::error(correlation, &failure));
                }
            };
            let piece = Piece::counted(frame, handed.take(), Arc::clone(&handed.progress));
            self.answers.send(piece).await.ok()?;
        }
    }

    /// Queues what one stream of answers brings, with its memory.
    pub(super) async fn pass_on<T>(&self, mut answered: Answered<T>, frame: impl Fn(T) -> Bytes) {
        let handed = answered.handed();
        while let Some(Ok(answer)) = answered.next().await {
            let piece = Piece::counted(frame(answer), handed.take(), Arc::clone(&handed.progress));
            if self.answers.send(piece).await.is_err() {
                return;
            }
        }
    }
}
