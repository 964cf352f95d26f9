//! The chart: clean, strict with its values, and of restricted pods.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::io::Write as _;

use fulmar_e2e::environment::Environment;
use serde::Deserialize as _;
use serde_json::{Value, json};

#[test]
fn chart_has_nothing_to_complain_about() {
    let environment = Environment::get().unwrap();
    let printed = environment.helm(&["lint", "--strict", environment.chart.to_str().unwrap()]).unwrap();
    assert!(printed.contains("0 chart(s) failed"), "{printed}");
}

#[test]
fn value_that_is_unknown_or_out_of_range_is_refused_by_name() {
    let environment = Environment::get().unwrap();
    let bad = [
        ("replcas=2", "'replcas' not allowed"),
        ("replicas=-1", "/replicas"),
        ("image.tag=a b", "/image/tag"),
        ("brokerImage.digest=sha256:12", "/brokerImage/digest"),
        ("lease.seconds=1", "/lease/seconds"),
        ("log.format=xml", "/log/format"),
        ("watchNamespaces={Orders}", "/watchNamespaces/0"),
    ];
    for (value, named) in bad {
        let refused = template(environment, &["--set", value]).unwrap_err().to_string();
        assert!(refused.contains(named), "{value}: {refused}");
    }
}

#[test]
fn no_rule_grants_everything() {
    let environment = Environment::get().unwrap();
    let mut roles = 0;
    for object in template(environment, &[]).unwrap() {
        for rule in object["rules"].as_array().into_iter().flatten() {
            roles += 1;
            assert!(!rule.to_string().contains("\"*\""), "{rule}");
        }
    }
    assert!(roles > 0);
}

#[test]
fn operator_that_looks_after_two_namespaces_has_rights_in_those_alone() {
    let environment = Environment::get().unwrap();
    let objects =
        template(environment, &["--set", "watchNamespaces={a,b}", "--set", "userRoles.enabled=false"])
            .unwrap();
    let of_kind = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
    let anywhere = of_kind("ClusterRole");
    assert_eq!(anywhere.len(), 1);
    let resources: Vec<&Value> =
        anywhere[0]["rules"].as_array().unwrap().iter().map(|rule| &rule["resources"]).collect();
    assert_eq!(resources, [&json!(["nodes"]), &json!(["namespaces"])]);
    let mut namespaces: Vec<&str> =
        of_kind("Role").iter().filter_map(|role| role["metadata"]["namespace"].as_str()).collect();
    namespaces.sort_unstable();
    assert_eq!(namespaces, ["a", "b", "operators"]);
}

#[test]
fn definitions_stay_when_the_chart_goes() {
    let environment = Environment::get().unwrap();
    let of = |arguments: &[&str]| -> Vec<Value> {
        let objects = template(environment, arguments).unwrap();
        objects.into_iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect()
    };
    let definitions = of(&[]);
    assert_eq!(definitions.len(), 3);
    for definition in definitions {
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    assert!(of(&["--set", "crds.enabled=false"]).is_empty());
}

#[test]
fn operators_pod_is_taken_where_only_restricted_pods_are() {
    let environment = Environment::get().unwrap();
    let objects = template(environment, &[]).unwrap();
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let mut spec = deployment["spec"]["template"]["spec"].clone();
    // A ServiceAccount that is there.
    spec["serviceAccountName"] = json!("default");
    let name = format!("restricted-{}", std::process::id());
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    environment.apply("default", &namespace.to_string()).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator"}, "spec": spec});
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pod.to_string().as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let taken = environment.kubectl(&["create", "--dry-run=server", "--namespace", &name, "-f", path]);
    environment.kubectl(&["delete", "namespace", &name, "--wait=false"]).unwrap();
    println!("{}", taken.unwrap());
}

/// The objects that the chart makes.
fn template(environment: &Environment, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
    let chart = environment.chart.to_str().unwrap();
    let printed = environment
        .helm(&[&["template", "fulmar", chart, "--namespace", "operators"], arguments].concat())?;
    let documents = serde_yaml::Deserializer::from_str(&printed).map(Value::deserialize);
    Ok(documents.filter(|object| !matches!(object, Ok(Value::Null))).collect::<Result<_, _>>()?)
}
