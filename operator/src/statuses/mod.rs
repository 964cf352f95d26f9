//! Writes statuses: the latest of each object, not too often, a few at once, as the API server takes them.
//!
//! Owns the writing. A status that is overtaken before its turn is never written. Never: decides what a status says, or
//! whether it is worth writing; who submits has compared it with what is there.

mod flow;
mod queue;

#[cfg(test)]
mod fixture;

use std::future::pending;
use std::sync::Arc;

use fulmar_crds::{Cluster, Topic, TopicStatus};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::flow::{Answer, Flow};
use self::queue::{Queue, Turn};
use crate::api::{ApiError, call};
use crate::metrics::Metrics;
use crate::names::FIELD_MANAGER;

/// An object with the status that it is to have, and the `resourceVersion` that this was made from.
#[derive(Debug, Clone)]
pub enum Write {
    /// A Cluster.
    Cluster(Box<Cluster>),
    /// A Topic as it was seen, and its status: thousands may wait, and each is put together when its turn comes.
    Topic(Arc<Topic>, Box<TopicStatus>),
}

/// When a write has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// When it is its object's turn.
    InTurn,
    /// The same, but others pass for a while.
    Behind,
}

/// Which object: kind, namespace, name.
pub type Key = (&'static str, String, String);

const CLUSTER: &str = "Cluster";
const TOPIC: &str = "Topic";

/// The key of a Topic.
pub fn key_of_topic(topic: &Topic) -> Key {
    (TOPIC, topic.namespace().unwrap_or_default(), topic.name_any())
}

/// What is to be written, and by whom: clones share it.
#[derive(Clone)]
pub struct Statuses {
    queue: Arc<Mutex<Queue>>,
    submitted: Arc<Notify>,
}

/// A write that was answered.
struct Answered {
    key: Key,
    write: Write,
    begun: Instant,
    outcome: Result<(), ApiError>,
}

/// Writes in flight. They end with the writer.
type InFlight = FuturesUnordered<BoxFuture<'static, Answered>>;

impl Statuses {
    /// Starts the writer, as one of `writers`. When it is ended, so is what it has in flight: nothing more goes to the API server.
    pub fn start(client: Client, metrics: Arc<Metrics>, writers: &mut JoinSet<()>) -> Self {
        let statuses = Self { queue: Arc::default(), submitted: Arc::default() };
        writers.spawn(statuses.clone().run(client, metrics));
        statuses
    }

    /// Writes it when its turn comes, in the place of what was submitted for the same object before.
    pub fn submit(&self, write: Write, rank: Rank) {
        self.queue.lock().put(write, rank, Instant::now());
        self.submitted.notify_one();
    }

    /// Nothing is to be written any more for this object.
    pub fn withdraw(&self, key: &Key) {
        self.queue.lock().withdraw(key);
    }

    async fn run(self, client: Client, metrics: Arc<Metrics>) {
        let mut flow = Flow::new(Instant::now());
        let mut in_flight = InFlight::new();
        loop {
            let again = self.begin(&mut flow, &mut in_flight, &client);
            tokio::select! {
                Some(answered) = in_flight.next() => {
                    flow.note(answered.says(), answered.begun, Instant::now());
                    self.settle(answered, &metrics);
                }
                () = self.submitted.notified() => {}
                () = until(again) => {}
            }
        }
    }

    /// Begins what may begin now; gives back when to look again, if the time alone brings more.
    fn begin(&self, flow: &mut Flow, in_flight: &mut InFlight, client: &Client) -> Option<Instant> {
        loop {
            let (opens, now) = (flow.opens(in_flight.len())?, Instant::now());
            if opens > now {
                return Some(opens);
            }
            let turn = self.queue.lock().turn(now);
            match turn {
                Turn::Never => return None,
                Turn::At(time) => return Some(time),
                Turn::Now(key, write) => {
                    flow.begin(now);
                    let client = client.clone();
                    in_flight.push(Box::pin(async move {
                        let outcome = write.carry_out(&client, &key).await;
                        Answered { key, write, begun: now, outcome }
                    }));
                }
            }
        }
    }

    fn settle(&self, answered: Answered, metrics: &Metrics) {
        let Answered { key, write, outcome, .. } = answered;
        let (kind, namespace, name) = &key;
        let again = match outcome {
            Ok(()) => {
                metrics.status_writes.inc();
                None
            }
            // Made from an old version: the new one wakes the task, which submits again if there still is a difference.
            Err(ApiError::Conflict { .. } | ApiError::NotFound { .. }) => None,
            Err(ApiError::Refused { message, .. }) => {
                tracing::warn!(%kind, %namespace, %name, %message, "the API server refuses a status");
                None
            }
            Err(error @ (ApiError::NotNow { .. } | ApiError::OutcomeUnknown { .. })) => {
                tracing::info!(%kind, %namespace, %name, %error, "a status was not written, trying again");
                Some(write)
            }
        };
        self.queue.lock().settle(&key, again, Instant::now());
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => pending().await,
    }
}

impl Answered {
    fn says(&self) -> Answer {
        match &self.outcome {
            Ok(()) => Answer::Given,
            Err(ApiError::Conflict { .. } | ApiError::NotFound { .. } | ApiError::Refused { .. }) => {
                Answer::Given
            }
            Err(error @ (ApiError::NotNow { .. } | ApiError::OutcomeUnknown { .. })) => {
                Answer::Refused(error.rest().unwrap_or_default())
            }
        }
    }
}

impl Write {
    /// Which object it is for.
    pub fn key(&self) -> Key {
        match self {
            Self::Cluster(object) => (CLUSTER, object.namespace().unwrap_or_default(), object.name_any()),
            Self::Topic(object, _) => key_of_topic(object),
        }
    }

    async fn carry_out(&self, client: &Client, (_, namespace, name): &Key) -> Result<(), ApiError> {
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match self {
            Self::Cluster(object) => {
                let api: Api<Cluster> = Api::namespaced(client.clone(), namespace);
                let written = api.replace_status(name, &parameters, object);
                call("write the status of a Cluster", written).await.map(drop)
            }
            Self::Topic(object, status) => {
                let mut object = Topic::clone(object);
                object.status = Some(TopicStatus::clone(status));
                let api: Api<Topic> = Api::namespaced(client.clone(), namespace);
                let written = api.replace_status(name, &parameters, &object);
                call("write the status of a Topic", written).await.map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests;
