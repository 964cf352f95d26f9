//! Which ports the brokers listen on, all on loopback.
//!
//! Owns their numbers, and saying which one is taken and what for before anything starts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::exit::Failed;

/// Between the ports of one broker and those of the next: room for its five and a few to come.
const STEP: u16 = 10;

/// The usual ports are among those that systems hand out to connections, too.
const PASSING_MAX: Duration = Duration::from_secs(2);

/// So long a broker may take to stop.
const LEFTOVERS_MAX: Duration = Duration::from_secs(20);

/// The ports of one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BrokerPorts {
    pub(crate) grpc: u16,
    pub(crate) internal: u16,
    pub(crate) http: u16,
    pub(crate) gossip: u16,
    pub(crate) tcp: u16,
}

impl BrokerPorts {
    fn uses(self) -> [(u16, &'static str, bool); 5] {
        [
            (self.grpc, "gRPC", false),
            (self.internal, "internal", false),
            (self.http, "HTTP", false),
            (self.gossip, "gossip (udp)", true),
            (self.tcp, "TCP", false),
        ]
    }
}

/// Brokers that somebody else has started, each at an address of its own.
#[derive(Debug, Clone)]
pub(crate) struct Elsewhere {
    addresses: Vec<IpAddr>,
}

impl Elsewhere {
    /// `None` without addresses; refuses fewer than brokers are wanted.
    pub(crate) fn of(addresses: Vec<IpAddr>, brokers: u16) -> Result<Option<Self>, Failed> {
        match addresses.len() {
            0 => Ok(None),
            given if given < usize::from(brokers) => Err(Failed::Usage(format!(
                "--brokers-at names {given} addresses, and the Cluster has {brokers} brokers"
            ))),
            _ => Ok(Some(Self { addresses })),
        }
    }

    /// Where one broker speaks with its controller, and with programs.
    pub(crate) fn of_broker(&self, ordinal: u16) -> Option<(SocketAddr, SocketAddr)> {
        let address = *self.addresses.get(usize::from(ordinal))?;
        Some(((address, 50_052).into(), (address, 50_051).into()))
    }
}

/// The plan for all.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    base: Option<u16>,
}

/// A port on loopback.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

impl Ports {
    /// Refuses a base that leaves no room for so many brokers.
    pub(crate) fn plan(base: Option<u16>, brokers: u16) -> Result<Self, Failed> {
        let ports = Self { base };
        ports.fit(brokers)?;
        Ok(ports)
    }

    /// Whether there is room for so many brokers.
    pub(crate) fn fit(self, brokers: u16) -> Result<(), Failed> {
        let last = u32::from(self.base.unwrap_or(50_051)) + u32::from(STEP) * u32::from(brokers);
        if u16::try_from(last).is_ok() {
            return Ok(());
        }
        Err(Failed::Usage(format!("{brokers} brokers need ports up to {last}: choose a lower --port-base")))
    }

    /// Those of one broker.
    pub(crate) fn of(self, ordinal: u16) -> BrokerPorts {
        let step = STEP * ordinal;
        match self.base {
            None => BrokerPorts {
                grpc: 50_051 + step,
                internal: 50_052 + step,
                http: 8080 + step,
                gossip: 7946 + step,
                tcp: 9001 + step,
            },
            Some(base) => {
                let base = base + step;
                BrokerPorts {
                    grpc: base,
                    internal: base + 1,
                    http: base + 2,
                    gossip: base + 3,
                    tcp: base + 4,
                }
            }
        }
    }

    /// As [`check_free`](Self::check_free), but what passes is waited for: somebody's connection that has one of the numbers
    /// for a moment, or the brokers of a `fulmar dev` that was killed, which stop by themselves.
    pub(crate) async fn wait_free(self, brokers: Range<u16>, has_leftovers: bool) -> Result<(), Failed> {
        let deadline = Instant::now() + if has_leftovers { LEFTOVERS_MAX } else { PASSING_MAX };
        loop {
            match self.check_free(brokers.clone()) {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(100)).await,
                verdict => return verdict,
            }
        }
    }

    /// Names every port of these brokers that is taken.
    pub(crate) fn check_free(self, brokers: Range<u16>) -> Result<(), Failed> {
        let mut taken = Vec::new();
        for ordinal in brokers {
            for (port, what, is_udp) in self.of(ordinal).uses() {
                let bound = if is_udp {
                    UdpSocket::bind(loopback(port)).map(drop)
                } else {
                    TcpListener::bind(loopback(port)).map(drop)
                };
                if let Err(error) = bound {
                    taken.push(format!("\n  127.0.0.1:{port}, {what} of broker {ordinal}: {error}"));
                }
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        Err(Failed::Failure(format!(
            "these ports cannot be used; free them, or move all with --port-base:{}",
            taken.concat()
        )))
    }
}

#[cfg(test)]
#[path = "ports_tests.rs"]
mod tests;
