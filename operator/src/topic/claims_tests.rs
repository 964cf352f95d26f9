use super::*;
use crate::topic::fixture::topic;

fn standings(topics: &[Arc<Topic>]) -> Vec<(String, String)> {
    let text = |standing: Standing| match standing {
        Standing::Holder(settings) => format!("holds {}", settings.name),
        Standing::Taken { name, by } => format!("{name} is {by}'s"),
        Standing::Invalid(error) => error.to_string(),
    };
    claims(topics, Some(3)).into_iter().map(|one| (one.topic.name_any(), text(one.standing))).collect()
}

#[test]
fn of_two_topics_that_claim_one_name_the_older_has_it() {
    let old = topic("young-name", |topic| topic.spec.topic_name = Some("orders".to_owned()), 10);
    let young = topic("orders", |_| (), 20);
    let expected = [
        ("orders".to_owned(), "orders is young-name's".to_owned()),
        ("young-name".to_owned(), "holds orders".to_owned()),
    ];
    assert_eq!(standings(&[young, old]), expected);
}

#[test]
fn of_the_same_second_the_lower_uid_has_it_whatever_the_order() {
    let claim = |name: &str| topic(name, |topic| topic.spec.topic_name = Some("orders".to_owned()), 10);
    let (a, b) = (claim("a"), claim("b"));
    assert_eq!(standings(&[Arc::clone(&a), Arc::clone(&b)]), standings(&[b, a]));
}

#[test]
fn a_topic_that_is_being_deleted_keeps_its_name_until_it_is_gone() {
    let going = topic(
        "first",
        |topic| {
            topic.spec.topic_name = Some("orders".to_owned());
            topic.spec.deletion_policy = DeletionPolicy::Delete;
            topic.metadata.finalizers = Some(vec![FINALIZER_RECORDS.to_owned()]);
            topic.metadata.deletion_timestamp = topic.metadata.creation_timestamp.clone();
        },
        10,
    );
    let next = topic("orders", |_| (), 20);
    let claims = claims(&[going, next], Some(3));
    assert_eq!(claims[0].condemned(), Some("orders"));
    assert!(matches!(claims[1].standing, Standing::Taken { .. }));
}

#[test]
fn only_the_holder_of_a_name_may_have_its_records_deleted() {
    let winner = topic("winner", |topic| topic.spec.topic_name = Some("orders".to_owned()), 10);
    let loser = topic(
        "orders",
        |topic| {
            topic.spec.deletion_policy = DeletionPolicy::Delete;
            topic.metadata.finalizers = Some(vec![FINALIZER_RECORDS.to_owned()]);
            topic.metadata.deletion_timestamp = topic.metadata.creation_timestamp.clone();
        },
        20,
    );
    assert!(claims(&[winner, loser], Some(3)).iter().all(|one| one.condemned().is_none()));
}

#[test]
fn a_quorum_that_the_clusters_brokers_cannot_give_is_invalid() {
    let greedy = topic("orders", |topic| topic.spec.ack_quorum = Some(3), 10);
    assert!(matches!(claims(std::slice::from_ref(&greedy), Some(1))[0].standing, Standing::Invalid(_)));
    assert!(matches!(claims(&[greedy], Some(3))[0].standing, Standing::Holder(_)));
}
