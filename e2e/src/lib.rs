//! What the end-to-end tests share: the environment that `cargo xtask test` made for them, and the machines below it.
//!
//! The tests are in `tests/`, a file for each promise. They run one at a time, inside the namespaces of the cluster. Nothing here
//! starts a cluster: the scripts in `kubernetes/` do.

// A test tells in its output what it saw.
#![allow(clippy::print_stdout, clippy::print_stderr)]

pub mod audit;
pub mod brokers;
pub mod clients;
pub mod environment;
mod evidence;
pub mod floor;
pub mod gossip;
pub mod health;
pub mod identities;
pub mod installation;
pub mod labels;
mod leftovers;
pub mod load;
pub mod monitors;
pub mod namespaces;
pub mod nodes;
pub mod operators;
pub mod page;
pub mod pods;
pub mod policies;
pub mod proxy;
pub mod records;
pub mod remains;
pub mod rests;
pub mod rights;
pub mod verdicts;
pub mod volumes;
pub mod wait;
