//! Promise: what we show is read right by others: metrics by Prometheus, with every query of alerts and dashboard; Clusters and Topics by
//! kstatus (Helm, Flux) and by Argo CD.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use fulmar_e2e::brokers::{Brokers, SOON, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::records::Acknowledged;
use fulmar_e2e::{installation, wait};
use serde_json::Value;

/// What a process shows now, through the API server; a `Path` because `judge` reads files.
fn scrape(environment: &Environment, namespace: &str, pod: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/metrics");
    let text = environment.kubectl(&["get", "--raw", &path])?;
    let file = folder.join(format!("{pod}.txt"));
    fs::write(&file, text)?;
    Ok(file)
}

fn operator_pod(environment: &Environment) -> anyhow::Result<String> {
    let path = "jsonpath={.items[0].metadata.name}";
    let select = "--selector=app.kubernetes.io/name=fulmar-operator";
    environment.kubectl(&["get", "pods", "--namespace", installation::NAMESPACE, select, "-o", path])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_alerts_and_dashboard_is_answered_from_what_is_really_exported() {
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

    let folder = tempfile::tempdir().unwrap();
    // What happens now and then has a series only once it has happened.
    wait::until_so("every panel shows something", SOON, || {
        let answers = answers(environment, &brokers, folder.path())?;
        let empty = without_series(&answers);
        ensure!(empty.is_empty(), "panels that would stay empty: {empty:?}");
        Ok(true)
    })
    .unwrap();
}

/// What Prometheus makes of every query, from what broker and operator show now.
fn answers(environment: &Environment, brokers: &Brokers, folder: &Path) -> anyhow::Result<Vec<Value>> {
    let of_broker = scrape(environment, brokers.namespace(), "orders-0", folder)?;
    let of_operator = scrape(environment, installation::NAMESPACE, &operator_pod(environment)?, folder)?;
    ensure!(fs::read_to_string(&of_operator)?.contains("fulmar_operator_leading 1"), "the operator acts");
    let files = environment.chart.join("files");
    let (rules, dashboard) = (files.join("alerts.yaml"), files.join("dashboard.json"));
    let paths = [&rules, &dashboard, &of_broker, &of_operator].map(|path| path.to_str().unwrap());
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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/argocd");
    let script = folder.join("health.lua");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder.join("recorded")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 8, "{} recorded objects", files.len());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        // `# argo: Healthy, kstatus: Current`
        let expected = text.lines().next().unwrap().strip_prefix("# argo: ").unwrap();
        let path = file.to_str().unwrap();
        let status = |arguments: &[&str]| -> String {
            let verdicts = environment.judge(arguments).unwrap();
            println!("{path}: {verdicts}");
            verdicts[0]["status"].as_str().unwrap().to_owned()
        };
        let argo = status(&["argo", script.to_str().unwrap(), path]);
        let kstatus = status(&["kstatus", path]);
        assert_eq!(format!("{argo}, kstatus: {kstatus}"), expected, "{path}");
    }
}
