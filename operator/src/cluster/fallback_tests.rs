use super::*;
use crate::certificates::{Certificates, Kept};
use crate::cluster::build::build;
use crate::cluster::fixture::wanted;

fn set(image: &str) -> StatefulSet {
    let image = image.to_owned();
    let none =
        Certificates { ca: Kept::default(), brokers: Kept::default(), renew_at: Timestamp::UNIX_EPOCH };
    build(&wanted(|cluster| cluster.spec.image = Some(image)), &none, 3, 0).stateful_set
}

fn template(set: &StatefulSet) -> &PodTemplateSpec {
    &set.spec.as_ref().unwrap().template
}

/// The set as the API server has it after a pass with this finding.
fn pass(
    image: &str,
    live: Option<&StatefulSet>,
    finding: Option<&Finding>,
) -> (StatefulSet, Option<Problem>) {
    let mut next = set(image);
    let problem = settle(&mut next, live, finding);
    (next, problem)
}

fn pod(ordinal: u16, revision: &str, ready: bool, trouble: Option<&str>) -> BrokerPod {
    BrokerPod {
        ordinal,
        name: format!("orders-{ordinal}"),
        uid: String::new(),
        created: Some(Timestamp::UNIX_EPOCH),
        address: None,
        zone: None,
        node: None,
        volume: None,
        running: true,
        ready,
        leaving: false,
        revision: Some(revision.to_owned()),
        trouble: trouble.map(str::to_owned),
    }
}

#[test]
fn a_template_whose_first_broker_is_not_ready_in_time_gives_way_to_the_one_before() {
    let good = set("broker:1");
    let (one, problem) = pass("broker:1", None, Some(&Finding::Proven(name(template(&good)))));
    assert!(problem.is_none() && template(&one) == template(&good));
    // Another one is tried, and remembered is the one before.
    let (two, problem) = pass("broker:2", Some(&one), None);
    assert!(problem.is_none());
    assert_eq!(template(&two), template(&set("broker:2")));
    let why = "orders-0 after 5 minutes: ImagePullBackOff".to_owned();
    let (back, problem) = pass("broker:2", Some(&two), Some(&Finding::Failed(name(template(&two)), why)));
    assert_eq!(template(&back), template(&good));
    let problem = problem.unwrap();
    assert!(problem.stuck && problem.reason == "RolloutFailed");
    assert!(problem.message.contains("ImagePullBackOff"), "{}", problem.message);
    // The next operator knows it too, and that the good one is proven changes nothing.
    let (later, problem) = pass("broker:2", Some(&back), Some(&Finding::Proven(name(template(&good)))));
    assert!(problem.is_some() && later == back);
    // Another wish is another try.
    let (three, problem) = pass("broker:3", Some(&later), None);
    assert!(problem.is_none());
    assert_eq!(template(&three), template(&set("broker:3")));
    assert!(!three.metadata.annotations.as_ref().unwrap().contains_key(REJECTED));
}

#[test]
fn without_a_template_that_was_ever_good_there_is_nothing_to_go_back_to() {
    let first = set("broker:1");
    let failed = Finding::Failed(name(template(&first)), "it crashes".to_owned());
    let (same, problem) = pass("broker:1", Some(&first), Some(&failed));
    assert!(problem.is_none() && same == first);
}

#[test]
fn only_a_template_that_brings_up_nobody_has_failed() {
    let at = |minutes: u64| Timestamp::UNIX_EPOCH + Duration::from_mins(minutes);
    let stuck = [pod(0, "new", false, Some("ErrImagePull")), pod(1, "old", true, None)];
    assert_eq!(failure("new", &stuck, at(4)), None);
    assert_eq!(failure("new", &stuck, at(5)).unwrap(), "orders-0 after 5 minutes: ErrImagePull");
    let slow = [pod(0, "new", false, None), pod(1, "old", true, None)];
    assert_eq!(failure("new", &slow, at(14)), None, "it may have much to recover");
    assert!(failure("new", &slow, at(15)).is_some());
    let second = [pod(0, "new", true, None), pod(1, "new", false, Some("Unschedulable"))];
    assert_eq!(failure("new", &second, at(60)), None, "the first one is Ready");
}
