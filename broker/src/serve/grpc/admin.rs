//! `Admin`: looks at the Cluster, changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use fulmar_core::control::table::TopicRecord;
use fulmar_core::id::{Ordinal, PartitionKey};
use fulmar_core::partition::Report;
use fulmar_proto::v1::admin_client::AdminClient;
use fulmar_proto::v1::admin_server::Admin;
use fulmar_proto::v1::{
    BrokerStatus, DescribeClusterRequest, DescribeClusterResponse, DescribeTopicRequest,
    DescribeTopicResponse, ErrorReason, PartitionStatus,
};
use tokio::time::timeout_at;
use tonic::{Request, Response, Status};

use super::super::error::Failure;
use super::super::{Door, forward};
use super::log::replicas;
use super::{deadline, is_forwarded};

#[tonic::async_trait]
impl Admin for Door {
    async fn describe_cluster(
        &self,
        _request: Request<DescribeClusterRequest>,
    ) -> Result<Response<DescribeClusterResponse>, Status> {
        Ok(Response::new(self.cluster().await))
    }

    async fn describe_topic(
        &self,
        request: Request<DescribeTopicRequest>,
    ) -> Result<Response<DescribeTopicResponse>, Status> {
        let (deadline, is_forwarded) = (deadline(request.metadata()), is_forwarded(&request));
        let topic = self.find(&request.into_inner().topic, is_forwarded, deadline).await?;
        Ok(Response::new(self.described(&topic, is_forwarded, deadline).await?))
    }
}

impl Door {
    /// The Cluster as this broker sees it.
    pub(in crate::serve) async fn cluster(&self) -> DescribeClusterResponse {
        let directory = self.directory();
        let (mut leading, mut copies) = (BTreeMap::<Ordinal, u32>::new(), BTreeMap::<Ordinal, u32>::new());
        let mut leaderless = 0;
        for entry in directory.entries() {
            match entry.leader {
                Some(leader) => *leading.entry(leader.ordinal).or_default() += 1,
                None => leaderless += 1,
            }
            for replica in entry.members.replicas() {
                *copies.entry(replica.ordinal).or_default() += 1;
            }
        }
        let brokers = self.shared.brokers.all().into_iter().map(|known| BrokerStatus {
            ordinal: known.ordinal.0.into(),
            address: known.client,
            zone: known.zone.unwrap_or_default(),
            alive: known.alive,
            leading: leading.get(&known.ordinal).copied().unwrap_or_default(),
            replicas: copies.get(&known.ordinal).copied().unwrap_or_default(),
            version: known.version,
        });
        let topics = directory.topics_after("").filter(|topic| !topic.retained).count();
        DescribeClusterResponse {
            cluster_id: self.cluster_id().await,
            brokers: brokers.collect(),
            answered_by: self.me().0.into(),
            topics: u32::try_from(topics).unwrap_or(u32::MAX),
            leaderless,
            operator_attached: *self.shared.attached.borrow(),
        }
    }

    /// Leaders are asked, unless a broker asks this one.
    pub(in crate::serve) async fn described(
        &self,
        topic: &TopicRecord,
        is_forwarded: bool,
        deadline: Instant,
    ) -> Result<DescribeTopicResponse, Failure> {
        let stopping = |_| Failure::new(ErrorReason::NotServing, "this broker is stopping");
        let reports: BTreeMap<PartitionKey, Report> =
            self.shared.replicas.reports().await.map_err(stopping)?.into_iter().collect();
        let keys = (0..topic.partitions).map(|partition| PartitionKey { topic: topic.id, partition });
        let mut partitions: Vec<PartitionStatus> = keys.map(|key| self.status(key, &reports)).collect();
        if !is_forwarded {
            self.ask_leaders(topic, &mut partitions, deadline).await;
        }
        Ok(DescribeTopicResponse {
            name: topic.name.clone(),
            topic_id: topic.id.to_string(),
            partitions,
            max_message_bytes: topic.max_message_bytes,
            ack_quorum: topic.ack_quorum.into(),
            retention_seconds: topic.retention_ms.unwrap_or(0).div_ceil(1000),
            retention_bytes: topic.retention_bytes.unwrap_or(0),
        })
    }

    fn status(&self, key: PartitionKey, reports: &BTreeMap<PartitionKey, Report>) -> PartitionStatus {
        let directory = self.directory();
        let entry = directory.entry(key);
        let mut status = PartitionStatus {
            partition: key.partition,
            leader: self.leader(key).map(|leader| leader.ordinal.0.into()),
            replicas: entry.map(|entry| replicas(&entry.members.replicas())).unwrap_or_default(),
            epoch: entry.map(|entry| entry.epoch.to_string()).unwrap_or_default(),
            ..PartitionStatus::default()
        };
        if let Some(report) = reports.get(&key).filter(|report| report.leading.is_some()) {
            status.in_sync = replicas(&report.in_sync);
            status.log_start = report.log_start.0;
            status.high_watermark = report.high_watermark.0;
            status.log_end = report.log_end.0;
            status.serving = true;
            status.may_have_lost_from = report.may_have_lost.map(|offset| offset.0);
        }
        status
    }

    /// What a leader says replaces what is known here; one that does not answer leaves it.
    async fn ask_leaders(&self, topic: &TopicRecord, partitions: &mut [PartitionStatus], deadline: Instant) {
        let me = u32::from(self.me().0);
        let leaders: BTreeSet<u32> =
            partitions.iter().filter_map(|one| one.leader).filter(|one| *one != me).collect();
        let asked = leaders.into_iter().map(async |leader| {
            let ordinal = Ordinal(u16::try_from(leader).ok()?);
            let mut client = AdminClient::new(self.shared.channels.to(ordinal).await.ok()?);
            let request = forward::marked(DescribeTopicRequest { topic: topic.name.clone() });
            let answer = timeout_at(deadline.into(), client.describe_topic(request)).await.ok()?.ok()?;
            Some((leader, answer.into_inner().partitions))
        });
        for (leader, told) in futures::future::join_all(asked).await.into_iter().flatten() {
            for status in told.into_iter().filter(|status| status.serving && status.leader == Some(leader)) {
                let known = partitions.iter_mut().find(|known| known.partition == status.partition);
                if let Some(known) = known {
                    *known = status;
                }
            }
        }
    }
}
