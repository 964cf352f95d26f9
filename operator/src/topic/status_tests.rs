use fulmar_core::control::{Stuck, Waiting};
use fulmar_core::offset::Offset;
use fulmar_core::term::Epoch;
use fulmar_crds::Topic;

use super::*;
use crate::topic::claims::claims;
use crate::topic::fixture::topic;

fn claimed(change: impl FnOnce(&mut Topic)) -> Claimed {
    claims(&[topic("orders", change, 10)], Some(3)).remove(0)
}

fn partition(serving: bool) -> PartitionView {
    PartitionView {
        leader: Some(Ordinal(2)),
        replicas: vec![Ordinal(2), Ordinal(0), Ordinal(1)],
        in_sync: vec![Ordinal(2), Ordinal(0)],
        serving,
        epoch: Epoch::default(),
        may_have_lost: None,
        stuck: None,
    }
}

fn view(partitions: Vec<PartitionView>) -> View {
    let ready = partitions.iter().all(|partition| partition.serving);
    let topic = TopicView {
        id: None,
        replication_factor: 3,
        ack_quorum: 2,
        partitions,
        ready,
        reason: if ready { "" } else { "AwaitingReplicas" },
        message: if ready { String::new() } else { "waiting for broker 1".to_owned() },
        under_replicated: 1,
        bereft: 0,
    };
    View { controller_epoch: 7, topics: [("orders".to_owned(), topic)].into(), ..View::default() }
}

fn ready(status: &TopicStatus) -> (&str, &str) {
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready").unwrap();
    (ready.status.as_str(), ready.reason.as_str())
}

fn now() -> Timestamp {
    Timestamp::from_second(1_000).unwrap()
}

#[test]
fn a_topic_is_ready_only_when_every_partition_that_is_wished_serves() {
    let two = claimed(|topic| topic.spec.partitions = 2);
    let told = |view: &View| status(&two, Home::View(view), now());
    assert_eq!(ready(&told(&view(vec![partition(true), partition(true)]))), ("True", "Serving"));
    assert_eq!(ready(&told(&view(vec![partition(true), partition(false)]))), ("False", "AwaitingReplicas"));
    // It grew from one to two, and the controller has not taken that up yet.
    assert_eq!(ready(&told(&view(vec![partition(true)]))), ("False", "Pending"));
}

#[test]
fn a_topic_is_not_ready_before_the_tenure_is_taken_or_while_the_controller_waits() {
    let one = claimed(|_| ());
    let mut before = view(vec![partition(true)]);
    before.controller_epoch = 0;
    assert_eq!(ready(&status(&one, Home::View(&before), now())), ("False", "Pending"));
    let mut waiting = view(vec![partition(true)]);
    let halted =
        Waiting { reason: "TwoIdentities", message: "two Clusters' volumes".to_owned(), halted: true };
    waiting.waiting = Some(halted);
    let told = status(&one, Home::View(&waiting), now());
    assert_eq!(ready(&told), ("False", "TwoIdentities"));
    let stalled = told.conditions.iter().find(|one| one.type_ == "Stalled").unwrap();
    assert_eq!(stalled.status, "True");
}

#[test]
fn a_topic_without_a_cluster_waits_and_says_so() {
    let told = status(&claimed(|_| ()), Home::Absent, now());
    assert_eq!(ready(&told), ("False", "ClusterNotFound"));
    assert_eq!(told.conditions[0].message, "there is no Cluster orders in this namespace; waiting for it");
}

#[test]
fn the_younger_of_two_names_the_one_that_has_the_name() {
    let old = topic("first", |topic| topic.spec.topic_name = Some("orders".to_owned()), 10);
    let young = topic("orders", |_| (), 20);
    let claims = claims(&[old, young], Some(3));
    let told = status(&claims[1], Home::View(&view(vec![partition(true)])), now());
    assert_eq!(ready(&told), ("False", "NameTaken"));
    assert_eq!(told.conditions[0].message, "the older Topic first has the name orders in Cluster orders");
    assert!(told.partitions.is_empty(), "they are not its own");
}

/// A partition that nothing but a word can help; the word, if it would.
fn stuck(number: u32, helps: bool) -> PartitionView {
    let word = LossWord { partition: number, epoch: Epoch { generation: 1_763_750_000, counter: 4 } };
    let message = format!("partition {number} has no quorum: broker 1 is missing");
    PartitionView { stuck: Some(Stuck { word: helps.then_some(word), message }), ..partition(false) }
}

fn condition<'a>(status: &'a TopicStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|one| one.type_ == kind).unwrap();
    (&found.status, &found.reason, &found.message)
}

