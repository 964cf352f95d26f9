//! The chart: clean, strict with its values, and of restricted pods; what it renders is what is in `charts/goldens`.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use fulmar_e2e::environment::Environment;
use fulmar_e2e::namespaces::{Namespace, RESTRICTED};
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
        ("log.level=debgu", "/log/level"),
        ("watchNamespaces={Orders}", "/watchNamespaces/0"),
        ("watchNamespaces=orders", "/watchNamespaces"),
        ("crds.install=true", "'install' not allowed"),
        ("crds.enabled=maybe", "/crds/enabled"),
        ("resources.limits.memory=lots", "/resources/limits/memory"),
        ("resources.limit.memory=1Gi", "'limit' not allowed"),
        ("podSecurityContext.runAsUser=root", "/podSecurityContext/runAsUser"),
        ("securityContext.capabilities.dropped={ALL}", "'dropped' not allowed"),
        ("podLabels.app\\.kubernetes\\.io/name=other", "/podLabels/app.kubernetes.io"),
        ("podLabels.-team=a", "'-team' not allowed"),
        ("commonLabels.team=a team", "/commonLabels/team"),
        ("nodeSelector.disk=1", "/nodeSelector/disk"),
        ("tolerations[0].efect=NoSchedule", "'efect' not allowed"),
        ("affinity.nodeAfinity.x=1", "'nodeAfinity' not allowed"),
        ("imagePullSecrets={registry}", "/imagePullSecrets/0"),
        ("extraEnv[0].name=POD_NAME", "/extraEnv/0/name"),
        ("extraEnv[0].nam=A", "'nam' not allowed"),
        ("networkPolicy.metricsFrom[0].cidr=::/0", "'cidr' not allowed"),
        ("monitoring.interval=often", "/monitoring/interval"),
        ("monitoring.podMonitors.enabled=true", "'podMonitors' not allowed"),
        ("monitoring.rules.runbookUrl=the wiki", "/monitoring/rules/runbookUrl"),
        ("lease.renewMilliseconds=2000", "not less than half of lease.seconds"),
    ];
    for (value, named) in bad {
        let refused = template(environment, &["--set", value]).unwrap_err().to_string();
        assert!(refused.contains(named), "{value}: {refused}");
    }
}

#[test]
fn every_value_has_a_default_that_says_what_it_is_and_every_object_of_the_schema_is_closed() {
    let chart = &Environment::get().unwrap().chart;
    let values: Value =
        serde_yaml::from_str(&fs::read_to_string(chart.join("values.yaml")).unwrap()).unwrap();
    let schema: Value =
        serde_json::from_str(&fs::read_to_string(chart.join("values.schema.json")).unwrap()).unwrap();
    let keys = |object: &Value| object.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut known = keys(&schema["properties"]);
    // What helm itself hands to a chart that another depends on.
    known.retain(|key| key != "global" && key != "enabled");
    let mut given = keys(&values);
    known.sort();
    given.sort();
    assert_eq!(known, given);
    // Of these helm says nothing to their keys: Kubernetes does, or anything is allowed.
    let open = [
        "/properties/global",
        "/properties/affinity/properties/nodeAffinity",
        "/properties/affinity/properties/podAffinity",
        "/properties/affinity/properties/podAntiAffinity",
    ];
    let mut found = Vec::new();
    open_objects(&schema, "", &mut found);
    found.sort();
    let mut open = open.to_vec();
    open.sort_unstable();
    assert_eq!(found, open);
}

