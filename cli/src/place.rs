//! Which Cluster a command is about, and the way to it.
//!
//! Owns the flags that commands share, what they mean together, and that a way which was opened for a command ends with it. Never knows
//! what a command does there.

use std::future::Future;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use fulmar_client::DEFAULT_SERVER;

use crate::arguments::{Called, FOR_KUBECTL, flag};
use crate::exit::Failed;
use crate::kubectl::{Bound, Kubectl, KubectlError};
use crate::server::Server;
use crate::stop::{Asked, Stop, interrupted};
use crate::tunnel::{Patience, Tunnel};

/// Names of Clusters: a namespace has a few.
const NAMES_BYTES_MAX: usize = 1 << 20;

/// The flags; each may stand before the command or behind it.
#[derive(Debug, Args)]
#[command(next_help_heading = "The Cluster, and the way to it")]
pub(crate) struct Place {
    /// Any broker of the Cluster; the others are learnt from it [default: 127.0.0.1:50051]
    #[arg(long, global = true, value_name = "URL", env = "FULMAR_SERVER")]
    server: Option<String>,
    /// How long a question waits for an answer
    #[arg(long, global = true, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    request_timeout: Duration,
    /// A Cluster on Kubernetes, through kubectl; need not be named if it is the only one of its namespace
    #[arg(long, global = true, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    cluster: Option<String>,
    #[command(flatten)]
    kubectl: Kubectl,
    /// Whether it is on Kubernetes, and the way leads through kubectl.
    #[arg(skip)]
    is_on_kubernetes: bool,
    /// The shared flags that stand on the command line.
    #[arg(skip)]
    typed: Vec<&'static str>,
}

/// What Ctrl-C does to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interrupt {
    /// It fails, at once.
    Ends,
    /// That is how it ends well, when it likes.
    EndsWell,
    /// It fails, and has something to put in order first.
    IsMinded,
}

impl Place {
    /// Decides by what was typed where the Cluster is. What stands in the environment counts only if nothing typed says otherwise; that it
    /// was called by kubectl is typed, too.
    pub(crate) fn settle(mut self, called: Called, typed: Vec<&'static str>) -> Result<Self, Failed> {
        let of_kubernetes = typed.iter().find(|id| **id == "cluster" || FOR_KUBECTL.contains(id));
        if let (true, Some(other)) = (typed.contains(&"server"), of_kubernetes) {
            let other = flag(other);
            return Err(Failed::Usage(format!(
                "--server and {other} exclude each other: {other} is of a Cluster on Kubernetes"
            )));
        }
        let is_addressed = typed.contains(&"server");
        self.is_on_kubernetes = of_kubernetes.is_some() || (called == Called::Plugin && !is_addressed);
        self.typed = typed;
        Ok(self)
    }

    pub(crate) fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The name of `--cluster`.
    pub(crate) fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// The flags for kubectl that were typed.
    pub(crate) fn typed_for_kubectl(&self) -> Vec<String> {
        self.typed.iter().filter(|id| FOR_KUBECTL.contains(id)).map(|id| flag(id)).collect()
    }

    /// Runs a command that talks to brokers. A way that is opened for it ends with it: also if it fails, and on SIGINT and SIGTERM.
    pub(crate) async fn reach<F>(
        self,
        interrupt: Interrupt,
        command: impl FnOnce(Server) -> F,
    ) -> Result<(), Failed>
    where
        F: Future<Output = Result<(), Failed>>,
    {
        if !self.is_on_kubernetes {
            let url = self.server.unwrap_or_else(|| DEFAULT_SERVER.to_owned());
            return command(Server::new(url, self.request_timeout)).await;
        }
        let mut stop = Stop::listen()?;
        let timeout = self.request_timeout;
        // A kubectl that is still on its way is killed where this is dropped.
        let mut tunnel = tokio::select! {
            tunnel = self.tunnel() => tunnel?,
            asked = stop.asked(true) => return match (asked, interrupt) {
                (Asked::Interrupt, Interrupt::EndsWell) => Ok(()),
                (Asked::Interrupt, Interrupt::Ends | Interrupt::IsMinded) | (Asked::Terminate, _) => Err(interrupted()),
            },
        };
        let command = command(Server::new(format!("http://{}", tunnel.address()), timeout));
        let outcome = tokio::select! {
            // What it came to says more than what ended beside it.
            biased;
            outcome = command => outcome,
            why = tunnel.broken() => Err(Failed::Unavailable(why)),
            _ = stop.asked(interrupt == Interrupt::Ends) => Err(interrupted()),
        };
        tunnel.close().await;
        outcome
    }

    /// The way to the brokers of the Cluster that is meant.
    async fn tunnel(self) -> Result<Tunnel, Failed> {
        let cluster = match &self.cluster {
            Some(cluster) => cluster.clone(),
            None => self.only_cluster().await?,
        };
        match Tunnel::open(self.kubectl.clone(), &cluster, Patience::DEFAULT).await {
            Ok(tunnel) => Ok(tunnel),
            Err(error) if error.is_not_found("services", &cluster) => {
                // Without the right to list them it is said without.
                let others = self.clusters().await.map_or_else(|_| String::new(), |names| listed(&names));
                let place = self.in_words();
                Err(Failed::NotFound(format!("there is no Cluster {cluster} in {place}{others} ({error})")))
            }
            Err(error) => {
                Err(Failed::Unavailable(format!("kubectl port-forward service/{cluster}: {error}")))
            }
        }
    }

    async fn only_cluster(&self) -> Result<String, Failed> {
        let names = self.clusters().await;
        let mut names = names
            .map_err(|error| Failed::Unavailable(format!("kubectl get clusters.fulmar.dev: {error}")))?;
        let place = self.in_words();
        match names.len() {
            0 => Err(Failed::NotFound(format!("there is no Cluster in {place}; --namespace says where"))),
            1 => Ok(names.remove(0)),
            many => {
                let names = names.join(", ");
                Err(Failed::Usage(format!(
                    "there are {many} Clusters in {place}, {names}: --cluster says which"
                )))
            }
        }
    }

    async fn clusters(&self) -> Result<Vec<String>, KubectlError> {
        let arguments = [&self.kubectl.place()[..], &["get", "clusters.fulmar.dev", "-o", "name"]].concat();
        let told = self.kubectl.run(&arguments, Bound::Whole(NAMES_BYTES_MAX)).await?;
        let name = |line: &str| line.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(String::from_utf8_lossy(&told).lines().map(name).filter(|name| !name.is_empty()).collect())
    }

    fn in_words(&self) -> String {
        match &self.kubectl.namespace {
            Some(namespace) => format!("namespace {namespace}"),
            None => "the namespace of the context".to_owned(),
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { ", nor any other".to_owned() } else { format!(", but {}", names.join(", ")) }
}
