//! One broker: it keeps partitions on a volume, replicates them with its peers, and serves programs.
//!
//! Owns sockets, tasks and files. Never decides (`fulmar-core` does), and never knows of Kubernetes.

pub mod brokers;
pub mod clock;
pub mod config;
pub mod control;
pub mod dial;
pub mod directory;
pub mod gossip;
pub mod inspection;
pub mod memory;
pub mod names;
mod readiness;
pub mod replica;
mod run;
pub mod serve;
mod shutdown;
mod startup;
mod stop;
pub mod storage;
pub mod tls;
pub mod traces;

pub use self::config::Config;
pub use self::run::{RunError, run};
pub use self::shutdown::shutdown;
pub use self::startup::{Addresses, Broker, start};
