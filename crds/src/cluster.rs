//! `Cluster`: how many brokers, on what volumes, in what pods.
//!
//! Owns the fields, their defaults, bounds and rules. Never: what a broker is told or which pod is made of it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pod::PodTemplate;
use crate::resources::Resources;
use crate::status::conditions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// The most brokers that one Cluster may have. Every broker keeps a connection to every other one and to the
/// operator; a hundred is what placement and gossip are sized for. Raising it later breaks nobody.
pub const REPLICAS_MAX: i32 = 100;

/// The longest `metadata.name` of a Cluster: `<name>-brokers-<ordinal>` and what the `StatefulSet` appends have to
/// fit the 63 bytes of a label.
pub const NAME_LENGTH_MAX: usize = 40;

/// What is wanted of a Cluster.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "fulmar.dev",
    version = "v1alpha1",
    kind = "Cluster",
    namespaced,
    status = "ClusterStatus",
    derive = "PartialEq",
    shortname = "flc",
    category = "fulmar",
    doc = "A Cluster is a set of Fulmar brokers: a StatefulSet with a volume for each broker, two Services, and the certificates that the brokers know each other by. Topics name the Cluster that they live in.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "True when every broker wanted has joined and serves"
    ),
    printcolumn(
        name = "Brokers",
        type_ = "string",
        json_path = ".status.brokersReady",
        description = "Brokers that serve / brokers wanted"
    ),
    printcolumn(
        name = "Operation",
        type_ = "string",
        json_path = ".status.operation.progress",
        description = "What is under way, and how far: replicas moved / replicas to be moved"
    ),
    printcolumn(
        name = "UnderReplicated",
        type_ = "integer",
        json_path = ".status.underReplicated",
        description = "Partitions with fewer replicas in sync than they should have"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why Ready is what it is"
    ),
    validation = Rule::new("oldSelf.hasValue() || size(self.metadata.name) <= 40")
        .optional_old_self(true)
        .message("a Cluster's name may have at most 40 characters (pod and volume names are made from it)")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new("oldSelf.hasValue() || self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .optional_old_self(true)
        .message("a Cluster's name begins with a letter and has lower case letters, digits and dashes only (Services are named after it)")
        .reason(Reason::FieldValueInvalid),
    validation = Rule::new(
        "self.spec.replicas >= oldSelf.spec.replicas || !has(oldSelf.status) || !has(oldSelf.status.minReplicas) || self.spec.replicas >= oldSelf.status.minReplicas"
    )
    .message(Message::Expression(
        "'spec.replicas %d is below status.minReplicas %d, the most replicas that a partition has; first be rid of the Topics that have so many, records and all (deletionPolicy: Delete; retained ones count)'.format([self.spec.replicas, oldSelf.status.minReplicas])".into()
    ))
    .reason(Reason::FieldValueForbidden)
    .field_path(".spec.replicas"),
    validation = Rule::new(
        "!isQuantity(self.spec.storage.size) || !isQuantity(oldSelf.spec.storage.size) || quantity(self.spec.storage.size).compareTo(quantity(oldSelf.spec.storage.size)) >= 0 || (has(oldSelf.status) && has(oldSelf.status.storageCapacity) && isQuantity(oldSelf.status.storageCapacity) && quantity(self.spec.storage.size).compareTo(quantity(oldSelf.status.storageCapacity)) >= 0)"
    )
    .message(Message::Expression(
        "'volumes cannot shrink: spec.storage.size %s is below %s'.format([self.spec.storage.size, has(oldSelf.status) && has(oldSelf.status.storageCapacity) ? oldSelf.status.storageCapacity + ', what they have (status.storageCapacity)' : oldSelf.spec.storage.size])".into()
    ))
    .reason(Reason::FieldValueForbidden)
    .field_path(".spec.storage.size")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// How many brokers to run, from 1 to 100. Three is the fewest that can lose one and go on. Raising it adds
    /// brokers, and replicas move to them until all carry the same number. Lowering it moves the replicas of the brokers with the
    /// highest ordinals to the others first; their pods go when they hold nothing, and their volumes stay unless
    /// storage.whenScaled is Delete. It cannot be lowered below status.minReplicas, the most replicas that a partition has.
    /// `kubectl scale` and a HorizontalPodAutoscaler change this field.
    #[serde(default = "replicas_default")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: i32,

    /// The broker's image, with a tag or digest, such as registry.example/fulmar-broker:0.1.0. When it is absent, the
    /// image that the operator was installed with is used, so that both are of one version. Changing it restarts the
    /// brokers one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[^ \\\\t\\\\r\\\\n]+$')")
        .message("must be an image reference without blanks, such as registry.example/fulmar-broker:0.1.0"))]
    pub image: Option<String>,

    /// Where brokers keep their data: one volume for each broker.
    #[serde(default)]
    pub storage: Storage,

    /// What each broker's container requests and may use. The broker sizes its buffers from the memory limit, and its
    /// memory never grows with load. Changing it restarts the brokers one after the other.
    #[serde(default)]
    pub resources: Resources,

    /// What is added to the pods of the brokers. Changing it restarts the brokers one after the other.
    #[serde(default)]
    pub pod: PodTemplate,

    /// The label of a node that names its zone. The replicas of a partition are spread over its values first, over
    /// brokers second, so that losing a zone loses no acknowledged record. A node without the label makes the condition
    /// ZonesKnown False; its brokers are then placed as if each were alone in a zone.
    #[serde(default = "zone_topology_key_default")]
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(validation = Rule::new("self.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')")
        .message("must be a label's key, such as topology.kubernetes.io/zone"))]
    pub zone_topology_key: String,

    /// How replicas are moved between brokers, after brokers were added, or before they are removed.
    #[serde(default)]
    pub rebalance: Rebalance,
    /// Pages of other origins that browsers let use the brokers. Absent: none. Changing it restarts the brokers one after the
    /// other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,

    /// Where spans of records go whose trace is sampled. Absent: nowhere, and no record is looked at for it. Changing it restarts
    /// the brokers one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,

    /// When true, the operator makes no change to this Cluster's pods, Services, Secrets and volumes. Brokers go on
    /// serving, leaders are still replaced when they die, and status is still written. Set it back to false to let the
    /// operator catch up.
    #[serde(default)]
    pub paused: bool,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            replicas: replicas_default(),
            image: None,
            storage: Storage::default(),
            resources: Resources::default(),
            pod: PodTemplate::default(),
            zone_topology_key: zone_topology_key_default(),
            rebalance: Rebalance::default(),
            cors: None,
            tracing: None,
            paused: false,
        }
    }
}

