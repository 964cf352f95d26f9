//! Records as lines: what `consume` prints `publish` takes, and what is wrong with a line is told with its number.

#![allow(clippy::unwrap_used, reason = "tests")]

mod dev;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dev::Dev;
use dev::ports::Block;
use serde_json::{Value, json};

const YAML: &str = "\
apiVersion: fulmar.dev/v1alpha1
kind: Cluster
metadata: {name: orders}
spec: {replicas: 1}
---
apiVersion: fulmar.dev/v1alpha1
kind: Topic
metadata: {name: first}
spec: {clusterRef: {name: orders}, partitions: 2}
---
apiVersion: fulmar.dev/v1alpha1
kind: Topic
metadata: {name: second}
spec: {clusterRef: {name: orders}, partitions: 2}
";

/// Different in each of the ways in which messages are, the second one no text.
const LINES: &str = r#"
{"key": "k", "value": "one", "headers": [{"name": "kind", "value": "a"}], "timestamp_ms": 5}
{"key_base64": "//4=", "value_base64": "AP8=", "headers": [{"name": "kind", "value_base64": "/w=="}]}
{"value_json": {"b": [1, null], "a": "two"}, "partition": 1}
{"value": ""}
"#;

fn read(dev: &Dev, more: &[&str]) -> Vec<Value> {
    let printed =
        dev.fulmar(&[&["consume", "--from", "earliest", "--until-end", "-o", "json"], more].concat());
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// By partition and offset, without where they are and since when.
fn sorted(mut messages: Vec<Value>) -> Vec<Value> {
    messages.sort_by_key(|message| (message["partition"].as_u64(), message["offset"].as_u64()));
    for message in &mut messages {
        let object = message.as_object_mut().unwrap();
        for name in ["topic", "offset", "append_time_ms"] {
            assert!(object.remove(name).is_some(), "{name}");
        }
    }
    messages
}

fn of(messages: &[Value], field: &str) -> Vec<Value> {
    let mut values: Vec<Value> = messages.iter().map(|message| message[field].clone()).collect();
    values.sort_by_key(Value::to_string);
    values
}

#[test]
fn lines_are_published_paced_printed_filtered_and_published_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let write = |name: &str, text: &str| {
        fs::write(path(name), text).unwrap();
        path(name).to_str().unwrap().to_owned()
    };
    let ports = Block::take();
    let file = write("orders.yaml", YAML);
    let mut dev = Dev::start(Path::new(&file), &path("data"), ports.base);
    dev.wait_for_start("ready: 1 brokers, 2 topics");

    dev.fulmar(&["publish", "first", "-i", "json", "-f", &write("lines", LINES)]);
    let first = read(&dev, &["first"]);
    assert_eq!(
        of(&first, "value"),
        [json!(""), json!("one"), json!(r#"{"b":[1,null],"a":"two"}"#), Value::Null]
    );
    let one = first.iter().find(|message| message["value"] == "one").unwrap();
    assert_eq!((&one["key"], &one["timestamp_ms"]), (&json!("k"), &json!(5)));
    let json_one =
        first.iter().find(|message| message["value"].as_str().is_some_and(|value| value.starts_with('{')));
    assert_eq!(json_one.unwrap()["partition"], 1);

    // What was printed is what is published, where and when it was said included.
    let printed = dev.fulmar(&["consume", "first", "--from", "earliest", "--until-end", "-o", "json"]);
    dev.fulmar(&["publish", "second", "-i", "json", "-f", &write("printed", &printed)]);
    assert_eq!(sorted(read(&dev, &["second"])), sorted(first));

    for (filter, expected) in [
        (&["--key", "k"][..], vec![json!("one")]),
        (&["--header", "kind=a"], vec![json!("one")]),
        (&["--header", "kind"], vec![json!("one"), Value::Null]),
        (&["--contains", r#""a":"#], vec![json!(r#"{"b":[1,null],"a":"two"}"#)]),
        (&["--key", "k", "--contains", "two"], vec![]),
        (&["--key", "k", "-c", "1"], vec![json!("one")]),
    ] {
        assert_eq!(of(&read(&dev, &[&["first"], filter].concat()), "value"), expected, "{filter:?}");
    }

    // The first record that cannot be read ends it; those before it are published.
    let wrong = write("wrong", "{\"value\": \"before\"}\n{\"valeu\": \"x\"}\n");
    let output = dev.try_fulmar(&["publish", "first", "-i", "json", "-f", &wrong]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("line 2") && error.contains("unknown field `valeu`"), "{error}");
    assert_eq!(read(&dev, &["first", "--contains", "before"]).len(), 1);

    // Who reads no answers is no reason to publish less.
    let mut unread =
        dev.command(&["publish", "second", "-o", "json", "-f", &write("many", &"y\n".repeat(20_000))]);
    let mut child = unread.stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(read(&dev, &["second", "--contains", "y"]).len(), 20_000);

    // 41 records have 40 gaps of 10 ms between them.
    let began = Instant::now();
    let numbers = "a record\n".repeat(41);
    dev.fulmar(&["publish", "second", "--rate", "100", "-f", &write("numbers", &numbers)]);
    assert!(began.elapsed() >= Duration::from_millis(380), "{:?}", began.elapsed());
    assert_eq!(dev.interrupt(), Some(0));
}
