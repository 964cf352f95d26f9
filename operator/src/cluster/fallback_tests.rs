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
    let problem = settle(&mut next, live, finding, None);
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
        unready_since: None,
        leaving: false,
        revision: Some(revision.to_owned()),
        certificates: None,
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
fn a_template_that_is_followed_by_another_before_it_was_noted_is_the_one_to_go_back_to() {
    let (one, _) = pass("broker:1", None, None);
    let (mut two, _) = pass("broker:2", Some(&one), None);
    let pods: Vec<BrokerPod> = (0..3).map(|ordinal| pod(ordinal, "one", true, None)).collect();
    let step = Step::Evict(pods[0].clone());
    let before = Rolled { revision: "one".to_owned(), template: template(&one).clone() };
    let proven = outlived(&step, &pods, Some(&before));
    assert_eq!(proven, Some(Finding::Proven(name(template(&one)))));
    let live = two.clone();
    assert!(settle(&mut two, Some(&live), proven.as_ref(), Some(template(&one))).is_none());
    // Later steps say nothing of it, nor does one that no broker is of: it was given up, or never in place.
    let mixed = [pod(0, "two", true, None), pods[1].clone(), pods[2].clone()];
    assert_eq!(outlived(&step, &mixed, Some(&before)), None);
    let rejected = Rolled { revision: "rejected".to_owned(), ..before };
    assert_eq!(outlived(&step, &pods, Some(&rejected)), None);
    assert_eq!(outlived(&Step::Done, &pods, Some(&rejected)), None);
    let failed = Finding::Failed(name(template(&two)), "ImagePullBackOff".to_owned());
    let (back, problem) = pass("broker:2", Some(&two), Some(&failed));
    assert_eq!(template(&back), template(&one));
    assert_eq!(problem.unwrap().reason, "RolloutFailed");
}

#[test]
fn without_a_template_that_was_ever_good_there_is_nothing_to_go_back_to() {
    let first = set("broker:1");
    let failed = Finding::Failed(name(template(&first)), "it crashes".to_owned());
    let (same, problem) = pass("broker:1", Some(&first), Some(&failed));
    assert_eq!(template(&same), template(&first));
    let problem = problem.unwrap();
    assert!(problem.stuck && problem.reason == "NoBrokerCameUp" && problem.message.starts_with("it crashes"));
    // A broker that crashes again and again is in no trouble for a moment, and it may come up all the same.
    assert_eq!(pass("broker:1", Some(&same), None).1.unwrap(), problem);
    let came_up = Finding::CameUp(name(template(&first)));
    let (up, problem) = pass("broker:1", Some(&same), Some(&came_up));
    assert!(problem.is_none() && pass("broker:1", Some(&up), None).1.is_none());
    // The next wish is tried without being asked; if it fails, what ran before is not forgotten.
    let (two, problem) = pass("broker:2", Some(&same), Some(&failed));
    assert!(problem.is_none());
    let failed = Finding::Failed(name(template(&two)), "no such image".to_owned());
    assert_eq!(pass("broker:2", Some(&two), Some(&failed)).1.unwrap().reason, "NoBrokerCameUp");
    assert_eq!(pass("broker:2", Some(&up), Some(&failed)).1.unwrap().reason, "RolloutFailed");
}

fn at(minutes: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_mins(minutes)
}

/// What is found of a template called "new", in the middle of a roll.
fn found(pods: &[BrokerPod], minutes: u64) -> Option<Finding> {
    find("new", "new", false, 2, pods, at(minutes))
}

fn failed(template: &str, why: &str) -> Finding {
    Finding::Failed(template.to_owned(), why.to_owned())
}

#[test]
fn only_a_template_that_brings_up_nobody_has_failed() {
    let stuck = [pod(0, "new", false, Some("ErrImagePull")), pod(1, "old", true, None)];
    assert_eq!(found(&stuck, 4), None);
    assert_eq!(found(&stuck, 5), Some(failed("new", "orders-0 after 5 minutes: ErrImagePull")));
    let slow = [pod(0, "new", false, None), pod(1, "old", true, None)];
    assert_eq!(found(&slow, 14), None, "it may have much to recover");
    assert_eq!(found(&slow, 15), Some(failed("new", "orders-0 after 15 minutes: it is not Ready")));
    let second = [pod(0, "new", true, None), pod(1, "new", false, Some("Unschedulable"))];
    assert_eq!(found(&second, 60), Some(Finding::CameUp("new".to_owned())), "the first one is Ready");
}

#[test]
fn a_template_is_proven_when_every_broker_is_ready_with_it() {
    let both = [pod(0, "new", true, None), pod(1, "new", true, None)];
    assert_eq!(find("new", "new", true, 2, &both, at(1)), Some(Finding::Proven("new".to_owned())));
    let one = [pod(0, "new", true, None), pod(1, "new", false, None)];
    assert_eq!(find("new", "new", true, 2, &one, at(1)), Some(Finding::CameUp("new".to_owned())));
}

#[test]
fn a_pod_that_is_unready_for_a_moment_long_after_it_was_made_is_not_overdue() {
    let mut only = pod(0, "new", false, None);
    only.unready_since = Some(at(60));
    assert_eq!(found(&[only.clone()], 60), None);
    assert_eq!(found(&[only.clone()], 74), None);
    assert!(matches!(found(&[only.clone()], 75), Some(Finding::Failed(..))));
    only.trouble = Some("CrashLoopBackOff".to_owned());
    assert_eq!(found(&[only.clone()], 64), None);
    assert_eq!(found(&[only], 65), Some(failed("new", "orders-0 after 5 minutes: CrashLoopBackOff")));
}

#[test]
fn a_template_that_came_up_once_stays_in_a_total_outage_before_the_roll_is_over() {
    let (one, _) = pass("broker:1", None, Some(&Finding::Proven(name(template(&set("broker:1"))))));
    let (two, _) = pass("broker:2", Some(&one), None);
    let new = name(template(&two));
    let judge = |pods: &[BrokerPod], minutes| find(&new, "new", false, 2, pods, at(minutes));
    // The first broker of it is Ready, the second one still of the template before.
    let up = judge(&[pod(0, "new", true, None), pod(1, "old", true, None)], 10);
    let (up, problem) = pass("broker:2", Some(&two), up.as_ref());
    assert!(problem.is_none());
    // Then nobody is, for longer than any pod is given.
    let mut pods = [pod(0, "new", false, Some("CrashLoopBackOff")), pod(1, "old", false, None)];
    for pod in &mut pods {
        pod.unready_since = Some(at(11));
    }
    let outage = judge(&pods, 40);
    assert!(matches!(outage, Some(Finding::Failed(..))), "{outage:?}");
    let (same, problem) = pass("broker:2", Some(&up), outage.as_ref());
    assert!(problem.is_none() && same == up);
    // The next operator reads it from the set; another template is not spared by it.
    let (next, problem) = pass("broker:2", Some(&same), judge(&pods, 60).as_ref());
    assert!(problem.is_none() && next == up);
    let (three, _) = pass("broker:3", Some(&next), None);
    let (back, problem) =
        pass("broker:3", Some(&three), Some(&failed(&name(template(&three)), "it crashes")));
    assert!(problem.is_some());
    assert_eq!(template(&back), template(&one));
}
