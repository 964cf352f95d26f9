//! What is done to an object before it is checked: unknown fields refused, `null`s dropped, defaults filled in.

use serde_json::{Map, Value};

use super::schema::{Kind, below};
use super::violation::{Cause, Violation};

/// The fields of every object besides those of the schema.
const ROOT_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// The fields of `metadata` in Kubernetes.
const METADATA_FIELDS: [&str; 15] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "generateName",
    "finalizers",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// Every field that the schema does not know. kubectl asks the API server to refuse them, since it would drop them.
pub(super) fn unknown_fields(object: &Value, kind: Kind) -> Vec<Violation> {
    let mut unknown = Vec::new();
    let empty = Map::new();
    let fields = object.as_object().unwrap_or(&empty);
    let properties = kind.schema()["properties"].as_object().unwrap_or(&empty);
    let known: Vec<&str> = ROOT_FIELDS.into_iter().chain(properties.keys().map(String::as_str)).collect();
    for (field, value) in fields {
        if let Some(schema) = properties.get(field) {
            find_unknown(value, schema, field, &mut unknown);
        } else if !known.contains(&field.as_str()) {
            unknown.push(unknown_field("", field, &known));
        }
    }
    let metadata = fields.get("metadata").and_then(Value::as_object).unwrap_or(&empty);
    for field in metadata.keys().filter(|field| !METADATA_FIELDS.contains(&field.as_str())) {
        unknown.push(unknown_field("metadata", field, &METADATA_FIELDS));
    }
    unknown
}

/// Drops `null`s and fills in the defaults of the schema, outer ones first.
pub(super) fn apply_defaults(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            let empty = Map::new();
            let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
            let more = schema.get("additionalProperties");
            fields.retain(|field, value| {
                !(value.is_null() && (properties.contains_key(field) || more.is_some()))
            });
            for (field, schema) in properties {
                if let Some(default) = schema.get("default")
                    && !fields.contains_key(field)
                {
                    fields.insert(field.clone(), default.clone());
                }
            }
            for (field, value) in fields.iter_mut() {
                if let Some(schema) = properties.get(field).or(more) {
                    apply_defaults(value, schema);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    apply_defaults(item, schema);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn find_unknown(value: &Value, schema: &Value, path: &str, unknown: &mut Vec<Violation>) {
    match value {
        Value::Object(fields) => {
            if let Some(schema) = schema.get("additionalProperties") {
                fields
                    .iter()
                    .for_each(|(key, value)| find_unknown(value, schema, &below(path, key), unknown));
                return;
            }
            // A mapping where the schema wants a text is refused by its type.
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            for (field, value) in fields {
                match properties.get(field) {
                    Some(schema) => find_unknown(value, schema, &below(path, field), unknown),
                    None => unknown.push(unknown_field(path, field, &known)),
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = schema.get("items") else { return };
            for (index, item) in items.iter().enumerate() {
                find_unknown(item, schema, &format!("{path}[{index}]"), unknown);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn unknown_field(parent: &str, field: &str, known: &[&str]) -> Violation {
    let path = below(parent, field);
    let mut message = format!("unknown field {path:?}");
    if let Some(near) = nearest(field, known) {
        message = format!("{message}, did you mean {:?}?", below(parent, near));
    }
    Violation::new(&path, Cause::Unknown, message)
}

/// The name that was probably meant: one of the same letters, or one that differs in a letter of four.
fn nearest<'a>(field: &str, known: &[&'a str]) -> Option<&'a str> {
    let letters = |name: &str| {
        let mut letters: Vec<char> = name.to_lowercase().chars().collect();
        letters.sort_unstable();
        letters
    };
    let distance = |name: &str| {
        if letters(name) == letters(field) { 0 } else { edits(&field.to_lowercase(), &name.to_lowercase()) }
    };
    let near = known.iter().copied().map(|name| (distance(name), name)).min()?;
    (near.0 <= near.1.len().div_ceil(4)).then_some(near.1)
}

/// How many letters have to be put in, taken out or changed to make one word of the other (Levenshtein's distance).
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