/// What browsers are told of pages of other origins.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Origins whose pages browsers let use HTTP and gRPC-web of the brokers, at most 32, as browsers write them:
    /// `https://shop.example` or `http://localhost:3000`, in lower case, without a path, a slash at the end, or the port that is
    /// usual. `*` alone is every page. This keeps other pages from reading answers; it guards against nobody but browsers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 300)), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(
        validation = Rule::new("self.all(o, o == '*' || o.matches('^[a-z][a-z0-9+.-]{0,31}://[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$'))")
            .message("must be origins as browsers write them, such as https://shop.example or http://localhost:3000: in lower case, without a path or a slash at the end"),
        validation = Rule::new("self.all(o, !(o.startsWith('http://') && o.endsWith(':80')) && !(o.startsWith('https://') && o.endsWith(':443')))")
            .message("must be without :80 of http and :443 of https, which browsers leave out"),
        validation = Rule::new("!self.exists(o, o == '*') || size(self) == 1")
            .message("* stands alone: it is every page")
    )]
    pub allow_origins: Vec<String>,
}

/// What the brokers tell of records whose header `traceparent` is sampled.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// An OpenTelemetry collector that takes OTLP by gRPC without TLS, in the Cluster's network:
    /// `http://otel-collector.observability:4317`. The port may be left out, it is 4317 then.
    #[schemars(length(min = 1, max = 300))]
    #[x_kube(validation = Rule::new("self.matches('^http://[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_.])?(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?$')")
        .message("must be a collector's address for OTLP by gRPC, such as http://otel-collector.observability:4317: in lower case, without TLS, a path or a slash at the end"))]
    pub otlp_endpoint: String,
}

/// The volumes of the brokers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)")
        .message("storageClassName cannot be changed after the Cluster is created")
        .reason(Reason::FieldValueForbidden)
        .field_path(".storageClassName")
)]
pub struct Storage {
    /// The size of each broker's volume: a quantity of bytes of at least 512Mi, such as 10Gi or 500G. Raising it grows the
    /// volumes while the brokers run, where the StorageClass lets its volumes grow; the condition VolumesSized tells how far
    /// that is. It cannot be lowered below status.storageCapacity, what the volumes have: a volume never shrinks.
    #[serde(default = "storage_size_default")]
    #[schemars(length(min = 1, max = 24))]
    #[x_kube(
        validation = Rule::new("self.matches('^[1-9][0-9]{0,17}([kMGTPE]|[KMGTPE]i)?$') && !quantity(self).isLessThan(quantity('512Mi')) && !quantity(self).isGreaterThan(quantity('1Ei'))")
            .message("must be a quantity of bytes from 512Mi to 1Ei, such as 10Gi or 500G")
    )]
    pub size: String,

    /// The StorageClass of the volumes. When it is absent, the default StorageClass of the Kubernetes cluster is used.
    /// It cannot be changed, added or removed after the Cluster is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub storage_class_name: Option<String>,

    /// What happens to the volumes when the Cluster is deleted. Retain keeps them, and a Cluster of the same name in the
    /// same namespace finds all its records again. Delete deletes them with the Cluster, and every record with them.
    #[serde(default)]
    pub when_deleted: WhenDeleted,

    /// What happens to the volumes of brokers that were removed by lowering spec.replicas. Retain keeps them, and a broker that is
    /// added again begins on its own. Delete deletes each once its pod is gone, if its broker had said that it holds nothing; those of
    /// brokers that were removed earlier, too. The condition VolumesReleased tells which are kept, and why.
    #[serde(default)]
    pub when_scaled: WhenScaled,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            size: storage_size_default(),
            storage_class_name: None,
            when_deleted: WhenDeleted::default(),
            when_scaled: WhenScaled::default(),
        }
    }
}

