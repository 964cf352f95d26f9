use serde_json::json;

use super::*;

#[test]
fn events_of_others_in_the_namespace_stay_out() {
    let clusters = ["orders".to_owned()];
    let of = |kind: &str, name: &str| json!({"apiVersion": kind, "name": name});
    for (object, expected) in [
        (of("fulmar.dev/v1alpha1", "anything"), true),
        (of("v1", "orders-0"), true),
        (of("v1", "data-orders-2"), true),
        (of("apps/v1", "orders"), true),
        (of("v1", "ordersmith-0"), false),
        (of("v1", "shop-7d9f"), false),
        (of("v1", ""), false),
    ] {
        assert_eq!(is_ours(&object, &[], &clusters), expected, "{object}");
    }
    let pods = [Pod { name: "fulmar-6f7-abcde".to_owned(), containers: Vec::new() }];
    assert!(is_ours(&of("apps/v1", "fulmar-6f7"), &pods, &[]));
    assert!(is_ours(&of("apps/v1", "fulmar"), &pods, &[]));
    assert!(!is_ours(&of("apps/v1", "shop"), &pods, &[]));
}

#[test]
fn only_our_own_containers_are_read() {
    let pod = json!({
        "metadata": {"name": "orders-0"},
        "status": {"containerStatuses": [{"name": "broker", "restartCount": 2}, {"name": "proxy", "restartCount": 0}]},
    });
    let expected = Pod { name: "orders-0".to_owned(), containers: vec![("broker".to_owned(), 2)] };
    assert_eq!(Pod::of(&pod), Some(expected));
}
