//! Events: the story of a Cluster and its Topics, for people (`kubectl describe`, `kubectl events`).
//!
//! Owns how many there may be. Never: anything that somebody decides from.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube_runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::api::call;
use crate::metrics::Metrics;
use crate::names::OPERATOR;

/// So many may wait to be written; more are dropped and counted: an Event is a courtesy.
const WAITING_MAX: usize = 256;

/// So many may be written at once after a quiet time …
const BURST: f64 = 50.0;

/// … of which so many are kept for warnings: a Cluster to which much happens must not hide what another one's people should look at.
const FOR_WARNINGS: f64 = 25.0;

/// So many a second in the long run: etcd keeps each of them for an hour.
const RATE: f64 = 1.0;

/// The API server takes no longer note.
const NOTE_BYTES_MAX: usize = 1_000;

/// Writes Events in the background.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<(ObjectReference, Event)>,
    metrics: Arc<Metrics>,
}

impl Events {
    /// Starts the writer, as one of `writers`; it ends with the last copy of the returned value, too.
    pub fn start(client: Client, instance: String, metrics: Arc<Metrics>, writers: &mut JoinSet<()>) -> Self {
        let reporter = Reporter { controller: OPERATOR.to_owned(), instance: Some(instance) };
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        writers.spawn(write(Recorders::new(client, reporter), waiting, Arc::clone(&metrics)));
        Self { queue, metrics }
    }

    /// Something went as it should.
    pub fn normal(&self, about: ObjectReference, reason: &str, note: impl Into<String>) {
        self.tell(about, EventType::Normal, reason, note.into());
    }

    /// A person may want to look.
    pub fn warning(&self, about: ObjectReference, reason: &str, note: impl Into<String>) {
        self.tell(about, EventType::Warning, reason, note.into());
    }

    fn tell(&self, about: ObjectReference, type_: EventType, reason: &str, note: String) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shortened(note)),
            action: reason.to_owned(),
            secondary: None,
        };
        if self.queue.try_send((about, event)).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}

async fn write(
    mut recorders: Recorders,
    mut waiting: mpsc::Receiver<(ObjectReference, Event)>,
    metrics: Arc<Metrics>,
) {
    let mut allowance = Allowance::full(Instant::now());
    while let Some((about, event)) = waiting.recv().await {
        if !allowance.take(event.type_, Instant::now()) {
            metrics.events_dropped.inc();
            continue;
        }
        let recorder = recorders.of(event.note.as_deref().unwrap_or_default());
        match call("write an Event", recorder.publish(&event, &about)).await {
            Ok(()) => {
                metrics.events.inc();
            }
            Err(error) => tracing::info!(reason = event.reason, %error, "an Event was not written"),
        }
    }
}

/// So many sentences are counted when they come again; beyond it all are new. A sentence is counted for some minutes only.
const SENTENCES_MAX: usize = 256;

/// A recorder counts Events of one reason as one and keeps the first one's sentence: of two brokers that were lost a person would read of one.
/// So each sentence has a recorder of its own.
struct Recorders {
    client: Client,
    reporter: Reporter,
    of: BTreeMap<String, Recorder>,
}

impl Recorders {
    fn new(client: Client, reporter: Reporter) -> Self {
        Self { client, reporter, of: BTreeMap::new() }
    }

    fn of(&mut self, note: &str) -> &Recorder {
        if self.of.len() >= SENTENCES_MAX && !self.of.contains_key(note) {
            self.of.clear();
        }
        let fresh = || Recorder::new(self.client.clone(), self.reporter.clone());
        self.of.entry(note.to_owned()).or_insert_with(fresh)
    }
}

/// Events of one Cluster that are told once: a pass that comes to the same result again says nothing.
#[derive(Debug)]
pub struct Story {
    events: Events,
    told: BTreeMap<(String, String), String>,
}

/// So much is remembered as told; beyond it the memory starts anew, and a sentence may come twice.
const TOLD_MAX: usize = 1_000;

impl Story {
    /// Nothing was told yet.
    pub fn new(events: Events) -> Self {
        Self { events, told: BTreeMap::new() }
    }

    /// Tells it, unless it was the last that was told of this object for this reason.
    pub fn tell(&mut self, about: ObjectReference, is_warning: bool, reason: &str, note: String) {
        let key = (about.uid.clone().unwrap_or_default(), reason.to_owned());
        if self.told.get(&key) == Some(&note) {
            return;
        }
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        self.told.insert(key, note.clone());
        if is_warning {
            self.events.warning(about, reason, note);
        } else {
            self.events.normal(about, reason, note);
        }
    }
}

/// A bucket that fills by [`RATE`] a second up to [`BURST`].
#[derive(Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    fn full(at: Instant) -> Self {
        Self { left: BURST, at }
    }

    fn take(&mut self, type_: EventType, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).max(Duration::ZERO);
        self.left = (self.left + passed.as_secs_f64() * RATE).min(BURST);
        self.at = now;
        let kept = match type_ {
            EventType::Normal => FOR_WARNINGS,
            EventType::Warning => 0.0,
        };
        if self.left < kept + 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

fn shortened(mut note: String) -> String {
    if note.len() > NOTE_BYTES_MAX {
        let end = (0..=NOTE_BYTES_MAX).rev().find(|at| note.is_char_boundary(*at)).unwrap_or(0);
        note.truncate(end);
    }
    note
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
