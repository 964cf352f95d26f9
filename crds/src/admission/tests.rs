use super::*;

const CLUSTER: &str = "apiVersion: fulmar.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: orders\n";
const TOPIC: &str = "apiVersion: fulmar.dev/v1alpha1\nkind: Topic\nmetadata:\n  name: orders.v1\nspec:\n  clusterRef:\n    name: orders\n";

fn only(text: &str) -> Result<Document, Rejection> {
    let mut verdicts = read(text);
    assert_eq!(verdicts.len(), 1);
    verdicts.remove(0)
}

fn messages(rejection: &Rejection) -> Vec<String> {
    rejection.violations.iter().map(|(_, violation)| violation.to_string()).collect()
}

#[test]
fn cluster_of_nothing_but_a_name_gets_every_default() {
    let Document::Cluster(cluster) = only(CLUSTER).unwrap() else { panic!("it is a Cluster") };
    assert_eq!(cluster.spec, crate::ClusterSpec::default());
    assert_eq!(cluster.metadata.namespace.as_deref(), Some("default"));
}

#[test]
fn empty_documents_are_no_documents_but_are_counted() {
    let text = format!("# a head\n---\n{CLUSTER}---\n# nothing\n---\n\n---\n{TOPIC}  partitons: 3\n");
    let verdicts = read(&text);
    assert_eq!(verdicts.len(), 2);
    let rejection = verdicts[1].as_ref().unwrap_err();
    assert_eq!(rejection.document, 5);
    assert_eq!(rejection.line, 12);
}

#[test]
fn unknown_field_is_named_with_its_line_and_the_one_that_was_meant() {
    let rejection = only(&format!("{TOPIC}  partitons: 3\n")).unwrap_err();
    assert_eq!(
        rejection.to_string(),
        "the Topic \"orders.v1\" (document 1, line 1) is invalid:\n\
         * unknown field \"spec.partitons\", did you mean \"spec.partitions\"? (line 8)"
    );
    let rejection = only(&format!("{TOPIC}  compression: zstd\n")).unwrap_err();
    assert_eq!(messages(&rejection), ["unknown field \"spec.compression\""]);
    let rejection = only(&TOPIC.replace("  name: orders.v1", "  nmae: orders.v1")).unwrap_err();
    assert_eq!(messages(&rejection), ["unknown field \"metadata.nmae\", did you mean \"metadata.name\"?"]);
}

#[test]
fn null_is_as_good_as_absent() {
    let Document::Topic(topic) = only(&format!("{TOPIC}  partitions: null\n  ackQuorum:\n")).unwrap() else {
        panic!("it is a Topic")
    };
    assert_eq!(topic.spec.partitions, 1);
    assert_eq!(topic.spec.ack_quorum, None);
}

#[test]
fn wrong_type_hides_the_rules_and_says_so() {
    let rejection = only(&format!("{TOPIC}  partitions: three\n  topicName: a/b\n")).unwrap_err();
    assert_eq!(
        messages(&rejection),
        [
            "spec.partitions: Invalid value: \"string\": spec.partitions in body must be of type integer: \"string\"",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct \
             the existing errors to complete validation"
        ]
    );
}

#[test]
fn range_and_rule_are_told_together() {
    let rejection = only(&format!("{TOPIC}  partitions: 2000\n  topicName: a/b\n")).unwrap_err();
    assert_eq!(
        messages(&rejection),
        [
            "spec.partitions: Invalid value: 2000: spec.partitions in body should be less than or equal to 1024",
            "spec.topicName: Invalid value: \"a/b\": a topic's name has letters, digits, dots, underscores and dashes \
             only, and is not . or .."
        ]
    );
}

#[test]
fn second_document_of_an_object_is_a_change_of_the_first() {
    let text = format!("{TOPIC}  partitions: 12\n---\n{TOPIC}  partitions: 6\n");
    let verdicts = read(&text);
    let rejection = verdicts[1].as_ref().unwrap_err();
    assert_eq!(
        messages(rejection),
        ["spec.partitions: Forbidden: partitions can only grow: the topic has 12, and 6 is fewer"]
    );
    assert_eq!(rejection.violations[0].0, Some(17));
}

#[test]
fn what_was_applied_before_counts() {
    let before: Vec<Document> =
        read(&format!("{TOPIC}  topicName: o2\n")).into_iter().map(Result::unwrap).collect();
    let verdicts = read_update(TOPIC, &before);
    assert_eq!(
        messages(verdicts[0].as_ref().unwrap_err()),
        ["spec.topicName: Forbidden: topicName cannot be changed after the Topic is created: it is o2"]
    );
    assert!(read_update(&format!("{TOPIC}  topicName: o2\n  partitions: 3\n"), &before)[0].is_ok());
}

#[test]
fn status_in_a_manifest_changes_nothing() {
    let mut cluster: Value = serde_yaml::from_str(CLUSTER).unwrap();
    cluster["spec"] = json!({"replicas": 5});
    let mut stored = admit(&cluster, None).unwrap();
    stored["status"] = json!({"minReplicas": 4});
    cluster["spec"] = json!({"replicas": 3});
    cluster["status"] = json!({"minReplicas": 1});
    let violations = admit(&cluster, Some(&stored)).unwrap_err();
    assert_eq!(violations.len(), 1);
    assert_eq!(
        violations[0].to_string(),
        "spec.replicas: Forbidden: spec.replicas 3 is below status.minReplicas 4, the most replicas that a \
         partition has; first be rid of the Topics that have so many, records and all (deletionPolicy: Delete; retained ones count)"
    );
    cluster["spec"] = json!({"replicas": 4});
    assert_eq!(admit(&cluster, Some(&stored)).unwrap()["status"], json!({"minReplicas": 4}));
}

