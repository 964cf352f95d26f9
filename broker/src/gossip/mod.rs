//! Who else is alive and where: chitchat over UDP, every datagram sealed with the Cluster's key.
//!
//! Owns the socket, the seeds and the view. Hints, never authority: nobody is deposed and nothing is decided by it.

pub mod fuzzed;
mod sealed;
mod seeds;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chitchat::{
    ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, spawn_chitchat,
};
use fulmar_core::id::{Incarnation, Ordinal};
use fulmar_core::term::Session;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use self::sealed::Sealed;
use crate::clock::wall_ms;
use crate::config::Seed;
use crate::tls::Tls;

/// Two brokers see each other in two rounds.
const ROUND: Duration = Duration::from_millis(200);
/// What is believed about a new neighbour's rhythm until it was heard a few times: twice the round, so that one who
/// stops is seen dead within about a second.
const RHYTHM_AT_FIRST: Duration = Duration::from_millis(400);
/// A silence longer than this says nothing about a rhythm.
const RHYTHM_MAX: Duration = Duration::from_secs(2);
/// The dead are forgotten after an hour: nobody needs an address that old.
const DEAD_KEPT: Duration = Duration::from_hours(1);

mod keys {
    pub(super) const INCARNATION: &str = "incarnation";
    pub(super) const SESSION: &str = "session";
    pub(super) const INTERNAL: &str = "internal";
    pub(super) const CLIENT: &str = "client";
    pub(super) const ZONE: &str = "zone";
    pub(super) const VERSION: &str = "version";
    pub(super) const FULL: &str = "full";
}

/// What a broker says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its volume's life.
    pub incarnation: Incarnation,
    /// Its process.
    pub session: Session,
    /// Its port between brokers.
    pub internal: SocketAddr,
    /// Its port for programs.
    pub client: String,
    /// Its zone, if it knows it.
    pub zone: Option<String>,
    /// Its software.
    pub version: String,
    /// Its volume is full: who leads does not count on it for an acknowledgement.
    pub is_full: bool,
}

/// Who is alive, this broker included.
pub type View = Arc<BTreeMap<Ordinal, Neighbour>>;

/// Running gossip.
pub struct Gossip {
    handle: Arc<ChitchatHandle>,
    view: watch::Receiver<View>,
    /// Held: they end with it.
    #[expect(dead_code, reason = "held for its end")]
    tasks: [AbortOnDropHandle<()>; 2],
}

impl std::fmt::Debug for Gossip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gossip").finish_non_exhaustive()
    }
}

impl Gossip {
    /// Starts on a bound socket. `advertised` is where others send their datagrams.
    pub async fn start(
        tls: Tls,
        socket: UdpSocket,
        advertised: SocketAddr,
        seeds: Vec<Seed>,
        ordinal: Ordinal,
        myself: Neighbour,
    ) -> anyhow::Result<Self> {
        // Not the session: a new volume begins with the first one again, and at the address of the old one it would be taken for
        // that, whose heartbeats it has not reached: dead, for as long as the old one lived.
        let generation = wall_ms();
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(ordinal.to_string(), generation, advertised),
            // The key keeps Clusters apart; their id is not known before the operator told it.
            cluster_id: "fulmar".to_owned(),
            gossip_interval: ROUND,
            listen_addr: socket.local_addr().context("gossip's socket")?,
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig {
                initial_interval: RHYTHM_AT_FIRST,
                max_interval: RHYTHM_MAX,
                dead_node_grace_period: DEAD_KEPT,
                ..FailureDetectorConfig::default()
            },
            marked_for_deletion_grace_period: DEAD_KEPT,
            catchup_callback: None,
            extra_liveness_predicate: Some(Box::new(|state| neighbour(state).is_some())),
        };
        let handle =
            spawn_chitchat(config, key_values(&myself), &Sealed::new(tls, socket)).await.context("gossip")?;
        let handle = Arc::new(handle);
        let nodes = handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
        let (publish, view) = watch::channel(View::default());
        let viewing = tokio::spawn(follow(nodes, publish, ordinal, (generation, myself)));
        let lonely = {
            let view = view.clone();
            move || view.borrow().len() < 2
        };
        let greeter = handle.clone();
        let greeting = tokio::spawn(seeds::greet_all(seeds, lonely, move |address| {
            if address != advertised {
                // Fails only when gossip has ended, with the whole process.
                let _ended = greeter.gossip(address);
            }
        }));
        let tasks = [AbortOnDropHandle::new(viewing), AbortOnDropHandle::new(greeting)];
        Ok(Self { handle, view, tasks })
    }

    /// Who is alive.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Tells the others whether this broker's volume is full.
    pub async fn set_full(&self, is_full: bool) {
        let value = if is_full { "yes" } else { "no" };
        self.handle.with_chitchat(|chitchat| chitchat.self_node_state().set(keys::FULL, value)).await;
    }

    /// Tells the others the zone that this broker was told.
    pub async fn set_zone(&self, zone: &str) {
        self.handle.with_chitchat(|chitchat| chitchat.self_node_state().set(keys::ZONE, zone)).await;
    }
}

fn key_values(myself: &Neighbour) -> Vec<(String, String)> {
    let mut all = vec![
        (keys::INCARNATION.to_owned(), myself.incarnation.to_string()),
        (keys::SESSION.to_owned(), myself.session.0.to_string()),
        (keys::INTERNAL.to_owned(), myself.internal.to_string()),
        (keys::CLIENT.to_owned(), myself.client.clone()),
        (keys::VERSION.to_owned(), myself.version.clone()),
    ];
    all.extend(myself.zone.clone().map(|zone| (keys::ZONE.to_owned(), zone)));
    all
}

fn neighbour(state: &NodeState) -> Option<Neighbour> {
    Some(Neighbour {
        incarnation: state.get(keys::INCARNATION)?.parse().ok()?,
        session: Session(state.get(keys::SESSION)?.parse().ok()?),
        internal: state.get(keys::INTERNAL)?.parse().ok()?,
        client: state.get(keys::CLIENT)?.to_owned(),
        zone: state.get(keys::ZONE).map(str::to_owned),
        version: state.get(keys::VERSION).unwrap_or_default().to_owned(),
        is_full: state.get(keys::FULL) == Some("yes"),
    })
}

/// Turns chitchat's nodes into brokers. Of two processes of one broker the one that started later is shown.
async fn follow(
    mut nodes: watch::Receiver<BTreeMap<ChitchatId, NodeState>>,
    publish: watch::Sender<View>,
    ordinal: Ordinal,
    myself: (u64, Neighbour),
) {
    loop {
        let mut latest = BTreeMap::from([(ordinal, myself.clone())]);
        for (id, state) in nodes.borrow_and_update().iter() {
            let Ok(number) = id.node_id.parse::<u16>() else { continue };
            let Some(found) = neighbour(state) else { continue };
            let newer = latest.get(&Ordinal(number)).is_none_or(|(known, _)| *known <= id.generation_id);
            if newer {
                latest.insert(Ordinal(number), (id.generation_id, found));
            }
        }
        let view: BTreeMap<Ordinal, Neighbour> =
            latest.into_iter().map(|(ordinal, (_, neighbour))| (ordinal, neighbour)).collect();
        publish.send_if_modified(|before| {
            let changed = **before != view;
            if changed {
                *before = Arc::new(view);
            }
            changed
        });
        if nodes.changed().await.is_err() {
            return;
        }
    }
}
