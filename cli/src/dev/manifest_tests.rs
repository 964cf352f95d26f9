use std::path::PathBuf;

use fulmar_crds::admission::Document;

use super::Manifest;

const CLUSTER: &str =
    "apiVersion: fulmar.dev/v1alpha1\nkind: Cluster\nmetadata: {name: orders}\nspec: {replicas: 3}\n";

fn topic(object: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: fulmar.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {object}}}\nspec: {{{spec}}}\n"
    )
}

fn read(texts: &[&str], previous: &[Document]) -> Result<Manifest, String> {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<PathBuf> = (0..texts.len()).map(|at| dir.path().join(format!("{at}.yaml"))).collect();
    for (file, text) in files.iter().zip(texts) {
        std::fs::write(file, text).unwrap();
    }
    Manifest::read(&files, previous).map_err(|error| error.to_string())
}

fn names(manifest: &Manifest) -> Vec<&str> {
    manifest.topics.iter().map(|topic| topic.name.as_str()).collect()
}

#[test]
fn several_files_make_one_wish() {
    let topics =
        topic("b", "clusterRef: {name: orders}") + &topic("a", "clusterRef: {name: orders}, topicName: a.v1");
    let manifest = read(&[&topics, CLUSTER], &[]).unwrap();
    assert_eq!(names(&manifest), ["a.v1", "b"]);
    assert_eq!(manifest.desired().brokers, 3);
    assert!(manifest.notes.is_empty());
}

#[test]
fn every_violation_is_told_with_its_file() {
    let bad = topic("a", "clusterRef: {name: orders}, partitions: 0")
        + &topic("b", "clusterRef: {name: orders}, colour: red");
    let error = read(&[CLUSTER, &bad], &[]).unwrap_err();
    assert!(error.contains("1.yaml: the Topic \"a\" (document 1"), "{error}");
    assert!(error.contains("spec.partitions") && error.contains("colour"), "{error}");
}

#[test]
fn one_cluster_is_run_and_not_none_or_two() {
    assert!(read(&["# nothing\n"], &[]).unwrap_err().contains("no Cluster"));
    let other = CLUSTER.replace("orders", "other");
    assert!(read(&[CLUSTER, &other], &[]).unwrap_err().contains("two Clusters"));
}

#[test]
fn topics_that_do_not_belong_are_said_and_left_aside() {
    let topics = topic("a", "clusterRef: {name: elsewhere}")
        + &topic("b", "clusterRef: {name: orders}, topicName: same")
        + &topic("c", "clusterRef: {name: orders}, topicName: same");
    let manifest = read(&[CLUSTER, &topics], &[]).unwrap();
    assert_eq!(names(&manifest), ["same"]);
    assert_eq!(manifest.notes.len(), 2);
    assert!(manifest.notes[0].contains("\"elsewhere\"") && manifest.notes[1].contains("Topic \"b\" has"));
}

#[test]
fn the_older_claim_to_a_name_wins_whatever_the_order_in_the_files() {
    let (b, c) = ("b", "c");
    let spec = "clusterRef: {name: orders}, topicName: same";
    let before = read(&[CLUSTER, &topic(c, spec)], &[]).unwrap();
    let after = read(&[CLUSTER, &topic(b, spec), &topic(c, spec)], &before.applied(0)).unwrap();
    assert!(after.notes[0].contains("Topic \"b\" claims"), "{:?}", after.notes);
}

#[test]
fn what_cannot_be_changed_is_compared_with_what_was_applied() {
    let spec = "clusterRef: {name: orders}, partitions: 3";
    let before = read(&[CLUSTER, &topic("a", spec)], &[]).unwrap();
    let error = read(&[CLUSTER, &topic("a", &spec.replace('3', "2"))], &before.applied(0)).unwrap_err();
    assert!(error.contains("partitions can only grow: the topic has 3, and 2 is fewer"), "{error}");
    let fewer = CLUSTER.replace('3', "2");
    let error = read(&[&fewer, &topic("a", spec)], &before.applied(3)).unwrap_err();
    assert!(error.contains("below status.minReplicas 3"), "{error}");
    assert!(read(&[&fewer, &topic("a", spec)], &before.applied(2)).is_ok());
}

#[test]
fn a_topic_that_leaves_the_files_goes_by_its_deletion_policy() {
    let kept = topic("kept", "clusterRef: {name: orders}");
    let gone = topic("gone", "clusterRef: {name: orders}, deletionPolicy: Delete");
    let before = read(&[CLUSTER, &kept, &gone], &[]).unwrap();
    let mut after = read(&[CLUSTER], &before.applied(0)).unwrap();
    assert_eq!(after.deleted, ["gone"]);
    assert!(after.notes.iter().any(|note| note.contains("\"kept\"") && note.contains("retained")));
    // As long as something is left of it, a restart goes on with it.
    let again = read(&[CLUSTER], &after.applied(0)).unwrap();
    assert_eq!(again.deleted, ["gone"]);
    after.forget(&["gone".to_owned()]);
    assert!(after.deleted.is_empty() && after.documents.len() == 1);
}

/// A Cluster that is taken has brokers that start.
#[test]
fn resource_and_broker_have_one_idea_of_an_origin() {
    for origin in [
        "*",
        "https://shop.example",
        "http://localhost:3000",
        "http://10.0.0.1:65535",
        "capacitor://localhost",
        "https://shop.example/",
        "https://Shop.example",
        "https://*.example",
        "https://-a.example",
        "https://a.example.",
        "https://shop.example:443",
        "http://shop.example:443",
        "http://shop.example:80",
        "https://shop.example:0",
        "https://shop.example:080",
        "https://shop.example:65536",
        "http://[::1]:3000",
        "://shop.example",
        "shop.example",
        "null",
        "https://a,https://b",
        &format!("https://{}", "a".repeat(253)),
        &format!("https://{}", "a".repeat(254)),
    ] {
        let cors = format!("{CLUSTER}  cors: {{allowOrigins: [\"{origin}\"]}}\n")
            .replace("spec: {replicas: 3}", "spec:");
        let taken = read(&[&cors], &[]);
        // What would be two for the broker is none for the resource.
        let starts = !origin.contains(',') && origin.parse::<fulmar_broker::serve::cors::Origins>().is_ok();
        assert_eq!(taken.is_ok(), starts, "{origin}: {taken:?}");
        if let Ok(manifest) = taken {
            assert_eq!(manifest.cluster.cors_allow_origins, [origin]);
        }
    }
}

#[test]
fn resource_and_broker_have_one_idea_of_a_collector() {
    for endpoint in [
        "http://otel-collector.observability:4317",
        "http://otel.observability.svc.cluster.local.",
        "http://10.0.0.1:65535",
        "https://otel:4317",
        "otel:4317",
        "http://otel:0",
        "http://otel:65536",
        "http://otel:",
        "http://otel:4318/v1/traces",
        "http://me:secret@otel",
        "http://",
        "grpc://otel:4317",
        "",
    ] {
        let tracing = format!("{CLUSTER}  tracing: {{otlpEndpoint: \"{endpoint}\"}}\n")
            .replace("spec: {replicas: 3}", "spec:");
        let taken = read(&[&tracing], &[]);
        let starts = endpoint.parse::<fulmar_broker::traces::Collector>().is_ok();
        assert_eq!(taken.is_ok(), starts, "{endpoint}: {taken:?}");
        if let Ok(manifest) = taken {
            assert_eq!(manifest.cluster.otlp_endpoint.as_deref(), Some(endpoint));
        }
    }
}
