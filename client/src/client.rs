//! The way in: where the brokers are, and what can be made from it.
//!
//! Owns the first contact and its timeouts. Never publishes or reads itself.

use std::sync::Arc;
use std::time::Duration;

use fulmar_proto::v1;
use tokio::time::Instant;

use crate::admin::Admin;
use crate::connection::{Connections, parse_server};
use crate::error::ConnectError;
use crate::metadata::Metadata;
use crate::producer::ProducerBuilder;
use crate::subscriber::SubscriberBuilder;

/// Where `fulmar dev` and a port-forward put the first broker.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";

/// A failover takes a second, a restart of a small cluster some: so long a question waits for an answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A program's way to a Cluster. Cheap to clone; clones share connections and what is known of the Cluster.
#[derive(Debug, Clone)]
pub struct Client {
    metadata: Arc<Metadata>,
}

impl Client {
    /// Starts with the defaults: [`DEFAULT_SERVER`], 10 s for each question.
    pub fn builder() -> ClientBuilder {
        ClientBuilder { servers: Vec::new(), timeout: REQUEST_TIMEOUT }
    }

    /// A producer for `topic`, to be set up and built.
    pub fn producer(&self, topic: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.metadata), topic.into())
    }

    /// A subscriber to `topic`, to be set up and built. It may be a pattern: `*` is one word between dots, `>` at the end one or more, as
    /// in `orders.*` and `sensors.>`. Topics that come later and fit are then read, too, from the oldest message that is kept on; so is one
    /// that was retained and comes back.
    pub fn subscriber(&self, topic: impl Into<String>) -> SubscriberBuilder {
        SubscriberBuilder::new(Arc::clone(&self.metadata), topic.into())
    }

    /// Questions about the Cluster and its topics.
    pub fn admin(&self) -> Admin {
        Admin::new(Arc::clone(&self.metadata))
    }
}

/// Sets a [`Client`] up.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    servers: Vec<String>,
    timeout: Duration,
}

impl ClientBuilder {
    /// Where a broker is: `http://host:port` or `host:port`. Any broker will do; the others are learnt from it. May be
    /// given several times, and the first that answers is taken.
    pub fn server(mut self, address: impl Into<String>) -> Self {
        self.servers.push(address.into());
        self
    }

    /// How long [`connect`](Self::connect), look-ups and [`Admin`] calls try before they give up. Default: 10 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Asks a broker for the others.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let given = if self.servers.is_empty() { vec![DEFAULT_SERVER.to_owned()] } else { self.servers };
        let servers = given.iter().map(|server| parse_server(server)).collect::<Result<Vec<_>, _>>()?;
        let metadata = Arc::new(Metadata::new(Connections::default(), servers, self.timeout));
        let first = v1::MetadataRequest { page_size: 1, ..v1::MetadataRequest::default() };
        metadata
            .fetch(first, Instant::now() + self.timeout)
            .await
            .map_err(|failure| ConnectError::Unreachable { server: given.join(", "), failure })?;
        Ok(Client { metadata })
    }
}
