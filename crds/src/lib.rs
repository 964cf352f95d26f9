//! The resources of `fulmar.dev/v1alpha1`: their Rust types, the YAML made from them, and what is checked of them.
//!
//! Owns: the shape of [`Cluster`], [`Topic`] and [`PartitionTable`]; the rules that the API server checks, written
//! once, beside the fields ([`definition`] makes the CRDs from them); the same checks without an API server
//! ([`admission`]); and the step from a raw spec to checked values ([`validate`]), which is the only thing that the
//! operator and `fulmar dev` read.
//!
//! Never: reconciles, talks to an API server, or decides where a partition lives.

// kube's derive copies each struct, its `pub` included, into a function.
#![allow(unreachable_pub)]
// The docs of fields are what `kubectl explain` prints: there, a backtick is a backtick.
#![allow(clippy::doc_markdown)]

pub mod admission;
pub mod cluster;
pub mod corpus;
pub mod definition;
pub mod partition_table;
pub mod pod;
pub mod quantity;
pub mod resources;
pub mod status;
pub mod topic;
pub mod validate;

pub use cluster::{Cluster, ClusterSpec, ClusterStatus};
pub use partition_table::{PartitionTable, PartitionTableSpec};
pub use topic::{Topic, TopicSpec, TopicStatus};
pub use validate::{ClusterSettings, SettingsError, TopicSettings};

/// The API group of all resources.
pub const GROUP: &str = "fulmar.dev";

/// The only version of the group that is served.
pub const VERSION: &str = "v1alpha1";

/// `apiVersion` as it stands in a manifest.
pub const API_VERSION: &str = "fulmar.dev/v1alpha1";
