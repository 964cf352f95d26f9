//! What Kubernetes asks of every object's metadata: its names and labels.

use serde_json::Value;

use super::violation::{Cause, Violation};

/// The longest name of an object.
const NAME_LENGTH_MAX: usize = 253;
/// The longest name of a namespace, and of a label's value.
const LABEL_LENGTH_MAX: usize = 63;

/// Checks the names, labels and annotations.
pub(super) fn check(object: &Value) -> Vec<Violation> {
    let mut violations = Vec::new();
    let metadata = &object["metadata"];
    match &metadata["name"] {
        Value::Null => violations.push(missing_name()),
        Value::String(name) if name.is_empty() => violations.push(missing_name()),
        Value::String(name) => check_name(name, &mut violations),
        other => violations.push(of_type("metadata.name", other, "string")),
    }
    match &metadata["namespace"] {
        Value::Null => {}
        Value::String(name) => check_namespace(name, &mut violations),
        other => violations.push(of_type("metadata.namespace", other, "string")),
    }
    for field in ["labels", "annotations"] {
        check_map(&metadata[field], &format!("metadata.{field}"), field == "labels", &mut violations);
    }
    violations
}

fn missing_name() -> Violation {
    Violation::required("metadata.name", "name or generateName is required")
}

fn check_name(name: &str, violations: &mut Vec<Violation>) {
    let value = Value::from(name);
    if name.len() > NAME_LENGTH_MAX {
        let detail = format!("must be no more than {NAME_LENGTH_MAX} bytes");
        violations.push(Violation::invalid("metadata.name", &value, &detail));
    }
    if !name.split('.').all(is_label) {
        let detail = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                      must start and end with an alphanumeric character (e.g. 'example.com')";
        violations.push(Violation::invalid("metadata.name", &value, detail));
    }
}

fn check_namespace(name: &str, violations: &mut Vec<Violation>) {
    let value = Value::from(name);
    if name.len() > LABEL_LENGTH_MAX {
        let detail = format!("must be no more than {LABEL_LENGTH_MAX} bytes");
        violations.push(Violation::invalid("metadata.namespace", &value, &detail));
    }
    if !is_label(name) {
        let detail = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                      and end with an alphanumeric character (e.g. 'my-name')";
        violations.push(Violation::invalid("metadata.namespace", &value, detail));
    }
}

fn check_map(map: &Value, path: &str, labels: bool, violations: &mut Vec<Violation>) {
    let entries = match map {
        Value::Null => return,
        Value::Object(entries) => entries,
        other => return violations.push(of_type(path, other, "object")),
    };
    for (key, value) in entries {
        if !is_qualified_name(key) {
            let detail = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
                          an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc')";
            violations.push(Violation::invalid(path, &Value::from(key.as_str()), detail));
        }
        match value {
            Value::String(text) if labels && !is_label_value(text) => {
                let detail = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                              and must start and end with an alphanumeric character, and have at most 63 characters";
                violations.push(Violation::invalid(path, value, detail));
            }
            Value::String(_) | Value::Null => {}
            other => violations.push(of_type(&format!("{path}.{key}"), other, "string")),
        }
    }
}

fn of_type(path: &str, value: &Value, wanted: &str) -> Violation {
    let found = super::schema::type_of(value);
    Violation::new(path, Cause::Type, format!("Invalid value: \"{found}\": {path} must be of type {wanted}"))
}

/// A part of a DNS name in lower case.
fn is_label(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(good) && !name.starts_with('-') && !name.ends_with('-')
}

fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let prefix_is_good = prefix.is_none_or(|p| p.len() <= NAME_LENGTH_MAX && p.split('.').all(is_label));
    prefix_is_good && !name.is_empty() && is_label_value(name)
}

fn is_label_value(text: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let ends_well = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    let mut bytes = text.bytes();
    text.len() <= LABEL_LENGTH_MAX
        && text.bytes().all(good)
        && ends_well(bytes.next())
        && ends_well(text.bytes().last())
}
