//! First and next offsets of partitions, asked of their leaders, here or on other brokers.

use std::time::{Duration, Instant};

use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::{Ordinal, PartitionKey};
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::{ErrorReason, ListOffsetsRequest, PartitionOffsets};
use tokio::time::{sleep, timeout_at};

use super::Door;
use super::error::Failure;
use super::{find, forward};

/// Between two tries while nobody leads.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// As for publishes.
const PATIENCE: Duration = Duration::from_secs(10);

impl Door {
    /// Asks until the leader answers, or the deadline or patience is over.
    pub(super) async fn offsets(
        &self,
        topic: &TopicRecord,
        key: PartitionKey,
        time_ms: Option<i64>,
        deadline: Instant,
    ) -> Result<PartitionOffsets, Failure> {
        let give_up = deadline.min(Instant::now() + PATIENCE);
        loop {
            let failure = match self.offsets_once(topic, key, time_ms, deadline).await {
                Ok(offsets) => return Ok(offsets),
                Err(failure) => failure,
            };
            if failure.retry_after().is_none() || Instant::now() + RETRY_EVERY >= give_up {
                return Err(failure);
            }
            sleep(RETRY_EVERY).await;
        }
    }

    async fn offsets_once(
        &self,
        topic: &TopicRecord,
        key: PartitionKey,
        time_ms: Option<i64>,
        deadline: Instant,
    ) -> Result<PartitionOffsets, Failure> {
        match self.leader(key) {
            Some(leader) if leader == self.shared.replicas.me() => self.offsets_here(key, time_ms).await,
            Some(leader) => self.offsets_there(leader.ordinal, topic, key, time_ms, deadline).await,
            None => Err(self.not_leader(key)),
        }
    }

    /// Of a partition that this broker leads.
    pub(super) async fn offsets_here(
        &self,
        key: PartitionKey,
        time_ms: Option<i64>,
    ) -> Result<PartitionOffsets, Failure> {
        let state = self.shared.replicas.states().get(key).filter(|state| state.serving.is_some());
        let state = state.ok_or_else(|| self.not_leader(key))?;
        let at_time = match time_ms {
            None => None,
            Some(time_ms) => {
                let at_ms = u64::try_from(time_ms).unwrap_or(0);
                let storage = self.shared.replicas.storage().clone();
                let found = tokio::task::spawn_blocking(move || storage.offset_at_time(key, at_ms)).await;
                let cancelled = |_| Failure::new(ErrorReason::NotServing, "the broker is stopping");
                let found = found.map_err(cancelled)?.map_err(|error| Failure::unread(&error))?;
                found.map(|(offset, _)| offset.0).filter(|offset| *offset < state.high_watermark.0)
            }
        };
        Ok(PartitionOffsets {
            partition: key.partition,
            log_start: state.log_start.0,
            high_watermark: state.high_watermark.0,
            at_time,
            error: None,
        })
    }

    async fn offsets_there(
        &self,
        leader: Ordinal,
        topic: &TopicRecord,
        key: PartitionKey,
        time_ms: Option<i64>,
        deadline: Instant,
    ) -> Result<PartitionOffsets, Failure> {
        let mut client = LogClient::new(self.shared.channels.to(leader).await?);
        let request =
            ListOffsetsRequest { topic: topic.name.clone(), partitions: vec![key.partition], time_ms };
        let unanswered = || {
            self.shared.channels.forget(leader);
            Failure::not_leader(format!("broker {leader}, which leads, does not answer"), String::new())
        };
        let answer = timeout_at(deadline.into(), client.list_offsets(forward::marked(request))).await;
        let answer = answer.map_err(|_| unanswered())?;
        let answer = answer.map_err(|status| match Failure::from_status(&status) {
            Some(failure) => find::behind(leader, failure),
            None => unanswered(),
        })?;
        let offsets = answer.into_inner().partitions.into_iter().next().ok_or_else(unanswered)?;
        match &offsets.error {
            Some(error) => Err(Failure::from_item(error)),
            None => Ok(offsets),
        }
    }
}
