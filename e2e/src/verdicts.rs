//! What an API server says to the manifests of the corpus (`crds/corpus`), in the words that a person sees.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use fulmar_crds::corpus::Case;
use serde_json::Value;

use crate::environment::Environment;

/// The kinds by names that no other product has.
const KINDS: &str = "clusters.fulmar.dev,topics.fulmar.dev,partitiontables.fulmar.dev";

/// Who is asked.
#[derive(Clone, Copy, Debug)]
pub struct ApiServer<'a> {
    /// Has the tools.
    pub environment: &'a Environment,
    /// How it is found; absent: that of the cluster under test.
    pub kubeconfig: Option<&'a Path>,
    /// The user that the operator is to it.
    pub operator: &'a str,
    /// What a CEL rule refuses is told with its value. Kubernetes 1.33 tells its type instead, so values are not compared there.
    pub names_values: bool,
}

impl ApiServer<'_> {
    /// `kubectl`, of this one.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let Some(kubeconfig) = self.kubeconfig else { return self.environment.kubectl(arguments) };
        let kubeconfig = kubeconfig.to_str().context("the path of a kubeconfig is UTF-8")?;
        self.environment.kubectl(&[&["--kubeconfig", kubeconfig], arguments].concat())
    }

    /// `kubectl apply` of a text in a namespace; `more`: further arguments.
    pub fn apply(&self, namespace: &str, yaml: &str, more: &[&str]) -> Result<String> {
        self.apply_as_named(yaml, &[&["--namespace", namespace], more].concat())
    }

    /// The same, each object in the namespace that it names itself.
    pub fn apply_as_named(&self, yaml: &str, more: &[&str]) -> Result<String> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(yaml.as_bytes())?;
        let path = file.path().to_str().context("the path of a temporary file is UTF-8")?;
        self.kubectl(&[&["apply", "-f", path], more].concat())
    }

    /// The same in the operator's name.
    pub fn apply_as_operator(&self, namespace: &str, yaml: &str) -> Result<String> {
        self.apply(namespace, yaml, &["--as", self.operator])
    }

    /// Applies each document of a case; the error is what went otherwise than the case says.
    pub fn check(&self, case: &Case, namespace: &str) -> Result<(), String> {
        let name = case.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let last = case.documents.len() - 1;
        for (index, text) in case.documents.iter().enumerate() {
            let object: Value = serde_yaml::from_str(text).map_err(|error| format!("{name}: {error}"))?;
            let applied = if object["kind"] == "PartitionTable" {
                self.apply_as_operator(namespace, text)
            } else {
                self.apply(namespace, text, &[])
            };
            if index == last && !case.expected.is_empty() {
                let said = applied.err().ok_or(format!("{name}: it is taken"))?.to_string();
                if let Some(missing) = case.expected.iter().find(|expected| !self.tells(&said, expected)) {
                    return Err(format!("{name}: {missing}\n  is not in: {said}"));
                }
            } else {
                let failed = |error| format!("{name}: document {}: {error:#}", index + 1);
                applied.and_then(|_| self.write_status_of(namespace, &object)).map_err(failed)?;
            }
        }
        let failed = |error| format!("{name}: {error:#}");
        if case.expected.is_empty() {
            self.check_stored(namespace, case).map_err(failed)?;
        }
        if case.expected.is_empty() || last > 0 {
            self.kubectl(&["delete", KINDS, "--all", "--namespace", namespace]).map_err(failed)?;
        }
        Ok(())
    }

    fn tells(&self, said: &str, expected: &str) -> bool {
        if self.names_values {
            return said.contains(expected);
        }
        without_values(said).contains(&without_values(expected))
    }

    fn check_stored(&self, namespace: &str, case: &Case) -> Result<()> {
        let printed = self.kubectl(&["get", KINDS, "--namespace", namespace, "-o", "json"])?;
        let list: Value = serde_json::from_str(&printed)?;
        for (pointer, value) in &case.stored {
            let found = list["items"][0].pointer(pointer);
            anyhow::ensure!(found == Some(value), "{pointer} is {found:?}, not {value}");
        }
        Ok(())
    }

    /// As the operator would: a status that is applied changes nothing.
    fn write_status_of(&self, namespace: &str, object: &Value) -> Result<()> {
        let Some(status) = object.get("status") else { return Ok(()) };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = format!("{}.fulmar.dev", text(&object["kind"]).to_lowercase());
        self.write_status(namespace, &kind, &text(&object["metadata"]["name"]), &status.to_string())
    }

    /// Writes the status of an object, which is JSON.
    pub fn write_status(&self, namespace: &str, kind: &str, name: &str, status: &str) -> Result<()> {
        let patch = format!(r#"{{"status":{status}}}"#);
        let how = ["--subresource=status", "--type=merge", "-p", &patch];
        self.kubectl(&[&["patch", kind, name, "--namespace", namespace], &how[..]].concat()).map(drop)
    }
}

/// A refusal without the values, or types, in quotes that it names.
fn without_values(said: &str) -> String {
    const BEFORE: &str = "Invalid value: ";
    let mut parts = said.split(BEFORE);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| {
        let told = part.strip_prefix('"').and_then(|quoted| quoted.split_once("\": "));
        all + BEFORE + told.map_or(part, |(_, words)| words)
    })
}

#[cfg(test)]
#[path = "verdicts_tests.rs"]
mod tests;
