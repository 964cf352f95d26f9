//! `fulmar cluster …`, and `status` of it: the Cluster and its brokers.

use std::time::Duration;

use clap::{Args, Subcommand};
use fulmar_client::v1::{BrokerStatus, DescribeClusterResponse};
use serde_json::{Value, json};

use crate::exit::Failed;
use crate::log_level::LogLevel;
use crate::output::{Output, table};
use crate::server::Server;

/// See the module.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    Status(Status),
    LogLevel(LogLevel),
}

/// Show the brokers, as one of them sees them
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Show it again every two seconds
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: Server,
}

impl Cluster {
    pub(crate) async fn run(self) -> Result<(), Failed> {
        match self {
            Self::Status(status) => status.run().await,
            Self::LogLevel(level) => level.run().await,
        }
    }
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn row(broker: &BrokerStatus) -> [String; 7] {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    [
        broker.ordinal.to_string(),
        or_dash(&broker.address),
        or_dash(&broker.zone),
        yes_or_no(broker.alive),
        broker.leading.to_string(),
        broker.replicas.to_string(),
        or_dash(&broker.version),
    ]
}

fn object(broker: &BrokerStatus) -> Value {
    json!({
        "ordinal": broker.ordinal,
        "address": broker.address,
        "zone": broker.zone,
        "alive": broker.alive,
        "leading": broker.leading,
        "replicas": broker.replicas,
        "version": broker.version,
    })
}

pub(crate) fn as_table(cluster: &DescribeClusterResponse) -> String {
    let alive = cluster.brokers.iter().filter(|broker| broker.alive).count();
    let header = ["BROKER", "ADDRESS", "ZONE", "ALIVE", "LEADING", "REPLICAS", "VERSION"];
    format!(
        "Cluster id:          {}\nBrokers alive:       {alive}/{}\nTopics:              {}\n\
         Leaderless:          {}\nController attached: {}\nAnswered by:         broker {}\n\n{}",
        cluster.cluster_id,
        cluster.brokers.len(),
        cluster.topics,
        cluster.leaderless,
        yes_or_no(cluster.operator_attached),
        cluster.answered_by,
        table(header, cluster.brokers.iter().map(row)),
    )
}

fn as_json(cluster: &DescribeClusterResponse) -> Value {
    json!({
        "cluster_id": cluster.cluster_id,
        "answered_by": cluster.answered_by,
        "topics": cluster.topics,
        "leaderless": cluster.leaderless,
        "operator_attached": cluster.operator_attached,
        "brokers": cluster.brokers.iter().map(object).collect::<Vec<_>>(),
    })
}

impl Status {
    async fn run(self) -> Result<(), Failed> {
        let admin = self.server.connect().await?.admin();
        loop {
            let cluster = admin.describe_cluster().await?;
            self.output.show(|| as_table(&cluster), || as_json(&cluster))?;
            if !self.watch {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(2)) => {}
                _ = tokio::signal::ctrl_c() => return Ok(()),
            }
        }
    }
}
