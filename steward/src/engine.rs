//! The loop: one task owns the controller, feeds it and carries its effects out, in order.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fulmar_core::control::{
    ControlEvent, Controller, Desired, Document, DocumentName, Effect, EventKind, Greeting, Input, Revision,
    Sighting, View, WriteFailure,
};
use fulmar_core::id::Ordinal;
use fulmar_proto::internal::v1::from_operator::Message as Down;
use fulmar_proto::internal::v1::{Ask, StopAppends};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};
use uuid::Uuid;

use crate::attend::{Attendant, DOWN_MAX, Heard, Target};
use crate::convert;
use crate::dial::Credentials;
use crate::ledger::Ledger;

/// The controller wants to know the time at least so often.
const TICK: Duration = Duration::from_millis(100);
/// What brokers said and the controller has not taken yet; beyond it streams wait, and with them brokers.
const HEARD_MAX: usize = 1_024;
/// A ledger that has not answered by then never will: longer than its own timeout.
const LEDGER_MAX: Duration = Duration::from_secs(15);
/// At a stop, writes under way may end, so that the next steward finds what this one knew.
const STOP_MAX: Duration = Duration::from_secs(3);

/// A broker's stream, from the engine's side.
struct Line {
    targets: watch::Sender<Target>,
    downs: mpsc::Sender<(u64, Down)>,
    task: JoinHandle<()>,
    /// Its queue was full: nothing more goes to it until the controller knows.
    choked: bool,
}

/// What the loop is made of.
pub(crate) struct Engine {
    pub(crate) credentials: Credentials,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) desired: watch::Receiver<Option<Desired>>,
    pub(crate) sightings: watch::Receiver<Option<Vec<Sighting>>>,
    pub(crate) shown: watch::Receiver<Option<BTreeMap<DocumentName, Revision>>>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) events: mpsc::Sender<ControlEvent>,
    pub(crate) stop: oneshot::Receiver<()>,
}

struct Running {
    parts: Engine,
    started: Instant,
    controller: Controller,
    lines: BTreeMap<Ordinal, Line>,
    numbers: u64,
    heard: mpsc::Sender<Heard>,
    ledger_calls: JoinSet<Input>,
    /// Inputs that carrying out brought; taken when the effects before them are done.
    pending: VecDeque<Input>,
}

impl Engine {
    /// Runs until it is told to stop, or nobody holds its steward any more.
    pub(crate) async fn run(self) {
        let (heard, mut inbox) = mpsc::channel(HEARD_MAX);
        let mut running = Running {
            parts: self,
            started: Instant::now(),
            controller: Controller::new(),
            lines: BTreeMap::new(),
            numbers: 0,
            heard,
            ledger_calls: JoinSet::new(),
            pending: VecDeque::new(),
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let Running { parts, ledger_calls, .. } = &mut running;
            let input = tokio::select! {
                // A stopped or dropped steward.
                _ = &mut parts.stop => break,
                Some(done) = ledger_calls.join_next() => match done {
                    Ok(input) => input,
                    // Only a ledger that panics ends so; reading again settles what it did.
                    Err(error) => Input::LoadFailed(error.to_string()),
                },
                Ok(()) = parts.desired.changed() => {
                    let Some(desired) = parts.desired.borrow_and_update().clone() else { continue };
                    Input::Desired(desired)
                }
                Ok(()) = parts.sightings.changed() => {
                    let Some(sightings) = parts.sightings.borrow_and_update().clone() else { continue };
                    Input::Sightings(sightings)
                }
                Ok(()) = parts.shown.changed() => {
                    let Some(revisions) = parts.shown.borrow_and_update().clone() else { continue };
                    Input::Shown(revisions)
                }
                Some(heard) = inbox.recv() => match running.current(heard) {
                    Some(input) => input,
                    None => continue,
                },
                _ = tick.tick() => Input::Tick,
            };
            let mut inputs = vec![input];
            running.gather(&mut inbox, &mut inputs);
            running.step(inputs);
            // With many partitions a step takes its time, and streams that share this thread had none: what they have to say counts
            // before anybody is called silent.
            tokio::task::yield_now().await;
        }
        running.stop().await;
    }
}

impl Running {
    /// What else is there already: with many partitions a step takes its time, and what came meanwhile shares the next. What brokers
    /// said is heard before anybody is called silent.
    fn gather(&mut self, inbox: &mut mpsc::Receiver<Heard>, inputs: &mut Vec<Input>) {
        while let Some(done) = self.ledger_calls.try_join_next() {
            inputs.push(done.unwrap_or_else(|error| Input::LoadFailed(error.to_string())));
        }
        for _ in 0..HEARD_MAX {
            let Ok(heard) = inbox.try_recv() else { return };
            inputs.extend(self.current(heard));
        }
    }

    fn step(&mut self, inputs: Vec<Input>) {
        self.pending.extend(inputs);
        while !self.pending.is_empty() {
            let inputs = std::mem::take(&mut self.pending);
            for input in &inputs {
                if let Input::Lost { ordinal, .. } = input
                    && let Some(line) = self.lines.get_mut(ordinal)
                {
                    line.choked = false;
                }
            }
            for effect in self.controller.step_all(self.started.elapsed(), inputs) {
                self.carry_out(effect);
            }
        }
    }