#[test]
fn names_are_those_of_kubernetes() {
    for name in ["Orders", "orders_1", "-orders", "orders..v1", "orders."] {
        let rejection = only(&TOPIC.replace("orders.v1", name)).unwrap_err();
        assert!(messages(&rejection)[0].contains("RFC 1123 subdomain"), "{name}: {rejection}");
    }
    let rejection = only(&TOPIC.replace("  name: orders.v1", "  labels: {}")).unwrap_err();
    assert_eq!(messages(&rejection)[0], "metadata.name: Required value: name or generateName is required");
}

#[test]
fn document_that_is_no_object_of_ours_is_refused_with_what_there_is() {
    let rejection = only(&CLUSTER.replace("Cluster", "Clutser")).unwrap_err();
    assert!(
        rejection.to_string().contains("no matches for kind \"Clutser\" in version \"fulmar.dev/v1alpha1\"")
    );
    let rejection = only("- 1\n- 2\n").unwrap_err();
    assert!(rejection.to_string().contains("a document is a mapping"), "{rejection}");
    let rejection = only("kind: Cluster\n").unwrap_err();
    assert!(rejection.to_string().contains("'apiVersion' is missing"), "{rejection}");
    let rejection = only(&CLUSTER.replace("Cluster", "PartitionTable")).unwrap_err();
    assert!(rejection.to_string().contains("only the operator writes it"), "{rejection}");
}

#[test]
fn text_that_is_no_yaml_is_refused_with_the_line() {
    let verdicts = read(&format!("{CLUSTER}---\nspec:\n  a: [1, 2\nb: 3\n"));
    assert!(verdicts[0].is_ok());
    let rejection = verdicts[1].as_ref().unwrap_err();
    assert!(rejection.to_string().contains("not YAML"), "{rejection}");
    assert!((7..=9).contains(&rejection.line), "{rejection}");
}

#[test]
fn key_that_stands_twice_is_refused_with_its_line() {
    for (text, line, key) in [
        (format!("{TOPIC}  partitions: 3\n  ackQuorum: 1\n  partitions: 6\n"), 10, "partitions"),
        (format!("{TOPIC}spec:\n  clusterRef: {{name: a}}\n"), 8, "spec"),
        (format!("{TOPIC}  retention: {{time: 1h, time: 2h}}\n"), 8, "time"),
        (format!("# a head\n---\n{CLUSTER}---\n{TOPIC}    name: payments\n"), 15, "name"),
    ] {
        let rejection = read(&text).into_iter().find_map(Result::err).expect(key);
        assert_eq!(rejection.line, line, "{rejection}");
        let said = format!("line {line}: key {key:?} already set in map");
        assert!(rejection.to_string().contains(&said), "{rejection}");
    }
    assert!(only(&format!("{CLUSTER}  labels: {{name: a}}\n")).is_ok(), "one name in another mapping");
}

#[test]
fn text_without_end_is_not_read() {
    let rejection = only(&"a".repeat((4 << 20) + 1)).unwrap_err();
    assert!(rejection.to_string().contains("at most 4194304 are read"), "{rejection}");
}

#[test]
fn rules_with_an_optional_old_self_ask_only_whether_there_is_one() {
    for kind in [Kind::Cluster, Kind::Topic, Kind::PartitionTable] {
        let rules = kind.schema()["x-kubernetes-validations"].as_array().cloned().unwrap_or_default();
        for rule in rules.iter().filter(|rule| rule["optionalOldSelf"] == true) {
            let left = rule["rule"].as_str().unwrap().replace("oldSelf.hasValue()", "");
            assert!(!left.contains("oldSelf"), "{rule}");
        }
    }
}

#[test]
fn what_yaml_1_1_read_otherwise_is_refused_and_not_guessed() {
    let rejection = only(&format!("{CLUSTER}spec:\n  paused: yes\n")).unwrap_err();
    assert!(messages(&rejection)[0].contains("must be of type boolean: \"string\""), "{rejection}");
}

#[test]
fn field_in_a_list_is_found_by_the_line_of_the_list() {
    let text = format!(
        "{CLUSTER}spec:\n  # taints\n  pod:\n    tolerations:\n    - key: a\n      operator: Equals\n"
    );
    let rejection = only(&text).unwrap_err();
    assert_eq!(rejection.violations[0].1.path, "spec.pod.tolerations[0].operator");
    assert_eq!(rejection.violations[0].0, Some(8));
}

#[test]
fn thousand_topics_are_read_before_one_looks_up() {
    let topics: Vec<String> = (0..1000).map(|n| TOPIC.replace("orders.v1", &format!("t{n}"))).collect();
    let text = topics.join("---\n");
    // A machine that stands still makes it longer, once.
    let took = (0..3).map(|_| {
        let started = std::time::Instant::now();
        assert!(read(&text).iter().all(Result::is_ok));
        started.elapsed()
    });
    let took: Vec<_> = took.collect();
    assert!(took.iter().min().unwrap() < &std::time::Duration::from_secs(10), "{took:?}");
}
