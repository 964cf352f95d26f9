//! The operator, installed by the chart as a user installs it: once, for all tests.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::environment::Environment;
use crate::wait;

/// Where the operator lives.
pub const NAMESPACE: &str = "fulmar-system";

/// A start of the operator with its CRDs, on a busy machine of two cores.
const INSTALLED_WITHIN: Duration = Duration::from_mins(5);

/// Installs the chart unless it is, and waits until the operator is there.
pub fn ensure(environment: &Environment) -> Result<()> {
    let installed = ["get", "deployment", "--namespace", NAMESPACE, "--ignore-not-found", "-o", "name"];
    if environment.kubectl(&installed)?.trim().is_empty() {
        install(environment)?;
    }
    scale(environment, 1)
}

fn install(environment: &Environment) -> Result<()> {
    // Definitions that another release installed, in this test run or before, are taken over.
    release(environment, "install", "fulmar", NAMESPACE, &["--take-ownership"]).map(drop)
}

/// `helm install` or `helm upgrade` of the chart with the images under test; gives what it printed once all of it is up.
pub fn release(
    environment: &Environment,
    verb: &str,
    name: &str,
    namespace: &str,
    more: &[&str],
) -> Result<String> {
    let chart = environment.chart.to_str().context("the chart's path is UTF-8")?;
    let image = |name: &str, image: &str| {
        let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
        format!("{name}.repository={repository},{name}.tag={tag}")
    };
    let operator = image("image", &environment.operator_image);
    let broker = image("brokerImage", &environment.broker_image);
    let mut arguments = vec![verb, name, chart, "--namespace", namespace];
    if verb == "install" {
        arguments.push("--create-namespace");
    }
    arguments.extend(["--set", &operator, "--set", &broker, "--wait", "--timeout", "300s"]);
    arguments.extend(more);
    environment.helm(&arguments)
}

/// So many operators; waits until they are there, or gone.
pub fn scale(environment: &Environment, replicas: u32) -> Result<()> {
    let count = format!("--replicas={replicas}");
    let scale = ["scale", "deployment", "--namespace", NAMESPACE, "--all", &count];
    environment.kubectl(&scale)?;
    wait::until_so(&format!("{replicas} operators"), INSTALLED_WITHIN, || {
        let pods = environment.kubectl(&["get", "pods", "--namespace", NAMESPACE, "-o", POD_READINESS])?;
        let ready = pods.lines().filter(|line| *line == "True").count();
        Ok(ready == replicas as usize && pods.lines().count() == ready)
    })
}

const POD_READINESS: &str =
    "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";

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
