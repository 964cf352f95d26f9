//! The CEL rules of the CRDs, evaluated by kube's library.
//!
//! Owns the way between the schema and that library, and the words of a failed rule. Never: a rule.

use std::sync::OnceLock;

use kube::core::cel::{CompiledSchema, ErrorKind, ValidationError, Validator, compile_schema};
use serde_json::Value;

use super::schema::Kind;
use super::violation::{Cause, Violation};

/// What the API server adds when rules were left out because of other violations.
pub(super) fn not_checked() -> Violation {
    Violation::new(
        "",
        Cause::Invalid,
        "Invalid value: null: some validation rules were not checked because the object was invalid; \
         correct the existing errors to complete validation",
    )
}

/// Evaluates every rule; those that look at `oldSelf` only if there is an old object.
pub(super) fn check(kind: Kind, object: &Value, old: Option<&Value>) -> Vec<Violation> {
    let errors = Validator::new().validate_compiled(compiled(kind, old.is_some()), object, old).err();
    errors.into_iter().flatten().map(|error| violation(&error, kind.schema(), object)).collect()
}

/// The rules of a kind, compiled once, for creations and for updates.
///
/// The library binds an optional `oldSelf` as a plain value, which has no `hasValue()`. Whether there is an old object is
/// known here, so the answer is put in before the rule is compiled. A test holds such rules to that one question.
pub(super) fn compiled(kind: Kind, update: bool) -> &'static CompiledSchema {
    static COMPILED: OnceLock<[[CompiledSchema; 2]; 3]> = OnceLock::new();
    let [cluster, topic, partition_table] = COMPILED.get_or_init(|| {
        [Kind::Cluster, Kind::Topic, Kind::PartitionTable]
            .map(|kind| [false, true].map(|update| compile_schema(&settle(kind.schema(), update))))
    });
    let of_kind = match kind {
        Kind::Cluster => cluster,
        Kind::Topic => topic,
        Kind::PartitionTable => partition_table,
    };
    &of_kind[usize::from(update)]
}

fn settle(schema: &Value, update: bool) -> Value {
    let mut schema = schema.clone();
    // Only root rules ask this: below the root, a rule that must run once stands on the parent.
    let rules = schema.get_mut("x-kubernetes-validations").and_then(Value::as_array_mut);
    for rule in rules.into_iter().flatten() {
        let optional = rule.as_object_mut().and_then(|rule| rule.remove("optionalOldSelf"));
        if optional == Some(Value::Bool(true)) {
            let text = rule["rule"].as_str().unwrap_or_default();
            rule["rule"] = text.replace("oldSelf.hasValue()", if update { "true" } else { "false" }).into();
        }
    }
    schema
}

fn violation(error: &ValidationError, schema: &Value, object: &Value) -> Violation {
    let path = error.field_path.trim_start_matches('.');
    if error.kind != ErrorKind::ValidationFailure {
        return Violation::new(path, Cause::Invalid, format!("Invalid value: {}", error.message));
    }
    let message = &error.message;
    match error.reason.as_deref() {
        Some("FieldValueForbidden") => {
            Violation::new(path, Cause::Forbidden, format!("Forbidden: {message}"))
        }
        Some("FieldValueRequired") => Violation::required(path, message),
        _ => match scalar_of_rule(path, &error.rule, schema, object) {
            Some(value) => Violation::invalid(path, value, message),
            None => Violation::new(path, Cause::Invalid, format!("Invalid value: {message}")),
        },
    }
}

/// The value that a rule stands on, if it is no mapping and no list: those are not shown.
fn scalar_of_rule<'a>(path: &str, rule: &str, schema: &Value, object: &'a Value) -> Option<&'a Value> {
    let (mut node, mut value) = (schema, object);
    for step in path.split('.') {
        let (field, index) = step.split_once('[').unwrap_or((step, ""));
        (node, value) = (node.get("properties")?.get(field)?, value.get(field)?);
        if let Ok(index) = index.trim_end_matches(']').parse::<usize>() {
            (node, value) = (node.get("items")?, value.get(index)?);
        }
    }
    let rules = node.get("x-kubernetes-validations").and_then(Value::as_array)?;
    let stands_here = rules.iter().any(|known| known["rule"] == rule);
    (stands_here && !value.is_object() && !value.is_array()).then_some(value)
}
