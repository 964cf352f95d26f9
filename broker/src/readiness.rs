//! When programs may come: the volume is open, and each replica has caught up once since the start, or a minute passed.
//! It never falls because operator, API or peers are away; only while the operator that spoke last
//! refuses this volume for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fulmar_core::id::PartitionKey;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::info;

use crate::directory::{Changing, Directory};
use crate::replica::Replicas;
use crate::replica::peers::Peers;
use crate::serve::http::Phase;

/// A rollout must not hang on a follower that will never catch up.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So many times as long as a look took, if that is longer: a broker with tens of thousands of replicas has better things to do.
const LOOK_SHARE: u32 = 20;

/// Of the whole server, and of each service by its name.
const SERVICES: [&str; 4] = ["", "fulmar.v1.PubSub", "fulmar.v1.Log", "fulmar.v1.Admin"];

/// Not serving yet.
pub(crate) fn health() -> (HealthReporter, HealthService) {
    let reporter = HealthReporter::new();
    let service = HealthService::from_health_reporter(reporter.clone());
    (reporter, service)
}

/// Turns to ready once, then follows the phase, and whether the operator refuses this volume.
pub(crate) async fn watch(
    replicas: Replicas,
    directory: Changing,
    peers: Peers,
    phase: Arc<watch::Sender<Phase>>,
    mut refused: watch::Receiver<bool>,
    health: HealthReporter,
) {
    tell(&health, ServingStatus::NotServing).await;
    let began = Instant::now();
    let mut behind: Option<BTreeSet<PartitionKey>> = None;
    loop {
        let looks = Instant::now();
        let now = directory.borrow().clone();
        let left = behind.get_or_insert_with(|| concerned(&replicas, &now));
        left.retain(|key| !has_caught_up(&replicas, &peers, &now, *key));
        let is_refused = *refused.borrow_and_update();
        turn(&phase, Phase::Starting, is_refused);
        if !is_refused && (left.is_empty() || began.elapsed() >= PATIENCE) {
            info!(behind = left.len(), "the broker is ready");
            break;
        }
        tokio::time::sleep(LOOK_EVERY.max(looks.elapsed() * LOOK_SHARE)).await;
    }
    phase.send_if_modified(|phase| {
        let starts = *phase == Phase::Starting;
        if starts {
            *phase = Phase::Ready;
        }
        starts
    });
    let mut phases = phase.subscribe();
    loop {
        turn(&phase, Phase::Ready, *refused.borrow_and_update());
        let status = match *phases.borrow_and_update() {
            Phase::Ready => ServingStatus::Serving,
            Phase::Starting | Phase::Refused | Phase::Stopping => ServingStatus::NotServing,
        };
        tell(&health, status).await;
        let changed = tokio::select! {
            changed = phases.changed() => changed,
            changed = refused.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// From `otherwise` to refused, or back. A broker that stops goes on stopping.
fn turn(phase: &watch::Sender<Phase>, otherwise: Phase, is_refused: bool) {
    let (from, to) = if is_refused { (otherwise, Phase::Refused) } else { (Phase::Refused, otherwise) };
    phase.send_if_modified(|phase| {
        let turns = *phase == from;
        if turns {
            *phase = to;
        }
        turns
    });
}

async fn tell(health: &HealthReporter, status: ServingStatus) {
    for service in SERVICES {
        health.set_service_status(service, status).await;
    }
}

fn concerned(replicas: &Replicas, directory: &Directory) -> BTreeSet<PartitionKey> {
    let me = replicas.me();
    directory.entries().filter(|entry| entry.members.contains(me)).map(|entry| entry.key).collect()
}

fn has_caught_up(replicas: &Replicas, peers: &Peers, directory: &Directory, key: PartitionKey) -> bool {
    let Some(entry) = directory.entry(key) else { return true };
    let Some(state) = replicas.states().get(key) else { return false };
    match entry.leader {
        Some(leader) if leader == replicas.me() => state.serving.is_some(),
        Some(leader) => peers.is_linked(leader.ordinal) && state.log_end <= state.high_watermark,
        // Nobody to catch up with; nothing that waiting here would mend.
        None => true,
    }
}
