//! One stream of an operator, from its hello to its end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use fulmar_core::broker::{Conclusion, PROTOCOL, ProtocolRange, conclude, conclude_from_operator};
use fulmar_core::id::{ClusterId, Incarnation, Ordinal};
use fulmar_core::term::{BootId, Process, Session};
use fulmar_proto::internal::v1::from_broker::Message as Up;
use fulmar_proto::internal::v1::from_operator::Message as Down;
use fulmar_proto::internal::v1::{self as proto, FromBroker, FromOperator};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::{Attendance, reports};
use crate::brokers::Listed;
use crate::replica::Command;
use crate::replica::wire::process_to;
use crate::storage::{Fullness, OpenError};

/// A hello comes first, and soon.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// The operator calls a broker dead after 1 s of silence: four heartbeats fit.
const HEARTBEAT_EVERY: Duration = Duration::from_millis(250);
/// Reports that change together travel together.
const REPORTS_APART: Duration = Duration::from_millis(20);
/// The operator says something each second; without it the stream is dead, whatever TCP believes. So many of our own heartbeats,
/// ten seconds: counted, for a clock goes on while this process is stopped, and then the silence is its own.
const SILENT_BEATS_MAX: u32 = 40;

static NUMBERS: AtomicU64 = AtomicU64::new(1);

type Send = mpsc::Sender<Result<FromBroker, Status>>;

/// Runs until either end, or a newer tenure, ends it.
pub(super) async fn run(attendance: Attendance, mut inbound: Streaming<FromOperator>, send: Send) {
    let hello = match hello(&mut inbound).await {
        Ok(hello) => hello,
        Err(why) => return refuse(&send, why).await,
    };
    let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
    let end = CancellationToken::new();
    let controller_epoch = hello.controller_epoch;
    let session =
        Attending { attendance: attendance.clone(), send, controller_epoch, reporting: Mutex::new(()) };
    if hello.cluster_id.is_empty() && check_call(&attendance, &hello).is_ok() {
        return session.answer_inquiry(inbound).await;
    }
    if let Err(why) = greet(&attendance, &hello, number, &end).await {
        attendance.leave_place(number);
        // The operator learns from it why: the volume is another Cluster's, or a newer tenure was here.
        let _gone = session.say_hello().await;
        return refuse(&session.send, why).await;
    }
    info!(controller_epoch, "the operator attends");
    let why = session.attend(inbound, &end).await;
    if attendance.leave_place(number) {
        // Fails only when the actor has ended.
        let _stopped = attendance.shared.replicas.send(Command::Operator(false)).await;
    }
    info!(controller_epoch, why, "the operator's stream ended; what it decided stands");
}

async fn refuse(send: &Send, why: String) {
    info!(why, "an operator was refused");
    // Who called may have gone.
    let _gone = send.send(Err(Status::failed_precondition(why))).await;
}

async fn hello(inbound: &mut Streaming<FromOperator>) -> Result<proto::OperatorHello, String> {
    let first = timeout(HELLO_MAX, inbound.message()).await.map_err(|_| "no hello came in time")?;
    match first.map_err(|status| status.message().to_owned())?.and_then(|first| first.message) {
        Some(Down::Hello(hello)) => Ok(hello),
        Some(_) => Err("the first message must be a hello".to_owned()),
        None => Err("the stream ended before a hello".to_owned()),
    }
}

/// Whether this broker is meant, in words that it understands.
fn check_call(attendance: &Attendance, hello: &proto::OperatorHello) -> Result<(), String> {
    let me = attendance.shared.replicas.me();
    if hello.ordinal != u32::from(me.ordinal.0) {
        return Err(format!("this is broker {}, the operator means {}", me.ordinal, hello.ordinal));
    }
    let theirs = hello.protocol.unwrap_or_default();
    let theirs = ProtocolRange { min: theirs.minimum, max: theirs.maximum };
    match PROTOCOL.common(theirs) {
        Some(_) => Ok(()),
        None => Err(format!("no common protocol: {PROTOCOL:?} here, {theirs:?} there")),
    }
}

