//! Real brokers as child processes on loopback, a certificate authority of their own, and an operator that says what a
//! test tells it to.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its part")]
#![allow(clippy::print_stderr, reason = "a failed test shows the end of its brokers' logs")]

pub mod browser;
pub mod collector;
pub mod http;
pub mod operator;
pub mod ports;
pub mod web;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fulmar_proto::internal::v1::OperatorHello;
use fulmar_proto::v1::pub_sub_client::PubSubClient;
use fulmar_proto::v1::{PublishRequest, PublishResponse, SubscribeRequest, SubscribeResponse};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Status, Streaming};
use tonic_types::StatusExt;

use self::operator::Operator;
use self::ports::Block;

/// Far beyond what anything here takes on a machine that is busy with other tests: only what never comes is waited for so long.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A certificate authority and what it has signed.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: String,
}

/// A certificate and its key, PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub fn sign(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub fn client(&self, name: &str) -> ClientTlsConfig {
        let pair = self.sign(name);
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.certificate))
            .identity(Identity::from_pem(pair.certificate, pair.key))
            .domain_name("broker.fulmar.internal")
    }
}

/// Where one broker is reached.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    pub grpc: SocketAddr,
    pub http: SocketAddr,
    pub tcp: SocketAddr,
    pub internal: SocketAddr,
    pub gossip: SocketAddr,
}

impl Ports {
    fn from(base: u16) -> Self {
        let at = |step| SocketAddr::from((Ipv4Addr::LOCALHOST, base + step));
        Self { grpc: at(0), http: at(1), internal: at(2), gossip: at(3), tcp: at(4) }
    }
}

/// Some brokers.
pub struct Brokers {
    pub dir: TempDir,
    pub authority: Authority,
    pub ports: Vec<Ports>,
    children: Vec<Option<Child>>,
    flags: Vec<String>,
    _block: Block,
}

impl Brokers {
    /// Starts so many.
    pub fn start(count: usize) -> Self {
        Self::start_with(count, &[])
    }

    /// Starts so many, with more flags.
    pub fn start_with(count: usize, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let pair = authority.sign("broker.fulmar.internal");
        let tls = dir.path().join("tls");
        std::fs::create_dir(&tls).unwrap();
        for (name, content) in [
            ("ca.crt", &authority.certificate),
            ("tls.crt", &pair.certificate),
            ("tls.key", &pair.key),
            ("gossip.key", &"5a".repeat(32)),
        ] {
            std::fs::write(tls.join(name), content).unwrap();
        }
        let block = Block::take();
        let ports = (block.base..).step_by(5).map(Ports::from).take(count).collect();
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let children = (0..count).map(|_| None).collect();
        let mut brokers = Self { dir, authority, ports, children, flags, _block: block };
        (0..count).for_each(|ordinal| brokers.spawn(ordinal));
        brokers
    }

    pub fn data(&self, ordinal: usize) -> PathBuf {
        self.dir.path().join(format!("data-{ordinal}"))
    }

    pub fn log(&self, ordinal: usize) -> String {
        std::fs::read_to_string(self.log_path(ordinal)).unwrap_or_default()
    }

    fn log_path(&self, ordinal: usize) -> PathBuf {
        self.dir.path().join(format!("log-{ordinal}"))
    }

    pub fn command(&self, ordinal: usize) -> Command {
        let ports = self.ports[ordinal];
        let seeds: Vec<String> = self.ports.iter().map(|ports| ports.gossip.to_string()).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fulmar-broker"));
        command
            .args(["--name", &format!("orders-{ordinal}"), "--data"])
            .arg(self.data(ordinal))
            .arg("--tls")
            .arg(self.dir.path().join("tls"))
            .args(["--grpc-address", &ports.grpc.to_string(), "--http-address", &ports.http.to_string()])
            .args([
                "--internal-address",
                &ports.internal.to_string(),
                "--tcp-address",
                &ports.tcp.to_string(),
            ])
            .args(["--gossip-address", &ports.gossip.to_string(), "--advertise-host", "127.0.0.1"])
            .args(["--seeds", &seeds.join(","), "--memory-limit", "256Mi", "--journal-slot-size", "16Mi"])
            .args(["--log-level", "info,fulmar_broker=debug"])
            .args(&self.flags);
        command
    }

