//! The operator: it turns `Cluster` and `Topic` objects into brokers that serve, and writes back what is true.
//!
//! Owns everything of Fulmar that knows Kubernetes: watching objects, making a Cluster's children, the partition table's
//! ledger, certificates, electing itself by a Lease, statuses and Events. Never: decides which broker holds or leads a
//! partition (`fulmar-core` does, carried out by `fulmar-steward`), and never touches records.
//!
//! The way of a change: [`watches`] wake the task of the Cluster concerned ([`clusters`]); the task goes through phases
//! that one can see, `dereference → validate → build → apply → status`, in [`cluster`] and [`topic`].

pub mod api;
pub mod cache;
pub mod census;
pub mod certificates;
pub mod cluster;
pub mod clusters;
pub mod conditions;
mod config;
pub mod context;
pub mod events;
pub mod http;
pub mod lease;
pub mod ledger;
pub mod metrics;
pub mod names;
pub mod pods;
mod run;
pub mod statuses;
pub mod topic;
pub mod watches;

pub use config::{Command, Config, Line};
pub use run::run;
