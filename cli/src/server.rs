//! The broker that a command begins with.

use std::time::Duration;

use fulmar_client::Client;

use crate::exit::Failed;

/// Where it is, and how long questions wait.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    url: String,
    request_timeout: Duration,
}

impl Server {
    pub(crate) fn new(url: String, request_timeout: Duration) -> Self {
        Self { url, request_timeout }
    }

    pub(crate) async fn connect(&self) -> Result<Client, Failed> {
        Ok(Client::builder().server(&self.url).request_timeout(self.request_timeout).connect().await?)
    }
}
