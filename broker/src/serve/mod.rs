//! What programs meet: gRPC, HTTP and TCP, one way into the replicas behind all.
//!
//! Owns requests, their limits and their errors. Never decides who leads, and never appends anything twice.

mod carried;
pub mod convert;
pub mod cors;
pub mod error;
mod feed;
mod find;
mod follower;
mod forward;
mod growth;
pub mod grpc;
mod handshakes;
pub mod http;
mod inflow;
pub mod listen;
mod lookup;
mod metered;
pub mod metrics;
mod offsets;
pub mod outflow;
mod publish;
mod pull;
mod read;
mod reception;
mod subscribe;
pub mod tcp;
mod unread;
mod web;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use fulmar_core::id::Ordinal;
use fulmar_proto::v1::ErrorReason;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use self::error::Failure;
use self::forward::Channels;
use self::metrics::Metrics;
use crate::brokers::Brokers;
use crate::directory::Changing;
use crate::memory::{Budget, Shares};
use crate::replica::Replicas;
use crate::tls::Tls;
use crate::traces::Traces;

/// A call without a deadline of its own gets this one: no call waits for ever.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// The longest deadline of a unary call that is obeyed.
pub const DEADLINE_MAX: Duration = Duration::from_mins(5);
/// In the metadata of what a broker passes on: it is not passed on again.
pub const FORWARDED: &str = "fulmar-forwarded";

/// The way in; a handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Door {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    replicas: Replicas,
    directory: Changing,
    brokers: Brokers,
    channels: Channels,
    attached: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    traces: Traces,
    /// Streams of programs end: they go to another broker.
    stop: CancellationToken,
    /// Where the next record without a key goes.
    turn: AtomicU32,
    /// Unknown names that are asked about.
    asking: Semaphore,
    /// Memory of answers on their way to programs' sockets.
    answers: Budget,
    /// Memory of programs' messages that arrive.
    requests: Budget,
    /// A program that reads nothing for so long is cut off.
    stall_max: Duration,
}

/// What a door is made of.
#[derive(Debug)]
pub struct Parts {
    /// The replicas here.
    pub replicas: Replicas,
    /// Topics and leaders.
    pub directory: Changing,
    /// The other brokers.
    pub brokers: Brokers,
    /// For calling them.
    pub tls: Tls,
    /// Whether an operator is attached.
    pub attached: watch::Receiver<bool>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What sampled records are traced with.
    pub traces: Traces,
    /// Ends programs' streams.
    pub stop: CancellationToken,
    /// How much memory answers and requests may take.
    pub shares: Shares,
    /// A program that reads nothing for so long is cut off.
    pub stall_max: Duration,
}

impl Door {
    /// Opens for nobody yet: servers are given it.
    pub fn new(parts: Parts) -> Self {
        let Parts { replicas, directory, brokers, tls, attached, metrics, traces, stop, shares, stall_max } =
            parts;
        let channels = Channels::new(brokers.clone(), tls);
        let turn = AtomicU32::new(rand::random());
        Self {
            shared: Arc::new(Shared {
                replicas,
                directory,
                brokers,
                channels,
                attached,
                metrics,
                traces,
                stop,
                turn,
                asking: Semaphore::new(find::ASKING_MAX),
                answers: Budget::new(shares.answers),
                requests: Budget::new(shares.requests),
                stall_max,
            }),
        }
    }

    /// What messages of programs may take while they arrive.
    pub fn requests(&self) -> Budget {
        self.shared.requests.clone()
    }

    /// For streams that end because this broker stops.
    fn leaving() -> Failure {
        Failure::new(ErrorReason::NotServing, "this broker is stopping: go on at another one")
    }

    /// This broker.
    fn me(&self) -> Ordinal {
        self.shared.replicas.me().ordinal
    }
}