/// Checks who calls whom, and adopts the Cluster on an empty volume.
async fn greet(
    attendance: &Attendance,
    hello: &proto::OperatorHello,
    number: u64,
    end: &CancellationToken,
) -> Result<(), String> {
    check_call(attendance, hello)?;
    let shared = &attendance.shared;
    let cluster: ClusterId =
        hello.cluster_id.parse().map_err(|error| format!("hello: cluster_id: {error}"))?;
    let storage = shared.replicas.storage().clone();
    let adopted =
        tokio::task::spawn_blocking(move || storage.adopt_cluster(cluster).and_then(|()| storage.identity()));
    let volume = adopted.await.map_err(|_| "cancelled")?.map_err(|error| {
        if matches!(error, OpenError::ForeignCluster { .. }) {
            attendance.heed(Some("it belongs to another Cluster"));
        }
        error.to_string()
    })?;
    if let Ok(incarnation) = hello.known_incarnation.parse() {
        let ours = shared.replicas.identity();
        let session = Session(hello.known_session);
        let seen = Process { session, boot: BootId(hello.known_boot) };
        let is_mine = incarnation == ours.incarnation;
        // A process that was seen and that the volume lacks: a copy; one that is later than this: a second process.
        let lacks =
            is_mine && hello.known_boot != 0 && conclude(seen, &volume.processes) == Conclusion::Restored;
        let restored = (lacks || is_mine && hello.restored).then_some(Conclusion::Restored);
        let conclusion = conclude_from_operator(ours, (incarnation, session), &volume.processes);
        if let Some(conclusion) = restored.or(conclusion) {
            warn!(?conclusion, "the operator remembers a later process of this volume");
            attendance.conclude(conclusion).await;
            return Err(format!("session {} was seen of this volume: {conclusion:?}", hello.known_session));
        }
    }
    attendance.take_place(hello.controller_epoch, number, end.clone())?;
    let lost = hello.lost_incarnation.parse();
    if lost.is_ok_and(|lost: Incarnation| lost == shared.replicas.identity().incarnation) {
        attendance.heed(Some("another one has its place"));
    }
    shared.pages.saw(hello.controller_epoch);
    let stopped = |error: crate::replica::Stopped| error.to_string();
    shared.replicas.send(Command::Adopt(cluster)).await.map_err(stopped)?;
    shared.replicas.send(Command::Operator(true)).await.map_err(stopped)
}

fn volume(fullness: Fullness) -> proto::Volume {
    let Fullness { total_bytes, available_bytes, is_full, is_exhausted: _ } = fullness;
    proto::Volume { total_bytes, available_bytes, is_full }
}

struct Attending {
    attendance: Attendance,
    send: Send,
    controller_epoch: u64,
    /// Held from when reports are taken until they are said: an older one must not come behind a newer.
    reporting: Mutex<()>,
}

