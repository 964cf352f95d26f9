//! Floods from strangers on the ports between brokers: who has a certificate comes in all the same, programs are served, and nothing is
//! kept when it is over.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fulmar_broker::tls::{BROKER_NAME, Tls};
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::{MetadataRequest, PublishRequest};
use rustix::process::{Resource, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::{Brokers, PATIENCE, eventually};
use tokio::io::AsyncReadExt;
use tokio_rustls::TlsConnector;

/// More than the port takes of those that have shown their certificate.
const HALF_OPEN: usize = 2_100;

/// The beginning of a TLS record: its kind, version and length, and the first byte of a hello.
const BEGINNING: &[u8] = b"\x16\x03\x01\x02\x00\x01";

/// The port waits so long for the end of a handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// It has to be faster than that in one of so many tries, or nothing is shown.
const TRIES: usize = 4;

/// So long a flood lasts: longer than a handshake is waited for.
const FLOOD: Duration = Duration::from_secs(8);

/// And so many connections at least.
const CONNECTIONS: u64 = 2_000;

/// The `--memory-limit` of these brokers, beyond which Kubernetes would kill them.
const MEBIBYTES_MAX: u64 = 256;

/// The slowest bound is ten seconds; the rest is for a machine that is busy.
const CLOSED_WITHIN: Duration = Duration::from_mins(1);

/// Both ends of so many connections, and what their brokers need.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Brokers whose first one leads the one partition that all have. What is told to `also` they tell nobody else.
async fn start(count: usize, also: &[&UdpSocket]) -> (Brokers, Vec<Operator>) {
    allow_many_files();
    let seeds: Vec<String> = also.iter().map(|socket| socket.local_addr().unwrap().to_string()).collect();
    let flags: Vec<&str> = seeds.iter().flat_map(|seed| ["--seeds", seed]).collect();
    let brokers = Brokers::start_with(count, &flags);
    let mut operators = Vec::new();
    for ordinal in 0..count {
        operators.push(brokers.operator(ordinal, CLUSTER).await);
    }
    let replicas: Vec<_> = operators.iter().map(Operator::replica).collect();
    for operator in &operators {
        operator.push(&page(1, &replicas, replicas[0], 1), 1).await;
    }
    operators[0].leads(key(0), epoch(1)).await;
    for operator in &operators {
        operator.holds(1, 1).await;
    }
    (brokers, operators)
}

async fn publish(brokers: &Brokers, at: usize) {
    let request =
        PublishRequest { topic: "events".to_owned(), value: "v".into(), ..PublishRequest::default() };
    brokers.publish(at, &request).await;
}

/// Whether the broker answers another one that dials it now; that one would wait two seconds.
async fn comes_in(brokers: &Brokers) -> Result<(), String> {
    let channel = brokers.internal(0, brokers.authority.client(BROKER_NAME)).await;
    let channel = channel.map_err(|error| format!("{error:?}"))?;
    LogClient::new(channel)
        .metadata(MetadataRequest::default())
        .await
        .map(drop)
        .map_err(|status| status.to_string())
}

fn half_open(address: SocketAddr) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.write_all(BEGINNING).ok()?;
    Some(socket)
}

/// So many, by many at once: one that is not accepted at once tries again a second later, by TCP's own rules.
fn begin_handshakes(address: SocketAddr) -> Vec<TcpStream> {
    let threads: Vec<JoinHandle<Vec<TcpStream>>> = (0..HALF_OPEN / 100)
        .map(|_| std::thread::spawn(move || (0..100).filter_map(|_| half_open(address)).collect()))
        .collect();
    let held: Vec<TcpStream> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(held.len(), HALF_OPEN);
    held
}

