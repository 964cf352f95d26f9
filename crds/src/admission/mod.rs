//! What the API server does to an object on its way in, without an API server: for `fulmar dev`.
//!
//! Owns: documents out of a text, unknown fields, defaults, types, bounds and the CEL rules, each read from the very
//! schema that is installed in Kubernetes, with the verdicts and messages that a person sees there. One corpus
//! (`crds/corpus`) is run through this and through a real API server.
//!
//! Never: a rule of its own. What is checked stands in the CRDs, or is what Kubernetes asks of every object's metadata.
//!
//! Known differences, all to the strict side: the words `yes`, `no`, `on` and `off` are texts, as in YAML 1.2 (kubectl
//! reads them as booleans); a key that stands twice in one mapping is refused, in the words of the API server's strict
//! decoding (kubectl keeps the last one before the API server could see both); an update is checked as a whole (the API
//! server lets a value pass that breaks a rule but has not changed).

mod bounds;
mod documents;
mod metadata;
mod prune;
mod rules;
mod schema;
mod strict;
mod violation;

use serde_json::{Value, json};

use crate::{Cluster, Topic};
use schema::Kind;

pub use violation::{Cause, Rejection, Violation};

/// The namespace of an object that names none.
const NAMESPACE_DEFAULT: &str = "default";

/// A manifest that was taken: defaults are filled in, and every rule holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// A Cluster.
    Cluster(Box<Cluster>),
    /// A Topic.
    Topic(Box<Topic>),
}

impl Document {
    /// The kind, as it stands in the manifest.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cluster(_) => "Cluster",
            Self::Topic(_) => "Topic",
        }
    }

    /// `metadata.name`.
    pub fn name(&self) -> &str {
        let metadata = match self {
            Self::Cluster(cluster) => &cluster.metadata,
            Self::Topic(topic) => &topic.metadata,
        };
        metadata.name.as_deref().unwrap_or_default()
    }

    /// `metadata.namespace`, or `default`.
    pub fn namespace(&self) -> &str {
        let metadata = match self {
            Self::Cluster(cluster) => &cluster.metadata,
            Self::Topic(topic) => &topic.metadata,
        };
        metadata.namespace.as_deref().unwrap_or(NAMESPACE_DEFAULT)
    }

    /// The object as JSON, as the API server would store it.
    pub fn value(&self) -> Value {
        match self {
            Self::Cluster(cluster) => serde_json::to_value(cluster),
            Self::Topic(topic) => serde_json::to_value(topic),
        }
        .expect("a resource has only string keys")
    }

    fn of(kind: Kind, value: Value) -> Result<Self, serde_json::Error> {
        match kind {
            Kind::Cluster => serde_json::from_value(value).map(|cluster| Self::Cluster(Box::new(cluster))),
            Kind::Topic => serde_json::from_value(value).map(|topic| Self::Topic(Box::new(topic))),
            Kind::PartitionTable => Err(serde::de::Error::custom("a PartitionTable is internal")),
        }
    }
}

/// Reads a text of YAML documents as `kubectl apply -f` does, nothing being there yet. Empty documents are left out; one
/// that is refused does not keep the others from being taken. A second document of one object is a change of the first.
pub fn read(text: &str) -> Vec<Result<Document, Rejection>> {
    read_update(text, &[])
}

/// As [`read`], with what was applied before: a document that changes an object is checked against it, so that what may
/// not change does not change. An object's status is what it was before, whatever the text says.
pub fn read_update(text: &str, previous: &[Document]) -> Vec<Result<Document, Rejection>> {
    let mut known = previous.to_vec();
    let mut verdicts = Vec::new();
    for part in documents::split(text) {
        let verdict = part.and_then(|part| admit_part(&part, &known));
        if let Ok(document) = &verdict {
            known.retain(|other| !same_object(other, document));
            known.push(document.clone());
        }
        verdicts.push(verdict);
    }
    verdicts
}

/// Admits one object: returns it as it would be stored, with defaults, or everything that is wrong with it.
///
/// `old` is the stored object for an update, `None` for a creation. The status of the result is that of `old`: the
/// status is a subresource, and an object that is applied does not change it.
///
/// # Errors
/// Every violation that the API server would name. As there, unknown fields are named alone; and as long as a type, an
/// enum, a required field or a length is wrong, the rules are not evaluated.
pub fn admit(new: &Value, old: Option<&Value>) -> Result<Value, Vec<Violation>> {
    let kind = schema::kind_of(new).map_err(|violation| vec![violation])?;
    let mut object = new.clone();
    schema::make_whole(&mut object);
    let unknown = prune::unknown_fields(&object, kind);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    replace_status(&mut object, old);
    prune::apply_defaults(&mut object, kind.schema());
    if object.pointer("/metadata/namespace").is_none_or(Value::is_null) {
        object["metadata"]["namespace"] = json!(NAMESPACE_DEFAULT);
    }
    let mut violations = metadata::check(&object);
    bounds::check(&object, kind.schema(), &mut violations);
    if violations.iter().any(|violation| violation.cause.hides_rules()) {
        violations.push(rules::not_checked());
    } else {
        violations.extend(rules::check(kind, &object, old));
    }
    if violations.is_empty() { Ok(object) } else { Err(violations) }
}

fn admit_part(part: &documents::Part, known: &[Document]) -> Result<Document, Rejection> {
    let kind = schema::kind_of(&part.value).map_err(|violation| part.reject(vec![violation]))?;
    if kind == Kind::PartitionTable {
        return Err(part.reject(vec![Violation::internal_kind()]));
    }
    let name = part.value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let namespace =
        part.value.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or(NAMESPACE_DEFAULT);
    let old = known
        .iter()
        .find(|other| other.kind() == kind.name() && other.name() == name && other.namespace() == namespace)
        .map(Document::value);
    let value = admit(&part.value, old.as_ref()).map_err(|violations| part.reject(violations))?;
    Document::of(kind, value).map_err(|error| part.reject(vec![Violation::unreadable(&error)]))
}

fn same_object(one: &Document, other: &Document) -> bool {
    (one.kind(), one.namespace(), one.name()) == (other.kind(), other.namespace(), other.name())
}

fn replace_status(object: &mut Value, old: Option<&Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    fields.remove("status");
    if let Some(status) = old.and_then(|old| old.get("status")) {
        fields.insert("status".to_owned(), status.clone());
    }
}

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod tests;
