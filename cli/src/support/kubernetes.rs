//! What Kubernetes knows: objects, Events, logs.
//!
//! Owns which objects are Fulmar's: those of its API group, what carries its labels, and Events about these.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;

use super::brokers;
use super::bundle::Bundle;
use crate::kubectl::{Bound, Kubectl, KubectlError};

/// Ten thousand Topics with their statuses.
const LIST_BYTES_MAX: usize = 64 << 20;
/// Of one container: a day of a broker that is well is some hundred KiB; one that fails all the time says the same again.
const LOG_BYTES_MAX: usize = 8 << 20;
/// Kubernetes starts three to seven brokers of a Cluster, and a namespace has a few Clusters.
const PODS_MAX: usize = 64;

const OF_BROKERS: &str = "app.kubernetes.io/name=fulmar-broker";
const OF_OPERATORS: &str = "app.kubernetes.io/name=fulmar-operator";

/// Names of Secrets and of their keys, how long what is in them holds, and how long each value is. The template is filled in by kubectl, so
/// no value comes here.
const SECRETS: &str = r#"go-template={{range .items}}{{.metadata.name}} {{.type}}, made {{.metadata.creationTimestamp}}
{{range $k, $v := .metadata.annotations}}{{if or (eq $k "fulmar.dev/not-before") (eq $k "fulmar.dev/not-after") (eq $k "fulmar.dev/changed-at")}}  {{$k}} {{$v}}
{{end}}{{end}}{{range $k, $v := .data}}  key {{$k}}, {{len $v}} characters of base64
{{end}}{{end}}"#;

/// Where to look.
pub(super) struct Place<'a> {
    pub(super) kubectl: &'a Kubectl,
    pub(super) namespace: &'a str,
    pub(super) operator_namespace: &'a str,
    pub(super) since: Duration,
}

