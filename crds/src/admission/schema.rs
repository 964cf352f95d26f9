//! Which schema an object is held against.
//!
//! Owns the kinds and their schemas, made once from the CRDs. Never: what a schema says.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::violation::Violation;
use crate::{API_VERSION, definition};

/// A kind of the group `fulmar.dev`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Cluster,
    Topic,
    PartitionTable,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cluster => "Cluster",
            Self::Topic => "Topic",
            Self::PartitionTable => "PartitionTable",
        }
    }

    /// The schema in the CRD.
    pub(super) fn schema(self) -> &'static Value {
        static SCHEMAS: OnceLock<[Value; 3]> = OnceLock::new();
        let [cluster, topic, partition_table] = SCHEMAS.get_or_init(|| {
            [definition::cluster(), definition::topic(), definition::partition_table()]
                .map(|crd| definition::schema(&crd))
        });
        match self {
            Self::Cluster => cluster,
            Self::Topic => topic,
            Self::PartitionTable => partition_table,
        }
    }
}

/// The kind of an object by its `apiVersion` and `kind`.
pub(super) fn kind_of(object: &Value) -> Result<Kind, Violation> {
    if !object.is_object() {
        return Err(Violation::unreadable(
            &"a document is a mapping with apiVersion, kind, metadata and spec",
        ));
    }
    let text = |field: &str| {
        let missing = || Violation::unreadable(&format!("Object '{field}' is missing"));
        object.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or_else(missing)
    };
    let (kind, version) = (text("kind")?, text("apiVersion")?);
    [Kind::Cluster, Kind::Topic, Kind::PartitionTable]
        .into_iter()
        .find(|known| version == API_VERSION && kind == known.name())
        .ok_or_else(|| {
            let message = format!("no matches for kind {kind:?} in version {version:?}");
            Violation::unreadable(&format!("{message}: there are Cluster and Topic in {API_VERSION:?}"))
        })
}

/// Numbers such as `3.0` and `1e3` become whole, as they do on the way through kubectl.
pub(super) fn make_whole(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let whole =
                number.as_f64().filter(|number| number.fract() == 0.0).map(|number| format!("{number:.0}"));
            if let Some(whole) = whole.and_then(|digits| digits.parse::<i64>().ok()) {
                *value = json!(whole);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_whole),
        Value::Object(fields) => fields.values_mut().for_each(make_whole),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What a schema names the type of a value.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// The path of a field below another one.
pub(super) fn below(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}
