//! What the statuses of both resources share: the bounded list of conditions.
//!
//! Owns the schema of a condition. Never: which condition is true.

use schemars::{Schema, SchemaGenerator, json_schema};

/// The most conditions that one object carries. There are fewer than ten types; the bound is for the API server, which
/// sizes the cost of its checks from it.
pub const CONDITIONS_MAX: usize = 16;

/// The schema of `status.conditions`: Kubernetes' conditions, keyed by type, each string bounded.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": CONDITIONS_MAX,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 316,
                    "description": "What the condition is about, in CamelCase."
                },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "Whether it is true."
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation of the spec that the condition speaks of."
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time",
                    "description": "When status last changed from one value to another."
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "description": "Why, in one CamelCase word, for programs."
                },
                "message": {
                    "type": "string", "maxLength": 32768,
                    "description": "Why, in a sentence, for people."
                }
            }
        }
    })
}