/// A list of objects: its file, its resource, and the selector of what is ours.
type Listed = (&'static str, &'static str, Option<&'static str>);

/// In the namespace of the Clusters.
const OF_NAMESPACE: [Listed; 10] = [
    ("clusters", "clusters.fulmar.dev", None),
    ("topics", "topics.fulmar.dev", None),
    ("partitiontables", "partitiontables.fulmar.dev", None),
    ("statefulsets", "statefulsets.apps", Some(OF_BROKERS)),
    ("persistentvolumeclaims", "persistentvolumeclaims", Some(OF_BROKERS)),
    ("services", "services", Some(OF_BROKERS)),
    ("networkpolicies", "networkpolicies.networking.k8s.io", None),
    ("poddisruptionbudgets", "poddisruptionbudgets.policy", Some(OF_BROKERS)),
    ("resourcequotas", "resourcequotas", None),
    ("limitranges", "limitranges", None),
];

/// In the operator's.
const OF_OPERATOR: [Listed; 3] = [
    ("deployments", "deployments.apps", Some(OF_OPERATORS)),
    ("leases", "leases.coordination.k8s.io", None),
    ("networkpolicies", "networkpolicies.networking.k8s.io", Some(OF_OPERATORS)),
];

/// Of the whole cluster; who may not read them goes without.
const OF_CLUSTER: [Listed; 2] =
    [("nodes", "nodes", None), ("storageclasses", "storageclasses.storage.k8s.io", None)];

/// Gathers everything.
pub(super) async fn gather<W: Write>(place: &Place<'_>, bundle: &mut Bundle<W>) -> io::Result<()> {
    for (file, resource, selector) in OF_CLUSTER {
        if let Some(mut list) = place.list(bundle, "cluster", None, (file, resource, selector)).await {
            trim_nodes(&mut list);
            bundle.object(&format!("cluster/{file}.json"), list)?;
        }
    }
    place.definitions(bundle).await?;
    place.operator(bundle).await?;
    place.clusters(bundle).await
}

impl Place<'_> {
    /// The definitions' versions: which fields the API server knows.
    async fn definitions<W: Write>(&self, bundle: &mut Bundle<W>) -> io::Result<()> {
        bundle.doing("definitions");
        let columns = "-o=custom-columns=NAME:.metadata.name,VERSIONS:.spec.versions[*].name,STORED:.status.storedVersions,MADE:.metadata.creationTimestamp,GENERATION:.metadata.generation";
        let names = ["clusters.fulmar.dev", "topics.fulmar.dev", "partitiontables.fulmar.dev"];
        let arguments = [&["get", "customresourcedefinitions", columns][..], &names].concat();
        let listed = self.kubectl.run(&arguments, Bound::Whole(LIST_BYTES_MAX)).await;
        bundle.text_or_gap("cluster/customresourcedefinitions.txt", listed)
    }

    async fn operator<W: Write>(&self, bundle: &mut Bundle<W>) -> io::Result<()> {
        let namespace = self.operator_namespace;
        for (file, resource, selector) in OF_OPERATOR {
            if let Some(list) =
                self.list(bundle, "operator", Some(namespace), (file, resource, selector)).await
            {
                bundle.object(&format!("operator/{file}.json"), list)?;
            }
        }
        let pods = self.pods(bundle, "operator", namespace, OF_OPERATORS).await?;
        if pods.is_empty() {
            bundle.missing(
                "operator",
                format!(
                    "no pod of an operator is in namespace {namespace}; --operator-namespace says where it is"
                ),
            );
        }
        for pod in &pods {
            self.logs(bundle, "operator", namespace, pod).await?;
            brokers::ask_operator(self.kubectl, namespace, &pod.name, bundle).await?;
        }
        self.events(bundle, "operator", namespace, &pods, &[]).await
    }

    async fn clusters<W: Write>(&self, bundle: &mut Bundle<W>) -> io::Result<()> {
        let (namespace, folder) = (self.namespace, "namespace");
        let mut clusters = Vec::new();
        for (file, resource, selector) in OF_NAMESPACE {
            if let Some(list) = self.list(bundle, folder, Some(namespace), (file, resource, selector)).await {
                if file == "clusters" {
                    clusters = names(&list);
                }
                bundle.object(&format!("{folder}/{file}.json"), list)?;
            }
        }
        bundle.doing("secrets, without their contents");
        let arguments = ["--namespace", namespace, "get", "secrets", "--selector", OF_BROKERS, "-o", SECRETS];
        let secrets = self.kubectl.run(&arguments, Bound::Whole(LIST_BYTES_MAX)).await;
        bundle.text_or_gap(&format!("{folder}/secrets.txt"), secrets)?;
        let pods = self.pods(bundle, folder, namespace, OF_BROKERS).await?;
        if pods.is_empty() {
            bundle.missing(
                folder,
                format!("no pod of a broker is in namespace {namespace}; --namespace says where they are"),
            );
        }
        self.events(bundle, folder, namespace, &pods, &clusters).await?;
        for pod in &pods {
            self.logs(bundle, folder, namespace, pod).await?;
        }
        // Last: what brokers say costs the most time if they do not answer.
        for pod in &pods {
            brokers::ask_broker(self.kubectl, namespace, &pod.name, bundle).await?;
        }
        Ok(())
    }

    /// A list as JSON, or a gap.
    async fn list<W: Write>(
        &self,
        bundle: &mut Bundle<W>,
        folder: &str,
        namespace: Option<&str>,
        (file, resource, selector): Listed,
    ) -> Option<Value> {
        bundle.doing(resource);
        let mut arguments = vec!["get", resource, "-o", "json", "--show-managed-fields"];
        arguments.extend(namespace.iter().flat_map(|namespace| ["--namespace", namespace]));
        arguments.extend(selector.iter().flat_map(|selector| ["--selector", selector]));
        let listed = self.kubectl.run(&arguments, Bound::Whole(LIST_BYTES_MAX)).await;
        let listed = listed.map_err(|error| error.to_string());
        match listed.and_then(|json| serde_json::from_slice(&json).map_err(|error| error.to_string())) {
            Ok(list) => Some(list),
            Err(error) => {
                bundle.missing(format!("{folder}/{file}.json"), error);
                None
            }
        }
    }

    async fn pods<W: Write>(
        &self,
        bundle: &mut Bundle<W>,
        folder: &str,
        namespace: &str,
        selector: &'static str,
    ) -> io::Result<Vec<Pod>> {
        let list = self.list(bundle, folder, Some(namespace), ("pods", "pods", Some(selector))).await;
        let Some(list) = list else { return Ok(Vec::new()) };
        let items = list["items"].as_array();
        let mut pods: Vec<Pod> = items.into_iter().flatten().filter_map(Pod::of).collect();
        if pods.len() > PODS_MAX {
            bundle.missing(
                folder,
                format!("{} pods: logs and metrics are of the first {PODS_MAX}", pods.len()),
            );
            pods.truncate(PODS_MAX);
        }
        bundle.object(&format!("{folder}/pods.json"), list)?;
        Ok(pods)
    }

    /// What each container says, and what it said before it was started again.
    async fn logs<W: Write>(
        &self,
        bundle: &mut Bundle<W>,
        folder: &str,
        namespace: &str,
        pod: &Pod,
    ) -> io::Result<()> {
        let since = format!("--since={}s", self.since.as_secs());
        for (container, restarts) in &pod.containers {
            let (name, path) = (&pod.name, format!("{folder}/logs/{}.{container}", pod.name));
            bundle.doing(format!("log of {name}"));
            let now =
                ["--namespace", namespace, "logs", name, "--container", container, "--timestamps", &since];
            let log = self.log(&now).await;
            bundle.text_or_gap(&format!("{path}.log"), log)?;
            if *restarts > 0 {
                let before = [&now[..7], &["--previous"]].concat();
                let log = self.log(&before).await;
                bundle.text_or_gap(&format!("{path}.previous.log"), log)?;
            }
        }
        Ok(())
    }

    async fn log(&self, arguments: &[&str]) -> Result<Vec<u8>, KubectlError> {
        self.kubectl.run(arguments, Bound::End(LOG_BYTES_MAX)).await
    }

    /// Events about what is ours: of our API group, and of pods, claims and sets by their names.
    async fn events<W: Write>(
        &self,
        bundle: &mut Bundle<W>,
        folder: &str,
        namespace: &str,
        pods: &[Pod],
        clusters: &[String],
    ) -> io::Result<()> {
        let list = self.list(bundle, folder, Some(namespace), ("events", "events", None)).await;
        let Some(mut list) = list else { return Ok(()) };
        if let Some(items) = list["items"].as_array_mut() {
            items.retain(|event| is_ours(&event["involvedObject"], pods, clusters));
        }
        bundle.object(&format!("{folder}/events.json"), list)
    }
}

