//! What every task of a Cluster works with.

use std::sync::Arc;
use std::time::Instant;

use kube::Client;

use crate::config::Config;
use crate::events::Events;
use crate::metrics::Metrics;
use crate::statuses::Statuses;
use crate::watches::Watches;

/// What is shared by the tasks of all Clusters.
#[derive(Clone)]
pub struct Context {
    /// To write by.
    pub client: Client,
    /// To read from.
    pub watches: Arc<Watches>,
    /// Writes statuses, a few at once.
    pub statuses: Statuses,
    /// Writes Events.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// What the operator was told at its start.
    pub config: Arc<Config>,
    /// When this process became the one that acts.
    pub since: Instant,
}