    /// What a stream that is gone said counts no more.
    fn current(&self, heard: Heard) -> Option<Input> {
        let line = self.lines.get(&heard.ordinal)?;
        (line.targets.borrow().number == heard.number).then_some(heard.input)
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Load => self.load(),
            Effect::Write { document, expected } => self.write(document, expected),
            Effect::Attend { ordinal, address, greeting, afresh } => {
                self.attend(ordinal, address, greeting, afresh);
            }
            Effect::Leave(ordinal) => self.leave(ordinal),
            Effect::Push { ordinal, page } => self.send(ordinal, Down::Page(convert::page_to_proto(&page))),
            Effect::Ask { ordinal, request } => self.send(ordinal, Down::Ask(Ask { request })),
            Effect::SendAddresses { ordinal, book } => {
                self.send(ordinal, Down::Addresses(convert::addresses_to_proto(&book)));
            }
            Effect::Release { ordinal, key, epoch } => {
                info!(broker = ordinal.0, partition = %key, %epoch, "records may go");
                self.send(ordinal, Down::Release(convert::release_to_proto(key, epoch)));
            }
            Effect::StopAppends { ordinal, key } => {
                let partition = key.to_string();
                self.send(ordinal, Down::StopAppends(StopAppends { partition }));
            }
            Effect::NeedIds(count) => {
                let ids = (0..count).map(|_| Uuid::now_v7().as_u128()).collect();
                self.pending.push_back(Input::Ids(ids));
            }
            Effect::Event(event) => self.tell(event),
            Effect::ViewChanged(view) => drop(self.parts.view.send_replace(view)),
        }
    }

    fn load(&mut self) {
        let ledger = Arc::clone(&self.parts.ledger);
        self.ledger_calls.spawn(async move {
            match timeout(LEDGER_MAX, ledger.load()).await {
                Ok(Ok(documents)) => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    // No clock shows so much; without it the tenure only rises above those that are known.
                    let clock_us = u64::try_from(now.as_micros()).unwrap_or_default();
                    Input::Loaded { documents, clock_us, salt: salt() }
                }
                Ok(Err(error)) => Input::LoadFailed(error.to_string()),
                Err(_) => Input::LoadFailed(format!("no answer in {} s", LEDGER_MAX.as_secs())),
            }
        });
    }

    fn write(&mut self, document: Document, expected: Option<Revision>) {
        let ledger = Arc::clone(&self.parts.ledger);
        let name = document.name;
        self.ledger_calls.spawn(async move {
            let failure = match timeout(LEDGER_MAX, ledger.write(document, expected)).await {
                Ok(Ok(revision)) => return Input::Written { name, revision },
                Ok(Err(error)) => {
                    warn!(document = %name, %error, "a document of the partition table was not written");
                    error.into()
                }
                Err(_) => WriteFailure::OutcomeUnknown,
            };
            Input::WriteFailed { name, failure }
        });
    }

    fn attend(&mut self, ordinal: Ordinal, address: std::net::SocketAddr, greeting: Greeting, afresh: bool) {
        if let Some(line) = self.lines.get(&ordinal) {
            line.targets.send_modify(|target| {
                if afresh {
                    self.numbers += 1;
                    target.number = self.numbers;
                }
                target.address = address;
                target.greeting = greeting;
            });
            return;
        }
        self.numbers += 1;
        let (targets, watched) = watch::channel(Target { number: self.numbers, address, greeting });
        let (downs, queue) = mpsc::channel(DOWN_MAX);
        let attendant = Attendant {
            ordinal,
            credentials: self.parts.credentials.clone(),
            targets: watched,
            downs: queue,
            heard: self.heard.clone(),
        };
        let task = tokio::spawn(attendant.run());
        self.lines.insert(ordinal, Line { targets, downs, task, choked: false });
    }

    fn leave(&mut self, ordinal: Ordinal) {
        if let Some(line) = self.lines.remove(&ordinal) {
            line.task.abort();
        }
    }

    fn send(&mut self, ordinal: Ordinal, down: Down) {
        let Some(line) = self.lines.get_mut(&ordinal).filter(|line| !line.choked) else { return };
        let number = line.targets.borrow().number;
        if line.downs.try_send((number, down)).is_err() {
            warn!(broker = ordinal.0, "a broker takes no messages; it is greeted anew");
            self.numbers += 1;
            let number = self.numbers;
            line.choked = true;
            line.targets.send_modify(|target| target.number = number);
            self.pending.push_back(Input::Lost { ordinal, refused: false });
        }
    }

    fn tell(&self, event: ControlEvent) {
        let ControlEvent { kind, reason, message, topic } = &event;
        let topic = topic.as_deref().unwrap_or_default();
        match kind {
            EventKind::Normal => info!(reason, topic, "{message}"),
            EventKind::Warning => warn!(reason, topic, "{message}"),
        }
        if self.parts.events.try_send(event).is_err() {
            info!("an event is told to nobody: too many wait");
        }
    }

    async fn stop(mut self) {
        for (_, line) in std::mem::take(&mut self.lines) {
            line.task.abort();
        }
        let ended = async { while self.ledger_calls.join_next().await.is_some() {} };
        if timeout(STOP_MAX, ended).await.is_err() {
            info!("writes were under way at the stop; whoever comes next reads what became of them");
        }
    }
}

/// 16 random bits. The last of a random UUID are none of its version.
fn salt() -> u16 {
    u16::try_from(Uuid::new_v4().as_u128() & u128::from(u16::MAX)).expect("16 bits")
}
