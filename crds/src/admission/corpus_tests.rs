//! The corpus, run through this module. The end-to-end tests run it through a real API server.

use std::collections::BTreeSet;

use kube::core::cel::Validator;

use super::*;
use crate::corpus::{self, Case};

/// Takes every document of a case, each as a change of the one before; returns what the last one comes to.
fn run(case: &Case) -> Result<Value, Vec<Violation>> {
    let mut stored: Option<Value> = None;
    let mut verdict = None;
    for text in &case.documents {
        assert!(
            !matches!(verdict, Some(Err(_))),
            "{}: only the last document is bad: {verdict:?}",
            case.path.display()
        );
        let object = documents::split(text).remove(0).unwrap().value;
        let mut result = admit(&object, stored.as_ref());
        if let (Ok(stored), Some(status)) = (&mut result, object.get("status")) {
            stored["status"] = status.clone();
        }
        stored = result.as_ref().ok().cloned();
        verdict = Some(result);
    }
    verdict.expect("a case has a document")
}

#[test]
fn good_cases_are_taken_and_stored_as_they_say() {
    for case in corpus::good().unwrap() {
        let stored =
            run(&case).unwrap_or_else(|violations| panic!("{}: {violations:?}", case.path.display()));
        for (pointer, value) in &case.stored {
            assert_eq!(stored.pointer(pointer), Some(value), "{}: {pointer}", case.path.display());
        }
    }
}

#[test]
fn good_cases_make_good_settings() {
    for case in corpus::good().unwrap() {
        let stored = run(&case).unwrap();
        let kind = schema::kind_of(&stored).unwrap();
        let checked = match kind {
            Kind::Cluster => crate::ClusterSettings::of(&serde_json::from_value(stored).unwrap()).map(drop),
            Kind::Topic => crate::TopicSettings::of(&serde_json::from_value(stored).unwrap()).map(drop),
            Kind::PartitionTable => Ok(()),
        };
        assert_eq!(checked, Ok(()), "{}", case.path.display());
    }
}

#[test]
fn bad_cases_are_refused_in_the_words_that_they_expect() {
    for case in corpus::bad().unwrap() {
        assert!(!case.expected.is_empty(), "{}: a bad case expects something", case.path.display());
        let violations = run(&case).expect_err(&case.path.display().to_string());
        let said: Vec<String> = violations.iter().map(ToString::to_string).collect();
        for expected in &case.expected {
            assert!(said.iter().any(|said| said.contains(expected)), "{}: {said:#?}", case.path.display());
        }
    }
}

#[test]
fn every_rule_fails_in_some_bad_case() {
    let failed: BTreeSet<(&str, String, String)> =
        corpus::bad().unwrap().iter().flat_map(failed_rules).collect();
    for kind in [Kind::Cluster, Kind::Topic, Kind::PartitionTable] {
        let mut rules = Vec::new();
        rules_of(kind.schema(), "", &mut rules);
        assert!(!rules.is_empty());
        for (path, rule) in rules {
            // As it is evaluated, for a creation or an update.
            let settled = ["true", "false"].map(|update| rule.replace("oldSelf.hasValue()", update));
            let covered =
                settled.iter().any(|rule| failed.contains(&(kind.name(), path.clone(), rule.clone())));
            assert!(covered, "no bad case breaks the rule of {} at {path:?}: {rule}", kind.name());
        }
    }
}

/// The rules that the last document of a case breaks, each with its kind and path.
fn failed_rules(case: &Case) -> Vec<(&'static str, String, String)> {
    let objects: Vec<Value> =
        case.documents.iter().map(|text| documents::split(text).remove(0).unwrap().value).collect();
    let (new, old) = (objects.last().unwrap(), objects.len().checked_sub(2).map(|index| &objects[index]));
    let Ok(kind) = schema::kind_of(new) else { return Vec::new() };
    let mut new = new.clone();
    prune::apply_defaults(&mut new, kind.schema());
    let errors = Validator::new().validate_compiled(rules::compiled(kind, old.is_some()), &new, old).err();
    let path = |path: &str| path.trim_start_matches('.').replace("[0]", "[]");
    errors.into_iter().flatten().map(|error| (kind.name(), path(&error.field_path), error.rule)).collect()
}

/// Every rule of a schema with the path that its violation names.
fn rules_of(schema: &Value, path: &str, rules: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let below = rule["fieldPath"].as_str().unwrap_or_default();
        let whole = format!("{path}{below}");
        rules.push((whole.trim_start_matches('.').to_owned(), rule["rule"].as_str().unwrap().to_owned()));
    }
    for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
        rules_of(schema, &schema::below(path, field), rules);
    }
    if let Some(schema) = schema.get("items") {
        rules_of(schema, &format!("{path}[]"), rules);
    }
}
