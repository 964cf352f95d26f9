//! When programs may come, and the next broker may go: the volume is open, and each replica has caught up with its leader once since
//! the start, or has stood still for a minute, or tried for ten. So a drain of one node after the other waits for gigabytes.
//! It never falls because operator, API or peers are away; only while the operator that spoke last
//! refuses this volume for ever.

mod chase;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fulmar_core::id::PartitionKey;
use tokio::sync::watch;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, HealthService};
use tracing::info;

use self::chase::{Chase, Found};
use crate::directory::{Changing, Directory};
use crate::replica::Replicas;
use crate::replica::peers::Peers;
use crate::serve::http::Phase;

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
    let mut behind: Option<BTreeMap<PartitionKey, Chase>> = None;
    let mut given_up = 0usize;
    loop {
        let looks = Instant::now();
        let now = directory.borrow().clone();
        let left = behind.get_or_insert_with(|| concerned(&replicas, &now, looks));
        left.retain(|key, chase| match look(&replicas, &peers, &now, *key, chase) {
            Found::CaughtUp => false,
            Found::Behind => true,
            Found::GivenUp => {
                given_up += 1;
                false
            }
        });
        let is_refused = *refused.borrow_and_update();
        turn(&phase, Phase::Starting, is_refused);
        if !is_refused && left.is_empty() {
            info!(behind = given_up, "the broker is ready");
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

fn concerned(replicas: &Replicas, directory: &Directory, now: Instant) -> BTreeMap<PartitionKey, Chase> {
    let me = replicas.me();
    let mine = directory.entries().filter(|entry| entry.members.contains(me));
    mine.map(|entry| (entry.key, Chase::new(now))).collect()
}

fn look(
    replicas: &Replicas,
    peers: &Peers,
    directory: &Directory,
    key: PartitionKey,
    chase: &mut Chase,
) -> Found {
    let now = Instant::now();
    // Nobody to catch up with, or nothing: waiting here would mend nothing.
    let Some(leader) = directory.entry(key).and_then(|entry| entry.leader) else { return Found::CaughtUp };
    let Some(state) = replicas.states().get(key) else { return chase.stands_still(now) };
    if leader == replicas.me() {
        return if state.serving.is_some() { Found::CaughtUp } else { chase.stands_still(now) };
    }
    // What a leader said counts as long as it is there.
    chase.look(state.log_end, state.committed.filter(|_| peers.is_linked(leader.ordinal)), now)
}
