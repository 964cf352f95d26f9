//! A Cluster with its Topics in a namespace of its own, which goes when the test ends.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fulmar_client::Client;
use fulmar_proto::v1::PartitionStatus;

use crate::environment::Environment;
use crate::nodes::{Process, Signal};
use crate::{installation, wait};

/// From `kubectl apply` to Ready: some seconds, and much more on two cores that three brokers, three nodes, a control plane and
/// whatever else runs there share. Waiting that long costs nothing when all is well.
pub const READY_WITHIN: Duration = Duration::from_mins(5);

/// For a status, a condition or an object that comes in a moment.
pub const SOON: Duration = Duration::from_mins(2);

/// A broker whose volume was lost is replaced in steps, each a decision that is written down.
const WHOLE_WITHIN: Duration = Duration::from_mins(5);

/// The Cluster's name in every test.
pub const NAME: &str = "orders";

/// A Cluster named [`NAME`] in a namespace.
#[derive(Debug)]
pub struct Brokers {
    environment: &'static Environment,
    namespace: &'static str,
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
    /// Installs the operator unless it is, makes the namespace (restricted Pod Security) and applies the YAML.
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
        environment.create_namespace(namespace)?;
        let label = "pod-security.kubernetes.io/enforce=restricted";
        let brokers = Self { environment, namespace };
        environment.kubectl(&["label", "namespace", namespace, label])?;
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

    /// A condition of a resource now, if it has it: status, reason and message.
    pub fn condition(&self, resource: &str, kind: &str) -> Result<Option<(String, String, String)>> {
        let object = self.get(resource)?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        Ok(condition(&object, kind)
            .map(|found| (text(&found["status"]), text(&found["reason"]), text(&found["message"]))))
    }

    /// The notes of all Events with this reason, and how often it was told: Kubernetes counts what is told again.
    pub fn events(&self, reason: &str) -> Result<(Vec<String>, u64)> {
        let field = format!("--field-selector=reason={reason}");
        let printed = self.kubectl(&["get", "events", &field, "-o", "json"])?;
        let listed: serde_json::Value = serde_json::from_str(&printed)?;
        let items = listed["items"].as_array().cloned().unwrap_or_default();
        let count = |item: &serde_json::Value| {
            let counts = [&item["count"], &item["series"]["count"]];
            counts.into_iter().filter_map(serde_json::Value::as_u64).max().unwrap_or(1)
        };
        let note = |item: &serde_json::Value| item["message"].as_str().unwrap_or_default().to_owned();
        Ok((items.iter().map(note).collect(), items.iter().map(count).sum()))
    }

    /// The epoch of each decision in the partition table, in the table's order.
    pub fn epochs(&self) -> Result<Vec<String>> {
        let tables = self.kubectl(&["get", "partitiontables", "-o", "yaml"])?;
        let epoch = |line: &str| line.split_once(" epoch=")?.1.split_whitespace().next().map(str::to_owned);
        Ok(tables.lines().filter_map(epoch).collect())
    }

    /// A resource as JSON.
    pub fn get(&self, resource: &str) -> Result<serde_json::Value> {
        let printed = self.kubectl(&["get", resource, "-o", "json"])?;
        serde_json::from_str(&printed).with_context(|| format!("kubectl printed no JSON for {resource}"))
    }

    fn describe(&self, resource: &str) -> String {
        let described = self.kubectl(&["describe", resource]).unwrap_or_else(|error| format!("{error:#}"));
        let pods = self.kubectl(&["get", "pods", "-o", "wide"]).unwrap_or_else(|error| format!("{error:#}"));
        format!("{described}\n{pods}")
    }

    /// The name of a broker's pod.
    pub fn pod(ordinal: u32) -> String {
        format!("{NAME}-{ordinal}")
    }

    /// A broker's address now; it changes with its pod.
    pub fn pod_ip(&self, ordinal: u32) -> Result<String> {
        let ip = self.kubectl(&["get", "pod", &Self::pod(ordinal), "-o", "jsonpath={.status.podIP}"])?;
        ensure!(!ip.is_empty(), "{} has no address yet", Self::pod(ordinal));
        Ok(ip)
    }

