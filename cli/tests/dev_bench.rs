//! `fulmar bench` of a real broker, without rivals: `cargo xtask test` has a part with them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod dev;

use std::fs;

use dev::Dev;
use dev::ports::Block;
use serde_json::Value;

const ONE_BROKER: &str = "\
apiVersion: fulmar.dev/v1alpha1
kind: Cluster
metadata: {name: orders}
spec: {replicas: 1}
---
apiVersion: fulmar.dev/v1alpha1
kind: Topic
metadata: {name: scratch}
spec: {clusterRef: {name: orders}, partitions: 3, replicationFactor: 1, ackQuorum: 1}
";

fn records(told: &Value, work: &str, round: usize) -> u64 {
    let rows = told["rows"].as_array().unwrap();
    rows.iter().find(|row| row["work"] == work).unwrap()["records"][round].as_u64().unwrap()
}

#[test]
fn a_round_reads_back_what_it_published_and_nothing_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data, ports) = (dir.path().join("one.yaml"), dir.path().join("data"), Block::take());
    fs::write(&file, ONE_BROKER).unwrap();
    let mut dev = Dev::start(&file, &data, ports.base);
    dev.wait_for_start("ready: 1 brokers, 1 topics");
    dev.fulmar(&["publish", "scratch", "of", "before"]);

    let settings = ["--duration", "200ms", "--rounds", "2", "--connections", "3", "-o", "json"];
    let told: Value =
        serde_json::from_str(&dev.fulmar(&[&["bench", "scratch"][..], &settings].concat())).unwrap();
    assert_eq!(told["systems"][0]["safety"], "synced on 1 of 1 replicas");
    let warm_up = told["warm_up_records"].as_u64().unwrap();
    for round in [0, 1] {
        let published = ["publish-batched", "publish-unbatched", "one-in-flight"];
        let published: u64 = published.iter().map(|work| records(&told, work, round)).sum();
        assert_eq!(records(&told, "read-back", round), published + 4 * warm_up, "{told:#}");
        assert_eq!(records(&told, "end-to-end", round), 200, "{told:#}");
    }

    let one =
        dev.fulmar(&["bench", "scratch", "--work", "one-in-flight", "--duration", "100ms", "-o", "table"]);
    assert!(one.contains("one-in-flight p50") && one.contains("synced on 1 of 1"), "{one}");
    assert!(!one.contains("read-back"), "{one}");
    let missing = dev.try_fulmar(&["bench", "nowhere"]);
    assert_eq!(missing.status.code(), Some(4));
    assert_eq!(dev.interrupt(), Some(0));
}
