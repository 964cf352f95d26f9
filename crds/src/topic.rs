//! `Topic`: a named log of records in a Cluster, in one or more partitions.
//!
//! Owns the fields, their defaults, bounds and rules. Never: which broker holds a partition.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::conditions;

/// The most partitions that one Topic may have. Each costs every one of its brokers a little memory and every change
/// of leader a line in the partition table.
pub const PARTITIONS_MAX: i32 = 1024;

/// The most replicas that a partition may have: more than seven copies is a mistake, not safety.
pub const REPLICATION_FACTOR_MAX: i32 = 7;

/// The longest name of a topic, in bytes: what is left of a file's name of 255 bytes after a suffix, as in Kafka.
pub const TOPIC_NAME_LENGTH_MAX: usize = 249;

/// The largest `maxMessageBytes`. A batch is held in memory as a whole on each of its brokers.
pub const MESSAGE_BYTES_MAX: u32 = 8 << 20;

/// A Topic with more partitions than this shows no list of them in its status: the status is written at every change
/// of a leader, and 64 lines is what a person reads.
pub const STATUS_PARTITIONS_MAX: usize = 64;

/// The annotation by which a person accepts a loss of records, for a partition in an epoch: `PARTITION:EPOCH`, several separated
/// by commas. Each acts at most once.
pub const ACCEPT_DATA_LOSS: &str = "fulmar.dev/accept-data-loss";

/// What is wanted of a Topic.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "fulmar.dev",
    version = "v1alpha1",
    kind = "Topic",
    namespaced,
    status = "TopicStatus",
    derive = "PartialEq",
    shortname = "flt",
    category = "fulmar",
    selectable = ".spec.clusterRef.name",
    doc = "A Topic is a named log of records in a Cluster of the same namespace. Its records are spread over partitions; each partition is one order of records, kept by replicationFactor brokers.",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".spec.clusterRef.name"),
    printcolumn(name = "Partitions", type_ = "integer", json_path = ".spec.partitions"),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".status.replicationFactor",
        description = "Brokers that keep each partition"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "True when every partition accepts and commits records"
    ),
    printcolumn(
        name = "UnderReplicated",
        type_ = "integer",
        json_path = ".status.underReplicated",
        description = "Partitions with fewer replicas in sync than they should have"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why Ready is what it is"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new(
        "(has(self.spec.topicName) ? self.spec.topicName : self.metadata.name) == (has(oldSelf.spec.topicName) ? oldSelf.spec.topicName : oldSelf.metadata.name)"
    )
    .message(Message::Expression(
        "'topicName cannot be changed after the Topic is created: it is %s'.format([has(oldSelf.spec.topicName) ? oldSelf.spec.topicName : oldSelf.metadata.name])".into()
    ))
    .reason(Reason::FieldValueForbidden)
    .field_path(".spec.topicName"),
    validation = Rule::new("oldSelf.hasValue() || has(self.spec.topicName) || size(self.metadata.name) <= 249")
        .optional_old_self(true)
        .message("metadata.name has more than 249 characters, which is too long for a topic's name; set spec.topicName")
        .reason(Reason::FieldValueInvalid)
)]
#[x_kube(
    validation = Rule::new("!has(self.ackQuorum) || !has(self.replicationFactor) || self.ackQuorum <= self.replicationFactor")
        .message(Message::Expression("'ackQuorum %d may not exceed replicationFactor %d'.format([self.ackQuorum, self.replicationFactor])".into()))
        .field_path(".ackQuorum"),
    validation = Rule::new("has(self.replicationFactor) == has(oldSelf.replicationFactor) && (!has(self.replicationFactor) || self.replicationFactor == oldSelf.replicationFactor)")
        .message("replicationFactor cannot be changed after the Topic is created")
        .reason(Reason::FieldValueForbidden)
        .field_path(".replicationFactor"),
    validation = Rule::new("has(self.ackQuorum) == has(oldSelf.ackQuorum) && (!has(self.ackQuorum) || self.ackQuorum == oldSelf.ackQuorum)")
        .message("ackQuorum cannot be changed after the Topic is created")
        .reason(Reason::FieldValueForbidden)
        .field_path(".ackQuorum")
)]
#[serde(rename_all = "camelCase")]
pub struct TopicSpec {
    /// The Cluster that the Topic lives in. It may be created later: the Topic waits for it, says so in its conditions,
    /// and takes up as soon as it is there. It cannot be changed after the Topic is created.
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("clusterRef cannot be changed after the Topic is created")
        .reason(Reason::FieldValueForbidden))]
    pub cluster_ref: ClusterRef,

    /// The name that programs publish to and consume from: 1 to 249 letters, digits, dots, underscores and dashes. When
    /// it is absent it is metadata.name. Two Topics may not claim one name in a Cluster: the older one has it. It cannot
    /// be changed after the Topic is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    #[x_kube(validation = Rule::new("self.matches('^[a-zA-Z0-9._-]+$') && self != '.' && self != '..'")
        .message("a topic's name has letters, digits, dots, underscores and dashes only, and is not . or .."))]
    pub topic_name: Option<String>,

    /// How many partitions the topic has, from 1 to 1024. Records of one key stay in one partition, and only within a
    /// partition is there an order. It can only grow, and records that are already there stay where they are: the
    /// partition of a key may change. Removing the field from a manifest means 1.
    #[serde(default = "partitions_default")]
    #[schemars(range(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self >= oldSelf")
        .message(Message::Expression("'partitions can only grow: the topic has %d, and %d is fewer'.format([oldSelf, self])".into()))
        .reason(Reason::FieldValueForbidden))]
    pub partitions: i32,

    /// How many brokers keep each partition, from 1 to 7. When it is absent it is 3, or the number of brokers of the
    /// Cluster if that is less, fixed when the topic is made. The Topic is not Ready while the Cluster has fewer brokers
    /// than this. It cannot be changed after the Topic is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    pub replication_factor: Option<i32>,

    /// On how many brokers a record must be durable before it is acknowledged, from 1 to replicationFactor. When it is
    /// absent it is the majority: 2 of 3. More survives more losses at once; but with fewer brokers than this nothing is
    /// acknowledged. It cannot be changed after the Topic is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 7))]
    pub ack_quorum: Option<i32>,

    /// How long records are kept. What is over either limit is deleted, the oldest first.
    #[serde(default)]
    pub retention: Retention,

    /// What happens to the records when the Topic is deleted. Retain keeps them on the volumes, and a Topic of the same
    /// name in the same Cluster finds them again. Delete deletes them for ever. It may be changed at any time.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// The largest record that is accepted, key and headers included: a quantity of bytes from 1 to 8Mi. Lowering it
    /// leaves records that are already there as they are.
    #[serde(default = "max_message_bytes_default")]
    #[schemars(length(min = 1, max = 24))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,17}([kMGTPE]|[KMGTPE]i)?$') && !quantity(self).isGreaterThan(quantity('8Mi'))")
        .message("must be a quantity of bytes from 1 to 8Mi, such as 1Mi"))]
    pub max_message_bytes: String,
}

