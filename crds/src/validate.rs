//! From a raw spec to checked values: what the operator and `fulmar dev` work with.
//!
//! Owns: numbers out of texts, absent fields resolved, and a last check of what the API server has checked before: an
//! object may be older than a rule. Never: defaults (the schema's), or what depends on other objects, except the number
//! of brokers in [`TopicSettings::replicas`].

use std::time::Duration;

use crate::cluster::{self, WhenDeleted, WhenScaled};
use crate::pod::PodTemplate;
use crate::topic::{self, DeletionPolicy};
use crate::{Cluster, Topic, quantity};

/// A spec that no rule lets through, and that came nevertheless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {value:?} is not {allowed}")]
pub struct SettingsError {
    /// The field, such as `spec.retention.time`.
    pub path: &'static str,
    /// What it says.
    pub value: String,
    /// What it may say.
    pub allowed: String,
}

/// A Cluster whose every value is known to be good.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterSettings {
    /// `metadata.name`.
    pub name: String,
    /// How many brokers are wanted: 1 to [`cluster::REPLICAS_MAX`].
    pub replicas: u16,
    /// The broker's image; `None`: the operator's.
    pub image: Option<String>,
    /// The volume of each broker.
    pub storage: StorageSettings,
    /// The container of each broker.
    pub resources: ResourceSettings,
    /// What is added to the pods; its texts are as the rules let them through.
    pub pod: PodTemplate,
    /// The label of a node that names its zone.
    pub zone_topology_key: String,
    /// How replicas are moved between brokers.
    pub rebalance: RebalanceSettings,
    /// Origins whose pages browsers let use the brokers, as the rules let them through; `*` alone: all.
    pub cors_allow_origins: Vec<String>,
    /// The collector that spans go to, as the rules let it through; `None`: there are none.
    pub otlp_endpoint: Option<String>,
    /// Whether the operator is to leave the children alone.
    pub paused: bool,
}

/// How replicas are moved between brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RebalanceSettings {
    /// Whether none begins to move.
    pub paused: bool,
    /// How many move at once to one broker, or from one leader: 1 to [`cluster::MOVES_PER_BROKER_MAX`].
    pub moves_per_broker: u8,
}

/// The volume of each broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSettings {
    /// The size as it is written, for the claim.
    pub size: String,
    /// The size in bytes.
    pub size_bytes: u64,
    /// The StorageClass; `None`: the default one.
    pub storage_class: Option<String>,
    /// What happens to the volumes when the Cluster is deleted.
    pub when_deleted: WhenDeleted,
    /// What happens to the volumes of brokers that were removed.
    pub when_scaled: WhenScaled,
}

/// The container of each broker. Texts are quantities as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceSettings {
    /// The request of processor time.
    pub cpu_request: String,
    /// The limit of processor time; `None`: no limit.
    pub cpu_limit: Option<String>,
    /// The request of memory.
    pub memory_request: String,
    /// The limit of memory: what is requested unless a limit is given.
    pub memory_limit: String,
    /// The limit of memory in bytes.
    pub memory_limit_bytes: u64,
}

/// A Topic whose every value is known to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    /// The Cluster that it lives in, in the same namespace.
    pub cluster: String,
    /// The name that programs use: `spec.topicName`, or `metadata.name`.
    pub name: String,
    /// How many partitions: 1 to [`topic::PARTITIONS_MAX`].
    pub partitions: u32,
    /// How many brokers keep each partition; `None`: see [`TopicSettings::replicas`].
    pub replication_factor: Option<u8>,
    /// On how many of them a record is durable before it is acknowledged; `None`: the majority.
    pub ack_quorum: Option<u8>,
    /// How long records are kept; `None`: for ever.
    pub retention_time: Option<Duration>,
    /// How many bytes a partition keeps on each broker; `None`: no limit.
    pub retention_bytes: Option<u64>,
    /// What happens to the records when the Topic is deleted.
    pub deletion_policy: DeletionPolicy,
    /// The largest record, key and headers included: 1 to [`topic::MESSAGE_BYTES_MAX`].
    pub max_message_bytes: u32,
    /// What the annotation [`topic::ACCEPT_DATA_LOSS`] says, unread; empty if there is none.
    pub accept_data_loss: String,
}