fn lost(partitions: Vec<PartitionView>) -> View {
    let mut view = view(partitions);
    let topic = view.topics.get_mut("orders").unwrap();
    topic.reason = "QuorumLost";
    topic.message = "partition 0 has no quorum: broker 1 is missing".to_owned();
    view
}

#[test]
fn what_only_a_person_can_give_up_is_told_with_the_line_to_type() {
    let view = lost(vec![stuck(0, true), partition(true), stuck(2, true)]);
    let three = claimed(|topic| topic.spec.partitions = 3);
    let told = status(&three, Home::View(&view), now());
    let said = "partition 0 has no quorum: broker 1 is missing. If what is missing never comes back, give up what only it has: \
                kubectl --namespace shop annotate flt orders --overwrite fulmar.dev/accept-data-loss=0:1763750000.4,2:1763750000.4";
    assert_eq!(condition(&told, "Ready"), ("False", "QuorumLost", said));
    assert_eq!(condition(&told, "Stalled"), ("True", "QuorumLost", said), "it will not pass by waiting");
    assert_eq!(condition(&told, "Reconciling").0, "False");
}

#[test]
fn where_no_word_helps_none_is_told() {
    let view = lost(vec![stuck(0, false)]);
    let told = status(&claimed(|_| ()), Home::View(&view), now());
    let said = "partition 0 has no quorum: broker 1 is missing";
    assert_eq!(condition(&told, "Ready"), ("False", "QuorumLost", said));
    assert_eq!(condition(&told, "Stalled").0, "True");
}

#[test]
fn an_annotation_that_cannot_be_meant_is_told_and_does_not_hide_what_is_so() {
    let annotated = |value: &str| {
        let value = value.to_owned();
        claimed(move |topic| {
            topic.metadata.annotations = Some([(ACCEPT_DATA_LOSS.to_owned(), value)].into());
        })
    };
    for (value, said) in [
        ("yes", "\"yes\" is not PARTITION:EPOCH, such as 0:1763750000.4"),
        ("0:7", "\"0:7\" is not PARTITION:EPOCH, such as 0:1763750000.4"),
        (
            "0:7.1,1:7.1",
            "1:7.1 names a partition that is not there: there is no partition 1, the last one is 0",
        ),
    ] {
        let view = view(vec![partition(true)]);
        let told = status(&annotated(value), Home::View(&view), now());
        let whole =
            format!("annotation fulmar.dev/accept-data-loss: {said}; several are separated by commas");
        assert_eq!(condition(&told, "Stalled"), ("True", "InvalidAnnotation", whole.as_str()));
        assert_eq!(ready(&told), ("True", "Serving"));
    }
    // One that stays when its work is done is nothing to talk about.
    let view = view(vec![partition(true)]);
    let told = status(&annotated("0:7.1"), Home::View(&view), now());
    assert_eq!(condition(&told, "Stalled").0, "False");
}

#[test]
fn what_was_given_up_is_said_as_long_as_its_leader_leads() {
    let given_up = PartitionView { may_have_lost: Some(Offset(400)), ..partition(true) };
    let view = view(vec![partition(true), given_up]);
    let told = status(&claimed(|topic| topic.spec.partitions = 2), Home::View(&view), now());
    let said = "all 2 partitions accept and commit records; partition 1 may lack acknowledged records from offset 400 on";
    assert_eq!(condition(&told, "Ready"), ("True", "Serving", said));
}

#[test]
fn partitions_are_shown_line_by_line_up_to_a_bound() {
    let told = status(&claimed(|_| ()), Home::View(&view(vec![partition(true)])), now());
    assert_eq!(told.partitions, ["0 leader=2 replicas=2,0,1 inSync=2,0"]);
    assert_eq!(told.under_replicated, Some(1));
    let many = vec![partition(true); STATUS_PARTITIONS_MAX + 1];
    let told = status(&claimed(|topic| topic.spec.partitions = 65), Home::View(&view(many)), now());
    assert!(told.partitions.is_empty());
    assert_eq!(ready(&told).0, "True");
}

#[test]
fn the_same_facts_give_the_same_status_later() {
    let view = view(vec![partition(true)]);
    let first = status(&claimed(|_| ()), Home::View(&view), now());
    let written = first.clone();
    let again = claimed(|topic| topic.status = Some(written));
    assert_eq!(status(&again, Home::View(&view), Timestamp::from_second(9_000).unwrap()), first);
}

#[test]
fn conditions_stand_in_a_fixed_order() {
    let kinds = |home: Home<'_>| -> Vec<String> {
        status(&claimed(|_| ()), home, now()).conditions.into_iter().map(|one| one.type_).collect()
    };
    let expected = ["Ready", "Reconciling", "Stalled", "FullyReplicated"];
    assert_eq!(kinds(Home::Absent), expected);
    assert_eq!(kinds(Home::View(&view(vec![]))), expected);
}
