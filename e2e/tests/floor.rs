//! Promise: the oldest Kubernetes that Fulmar is for takes the chart, its definitions and good manifests, and refuses bad ones in the
//! words of the newest, but for the value that is refused.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fulmar_crds::corpus;
use fulmar_e2e::environment::Environment;
use fulmar_e2e::floor::Floor;
use fulmar_e2e::verdicts::ApiServer;
use fulmar_e2e::wait;
use serde_json::Value;

/// As the chart's `kubeVersion` says it, and the documentation.
const OLDEST: &str = "v1.33.";

/// A policy or a definition that was just given is in force.
const IN_FORCE_WITHIN: Duration = Duration::from_mins(3);

const NAMESPACE: &str = "operators";

#[test]
fn oldest_kubernetes_takes_chart_and_manifests_and_refuses_what_the_newest_does() {
    let environment = Environment::get().unwrap();
    let floor = Floor::start(environment).unwrap();
    let operator = format!("system:serviceaccount:{NAMESPACE}:fulmar");
    let kubeconfig = floor.kubeconfig();
    let api =
        ApiServer { environment, kubeconfig: Some(&kubeconfig), operator: &operator, names_values: false };
    let version = version(&api);
    assert!(version.starts_with(OLDEST), "{version}");
    // Those that the values name.
    for namespace in [NAMESPACE, "orders", "payments", "corpus"] {
        api.kubectl(&["create", "namespace", namespace]).unwrap();
    }

    let server_side = ["--server-side"];
    println!("{}", api.apply_as_named(&rendered(environment, &version, None), &server_side).unwrap());
    let established = ["wait", "--for=condition=Established", "--timeout=180s", "crd", "--all"];
    api.kubectl(&established).unwrap();
    let values = values_of_goldens(environment);
    assert!(values.len() >= 5, "{values:?}");
    for values in values {
        let objects = rendered(environment, &version, Some(&values));
        let dry = [&server_side[..], &["--dry-run=server", "--force-conflicts"]].concat();
        let taken = api.apply_as_named(&objects, &dry);
        taken.unwrap_or_else(|error| panic!("{}: {error:#}", values.display()));
    }

    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/orders.yaml");
    println!("{}", api.apply("orders", &fs::read_to_string(examples).unwrap(), &server_side).unwrap());

    let (good, bad) = (corpus::good().unwrap(), corpus::bad().unwrap());
    only_the_operator_writes_tables(&api, &good);
    let wrong: Vec<String> =
        good.iter().chain(&bad).filter_map(|case| api.check(case, "corpus").err()).collect();
    assert!(wrong.is_empty(), "{} of the cases:\n{}", wrong.len(), wrong.join("\n"));
    println!("{version}: {} good and {} bad manifests", good.len(), bad.len());
}

fn version(api: &ApiServer<'_>) -> String {
    let printed = api.kubectl(&["get", "--raw", "/version"]).unwrap();
    let version: Value = serde_json::from_str(&printed).unwrap();
    version["gitVersion"].as_str().unwrap().to_owned()
}

/// What helm makes of the chart for this version.
fn rendered(environment: &Environment, version: &str, values: Option<&Path>) -> String {
    let chart = environment.chart.to_str().unwrap();
    let mut words = vec!["template", "fulmar", chart, "--namespace", NAMESPACE, "--kube-version", version];
    if let Some(values) = values {
        words.extend(["--values", values.to_str().unwrap()]);
    }
    environment.helm(&words).unwrap()
}

fn values_of_goldens(environment: &Environment) -> Vec<PathBuf> {
    let folder = environment.chart.parent().unwrap().join("goldens");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.to_str().unwrap().ends_with(".values.yaml")).collect()
}

/// The policy that came with the chart is in force, and so are the operator's rights.
fn only_the_operator_writes_tables(api: &ApiServer<'_>, good: &[corpus::Case]) {
    let page = good.iter().find(|case| case.path.ends_with("table-page.yaml")).unwrap();
    let dry = ["--dry-run=server"];
    wait::until_so("everybody but the operator is refused", IN_FORCE_WITHIN, || {
        let refused = api.apply("corpus", &page.documents[0], &dry).err().map(|error| error.to_string());
        Ok(refused.is_some_and(|said| said.contains("only the operator writes a PartitionTable")))
    })
    .unwrap();
    wait::until_so("the operator is not", IN_FORCE_WITHIN, || {
        api.apply("corpus", &page.documents[0], &["--dry-run=server", "--as", api.operator]).map(|_| true)
    })
    .unwrap();
}
