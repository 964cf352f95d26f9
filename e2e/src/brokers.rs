//! A Cluster with its Topics in a namespace of its own, which goes when the test ends.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::environment::Environment;
use crate::namespaces::RESTRICTED;
use crate::{installation, wait};

/// From `kubectl apply` to Ready: some seconds, and much more on two cores that three brokers, three nodes, a control plane and
/// whatever else runs there share. Waiting that long costs nothing when all is well.
pub const READY_WITHIN: Duration = Duration::from_mins(8);

/// For a status, a condition or an object that comes in a moment. After a broker was away the operator may hold details of statuses
/// back for five minutes.
pub const SOON: Duration = Duration::from_mins(7);

/// The Cluster's name in every test.
pub const NAME: &str = "orders";

/// A Cluster named [`NAME`] in a namespace.
#[derive(Debug)]
pub struct Brokers {
    pub(crate) environment: &'static Environment,
    pub(crate) namespace: &'static str,
}

/// The YAML of a Cluster of so many brokers, small enough for many tests after each other.
pub fn cluster(replicas: u32) -> String {
    format!(
        r"
apiVersion: fulmar.dev/v1alpha1
kind: Cluster
metadata: {{name: {NAME}}}
spec:
  replicas: {replicas}
  storage: {{size: 1Gi}}
  resources: {{requests: {{cpu: 50m, memory: 256Mi}}, limits: {{memory: 256Mi}}}}
"
    )
}

/// The same on file systems of their own, which can be full, and can grow.
pub fn cluster_on_disks(replicas: u32) -> String {
    cluster(replicas).replace("storage: {size: 1Gi}", "storage: {size: 1Gi, storageClassName: local-disk}")
}

/// The YAML of a Topic; `more` are further lines of its spec.
pub fn topic(name: &str, partitions: u32, more: &str) -> String {
    format!(
        r"
---
apiVersion: fulmar.dev/v1alpha1
kind: Topic
metadata: {{name: {name}}}
spec:
  clusterRef: {{name: {NAME}}}
  partitions: {partitions}
  {more}
"
    )
}

impl Brokers {
    /// Installs the operator unless it is, makes the namespace (restricted Pod Security) and applies the YAML. What an earlier attempt
    /// left in this namespace goes first.
    pub fn apply(namespace: &'static str, yaml: &str) -> Result<Self> {
        let environment = Environment::get()?;
        installation::ensure(environment)?;
        Self::apply_to_installed(environment, namespace, yaml)
    }

    /// The same where a test installs the operator in its own way.
    pub fn apply_to_installed(
        environment: &'static Environment,
        namespace: &'static str,
        yaml: &str,
    ) -> Result<Self> {
        // First, so that what is half made goes too.
        let brokers = Self { environment, namespace };
        environment.create_namespace(namespace, &[RESTRICTED])?;
        environment.apply(namespace, yaml)?;
        Ok(brokers)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &'static str {
        self.namespace
    }

    /// `kubectl --namespace …`
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["--namespace", self.namespace];
        all.extend(arguments);
        self.environment.kubectl(&all)
    }

    /// A file of the repository as this test may name it to `kubectl`: its text, in the folder of logs.
    pub fn path_of(&self, name: &str, text: &str) -> Result<String> {
        let path = self.environment.logs.join(name.replace('/', "-"));
        std::fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
        Ok(path.to_string_lossy().into_owned())
    }

    /// Waits until a resource, such as `flt/orders.v1`, is Ready for its newest generation.
    pub fn await_ready(&self, resource: &str) -> Result<()> {
        self.await_condition(resource, "Ready", "True", READY_WITHIN)
    }

    /// Waits until a condition has a status, for the newest generation.
    pub fn await_condition(&self, resource: &str, kind: &str, status: &str, at_most: Duration) -> Result<()> {
        let what = format!("{resource} {kind}={status}");
        let seen = wait::until_so(&what, at_most, || {
            let object = self.get(resource)?;
            let condition = condition(&object, kind);
            let newest = object["metadata"]["generation"] == object["status"]["observedGeneration"];
            Ok(newest && condition.is_some_and(|condition| condition["status"] == status))
        });
        seen.with_context(|| self.describe(resource))
    }

    /// Waits until a condition has a status for a reason; gives its message.
    pub fn await_reason(&self, resource: &str, kind: &str, status: &str, reason: &str) -> Result<String> {
        let what = format!("{resource} {kind}={status}, {reason}");
        let seen = wait::until(&what, SOON, || {
            let found = self.condition(resource, kind)?;
            Ok(found.filter(|found| found.0 == status && found.1 == reason).map(|(_, _, message)| message))
        });
        seen.with_context(|| self.describe(resource))
    }

    /// An error unless the status is of the newest generation.
    pub fn check_seen(&self, resource: &str) -> Result<()> {
        let object = self.get(resource)?;
        let (newest, seen) = (&object["metadata"]["generation"], &object["status"]["observedGeneration"]);
        anyhow::ensure!(newest == seen, "the status of {resource} is of generation {seen}, not {newest}");
        Ok(())
    }

    /// A condition of a resource now, if it has it: status, reason and message.
    pub fn condition(&self, resource: &str, kind: &str) -> Result<Option<(String, String, String)>> {
        let object = self.get(resource)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(condition(&object, kind)
            .map(|found| (text(&found["status"]), text(&found["reason"]), text(&found["message"]))))
    }

    /// The notes of all Events with this reason, and how often it was told: Kubernetes counts what is told again.
    pub fn events(&self, reason: &str) -> Result<(Vec<String>, u64)> {
        let field = format!("--field-selector=reason={reason}");
        let listed = self.environment.get_json(&["--namespace", self.namespace, "events", &field])?;
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        let count = |item: &Value| {
            let counts = [&item["count"], &item["series"]["count"]];
            counts.into_iter().filter_map(Value::as_u64).max().unwrap_or(1)
        };
        let note = |item: &Value| item["message"].as_str().unwrap_or_default().to_owned();
        Ok((items.iter().map(note).collect(), items.iter().map(count).sum()))
    }

    /// The epoch of each decision in the partition table, in the table's order.
    pub fn epochs(&self) -> Result<Vec<String>> {
        let tables = self.kubectl(&["get", "partitiontables", "-o", "yaml"])?;
        let epoch = |line: &str| line.split_once(" epoch=")?.1.split_whitespace().next().map(str::to_owned);
        Ok(tables.lines().filter_map(epoch).collect())
    }

    /// A resource as JSON.
    pub fn get(&self, resource: &str) -> Result<Value> {
        self.environment.get_json(&["--namespace", self.namespace, resource])
    }

    fn describe(&self, resource: &str) -> String {
        let described = self.kubectl(&["describe", resource]).unwrap_or_else(|error| format!("{error:#}"));
        let pods = self.kubectl(&["get", "pods", "-o", "wide"]).unwrap_or_else(|error| format!("{error:#}"));
        format!("{described}\n{pods}")
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

impl Drop for Brokers {
    fn drop(&mut self) {
        // The namespace goes in any case, and the next test does not wait for it.
        if std::thread::panicking() {
            self.keep_evidence();
        }
        if let Err(error) = self.environment.let_namespace_go(self.namespace) {
            eprintln!("namespace {} stays: {error:#}", self.namespace);
        }
    }
}
