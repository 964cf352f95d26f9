//! Where the broker is that a command talks to.

use std::time::Duration;

use clap::Args;
use fulmar_client::{Client, DEFAULT_SERVER};

use crate::exit::Failed;

/// The flags that all commands share which talk to brokers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Server {
    /// Any broker of the Cluster; the others are learnt from it
    #[arg(long, value_name = "URL", env = "FULMAR_SERVER", default_value = DEFAULT_SERVER)]
    server: String,
    /// How long a question waits for an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    request_timeout: Duration,
}

impl Server {
    pub(crate) async fn connect(&self) -> Result<Client, Failed> {
        Ok(Client::builder().server(&self.server).request_timeout(self.request_timeout).connect().await?)
    }
}
