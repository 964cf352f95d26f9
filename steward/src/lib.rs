//! What the operator and `fulmar dev` share: dial the brokers of one Cluster, persist what `core::control` decides through
//! a [`Ledger`], then push it.
//!
//! Owns sockets to brokers, the clock and the identifiers that the controller is given. Never decides, and knows no
//! Kubernetes.

mod attend;
mod convert;
mod dial;
mod engine;
mod ledger;

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmar_core::control::{ControlEvent, Desired, View};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use fulmar_core::control::{Document, DocumentName, Revision, Sighting};

pub use self::dial::Credentials;
use self::engine::Engine;
pub use self::ledger::{Ledger, LedgerError};

/// Events that wait to be taken; beyond it they are only logged.
const EVENTS_MAX: usize = 1_024;

/// What a steward needs besides its ledger.
#[derive(Debug, Clone)]
pub struct StewardConfig {
    /// For the port between brokers.
    pub tls: Credentials,
}

impl StewardConfig {
    /// With these credentials.
    pub fn new(tls: Credentials) -> Self {
        Self { tls }
    }
}

/// The steward of one Cluster, at work in a task of its own. It takes the tenure as soon as the ledger can be read, so one
/// is started only by who is elected. Dropped, it stops at once; [`stop`](Self::stop) lets writes under way end.
#[derive(Debug)]
pub struct Steward {
    desired: watch::Sender<Option<Desired>>,
    sightings: watch::Sender<Option<Vec<Sighting>>>,
    shown: watch::Sender<Option<BTreeMap<DocumentName, Revision>>>,
    view: watch::Receiver<Arc<View>>,
    events: Option<mpsc::Receiver<ControlEvent>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Steward {
    /// Starts it. Needs a tokio runtime. It does nothing before it was told what is wished and whom it can see.
    pub fn start(config: StewardConfig, ledger: Arc<dyn Ledger>) -> Self {
        let (desired, desired_seen) = watch::channel(None);
        let (sightings, sightings_seen) = watch::channel(None);
        let (shown, shown_seen) = watch::channel(None);
        let (view, view_seen) = watch::channel(Arc::new(View::default()));
        let (events, told) = mpsc::channel(EVENTS_MAX);
        let (stop, stopped) = oneshot::channel();
        let engine = Engine {
            credentials: config.tls,
            ledger,
            desired: desired_seen,
            sightings: sightings_seen,
            shown: shown_seen,
            view,
            events,
            stop: stopped,
        };
        let task = tokio::spawn(engine.run());
        Self { desired, sightings, shown, view: view_seen, events: Some(told), stop, task }
    }

    /// What is wished from now on.
    pub fn desire(&self, desired: Desired) {
        self.desired.send_replace(Some(desired));
    }

    /// All processes of brokers that can be seen now.
    pub fn sightings(&self, sightings: Vec<Sighting>) {
        self.sightings.send_replace(Some(sightings));
    }

    /// All documents of the ledger that a watch of it shows now. It may be late; who has no watch never calls it.
    pub fn shown(&self, revisions: BTreeMap<DocumentName, Revision>) {
        self.shown.send_replace(Some(revisions));
    }

    /// What is known, as it changes.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.clone()
    }

    /// What is worth an Event. Whoever calls first takes them; later calls get a channel that has ended.
    pub fn events(&mut self) -> mpsc::Receiver<ControlEvent> {
        self.events.take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    /// Ends it: streams are closed, writes under way may end. Brokers go on with what they were told.
    pub async fn stop(self) {
        // Fails only if the task has ended already.
        let _ended = self.stop.send(());
        let _panicked = self.task.await;
    }
}
