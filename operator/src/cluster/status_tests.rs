use std::sync::LazyLock;

use fulmar_core::control::Waiting;
use fulmar_core::id::Ordinal;
use serde_json::json;

use super::*;
use crate::cluster::fixture::cluster;

fn now() -> Timestamp {
    Timestamp::from_second(1_000).unwrap()
}

fn broker(ordinal: u16, state: BrokerState) -> BrokerView {
    BrokerView {
        ordinal: Ordinal(ordinal),
        incarnation: None,
        zone: None,
        state,
        replicas: 0,
        is_empty: false,
        message: String::new(),
        certificates: String::new(),
        disk: None,
    }
}

fn serving() -> View {
    let brokers = (0..3).map(|ordinal| broker(ordinal, BrokerState::Serving)).collect();
    View { controller_epoch: 7, brokers, wished: 3, min_brokers: 3, ..View::default() }
}

fn told(view: Option<&View>, change: impl FnOnce(&mut Facts<'_>)) -> ClusterStatus {
    told_of(&cluster(|_| ()), &pods(), view, change)
}

fn told_of(
    cluster: &Cluster,
    pods: &[BrokerPod],
    view: Option<&View>,
    change: impl FnOnce(&mut Facts<'_>),
) -> ClusterStatus {
    told_by(cluster, (pods, &Volumes::default(), &Leftovers::default()), view, change)
}

fn told_by(
    cluster: &Cluster,
    (pods, volumes, leftovers): (&[BrokerPod], &Volumes, &Leftovers),
    view: Option<&View>,
    change: impl FnOnce(&mut Facts<'_>),
) -> ClusterStatus {
    let key = ClusterKey { namespace: "shop".to_owned(), name: "orders".to_owned() };
    let set = serde_json::from_value(json!({
        "metadata": {},
        "spec": {"replicas": 3, "selector": {}, "serviceName": "orders", "template": {}},
        "status": {"replicas": 3},
    }))
    .unwrap();
    let mut facts = Facts {
        key: &key,
        cluster,
        wanted: Some(3),
        problem: None,
        volumes: Some(volumes),
        leftovers: Some(leftovers),
        scale: Some(Scale::AsWanted(3)),
        stateful_set: Some(&set),
        pods,
        roll: Some(&Step::Done),
        view,
    };
    change(&mut facts);
    status(facts, now())
}

fn condition<'a>(status: &'a ClusterStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
    let one = status.conditions.iter().find(|one| one.type_ == kind).unwrap();
    (&one.status, &one.reason, &one.message)
}

#[test]
fn a_cluster_is_ready_when_every_broker_wanted_serves() {
    let status = told(Some(&serving()), |_| ());
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(condition(&status, "Available").0, "True");
    assert_eq!(status.brokers_ready.as_deref(), Some("3/3"));
    assert_eq!((status.replicas, status.min_replicas), (Some(3), Some(3)));
    assert_eq!(
        status.selector.as_deref(),
        Some("app.kubernetes.io/instance=orders,app.kubernetes.io/name=fulmar-broker")
    );
}

#[test]
fn it_is_not_ready_before_the_last_of_them_serves_and_names_who_is_missing() {
    let mut view = serving();
    view.brokers[1].state = BrokerState::Connecting;
    let status = told(Some(&view), |_| ());
    assert_eq!(condition(&status, "Ready"), ("False", "AwaitingBrokers", "orders-1 is Connecting"));
    assert_eq!(status.brokers_ready.as_deref(), Some("2/3"));
    let status = told(None, |_| ());
    assert_eq!(condition(&status, "Ready").0, "False");
    assert_eq!(condition(&status, "Available").0, "Unknown");
}

#[test]
fn it_is_not_ready_without_a_tenure() {
    let view = View { controller_epoch: 0, ..serving() };
    let status = told(Some(&view), |_| ());
    assert_eq!(condition(&status, "Ready").0, "False");
    assert_eq!(status.min_replicas, None, "nothing is taken from a table that was not read");
}

#[test]
fn a_controller_that_halted_stalls_it() {
    let halted = Waiting { reason: "TwoIdentities", message: "two".to_owned(), halted: true };
    let view = View { waiting: Some(halted), ..serving() };
    let status = told(Some(&view), |_| ());
    assert_eq!(condition(&status, "Ready"), ("False", "TwoIdentities", "two"));
    assert_eq!(condition(&status, "Stalled").0, "True");
    assert_eq!(condition(&status, "Reconciling").0, "False");
}

#[test]
fn a_scale_down_below_the_floor_is_refused_aloud() {
    let view = View { min_brokers: 3, holding: 3, wished: 2, ..serving() };
    let status = told(Some(&view), |facts| {
        facts.wanted = Some(2);
        facts.scale = Some(Scale::Held(3));
    });
    let (truth, reason, message) = condition(&status, "Ready");
    assert_eq!((truth, reason), ("False", "ScaleDownRefused"));
    assert!(message.starts_with("2 brokers are wanted, and there is a topic with 3 replicas"), "{message}");
    assert_eq!(condition(&status, "Stalled").0, "True");
}

#[test]
fn a_scale_down_tells_how_far_it_is_and_takes_no_readiness_away() {
    let moving = Some(fulmar_core::control::Moving { done: 37, total: 120, under_way: 4, is_paused: false });
    let view = View { moving, holding: 3, wished: 2, min_brokers: 2, ..serving() };
    let status = told(Some(&view), |facts| {
        facts.wanted = Some(2);
        facts.scale = Some(Scale::Held(3));
    });
    assert_eq!(condition(&status, "Ready").0, "True");
    let message = "3 brokers run until those that leave hold nothing: 37 of 120 replicas are moved";
    assert_eq!(condition(&status, "Reconciling"), ("True", "ScalingDown", message));
    assert_eq!(condition(&status, "Balanced"), ("False", "ScalingDown", message));
    assert_eq!(status.operation.unwrap().progress, "ScaleDown 37/120");
    let view = View { wished: 3, ..view };
    let status = told(Some(&view), |_| ());
    assert_eq!(condition(&status, "Reconciling"), ("True", "MovingReplicas", "37 of 120 replicas are moved"));
    assert_eq!(status.operation.unwrap().progress, "Rebalance 37/120");
    let status = told(Some(&serving()), |_| ());
    assert_eq!((condition(&status, "Balanced").0, &status.operation), ("True", &None));
}

#[test]
fn moves_that_are_paused_are_told_and_keep_nobody_waiting_but_who_leaves() {
    let paused = |under_way| Some(Moving { done: 7, total: 20, under_way, is_paused: true });
    let mut view = View { moving: paused(2), ..serving() };
    let status = told(Some(&view), |_| ());
    let message = "7 of 20 replicas are moved; 2 are on their way, and no other one begins to move until \
                   spec.rebalance.paused is false";
    assert_eq!(condition(&status, "Balanced"), ("False", "MovesPaused", message));
    assert_eq!(condition(&status, "Reconciling"), ("True", "MovesPaused", message));
    assert_eq!(status.operation.unwrap().step, "MovingReplicas");
    view.moving = paused(0);
    let status = told(Some(&view), |_| ());
    let message = "7 of 20 replicas are moved; nothing moves until spec.rebalance.paused is false";
    assert_eq!(condition(&status, "Balanced"), ("False", "MovesPaused", message));
    assert_eq!(condition(&status, "Reconciling"), ("False", "MovesPaused", message));
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(status.operation.unwrap().step, "Paused");
    let status = told(Some(&view), |facts| facts.scale = Some(Scale::Held(5)));
    let (truth, reason, message) = condition(&status, "Reconciling");
    assert_eq!((truth, reason), ("True", "MovesPaused"), "two pods too many run");
    assert!(message.starts_with("5 brokers run until those that leave hold nothing: 7 of 20"), "{message}");
}

#[test]
fn a_volume_that_goes_is_told_and_one_that_may_not_go_needs_a_person() {
    let going = Leftovers { going: vec!["data-orders-4".to_owned()], ..Leftovers::default() };
    let told = |leftovers: &Leftovers| {
        let volumes = Volumes::default();
        told_by(&cluster(|_| ()), (&pods(), &volumes, leftovers), Some(&serving()), |_| ())
    };
    let status = told(&going);
    let message = "claims of removed brokers go: data-orders-4";
    assert_eq!(condition(&status, "Reconciling"), ("True", "DeletingVolumes", message));
    assert_eq!(condition(&status, "VolumesReleased"), ("False", "DeletingVolumes", message));
    assert_eq!(condition(&status, "Ready").0, "True");
    let refusal = Some(Refusal { reason: "DeletionRefused", message: "forbidden".to_owned() });
    let refused = Leftovers { refusal, ..Leftovers::default() };
    let status = told(&refused);
    assert_eq!(condition(&status, "Stalled"), ("True", "DeletionRefused", "forbidden"));
    assert_eq!(condition(&status, "VolumesReleased"), ("False", "DeletionRefused", "forbidden"));
}

#[test]
fn it_is_balanced_once_those_that_joined_have_their_part() {
    let mut view = View { wished: 3, ..serving() };
    for broker in &mut view.brokers[..2] {
        broker.replicas = 6;
    }
    view.brokers[2].state = BrokerState::Connecting;
    let balanced = |view: &View| {
        let status = told(Some(view), |_| ());
        let (truth, reason, message) = condition(&status, "Balanced");
        (truth.to_owned(), reason.to_owned(), message.to_owned())
    };
    let expected = ("False".to_owned(), "AwaitingBrokers".to_owned(), "orders-2 do not serve yet".to_owned());
    assert_eq!(balanced(&view), expected);
    view.brokers[2].state = BrokerState::Serving;
    view.unplanned = true;
    assert_eq!(balanced(&view).1, "Planning");
    view.unplanned = false;
    assert_eq!(balanced(&view).0, "True");
    // The wish is another one already.
    let before = View { wished: 2, ..view.clone() };
    assert_eq!(balanced(&before).1, "Planning");
    // Who has a part and restarts is no news of it.
    view.brokers[0].state = BrokerState::Dead;
    assert_eq!(balanced(&view).0, "True");
}

#[test]
fn what_holds_up_a_scale_down_is_named() {
    let disk = fulmar_core::control::Disk { total_bytes: 1 << 30, used_percent: 85, is_full: false };
    let moving = Some(Moving { done: 1, total: 9, under_way: 1, is_paused: false });
    let mut view = View { moving, holding: 4, named: 4, ..serving() };
    view.brokers[1].disk = Some(disk);
    view.brokers.push(broker(3, BrokerState::Dead));
    let balanced = |view: &View| {
        let status = told(Some(view), |facts| facts.scale = Some(Scale::Held(4)));
        assert_eq!(status.brokers_ready.as_deref(), Some("3/3"), "who leaves is not counted");
        condition(&status, "Balanced").2.to_owned()
    };
    let said = "4 brokers run until those that leave hold nothing: ";
    let crowded = "1 of 9 replicas are moved; too little room on the volumes of orders-1";
    assert_eq!(balanced(&view), format!("{said}{crowded}"));
    (view.moving, view.named, view.unheard) = (None, 3, vec![Ordinal(3)]);
    let unheard = balanced(&view);
    assert!(
        unheard.starts_with(&format!("{said}their replicas are moved; not heard: orders-3")),
        "{unheard}"
    );
}

fn pods() -> Vec<BrokerPod> {
    (0..5).map(numbered).collect()
}

fn pod() -> BrokerPod {
    numbered(0)
}

fn numbered(ordinal: u16) -> BrokerPod {
    BrokerPod {
        ordinal,
        name: format!("orders-{ordinal}"),
        uid: String::new(),
        created: None,
        address: None,
        zone: None,
        node: Some("n1".to_owned()),
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

#[test]
fn a_zone_that_is_not_known_is_said() {
    let pod = pod();
    let known = BrokerPod { zone: Some("a".to_owned()), ..pod.clone() };
    let view = serving();
    let status = told_of(&cluster(|_| ()), &[pod], Some(&view), |_| ());
    assert_eq!(condition(&status, "ZonesKnown").0, "False");
    let status = told_of(&cluster(|_| ()), &[known], Some(&view), |_| ());
    assert_eq!(condition(&status, "ZonesKnown").0, "True");
}

#[test]
fn conditions_stand_in_a_fixed_order_and_the_same_facts_give_the_same_status() {
    let view = serving();
    let first = told(Some(&view), |_| ());
    let kinds: Vec<&str> = first.conditions.iter().map(|one| one.type_.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "Ready",
            "Reconciling",
            "Stalled",
            "Available",
            "Balanced",
            "ZonesKnown",
            "RolloutComplete",
            "DiskPressure",
            "VolumesSized",
            "VolumesReleased"
        ]
    );
    let mut again = cluster(|_| ());
    again.status = Some(first.clone());
    assert_eq!(told_of(&again, &pods(), Some(&view), |_| ()), first);
}

#[test]
fn pods_that_nobody_makes_are_named_with_where_to_look() {
    let cluster = cluster(|_| ());
    let status = told_of(&cluster, &pods()[..1], Some(&serving()), |facts| facts.roll = Some(&Step::Done));
    let (truth, reason, message) = condition(&status, "Ready");
    assert_eq!((truth, reason), ("False", "PodsMissing"));
    assert!(
        message.starts_with("no such pod: orders-1, orders-2; ")
            && message.contains("describe statefulset orders")
    );
    assert_eq!(condition(&status, "RolloutComplete").0, "True");
    let status = told_of(&cluster, &[], Some(&serving()), |facts| facts.roll = Some(&Step::Done));
    assert_eq!(condition(&status, "RolloutComplete"), ("False", "Waiting", "no broker is Ready"));
}

#[test]
fn a_roll_that_would_stop_programs_is_stalled_and_the_cluster_serves() {
    static REFUSED: LazyLock<Step> = LazyLock::new(|| {
        let message = "delete the pods yourself".to_owned();
        Step::Refuse(Refusal { reason: "QuorumWouldBeLost", message })
    });
    let status = told(Some(&serving()), |facts| facts.roll = Some(&REFUSED));
    for kind in ["Stalled", "RolloutComplete"] {
        let (truth, reason, message) = condition(&status, kind);
        let wanted = if kind == "Stalled" { "True" } else { "False" };
        assert_eq!((truth, reason, message), (wanted, "QuorumWouldBeLost", "delete the pods yourself"));
    }
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(condition(&status, "Reconciling").0, "False");
}

#[test]
fn a_volume_that_cannot_grow_is_stalled_and_the_cluster_serves() {
    let refusal = Refusal { reason: "ClassCannotGrow", message: "set allowVolumeExpansion".to_owned() };
    let volumes = Volumes { refusal: Some(refusal), ..Volumes::default() };
    let status =
        told_by(&cluster(|_| ()), (&pods(), &volumes, &Leftovers::default()), Some(&serving()), |_| ());
    assert_eq!(condition(&status, "Stalled"), ("True", "ClassCannotGrow", "set allowVolumeExpansion"));
    assert_eq!(condition(&status, "VolumesSized").1, "ClassCannotGrow");
    assert_eq!(condition(&status, "Ready").0, "True");
    assert_eq!(condition(&status, "Reconciling").0, "False");
}

#[test]
fn volumes_that_grow_are_being_reconciled_and_the_largest_is_told() {
    let growing = vec!["data-orders-0 has 10Gi of 20Gi: the volume grows".to_owned()];
    let volumes = Volumes { growing, capacity: Some("10Gi".to_owned()), ..Volumes::default() };
    let status =
        told_by(&cluster(|_| ()), (&pods(), &volumes, &Leftovers::default()), Some(&serving()), |_| ());
    assert_eq!(condition(&status, "Reconciling").1, "VolumesGrow");
    assert_eq!(condition(&status, "VolumesSized").1, "Growing");
    assert_eq!(status.storage_capacity.as_deref(), Some("10Gi"));
}

#[test]
fn a_pod_that_waits_for_its_volume_says_which_claim_and_class() {
    let volumes = Volumes { pending: [(0, "fast".to_owned())].into(), ..Volumes::default() };
    let mut waiting = pod();
    waiting.trouble = Some("Unschedulable: pod has unbound immediate PersistentVolumeClaims".to_owned());
    let pods = [waiting];
    let status =
        told_by(&cluster(|_| ()), (&pods, &volumes, &Leftovers::default()), Some(&serving()), |_| ());
    let (truth, reason, message) = condition(&status, "Ready");
    assert_eq!((truth, reason), ("False", "VolumesPending"));
    assert!(message.contains("data-orders-0 has no volume of StorageClass fast yet"), "{message}");
}
