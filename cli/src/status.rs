//! `fulmar cluster …`, and `status` of it: the Cluster and its brokers.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use fulmar_client::Admin;
use fulmar_client::v1::{BrokerStatus, DescribeClusterResponse};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Failed;
use crate::live::Live;
use crate::log_level::LogLevel;
use crate::output::{Output, table, text_or_dash};
use crate::place::{Interrupt, Place};
use crate::server::Server;
use crate::stop::unless_stopped;

/// See the module.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    Status(Status),
    LogLevel(LogLevel),
}

/// Show the brokers, as one of them sees them
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Look again every two seconds, until Ctrl-C: redrawn in its place on a terminal, a line of JSON each time in a pipe
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

impl Cluster {
    pub(crate) async fn run(self, place: Place) -> Result<(), Failed> {
        match self {
            Self::Status(status) => {
                let interrupt = if status.watch { Interrupt::EndsWell } else { Interrupt::Ends };
                place.reach(interrupt, |server| status.run(server)).await
            }
            Self::LogLevel(level) => unless_stopped(level.run(place.kubectl(), place.cluster())).await,
        }
    }
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

fn row(broker: &BrokerStatus) -> [String; 7] {
    [
        broker.ordinal.to_string(),
        text_or_dash(&broker.address),
        text_or_dash(&broker.zone),
        yes_or_no(broker.alive),
        broker.leading.to_string(),
        broker.replicas.to_string(),
        text_or_dash(&broker.version),
    ]
}

pub(crate) fn object(broker: &BrokerStatus) -> Value {
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

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

impl Status {
    async fn run(self, server: Server) -> Result<(), Failed> {
        if !self.watch {
            let cluster = server.connect().await?.admin().describe_cluster().await?;
            return Ok(self.output.show(|| as_table(&cluster), || as_json(&cluster))?);
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        let watched = async { self.follow(&server.connect().await?.admin()).await };
        tokio::select! {
            watched = watched => watched,
            _ = interrupt.recv() => Ok(()),
        }
    }

    /// Until nobody reads it any more. That no broker answers for a while is part of what is watched.
    async fn follow(&self, admin: &Admin) -> Result<(), Failed> {
        let mut screen = Live::new();
        loop {
            let told = admin.describe_cluster().await;
            if self.output.is_json() {
                let line = told.map_or_else(|why| json!({ "error": why.to_string() }), |told| as_json(&told));
                writeln!(io::stdout().lock(), "{line}")?;
            } else {
                let now = humantime::format_rfc3339_seconds(SystemTime::now());
                let shown = told.map_or_else(|why| why.to_string(), |told| as_table(&told));
                let every = humantime::format_duration(LOOK_EVERY);
                let text = format!("{shown}\n\nAt {now}, every {every}; Ctrl-C stops");
                if screen.is_terminal() {
                    screen.draw(&text);
                } else {
                    writeln!(io::stdout().lock(), "{text}\n")?;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
