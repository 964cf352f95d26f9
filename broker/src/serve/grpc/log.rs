//! `Log`: the streams are in files of their own; metadata and offsets here.

use std::collections::BTreeSet;
use std::time::Instant;

use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::PartitionKey;
use fulmar_proto::v1::log_server::Log;
use fulmar_proto::v1::{
    Broker, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, Partition, PartitionOffsets, ProduceRequest, ProduceResponse, Topic,
};
use tonic::{Request, Response, Status, Streaming};

use super::super::Door;
use super::super::convert::topic_bytes;
use super::super::error::Failure;
use super::super::outflow::Answered;
use super::{deadline, is_forwarded, outflow_of, relay};
use crate::directory::Directory;

/// As the API says.
const PAGE_DEFAULT: u32 = 1_000;
const PAGE_MAX: u32 = 10_000;
/// Names that may be asked for at once.
pub(in crate::serve) const NAMES_MAX: usize = 10_000;

#[tonic::async_trait]
impl Log for Door {
    type ProduceStream = Answered<ProduceResponse>;

    async fn produce(
        &self,
        request: Request<Streaming<ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let (connection, passes_on) = (outflow_of(&request), relay::is_wanted(&request));
        Ok(Door::produce(self, request.into_inner(), connection, passes_on).into_response())
    }

    type FetchStream = Answered<FetchResponse>;

    async fn fetch(
        &self,
        request: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let (connection, passes_on) = (outflow_of(&request), relay::is_wanted(&request));
        Ok(Door::fetch(self, request.into_inner(), connection, passes_on).into_response())
    }

    async fn metadata(
        &self,
        request: Request<MetadataRequest>,
    ) -> Result<Response<MetadataResponse>, Status> {
        let (deadline, is_forwarded) = (deadline(request.metadata()), is_forwarded(&request));
        Ok(Response::new(self.describe(&request.into_inner(), is_forwarded, deadline).await?))
    }

    async fn list_offsets(
        &self,
        request: Request<ListOffsetsRequest>,
    ) -> Result<Response<ListOffsetsResponse>, Status> {
        let (deadline, is_forwarded) = (deadline(request.metadata()), is_forwarded(&request));
        Ok(Response::new(self.list(request.into_inner(), is_forwarded, deadline).await?))
    }
}

impl Door {
    /// Topics by name, or a page of all of them.
    pub(in crate::serve) async fn describe(
        &self,
        request: &MetadataRequest,
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<MetadataResponse, Failure> {
        if request.page_size > PAGE_MAX {
            let message = format!("page_size: at most {PAGE_MAX}, this is {}", request.page_size);
            return Err(Failure::invalid("page_size", message));
        }
        if request.topics.len() > NAMES_MAX {
            let message = format!("topics: at most {NAMES_MAX} names, these are {}", request.topics.len());
            return Err(Failure::invalid("topics", message));
        }
        let directory = self.directory();
        let (topics, next_page_token) = if request.topics.is_empty() {
            let size = if request.page_size == 0 { PAGE_DEFAULT } else { request.page_size } as usize;
            self.page(&directory, &request.page_token, size)
        } else {
            // A short request may not have a long answer by repeating a name.
            let names: BTreeSet<&String> = request.topics.iter().collect();
            let found = names.into_iter().map(|name| self.named(name, is_forwarded, deadline));
            (futures::future::join_all(found).await, String::new())
        };
        let brokers = self.shared.brokers.all().into_iter().map(|known| Broker {
            ordinal: known.ordinal.0.into(),
            address: known.client,
            zone: known.zone.unwrap_or_default(),
        });
        let cluster_id = self.cluster_id().await;
        Ok(MetadataResponse { cluster_id, brokers: brokers.collect(), topics, next_page_token })
    }

    /// Empty as long as this broker has not been told.
    pub(super) async fn cluster_id(&self) -> String {
        let storage = self.shared.replicas.storage().clone();
        let volume = tokio::task::spawn_blocking(move || storage.identity()).await;
        let cluster = volume.ok().and_then(Result::ok).and_then(|volume| volume.cluster);
        cluster.map(|cluster| cluster.to_string()).unwrap_or_default()
    }

    async fn named(&self, name: &str, is_forwarded: bool, deadline: Instant) -> Topic {
        match self.find(name, is_forwarded, deadline).await {
            Ok(topic) => self.with_partitions(&self.directory(), &topic),
            Err(failure) => {
                Topic { name: name.to_owned(), error: Some(failure.to_item()), ..Topic::default() }
            }
        }
    }

    async fn list(
        &self,
        request: ListOffsetsRequest,
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<ListOffsetsResponse, Failure> {
        let topic = self.find(&request.topic, is_forwarded, deadline).await?;
        let partitions =
            if request.partitions.is_empty() { (0..topic.partitions).collect() } else { request.partitions };
        let keys: Result<BTreeSet<PartitionKey>, Failure> =
            partitions.into_iter().map(|partition| Door::partition(&topic, partition)).collect();
        let (topic, time_ms) = (&topic, request.time_ms);
        let asked = keys?.into_iter().map(async |key| {
            let offsets = if is_forwarded {
                self.offsets_here(key, time_ms).await
            } else {
                self.offsets(topic, key, time_ms, deadline).await
            };
            offsets.unwrap_or_else(|failure| PartitionOffsets {
                partition: key.partition,
                error: Some(failure.to_item()),
                ..PartitionOffsets::default()
            })
        });
        Ok(ListOffsetsResponse { partitions: futures::future::join_all(asked).await })
    }
}

impl Door {
    fn page(&self, directory: &Directory, after: &str, size: usize) -> (Vec<Topic>, String) {
        let mut served = directory.topics_after(after).filter(|topic| !topic.retained);
        let topics = served.by_ref().take(size).map(|topic| self.with_partitions(directory, topic));
        let topics: Vec<Topic> = topics.collect();
        let more = served.next().is_some();
        let token = topics.last().filter(|_| more).map(|topic| topic.name.clone()).unwrap_or_default();
        (topics, token)
    }

    fn with_partitions(&self, directory: &Directory, topic: &TopicRecord) -> Topic {
        let partition = |partition| {
            let key = PartitionKey { topic: topic.id, partition };
            let entry = directory.entry(key);
            Partition {
                partition,
                leader: self.leader(key).map(|leader| leader.ordinal.0.into()),
                replicas: entry.map(|entry| replicas(&entry.members.replicas())).unwrap_or_default(),
                epoch: entry.map(|entry| entry.epoch.to_string()).unwrap_or_default(),
            }
        };
        Topic {
            name: topic.name.clone(),
            topic_id: topic_bytes(topic.id),
            partitions: (0..topic.partitions).map(partition).collect(),
            max_message_bytes: topic.max_message_bytes,
            error: None,
        }
    }
}

pub(super) fn replicas(all: &[fulmar_core::id::ReplicaId]) -> Vec<u32> {
    all.iter().map(|replica| replica.ordinal.0.into()).collect()
}