/// How many brokers keep a partition, and how many of them acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replicas {
    /// How many brokers keep each partition.
    pub replication_factor: u8,
    /// On how many of them a record is durable before it is acknowledged; never more than `replication_factor`.
    pub ack_quorum: u8,
}

impl ClusterSettings {
    /// Checks a Cluster.
    ///
    /// # Errors
    /// The first field that says what no rule lets through.
    pub fn of(cluster: &Cluster) -> Result<Self, SettingsError> {
        let spec = &cluster.spec;
        Ok(Self {
            name: cluster.metadata.name.clone().unwrap_or_default(),
            replicas: whole("spec.replicas", spec.replicas, cluster::REPLICAS_MAX)?,
            image: spec.image.clone(),
            storage: StorageSettings {
                size: spec.storage.size.clone(),
                size_bytes: bytes("spec.storage.size", &spec.storage.size)?,
                storage_class: spec.storage.storage_class_name.clone(),
                when_deleted: spec.storage.when_deleted,
                when_scaled: spec.storage.when_scaled,
            },
            resources: resources(cluster)?,
            pod: spec.pod.clone(),
            zone_topology_key: spec.zone_topology_key.clone(),
            rebalance: RebalanceSettings {
                paused: spec.rebalance.paused,
                moves_per_broker: whole(
                    "spec.rebalance.movesPerBroker",
                    spec.rebalance.moves_per_broker,
                    cluster::MOVES_PER_BROKER_MAX,
                )?,
            },
            cors_allow_origins: spec.cors.as_ref().map(|cors| cors.allow_origins.clone()).unwrap_or_default(),
            otlp_endpoint: spec.tracing.as_ref().map(|tracing| tracing.otlp_endpoint.clone()),
            paused: spec.paused,
        })
    }
}

impl TopicSettings {
    /// Checks a Topic.
    ///
    /// # Errors
    /// The first field that says what no rule lets through.
    pub fn of(topic: &Topic) -> Result<Self, SettingsError> {
        let spec = &topic.spec;
        let factor_max = topic::REPLICATION_FACTOR_MAX;
        let factor =
            spec.replication_factor.map(|n| whole("spec.replicationFactor", n, factor_max)).transpose()?;
        let quorum = spec.ack_quorum.map(|n| whole("spec.ackQuorum", n, factor_max)).transpose()?;
        if let (Some(factor), Some(quorum)) = (factor, quorum) {
            check_quorum(quorum, factor)?;
        }
        let retained = spec.retention.bytes_per_partition.as_deref();
        Ok(Self {
            cluster: spec.cluster_ref.name.clone(),
            name: topic_name(topic)?,
            partitions: whole("spec.partitions", spec.partitions, topic::PARTITIONS_MAX)?,
            replication_factor: factor,
            ack_quorum: quorum,
            retention_time: retention_time(&spec.retention.time)?,
            retention_bytes: retained
                .map(|text| bytes("spec.retention.bytesPerPartition", text))
                .transpose()?,
            deletion_policy: spec.deletion_policy,
            max_message_bytes: max_message_bytes(&spec.max_message_bytes)?,
            accept_data_loss: annotation(topic, topic::ACCEPT_DATA_LOSS),
        })
    }

    /// How many brokers keep each partition of a topic that is made now, in a Cluster that wants `brokers` of them. What
    /// is absent is resolved: three replicas, or as many as there are brokers if that is fewer; the majority of them.
    ///
    /// # Errors
    /// An `ackQuorum` above the number of replicas so resolved. A `replicationFactor` above the number of brokers is no
    /// error here: the topic waits for brokers.
    pub fn replicas(&self, brokers: u16) -> Result<Replicas, SettingsError> {
        let fewest = u8::try_from(brokers.clamp(1, 3)).expect("three fits a byte");
        let replication_factor = self.replication_factor.unwrap_or(fewest);
        let ack_quorum = self.ack_quorum.unwrap_or(replication_factor / 2 + 1);
        check_quorum(ack_quorum, replication_factor)?;
        Ok(Replicas { replication_factor, ack_quorum })
    }
}

