//! `fulmar discover`: from the address of one broker to all of them, and which can be reached from here.
//!
//! Owns asking each at its own address. Never decides who lives: that is what the brokers say of each other (`fulmar cluster status`).

use std::time::Duration;

use clap::Args;
use fulmar_client::Admin;
use fulmar_client::v1::{BrokerStatus, DescribeClusterResponse};
use serde_json::{Value, json};

use crate::exit::Failed;
use crate::output::{Output, table, text_or_dash};
use crate::server::Server;
use crate::status::object;

/// Who does not answer within it is not reached: connections within a cluster stand in a millisecond.
const REACH_MAX: Duration = Duration::from_secs(2);

/// Find the brokers of a Cluster from one of them, and which can be reached from here
#[derive(Debug, Args)]
pub(crate) struct Discover {
    #[command(flatten)]
    output: Output,
}

/// A broker, and whether it is it that answers at the address that it gives to programs; if not, why not.
struct Discovered {
    broker: BrokerStatus,
    answer: Result<(), String>,
}

impl Discovered {
    async fn of(admin: &Admin, cluster: &str, broker: BrokerStatus) -> Self {
        let asked = async { admin.describe_cluster_at(&broker.address).await.map_err(|why| why.to_string()) };
        let answer = match tokio::time::timeout(REACH_MAX, asked).await {
            _ if broker.address.is_empty() => Err("its address is not known".to_owned()),
            Ok(answer) => answer.and_then(|answer| is_it(&broker, cluster, &answer)),
            Err(_) => Err(format!("no answer within {}", humantime::format_duration(REACH_MAX))),
        };
        Self { broker, answer }
    }

    fn reached(&self) -> String {
        match &self.answer {
            Ok(()) => "yes".to_owned(),
            Err(why) => format!("no: {why}"),
        }
    }

    fn row(&self) -> [String; 7] {
        let broker = &self.broker;
        [
            broker.ordinal.to_string(),
            text_or_dash(&broker.address),
            text_or_dash(&broker.zone),
            text_or_dash(&broker.version),
            broker.leading.to_string(),
            broker.replicas.to_string(),
            self.reached(),
        ]
    }

    fn object(&self) -> Value {
        let mut value = object(&self.broker);
        value["reached"] = json!(self.answer.is_ok());
        if let Err(why) = &self.answer {
            value["why"] = json!(why);
        }
        value
    }
}

/// Addresses are given anew: another Cluster may have the one that this broker had.
fn is_it(broker: &BrokerStatus, cluster: &str, answer: &DescribeClusterResponse) -> Result<(), String> {
    let (other, ordinal) = (&answer.cluster_id, answer.answered_by);
    if other.is_empty() {
        return Err("a broker answers there that belongs to no Cluster yet".to_owned());
    }
    if other != cluster {
        return Err(format!("a broker of Cluster {other} answers there"));
    }
    if ordinal != broker.ordinal {
        return Err(format!("broker {ordinal} answers there"));
    }
    Ok(())
}

impl Discover {
    pub(crate) async fn run(self, server: Server) -> Result<(), Failed> {
        let admin = server.connect().await?.admin();
        let cluster = admin.describe_cluster().await?;
        let id = &cluster.cluster_id;
        let asked = cluster.brokers.into_iter().map(|broker| Discovered::of(&admin, id, broker));
        let found = futures::future::join_all(asked).await;
        let header = ["BROKER", "ADDRESS", "ZONE", "VERSION", "LEADING", "REPLICAS", "REACHED"];
        let as_table = || {
            format!(
                "Cluster id: {}\n\n{}",
                cluster.cluster_id,
                table(header, found.iter().map(Discovered::row))
            )
        };
        let as_json = || {
            let brokers: Vec<Value> = found.iter().map(Discovered::object).collect();
            json!({ "cluster_id": cluster.cluster_id, "brokers": brokers })
        };
        Ok(self.output.show(as_table, as_json)?)
    }
}
