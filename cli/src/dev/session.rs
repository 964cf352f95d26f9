//! One run of `fulmar dev`, from the first broker to the last.
//!
//! Owns what happens when a broker dies, a file is saved, the controller says something, or a person has seen enough.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use fulmar_core::control::{ControlEvent, EventKind, View};
use fulmar_core::id::Ordinal;
use fulmar_steward::{Credentials, Sighting, Steward, StewardConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::brokers::{Brokers, Happened, Plan};
use super::folder::Folder;
use super::ledger::FileLedger;
use super::manifest::Manifest;
use super::picture::{Picture, Process, Setting};
use super::ports::{Elsewhere, Ports, loopback};
use super::watch::Saves;
use crate::exit::Failed;

/// What brokers tell waits here while the picture is drawn.
const HAPPENED_MAX: usize = 64;

/// Where brokers are.
#[derive(Debug, Clone)]
pub(crate) struct Where {
    pub(crate) ports: Ports,
    /// Somebody else starts them.
    pub(crate) elsewhere: Option<Elsewhere>,
    /// What is started for each, if not this program.
    pub(crate) program: Option<PathBuf>,
}

/// See the module.
pub(crate) struct Session {
    files: Vec<PathBuf>,
    folder: Folder,
    ports: Ports,
    elsewhere: Option<Elsewhere>,
    program: Option<PathBuf>,
    manifest: Manifest,
    brokers: Brokers,
    happened: mpsc::Receiver<Happened>,
    /// Whether each broker's process runs, as far as is known.
    running: BTreeMap<u16, bool>,
    steward: Steward,
    views: watch::Receiver<Arc<View>>,
    events: mpsc::Receiver<ControlEvent>,
    picture: Picture,
}

/// The ways to be told to stop.
struct Stops {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stops {
    fn new() -> Result<Self, Failed> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}

impl Session {
    /// Starts controller and brokers.
    pub(crate) fn start(
        files: Vec<PathBuf>,
        folder: Folder,
        places: Where,
        tls: Credentials,
        manifest: Manifest,
    ) -> Self {
        let Where { ports, elsewhere, program } = places;
        let ledger = Arc::new(FileLedger::new(folder.table()));
        let mut steward = Steward::start(StewardConfig::new(tls), ledger);
        let (sender, happened) = mpsc::channel(HAPPENED_MAX);
        let setting = Setting {
            cluster: manifest.cluster.name.clone(),
            folder: folder.path().display().to_string(),
            ports,
        };
        let mut session = Self {
            views: steward.view(),
            events: steward.events(),
            steward,
            files,
            folder,
            ports,
            elsewhere,
            program,
            brokers: Brokers::new(sender),
            happened,
            running: BTreeMap::new(),
            picture: Picture::new(setting),
            manifest,
        };
        session.picture.say(&format!(
            "Cluster {:?}, data in {}",
            session.manifest.cluster.name,
            session.folder.path().display()
        ));
        session.wish();
        session
    }

    /// Runs until somebody says stop.
    pub(crate) async fn run(mut self, mut saves: Saves) -> Result<(), Failed> {
        let mut stops = Stops::new()?;
        loop {
            tokio::select! {
                () = stops.told() => break,
                Some(happened) = self.happened.recv() => self.broker_happened(happened),
                Ok(()) = self.views.changed() => self.view_changed()?,
                Some(event) = self.events.recv() => self.event(&event),
                () = saves.saved() => self.apply()?,
            }
        }
        self.stop(stops).await;
        Ok(())
    }

    /// Makes what runs follow the manifest.
    fn wish(&mut self) {
        for note in std::mem::take(&mut self.manifest.notes) {
            self.picture.say(&note);
        }
        self.picture.topic(self.manifest.topics.first().map(|topic| topic.name.clone()));
        let wanted = self.manifest.cluster.replicas;
        for ordinal in 0..wanted {
            self.running.entry(ordinal).or_insert(self.elsewhere.is_some());
            if self.elsewhere.is_none() {
                self.brokers.start(self.plan(ordinal));
            }
        }
        self.steward.desire(self.manifest.desired());
        self.see();
        self.brokers.stop_from(wanted);
    }

    fn plan(&self, ordinal: u16) -> Plan {
        let name = format!("{}-{ordinal}", self.manifest.cluster.name);
        let seeds =
            (0..self.manifest.cluster.replicas).map(|one| loopback(self.ports.of(one).gossip).to_string());
        Plan {
            program: self.program.clone(),
            ordinal,
            ports: self.ports.of(ordinal),
            seeds: seeds.collect::<Vec<_>>().join(","),
            volume: self.folder.volume(&name),
            tls: self.folder.tls(),
            log: self.folder.log(&name),
            memory_limit: self.manifest.cluster.resources.memory_limit_bytes,
            cors_allow_origins: self.manifest.cluster.cors_allow_origins.join(","),
            otlp_endpoint: self.manifest.cluster.otlp_endpoint.clone(),
            name,
        }
    }

    /// Tells the controller which processes there are.
    fn see(&self) {
        let sightings = self.running.iter().map(|(ordinal, running)| {
            let elsewhere = self.elsewhere.as_ref().and_then(|elsewhere| elsewhere.of_broker(*ordinal));
            let here =
                || (loopback(self.ports.of(*ordinal).internal), loopback(self.ports.of(*ordinal).grpc));
            let (internal, client) = elsewhere.unwrap_or_else(here);
            Sighting {
                ordinal: Ordinal(*ordinal),
                internal,
                client: client.to_string(),
                zone: None,
                volume_uid: String::new(),
                running: *running,
            }
        });
        self.steward.sightings(sightings.collect());
    }

    fn broker_happened(&mut self, happened: Happened) {
        let name = |ordinal: u16| format!("broker {}-{ordinal}", self.manifest.cluster.name);
        match happened {
            Happened::Started { ordinal, pid } => {
                let line = format!(
                    "{} runs: process {pid}, gRPC 127.0.0.1:{}",
                    name(ordinal),
                    self.ports.of(ordinal).grpc
                );
                self.running.insert(ordinal, true);
                self.picture.process(ordinal, Some(Process::Running(pid)));
                self.picture.say(&line);
            }
            Happened::Died { ordinal, how, again_in } => {
                let line = format!("{} {how}; it starts again in {again_in:?}", name(ordinal));
                self.running.insert(ordinal, false);
                self.picture.process(ordinal, Some(Process::Gone));
                self.picture.say(&line);
            }
            Happened::NotStarted { ordinal, why, again_in } => {
                let line = format!("{} cannot be started: {why}; tried again in {again_in:?}", name(ordinal));
                self.picture.say(&line);
            }
            Happened::Stopped { ordinal } => {
                let line = format!("{} has stopped", name(ordinal));
                self.running.remove(&ordinal);
                self.picture.process(ordinal, None);
                self.picture.say(&line);
            }
        }
        self.see();
    }

    fn view_changed(&mut self) -> Result<(), Failed> {
        let view = Arc::clone(&self.views.borrow_and_update());
        self.picture.view(&view, self.manifest.cluster.replicas);
        let gone: Vec<String> =
            self.manifest.deleted.iter().filter(|name| view.deleted.contains(name)).cloned().collect();
        if !gone.is_empty() {
            self.manifest.forget(&gone);
            self.folder.keep_applied(&self.manifest.documents)?;
            self.steward.desire(self.manifest.desired());
            self.picture.say(&format!("nothing is left of topic {}", gone.join(", ")));
        }
        Ok(())
    }

    fn event(&mut self, event: &ControlEvent) {
        if event.kind == EventKind::Warning {
            self.picture.say(&format!("{}: {}", event.reason, event.message));
        }
    }

    /// A file was saved. What cannot be applied changes nothing.
    fn apply(&mut self) -> Result<(), Failed> {
        let floor = self.views.borrow().min_brokers;
        let read = Manifest::read(&self.files, &self.manifest.applied(floor)).and_then(|new| self.fits(new));
        let new = match read {
            Ok(new) => new,
            Err(failed) => {
                self.picture.say(&format!("not applied, everything stays as it is:\n{failed}"));
                return Ok(());
            }
        };
        if new.desired() == self.manifest.desired() && new.cluster == self.manifest.cluster {
            self.manifest = new;
            return Ok(());
        }
        self.folder.keep_applied(&new.documents)?;
        self.manifest = new;
        self.picture.say("applied");
        self.wish();
        Ok(())
    }

    /// What only this machine refuses.
    fn fits(&self, new: Manifest) -> Result<Manifest, Failed> {
        if new.cluster.name != self.manifest.cluster.name {
            return Err(Failed::Failure(format!(
                "the Cluster is {:?} now; this `fulmar dev` runs {:?}",
                new.cluster.name, self.manifest.cluster.name
            )));
        }
        let (old, wanted) = (self.manifest.cluster.replicas, new.cluster.replicas);
        // Nobody here keeps a broker running that is not wished any more, until others hold what it holds.
        let holding = self.views.borrow().holding;
        if wanted < old.min(holding) {
            return Err(Failed::Failure(format!(
                "spec.replicas is {wanted} now; `fulmar dev` moves no replicas off brokers that go, and broker {} of {old} holds \
                 some: the fewest is {holding}",
                holding - 1
            )));
        }
        if let Some(elsewhere) = &self.elsewhere {
            let has_room =
                new.cluster.replicas.checked_sub(1).is_none_or(|last| elsewhere.of_broker(last).is_some());
            let none = || Failed::Failure("--brokers-at names no address for the new broker".to_owned());
            return if has_room { Ok(new) } else { Err(none()) };
        }
        self.ports.fit(wanted)?;
        self.ports.check_free(old..wanted.max(old))?;
        Ok(new)
    }

    /// The controller first: with nobody to move leaders to, brokers need not wait for it.
    async fn stop(mut self, mut stops: Stops) {
        self.picture.end();
        self.picture.say("stopping; once more kills");
        self.steward.stop().await;
        // Nobody waits for what they tell any more.
        self.happened.close();
        self.brokers.stop_all();
        let killed = tokio::select! {
            () = self.brokers.ended() => false,
            () = stops.told() => true,
        };
        if killed {
            self.brokers.kill_all();
            self.brokers.ended().await;
        }
        self.folder.leave();
        self.picture.say(if killed { "killed" } else { "stopped" });
    }
}
