//! Clients of the brokers, and what brokers themselves say of their partitions. Whoever was away a moment ago is waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fulmar_client::{Client, Producer};
use fulmar_proto::v1::admin_client::AdminClient;
use fulmar_proto::v1::{DescribeTopicRequest, PartitionStatus};
use tonic::transport::{Channel, Endpoint};

use crate::brokers::{Brokers, NAME, READY_WITHIN};
use crate::wait;

/// A broker whose volume was lost is replaced in steps, each a decision that is written down.
const WHOLE_WITHIN: Duration = Duration::from_mins(8);

/// For a connection and for one answer: an address may be that of a pod that is gone, where nobody refuses anything.
const ONE_LOOK: Duration = Duration::from_secs(5);

/// What is looked up while brokers are away: a test is about what comes back, not about when a client gives up.
const PATIENCE: Duration = Duration::from_mins(1);

/// A record may wait as long as a broker, or a node, needs to come back on a busy machine. Where it matters how long it waited, the
/// test measures.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_mins(5);

impl Brokers {
    /// A client that starts at this broker's gRPC port. If its pod is just away, or elsewhere than its status says, it is waited for.
    pub async fn client(&self, ordinal: u32) -> Result<Client> {
        wait::until_well(&format!("a connection to broker {ordinal}"), READY_WITHIN, async || {
            let (address, _) = self.channel(ordinal).await?;
            let client = Client::builder().server(&address).request_timeout(PATIENCE);
            client.connect().await.with_context(|| format!("connecting to {address}"))
        })
        .await
    }

    /// A client that starts at the Service, as programs do. Where the only broker is made anew, at another address, nobody else could say
    /// where it is.
    pub async fn client_of_service(&self) -> Result<Client> {
        wait::until_well("a connection to the Service", READY_WITHIN, async || {
            let address = self.kubectl(&["get", "service", NAME, "-o", "jsonpath={.spec.clusterIP}"])?;
            let client =
                Client::builder().server(format!("http://{address}:50051")).request_timeout(PATIENCE);
            client.connect().await.with_context(|| format!("connecting to {address}"))
        })
        .await
    }

    /// Waits until all is well: each pod is up, and each broker, asked at its own port, says that each partition of the topic is led, by
    /// whom the others say, and that all its replicas hold all that is committed. Gives the leaders.
    pub async fn await_whole(&self, topic: &str) -> Result<Vec<u32>> {
        let what = format!("all partitions of {topic} are led and in sync, as every broker says");
        wait::until_well(&what, WHOLE_WITHIN, async || self.whole(topic).await).await
    }

    async fn whole(&self, topic: &str) -> Result<Vec<u32>> {
        let mut agreed: Option<Vec<u32>> = None;
        for ordinal in 0..self.count()? {
            self.check_up(ordinal)?;
            let (_, channel) = self.channel(ordinal).await?;
            let question = AdminClient::new(channel);
            let leaders = leaders_of_whole(question, topic).await;
            let leaders = leaders.with_context(|| format!("broker {ordinal}"))?;
            let others = agreed.get_or_insert_with(|| leaders.clone());
            ensure!(*others == leaders, "broker {ordinal} says that {leaders:?} lead, another {others:?}");
        }
        agreed.context("a Cluster has brokers")
    }

    /// Who leads each partition of a topic, by the decision of which epoch, as one broker says; only of those that serve.
    pub async fn leaders(&self, ordinal: u32, topic: &str) -> Result<BTreeMap<u32, (u32, String)>> {
        let led = |partition: PartitionStatus| {
            let leader = partition.leader.filter(|_| partition.serving)?;
            Some((partition.partition, (leader, partition.epoch)))
        };
        Ok(self.partitions(ordinal, topic).await?.into_iter().filter_map(led).collect())
    }

    /// Which brokers have copies of each partition of a topic, as one broker says. Of a partition that is being moved: both, those that
    /// have them and those that are to.
    pub async fn replicas(&self, ordinal: u32, topic: &str) -> Result<Vec<Vec<u32>>> {
        let partitions = self.partitions(ordinal, topic).await?;
        Ok(partitions.into_iter().map(|partition| partition.replicas).collect())
    }

    async fn partitions(&self, ordinal: u32, topic: &str) -> Result<Vec<PartitionStatus>> {
        let (_, channel) = self.channel(ordinal).await?;
        let question = DescribeTopicRequest { topic: topic.to_owned() };
        Ok(AdminClient::new(channel).describe_topic(question).await?.into_inner().partitions)
    }

    /// Where a broker's gRPC port is now, and a connection to it.
    async fn channel(&self, ordinal: u32) -> Result<(String, Channel)> {
        let address = format!("http://{}:50051", self.pod_ip(ordinal)?);
        let endpoint = Endpoint::from_shared(address.clone())?.connect_timeout(ONE_LOOK).timeout(ONE_LOOK);
        let channel = endpoint.connect().await.with_context(|| format!("connecting to {address}"))?;
        Ok((address, channel))
    }
}

/// The leaders of a topic as one broker says, if it says that all is well.
async fn leaders_of_whole(mut admin: AdminClient<Channel>, topic: &str) -> Result<Vec<u32>> {
    let described =
        admin.describe_topic(DescribeTopicRequest { topic: topic.to_owned() }).await?.into_inner();
    let leader = |partition: &PartitionStatus| {
        let complete = partition.serving && partition.in_sync.len() == partition.replicas.len();
        partition.leader.filter(|_| complete).with_context(|| format!("not whole: {partition:?}"))
    };
    described.partitions.iter().map(leader).collect()
}

/// A producer that gives up no sooner than [`DELIVERY_TIMEOUT`].
pub async fn producer(client: &Client, topic: &str) -> Result<Producer> {
    Ok(client.producer(topic).delivery_timeout(DELIVERY_TIMEOUT).build().await?)
}
