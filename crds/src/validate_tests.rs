use super::*;
use crate::topic::{ClusterRef, Retention};
use crate::{ClusterSpec, TopicSpec};

fn topic() -> Topic {
    let spec = TopicSpec {
        cluster_ref: ClusterRef { name: "orders".to_owned() },
        topic_name: None,
        partitions: 12,
        replication_factor: None,
        ack_quorum: None,
        retention: Retention::default(),
        deletion_policy: DeletionPolicy::default(),
        max_message_bytes: "1Mi".to_owned(),
    };
    Topic::new("orders.v1", spec)
}

#[test]
fn topic_without_a_name_of_its_own_is_called_after_the_object() {
    let settings = TopicSettings::of(&topic()).unwrap();
    assert_eq!(settings.name, "orders.v1");
    let mut named = topic();
    named.spec.topic_name = Some("Orders_V1".to_owned());
    assert_eq!(TopicSettings::of(&named).unwrap().name, "Orders_V1");
}

#[test]
fn texts_of_a_topic_become_numbers() {
    let mut raw = topic();
    raw.spec.retention.bytes_per_partition = Some("10Gi".to_owned());
    let settings = TopicSettings::of(&raw).unwrap();
    assert_eq!(settings.retention_time, Some(Duration::from_hours(168)));
    assert_eq!(settings.retention_bytes, Some(10 << 30));
    assert_eq!(settings.max_message_bytes, 1 << 20);
    raw.spec.retention.time = "Forever".to_owned();
    assert_eq!(TopicSettings::of(&raw).unwrap().retention_time, None);
}

#[test]
fn replicas_are_three_or_the_brokers_there_are_and_the_majority_of_them() {
    let settings = TopicSettings::of(&topic()).unwrap();
    let resolved =
        |brokers| settings.replicas(brokers).map(|r| (r.replication_factor, r.ack_quorum)).unwrap();
    assert_eq!(resolved(1), (1, 1));
    assert_eq!(resolved(2), (2, 2));
    assert_eq!(resolved(3), (3, 2));
    assert_eq!(resolved(100), (3, 2));
}

#[test]
fn moves_beyond_what_a_broker_has_memory_for_are_refused() {
    let moves = |moves_per_broker| {
        let rebalance = cluster::Rebalance { moves_per_broker, ..cluster::Rebalance::default() };
        let spec = ClusterSpec { rebalance, ..ClusterSpec::default() };
        ClusterSettings::of(&Cluster::new("orders", spec)).map(|settings| settings.rebalance.moves_per_broker)
    };
    assert_eq!((moves(1), moves(16)), (Ok(1), Ok(16)));
    let refused = "spec.rebalance.movesPerBroker: \"17\" is not a number from 1 to 16";
    assert_eq!(moves(17).unwrap_err().to_string(), refused);
    assert!(moves(0).is_err());
}

#[test]
fn quorum_above_the_replicas_is_refused_wherever_they_come_from() {
    let mut raw = topic();
    raw.spec.ack_quorum = Some(3);
    let error = TopicSettings::of(&raw).unwrap().replicas(1).unwrap_err();
    assert_eq!(error.to_string(), "spec.ackQuorum: \"3\" is not at most the number of replicas, 1");
    raw.spec.replication_factor = Some(2);
    assert_eq!(TopicSettings::of(&raw).unwrap_err().path, "spec.ackQuorum");
}

#[test]
fn spec_older_than_a_rule_is_refused_by_field() {
    let mut raw = topic();
    raw.spec.partitions = 2_000;
    assert_eq!(
        TopicSettings::of(&raw).unwrap_err().to_string(),
        "spec.partitions: \"2000\" is not a number from 1 to 1024"
    );
    let mut raw = topic();
    raw.spec.max_message_bytes = "9Mi".to_owned();
    assert_eq!(TopicSettings::of(&raw).unwrap_err().path, "spec.maxMessageBytes");
    let mut raw = topic();
    raw.spec.topic_name = Some("a/b".to_owned());
    assert_eq!(TopicSettings::of(&raw).unwrap_err().path, "spec.topicName");
}

#[test]
fn memory_limit_of_a_cluster_is_what_is_requested() {
    let cluster = Cluster::new("orders", ClusterSpec::default());
    let settings = ClusterSettings::of(&cluster).unwrap();
    assert_eq!(settings.replicas, 3);
    assert_eq!(settings.storage.size_bytes, 10 << 30);
    assert_eq!(settings.resources.memory_limit, "512Mi");
    assert_eq!(settings.resources.memory_limit_bytes, 512 << 20);
    assert_eq!(settings.resources.cpu_limit, None);
}

#[test]
fn limits_below_the_requests_are_refused() {
    let mut cluster = Cluster::new("orders", ClusterSpec::default());
    cluster.spec.resources.limits.memory = Some("256Mi".to_owned());
    let error = ClusterSettings::of(&cluster).unwrap_err();
    assert_eq!(
        error.to_string(),
        "spec.resources.limits.memory: \"256Mi\" is not at least what is requested, 512Mi"
    );
    cluster.spec.resources.limits.memory = None;
    cluster.spec.resources.limits.cpu = Some("0.1".to_owned());
    assert_eq!(ClusterSettings::of(&cluster).unwrap_err().path, "spec.resources.limits.cpu");
}
