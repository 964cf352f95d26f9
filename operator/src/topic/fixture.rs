//! A Topic for tests.

use std::sync::Arc;

use fulmar_crds::Topic;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

/// A Topic of the Cluster orders, made at this second, and changed.
pub(crate) fn topic(name: &str, change: impl FnOnce(&mut Topic), second: i64) -> Arc<Topic> {
    let mut topic: Topic = serde_json::from_value(json!({
        "apiVersion": "fulmar.dev/v1alpha1", "kind": "Topic",
        "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}"), "generation": 1},
        "spec": {"clusterRef": {"name": "orders"}},
    }))
    .expect("a good Topic");
    let created = jiff::Timestamp::from_second(second).expect("a good second");
    topic.metadata.creation_timestamp = Some(Time(created));
    change(&mut topic);
    Arc::new(topic)
}
