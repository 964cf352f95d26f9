//! From a checked configuration to a broker that serves: ports first, so that a taken one is told before the volume is
//! touched; probes answer while the volume is opened.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as StdUdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use fulmar_core::broker as core;
use fulmar_proto::internal::v1::control_server::ControlServer;
use fulmar_proto::internal::v1::replica_server::ReplicaServer;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::service::Routes;
use tracing::info;

use crate::brokers::Brokers;
use crate::config::Config;
use crate::control::{Attendance, Pages, Parts};
use crate::gossip::{Gossip, Neighbour};
use crate::memory::Shares;
use crate::replica::peers::{Peers, Verdict};
use crate::replica::{self, Command, Replicas};
use crate::serve::cors;
use crate::serve::http::{Http, Phase};
use crate::serve::listen::{self, KEEPALIVE, Limits, Requests};
use crate::serve::metrics::Metrics;
use crate::serve::{self, Door, grpc};
#[cfg(debug_assertions)]
use crate::storage::faulty_disk;
use crate::storage::seam::{Files, SystemFiles};
use crate::storage::{ADVICE, Expectations, OpenError, Opened, Storage, StorageConfig, StorageEvent};
use crate::tls::Tls;
use crate::traces::{self, Exporting, Traces};
use crate::{dial, readiness};

/// A program's windows: at 0.5 ms of round trip they carry 2 GB/s, and thousands of programs do not flood the memory.
const WINDOWS: (u32, u32) = (1 << 20, 2 << 20);
/// Between brokers, few connections that carry everything.
const INTERNAL_WINDOWS: (u32, u32) = (4 << 20, 8 << 20);
/// Brokers of one Cluster, each with a few connections, and operators. Whoever has shown no certificate is not among them.
const INTERNAL_CONNECTIONS_MAX: usize = 2_000;
/// Streams of one program's connection: subscriptions and calls under way.
const STREAMS_MAX: u32 = 1_000;
/// A broker passes on what its programs ask, over one connection.
const INTERNAL_STREAMS_MAX: u32 = 100_000;
/// A Service balances connections, not calls: programs reconnect now and then.
const CONNECTION_AGE_MAX: Duration = Duration::from_mins(30);
/// Verdicts over this process: the first one ends it.
const VERDICTS_MAX: usize = 4;

/// Where a broker can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC for programs.
    pub grpc: SocketAddr,
    /// HTTP for programs, probes and metrics.
    pub http: SocketAddr,
    /// The small TCP protocol for programs.
    pub tcp: SocketAddr,
    /// Between brokers.
    pub internal: SocketAddr,
    /// Gossip.
    pub gossip: SocketAddr,
}

/// A running broker. Dropped without [`run`](crate::run)'s care it stops like a killed process, but for the ports.
#[derive(Debug)]
pub struct Broker {
    /// Where it is reached.
    pub addresses: Addresses,
    pub(crate) replicas: Replicas,
    pub(crate) attached: watch::Receiver<bool>,
    pub(crate) phase: Arc<watch::Sender<Phase>>,
    pub(crate) stopping: watch::Sender<bool>,
    pub(crate) stop_clients: CancellationToken,
    pub(crate) stop_internal: CancellationToken,
    pub(crate) clients: Vec<JoinHandle<()>>,
    pub(crate) internal: JoinHandle<()>,
    pub(crate) actor: JoinHandle<Result<(), String>>,
    pub(crate) verdicts: mpsc::Receiver<Verdict>,
    pub(crate) tasks: Vec<AbortOnDropHandle<()>>,
    pub(crate) exporting: Option<Exporting>,
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stop_clients.cancel();
        self.stop_internal.cancel();
        self.actor.abort();
        self.internal.abort();
        self.clients.iter().for_each(JoinHandle::abort);
    }
}

struct Ports {
    grpc: TcpListener,
    http: TcpListener,
    tcp: TcpListener,
    internal: TcpListener,
    gossip: UdpSocket,
    addresses: Addresses,
}

