//! Promise: whoever reaches the ports between brokers and floods them stops nothing. Publishes are acknowledged, nobody is deposed, no
//! broker comes near the limit of its memory, and nothing is kept when it is over.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::ensure;
use fulmar_e2e::brokers::{Brokers, SOON, cluster, topic};
use fulmar_e2e::load::Load;
use fulmar_e2e::nodes::Process;
use fulmar_e2e::{gossip, wait};
use rustix::process::{Resource, getrlimit, setrlimit};

const TOPIC: &str = "events";

/// Longer than a broker waits for a handshake, or an operator for a broker.
const FLOOD: Duration = Duration::from_secs(15);

/// At a time, of connections whose TLS handshake never ends.
const HALF_OPEN: usize = 2_000;

/// The limit of the Clusters' brokers, at which the kernel ends them.
const MEMORY_BYTES: u64 = 256 << 20;

/// Between two connections of one thread: both sides, and all of Kubernetes, share two processors.
const CONNECTIONS_APART: Duration = Duration::from_micros(500);

/// Between two rounds of datagrams of one thread: thousands in a second.
const ROUNDS_APART: Duration = Duration::from_millis(5);

/// Beside those of the flood, connections come and go.
const FILES_APART: usize = 16;

/// A publish waits for brokers that share their processors with the flood; a leader that is replaced takes as long, and has another epoch.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Threads that do something again and again until this is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start() -> Self {
        Self { stop: Arc::default(), threads: Vec::new() }
    }

    /// Gives the number of times that it was done.
    fn of(&mut self, apart: Duration, mut again: impl FnMut(u64) + Send + 'static) -> Arc<AtomicU64> {
        let (stop, times) = (self.stop.clone(), Arc::new(AtomicU64::new(0)));
        let counted = times.clone();
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                again(counted.fetch_add(1, Ordering::Relaxed));
                std::thread::sleep(apart);
            }
        }));
        times
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

/// One that does not come about is one of a flood all the same.
fn connect(to: SocketAddr, said: &[u8]) -> Option<TcpStream> {
    let mut socket = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
    // It may be closed before all of it was written.
    let _refused = socket.write_all(said);
    Some(socket)
}

fn one_of(pods: &[Ipv4Addr], number: u64, port: u16) -> SocketAddr {
    let count = u64::try_from(pods.len()).unwrap();
    SocketAddr::from((pods[usize::try_from(number % count).unwrap()], port))
}

/// The flood's ends of its connections, beside the tools that a test runs.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// All of it at once, on all brokers; gives what counts each sort.
fn begin(flood: &mut Flood, pods: &[Ipv4Addr], overheard: Vec<Vec<u8>>) -> [Arc<AtomicU64>; 4] {
    let garbage: Vec<u8> = (0..64 * 1024u32).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
    let mut held = VecDeque::new();
    let of = pods.to_vec();
    let half_open = flood.of(CONNECTIONS_APART, move |number| {
        // The beginning of a TLS record with a hello.
        held.extend(connect(one_of(&of, number, 50052), b"\x16\x03\x01\x02\x00\x01"));
        if held.len() > HALF_OPEN {
            held.pop_front();
        }
    });
    let (of, said) = (pods.to_vec(), garbage.clone());
    let connections =
        flood.of(CONNECTIONS_APART, move |number| drop(connect(one_of(&of, number, 50052), &said)));
    let (of, socket) = (pods.to_vec(), UdpSocket::bind("0.0.0.0:0").unwrap());
    let datagrams = flood.of(ROUNDS_APART, move |number| {
        for (size, pod) in (0..30).zip(of.iter().cycle()) {
            let length = usize::try_from(number).unwrap() * 31 % 1400 + size;
            // What a queue has no room for is lost, as floods do.
            let _lost = socket.send_to(&garbage[..length], (*pod, gossip::PORT));
        }
    });
    let (of, socket) = (pods.to_vec(), UdpSocket::bind("0.0.0.0:0").unwrap());
    let replays = flood.of(ROUNDS_APART, move |_| {
        for (said, pod) in overheard.iter().flat_map(|said| of.iter().map(move |pod| (said, pod))) {
            let _lost = socket.send_to(said, (*pod, gossip::PORT));
        }
    });
    [half_open, connections, datagrams, replays]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_on_the_ports_between_brokers_stop_nothing_and_leave_nothing() {
    allow_many_files();
    let brokers = Brokers::apply("floods", &(cluster(3) + &topic(TOPIC, 3, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let leaders = brokers.await_whole(TOPIC).await.unwrap();
    let (writing, reading) = (brokers.client(0).await.unwrap(), brokers.client(1).await.unwrap());
    let load = Load::start(&writing, &reading, TOPIC, 3, 50052).await.unwrap();
    let pods: Vec<Ipv4Addr> = (0..3).map(|broker| brokers.pod_ip(broker).unwrap().parse().unwrap()).collect();
    let processes: Vec<Process> = (0..3).map(|broker| brokers.process(broker).unwrap()).collect();
    let files: Vec<usize> = processes.iter().map(|process| process.open_files().unwrap()).collect();
    let overheard = gossip::overhear(&pods, 4).unwrap();
    let epochs = brokers.epochs().unwrap();

    let (began, mut flood, mut memory) = (Instant::now(), Flood::start(), 0);
    let counts = begin(&mut flood, &pods, overheard);
    while began.elapsed() < FLOOD {
        for process in &processes {
            memory = memory.max(process.memory_bytes().expect("no broker ended"));
        }
        tokio::time::sleep(wait::LOOK_AGAIN).await;
    }
    drop(flood);
    let counts = counts.map(|count| count.load(Ordering::Relaxed));
    println!("half-open, garbage, datagrams x 30, replays x 36: {counts:?}; {} MiB at most", memory >> 20);
    assert!(counts.iter().all(|count| *count > 500), "no flood: {counts:?}");
    assert!(memory < MEMORY_BYTES * 3 / 4, "{} MiB", memory >> 20);

    wait::until_so("no file descriptor is kept", SOON, || {
        for (process, before) in processes.iter().zip(&files) {
            let now = process.open_files()?;
            ensure!(now <= before + FILES_APART, "process {} had {before}, has {now}", process.id);
        }
        Ok(true)
    })
    .unwrap();
    let outcome = load.stop().await.unwrap();
    let longest: Vec<Duration> =
        (0..3).map(|partition| outcome.longest(partition, began, began + FLOOD)).collect();
    println!("the longest wait of each partition: {longest:?}");
    assert!(longest.iter().all(|longest| *longest < STALL_MAX), "{longest:?}");
    assert_eq!(brokers.epochs().unwrap(), epochs, "no leader was changed");
    assert_eq!(brokers.await_whole(TOPIC).await.unwrap(), leaders);
    for (broker, before) in (0..).zip(&processes) {
        assert_eq!(brokers.process(broker).unwrap(), *before, "broker {broker} was started again");
    }
    outcome.acknowledged.compare(&writing, TOPIC).await.unwrap();
}
