//! The operator, installed by the chart as a user installs it: once, for all tests.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize as _;
use serde_json::Value;

use crate::environment::{Environment, Version};
use crate::{page, wait};

/// Where the operator lives.
pub const NAMESPACE: &str = "fulmar-system";

/// A start of the operator with its CRDs, on a busy machine of two cores.
const INSTALLED_WITHIN: Duration = Duration::from_mins(5);

/// The release of the chart that tests share, and so its Deployment's name.
pub const RELEASE: &str = "fulmar";

/// The chart, where people type it.
pub const CHART: &str = "charts/fulmar";

/// Installs the chart unless it is, and waits until one operator is there, and nodes for brokers: brokers that come while a node is
/// missed share one of the others for good.
pub fn ensure(environment: &Environment) -> Result<()> {
    await_nodes(environment)?;
    ensure_with(environment, &[])?;
    scale(environment, 1)
}

/// Installs the chart unless it is, without an operator that acts.
pub fn ensure_without_operator(environment: &Environment) -> Result<()> {
    await_nodes(environment)?;
    ensure_with(environment, &[])?;
    scale(environment, 0)
}

/// Installs the chart with these arguments unless it is installed.
pub fn ensure_with(environment: &Environment, more: &[&str]) -> Result<()> {
    let installed = ["get", "deployment", "--namespace", NAMESPACE, "--ignore-not-found", "-o", "name"];
    if !environment.kubectl(&installed)?.trim().is_empty() {
        return Ok(());
    }
    install_anew(environment, environment.current(), more)
}

/// Installs some version with these arguments in the place of what is installed, and waits for nodes for brokers.
pub fn install_instead(environment: &Environment, version: &Version, more: &[&str]) -> Result<()> {
    await_nodes(environment)?;
    install_anew(environment, version, more)
}

/// Takes the release that tests share away, if it is there; the next test installs it again.
pub fn uninstall(environment: &Environment) -> Result<()> {
    let words = page::typed("helm uninstall fulmar ", &[])?;
    let mut arguments: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    arguments.extend(["--ignore-not-found", "--wait"]);
    environment.helm(&arguments).map(drop)
}

fn install_anew(environment: &Environment, version: &Version, more: &[&str]) -> Result<()> {
    // One that was begun and not finished keeps its name.
    uninstall(environment)?;
    // Definitions that another release installed, in this test run or before, are taken over.
    let more = [&["--take-ownership"], more].concat();
    type_line(environment, version, "helm install fulmar ", &more)?;
    // Helm does not wait for these.
    let established = ["wait", "--for=condition=Established", "--timeout=180s"];
    environment.kubectl(&[&established[..], &DEFINITIONS].concat()).map(drop)
}

const DEFINITIONS: [&str; 3] =
    ["crd/clusters.fulmar.dev", "crd/topics.fulmar.dev", "crd/partitiontables.fulmar.dev"];

/// Waits until pods can come to each of xtask's own nodes.
fn await_nodes(environment: &Environment) -> Result<()> {
    if environment.nodes().is_err() {
        return Ok(());
    }
    wait::until_so("each node takes pods", INSTALLED_WITHIN, || {
        let nodes = environment.get_json(&["nodes"])?;
        // A node that was missed is tainted a moment longer than it is not Ready.
        let takes_pods = |node: &Value| is_ready(node) && node["spec"]["taints"].is_null();
        Ok(nodes["items"].as_array().is_some_and(|nodes| nodes.iter().all(takes_pods)))
    })
}

/// Whether a pod or a node is Ready.
pub(crate) fn is_ready(object: &Value) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// `helm install` or `helm upgrade` of the chart with the images under test; gives what it printed once all of it is up.
pub fn release(
    environment: &Environment,
    verb: &str,
    name: &str,
    namespace: &str,
    more: &[&str],
) -> Result<String> {
    release_of(environment, environment.current(), verb, name, namespace, more)
}

