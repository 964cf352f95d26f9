//! Questions about the Cluster and its topics; changes nothing.
//!
//! Owns paging and asking the next broker when one does not answer. Answers are the messages of `fulmar.v1` as they are.

use std::sync::Arc;
use std::time::Duration;

use fulmar_proto::v1;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::error::{DescribeError, Failure, Verdict};
use crate::metadata::{Metadata, describe_error};
use crate::retry::Backoff;

/// As [`ONE_BROKER_TIMEOUT`](crate::metadata), with time for the broker to ask leaders.
const ONE_BROKER_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks any broker. Made by [`Client::admin`](crate::Client::admin).
#[derive(Debug, Clone)]
pub struct Admin {
    metadata: Arc<Metadata>,
}

impl Admin {
    pub(crate) fn new(metadata: Arc<Metadata>) -> Self {
        Self { metadata }
    }

    /// The Cluster and its brokers, as the broker sees them that answers.
    pub async fn describe_cluster(&self) -> Result<v1::DescribeClusterResponse, DescribeError> {
        let answer = self
            .ask(async |admin: &mut AdminClient| {
                admin.describe_cluster(v1::DescribeClusterRequest {}).await.map(tonic::Response::into_inner)
            })
            .await;
        answer.map_err(|failure| describe_error("", self.metadata.timeout(), failure))
    }

    /// The same as the broker at this address (`host:port`) sees it; no other is asked, and not twice.
    pub async fn describe_cluster_at(
        &self,
        address: &str,
    ) -> Result<v1::DescribeClusterResponse, DescribeError> {
        let until = Instant::now() + self.metadata.timeout();
        let asking = async |admin: &mut AdminClient| {
            admin.describe_cluster(v1::DescribeClusterRequest {}).await.map(tonic::Response::into_inner)
        };
        let answer = self.ask_one(address, until, &asking).await;
        answer.map_err(|failure| describe_error("", self.metadata.timeout(), failure))
    }

    /// One topic with the state of its partitions; leaders are asked.
    pub async fn describe_topic(&self, name: &str) -> Result<v1::DescribeTopicResponse, DescribeError> {
        let answer = self
            .ask(async |admin: &mut AdminClient| {
                let request = v1::DescribeTopicRequest { topic: name.to_owned() };
                admin.describe_topic(request).await.map(tonic::Response::into_inner)
            })
            .await;
        answer.map_err(|failure| describe_error(name, self.metadata.timeout(), failure))
    }

    /// All topics, by name, with their partitions and leaders.
    pub async fn topics(&self) -> Result<Vec<v1::Topic>, DescribeError> {
        topics(&self.metadata).await
    }

    /// First and next offsets of partitions (all, if none is named), and the first offset at or after `time_ms`
    /// (milliseconds since 1970, the brokers' clock). A partition whose leader does not answer has an error in its place.
    pub async fn list_offsets(
        &self,
        topic: &str,
        partitions: &[u32],
        time_ms: Option<i64>,
    ) -> Result<Vec<v1::PartitionOffsets>, DescribeError> {
        list_offsets(&self.metadata, topic, partitions, time_ms).await
    }

    async fn ask<T>(
        &self,
        question: impl AsyncFn(&mut AdminClient) -> Result<T, Status>,
    ) -> Result<T, Failure> {
        let deadline = Instant::now() + self.metadata.timeout();
        let mut backoff = Backoff::new();
        loop {
            let mut failure = Failure::lost("no broker is known");
            for address in self.metadata.candidates() {
                let until = deadline.min(Instant::now() + ONE_BROKER_TIMEOUT);
                failure = match self.ask_one(&address, until, &question).await {
                    Ok(answer) => return Ok(answer),
                    Err(failure) => failure,
                };
                if matches!(failure.verdict(), Verdict::Refused | Verdict::Missing)
                    || Instant::now() >= deadline
                {
                    return Err(failure);
                }
            }
            if !backoff.wait_until(deadline).await {
                return Err(failure);
            }
        }
    }

    async fn ask_one<T>(
        &self,
        address: &str,
        until: Instant,
        question: &impl AsyncFn(&mut AdminClient) -> Result<T, Status>,
    ) -> Result<T, Failure> {
        let connections = self.metadata.connections();
        let mut admin = connections.admin(address).map_err(|error| Failure::lost(error.to_string()))?;
        let silent = || Status::new(Code::DeadlineExceeded, format!("{address} does not answer"));
        let answer =
            tokio::time::timeout_at(until, question(&mut admin)).await.unwrap_or_else(|_| Err(silent()));
        answer.map_err(|status| {
            let failure = Failure::from_status(&status);
            if failure.reason.is_none() {
                connections.note_unreachable(address);
            }
            failure
        })
    }
}

/// So long a broker waits for the leaders that it asks; then it answers without those that say nothing. Shorter than it is itself waited
/// for, or one of them would make it look dead.
const LEADERS_TIMEOUT: Duration = Duration::from_millis(1500);

type AdminClient = v1::admin_client::AdminClient<tonic::transport::Channel>;

/// See [`Admin::topics`].
pub(crate) async fn topics(metadata: &Metadata) -> Result<Vec<v1::Topic>, DescribeError> {
    let timeout = metadata.timeout();
    let mut topics = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::MetadataRequest { topics: Vec::new(), page_size: 1000, page_token };
        let answer = metadata.fetch(request, Instant::now() + timeout).await;
        let answer = answer.map_err(|failure| describe_error("", timeout, failure))?;
        topics.extend(answer.topics);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            topics.sort_by(|a, b| a.name.cmp(&b.name));
            return Ok(topics);
        }
    }
}

/// See [`Admin::list_offsets`].
pub(crate) async fn list_offsets(
    metadata: &Metadata,
    topic: &str,
    partitions: &[u32],
    time_ms: Option<i64>,
) -> Result<Vec<v1::PartitionOffsets>, DescribeError> {
    let timeout = metadata.timeout();
    let request =
        v1::ListOffsetsRequest { topic: topic.to_owned(), partitions: partitions.to_vec(), time_ms };
    let answer = metadata
        .ask(Instant::now() + timeout, |mut client| {
            let mut request = tonic::Request::new(request.clone());
            request.set_timeout(LEADERS_TIMEOUT);
            async move { client.list_offsets(request).await.map(tonic::Response::into_inner) }
        })
        .await;
    Ok(answer.map_err(|failure| describe_error(topic, timeout, failure))?.partitions)
}