/// A Cluster in the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRef {
    /// The Cluster's name.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// How long records are kept.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// How long a record is kept: a duration in hours, minutes and seconds, such as 168h or 1h30m, or Forever.
    #[serde(default = "retention_time_default")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("self == 'Forever' || (self.matches('^([0-9]{1,6}h)?([0-9]{1,7}m)?([0-9]{1,9}s)?([0-9]{1,9}ms)?$') && size(self) > 0 && duration(self) > duration('0s'))")
        .message("must be a positive duration in hours, minutes and seconds, such as 168h or 1h30m (there is no unit d), or Forever"))]
    pub time: String,

    /// How many bytes each partition keeps on each of its brokers, such as 10Gi. When it is absent there is no limit but
    /// the size of the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 24))]
    #[x_kube(validation = Rule::new("self.matches('^[1-9][0-9]{0,17}([kMGTPE]|[KMGTPE]i)?$') && !quantity(self).isGreaterThan(quantity('1Ei'))")
        .message("must be a positive quantity of bytes of at most 1Ei, such as 10Gi or 500M"))]
    pub bytes_per_partition: Option<String>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { time: retention_time_default(), bytes_per_partition: None }
    }
}

/// What happens to the records when the Topic is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// The records stay, and a Topic of the same name finds them again.
    #[default]
    Retain,
    /// The records are deleted for ever.
    Delete,
}

/// What is known of a Topic: written by the operator only.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// The generation of the spec that this status speaks of. While it is behind metadata.generation, the operator has
    /// not yet taken up the latest change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The id of the topic, a UUID minted once. A Topic that finds retained records again has the same id as before.
    /// Shown here for people; nothing is decided from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub topic_id: Option<String>,

    /// The name that programs publish to and consume from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 249))]
    pub topic_name: Option<String>,

    /// How many brokers keep each partition, as it was fixed when the topic was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,

    /// On how many brokers a record is durable before it is acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ack_quorum: Option<i32>,

    /// The partitions, such as "0 leader=2 replicas=2,0,1 inSync=2,0,1", for a topic of at most 64 partitions; `fulmar
    /// topic describe` shows them for any topic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 160)), extend("x-kubernetes-list-type" = "atomic"))]
    pub partitions: Vec<String>,

    /// How many partitions have fewer replicas in sync than they should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_replicated: Option<i32>,

    /// What is true of the Topic now. Ready: for this generation every partition has a leader that has opened its term
    /// and enough replicas to commit. Reconciling: a change is being carried out. Stalled: it cannot go on without a
    /// person. FullyReplicated: every replica of every partition is in sync.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

fn partitions_default() -> i32 {
    1
}

fn retention_time_default() -> String {
    "168h".to_owned()
}

fn max_message_bytes_default() -> String {
    "1Mi".to_owned()
}