/// The places in a schema of objects that may have any key.
fn open_objects(schema: &Value, at: &str, found: &mut Vec<String>) {
    let is_object = schema["type"] == "object";
    if is_object && schema["additionalProperties"].is_null() {
        found.push(at.to_owned());
    }
    match schema {
        Value::Object(fields) => {
            for (key, below) in fields {
                open_objects(below, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (number, below) in items.iter().enumerate() {
                open_objects(below, &format!("{at}/{number}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn what_the_chart_renders_is_in_the_goldens() {
    let environment = Environment::get().unwrap();
    let folder = environment.chart.parent().unwrap().join("goldens");
    let write = std::env::var("FULMAR_GOLDENS").is_ok_and(|word| word == "write");
    let mut compared = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let values = entry.unwrap().path();
        let Some(name) = values
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".values.yaml").map(str::to_owned))
        else {
            continue;
        };
        let rendered = render(environment, &values);
        let golden = folder.join(format!("{name}.yaml"));
        if write {
            fs::write(&golden, &rendered).unwrap();
        }
        let kept = fs::read_to_string(&golden).unwrap();
        let differs = kept.lines().zip(rendered.lines()).find(|(kept, rendered)| kept != rendered);
        let told = "see charts/goldens/README.md";
        assert!(kept == rendered, "charts/goldens/{name}.yaml is not what helm renders: {differs:?}; {told}");
        compared += 1;
    }
    assert!(compared >= 5, "{compared} goldens in {}", folder.display());
}

/// What helm makes of a values file, without the definitions.
fn render(environment: &Environment, values: &PathBuf) -> String {
    let text = fs::read_to_string(values).unwrap();
    let told = text.lines().next().unwrap().strip_prefix("# helm template").unwrap();
    let mut arguments = vec!["template", "fulmar", environment.chart.to_str().unwrap()];
    // Another version of helm or of Kubernetes renders the same.
    arguments.extend(["--namespace", "operators", "--kube-version", "1.33.0", "--values"]);
    arguments.push(values.to_str().unwrap());
    arguments.extend(told.split_whitespace());
    let printed = environment.helm(&arguments).unwrap();
    let documents = printed.split("\n---\n").map(|document| document.trim_start_matches("---\n").trim_end());
    let kept = documents.filter(|document| !document.contains("\nkind: CustomResourceDefinition\n"));
    kept.fold(String::new(), |all, document| all + "---\n" + document + "\n")
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
    let values = ["--set", "watchNamespaces={a,b}", "--set", "userRoles.enabled=false"];
    let objects = template(environment, &values).unwrap();
    let of_kind = |kind: &str| objects.iter().filter(|object| object["kind"] == kind).collect::<Vec<_>>();
    let anywhere = of_kind("ClusterRole");
    assert_eq!(anywhere.len(), 1);
    let resources: Vec<&Value> =
        anywhere[0]["rules"].as_array().unwrap().iter().map(|rule| &rule["resources"]).collect();
    assert_eq!(resources, [&json!(["nodes"])]);
    let mut namespaces: Vec<&str> =
        of_kind("Role").iter().filter_map(|role| role["metadata"]["namespace"].as_str()).collect();
    namespaces.sort_unstable();
    assert_eq!(namespaces, ["a", "b", "operators"]);
    let without_nodes =
        template(environment, &[&values[..], &["--set", "readNodes=false"]].concat()).unwrap();
    let anywhere = |kind: &str| without_nodes.iter().filter(|object| object["kind"] == kind).count();
    assert_eq!((anywhere("ClusterRole"), anywhere("ClusterRoleBinding")), (0, 0));
}

#[test]
fn monitors_and_rules_are_made_only_where_their_api_is() {
    let environment = Environment::get().unwrap();
    let kinds = ["ServiceMonitor", "PodMonitor", "PrometheusRule"];
    let made = |arguments: &[&str]| -> Vec<Value> {
        let objects = template(environment, arguments).unwrap();
        objects.into_iter().filter(|object| kinds.iter().any(|kind| object["kind"] == *kind)).collect()
    };
    assert_eq!(made(&[]), Vec::<Value>::new());
    for kind in kinds {
        let api = format!("monitoring.coreos.com/v1/{kind}");
        let made = made(&["--api-versions", &api, "--set", "monitoring.labels.release=prometheus"]);
        assert_eq!(made.len(), 1, "{made:?}");
        assert_eq!(made[0]["kind"], kind);
        assert_eq!(made[0]["metadata"]["labels"]["release"], "prometheus");
    }
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
    let namespace = Namespace::make(environment, "restricted", &[RESTRICTED]).unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator"}, "spec": spec});
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(pod.to_string().as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let taken =
        environment.kubectl(&["create", "--dry-run=server", "--namespace", &namespace.name, "-f", path]);
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
