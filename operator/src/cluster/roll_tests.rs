use super::*;

fn pod(ordinal: u16, revision: &str) -> BrokerPod {
    BrokerPod {
        ordinal,
        name: format!("orders-{ordinal}"),
        uid: format!("u{ordinal}"),
        created: None,
        address: None,
        zone: Some(["b", "a", "b"][usize::from(ordinal)].to_owned()),
        node: None,
        volume: None,
        running: true,
        ready: true,
        unready_since: None,
        leaving: false,
        revision: Some(revision.to_owned()),
        certificates: None,
        trouble: None,
    }
}

fn healthy() -> Health {
    Health { settled: true, serving: [0, 1, 2].into(), ..Health::default() }
}

fn three(revision: &str) -> Vec<BrokerPod> {
    (0..3).map(|ordinal| pod(ordinal, revision)).collect()
}

#[test]
fn nothing_is_done_when_every_pod_is_of_the_template() {
    assert_eq!(next("new", 3, &three("new"), &Health::default()), Step::Done);
}

#[test]
fn the_roll_goes_zone_by_zone() {
    let mut pods = three("old");
    let mut order = Vec::new();
    while let Step::Evict(pod) = next("new", 3, &pods, &healthy()) {
        order.push(pod.ordinal);
        pods[usize::from(pod.ordinal)].revision = Some("new".to_owned());
    }
    assert_eq!(order, [1, 0, 2]);
}

#[test]
fn a_healthy_broker_stays_while_anything_else_is_missing() {
    let unsettled = Health { settled: false, ..healthy() };
    let behind = Health { under_replicated: 2, ..healthy() };
    let apart = Health { serving: [0, 1].into(), ..healthy() };
    for health in [unsettled, behind, apart] {
        assert!(matches!(next("new", 3, &three("old"), &health), Step::Wait(_)), "{health:?}");
    }
    let mut leaving = three("old");
    leaving[1].leaving = true;
    let mut unready = three("old");
    unready[1].ready = false;
    unready[1].revision = Some("new".to_owned());
    let missing = three("old")[..2].to_vec();
    for pods in [leaving, unready, missing] {
        assert!(matches!(next("new", 3, &pods, &healthy()), Step::Wait(_)), "{pods:?}");
    }
}

#[test]
fn a_broker_that_never_came_up_is_made_anew_at_once() {
    let mut pods = three("old");
    pods[2].ready = false;
    let health = Health { serving: [0, 1].into(), ..healthy() };
    assert_eq!(next("new", 3, &pods, &health), Step::Delete(pods[2].clone()));
    // One that serves though it is not ready may hold what nobody else has.
    assert!(matches!(next("new", 3, &pods, &healthy()), Step::Wait(_)));
}

#[test]
fn what_would_stop_programs_is_refused_and_says_who_would_be_stopped() {
    let unsparing = vec!["payments".to_owned()];
    let health = Health { unsparing, ..healthy() };
    let Step::Refuse(refusal) = next("new", 3, &three("old"), &health) else { panic!("it is not refused") };
    assert_eq!(refusal.reason, QUORUM_WOULD_BE_LOST);
    assert!(refusal.message.contains("topic payments could not be published to"));
    assert!(refusal.message.ends_with("kubectl delete pod orders-0"), "{}", refusal.message);
    // Nothing is said while nothing is to be made anew, and who never came up goes all the same.
    assert_eq!(next("new", 3, &three("new"), &health), Step::Done);
    let mut pods = three("old");
    pods[2].ready = false;
    let away = Health { serving: [0, 1].into(), ..health };
    assert_eq!(next("new", 3, &pods, &away), Step::Delete(pods[2].clone()));
}