/// What happens to the volumes when the Cluster is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDeleted {
    /// The volumes stay, and a Cluster of the same name finds its data again.
    #[default]
    Retain,
    /// The volumes are deleted with the Cluster.
    Delete,
}

/// What happens to the volumes of brokers that were removed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenScaled {
    /// The volumes stay, empty of replicas.
    #[default]
    Retain,
    /// Each volume is deleted once its broker is gone, and is known to have held nothing.
    Delete,
}

/// The most moves per broker that may be asked for. Each may have 4 MiB on its way, so these take 64 MiB of a broker's memory; and no
/// more than sixteen go on in the whole Cluster.
pub const MOVES_PER_BROKER_MAX: i32 = 16;

/// How replicas are moved between brokers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Rebalance {
    /// When true, no replica begins to move to another broker; those that are on their way arrive. Brokers that are to be removed
    /// stay until it is false again. Lost volumes are replaced and leaders change all the same. The condition Balanced tells what is
    /// left to be moved.
    #[serde(default)]
    pub paused: bool,

    /// How many replicas move at once to one broker, or from the logs of one leader, from 1 to 16. Each copies a log, and may have
    /// 4 MiB on its way. In the whole Cluster there are at most 16.
    #[serde(default = "moves_per_broker_default")]
    #[schemars(range(min = 1, max = 16))]
    pub moves_per_broker: i32,
}

impl Default for Rebalance {
    fn default() -> Self {
        Self { paused: false, moves_per_broker: moves_per_broker_default() }
    }
}

/// What is known of a Cluster: written by the operator only.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The generation of the spec that this status speaks of. While it is behind metadata.generation, the operator has
    /// not yet taken up the latest change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The id of this Cluster, a UUID minted once and kept on the volumes. Brokers refuse a volume or a peer of another
    /// id. Shown here for people; nothing is decided from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub cluster_id: Option<String>,

    /// How many broker pods there are now. Read by the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// The labels of the broker pods as a selector in text. Read by the scale subresource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,

    /// The fewest brokers that can hold what there is: the most replicas that a partition has. spec.replicas cannot be set
    /// below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,

    /// How many brokers serve, of how many that are wanted, such as 2/3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub brokers_ready: Option<String>,

    /// How many partitions have fewer replicas in sync than they should have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under_replicated: Option<i32>,

    /// The size of the largest volume of a broker. spec.storage.size cannot be lowered below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 24))]
    pub storage_capacity: Option<String>,

    /// Replicas that are being moved between brokers, because brokers were added or are to be removed, or their zones are
    /// other ones. Absent while there is nothing to move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,

    /// What deleted Topics left behind on the volumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained: Option<Retained>,

    /// The brokers, in the order of their ordinals.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "atomic"))]
    pub brokers: Vec<BrokerStatus>,

    /// What is true of the Cluster now. Ready: every broker wanted has joined and serves. Reconciling: a change is being
    /// carried out. Stalled: it cannot go on without a person. Available: clients can publish and consume. Balanced: no
    /// replica is to be moved to another broker. ZonesKnown: the zone of every broker is known. RolloutComplete: every
    /// broker runs the wanted template. DiskPressure: a broker has too little space left, and partitions that it leads take
    /// no records. VolumesSized: every volume has the wanted size.
    /// VolumesReleased: no volume of a broker that was removed is left, or they are kept as wanted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// What is under way.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// What for.
    #[serde(rename = "type")]
    pub kind: OperationType,

    /// What is being done: MovingReplicas, or Paused.
    #[schemars(length(max = 32))]
    pub step: String,

    /// How many replicas have been moved, since it began or the operator started.
    pub done: i32,

    /// Of about how many.
    pub total: i32,

    /// Both for people, such as ScaleDown 37/120.
    #[schemars(length(max = 48))]
    pub progress: String,
}

/// What replicas are moved for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationType {
    /// Brokers that leave are emptied.
    ScaleDown,
    /// Brokers that joined take their part, or zones are put right.
    Rebalance,
}

/// What deleted Topics left behind.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// How many deleted Topics have their records kept. A Topic of the same name finds them again.
    #[serde(default)]
    pub topics: i32,
}

/// One broker, as the operator knows it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BrokerStatus {
    /// The number in the name of the broker's pod.
    pub ordinal: i32,

    /// The id of the broker's volume, a UUID that the broker minted when it first opened the volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    pub incarnation: Option<String>,

    /// The zone of the node that the broker runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub zone: Option<String>,

    /// What the broker does: one word, such as Serving, Starting or Gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub state: Option<String>,

    /// How many replicas of partitions it has, those that are on their way to it included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
}

fn replicas_default() -> i32 {
    3
}

fn moves_per_broker_default() -> i32 {
    4
}

fn zone_topology_key_default() -> String {
    "topology.kubernetes.io/zone".to_owned()
}

fn storage_size_default() -> String {
    "10Gi".to_owned()
}
