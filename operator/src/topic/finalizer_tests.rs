use super::*;
use crate::topic::claims::claims;
use crate::topic::fixture::topic;

fn claimed(going: bool, held: bool, policy: DeletionPolicy) -> Claimed {
    let topic = topic(
        "orders",
        |topic| {
            topic.spec.deletion_policy = policy;
            topic.metadata.finalizers = held.then(|| vec![FINALIZER_RECORDS.to_owned()]);
            topic.metadata.deletion_timestamp =
                going.then(|| topic.metadata.creation_timestamp.clone()).flatten();
        },
        10,
    );
    claims(&[topic], Some(3)).remove(0)
}

fn settled() -> View {
    View { controller_epoch: 7, ..View::default() }
}

#[test]
fn a_retained_topic_never_has_a_finalizer() {
    let view = settled();
    assert_eq!(step(&claimed(false, false, DeletionPolicy::Retain), Keeper::View(&view)), Step::Keep);
    assert_eq!(step(&claimed(false, true, DeletionPolicy::Retain), Keeper::View(&view)), Step::Lift);
    assert_eq!(step(&claimed(true, true, DeletionPolicy::Retain), Keeper::Busy), Step::Lift);
}

#[test]
fn a_topic_that_deletes_its_records_is_held_until_they_are_gone() {
    assert_eq!(step(&claimed(false, false, DeletionPolicy::Delete), Keeper::Busy), Step::Set);
    let going = claimed(true, true, DeletionPolicy::Delete);
    let mut view = settled();
    view.retained = vec!["orders".to_owned()];
    assert_eq!(step(&going, Keeper::View(&view)), Step::LiftIfNamespaceGoes);
    assert_eq!(step(&going, Keeper::Busy), Step::LiftIfNamespaceGoes);
    assert_eq!(
        step(&going, Keeper::View(&View::default())),
        Step::LiftIfNamespaceGoes,
        "no tenure, no knowledge"
    );
    assert_eq!(step(&going, Keeper::View(&settled())), Step::Lift);
}

#[test]
fn nobody_left_to_delete_the_records_means_that_nothing_is_waited_for() {
    assert_eq!(step(&claimed(true, true, DeletionPolicy::Delete), Keeper::Nobody), Step::Lift);
}