/// A pod and its containers, with how often each was started again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    containers: Vec<(String, u64)>,
}

impl Pod {
    fn of(object: &Value) -> Option<Self> {
        let statuses = object["status"]["containerStatuses"].as_array();
        let container = |status: &Value| {
            let name = status["name"].as_str()?;
            // What others run beside ours is not ours to hand on.
            ["broker", "operator"]
                .contains(&name)
                .then(|| (name.to_owned(), status["restartCount"].as_u64().unwrap_or(0)))
        };
        let containers = statuses.into_iter().flatten().filter_map(container).collect();
        Some(Self { name: object["metadata"]["name"].as_str()?.to_owned(), containers })
    }
}

fn names(list: &Value) -> Vec<String> {
    let name = |item: &Value| item["metadata"]["name"].as_str().map(str::to_owned);
    list["items"].as_array().into_iter().flatten().filter_map(name).collect()
}

/// Whether an Event is about this.
fn is_ours(object: &Value, pods: &[Pod], clusters: &[String]) -> bool {
    if object["apiVersion"].as_str().is_some_and(|version| version.starts_with("fulmar.dev/")) {
        return true;
    }
    let name = object["name"].as_str().unwrap_or_default();
    let name = name.strip_prefix("data-").unwrap_or(name);
    let child =
        |parent: &str| name.strip_prefix(parent).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
    // Pods that are gone, and those that were never made, are told of by their set.
    let of_operator = |pod: &Pod| {
        let deployment = pod.name.rsplitn(3, '-').nth(2).unwrap_or(&pod.name);
        child(deployment)
    };
    clusters.iter().any(|cluster| child(cluster)) || (clusters.is_empty() && pods.iter().any(of_operator))
}

/// The images on a node are long, and others'.
fn trim_nodes(list: &mut Value) {
    for node in list["items"].as_array_mut().into_iter().flatten() {
        if let Some(status) = node.get_mut("status").and_then(Value::as_object_mut) {
            status.remove("images");
        }
    }
}

#[cfg(test)]
#[path = "kubernetes_tests.rs"]
mod tests;
