//! What a Cluster adds to the pods of its brokers.
//!
//! Owns the fields, their bounds and rules; the names are those of a Kubernetes pod. Never: the pod itself.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is added to the pods of the brokers.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels added to each pod, at most 32. Keys that begin with app.kubernetes.io/ or fulmar.dev/ are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    #[x_kube(
        validation = Rule::new("self.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && self[k].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$'))")
            .message("must be labels: keys such as team or example.com/team, and values of at most 63 letters, digits, dashes, dots and underscores"),
        validation = Rule::new("self.all(k, !k.startsWith('app.kubernetes.io/') && !k.startsWith('fulmar.dev/'))")
            .message("keys that begin with app.kubernetes.io/ or fulmar.dev/ are the operator's")
    )]
    pub labels: BTreeMap<String, String>,

    /// Annotations added to each pod, at most 32, each value of at most 4096 characters. Keys that begin with fulmar.dev/
    /// are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "annotations")]
    #[x_kube(
        validation = Rule::new("self.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))")
            .message("must have keys such as note or example.com/note"),
        validation = Rule::new("self.all(k, !k.startsWith('fulmar.dev/'))")
            .message("keys that begin with fulmar.dev/ are the operator's")
    )]
    pub annotations: BTreeMap<String, String>,

    /// Labels that a node must have to run a broker, at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    #[x_kube(validation = Rule::new("self.all(k, size(k) <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$') && self[k].matches('^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$'))")
        .message("must be labels of nodes: keys such as disk or example.com/disk, and values of at most 63 letters, digits, dashes, dots and underscores"))]
    pub node_selector: BTreeMap<String, String>,

    /// Taints that the pods tolerate, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<Toleration>,

    /// The PriorityClass of the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub priority_class_name: Option<String>,

    /// Secrets in the Cluster's namespace with which the broker's image is pulled, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub image_pull_secrets: Vec<SecretName>,

    /// As whom the brokers run. For a Cluster that has volumes, change fsGroup together with runAsUser: files that the one before
    /// wrote become the new one's only with their group. Absent: user, group and the group of the volume are 65532. Present: only what it names, and the rest
    /// is left to the cluster: {} for OpenShift, which gives each namespace users of its own. In any case they are not root, and
    /// write nowhere but on their volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_context: Option<PodSecurity>,

    /// How many seconds a broker has to stop, from 30 to 3600. A broker that is told to stop hands its partitions over,
    /// which takes a few seconds, then serves as a follower until others hold all that it acknowledged; when this time
    /// is over it is killed.
    #[serde(default = "termination_grace_period_seconds_default")]
    #[schemars(range(min = 30, max = 3600))]
    pub termination_grace_period_seconds: i64,
}

impl Default for PodTemplate {
    fn default() -> Self {
        Self {
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            priority_class_name: None,
            image_pull_secrets: Vec::new(),
            security_context: None,
            termination_grace_period_seconds: termination_grace_period_seconds_default(),
        }
    }
}

/// As whom the brokers run.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodSecurity {
    /// The user, not root. Absent: the cluster chooses, or else the image, which says 65532.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub run_as_user: Option<i64>,

    /// The first group. Absent: the cluster chooses, or else it is mostly 0, which grants nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub run_as_group: Option<i64>,

    /// The group that may read the certificates and write on the volume. Absent: the cluster chooses; where it does not, brokers
    /// cannot read their certificates and do not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub fs_group: Option<i64>,

    /// Further groups, at most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 0, max = 2_147_483_647)), extend("x-kubernetes-list-type" = "atomic"))]
    pub supplemental_groups: Vec<i64>,
}

/// A taint that the pods tolerate.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.operator != 'Exists' || !has(self.value)")
        .message("value is forbidden when operator is Exists")
        .field_path(".value"),
    validation = Rule::new("has(self.key) || self.operator == 'Exists'")
        .message("key is required when operator is Equal; a toleration of every taint has operator Exists")
        .field_path(".key"),
    validation = Rule::new("!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')")
        .message("tolerationSeconds is only for the effect NoExecute")
        .field_path(".tolerationSeconds")
)]
pub struct Toleration {
    /// The key of the taint. Absent, with operator Exists: every taint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 317),
        regex(pattern = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$")
    )]
    pub key: Option<String>,

    /// Equal: the taint has this value. Exists: whatever its value.
    #[serde(default)]
    pub operator: TolerationOperator,

    /// The value of the taint, for operator Equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63), regex(pattern = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"))]
    pub value: Option<String>,

    /// The effect of the taint. Absent: every effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,

    /// With NoExecute: how many seconds a pod stays on its node after the taint appeared, from 0 to a year. Absent: for
    /// ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub toleration_seconds: Option<i64>,
}

/// How a toleration is compared with a taint.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TolerationOperator {
    /// The taint has this value.
    #[default]
    Equal,
    /// The taint has any value.
    Exists,
}

/// What a taint does.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaintEffect {
    /// New pods stay away.
    NoSchedule,
    /// New pods stay away if they can.
    PreferNoSchedule,
    /// Pods that are there have to go.
    NoExecute,
}

/// A Secret in the same namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretName {
    /// The Secret's name.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

fn termination_grace_period_seconds_default() -> i64 {
    150
}

// Schemars bounds neither the number of entries of a map nor its values.
fn labels(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "maxProperties": 32, "additionalProperties": {"type": "string", "maxLength": 63}
    })
}

fn annotations(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "maxProperties": 32, "additionalProperties": {"type": "string", "maxLength": 4096}
    })
}
