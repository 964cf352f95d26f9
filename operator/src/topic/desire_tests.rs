use fulmar_crds::topic::DeletionPolicy;

use super::*;
use crate::cluster::fixture::wanted;
use crate::names::FINALIZER_RECORDS;
use crate::topic::claims::claims;
use crate::topic::fixture::topic;

#[test]
fn a_topic_is_wished_until_it_is_deleted_and_only_a_policy_deletes_its_records() {
    let stays = topic("stays", |topic| topic.spec.partitions = 12, 10);
    let going = |name: &str, policy| {
        topic(
            name,
            |topic| {
                topic.spec.deletion_policy = policy;
                topic.metadata.finalizers = Some(vec![FINALIZER_RECORDS.to_owned()]);
                topic.metadata.deletion_timestamp = topic.metadata.creation_timestamp.clone();
            },
            10,
        )
    };
    let topics = [stays, going("retained", DeletionPolicy::Retain), going("deleted", DeletionPolicy::Delete)];
    let settings = wanted(|cluster| cluster.spec.rebalance.paused = true).settings;
    let desired = desire(&settings, 5, &claims(&topics, Some(3)));
    assert_eq!(desired.rebalance, Rebalance { paused: true, moves_a_broker: 4 });
    assert_eq!((desired.brokers, desired.present()), (3, 5));
    assert_eq!(desired.deleted, ["deleted"]);
    let [wish] = desired.topics.as_slice() else { panic!("one wish") };
    assert_eq!((wish.name.as_str(), wish.partitions, wish.max_message_bytes), ("stays", 12, 1 << 20));
    assert_eq!((wish.retention_ms, wish.retention_bytes), (Some(168 * 3_600_000), None));
}

#[test]
fn what_is_kept_for_ever_has_no_limit() {
    let topic = topic("orders", |topic| topic.spec.retention.time = "Forever".to_owned(), 10);
    let settings = wanted(|_| ()).settings;
    assert_eq!(desire(&settings, 3, &claims(&[topic], Some(3))).topics[0].retention_ms, None);
}
