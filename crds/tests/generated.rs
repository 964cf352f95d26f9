//! What is generated is what the types say, and is fit for an API server.

use std::fs;
use std::path::Path;

use fulmar_crds::definition;

/// The API server takes more, but a CRD that is applied by kubectl is copied into an annotation of at most 256 KiB.
const YAML_LENGTH_MAX: usize = 256 << 10;

#[test]
fn yaml_is_what_the_types_say() {
    for (name, crd) in definition::all() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml").join(format!("{name}.yaml"));
        let expected = definition::yaml(&crd);
        assert!(
            fs::read_to_string(&path).unwrap() == expected,
            "{} is old: run `cargo run -p fulmar-crds --example generate`",
            path.display()
        );
        assert!(expected.len() < YAML_LENGTH_MAX, "{}: {} bytes", path.display(), expected.len());
    }
}

#[test]
fn chart_has_the_same_definitions() {
    for (name, crd) in definition::all() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../charts/fulmar/templates/crds")
            .join(format!("{name}.yaml"));
        assert!(
            fs::read_to_string(&path).unwrap() == definition::chart_yaml(&crd),
            "{} is old: run `cargo run -p fulmar-crds --example generate`",
            path.display()
        );
    }
}

#[test]
fn every_text_and_list_is_bounded() {
    for (name, crd) in definition::all() {
        assert_bounded(&definition::schema(&crd), name);
    }
}

fn assert_bounded(schema: &serde_json::Value, path: &str) {
    // A time has a format, an enum has its values.
    let free = schema.get("format").is_none() && schema.get("enum").is_none();
    match schema["type"].as_str() {
        Some("string") if free => assert!(schema["maxLength"].is_u64(), "{path} has no maxLength"),
        Some("array") => assert!(schema["maxItems"].is_u64(), "{path} has no maxItems"),
        Some("object") if schema.get("additionalProperties").is_some() => {
            assert!(schema["maxProperties"].is_u64(), "{path} has no maxProperties");
        }
        _ => {}
    }
    for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
        assert!(schema["description"].is_string(), "{path}.{field} has no description");
        assert_bounded(schema, &format!("{path}.{field}"));
    }
    for below in ["items", "additionalProperties"] {
        if let Some(schema) = schema.get(below) {
            assert_bounded(schema, &format!("{path}[]"));
        }
    }
}
