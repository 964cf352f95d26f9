use super::*;

#[test]
fn two_lives_of_one_table_are_the_same_and_another_leader_is_not() {
    let page = |id: &str, life: &str, epoch: &str, leader: &str| {
        serde_json::json!([
            "format 1",
            format!("replica 0 0:{life}"),
            format!("topic {id} name=events partitions=1 retained=false changed={epoch}"),
            format!("0 epoch={epoch} leader={leader} members=1of[0]"),
        ])
    };
    let one = table(&page("019a0000-0000-7000-8000-000000000001", "1", "7.1", "0"));
    let other = table(&page("019a0000-0000-7000-8000-000000000002", "2", "9.4", "0"));
    assert_eq!(one, other);
    let shown = [
        "table name=events: topic name=events partitions=1 retained=false",
        "table name=events: 0 leader=0 members=1of[0]",
    ];
    assert_eq!(one, shown);
    assert_ne!(one, table(&page("019a0000-0000-7000-8000-000000000001", "1", "7.1", "none")));
}

#[test]
fn of_an_object_stays_what_it_says_and_of_annotations_and_secrets_the_names() {
    let secret = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "orders-ca", "uid": "1", "resourceVersion": "7", "annotations": {"fulmar.dev/not-after": "now"}},
        "data": {"ca.crt": "…"},
        "status": {"conditions": [{"type": "Odd", "status": "True"}]},
    });
    let shown = shown(secret, &mut Vec::new());
    assert!(
        shown.contains(r#""data":{"ca.crt":null}"#)
            && shown.contains(r#""annotations":{"fulmar.dev/not-after":null}"#),
        "{shown}"
    );
    assert!(
        !shown.contains("uid") && !shown.contains("resourceVersion") && !shown.contains("Odd"),
        "{shown}"
    );
}

#[test]
fn two_lives_have_other_cas_and_who_trusts_which_is_told() {
    let secret = |name: &str, keys: &[&str]| {
        let pem = |key: &&str| format!("-----BEGIN CERTIFICATE-----\n{key}\n{PEM_END}\n");
        let kept = keys.iter().map(pem).collect::<Vec<_>>().concat();
        let data = serde_json::json!({"ca.crt": ByteString(kept.into_bytes()), "other": "…"});
        serde_json::json!({"kind": "Secret", "metadata": {"name": name}, "data": data})
    };
    let told = |signs: &[&str], trusted: &[&str]| {
        let (signs, trusted) = (secret("orders-ca", signs), secret("orders-tls", trusted));
        let mut met = Vec::new();
        [&signs, &trusted].into_iter().filter_map(|item| authorities(item, &mut met)).collect::<Vec<_>>()
    };
    assert_eq!(told(&["one"], &["one"]), told(&["other"], &["other"]));
    assert_ne!(told(&["one"], &["one"]), told(&["one"], &["other"]));
    let both = [r#""Secret" "orders-ca" keeps CAs [0]"#, r#""Secret" "orders-tls" keeps CAs [0, 1]"#];
    assert_eq!(told(&["other"], &["other", "one"]), both);
}

#[test]
fn what_keeps_no_ca_tells_of_none() {
    for item in [
        serde_json::json!({"kind": "Service", "spec": {}}),
        serde_json::json!({"kind": "Secret", "data": {"key": "…"}}),
    ] {
        assert_eq!(authorities(&item, &mut Vec::new()), None, "{item}");
    }
}