/// Starts a broker. An error names the flag, file or port that is the trouble; nothing of it runs on then.
pub async fn start(config: &Config) -> anyhow::Result<Broker> {
    let tls = Tls::load(&config.tls).context("--tls")?;
    let ports = bind(config).await?;
    let addresses = ports.addresses;
    let (phase, phases) = watch::channel(Phase::Starting);
    let phase = Arc::new(phase);
    let (stop_clients, stop_internal) = (CancellationToken::new(), CancellationToken::new());
    let shares = Shares::of(config.memory_limit);
    let (http, serving_http) = serve_http(ports.http, config, phases, &stop_clients);
    let opening = open_volume(config, shares, addresses).await;
    let Volume { replicas, actor, pages, myself } = opening.inspect_err(|_| stop_clients.cancel())?;
    let gossip = start_gossip(config, &tls, ports.gossip, addresses.gossip, myself).await?;
    let brokers = Brokers::new(gossip.view());
    let (metrics, traces, exporting) = observe(config)?;
    let (verdict, verdicts) = mpsc::channel(VERDICTS_MAX);
    let peers = Peers::new(replicas.clone(), brokers.clone(), tls.clone(), shares.peer, verdict.clone());
    let (stopping, stops) = watch::channel(false);
    let attendance = Attendance::new(Parts {
        replicas: replicas.clone(),
        pages: pages.clone(),
        brokers: brokers.clone(),
        gossip: Arc::clone(&gossip),
        peers: peers.clone(),
        tls: tls.clone(),
        stopping: stops,
        verdicts: verdict,
    });
    let (refused, attached) = (attendance.refused(), attendance.attached());
    let door = Door::new(serve::Parts {
        replicas: replicas.clone(),
        directory: pages.directory(),
        brokers,
        tls: tls.clone(),
        attached: attached.clone(),
        metrics,
        traces,
        stop: stop_clients.clone(),
        shares,
        stall_max: config.reader_stall_max,
    });
    let router = internal_router(&door, attendance, peers.clone());
    let internal = serve_internal(ports.internal, &tls, router, &stop_internal);
    http.open(door.clone());
    let (health, health_service) = readiness::health();
    let router = grpc::for_programs(&door, health_service).context("reflection")?;
    let limits = limits_grpc(config, shares, &door);
    let serving_grpc = tokio::spawn(listen::serve(ports.grpc, None, limits, router, stop_clients.clone()));
    let serving_tcp = tokio::spawn(serve::tcp::serve(ports.tcp, door.clone(), shares, stop_clients.clone()));
    let (directory, followed) = (pages.directory(), peers.clone());
    let ready = readiness::watch(replicas.clone(), directory, followed, phase.clone(), refused, health);
    let mut tasks = upkeep(&replicas, &pages, gossip, config);
    let tending = [tokio::spawn(tls.watch()), tokio::spawn(peers.keep_dialling()), tokio::spawn(ready)];
    tasks.extend(tending.map(AbortOnDropHandle::new));
    info!(name = config.name.text, %addresses.grpc, %addresses.http, %addresses.tcp, %addresses.internal, %addresses.gossip, "the broker serves");
    Ok(Broker {
        addresses,
        replicas,
        attached,
        phase,
        stopping,
        stop_clients,
        stop_internal,
        clients: vec![serving_grpc, serving_http, serving_tcp],
        internal,
        actor,
        verdicts,
        tasks,
        exporting,
    })
}

/// What is counted, and what sampled records are traced with: nothing without a collector.
fn observe(config: &Config) -> anyhow::Result<(Arc<Metrics>, Traces, Option<Exporting>)> {
    let metrics = Arc::new(Metrics::default());
    let Some(collector) = &config.otlp_endpoint else { return Ok((metrics, Traces::default(), None)) };
    let started = traces::start(collector, &config.name.text, metrics.spans());
    let (traces, exporting) = started.with_context(|| format!("--otlp-endpoint {collector}"))?;
    info!(%collector, "spans of sampled records go to a collector");
    Ok((metrics, traces, Some(exporting)))
}

/// What looks after the stored records.
fn upkeep(
    replicas: &Replicas,
    pages: &Pages,
    gossip: Arc<Gossip>,
    config: &Config,
) -> Vec<AbortOnDropHandle<()>> {
    let retaining = tokio::spawn(replica::retain(replicas.clone(), pages.directory()));
    let scrubbing = tokio::spawn(replica::scrub(replicas.clone(), config.scrub_rate));
    let telling = tokio::spawn(replica::tell_fullness(replicas.clone(), gossip));
    [retaining, scrubbing, telling].map(AbortOnDropHandle::new).into()
}