/// Threads that do something again and again until this is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    times: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start() -> Self {
        Self { stop: Arc::default(), times: Arc::default(), threads: Vec::new() }
    }

    fn and(mut self, mut again: impl FnMut() + Send + 'static) -> Self {
        let (stop, times) = (self.stop.clone(), self.times.clone());
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                again();
                times.fetch_add(1, Ordering::Relaxed);
            }
        }));
        self
    }

    fn times(&self) -> u64 {
        self.times.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // It has panicked only if the test has.
            let _ended = thread.join();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_handshakes_that_never_end_keep_no_broker_out() {
    let (brokers, operators) = start(1, &[]).await;
    let address = brokers.ports[0].internal;
    let (files, before) = (brokers.open_files(0), brokers.resident_mebibytes(0));
    let mut held = Vec::new();
    for _ in 0..TRIES {
        let began = Instant::now();
        held.extend(begin_handshakes(address));
        comes_in(&brokers).await.unwrap();
        // Later there would be room anyway.
        if began.elapsed() < HANDSHAKE_MAX {
            break;
        }
    }
    publish(&brokers, 0).await;
    let grown = brokers.resident_mebibytes(0).saturating_sub(before);
    println!("{} half-open connections took {grown} MiB", held.len());
    assert!(grown < 64, "{grown} MiB");
    assert_eq!(operators[0].heard.lock().ended, None);
    // Before they are closed by this side.
    eventually("all are closed", async || brokers.open_files(0) <= files).await;
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_garbage_and_half_open_connections_harms_nobody_and_leaves_nothing() {
    let (brokers, operators) = start(1, &[]).await;
    publish(&brokers, 0).await;
    let address = brokers.ports[0].internal;
    let files = brokers.open_files(0);
    let garbage: Vec<u8> = (0..64 * 1024u32).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    let said = garbage.clone();
    let mut held = VecDeque::new();
    let flood = Flood::start()
        .and(move || {
            held.extend(half_open(address));
            if held.len() > 2_000 {
                held.pop_front();
            }
        })
        .and(move || drop(TcpStream::connect(address).and_then(|mut socket| socket.write_all(&said))))
        .and(move || {
            // A record that says how long it is, and a hello of which not all comes.
            let hello = [BEGINNING, &garbage[..400]].concat();
            drop(TcpStream::connect(address).and_then(|mut socket| socket.write_all(&hello)));
        });
    let heartbeats = operators[0].heard.lock().heartbeats;
    let (began, mut resident, mut publishes) = (Instant::now(), 0, 0);
    // On a slow machine it takes longer to be one.
    while began.elapsed() < FLOOD || flood.times() < CONNECTIONS {
        assert!(began.elapsed() < PATIENCE, "{} connections are no flood", flood.times());
        publish(&brokers, 0).await;
        publishes += 1;
        resident = resident.max(brokers.resident_mebibytes(0));
    }
    eventually("a broker comes in", async || comes_in(&brokers).await.is_ok()).await;
    let took = began.elapsed();
    println!("{} connections in {took:?}: {publishes} publishes, {resident} MiB", flood.times());
    drop(flood);
    assert!(resident < MEBIBYTES_MAX, "{resident} MiB");
    {
        let heard = operators[0].heard.lock();
        assert_eq!(heard.ended, None, "the operator's stream stands");
        assert!(heard.heartbeats > heartbeats, "and the broker is heard on it");
    }
    eventually("no file descriptor is kept", async || brokers.open_files(0) <= files).await;
    let lines = brokers.log(0).matches("without a certificate of the CA was refused").count();
    assert!(lines >= 1 && lines as u64 <= 2 + began.elapsed().as_secs() / 10, "{lines} lines of {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_shows_a_certificate_and_says_nothing_is_closed() {
    let (brokers, _operators) = start(1, &[]).await;
    let files = brokers.open_files(0);
    let tls = Tls::load(&brokers.dir.path().join("tls")).unwrap();
    let socket = tokio::net::TcpStream::connect(brokers.ports[0].internal).await.unwrap();
    let name = ServerName::try_from(BROKER_NAME).unwrap();
    let mut stream = TlsConnector::from(tls.client()).connect(name, socket).await.unwrap();
    let ended = tokio::time::timeout(CLOSED_WITHIN, stream.read(&mut [0; 64])).await;
    // With or without TLS' own farewell.
    assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    eventually("nothing is kept", async || brokers.open_files(0) <= files).await;
    comes_in(&brokers).await.unwrap();
}

/// A datagram of each broker, as it sent it.
fn overheard(socket: &UdpSocket, brokers: &Brokers) -> Vec<Vec<u8>> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut of: Vec<Vec<u8>> = vec![Vec::new(); brokers.ports.len()];
    let mut buffer = vec![0; 65_536];
    while of.iter().any(Vec::is_empty) {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        if let Some(number) = brokers.ports.iter().position(|ports| ports.gossip == from) {
            of[number] = buffer[..length].to_vec();
        }
    }
    of
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_garbage_and_of_replayed_gossip_harm_nobody_and_wake_no_dead() {
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut brokers, operators) = start(3, &[&listener]).await;
    let overheard = overheard(&listener, &brokers);
    let alive = |ordinal: usize| operators[ordinal].heard.lock().alive.clone();
    eventually("gossip sees three", async || alive(0) == [0, 1, 2] && alive(1) == [0, 1, 2]).await;
    brokers.kill(2);
    eventually("gossip sees a death", async || alive(0) == [0, 1] && alive(1) == [0, 1]).await;
    let targets: Vec<SocketAddr> = brokers.ports[..2].iter().map(|ports| ports.gossip).collect();
    let (socket, replaying) = (UdpSocket::bind("127.0.0.1:0").unwrap(), targets.clone());
    let mut length = 0;
    let flood = Flood::start()
        .and(move || {
            // Whoever is too slow loses some of it: what a flood does.
            length = (length + 37) % 1_400;
            let garbage = [&[1], &vec![0xa5; length][..]].concat();
            for target in &targets {
                let _lost = socket.send_to(&garbage, target);
            }
        })
        .and(move || {
            for (target, datagram) in
                replaying.iter().flat_map(|to| overheard.iter().map(move |said| (to, said)))
            {
                let _lost = listener.send_to(datagram, target);
            }
            std::thread::sleep(Duration::from_micros(100));
        });
    let heartbeats = || [0, 1].map(|ordinal: usize| operators[ordinal].heard.lock().heartbeats);
    let (began, before, mut resident, mut publishes) = (Instant::now(), heartbeats(), 0, 0);
    while began.elapsed() < FLOOD {
        publish(&brokers, 1).await;
        publishes += 1;
        resident = resident.max(brokers.resident_mebibytes(0));
        assert!(!alive(0).contains(&2) && !alive(1).contains(&2), "a dead broker is seen alive");
    }
    println!("{} rounds of datagrams in {FLOOD:?}: {publishes} publishes, {resident} MiB", flood.times());
    drop(flood);
    assert!(resident < MEBIBYTES_MAX, "{resident} MiB");
    let after = heartbeats();
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?}, {after:?}");
    assert!(operators[..2].iter().all(|operator| operator.heard.lock().ended.is_none()));
    eventually("gossip sees both", async || alive(0) == [0, 1] && alive(1) == [0, 1]).await;
    brokers.spawn(2);
    eventually("gossip sees three", async || alive(0) == [0, 1, 2]).await;
}
