//! A way from outside of Kubernetes to the brokers of a Cluster, which outlives the pod at its other end.
//!
//! Owns a port on loopback and the `kubectl port-forward` behind it: a connection that finds none, or one that leads nowhere any more, gets
//! a new one, and the address stays. Never looks into what passes.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::io::{self, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::forward::Forward;
use crate::kubectl::{Kubectl, KubectlError};

/// Where brokers answer gRPC; the Service of a Cluster has its name and this port.
const GRPC: u16 = 50051;

/// `bench` has a thousand at most, and the SDK a few for each broker; more wait to be accepted.
const CONNECTIONS_MAX: usize = 2048;

/// How long is waited for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Until kubectl has opened a port-forward: it waits for the API server, and for a plugin that asks somebody for a password.
    up: Duration,
    /// For the first word of a broker that was spoken to: it answers at once. Less than the SDK's patience with a connection, 5 s, so that
    /// here is noticed who is mute before the SDK hangs up.
    mute: Duration,
    /// For a way that works, after one was lost: all brokers of a Cluster are started anew in less.
    away: Duration,
    /// From one kubectl to the next, for the API server's sake.
    again: Duration,
}

impl Patience {
    /// What a person is asked for.
    pub(crate) const DEFAULT: Self = Self {
        up: Duration::from_secs(30),
        mute: Duration::from_secs(4),
        away: Duration::from_mins(2),
        again: Duration::from_secs(1),
    };
}

/// See the module. It must be closed, or a kubectl may outlive the process.
pub(crate) struct Tunnel {
    address: SocketAddr,
    carrier: Arc<Carrier>,
    carrying: JoinHandle<String>,
}

impl Tunnel {
    /// Opens a way to the brokers of a Cluster.
    pub(crate) async fn open(
        kubectl: Kubectl,
        cluster: &str,
        patience: Patience,
    ) -> Result<Self, KubectlError> {
        let failed = |error: io::Error| KubectlError::Failed(format!("cannot listen on loopback: {error}"));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let carrier = Arc::new(Carrier {
            kubectl,
            cluster: cluster.to_owned(),
            patience,
            current: tokio::sync::Mutex::default(),
            lost: Mutex::default(),
        });
        carrier.current.lock().await.open(&carrier).await?;
        let carrying = tokio::spawn(Arc::clone(&carrier).carry(listener));
        Ok(Self { address, carrier, carrying })
    }

    /// Where brokers are reached.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Completes when there is no way any more and none will come; says why. To be asked no more after that.
    pub(crate) async fn broken(&mut self) -> String {
        match (&mut self.carrying).await {
            Ok(why) => why,
            Err(error) => format!("the port-forward ended: {error}"),
        }
    }

    /// Ends kubectl.
    pub(crate) async fn close(self) {
        // One that completed must not be asked twice.
        if !self.carrying.is_finished() {
            self.carrying.abort();
            let _aborted = self.carrying.await;
        }
        let forward = self.carrier.current.lock().await.forward.take();
        if let Some(forward) = forward {
            forward.close().await;
        }
    }
}

/// The way that is taken now.
#[derive(Default)]
struct Current {
    forward: Option<Forward>,
    /// Which one it is: it is given up only once, however many connections find out.
    number: u64,
    opened: Option<Instant>,
}

impl Current {
    async fn open(&mut self, carrier: &Carrier) -> Result<(), KubectlError> {
        let Carrier { kubectl, cluster, patience, .. } = carrier;
        self.forward = None;
        self.opened = Some(Instant::now());
        let target = format!("service/{cluster}");
        self.forward = Some(Forward::open(kubectl, &kubectl.place(), &target, &[GRPC], patience.up).await?);
        self.number += 1;
        Ok(())
    }
}

/// Carries bytes.
struct Carrier {
    kubectl: Kubectl,
    cluster: String,
    patience: Patience,
    current: tokio::sync::Mutex<Current>,
    /// Since when no broker has said a word through any way.
    lost: Mutex<Option<Instant>>,
}

impl Carrier {
    /// Carries all connections in one task, so that everything goes with it. Ends when there is no way any more, and says why.
    async fn carry(self: Arc<Self>, listener: TcpListener) -> String {
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((program, _)) => connections.push(self.connect(program)),
                    Err(error) => return format!("cannot accept connections on loopback: {error}"),
                },
                Some(ended) = connections.next() => if let Err(why) = ended {
                    return why;
                },
            }
        }
    }

    async fn connect(&self, program: TcpStream) -> Result<(), String> {
        let (number, address) = self.way().await?;
        // Whoever is not carried tries again, as after every lost connection.
        let is_good = match TcpStream::connect(address).await {
            Ok(broker) => self.carry_one(program, broker).await,
            Err(_) => false,
        };
        if is_good { Ok(()) } else { self.give_up(number).await }
    }

    /// A way that seems to be good, after what it takes to have one.
    async fn way(&self) -> Result<(u64, SocketAddr), String> {
        let mut current = self.current.lock().await;
        let started = Instant::now();
        loop {
            let number = current.number;
            if let Some(forward) = &mut current.forward
                && forward.lives()
            {
                return Ok((number, forward.address(GRPC)));
            }
            if let Some(opened) = current.opened {
                tokio::time::sleep_until(opened + self.patience.again).await;
            }
            let Err(error) = current.open(self).await else { continue };
            let is_final = match &error {
                KubectlError::Missing { .. } => true,
                KubectlError::Failed(_) | KubectlError::TimedOut(_) | KubectlError::TooLarge(_) => {
                    error.is_not_found("services", &self.cluster)
                }
            };
            if is_final || started.elapsed() >= self.patience.away {
                return Err(self.given_up(&error.to_string()));
            }
        }
    }

    fn given_up(&self, why: &str) -> String {
        format!("the port-forward to service/{} ended, and there is no other: {why}", self.cluster)
    }

    /// It leads nowhere.
    async fn give_up(&self, number: u64) -> Result<(), String> {
        let mut current = self.current.lock().await;
        if current.number != number {
            return Ok(());
        }
        current.forward = None;
        let lost = *self.lost().get_or_insert_with(Instant::now);
        if lost.elapsed() >= self.patience.away {
            return Err(self.given_up("no broker says a word"));
        }
        Ok(())
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries one connection to its end. Returns false if nobody was at the other end.
    async fn carry_one(&self, program: TcpStream, broker: TcpStream) -> bool {
        // Questions and answers are small.
        let _slower = program.set_nodelay(true).and(broker.set_nodelay(true));
        let (mut from_program, mut to_program) = program.into_split();
        let (mut from_broker, mut to_broker) = broker.into_split();
        let has_left = AtomicBool::new(false);
        let up = async {
            let _ended = io::copy(&mut from_program, &mut to_broker).await;
            has_left.store(true, Ordering::Relaxed);
            let _gone = to_broker.shutdown().await;
            std::future::pending::<bool>().await
        };
        let down = async {
            let mut first = vec![0; 16 * 1024];
            let read = tokio::time::timeout(self.patience.mute, from_broker.read(&mut first)).await;
            let length = read.map_or(0, |read| read.unwrap_or(0));
            if length == 0 {
                // To who has hung up nobody need say anything.
                return has_left.load(Ordering::Relaxed);
            }
            *self.lost() = None;
            if to_program.write_all(&first[..length]).await.is_ok() {
                let _ended = io::copy(&mut from_broker, &mut to_program).await;
                let _gone = to_program.shutdown().await;
            }
            true
        };
        tokio::select! {
            is_good = down => is_good,
            never = up => never,
        }
    }
}

#[cfg(test)]
#[path = "tunnel_tests.rs"]
mod tests;
