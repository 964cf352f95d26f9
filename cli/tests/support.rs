//! `fulmar support-bundle --dev`: of a real `fulmar dev`, without its records and keys. That of Kubernetes is tested end to end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod dev;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use dev::ports::Block;
use dev::{Dev, FULMAR};

const YAML: &str = "
apiVersion: fulmar.dev/v1alpha1
kind: Cluster
metadata: {name: orders, annotations: {note: 'http://jane:hunter2@example.org'}}
spec: {replicas: 1}
---
apiVersion: fulmar.dev/v1alpha1
kind: Topic
metadata: {name: orders.v1}
spec: {clusterRef: {name: orders}, partitions: 1}
";

fn unpacked(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    let files = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (path.split_once('/').unwrap().1.to_owned(), text)
    });
    files.collect()
}

#[test]
fn bundle_of_a_dev_cluster_has_logs_and_table_and_neither_records_nor_keys() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data) = (folder.path().join("orders.yaml"), folder.path().join("data"));
    std::fs::write(&file, YAML).unwrap();
    let block = Block::take();
    let mut dev = Dev::start(&file, &data, block.base);
    dev.wait_for_start("ready: 1 brokers, 1 topics");
    dev.fulmar(&["publish", "orders.v1", "the secret of the chef"]);
    let http = format!("127.0.0.1:{}", block.base + 2);
    let told = Command::new(FULMAR)
        .args(["broker", "log-level", "info,fulmar_broker=debug", "--http-address", &http])
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let bundle =
        Command::new(FULMAR).args(["support-bundle", "-o", "-", "--dev"]).arg(&data).output().unwrap();
    assert!(bundle.status.success(), "{}", String::from_utf8_lossy(&bundle.stderr));
    let files = unpacked(&bundle.stdout);
    assert!(files["applied.json"].contains("http://(redacted)@example.org"), "{}", files["applied.json"]);
    assert!(files["logs/orders-0.log"].contains("the log level is changed"), "{files:?}");
    assert!(files.keys().any(|name| name.starts_with("table/")), "{:?}", files.keys());
    assert!(files["volumes.txt"].contains("brokers/orders-0/"), "{}", files["volumes.txt"]);
    assert_eq!(files["errors.txt"], "Nothing that was looked for is missing.\n");
    let key = std::fs::read_to_string(data.join("tls/tls.key")).unwrap();
    let gossip = std::fs::read_to_string(data.join("tls/gossip.key")).unwrap();
    for (name, text) in &files {
        for secret in [key.trim(), gossip.trim(), "hunter2", "the secret of the chef"] {
            assert!(!text.contains(secret), "{name} has a secret");
        }
    }
    dev.interrupt();
}

#[test]
fn bundle_in_a_file_is_for_its_owner_alone_and_whole_or_not_there() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("applied.json"), "not JSON").unwrap();
    let file = folder.path().join("bundle.tar.gz");
    let run = |output: &Path| {
        let mut command = Command::new(FULMAR);
        command.args(["support-bundle", "--dev"]).arg(folder.path()).arg("-o").arg(output).output().unwrap()
    };
    let made = run(&file);
    let (said, missing) = (String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
    assert!(made.status.success() && said.contains("4 missing (see errors.txt in it)"), "{said}{missing}");
    assert!(missing.contains("not in the bundle: applied.json: "), "{missing}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(unpacked(&std::fs::read(&file).unwrap())["errors.txt"].lines().count(), 4);
    let nowhere = run(&folder.path().join("nowhere/bundle.tar.gz"));
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("cannot write"), "{nowhere:?}");
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}
