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

/// Between two writes of one object, doubled with each write that comes soon after the last …
const GAP: Duration = Duration::from_secs(1);

/// … up to this: people see an object move, not every step of it.
const GAP_MAX: Duration = Duration::from_secs(8);

/// An object that was left alone for so many gaps starts anew.
const GAPS_OF_REST: u32 = 4;

/// Between two writes of any objects, one after the other: some 50 a second, which a small API server carries beside its other work. It
/// decides how soon thousands of new Topics are seen to be Ready.
const PACE: Duration = Duration::from_millis(5);

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
    written: HashMap<Key, Written>,
}

/// An object's last write, and how long the next one has to wait after it.
#[derive(Debug, Clone, Copy)]
struct Written {
    at: Instant,
    gap: Duration,
}

impl Written {
    fn next(before: Option<Self>, now: Instant) -> Self {
        let gap = before.map_or(GAP, |before| (before.gap * 2).min(GAP_MAX));
        Self { at: now, gap }
    }

    fn is_remembered(&self, now: Instant) -> bool {
        self.at + self.gap * GAPS_OF_REST > now
    }
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
        queue.note_written(key, Instant::now());
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

    fn note_written(&mut self, key: &Key, now: Instant) {
        let before = self.written.get(key).copied().filter(|written| written.is_remembered(now));
        self.written.insert(key.clone(), Written::next(before, now));
    }

    /// The first in the queue whose gap is over.
    fn turn(&mut self, now: Instant) -> Turn {
        self.written.retain(|_, written| written.is_remembered(now));
        let mut earliest: Option<Instant> = None;
        for at in 0..self.order.len() {
            let key = &self.order[at];
            if let Some(due) =
                self.written.get(key).map(|written| written.at + written.gap).filter(|due| *due > now)
            {
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
