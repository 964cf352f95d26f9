use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectMeta;

use super::*;

fn pod(namespace: &str, name: &str, version: &str) -> Pod {
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            resource_version: Some(version.to_owned()),
            managed_fields: Some(vec![]),
            ..ObjectMeta::default()
        },
        ..Pod::default()
    }
}

fn names(cache: &Cache<Pod>, namespace: &str) -> Vec<String> {
    cache.select(namespace, |_| true).iter().map(|pod| pod.name_any()).collect()
}

#[test]
fn a_new_listing_drops_what_it_does_not_name_and_only_in_its_scope() {
    let cache = Cache::default();
    let a = Some("a".to_owned());
    cache.observe(&a, Event::Apply(pod("a", "old", "1")));
    cache.observe(&Some("b".to_owned()), Event::Apply(pod("b", "other", "1")));
    cache.observe(&a, Event::Init);
    cache.observe(&a, Event::InitApply(pod("a", "new", "2")));
    assert_eq!(names(&cache, "a"), ["new", "old"], "nothing goes before the listing is whole");
    let gone = cache.observe(&a, Event::InitDone);
    assert_eq!(gone.len(), 1);
    assert_eq!(names(&cache, "a"), ["new"]);
    assert_eq!(names(&cache, "b"), ["other"]);
}

#[test]
fn absence_means_nothing_before_every_scope_was_listed() {
    let cache: Cache<Pod> = Cache::default();
    let scopes = [Some("a".to_owned()), Some("b".to_owned())];
    cache.observe(&scopes[0], Event::Init);
    cache.observe(&scopes[0], Event::InitDone);
    assert!(!cache.is_listed(&scopes));
    cache.observe(&scopes[1], Event::Init);
    cache.observe(&scopes[1], Event::InitDone);
    assert!(cache.is_listed(&scopes));
}

#[test]
fn both_the_replaced_and_the_new_version_are_concerned_and_managed_fields_are_dropped() {
    let cache = Cache::default();
    cache.observe(&None, Event::Apply(pod("a", "one", "1")));
    let concerned = cache.observe(&None, Event::Apply(pod("a", "one", "2")));
    let versions: Vec<_> = concerned.iter().map(|pod| pod.resource_version()).collect();
    assert_eq!(versions, [Some("1".to_owned()), Some("2".to_owned())]);
    assert!(cache.get("a", "one").is_some_and(|pod| pod.metadata.managed_fields.is_none()));
}
