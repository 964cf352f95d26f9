//! What the operator is told when it starts: flags, each with an environment variable.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use fulmar_logging::{Filter, Lines};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The operator of Fulmar: makes brokers out of Clusters and tells them what they hold.
#[derive(Debug, Clone, Parser)]
#[command(name = "fulmar-operator", version, subcommand_negates_reqs = true)]
pub struct Line {
    /// What to do other than to operate.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to operate.
    #[command(flatten)]
    pub config: Option<Config>,
}

/// What is done beside an operator that runs.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Show or change what the operator in this pod logs
    LogLevel {
        /// What to ask.
        #[command(flatten)]
        ask: fulmar_logging::Ask,
        /// Where it answers HTTP
        #[arg(long, env = "FULMAR_HTTP_ADDRESS", default_value = "127.0.0.1:8080")]
        http_address: SocketAddr,
    },
}

/// The settings of an operator.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// The image of brokers whose Cluster names none.
    #[arg(long, env = "FULMAR_BROKER_IMAGE")]
    pub broker_image: String,

    /// The name of this operator's own pod: who holds the Lease.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: String,

    /// The namespace of this operator's own pod: where the Lease is, and who may reach the brokers' inner port.
    #[arg(long, env = "POD_NAMESPACE")]
    pub pod_namespace: String,

    /// The namespaces to watch, separated by commas. Empty: all.
    #[arg(long, env = "WATCH_NAMESPACES", default_value = "", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,

    /// Whether Nodes are read, which tells the zones of brokers. Without it, zones are known where Kubernetes copies them to
    /// pods, as it does from 1.35 on, and no right in the whole cluster is needed.
    #[arg(long, env = "FULMAR_READ_NODES", default_value_t = true, action = clap::ArgAction::Set)]
    pub read_nodes: bool,

    /// The DNS domain of the Kubernetes cluster.
    #[arg(long, env = "FULMAR_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,

    /// Where to answer /livez, /readyz and /metrics.
    #[arg(long, env = "FULMAR_HTTP_ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_address: SocketAddr,

    /// How log lines look.
    #[arg(long, env = "FULMAR_LOG_FORMAT", value_enum, default_value = "json")]
    pub log_format: LogFormat,

    /// What is logged: error, warn, info, debug or trace, or a filter such as `info,fulmar_operator=debug`.
    #[arg(long, env = "FULMAR_LOG_LEVEL", default_value = "info")]
    pub log_level: Filter,

    /// The name of the Lease that elects one operator of several.
    #[arg(long, env = "FULMAR_LEASE_NAME", default_value = "fulmar-operator")]
    pub lease_name: String,

    /// After how many seconds without renewal another operator may take over: 2 to 60.
    #[arg(long, env = "FULMAR_LEASE_SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u16).range(2..=60))]
    pub lease_seconds: u16,

    /// How often the Lease is renewed, in milliseconds: 100 to 10000, and less than half of its seconds.
    #[arg(long, env = "FULMAR_LEASE_RENEW_MILLISECONDS", default_value_t = 500, value_parser = clap::value_parser!(u16).range(100..=10_000))]
    pub lease_renew_milliseconds: u16,
}

impl From<LogFormat> for Lines {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

impl Config {
    /// The namespaces to watch; `None` stands for all of them.
    pub fn scopes(&self) -> Vec<Option<String>> {
        let named: Vec<_> =
            self.watch_namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        if named.is_empty() {
            return vec![None];
        }
        let mut scopes: Vec<_> = named.into_iter().map(|name| Some(name.to_owned())).collect();
        scopes.sort();
        scopes.dedup();
        scopes
    }

    /// How long a Lease that is not renewed holds.
    pub fn lease_duration(&self) -> Duration {
        Duration::from_secs(u64::from(self.lease_seconds))
    }

    /// How often the Lease is renewed.
    pub fn lease_renewal(&self) -> Duration {
        Duration::from_millis(u64::from(self.lease_renew_milliseconds))
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
