//! `fulmar dev` as a person uses it: start, publish, consume, kill a broker, save the YAML, stop, start again.

#![allow(clippy::unwrap_used, reason = "tests")]

mod dev;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use dev::ports::Block;
use dev::{Dev, FULMAR};
use rustix::process::{Signal, kill_process};

const CLUSTER: &str = "\
apiVersion: fulmar.dev/v1alpha1
kind: Cluster
metadata: {name: orders}
spec: {replicas: 3}
";

fn topic(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: fulmar.dev/v1alpha1\nkind: Topic\nmetadata: {{name: {name}}}\n\
         spec: {{clusterRef: {{name: orders}}{more}}}\n"
    )
}

fn values(text: &str) -> Vec<&str> {
    let mut values: Vec<&str> = text.lines().collect();
    values.sort_unstable();
    values
}

fn inspect(volume: &Path, format: &str) -> Output {
    Command::new(FULMAR).args(["broker", "inspect", "-o", format]).arg(volume).output().unwrap()
}

/// Stopped brokers' volumes: whole ones, a damaged copy, none.
fn volumes_are_shown(brokers: &Path) {
    let volume = brokers.join("orders-1");
    let shown = String::from_utf8(inspect(&volume, "table").stdout).unwrap();
    assert!(shown.contains("Last stop:       in order") && shown.contains("LOG-END"), "{shown}");
    let shown: serde_json::Value = serde_json::from_slice(&inspect(&volume, "json").stdout).unwrap();
    assert_eq!((&shown["ordinal"], &shown["stopped_in_order"]), (&1.into(), &true.into()));
    assert_eq!(shown["replicas"].as_array().unwrap().len(), 5, "four and one partition: {shown}");
    assert_eq!(shown, serde_json::from_slice::<serde_json::Value>(&inspect(&volume, "json").stdout).unwrap());

    let damaged = brokers.join("damaged");
    fs::create_dir(&damaged).unwrap();
    let bytes: Vec<u8> = fs::read(volume.join("identity")).unwrap().iter().map(|byte| !byte).collect();
    fs::write(damaged.join("identity"), bytes).unwrap();
    for (folder, said) in [(damaged, "identity"), (brokers.join("nowhere"), "holds no volume")] {
        let output = inspect(&folder, "table");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && error.contains(said), "{error}");
        assert!(error.starts_with("fulmar: ") && error.lines().count() == 1, "{error}");
    }
}

