use kube_runtime::watcher::Event;
use serde_json::json;

use super::*;

fn conditions(truths: &[(&str, &str)]) -> serde_json::Value {
    let of = |(kind, status): &(&str, &str)| {
        json!({"type": kind, "status": status, "reason": "R", "message": "",
               "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    truths.iter().map(of).collect()
}

fn cluster(name: &str, status: &serde_json::Value) -> Cluster {
    serde_json::from_value(json!({"apiVersion": "fulmar.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"namespace": "a", "name": name}, "spec": {}, "status": status}))
    .unwrap()
}

fn topic(name: &str, status: &serde_json::Value) -> Topic {
    serde_json::from_value(json!({"apiVersion": "fulmar.dev/v1alpha1", "kind": "Topic",
        "metadata": {"namespace": "a", "name": name}, "spec": {"clusterRef": {"name": "c"}}, "status": status}))
    .unwrap()
}

#[test]
fn what_has_no_status_is_not_ready_and_a_stall_is_counted_of_both_kinds() {
    let (clusters, topics, metrics) = (Cache::default(), Cache::default(), Metrics::new());
    let put = |object| clusters.observe(&None, Event::Apply(object));
    put(cluster("new", &json!(null)));
    put(cluster(
        "good",
        &json!({"underReplicated": 2, "conditions": conditions(&[("Ready", "True"), ("Stalled", "False")])}),
    ));
    put(cluster(
        "stuck",
        &json!({"underReplicated": 3, "conditions": conditions(&[("Ready", "False"), ("Stalled", "True")])}),
    ));
    let put = |object| topics.observe(&None, Event::Apply(object));
    put(topic("good", &json!({"conditions": conditions(&[("Ready", "True")])})));
    put(topic("unknown", &json!({"conditions": conditions(&[("Ready", "Unknown")])})));
    put(topic("stuck", &json!({"conditions": conditions(&[("Ready", "False"), ("Stalled", "True")])})));
    take(&clusters, &topics, &metrics);
    assert_eq!(metrics.clusters_not_ready.get(), 2);
    assert_eq!((metrics.topics.get(), metrics.topics_not_ready.get()), (3, 2));
    assert_eq!(metrics.stalled.get(), 2);
    assert_eq!(metrics.partitions_under_replicated.get(), 5);
    topics.observe(&None, Event::Delete(topic("stuck", &json!(null))));
    take(&clusters, &topics, &metrics);
    assert_eq!((metrics.topics.get(), metrics.stalled.get()), (2, 1));
}
