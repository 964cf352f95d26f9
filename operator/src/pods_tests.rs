use serde_json::{Value, json};

use super::*;

fn key() -> ClusterKey {
    ClusterKey { namespace: "shop".to_owned(), name: "orders".to_owned() }
}

fn pod(name: &str, labels: &Value, status: &Value) -> Arc<Pod> {
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {
                "namespace": "shop", "name": name, "uid": format!("uid-{name}"), "labels": labels,
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "orders", "uid": "s"}],
            },
            "spec": {"nodeName": "n1", "containers": []},
            "status": status,
        }))
        .unwrap(),
    )
}

fn node(zone: &str) -> Cache<PartialObjectMeta<Node>> {
    let nodes = Cache::default();
    let mut node = PartialObjectMeta::<Node>::default();
    node.metadata.name = Some("n1".to_owned());
    node.metadata.labels = Some([("zone".to_owned(), zone.to_owned())].into());
    nodes.observe(&None, kube_runtime::watcher::Event::Apply(node));
    nodes
}

fn one(labels: &Value, status: &Value) -> BrokerPod {
    brokers(&key(), "zone", &[pod("orders-0", labels, status)], &[], &node("from-node")).remove(0)
}

#[test]
fn the_pods_own_label_names_the_zone_before_the_nodes() {
    assert_eq!(one(&json!({"zone": "from-pod"}), &json!({})).zone.as_deref(), Some("from-pod"));
    assert_eq!(one(&json!({}), &json!({})).zone.as_deref(), Some("from-node"));
}

#[test]
fn a_container_that_ended_runs_no_more_and_one_that_waits_to_be_started_again_neither() {
    let status = |state: Value, last: Value| {
        json!({"containerStatuses": [{
            "name": "broker", "ready": false, "restartCount": 1, "image": "", "imageID": "",
            "state": state, "lastState": last,
        }]})
    };
    let ended = json!({"terminated": {"exitCode": 137}});
    assert!(!one(&json!({}), &status(ended.clone(), json!({}))).running);
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}});
    let crashed = one(&json!({}), &status(waiting.clone(), ended.clone()));
    assert!(!crashed.running);
    assert_eq!(crashed.trouble.as_deref(), Some("CrashLoopBackOff: back-off 10s"));
    let starting = json!({"waiting": {"reason": "ContainerCreating"}});
    assert!(one(&json!({}), &status(starting, json!({}))).running);
    assert!(one(&json!({}), &status(json!({"running": {}}), ended)).running);
}

#[test]
fn a_pod_is_unready_since_its_condition_changed() {
    let status = |status: &str| {
        json!({"conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-11-21T10:00:00Z"},
            {"type": "Ready", "status": status, "lastTransitionTime": "2026-11-21T12:00:00Z"},
        ]})
    };
    let ready = one(&json!({}), &status("True"));
    assert!(ready.ready && ready.unready_since.is_none());
    for truth in ["False", "Unknown"] {
        let unready = one(&json!({}), &status(truth));
        assert_eq!(unready.unready_since, Some("2026-11-21T12:00:00Z".parse().unwrap()), "{truth}");
        assert!(!unready.ready);
    }
    let new = one(&json!({}), &json!({}));
    assert!(!new.ready && new.unready_since.is_none());
}

#[test]
fn pods_of_another_owner_or_name_are_not_brokers() {
    let mut foreign = (*pod("orders-1", &json!({}), &json!({}))).clone();
    foreign.metadata.owner_references = None;
    let longer = pod("orders-eu-0", &json!({}), &json!({}));
    assert!(brokers(&key(), "zone", &[Arc::new(foreign), longer], &[], &Cache::default()).is_empty());
}

#[test]
fn brokers_come_in_the_order_of_their_numbers() {
    let pods = ["orders-10", "orders-2", "orders-0"].map(|name| pod(name, &json!({}), &json!({})));
    let ordinals: Vec<_> =
        brokers(&key(), "zone", &pods, &[], &Cache::default()).iter().map(|b| b.ordinal).collect();
    assert_eq!(ordinals, [0, 2, 10]);
}
