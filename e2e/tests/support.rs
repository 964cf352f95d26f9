//! Promise: one command gathers what is needed to find out what is wrong, without secrets and records, with whatever rights its caller
//! has; and what brokers and the operator log is changed while they run, from inside of their pods alone.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::environment::Environment;

/// Nobody waits for ever.
const ANSWERED_WITHIN: Duration = Duration::from_mins(1);

const RECORD: &str = "the recipe of the house";

/// A bundle: what it has, and what was said of what it lacks.
struct Taken {
    files: BTreeMap<String, String>,
    said: String,
}

/// Takes a bundle, as somebody whose `kubectl` is this.
fn take(environment: &Environment, namespace: &str, kubectl: &Path, name: &str) -> Taken {
    let file = environment.logs.join(name);
    let output = Command::new(environment.binaries.join("fulmar"))
        .args(["support-bundle", "--namespace", namespace, "--output"])
        .arg(&file)
        .arg("--kubectl")
        .arg(kubectl)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    println!("{}{said}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{said}");
    Taken { files: unpacked(&file), said }
}

fn unpacked(file: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(file).unwrap()));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (path.split_once('/').unwrap().1.to_owned(), text)
    });
    files.collect()
}

/// What Secrets of a namespace hold: each value as it is stored, and each of its lines as it is used.
fn secrets(environment: &Environment, namespace: &str) -> Vec<String> {
    let listed = environment.get_json(&["--namespace", namespace, "secrets"]).unwrap();
    let mut secrets = Vec::new();
    for secret in listed["items"].as_array().unwrap() {
        let name = secret["metadata"]["name"].as_str().unwrap();
        for (key, value) in secret["data"].as_object().unwrap() {
            secrets.push(value.as_str().unwrap().to_owned());
            let template = format!("{{{{index .data \"{key}\" | base64decode}}}}");
            let template = format!("go-template={template}");
            let plain =
                environment.kubectl(&["--namespace", namespace, "get", "secret", name, "-o", &template]);
            secrets
                .extend(plain.unwrap().lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
        }
    }
    // A short line is in every text.
    secrets.retain(|secret| secret.len() >= 16);
    secrets
}

/// Asks from outside of the pod.
fn put_log_level(ip: &str) -> String {
    let mut stream = std::net::TcpStream::connect((ip, 8080)).unwrap();
    stream.set_read_timeout(Some(ANSWERED_WITHIN)).unwrap();
    write!(stream, "PUT /log-level HTTP/1.0\r\nHost: {ip}\r\nContent-Length: 5\r\n\r\ntrace").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A `kubectl` of somebody who may only look at one namespace.
fn viewer(environment: &Environment, brokers: &Brokers) -> PathBuf {
    let namespace = brokers.namespace();
    let subject = format!("{namespace}:viewer");
    brokers.kubectl(&["create", "serviceaccount", "viewer"]).unwrap();
    let account = format!("--serviceaccount={subject}");
    brokers.kubectl(&["create", "rolebinding", "viewer", "--clusterrole=view", &account]).unwrap();
    let program = environment.logs.join("kubectl-of-a-viewer");
    let kubectl = environment.kubectl_program().display();
    let script = format!("#!/bin/sh\nexec {kubectl} --as=system:serviceaccount:{subject} \"$@\"\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    program
}

fn everything_is_there(taken: &Taken) {
    for (file, words) in [
        ("README.txt", "Nothing that was looked for is missing."),
        ("errors.txt", "Nothing that was looked for is missing."),
        ("kubernetes-version.json", "serverVersion"),
        ("cluster/nodes.json", "\"Node\""),
        ("cluster/customresourcedefinitions.txt", "clusters.fulmar.dev"),
        ("namespace/clusters.json", "\"orders\""),
        ("namespace/topics.json", "\"events\""),
        ("namespace/partitiontables.json", "epoch="),
        ("namespace/statefulsets.json", "\"orders\""),
        ("namespace/pods.json", "\"orders-0\""),
        ("namespace/persistentvolumeclaims.json", "data-orders-0"),
        ("namespace/services.json", "orders-brokers"),
        ("namespace/networkpolicies.json", "50052"),
        ("namespace/poddisruptionbudgets.json", "maxUnavailable"),
        ("namespace/events.json", "\"Event\""),
        ("namespace/secrets.txt", "key tls.key, "),
        ("namespace/secrets.txt", "fulmar.dev/not-after "),
        ("namespace/logs/orders-0.broker.log", "the broker serves"),
        ("namespace/logs/orders-0.broker.previous.log", "the broker serves"),
        ("namespace/brokers/orders-0/metrics.txt", "fulmar_publishes_total"),
        ("namespace/brokers/orders-0/readyz.txt", "ok"),
        ("namespace/brokers/orders-0/log-level.txt", "info,fulmar_broker=debug for "),
        ("namespace/brokers/orders-0/cluster-status.txt", "Brokers alive:"),
        ("namespace/brokers/orders-0/topic-list.txt", "events"),
        ("operator/deployments.json", "fulmar-operator"),
        ("operator/leases.json", "holderIdentity"),
    ] {
        let text =
            taken.files.get(file).unwrap_or_else(|| panic!("{file} is missing: {:?}", taken.files.keys()));
        assert!(text.contains(words), "{file} has no {words:?}: {text}");
    }
    for part in ["metrics.txt", "log-level.txt", ".operator.log"] {
        let mut files = taken.files.keys().filter(|name| name.starts_with("operator/"));
        assert!(files.any(|name| name.ends_with(part)), "operator/…{part}: {:?}", taken.files.keys());
    }
}

fn nothing_secret_is_there(taken: &Taken, secrets: &[String]) {
    assert!(secrets.len() > 20, "{} secrets", secrets.len());
    for (name, text) in &taken.files {
        assert!(!text.contains(RECORD), "{name} has a record");
        for secret in secrets {
            assert!(!text.contains(secret.as_str()), "{name} has a line of a Secret");
        }
    }
}

#[test]
fn a_bundle_has_what_is_needed_and_no_secret_and_says_what_the_callers_rights_do_not_reach() {
    let environment = Environment::get().unwrap();
    let brokers = Brokers::apply("support", &(cluster(1) + &topic("events", 1, ""))).unwrap();
    let namespace = brokers.namespace();
    brokers.await_ready("flt/events").unwrap();
    brokers.kill_and_await(0).unwrap();
    let ip = brokers.pod_ip(0).unwrap();
    let server = format!("http://{ip}:50051");
    environment
        .binary("fulmar", &["publish", "events", RECORD, "--key", RECORD, "--server", &server])
        .unwrap();

    let refused = put_log_level(&ip);
    assert!(refused.starts_with("HTTP/1.0 403") && refused.contains("only on loopback"), "{refused}");
    let arguments = ["cluster", "log-level", "info,fulmar_broker=debug", "--namespace", namespace];
    let told = environment.fulmar_with_kubectl(&arguments).unwrap();
    assert!(told.starts_with("orders-0: info,fulmar_broker=debug for "), "{told}");
    // Another test may have changed it for a while.
    let told = environment.fulmar_with_kubectl(&["cluster", "log-level", "--operator", "--reset"]).unwrap();
    assert!(told.contains(", as configured"), "{told}");

    let taken = take(environment, namespace, environment.kubectl_program(), "support.tar.gz");
    everything_is_there(&taken);
    let mut kept = secrets(environment, namespace);
    kept.extend(secrets(environment, fulmar_e2e::installation::NAMESPACE));
    nothing_secret_is_there(&taken, &kept);

    let seen = take(environment, namespace, &viewer(environment, &brokers), "support-of-a-viewer.tar.gz");
    nothing_secret_is_there(&seen, &kept);
    let errors = &seen.files["errors.txt"];
    for (file, why) in [("namespace/secrets.txt", "cannot list"), ("cluster/nodes.json", "cannot list")] {
        let line = errors.lines().find(|line| line.starts_with(file));
        assert!(line.is_some_and(|line| line.contains(why)), "{file}: {errors}");
        assert!(seen.said.contains(&format!("not in the bundle: {file}: ")), "{}", seen.said);
    }
    assert!(seen.files["namespace/logs/orders-0.broker.log"].contains("the broker serves"));
    assert!(
        seen.files["README.txt"].contains("namespace/secrets.txt: "),
        "what is missing stands in the README too"
    );
}