async fn bind(config: &Config) -> anyhow::Result<Ports> {
    let http = listen::bind("--http-address", config.http_address).await?;
    let grpc = listen::bind("--grpc-address", config.grpc_address).await?;
    let tcp = listen::bind("--tcp-address", config.tcp_address).await?;
    let internal = listen::bind("--internal-address", config.internal_address).await?;
    let gossip = UdpSocket::bind(config.gossip_address).await;
    let gossip = gossip.map_err(|error| {
        anyhow::anyhow!("--gossip-address {} cannot be listened on: {error}", config.gossip_address)
    })?;
    let host = config.advertise_host.unwrap_or_else(first_address);
    let at = |bound: SocketAddr| SocketAddr::new(host, bound.port());
    let addresses = Addresses {
        grpc: at(grpc.local_addr()?),
        http: at(http.local_addr()?),
        tcp: at(tcp.local_addr()?),
        internal: at(internal.local_addr()?),
        gossip: at(gossip.local_addr()?),
    };
    Ok(Ports { grpc, http, tcp, internal, gossip, addresses })
}

/// The address that a packet to the outside would carry; nothing is sent. Loopback on a machine without a network.
fn first_address() -> IpAddr {
    let outward = || {
        let socket = StdUdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address that is reserved for documentation: no broker, no name, only a route.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    outward().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address: SocketAddr| address.ip())
}

async fn start_gossip(
    config: &Config,
    tls: &Tls,
    socket: UdpSocket,
    address: SocketAddr,
    myself: Neighbour,
) -> anyhow::Result<Arc<Gossip>> {
    let (seeds, ordinal) = (config.seeds.clone(), config.name.ordinal);
    Ok(Arc::new(Gossip::start(tls.clone(), socket, address, seeds, ordinal, myself).await?))
}

/// Probes answer from now on, the rest once there is a door.
fn serve_http(
    listener: TcpListener,
    config: &Config,
    phases: watch::Receiver<Phase>,
    stop: &CancellationToken,
) -> (Http, JoinHandle<()>) {
    let http = Http::new(phases);
    let shares = Shares::of(config.memory_limit);
    let limits = Limits {
        port: "http",
        connections_max: shares.connections,
        streams_max: STREAMS_MAX,
        age_max: Some(CONNECTION_AGE_MAX),
        windows: WINDOWS,
        http2_only: false,
        keepalive: KEEPALIVE,
        stall_max: Some(config.reader_stall_max),
        answer_bytes: Some(shares.connection_answers),
        // Its bodies are counted where they are read.
        requests: None,
        // Not for all of its paths.
        cors: None,
    };
    let router = http.clone().router(config.cors_allow_origins.as_ref());
    let serving = tokio::spawn(listen::serve(listener, None, limits, router, stop.clone()));
    (http, serving)
}

fn limits_grpc(config: &Config, shares: Shares, door: &Door) -> Limits {
    Limits {
        port: "grpc",
        connections_max: shares.connections,
        streams_max: STREAMS_MAX,
        age_max: Some(CONNECTION_AGE_MAX),
        windows: WINDOWS,
        // Browsers speak gRPC-web here, many of them over HTTP/1.
        http2_only: false,
        keepalive: KEEPALIVE,
        stall_max: Some(config.reader_stall_max),
        answer_bytes: Some(shares.connection_answers),
        requests: Some(Requests {
            all: door.requests(),
            connection_bytes: shares.connection_requests,
            message_bytes_max: grpc::REQUEST_BYTES_MAX,
        }),
        cors: config.cors_allow_origins.as_ref().map(cors::of_grpc_web),
    }
}

fn serve_internal(
    listener: TcpListener,
    tls: &Tls,
    router: Router,
    stop: &CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(listen::serve(listener, Some(tls.clone()), limits_internal(), router, stop.clone()))
}

