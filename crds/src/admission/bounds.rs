//! Types, enums, lengths and ranges: what the schema says of a value without CEL.

use serde_json::{Map, Value};

use super::schema::{below, type_of};
use super::violation::{Cause, Violation};
use kube::core::cel::cel::Program;

/// Checks an object whose unknown fields are refused and whose defaults are filled in.
pub(super) fn check(object: &Value, schema: &Value, violations: &mut Vec<Violation>) {
    check_value(object, schema, "", violations);
}

fn check_value(value: &Value, schema: &Value, path: &str, violations: &mut Vec<Violation>) {
    let wanted = schema.get("type").and_then(Value::as_str).unwrap_or("object");
    let found = type_of(value);
    if wanted != found && !(wanted == "number" && found == "integer") {
        let detail = format!("{path} in body must be of type {wanted}: \"{found}\"");
        violations.push(Violation::new(path, Cause::Type, format!("Invalid value: \"{found}\": {detail}")));
    }
    if let Some(supported) = schema.get("enum").and_then(Value::as_array)
        && !supported.contains(value)
    {
        violations.push(Violation::unsupported(path, value, supported));
    }
    match value {
        Value::String(text) if wanted == "string" => check_text(text, value, schema, path, violations),
        Value::Number(_) if wanted == "integer" => check_range(value, schema, path, violations),
        Value::Array(items) if wanted == "array" => check_list(items, schema, path, violations),
        Value::Object(fields) if wanted == "object" => check_fields(fields, schema, path, violations),
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {}
    }
}

fn check_text(text: &str, value: &Value, schema: &Value, path: &str, violations: &mut Vec<Violation>) {
    let length = text.chars().count();
    if let Some(max) = count(schema, "maxLength").filter(|max| length > *max) {
        let unit = if max == 1 { "byte" } else { "bytes" };
        violations.push(Violation::new(
            path,
            Cause::TooLong,
            format!("Too long: may not be more than {max} {unit}"),
        ));
    }
    if let Some(min) = count(schema, "minLength").filter(|min| length < *min) {
        let detail = format!("{path} in body should be at least {min} chars long");
        violations.push(Violation::invalid(path, value, &detail));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && !matches(text, pattern)
    {
        let detail = format!("{path} in body should match '{pattern}'");
        violations.push(Violation::invalid(path, value, &detail));
    }
}

fn check_range(value: &Value, schema: &Value, path: &str, violations: &mut Vec<Violation>) {
    let number = value.as_i64();
    let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
    // A number beyond 64 bits is beyond every maximum.
    if let Some(max) = bound("maximum").filter(|max| number.is_none_or(|number| number > *max)) {
        let detail = format!("{path} in body should be less than or equal to {max}");
        violations.push(Violation::invalid(path, value, &detail));
    }
    if let Some(min) = bound("minimum").filter(|min| number.is_some_and(|number| number < *min)) {
        let detail = format!("{path} in body should be greater than or equal to {min}");
        violations.push(Violation::invalid(path, value, &detail));
    }
}

fn check_list(items: &[Value], schema: &Value, path: &str, violations: &mut Vec<Violation>) {
    check_count(items.len(), count(schema, "maxItems"), path, violations);
    if let Some(schema) = schema.get("items") {
        for (index, item) in items.iter().enumerate() {
            check_value(item, schema, &format!("{path}[{index}]"), violations);
        }
    }
}

fn check_fields(fields: &Map<String, Value>, schema: &Value, path: &str, violations: &mut Vec<Violation>) {
    check_count(fields.len(), count(schema, "maxProperties"), path, violations);
    let required = schema.get("required").and_then(Value::as_array);
    for field in required.into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(field) {
            violations.push(Violation::required(&below(path, field), ""));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let more = schema.get("additionalProperties");
    for (field, value) in fields {
        if let Some(schema) = properties.and_then(|properties| properties.get(field)).or(more) {
            check_value(value, schema, &below(path, field), violations);
        }
    }
}

fn check_count(number: usize, max: Option<usize>, path: &str, violations: &mut Vec<Violation>) {
    if let Some(max) = max.filter(|max| number > *max) {
        let items = if max == 1 { "item" } else { "items" };
        let message = format!("Too many: {number}: must have at most {max} {items}");
        violations.push(Violation::new(path, Cause::TooMany, message));
    }
}

fn count(schema: &Value, bound: &str) -> Option<usize> {
    schema.get(bound).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok())
}

/// Patterns are regular expressions of the kind that CEL has; its library is the one that is at hand.
fn matches(text: &str, pattern: &str) -> bool {
    let mut context = kube::core::cel::cel::Context::default();
    context.add_variable_from_value("text", text.to_owned());
    context.add_variable_from_value("pattern", pattern.to_owned());
    let program = Program::compile("text.matches(pattern)").expect("a rule of our own");
    program.execute(&context) == Ok(true.into())
}
