//! Writes statuses: the latest of each object, not too often, never more than so many a second in all.
//!
//! Owns the pace. A status that is overtaken before its turn is never written. Never: decides what a status says, or
//! whether it is worth writing; who submits has compared it with what is there.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fulmar_crds::{Cluster, Topic};
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::api::{ApiError, call};
use crate::metrics::Metrics;
use crate::names::FIELD_MANAGER;

/// Between two writes of one object.
const GAP: Duration = Duration::from_secs(1);

/// Between two writes of any objects: at most 50 a second, a small part of what an API server carries.
const PACE: Duration = Duration::from_millis(20);

/// An object with the status that it is to have, and the `resourceVersion` that this was made from.
#[derive(Debug, Clone)]
pub enum Write {
    /// A Cluster.
    Cluster(Box<Cluster>),
    /// A Topic.
    Topic(Box<Topic>),
}

type Key = (&'static str, String, String);

/// The writer's queue. It is bounded by the number of objects: each has at most one place.
#[derive(Clone)]
pub struct Statuses {
    queue: Arc<Mutex<Queue>>,
    submitted: Arc<Notify>,
}

#[derive(Default)]
struct Queue {
    waiting: BTreeMap<Key, Write>,
    order: VecDeque<Key>,
    written: HashMap<Key, Instant>,
}

enum Turn {
    Now(Key, Write),
    At(Instant),
    Never,
}

impl Statuses {
    /// Starts the writer.
    pub fn start(client: Client, metrics: Arc<Metrics>) -> Self {
        let statuses = Self { queue: Arc::default(), submitted: Arc::default() };
        tokio::spawn(statuses.clone().run(client, metrics));
        statuses
    }

    /// Writes it when its turn comes, in the place of what was submitted for the same object before.
    pub fn submit(&self, write: Write) {
        self.queue.lock().put(write);
        self.submitted.notify_one();
    }

    /// Nothing is to be written any more for this object.
    pub fn withdraw(&self, write: &Write) {
        self.queue.lock().waiting.remove(&write.key());
    }

    async fn run(self, client: Client, metrics: Arc<Metrics>) {
        loop {
            let turn = self.queue.lock().turn(Instant::now());
            match turn {
                Turn::Never => self.submitted.notified().await,
                Turn::At(time) => tokio::time::sleep_until(time).await,
                Turn::Now(key, write) => {
                    let outcome = write.carry_out(&client).await;
                    self.settle(&key, write, outcome, &metrics);
                    tokio::time::sleep(PACE).await;
                }
            }
        }
    }

    fn settle(&self, key: &Key, write: Write, outcome: Result<(), ApiError>, metrics: &Metrics) {
        let (kind, namespace, name) = key;
        let mut queue = self.queue.lock();
        queue.written.insert(key.clone(), Instant::now());
        match outcome {
            Ok(()) => {
                metrics.status_writes.inc();
            }
            // Made from an old version: the new one wakes the task, which submits again if there still is a difference.
            Err(ApiError::Conflict { .. } | ApiError::NotFound { .. }) => {}
            Err(ApiError::Refused { message, .. }) => {
                tracing::warn!(%kind, %namespace, %name, %message, "the API server refuses a status");
            }
            Err(error @ (ApiError::NotNow { .. } | ApiError::OutcomeUnknown { .. })) => {
                tracing::info!(%kind, %namespace, %name, %error, "a status was not written, trying again");
                if !queue.waiting.contains_key(key) {
                    queue.put(write);
                }
            }
        }
    }
}

impl Queue {
    fn put(&mut self, write: Write) {
        let key = write.key();
        if self.waiting.insert(key.clone(), write).is_none() && !self.order.contains(&key) {
            self.order.push_back(key);
        }
    }

    /// The first in the queue whose gap is over.
    fn turn(&mut self, now: Instant) -> Turn {
        self.written.retain(|_, at| *at + GAP > now);
        let mut earliest: Option<Instant> = None;
        for at in 0..self.order.len() {
            let key = &self.order[at];
            if let Some(written) = self.written.get(key) {
                let due = *written + GAP;
                earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
                continue;
            }
            let Some(key) = self.order.remove(at) else { continue };
            return match self.waiting.remove(&key) {
                Some(write) => Turn::Now(key, write),
                // Withdrawn: the next look finds the next one.
                None => Turn::At(now),
            };
        }
        earliest.map_or(Turn::Never, Turn::At)
    }
}

impl Write {
    fn key(&self) -> Key {
        match self {
            Self::Cluster(object) => ("Cluster", object.namespace().unwrap_or_default(), object.name_any()),
            Self::Topic(object) => ("Topic", object.namespace().unwrap_or_default(), object.name_any()),
        }
    }

    async fn carry_out(&self, client: &Client) -> Result<(), ApiError> {
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let (_, namespace, name) = self.key();
        match self {
            Self::Cluster(object) => {
                let api: Api<Cluster> = Api::namespaced(client.clone(), &namespace);
                let written = api.replace_status(&name, &parameters, object);
                call("write the status of a Cluster", written).await.map(drop)
            }
            Self::Topic(object) => {
                let api: Api<Topic> = Api::namespaced(client.clone(), &namespace);
                let written = api.replace_status(&name, &parameters, object);
                call("write the status of a Topic", written).await.map(drop)
            }
        }
    }
}

#[cfg(test)]
#[path = "statuses_tests.rs"]
mod tests;