    /// Starts one (again), and waits until it serves.
    pub fn spawn(&mut self, ordinal: usize) {
        let before = self.log(ordinal).len();
        self.launch(ordinal);
        let until = Instant::now() + PATIENCE;
        while !self.log(ordinal)[before..].contains("the broker serves")
            || std::net::TcpStream::connect(self.ports[ordinal].grpc).is_err()
        {
            assert!(!self.has_ended(ordinal), "broker {ordinal} has ended:\n{}", self.log(ordinal));
            assert!(Instant::now() < until, "broker {ordinal} does not start:\n{}", self.log(ordinal));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts one (again), and waits for nothing: it may be meant to end soon.
    pub fn launch(&mut self, ordinal: usize) {
        let log = File::options().create(true).append(true).open(self.log_path(ordinal)).unwrap();
        let child =
            self.command(ordinal).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.children[ordinal] = Some(child);
    }

    /// kill -9.
    pub fn kill(&mut self, ordinal: usize) {
        let mut child = self.children[ordinal].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self, ordinal: usize) -> std::process::ExitStatus {
        let mut child = self.children[ordinal].take().unwrap();
        signal(&child, rustix::process::Signal::TERM);
        child.wait().unwrap()
    }

    /// Gives it a signal. One that is stopped does nothing any more when this returns: its threads stop one after the other, on a
    /// machine with much to do some a while after the call.
    pub fn signal(&self, ordinal: usize, signal_: rustix::process::Signal) {
        use rustix::process::{Signal, WaitId, WaitIdOptions, waitid};
        let child = self.children[ordinal].as_ref().unwrap();
        signal(child, signal_);
        if signal_ == Signal::STOP {
            let all = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
            waitid(WaitId::Pid(pid(child)), all).unwrap();
        }
    }

    /// Resident memory, in MiB; 0 where the system does not tell.
    pub fn resident_mebibytes(&self, ordinal: usize) -> u64 {
        self.mebibytes(ordinal, "VmRSS:")
    }

    /// The most that was ever resident, in MiB: what was taken for a moment is seen too. 0 where the system does not tell.
    pub fn peak_mebibytes(&self, ordinal: usize) -> u64 {
        self.mebibytes(ordinal, "VmHWM:")
    }

    fn mebibytes(&self, ordinal: usize, name: &str) -> u64 {
        let pid = self.children[ordinal].as_ref().unwrap().id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|kibibytes| kibibytes.parse::<u64>().ok()).unwrap_or(0) / 1024
    }

    /// How many files, sockets included, its process has open; 0 where the system does not tell.
    pub fn open_files(&self, ordinal: usize) -> usize {
        let pid = self.children[ordinal].as_ref().unwrap().id();
        std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
    }

    pub fn has_ended(&mut self, ordinal: usize) -> bool {
        self.children[ordinal].as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    pub async fn operator(&self, ordinal: usize, cluster: &str) -> Operator {
        self.try_operator(ordinal, cluster, 1).await.unwrap()
    }

    pub async fn try_operator(&self, ordinal: usize, cluster: &str, epoch: u64) -> Result<Operator, String> {
        self.greet(ordinal, operator::hello(ordinal, cluster, epoch)).await
    }

    pub async fn greet(&self, ordinal: usize, hello: OperatorHello) -> Result<Operator, String> {
        let channel = self.internal(ordinal, self.authority.client("operator.fulmar.internal")).await;
        let channel = channel.map_err(|error| format!("{error:?}"))?;
        Operator::greet(channel, hello).await
    }

    pub async fn internal(
        &self,
        ordinal: usize,
        tls: ClientTlsConfig,
    ) -> Result<Channel, tonic::transport::Error> {
        let address = format!("https://{}", self.ports[ordinal].internal);
        Endpoint::from_shared(address).unwrap().tls_config(tls)?.connect().await
    }

    pub async fn channel(&self, ordinal: usize) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.ports[ordinal].grpc))
            .unwrap()
            .connect()
            .await
            .unwrap()
    }

    pub async fn pubsub(&self, ordinal: usize) -> PubSubClient<Channel> {
        PubSubClient::new(self.channel(ordinal).await).max_decoding_message_size(16 << 20)
    }

    /// Publishes at this broker. While it says that nobody leads it is asked again, as by any program: nothing was appended, and for
    /// how long brokers look for a leader by themselves is not what is tested.
    pub async fn publish(&self, ordinal: usize, request: &PublishRequest) -> PublishResponse {
        patiently(async || self.pubsub(ordinal).await.publish(request.clone()).await).await
    }

    /// Subscribes at this broker, in the same way.
    pub async fn subscribe(
        &self,
        ordinal: usize,
        request: &SubscribeRequest,
    ) -> Streaming<SubscribeResponse> {
        patiently(async || self.pubsub(ordinal).await.subscribe(request.clone()).await).await
    }
}

async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<tonic::Response<T>, Status>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(response) => return response.into_inner(),
            Err(status) if nobody_leads(&status) && Instant::now() < until => {}
            Err(status) => panic!("{status:?}"),
        }
    }
}

/// Whether a broker says that nobody leads just now, and that nothing was appended.
pub fn nobody_leads(status: &Status) -> bool {
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    let passes = ["NOT_LEADER", "MOVING", "NOT_ENOUGH_REPLICAS", "NOT_SERVING"];
    reason.is_some_and(|reason| passes.contains(&reason.as_str()))
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(pid(child), signal).unwrap();
}

fn pid(child: &Child) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
}

impl Drop for Brokers {
    fn drop(&mut self) {
        for (ordinal, child) in self.children.iter_mut().enumerate() {
            if let Some(child) = child {
                let _ended = child.kill();
                let _ended = child.wait();
            }
            if std::thread::panicking() {
                let path: &Path = self.dir.path();
                let log = std::fs::read_to_string(path.join(format!("log-{ordinal}"))).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(60).collect();
                eprintln!("--- broker {ordinal}");
                tail.iter().rev().for_each(|line| eprintln!("{line}"));
            }
        }
    }
}

/// Waits for something to come true.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
