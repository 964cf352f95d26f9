//! Promise: what we show is read right by others: metrics by Prometheus, as the chart's monitors have it read them, with every query of
//! alerts and dashboard; Clusters and Topics by kstatus (Helm, Flux) and by Argo CD.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use fulmar_crds::topic::ACCEPT_DATA_LOSS;
use fulmar_e2e::brokers::{Brokers, NAME, SOON, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::monitors::{Monitors, Target};
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::{health, installation, wait};
use serde_json::{Value, json};

/// One Cluster for all of it: what costs time is that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cluster_that_runs_shows_is_read_right_by_prometheus_argo_cd_and_kstatus() {
    let environment = Environment::get().unwrap();
    let brokers = Brokers::apply("queries", &(cluster(1) + &topic("events", 1, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    brokers.await_ready("flc/orders").unwrap();
    let mut acknowledged = Acknowledged::default();
    let client = brokers.client(0).await.unwrap();
    acknowledged.publish(&client, "events", 100, 1).await.unwrap();

    // One that is refused: a reason of failures is shown once it was given.
    let nowhere = format!(
        "/api/v1/namespaces/{}/pods/orders-0:8080/proxy/publish?topic=nowhere&msg=x",
        brokers.namespace()
    );
    assert!(environment.kubectl(&["get", "--raw", &nowhere]).is_err());

    let monitors = Monitors::make(environment).unwrap();
    let targets = targets_of_monitors(environment, &monitors, &brokers);
    budgets_count_those_whom_they_are_for(environment, &brokers);

    let folder = tempfile::tempdir().unwrap();
    // What happens now and then has a series only once it has happened.
    wait::until_so("every panel shows something", SOON, || {
        let empty = without_series(&answers(environment, &targets, folder.path())?);
        ensure!(empty.is_empty(), "panels that would stay empty: {empty:?}");
        Ok(true)
    })
    .unwrap();
    // What tests before left is on its way out: a Topic that is being deleted is not Ready.
    wait::until_so("no alert is pending while all is well", SOON, || {
        let pending = pending_while_all_is_well(&warnings(environment, &targets, folder.path())?);
        ensure!(pending.is_empty(), "alerts while all is well: {pending:?}");
        Ok(true)
    })
    .unwrap();
    objects_are_as_they_were_recorded(&brokers);
}

/// Whom both monitors find: the broker and the operator, each once, on a port of theirs, and with the labels that alerts tell them by.
fn targets_of_monitors(environment: &Environment, monitors: &Monitors, brokers: &Brokers) -> Vec<Target> {
    let of_brokers = monitors.brokers().unwrap();
    let pods = |targets: &[Target], namespace: &str| -> Vec<String> {
        targets
            .iter()
            .filter(|target| target.namespace == namespace)
            .map(|target| target.pod.clone())
            .collect()
    };
    assert_eq!(
        pods(&of_brokers, brokers.namespace()),
        owned(environment, brokers.namespace(), "StatefulSet")
    );
    assert_eq!(pods(&of_brokers, installation::NAMESPACE), Vec::<String>::new());
    let is_here = |target: &Target| target.namespace == brokers.namespace();
    let of_brokers: Vec<Target> = of_brokers.into_iter().filter(is_here).collect();
    for target in &of_brokers {
        assert_eq!(target.labels.get("fulmar_cluster").map(String::as_str), Some(NAME), "{target:?}");
    }

    let services: Vec<Option<String>> =
        monitors.services().unwrap().into_iter().map(|service| service.metadata.name).collect();
    assert_eq!(services.len(), 1, "{services:?}");
    let operators = owned(environment, installation::NAMESPACE, "ReplicaSet");
    assert_eq!(operators.len(), 1, "{operators:?}");
    let of_operators = wait::until("the ServiceMonitor finds the operator", SOON, || {
        let found = monitors.operators()?;
        let of_pods = pods(&found, installation::NAMESPACE);
        ensure!(of_pods == operators && found.len() == operators.len(), "{found:?}, and not {operators:?}");
        Ok(Some(found))
    })
    .unwrap();
    for target in &of_operators {
        assert_eq!(target.labels.get("fulmar_cluster"), None, "{target:?}");
    }
    [of_brokers, of_operators].concat()
}

/// The pods of a namespace that are controlled by something of this kind, whatever their labels are.
fn owned(environment: &Environment, namespace: &str, kind: &str) -> Vec<String> {
    let pods = environment.get_json(&["pods", "--namespace", namespace]).unwrap();
    let pods = pods["items"].as_array().unwrap().iter();
    let is_owned = |pod: &&Value| pod["metadata"]["ownerReferences"][0]["kind"] == kind;
    pods.filter(is_owned).map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// Each budget counts as many as there are to be: it selects them, and nobody else.
fn budgets_count_those_whom_they_are_for(environment: &Environment, brokers: &Brokers) {
    for (namespace, budget, of) in [
        (installation::NAMESPACE, installation::RELEASE, format!("deployment/{}", installation::RELEASE)),
        (brokers.namespace(), NAME, format!("statefulset/{NAME}")),
    ] {
        wait::until_so(&format!("the budget {budget} counts the pods of {of}"), SOON, || {
            let wanted = environment.get_json(&["--namespace", namespace, &of])?["spec"]["replicas"].clone();
            let budget = environment.get_json(&["--namespace", namespace, "poddisruptionbudget", budget])?;
            let status = &budget["status"];
            let counts = status["expectedPods"] == wanted && status["currentHealthy"] == wanted;
            ensure!(counts && budget["spec"]["maxUnavailable"] == 1, "{budget}, and {wanted} are wanted");
            Ok(true)
        })
        .unwrap();
    }
}

/// What they show now, each in a file, and the file that names these to `judge`.
fn scrape(environment: &Environment, targets: &[Target], folder: &Path) -> anyhow::Result<PathBuf> {
    let (mut scraped, mut all) = (Vec::new(), String::new());
    for target in targets {
        let (text, file) = (target.read(environment)?, folder.join(format!("{}.txt", target.pod)));
        fs::write(&file, &text)?;
        scraped.push(json!({"targets": [file], "labels": target.labels}));
        all += &text;
    }
    ensure!(all.contains("\nfulmar_operator_leading 1\n"), "the operator acts");
    ensure!(!all.contains("\nfulmar_volume_bytes 0\n"), "the broker has looked at its volume");
    let list = folder.join("targets.json");
    fs::write(&list, Value::Array(scraped).to_string())?;
    Ok(list)
}

/// What Prometheus makes of every query, from what broker and operator show now.
fn answers(environment: &Environment, targets: &[Target], folder: &Path) -> anyhow::Result<Vec<Value>> {
    let scraped = scrape(environment, targets, folder)?;
    let files = environment.chart.join("files");
    let (rules, dashboard) = (files.join("alerts.yaml"), files.join("dashboard.json"));
    let paths = [&rules, &dashboard, &scraped].map(|path| path.to_str().unwrap());
    let answers = environment.judge(&[&["queries"], &paths[..]].concat())?;
    Ok(answers.as_array().context("judge gives a list")?.clone())
}

/// The queries of panels that find nothing. It is an error at once if one cannot be answered, or asks for what nobody exports.
fn without_series(answers: &[Value]) -> BTreeSet<String> {
    assert!(answers.len() > 40, "{} queries", answers.len());
    let mut without_series = BTreeSet::new();
    for answer in answers {
        assert!(answer["error"].is_null(), "{answer}");
        assert_eq!(answer["unknown"], Value::Array(Vec::new()), "nobody exports this: {answer}");
        let is_alert = answer["of"].as_str().unwrap().starts_with("Fulmar");
        match answer["series"].as_u64().unwrap() {
            // An alert has series only while it is pending or fires.
            0 if is_alert => {}
            0 => drop(without_series.insert(answer["query"].to_string())),
            _ => {}
        }
    }
    without_series
}

/// What Prometheus makes of every alert while all is well, and once there is that of which it is to warn.
fn warnings(environment: &Environment, targets: &[Target], folder: &Path) -> anyhow::Result<Vec<Value>> {
    let scraped = scrape(environment, targets, folder)?;
    let rules = environment.chart.join("files/alerts.yaml");
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("judges/cases.yaml");
    let paths = [&rules, &cases, &scraped].map(|path| path.to_str().unwrap());
    // A case that does not fit is a slip, and none the less so later.
    let warnings = environment.judge(&[&["fires"], &paths[..]].concat()).unwrap();
    Ok(warnings.as_array().context("judge gives a list")?.clone())
}

/// The alerts that would be pending. It is an error at once if one does not warn of what it is for, or says it wrongly.
fn pending_while_all_is_well(warnings: &[Value]) -> Vec<String> {
    assert!(warnings.len() >= 16, "{} alerts", warnings.len());
    let mut pending = Vec::new();
    for warning in warnings {
        for ill in warning["ills"].as_array().unwrap() {
            assert_eq!(ill["wrong"], Value::Array(Vec::new()), "{}: {ill}", warning["of"]);
        }
        if warning["well"] != Value::Array(Vec::new()) {
            pending.push(format!("{}: {}", warning["of"], warning["well"]));
        }
    }
    pending
}

/// What was recorded of such objects is what they say today.
fn objects_are_as_they_were_recorded(brokers: &Brokers) {
    let as_recorded = |resource: &str, name: &str| brokers.await_as_recorded(resource, name).unwrap();
    as_recorded("flc/orders", "cluster-ready");
    as_recorded("flt/events", "topic-ready");
    let annotated = format!("metadata: {{name: slip, annotations: {{{ACCEPT_DATA_LOSS}: nonsense}}}}");
    let slip = topic("slip", 1, "").replace("metadata: {name: slip}", &annotated);
    Environment::get().unwrap().apply(brokers.namespace(), &slip).unwrap();
    as_recorded("flt/slip", "topic-annotation-slip");
    let paused = |paused: bool| {
        let patch = json!({"spec": {"paused": paused}}).to_string();
        brokers.kubectl(&["patch", "flc/orders", "--type=merge", "--patch", &patch]).unwrap();
    };
    paused(true);
    as_recorded("flc/orders", "cluster-paused");
    paused(false);
}

#[test]
fn every_alert_has_its_place_in_the_runbook() {
    let environment = Environment::get().unwrap();
    let runbook = include_str!("../../docs/alerts.md");
    let rules = fs::read_to_string(environment.chart.join("files/alerts.yaml")).unwrap();
    let rules: Value = serde_yaml::from_str(&rules).unwrap();
    let mut alerts = BTreeSet::new();
    for rule in
        rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
    {
        let name = rule["alert"].as_str().unwrap();
        assert_eq!(rule["annotations"]["runbook_url"], format!("docs/alerts.md#{}", name.to_lowercase()));
        alerts.insert(name);
    }
    let (_, sections) = runbook.split_once("\n# Runbook\n").unwrap();
    let sections: Vec<(&str, &str)> =
        sections.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect();
    for (alert, section) in &sections {
        for part in ["**Means**: ", "**Programs notice** ", "```sh\n", "**Do**: "] {
            assert!(section.contains(part), "the section {alert} has no {part:?}");
        }
    }
    let sections: BTreeSet<&str> = sections.into_iter().map(|(alert, _)| alert).collect();
    assert_eq!(alerts, sections);
}

#[test]
fn recorded_objects_are_read_right_by_kstatus_and_argo_cd() {
    let environment = Environment::get().unwrap();
    let recorded = fs::read_dir(health::folder().join("recorded")).unwrap();
    let mut files: Vec<PathBuf> = recorded.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "{} recorded objects", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let expected = health::expected(&text).unwrap();
        let object: Value = serde_yaml::from_str(&text).unwrap();
        assert_eq!(health::judged(environment, &object).unwrap(), expected, "{}", file.display());
    }
}
