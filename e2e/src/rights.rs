//! What an account may do, as the API server itself answers: a `SubjectAccessReview` for each verb on each kind of object.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::environment::Environment;

/// All that Kubernetes knows; the last three let one take others' rights.
pub const VERBS: [&str; 11] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "bind",
    "escalate",
    "impersonate",
];

/// A kind of object: its group (empty: Kubernetes' core) and plural, with a subresource behind a slash.
pub type Kind<'a> = (&'a str, &'a str);

/// A service account, with the groups that its token says.
#[derive(Debug)]
pub struct Account {
    name: String,
    groups: [String; 3],
}

impl Account {
    /// That of a pod which says so; it need not be there.
    pub fn new(namespace: &str, name: &str) -> Self {
        let all = "system:serviceaccounts";
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: [all.to_owned(), format!("{all}:{namespace}"), "system:authenticated".to_owned()],
        }
    }

    /// Which verbs it may, of all, on these kinds: in a namespace, or in all of them and on what is in none. `object`: its name, if the
    /// question is about one.
    pub fn may(
        &self,
        environment: &Environment,
        kinds: &[Kind<'_>],
        namespace: Option<&str>,
        object: Option<&str>,
    ) -> Result<BTreeSet<(String, String)>> {
        let questions: Vec<Value> = kinds
            .iter()
            .flat_map(|kind| VERBS.iter().map(|verb| self.question(*kind, verb, namespace, object)))
            .collect();
        let answers = environment.create(&Value::Array(questions.clone()))?;
        ensure!(answers.len() == questions.len(), "{} of {} answers", answers.len(), questions.len());
        let mut may = BTreeSet::new();
        for answer in answers {
            let is_allowed = answer["status"]["allowed"].as_bool();
            let asked = &answer["spec"]["resourceAttributes"];
            let text = |name: &str| asked[name].as_str().unwrap_or_default();
            if is_allowed.with_context(|| format!("no answer: {answer}"))? {
                let kind = [text("resource"), text("subresource")];
                may.insert((
                    named((text("group"), kind.join("/").trim_end_matches('/'))),
                    text("verb").to_owned(),
                ));
            }
        }
        Ok(may)
    }

    fn question(
        &self,
        (group, kind): Kind<'_>,
        verb: &str,
        namespace: Option<&str>,
        object: Option<&str>,
    ) -> Value {
        let (resource, subresource) = kind.split_once('/').unwrap_or((kind, ""));
        json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": self.name,
                "groups": self.groups,
                "resourceAttributes": {
                    "group": group, "resource": resource, "subresource": subresource,
                    "verb": verb, "namespace": namespace.unwrap_or_default(), "name": object.unwrap_or_default(),
                },
            },
        })
    }
}

/// A kind as people write it: `statefulsets.apps`, `pods/eviction`.
pub fn named((group, kind): Kind<'_>) -> String {
    if group.is_empty() { kind.to_owned() } else { format!("{kind}.{group}") }
}
