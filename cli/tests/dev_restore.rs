//! All volumes of one moment, and nothing else, are a cluster again: what docs/operations.md promises of restoring a namespace without
//! its partition tables.

#![allow(clippy::unwrap_used, reason = "tests")]

mod dev;

use std::fs;
use std::path::Path;

use dev::Dev;
use dev::ports::Block;

const YAML: &str = "
apiVersion: fulmar.dev/v1alpha1
kind: Cluster
metadata: {name: orders}
spec: {replicas: 3}
---
apiVersion: fulmar.dev/v1alpha1
kind: Topic
metadata: {name: first}
spec: {clusterRef: {name: orders}, partitions: 3}
";

const COUNT: usize = 40;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let copied = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            fs::copy(&path, &copied).unwrap();
        }
    }
}

fn read(dev: &Dev) -> Vec<String> {
    let printed = dev.fulmar(&["consume", "first", "--from", "earliest", "--until-end", "-o", "value"]);
    let mut values: Vec<String> = printed.lines().map(str::to_owned).collect();
    values.sort_unstable();
    values
}

#[test]
fn volumes_of_one_moment_without_table_and_certificates_come_back_with_their_records() {
    let folder = tempfile::tempdir().unwrap();
    let (file, data, copied) =
        (folder.path().join("orders.yaml"), folder.path().join("data"), folder.path().join("copied"));
    fs::write(&file, YAML).unwrap();
    let values: Vec<String> = (0..COUNT).map(|number| format!("record {number:03}")).collect();
    let block = Block::take();
    let mut dev = Dev::start(&file, &data, block.base);
    dev.wait_for_start("ready: 3 brokers, 1 topics");
    let mut publish = vec!["publish", "first"];
    publish.extend(values.iter().map(String::as_str));
    dev.fulmar(&publish);
    dev.interrupt();
    drop(block);

    copy(&data.join("brokers"), &copied.join("brokers"));
    let block = Block::take();
    let mut dev = Dev::start(&file, &copied, block.base);
    dev.wait_for_start("ready: 3 brokers, 1 topics");
    assert_eq!(read(&dev), values);
    dev.fulmar(&["publish", "first", "and one more"]);
    assert_eq!(read(&dev).len(), COUNT + 1);
    dev.interrupt();
}
