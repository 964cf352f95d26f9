//! `PartitionTable`: where the operator keeps what it decided, before it tells the brokers.
//!
//! Owns the shape of a page. Never: what a line says; the codec of lines is `fulmar-core`'s.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most lines of a page. The operator starts a new page at 64 KiB, which is some hundreds of lines; this bound is
/// for the API server, and keeps the worst page below the 3 MiB that it accepts in one request.
pub const LINES_MAX: usize = 20_000;

/// The longest line: a partition with two sets of seven replicas each takes less than 512 bytes, a topic with the
/// longest name and all its settings less than 1 KiB.
pub const LINE_LENGTH_MAX: usize = 2_048;

/// One page of the partition table.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[kube(
    group = "fulmar.dev",
    version = "v1alpha1",
    kind = "PartitionTable",
    namespaced,
    derive = "PartialEq",
    doc = "A PartitionTable is internal: it is where the operator keeps which broker holds and leads which partition, before it tells the brokers. Only the operator writes it. Do not edit, copy or restore it by hand."
)]
#[x_kube(
    validation = Rule::new("self.role == oldSelf.role && self.clusterId == oldSelf.clusterId")
        .message("role and clusterId cannot be changed after the page is created")
        .reason(Reason::FieldValueForbidden),
    validation = Rule::new("self.controllerEpoch >= oldSelf.controllerEpoch")
        .message(Message::Expression("'controllerEpoch can only grow: the page has %d, and %d is less'.format([oldSelf.controllerEpoch, self.controllerEpoch])".into()))
        .reason(Reason::FieldValueForbidden)
        .field_path(".controllerEpoch")
)]
#[serde(rename_all = "camelCase")]
pub struct PartitionTableSpec {
    /// Root is the one page that lists the brokers and the other pages; Page holds partitions. A page that the root does
    /// not list does not exist.
    pub role: PageRole,

    /// The id of the Cluster that the page belongs to, a UUID in lower case.
    #[schemars(
        length(min = 36, max = 36),
        regex(pattern = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
    )]
    pub cluster_id: String,

    /// The epoch of the operator that wrote the page. Every operator that takes over raises it; it never falls, so an
    /// operator that was replaced cannot write any more.
    #[schemars(range(min = 0))]
    pub controller_epoch: i64,

    /// What the page says: one line for each broker, topic or partition.
    #[serde(default)]
    #[schemars(length(max = 20_000), inner(length(max = 2_048)), extend("x-kubernetes-list-type" = "atomic"))]
    pub lines: Vec<String>,
}

/// What a page is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageRole {
    /// The one page that lists the brokers and the other pages.
    Root,
    /// A page of partitions.
    Page,
}
