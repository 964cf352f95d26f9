use fulmar_core::control::{BrokerState, BrokerView};
use fulmar_core::id::Ordinal;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(ordinal: u16) -> BrokerPod {
    BrokerPod {
        ordinal,
        name: format!("orders-{ordinal}"),
        uid: format!("u{ordinal}"),
        created: Some(at(100)),
        address: None,
        zone: None,
        node: None,
        volume: None,
        running: true,
        ready: true,
        unready_since: None,
        leaving: false,
        revision: None,
        certificates: None,
        trouble: None,
    }
}

/// Brokers that say these certificates, by ordinal.
fn saying(certificates: &[&str]) -> View {
    let broker = |(ordinal, says): (u16, &&str)| BrokerView {
        ordinal: Ordinal(ordinal),
        incarnation: None,
        zone: None,
        state: BrokerState::Serving,
        replicas: 0,
        is_empty: false,
        message: String::new(),
        certificates: (*says).to_owned(),
        disk: None,
    };
    View { brokers: (0..).zip(certificates).map(broker).collect(), ..View::default() }
}

fn ordinals(pods: &[BrokerPod], view: Option<&View>, changed: Option<Timestamp>) -> Vec<u16> {
    behind(pods, view, "new", changed).iter().map(|pod| pod.ordinal).collect()
}

#[test]
fn only_pods_whose_brokers_use_older_certificates_are_told() {
    let pods: Vec<_> = (0..3).map(pod).collect();
    assert_eq!(ordinals(&pods, Some(&saying(&["old", "new", "old"])), Some(at(200))), [0, 2]);
    assert_eq!(ordinals(&pods, Some(&saying(&["new", "new", "new"])), Some(at(200))), [0; 0]);
}

#[test]
fn a_pod_that_was_told_is_left_alone() {
    let pods = [BrokerPod { certificates: Some("new".to_owned()), ..pod(0) }];
    assert_eq!(ordinals(&pods, Some(&saying(&["old"])), Some(at(200))), [0; 0]);
    let pods = [BrokerPod { certificates: Some("older".to_owned()), ..pod(0) }];
    assert_eq!(ordinals(&pods, Some(&saying(&["old"])), Some(at(200))), [0]);
}

#[test]
fn a_broker_that_is_not_heard_is_judged_by_the_age_of_its_pod() {
    let pods = [pod(0)];
    for view in [None, Some(&saying(&[])), Some(&saying(&[""]))] {
        assert_eq!(ordinals(&pods, view, Some(at(101))), [0], "made before the Secret changed");
        assert_eq!(ordinals(&pods, view, Some(at(100))), [0; 0], "it had the Secret from its start");
        assert_eq!(ordinals(&pods, view, None), [0; 0], "nothing is known");
    }
}

#[test]
fn a_pod_that_stops_or_has_ended_is_not_told() {
    let pods = [BrokerPod { leaving: true, ..pod(0) }, BrokerPod { running: false, ..pod(1) }];
    assert_eq!(ordinals(&pods, Some(&saying(&["old", "old"])), Some(at(200))), [0; 0]);
}

#[test]
fn a_pod_is_told_once_of_each_change() {
    let mut told = Told::default();
    assert!(told.is_new("new", "u0") && told.is_new("new", "u1"));
    assert!(!told.is_new("new", "u0"));
    assert!(told.is_new("newer", "u0") && !told.is_new("newer", "u0"));
}