#[test]
fn a_cluster_lives_through_deaths_changes_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data, ports) = (dir.path().join("orders.yaml"), dir.path().join("data"), Block::take());
    let base = ports.base;
    fs::write(&file, CLUSTER.to_owned() + &topic("first", ", partitions: 3")).unwrap();

    let mut dev = Dev::start(&file, &data, base);
    dev.wait_for_start("ready: 3 brokers, 1 topics");
    let said = dev.fulmar(&["publish", "first", "a", "b", "--key", "k", "-o", "json"]);
    assert_eq!(said.lines().count(), 2);
    assert_eq!(dev.fulmar(&["consume", "first", "--from", "earliest", "-c", "2"]), "a\nb\n");

    // Every leader once: all its partitions move, and publishing goes on.
    for broker in ["orders-0", "orders-1", "orders-2"] {
        kill_process(dev.broker(broker), Signal::KILL).unwrap();
        for value in ["1", "2", "3"] {
            dev.fulmar(&["publish", "first", &format!("{broker} {value}")]);
        }
        dev.wait_for_start(&format!("broker {broker} was killed by signal 9"));
        dev.wait_for_start(&format!("broker {broker} runs"));
        dev.wait_for_start("ready: 3 brokers");
    }
    let all = dev.fulmar(&["consume", "first", "--from", "earliest", "--until-end"]);
    assert_eq!(values(&all).len(), 11);

    // What is refused changes nothing; what is good is applied.
    fs::write(&file, CLUSTER.to_owned() + &topic("first", ", partitions: 2")).unwrap();
    dev.wait_for("the refusal", |line| {
        line.contains("partitions can only grow: the topic has 3, and 2 is fewer")
    });
    fs::write(&file, CLUSTER.to_owned() + &topic("first", ", partitions: 4") + &topic("second", "")).unwrap();
    dev.wait_for_start("applied");
    dev.wait_for_start("ready: 3 brokers, 2 topics");
    dev.fulmar(&["publish", "second", "x"]);
    assert!(dev.fulmar(&["topic", "list"]).contains("\"second\""));

    // One process a folder, named ports.
    let second =
        Command::new(FULMAR).arg("dev").arg("-f").arg(&file).arg("--data").arg(&data).output().unwrap();
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && error.contains("data/lock"), "{error}");

    // What cannot be read is named.
    let folder = dir.path().to_str().unwrap();
    let output = dev.try_fulmar(&["publish", "first", "--file", folder]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && error.contains(&format!("cannot read {folder}: ")), "{error}");

    assert_eq!(dev.interrupt(), Some(0));
    volumes_are_shown(&data.join("brokers"));
    let mut dev = Dev::start(&file, &data, base);
    dev.wait_for_start("ready: 3 brokers, 2 topics");
    let again = dev.fulmar(&["consume", "first", "--from", "earliest", "--until-end"]);
    assert_eq!(values(&again), values(&all));

    // Nothing in order at all: brokers follow, nothing is lost.
    dev.kill();
    let mut dev = Dev::start(&file, &data, base);
    dev.wait_for_start("ready: 3 brokers, 2 topics");
    let again = dev.fulmar(&["consume", "first", "--from", "earliest", "--until-end"]);
    assert_eq!(values(&again), values(&all));
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn bad_files_are_told_whole_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("bad.yaml"), dir.path().join("data"));
    let bad = CLUSTER.replace("replicas: 3", "replicas: 0")
        + &topic("a", ", partitions: 0")
        + &topic("b", ", ackQuorum: 8");
    fs::write(&file, bad).unwrap();
    let output =
        Command::new(FULMAR).arg("dev").arg("-f").arg(&file).arg("--data").arg(&data).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    for said in [
        "bad.yaml: the Cluster \"orders\" (document 1",
        "spec.replicas",
        "(document 2",
        "spec.partitions",
        "(document 3",
        "spec.ackQuorum",
    ] {
        assert!(error.contains(said), "{said}: {error}");
    }
    assert!(!data.exists(), "nothing is made before the files are good");
    let output = Command::new(FULMAR).args(["dev", "-f", "nowhere.yaml"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read nowhere.yaml"));
}

#[test]
fn a_topic_with_a_deletion_policy_of_delete_goes_with_its_data_and_a_retained_one_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data, ports) = (dir.path().join("orders.yaml"), dir.path().join("data"), Block::take());
    let base = ports.base;
    let cluster = CLUSTER.replace("replicas: 3", "replicas: 1");
    let (gone, kept) = (topic("gone", ", deletionPolicy: Delete"), topic("kept", ""));
    fs::write(&file, cluster.clone() + &gone + &kept).unwrap();
    let mut dev = Dev::start(&file, &data, base);
    dev.wait_for_start("ready: 1 brokers, 2 topics");
    dev.fulmar(&["publish", "gone", "x"]);
    dev.fulmar(&["publish", "kept", "x"]);

    fs::write(&file, &cluster).unwrap();
    dev.wait_for_start("nothing is left of topic gone");
    assert_eq!(dev.try_fulmar(&["publish", "gone", "y"]).status.code(), Some(4));
    assert_eq!(dev.try_fulmar(&["publish", "kept", "y"]).status.code(), Some(4));

    fs::write(&file, cluster + &gone + &kept).unwrap();
    dev.wait_for_start("ready: 1 brokers, 2 topics");
    assert_eq!(dev.fulmar(&["consume", "kept", "--from", "earliest", "--until-end"]), "x\n");
    assert_eq!(dev.fulmar(&["consume", "gone", "--from", "earliest", "--until-end"]), "");
    assert_eq!(dev.interrupt(), Some(0));
}