    /// A broker's process on its node.
    pub fn process(&self, ordinal: u32) -> Result<Process> {
        self.environment.nodes()?.process(self.environment, self.namespace, &Self::pod(ordinal), "broker")
    }

    /// Kills a broker's process, and waits until its next one is Ready: until kubelet has noticed, the pod says that it is.
    pub fn kill_and_await(&self, ordinal: u32) -> Result<()> {
        let killed = self.process(ordinal)?;
        killed.send(Signal::Kill)?;
        let what = format!("another process of {}", Self::pod(ordinal));
        wait::until_so(&what, READY_WITHIN, || Ok(self.process(ordinal)? != killed))?;
        self.await_pod(ordinal)
    }

    /// Waits until a broker's pod is Ready.
    pub fn await_pod(&self, ordinal: u32) -> Result<()> {
        wait::until_so(&format!("{} is Ready", Self::pod(ordinal)), READY_WITHIN, || {
            let status = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            Ok(self.kubectl(&["get", "pod", &Self::pod(ordinal), "-o", status])? == "True")
        })
    }

    /// A client that starts at this broker's gRPC port.
    pub async fn client(&self, ordinal: u32) -> Result<Client> {
        let address = format!("http://{}:50051", self.pod_ip(ordinal)?);
        Client::builder().server(&address).connect().await.with_context(|| format!("connecting to {address}"))
    }
}

/// Waits until each partition of a topic is led and all its replicas hold all that is committed; gives the leaders.
pub async fn await_whole(client: &Client, topic: &str) -> Result<Vec<u32>> {
    let started = Instant::now();
    loop {
        let described = client.admin().describe_topic(topic).await;
        let whole = |partition: &PartitionStatus| {
            let complete = partition.serving && partition.in_sync.len() == partition.replicas.len();
            partition.leader.filter(|_| complete)
        };
        if let Ok(described) = &described
            && let Some(leaders) = described.partitions.iter().map(whole).collect::<Option<Vec<_>>>()
        {
            return Ok(leaders);
        }
        ensure!(started.elapsed() < WHOLE_WITHIN, "the replicas did not catch up: {described:?}");
        tokio::time::sleep(wait::LOOK_AGAIN).await;
    }
}

fn condition<'a>(object: &'a serde_json::Value, kind: &str) -> Option<&'a serde_json::Value> {
    object["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == kind)
}

impl Drop for Brokers {
    fn drop(&mut self) {
        // What a failed test leaves is collected before: the namespace goes in any case, and the next test does not wait for it.
        if std::thread::panicking() {
            let logs = self.environment.logs.join(self.namespace);
            for ordinal in 0..5 {
                for previous in ["--previous=false", "--previous=true"] {
                    if let Ok(log) = self.kubectl(&["logs", &Self::pod(ordinal), previous]) {
                        let _ = std::fs::create_dir_all(&logs);
                        let file = format!(
                            "{}{}.log",
                            Self::pod(ordinal),
                            if previous.ends_with("true") { "-previous" } else { "" }
                        );
                        let _ = std::fs::write(logs.join(file), log);
                    }
                }
            }
            for kind in ["flc,flt,partitiontables,pods,pvc", "events"] {
                if let Ok(yaml) = self.kubectl(&["get", kind, "-o", "yaml"]) {
                    let _ = std::fs::create_dir_all(&logs);
                    let _ = std::fs::write(
                        logs.join(format!("{}.yaml", kind.split(',').next().unwrap_or(kind))),
                        yaml,
                    );
                }
            }
            let operator = [
                "logs",
                "--namespace",
                installation::NAMESPACE,
                "--selector=app.kubernetes.io/name",
                "--tail=-1",
            ];
            if let Ok(log) = self.environment.kubectl(&operator) {
                let _ = std::fs::create_dir_all(&logs);
                let _ = std::fs::write(logs.join("operator.log"), log);
            }
        }
        let deleted = self.environment.kubectl(&["delete", "namespace", self.namespace, "--wait=false"]);
        if let Err(error) = deleted {
            eprintln!("namespace {} stays: {error:#}", self.namespace);
        }
    }
}