impl Attending {
    /// An operator that does not know its Cluster's id yet asks whose volume this is: it is told, and nothing is adopted.
    async fn answer_inquiry(self, mut inbound: Streaming<FromOperator>) {
        if self.say_hello().await.is_err() {
            return;
        }
        let mut heartbeat = interval(HEARTBEAT_EVERY);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_beats = 0;
        while silent_beats < SILENT_BEATS_MAX {
            tokio::select! {
                message = inbound.message() => {
                    silent_beats = 0;
                    if !matches!(message, Ok(Some(_))) {
                        return;
                    }
                }
                _ = heartbeat.tick() => {
                    silent_beats += 1;
                    if self.say(Up::Heartbeat(self.heartbeat())).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Why it ended.
    async fn attend(self, mut inbound: Streaming<FromOperator>, end: &CancellationToken) -> String {
        match self.converse(&mut inbound, end).await {
            Ok(()) => "the operator ended it".to_owned(),
            Err(why) => {
                // Who called may have gone.
                let _gone = self.send.try_send(Err(Status::unavailable(why.clone())));
                why
            }
        }
    }

    async fn converse(
        &self,
        inbound: &mut Streaming<FromOperator>,
        end: &CancellationToken,
    ) -> Result<(), String> {
        self.say_hello().await?;
        let silent_beats = AtomicU32::new(0);
        // Side by side: a page or a question that takes its time must not make a broker that lives look dead.
        tokio::select! {
            () = end.cancelled() => Err("a newer operator took over".to_owned()),
            ended = self.beat(&silent_beats) => ended,
            ended = self.listen(inbound, &silent_beats) => ended,
            ended = self.report() => ended,
        }
    }

    /// Says that this broker lives, until the operator has been silent for too long.
    async fn beat(&self, silent_beats: &AtomicU32) -> Result<(), String> {
        let mut heartbeat = interval(HEARTBEAT_EVERY);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut gossip = self.attendance.shared.brokers.gossip();
        loop {
            tokio::select! {
                _ = heartbeat.tick() => {
                    if silent_beats.fetch_add(1, Ordering::Relaxed) >= SILENT_BEATS_MAX {
                        return Err("the operator says nothing".to_owned());
                    }
                }
                // A death that gossip sees does not wait for the next beat.
                seen = gossip.changed() => seen.map_err(|_| "the broker is stopping")?,
            }
            self.say(Up::Heartbeat(self.heartbeat())).await?;
        }
    }

    async fn listen(
        &self,
        inbound: &mut Streaming<FromOperator>,
        silent_beats: &AtomicU32,
    ) -> Result<(), String> {
        while let Some(message) = inbound.message().await.map_err(|status| status.message().to_owned())? {
            self.hear(message).await?;
            // Who was not listened to meanwhile was not silent.
            silent_beats.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn report(&self) -> Result<(), String> {
        let shared = self.attendance.shared.clone();
        let mut changes = shared.replicas.changes();
        changes.mark_changed();
        let mut stopping = shared.stopping.clone();
        let mut is_stopping = false;
        loop {
            tokio::select! {
                rose = changes.changed() => {
                    rose.map_err(|_| "the broker is stopping")?;
                    self.report_changes().await?;
                    tokio::time::sleep(REPORTS_APART).await;
                }
                stops = async { stopping.wait_for(|stops| *stops).await.is_ok() }, if !is_stopping => {
                    is_stopping = true;
                    if stops {
                        self.say(Up::Stopping(proto::Stopping {})).await?;
                    }
                }
            }
        }
    }

    fn heartbeat(&self) -> proto::Heartbeat {
        let shared = &self.attendance.shared;
        let numbers =
            |brokers: Vec<Ordinal>| brokers.into_iter().map(|ordinal| u32::from(ordinal.0)).collect();
        proto::Heartbeat {
            storage_rounds: shared.replicas.storage().heartbeat().journal,
            certificates: shared.tls.worn(),
            // With each: a byte or two for each broker. What is said only when it changes says nothing of how old it is.
            hears: Some(proto::GossipView { alive: numbers(shared.brokers.alive()) }),
            links: Some(proto::Links { linked: numbers(shared.peers.linked()) }),
            volume: Some(volume(shared.replicas.storage().fullness())),
        }
    }

    async fn say(&self, message: Up) -> Result<(), String> {
        let message = FromBroker { message: Some(message) };
        self.send.send(Ok(message)).await.map_err(|_| "the operator is gone".to_owned())
    }

    async fn say_hello(&self) -> Result<(), String> {
        let shared = &self.attendance.shared;
        let storage = shared.replicas.storage().clone();
        let stored = tokio::task::spawn_blocking(move || storage.identity()).await;
        let volume = stored.map_err(|_| "cancelled")?.map_err(|error| error.to_string())?;
        let identity = shared.replicas.identity();
        let hello = proto::BrokerHello {
            cluster_id: volume.cluster.map(|cluster| cluster.to_string()).unwrap_or_default(),
            ordinal: identity.ordinal.0.into(),
            incarnation: identity.incarnation.to_string(),
            processes: identity.processes.iter().copied().map(process_to).collect(),
            protocol: Some(proto::ProtocolRange { minimum: PROTOCOL.min, maximum: PROTOCOL.max }),
            controller_epoch: shared.pages.controller_epoch(),
            pages: shared.pages.held(),
            has_replicas: !shared.replicas.states().all().is_empty(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            nothing_aside: !shared.replicas.storage().keeps_copies(),
        };
        self.say(Up::Hello(hello)).await
    }

    async fn report_changes(&self) -> Result<(), String> {
        let _turn = self.reporting.lock().await;
        let changed =
            self.attendance.shared.replicas.changed_reports().await.map_err(|error| error.to_string())?;
        for message in reports::changed(changed) {
            self.say(Up::Reports(message)).await?;
        }
        Ok(())
    }

    async fn hear(&self, message: FromOperator) -> Result<(), String> {
        let shared = self.attendance.shared.clone();
        let stopped = |error: crate::replica::Stopped| error.to_string();
        match message.message {
            None => Err("an empty message: the operator speaks another version".to_owned()),
            Some(Down::Hello(_)) => Err("a second hello".to_owned()),
            Some(Down::Heartbeat(_)) => Ok(()),
            Some(Down::Page(page)) => {
                let held = shared.pages.take(page).await.map_err(|error| error.to_string())?;
                self.say(Up::PageHeld(held)).await
            }
            Some(Down::Ask(ask)) => {
                // Whom it accepts it asks first; a hello alone does not say that it does.
                self.attendance.heed(None);
                let _turn = self.reporting.lock().await;
                let all = shared.replicas.reports().await.map_err(stopped)?;
                let asked = (ask.request, self.controller_epoch);
                for message in reports::answer(all, asked, &shared.pages.topics()) {
                    self.say(Up::Reports(message)).await?;
                }
                Ok(())
            }
            Some(Down::Addresses(book)) => {
                self.take_addresses(book).await;
                Ok(())
            }
            Some(Down::Release(release)) => {
                let key = release.partition.parse().map_err(|error| format!("release: {error}"))?;
                let epoch = release.epoch.parse().map_err(|error| format!("release: {error}"))?;
                shared.replicas.send(Command::Release(key, epoch)).await.map_err(stopped)
            }
            Some(Down::StopAppends(stop)) => {
                let key = stop.partition.parse().map_err(|error| format!("stop_appends: {error}"))?;
                shared.replicas.send(Command::StopAppends(key)).await.map_err(stopped)
            }
        }
    }

    async fn take_addresses(&self, book: proto::AddressBook) {
        let shared = &self.attendance.shared;
        let mut listed = BTreeMap::new();
        for broker in book.brokers {
            let (Ok(ordinal), Ok(internal)) = (u16::try_from(broker.ordinal), broker.internal.parse()) else {
                warn!(ordinal = broker.ordinal, internal = broker.internal, "an address is not understood");
                continue;
            };
            let zone = (!broker.zone.is_empty()).then_some(broker.zone);
            listed.insert(Ordinal(ordinal), Listed { internal, client: broker.client, zone });
        }
        let me = shared.replicas.me().ordinal;
        if let Some(zone) = listed.get(&me).and_then(|listed| listed.zone.clone()) {
            shared.gossip.set_zone(&zone).await;
        }
        shared.brokers.list(listed);
    }
}