/// The same of some version.
pub fn release_of(
    environment: &Environment,
    version: &Version,
    verb: &str,
    name: &str,
    namespace: &str,
    more: &[&str],
) -> Result<String> {
    let mut arguments = vec![verb, name, CHART, "--namespace", namespace];
    if verb == "install" {
        arguments.push("--create-namespace");
    }
    helm_with_images(environment, version, &arguments, more)
}

/// Types the `helm` of the page on operations that begins like this, an installation or an upgrade to some version; gives what it printed
/// once all of it is up.
pub fn type_line(environment: &Environment, version: &Version, start: &str, more: &[&str]) -> Result<String> {
    let words = page::typed(start, &[])?;
    println!("$ {} {}", words.join(" "), more.join(" "));
    let arguments: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    helm_with_images(environment, version, &arguments, more)
}

fn helm_with_images(
    environment: &Environment,
    version: &Version,
    arguments: &[&str],
    more: &[&str],
) -> Result<String> {
    let chart = version.chart.to_str().context("the chart's path is UTF-8")?;
    let image = |name: &str, image: &str| {
        let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
        format!("{name}.repository={repository},{name}.tag={tag}")
    };
    let operator = image("image", &version.operator_image);
    let broker = image("brokerImage", &version.broker_image);
    let mut all: Vec<&str> =
        arguments.iter().map(|word| if *word == CHART { chart } else { *word }).collect();
    all.extend(["--set", &operator, "--set", &broker, "--wait", "--timeout", "300s"]);
    all.extend(more);
    environment.helm(&all)
}

/// The objects that the chart makes of these arguments, for the release that tests share. Nothing is installed.
pub fn rendered(environment: &Environment, more: &[&str]) -> Result<Vec<Value>> {
    let chart = environment.chart.to_str().context("the chart's path is UTF-8")?;
    let template = ["template", RELEASE, chart, "--namespace", NAMESPACE];
    let printed = environment.helm(&[&template[..], more].concat())?;
    let documents = serde_yaml::Deserializer::from_str(&printed).map(Value::deserialize);
    Ok(documents.filter(|object| !matches!(object, Ok(Value::Null))).collect::<Result<_, _>>()?)
}

/// So many operators; waits until they are there, or gone.
pub fn scale(environment: &Environment, replicas: u32) -> Result<()> {
    let count = format!("--replicas={replicas}");
    let scale = ["scale", "deployment", "--namespace", NAMESPACE, "--all", &count];
    environment.kubectl(&scale)?;
    wait::until_so(&format!("{replicas} operators"), INSTALLED_WITHIN, || {
        let pods = environment.get_json(&["pods", "--namespace", NAMESPACE])?;
        let pods = pods["items"].as_array().context("a list of pods")?;
        for pod in pods {
            check_up(environment, pod)?;
        }
        Ok(pods.len() == replicas as usize)
    })
}

/// An error unless this operator is up, and stays. A pod whose node was lost just now says that it is Ready until somebody misses it:
/// its process is asked for, where it can be.
fn check_up(environment: &Environment, pod: &Value) -> Result<()> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    ensure!(is_ready(pod) && pod["metadata"]["deletionTimestamp"].is_null(), "{name} is not Ready, or stops");
    if let Ok(nodes) = environment.nodes() {
        nodes.process(environment, NAMESPACE, name, "operator")?;
    }
    Ok(())
}

/// The operator that holds the Lease: its pod, and the whole identity.
pub fn acting(environment: &Environment) -> Result<(String, String)> {
    let holder = environment.kubectl(&[
        "get",
        "lease",
        "--namespace",
        NAMESPACE,
        "-o",
        "jsonpath={.items[0].spec.holderIdentity}",
    ])?;
    let pod = environment.kubectl(&["get", "pods", "--namespace", NAMESPACE, "-o", "name"])?;
    let pod = pod.lines().filter_map(|line| line.strip_prefix("pod/")).find(|pod| holder.starts_with(pod));
    Ok((pod.with_context(|| format!("no pod of {holder:?}"))?.to_owned(), holder))
}
