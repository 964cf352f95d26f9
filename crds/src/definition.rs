//! The `CustomResourceDefinition`s, made from the Rust types.
//!
//! Owns what kube's derive leaves to be done: descriptions on one line, no `null`s, no formats that the API server does
//! not know. Never: a field or a rule; those stand at the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Value, json};

use crate::{Cluster, PartitionTable, Topic};

/// What stands above the YAML, in `crds/yaml` and in the chart.
const HEAD: &str =
    "# Made from the types in crds/src by `cargo run -p fulmar-crds --example generate`. Do not edit.\n";

/// The three definitions, each with the name of its file without `.yaml`.
pub fn all() -> [(&'static str, CustomResourceDefinition); 3] {
    [("clusters", cluster()), ("topics", topic()), ("partitiontables", partition_table())]
}

/// The definition of `Cluster`.
pub fn cluster() -> CustomResourceDefinition {
    let mut crd = to_value(&Cluster::crd());
    // A Cluster of nothing but defaults is a good Cluster.
    set_default(&mut crd, "/properties/spec", json!({}));
    set_default(&mut crd, STATUS, unseen());
    finish(crd)
}

/// The definition of `Topic`.
pub fn topic() -> CustomResourceDefinition {
    let mut crd = to_value(&Topic::crd());
    set_default(&mut crd, STATUS, unseen());
    finish(crd)
}

/// The definition of `PartitionTable`.
pub fn partition_table() -> CustomResourceDefinition {
    finish(to_value(&PartitionTable::crd()))
}

/// The definition as a YAML document that `kubectl apply` takes.
pub fn yaml(crd: &CustomResourceDefinition) -> String {
    let mut crd = to_value(crd);
    make_whole(&mut crd);
    let body = serde_yaml::to_string(&crd).expect("a definition has only string keys");
    format!("{HEAD}{body}")
}

/// The definition as a template of the Helm chart: only with `crds.enabled`, and kept when the chart is uninstalled, since
/// deleting a definition deletes every object of its kind.
pub fn chart_yaml(crd: &CustomResourceDefinition) -> String {
    let mut crd = crd.clone();
    let annotations = crd.metadata.annotations.get_or_insert_default();
    annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
    // Helm reads `{{` in a template, which no text of ours has.
    format!("{{{{- if .Values.crds.enabled }}}}\n{}{{{{- end }}}}\n", yaml(&crd))
}

/// Where the status is in a schema.
const STATUS: &str = "/properties/status";

/// The status of an object that the operator has not seen. Without it kstatus, so Helm and Flux, would take the object for
/// ready.
fn unseen() -> Value {
    json!({"observedGeneration": -1})
}

fn set_default(crd: &mut Value, pointer: &str, value: Value) {
    let schema = root_schema(crd).pointer_mut(pointer).expect("a definition has a spec and a status");
    schema.as_object_mut().expect("a schema is an object").insert("default".to_owned(), value);
}

/// The OpenAPI schema of a definition, as JSON.
pub fn schema(crd: &CustomResourceDefinition) -> Value {
    let mut crd = to_value(crd);
    make_whole(&mut crd);
    root_schema(&mut crd).take()
}

fn to_value(crd: &CustomResourceDefinition) -> Value {
    serde_json::to_value(crd).expect("a definition has only string keys")
}

fn root_schema(crd: &mut Value) -> &mut Value {
    crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
        .expect("kube's derive makes one version with a schema")
}

fn finish(mut crd: Value) -> CustomResourceDefinition {
    finish_schema(root_schema(&mut crd));
    serde_json::from_value(crd).expect("it was made from a definition")
}

/// The bounds of integers are floats in the types of the API: they say `30.0`, people say `30`.
fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole = number.as_f64().map(|number| format!("{number:.0}"));
            if let Some(whole) = whole.and_then(|digits| digits.parse::<i64>().ok()) {
                *value = json!(whole);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(fields) => fields.values_mut().for_each(make_whole),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Walks a schema and everything below it.
fn finish_schema(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else { return };
    node.remove("title");
    // Without `nullable` the API server treats `null` as absent: the field is dropped, or gets its default.
    node.remove("nullable");
    if let Some(Value::String(description)) = node.get_mut("description") {
        *description = unfold(description);
    }
    if let Some(Value::Object(properties)) = node.get_mut("properties") {
        properties.values_mut().for_each(finish_schema);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(schema) = node.get_mut(below) {
            finish_schema(schema);
        }
    }
}

/// One line for each paragraph: a doc comment is wrapped for those who read the source.
fn unfold(text: &str) -> String {
    let paragraphs: Vec<String> = text
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    paragraphs.join("\n\n")
}
