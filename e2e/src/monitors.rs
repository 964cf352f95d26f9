//! Whom the chart's monitors have Prometheus read, and with which labels, as the Prometheus operator's documentation defines them
//! (monitoring.coreos.com/v1), from the pods and Services that are there.
//!
//! Owns that reading alone. No Prometheus operator runs in the cluster of the tests, so the chart installs no monitors there: they are
//! rendered.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde_json::Value;

use crate::environment::Environment;
use crate::installation::{self, NAMESPACE};
use crate::policies::{list, selects};

/// The monitors, and the Service through which one of them finds the operator.
#[derive(Debug)]
pub struct Monitors {
    environment: &'static Environment,
    of_pods: Value,
    of_services: Value,
    /// It was made here, and goes when this is dropped.
    made: Option<String>,
}

/// One process that is read.
#[derive(Debug, Clone)]
pub struct Target {
    /// The namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// On which port.
    pub port: i32,
    /// At which path.
    pub path: String,
    /// What is added to each of its series.
    pub labels: BTreeMap<String, String>,
}

impl Monitors {
    /// As the chart makes them where their API is, of the release that tests share. Its Service is made unless the release has it.
    pub fn make(environment: &'static Environment) -> Result<Self> {
        let kinds = ["PodMonitor", "ServiceMonitor"].map(|kind| format!("monitoring.coreos.com/v1/{kind}"));
        let apis: Vec<&str> = kinds.iter().flat_map(|api| ["--api-versions", api.as_str()]).collect();
        let objects = installation::rendered(environment, &apis)?;
        let one = |kind: &str| -> Result<Value> {
            let mut of_kind = objects.iter().filter(|object| object["kind"] == kind);
            let found = of_kind.next().with_context(|| format!("the chart makes no {kind}"))?;
            ensure!(of_kind.next().is_none(), "the chart makes more than one {kind}");
            Ok(found.clone())
        };
        let (of_pods, of_services) = (one("PodMonitor")?, one("ServiceMonitor")?);
        let service = one("Service")?;
        let name = text(&service["metadata"]["name"]);
        let by_helm = r"jsonpath={.metadata.annotations.meta\.helm\.sh/release-name}";
        let get = ["get", "service", &name, "--namespace", NAMESPACE, "--ignore-not-found", "-o", by_helm];
        let made = environment.kubectl(&get)?.trim().is_empty().then_some(name);
        // First, so that what is half made goes too.
        let monitors = Self { environment, of_pods, of_services, made };
        if monitors.made.is_some() {
            environment.apply(NAMESPACE, &service.to_string())?;
        }
        Ok(monitors)
    }

    /// Whom the `PodMonitor` finds: each container's port of a name that it gives, of the pods that it selects.
    pub fn brokers(&self) -> Result<Vec<Target>> {
        let monitor = &self.of_pods;
        let job =
            format!("{}/{}", text(&monitor["metadata"]["namespace"]), text(&monitor["metadata"]["name"]));
        let pods: Vec<Pod> = list(self.environment, &["pods", "--all-namespaces"])?;
        let mut targets = Vec::new();
        for pod in pods {
            // Prometheus leaves out who has no address yet, too.
            let has_address = pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some());
            if !has_address || !is_selected(monitor, &pod.metadata)? {
                continue;
            }
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            for (container, port) in containers
                .flat_map(|container| container.ports.iter().flatten().map(move |port| (container, port)))
            {
                for endpoint in endpoints(monitor, "podMetricsEndpoints", port.name.as_deref())? {
                    let mut target = target(endpoint, &pod, port.container_port)?;
                    target.labels.insert("container".to_owned(), container.name.clone());
                    target.labels.insert("job".to_owned(), job.clone());
                    targets.push(target);
                }
            }
        }
        Ok(targets)
    }

    /// The Services that the `ServiceMonitor` selects.
    pub fn services(&self) -> Result<Vec<Service>> {
        let services: Vec<Service> = list(self.environment, &["services", "--all-namespaces"])?;
        let mut selected = Vec::new();
        for service in services {
            if is_selected(&self.of_services, &service.metadata)? {
                selected.push(service);
            }
        }
        Ok(selected)
    }

    /// Whom the `ServiceMonitor` finds: the pods behind each port of a name that it gives, of those Services.
    pub fn operators(&self) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for service in self.services()? {
            let name = service.metadata.name.context("a Service has a name")?;
            let namespace = service.metadata.namespace.context("a Service has a namespace")?;
            let select = format!("--selector=kubernetes.io/service-name={name}");
            let slices: Vec<EndpointSlice> =
                list(self.environment, &["endpointslices", "--namespace", &namespace, &select])?;
            for slice in &slices {
                for (pod, (name_of_port, number)) in behind(slice) {
                    let pod = self.environment.get_json(&["pod", "--namespace", &namespace, pod])?;
                    let pod: Pod = serde_json::from_value(pod)?;
                    for endpoint in endpoints(&self.of_services, "endpoints", name_of_port)? {
                        let mut target = target(endpoint, &pod, number)?;
                        target.labels.insert("service".to_owned(), name.clone());
                        target.labels.insert("job".to_owned(), name.clone());
                        targets.push(target);
                    }
                }
            }
        }
        Ok(targets)
    }
}