fn annotation(topic: &Topic, name: &str) -> String {
    let annotations = topic.metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(name)).cloned().unwrap_or_default()
}

fn resources(cluster: &Cluster) -> Result<ResourceSettings, SettingsError> {
    let (requests, limits) = (&cluster.spec.resources.requests, &cluster.spec.resources.limits);
    let request = millicores("spec.resources.requests.cpu", &requests.cpu)?;
    if let Some(text) = &limits.cpu
        && millicores("spec.resources.limits.cpu", text)? < request
    {
        return Err(below("spec.resources.limits.cpu", text, &requests.cpu));
    }
    let request = bytes("spec.resources.requests.memory", &requests.memory)?;
    let limit = limits.memory.as_ref().unwrap_or(&requests.memory);
    let limit_bytes = bytes("spec.resources.limits.memory", limit)?;
    if limit_bytes < request {
        return Err(below("spec.resources.limits.memory", limit, &requests.memory));
    }
    Ok(ResourceSettings {
        cpu_request: requests.cpu.clone(),
        cpu_limit: limits.cpu.clone(),
        memory_request: requests.memory.clone(),
        memory_limit: limit.clone(),
        memory_limit_bytes: limit_bytes,
    })
}

fn topic_name(topic: &Topic) -> Result<String, SettingsError> {
    let name = topic.spec.topic_name.as_ref().or(topic.metadata.name.as_ref()).cloned().unwrap_or_default();
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let length = 1..=topic::TOPIC_NAME_LENGTH_MAX;
    if length.contains(&name.len()) && name.bytes().all(good) && name != "." && name != ".." {
        return Ok(name);
    }
    let allowed =
        "a name of 1 to 249 letters, digits, dots, underscores and dashes, and neither . nor ..".to_owned();
    Err(SettingsError { path: "spec.topicName", value: name, allowed })
}

fn retention_time(text: &str) -> Result<Option<Duration>, SettingsError> {
    if text == "Forever" {
        return Ok(None);
    }
    let allowed = "a positive duration such as 168h or 1h30m, or Forever".to_owned();
    let error = SettingsError { path: "spec.retention.time", value: text.to_owned(), allowed };
    quantity::duration(text).map(Some).ok_or(error)
}

fn max_message_bytes(text: &str) -> Result<u32, SettingsError> {
    let number = quantity::bytes(text).and_then(|number| u32::try_from(number).ok());
    let allowed = "a quantity of bytes from 1 to 8Mi".to_owned();
    let error = SettingsError { path: "spec.maxMessageBytes", value: text.to_owned(), allowed };
    number.filter(|number| *number <= topic::MESSAGE_BYTES_MAX).ok_or(error)
}

fn check_quorum(quorum: u8, factor: u8) -> Result<(), SettingsError> {
    if quorum <= factor {
        return Ok(());
    }
    let allowed = format!("at most the number of replicas, {factor}");
    Err(SettingsError { path: "spec.ackQuorum", value: quorum.to_string(), allowed })
}

fn whole<N: TryFrom<i32>>(path: &'static str, number: i32, max: i32) -> Result<N, SettingsError> {
    let allowed = format!("a number from 1 to {max}");
    let error = SettingsError { path, value: number.to_string(), allowed };
    (1..=max).contains(&number).then(|| N::try_from(number).ok()).flatten().ok_or(error)
}

fn bytes(path: &'static str, text: &str) -> Result<u64, SettingsError> {
    let allowed = "a positive quantity of bytes such as 10Gi or 500M".to_owned();
    quantity::bytes(text).ok_or(SettingsError { path, value: text.to_owned(), allowed })
}

fn millicores(path: &'static str, text: &str) -> Result<u64, SettingsError> {
    let allowed = "a positive number of cores such as 2 or 250m".to_owned();
    quantity::millicores(text).ok_or(SettingsError { path, value: text.to_owned(), allowed })
}

fn below(path: &'static str, limit: &str, request: &str) -> SettingsError {
    SettingsError { path, value: limit.to_owned(), allowed: format!("at least what is requested, {request}") }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