fn limits_internal() -> Limits {
    Limits {
        port: "internal",
        connections_max: INTERNAL_CONNECTIONS_MAX,
        streams_max: INTERNAL_STREAMS_MAX,
        // Streams between brokers last as long as they live.
        age_max: None,
        windows: INTERNAL_WINDOWS,
        http2_only: true,
        // A peer that stopped without a word is given up within three seconds.
        keepalive: (Duration::from_secs(1), Duration::from_secs(2)),
        stall_max: None,
        answer_bytes: None,
        // Two brokers that wait for each other's memory would wait for ever: what arrives here was counted where a program
        // sent it.
        requests: None,
        cors: None,
    }
}

/// What runs on an open volume.
struct Volume {
    replicas: Replicas,
    actor: JoinHandle<Result<(), String>>,
    pages: Pages,
    myself: Neighbour,
}

async fn open_volume(config: &Config, shares: Shares, addresses: Addresses) -> anyhow::Result<Volume> {
    // Unbounded, but an event answers writes that the actor itself handed over, and those the storage bounds in bytes.
    let (tell, events) = mpsc::unbounded_channel();
    let (storage, opened) = open(config, shares, tell).await?;
    let identity = identity(&opened);
    let myself = myself(&identity, addresses);
    let mut broker =
        core::Broker::new(identity, opened.replicas).context("--data: a producers' table is damaged")?;
    broker.remember(opened.peers);
    for (key, stretch) in opened.damaged {
        broker.recovered_damaged(key, stretch);
    }
    let (replicas, actor) = replica::start(replica::Start { broker, storage, events, shares });
    let (pages, entries) = Pages::start(replicas.clone(), opened.pages);
    replicas.send(Command::Assign(entries)).await?;
    Ok(Volume { replicas, actor, pages, myself })
}

async fn open(
    config: &Config,
    shares: Shares,
    tell: mpsc::UnboundedSender<StorageEvent>,
) -> anyhow::Result<(Storage, Opened)> {
    let mut settings = StorageConfig::for_memory(config.data.clone(), shares.storage);
    settings.slot_bytes = config.journal_slot_size;
    let expectations = Expectations { ordinal: config.name.ordinal, cluster: None };
    let files = files(&config.data).context("--data")?;
    let opening = tokio::task::spawn_blocking(move || {
        Storage::open_in(files, &settings, &expectations, move |event| {
            // The actor ends with the process.
            let _ended = tell.send(event);
        })
    });
    let opened = opening.await.context("opening the volume")?;
    let (storage, opened) = opened.map_err(refused).context("--data")?;
    info!(
        incarnation = %opened.identity.incarnation,
        replicas = opened.replicas.len(),
        pages = opened.pages.len(),
        replayed_bytes = opened.replayed_bytes,
        "the volume is open"
    );
    Ok((storage, opened))
}

/// The operating system's, but for a build that is tested.
fn files(data: &Path) -> std::io::Result<Arc<dyn Files>> {
    #[cfg(debug_assertions)]
    if let Some(faulty) = faulty_disk::of_environment(data)? {
        return Ok(faulty);
    }
    let _ = data;
    Ok(Arc::new(SystemFiles))
}

/// What is wrong with the volume, and what a person can do.
fn refused(error: OpenError) -> anyhow::Error {
    if error.is_damage() { anyhow::anyhow!("{error}. {ADVICE}") } else { error.into() }
}

fn identity(opened: &Opened) -> core::Identity {
    core::Identity {
        cluster: opened.identity.cluster,
        ordinal: opened.identity.ordinal,
        incarnation: opened.identity.incarnation,
        processes: opened.identity.processes.clone(),
    }
}

fn myself(identity: &core::Identity, addresses: Addresses) -> Neighbour {
    Neighbour {
        incarnation: identity.incarnation,
        session: identity.process().session,
        internal: addresses.internal,
        client: addresses.grpc.to_string(),
        zone: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        is_full: false,
    }
}

fn internal_router(door: &Door, attendance: Attendance, peers: Peers) -> Router {
    let mut routes = Routes::builder();
    routes
        .add_service(ControlServer::new(attendance).max_decoding_message_size(dial::MESSAGE_BYTES_MAX))
        .add_service(
            ReplicaServer::new(peers)
                .max_decoding_message_size(dial::MESSAGE_BYTES_MAX)
                .max_encoding_message_size(dial::MESSAGE_BYTES_MAX),
        );
    grpc::services(&mut routes, door);
    routes.routes().into_axum_router()
}
