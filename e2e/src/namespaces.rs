//! Namespaces: made whole, so that what is put in at once is judged and can run, and deleted when a test ends, however it does.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::environment::Environment;
use crate::wait;

/// A controller that has just been started again needs some seconds.
const MADE_WITHIN: Duration = Duration::from_mins(3);

/// Brokers end, volumes are let go, Topics are waited for: all of what an attempt left that was ended in the midst.
const GONE_WITHIN: Duration = Duration::from_mins(6);

/// Whose pods have to be restricted.
pub const RESTRICTED: (&str, &str) = ("pod-security.kubernetes.io/enforce", "restricted");

impl Environment {
    /// Makes a namespace; returns when pods can be made in it, which takes a controller to give it a service account. One of this
    /// name that an earlier attempt left goes first, and everything in it.
    ///
    /// Its labels are there from its first moment: who judges pods by them may not have heard yet of one that is set later.
    pub fn create_namespace(&self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        self.remove_namespace(name)?;
        let labels: serde_json::Map<String, serde_json::Value> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let metadata = json!({"name": name, "labels": labels});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
        self.apply("default", &namespace.to_string())?;
        wait::until_so("a service account in a new namespace", MADE_WITHIN, || {
            self.kubectl(&["get", "serviceaccount", "--namespace", name, "default"]).map(|_| true)
        })
    }

    /// Deletes a namespace if it is there; returns when it is gone.
    pub fn remove_namespace(&self, name: &str) -> Result<()> {
        wait::until_so(
            &format!("what an earlier attempt left in namespace {name} is gone"),
            GONE_WITHIN,
            || {
                let going = "jsonpath={.metadata.name} {.metadata.deletionTimestamp}";
                let found = self.kubectl(&["get", "namespace", name, "--ignore-not-found", "-o", going])?;
                if found == format!("{name} ") {
                    println!("namespace {name} was left by an earlier attempt: it is deleted");
                    self.let_namespace_go(name)?;
                }
                Ok(found.trim().is_empty())
            },
        )
    }

    /// Deletes a namespace if it is there; nobody waits for that.
    pub fn let_namespace_go(&self, name: &str) -> Result<()> {
        self.kubectl(&["delete", "namespace", name, "--wait=false", "--ignore-not-found"]).map(drop)
    }
}

/// A namespace of one process, deleted when this is dropped; nobody waits for that.
#[derive(Debug)]
pub struct Namespace {
    /// What it is called.
    pub name: String,
    environment: &'static Environment,
}

impl Namespace {
    /// Makes one whose name begins like this.
    pub fn make(environment: &'static Environment, start: &str, labels: &[(&str, &str)]) -> Result<Self> {
        let namespace = Self { name: format!("{start}-{}", std::process::id()), environment };
        environment.create_namespace(&namespace.name, labels)?;
        Ok(namespace)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = self.environment.let_namespace_go(&self.name) {
            eprintln!("namespace {} stays: {error:#}", self.name);
        }
    }
}