impl Drop for Monitors {
    fn drop(&mut self) {
        let Some(name) = &self.made else { return };
        let delete =
            ["delete", "service", name, "--namespace", NAMESPACE, "--ignore-not-found", "--wait=false"];
        if let Err(error) = self.environment.kubectl(&delete) {
            eprintln!("Service {name} stays: {error:#}");
        }
    }
}

impl Target {
    /// What it shows now, through the API server.
    pub fn read(&self, environment: &Environment) -> Result<String> {
        let Self { namespace, pod, port, path, .. } = self;
        let proxied = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
        environment.kubectl(&["get", "--raw", &proxied])
    }
}

/// The names of the pods in a slice, each with a port: what it is called, and its number.
fn behind(slice: &EndpointSlice) -> Vec<(&str, (Option<&str>, i32))> {
    let is_pod = |target: &&ObjectReference| target.kind.as_deref() == Some("Pod");
    let pods = || slice.endpoints.iter().filter_map(|endpoint| endpoint.target_ref.as_ref());
    let named = || pods().filter(is_pod).filter_map(|target| target.name.as_deref());
    let ports = slice.ports.iter().flatten().filter_map(|port| Some((port.name.as_deref(), port.port?)));
    ports.flat_map(|port| named().map(move |pod| (pod, port))).collect()
}

/// Whether a monitor selects an object, which is one of the kind that it is for.
fn is_selected(monitor: &Value, object: &ObjectMeta) -> Result<bool> {
    let (namespaces, selector) = (&monitor["spec"]["namespaceSelector"], &monitor["spec"]["selector"]);
    let namespace = object.namespace.as_deref().unwrap_or_default();
    let is_of_namespace = match namespaces["matchNames"].as_array() {
        Some(names) => names.iter().any(|name| name == namespace),
        // All of them, or its own alone.
        None => namespaces["any"] == true || monitor["metadata"]["namespace"] == namespace,
    };
    ensure!(selector.is_object(), "a monitor has a selector");
    let selector: LabelSelector = serde_json::from_value(selector.clone())?;
    let labels = object.labels.clone().unwrap_or_default();
    Ok(is_of_namespace && selects(Some(&selector), &labels)?)
}

/// The endpoints of a monitor that are for a port of this name.
fn endpoints<'a>(monitor: &'a Value, field: &str, port: Option<&str>) -> Result<Vec<&'a Value>> {
    let endpoints = monitor["spec"][field].as_array().with_context(|| format!("a monitor has {field}"))?;
    Ok(endpoints.iter().filter(|endpoint| port.is_some_and(|port| endpoint["port"] == port)).collect())
}

/// With the labels that every monitor adds, and those of the endpoint's own rules.
fn target(endpoint: &Value, pod: &Pod, port: i32) -> Result<Target> {
    let namespace = pod.metadata.namespace.clone().context("a pod has a namespace")?;
    let name = pod.metadata.name.clone().context("a pod has a name")?;
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let address = address.with_context(|| format!("{name} has no address yet"))?;
    let mut labels: BTreeMap<String, String> = [
        ("namespace", namespace.clone()),
        ("pod", name.clone()),
        ("endpoint", text(&endpoint["port"])),
        ("instance", format!("{address}:{port}")),
    ]
    .map(|(label, value)| (label.to_owned(), value))
    .into();
    for rule in endpoint["relabelings"].as_array().into_iter().flatten() {
        let (label, value) = relabelled(rule, pod)?;
        // An empty one is none.
        if !value.is_empty() {
            labels.insert(label, value);
        }
    }
    let path = endpoint["path"].as_str().unwrap_or("/metrics").to_owned();
    Ok(Target { namespace, pod: name, port, path, labels })
}

/// What a rule sets, and to what: of the pod's labels, as they are.
fn relabelled(rule: &Value, pod: &Pod) -> Result<(String, String)> {
    const OF_POD: &str = "__meta_kubernetes_pod_label_";
    let fields = rule.as_object().context("a rule is an object")?;
    let is_plain = fields.keys().all(|field| ["sourceLabels", "targetLabel"].contains(&field.as_str()));
    ensure!(is_plain, "a rule that is not judged here: {rule}");
    let mut values = Vec::new();
    for source in rule["sourceLabels"].as_array().context("a rule has sources")? {
        let source = text(source);
        let label = source.strip_prefix(OF_POD).with_context(|| format!("{source} is not judged here"))?;
        let mut labels = pod.metadata.labels.iter().flatten();
        let found = labels.find(|(name, _)| sanitized(name) == label);
        values.push(found.map(|(_, value)| value.clone()).unwrap_or_default());
    }
    Ok((text(&rule["targetLabel"]), values.join(";")))
}

/// A label's name as Prometheus writes it.
fn sanitized(name: &str) -> String {
    let keep = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    name.chars().map(keep).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
