//! More volumes lost than a topic survives, as a person at `fulmar dev` sees it: what is missing, what to put into the file, what was
//! given up; and who comes back with it still has it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod dev;

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use dev::ports::Block;
use dev::{Dev, FULMAR};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const KEY: &str = "fulmar.dev/accept-data-loss";

/// As everywhere in these tests: far beyond what anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

fn yaml(annotation: &str) -> String {
    format!(
        "apiVersion: fulmar.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: orders}}\nspec: {{replicas: 3}}\n---\n\
         apiVersion: fulmar.dev/v1alpha1\nkind: Topic\nmetadata: {{name: events{annotation}}}\n\
         spec: {{clusterRef: {{name: orders}}, partitions: 1}}\n"
    )
}

fn annotated(value: &str) -> String {
    yaml(&format!(", annotations: {{{KEY}: \"{value}\"}}"))
}

/// The commands ask this broker: another one may be away for long.
struct Asked<'a>(&'a str);

impl Asked<'_> {
    fn fulmar(&self, dev: &Dev, arguments: &[&str]) -> String {
        dev.fulmar(&[arguments, &["--server", self.0]].concat())
    }

    /// The one partition, as `topic describe` shows it.
    fn partition(&self, dev: &Dev) -> Value {
        let described = self.fulmar(dev, &["topic", "describe", "events", "-o", "json"]);
        serde_json::from_str::<Value>(&described).unwrap()["partitions"][0].clone()
    }

    fn table(&self, dev: &Dev) -> String {
        self.fulmar(dev, &["topic", "describe", "events", "-o", "table"])
    }

    fn all(&self, dev: &Dev) -> String {
        self.fulmar(dev, &["consume", "events", "--from", "earliest", "--until-end"])
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits for a line with each of these texts, in whatever order.
fn said(dev: &mut Dev, texts: &[&str]) {
    let missing = RefCell::new(texts.to_vec());
    dev.wait_for(&format!("{texts:?}"), |line| {
        missing.borrow_mut().retain(|text| !line.contains(text));
        missing.borrow().is_empty()
    });
}

fn gone(process: Pid) -> bool {
    !Path::new(&format!("/proc/{}", process.as_raw_nonzero())).exists()
}

fn broker(arguments: &[&str], volume: &Path) -> Output {
    Command::new(FULMAR).arg("broker").args(arguments).arg(volume).output().unwrap()
}

fn text(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Two records on all volumes, then two on the leader's and one other's alone; then every process is gone. Gives the two
/// brokers, and the one that stood still.
fn publish_past_a_broker_that_stands_still(mut dev: Dev, server: &dyn Fn(u64) -> String) -> [u64; 3] {
    let any = server(0);
    let any = Asked(&any);
    dev.wait_for_start("ready: 3 brokers, 1 topics");
    dev.fulmar(&["publish", "events", "kept-1", "kept-2"]);
    eventually("all three are in sync", || {
        any.partition(&dev)["in_sync"].as_array().is_some_and(|all| all.len() == 3)
    });
    let leader = any.partition(&dev)["leader"].as_u64().unwrap();
    let (other, still) = ((leader + 1) % 3, (leader + 2) % 3);
    let processes = [leader, other, still].map(|ordinal| dev.broker(&format!("orders-{ordinal}")));
    kill_process(processes[2], Signal::STOP).unwrap();
    Asked(&server(leader)).fulmar(&dev, &["publish", "events", "gone-1", "gone-2"]);
    dev.kill();
    for process in processes {
        // The two end by themselves, perhaps already.
        let _ = kill_process(process, Signal::KILL);
    }
    eventually("the brokers are gone", || processes.iter().all(|process| gone(*process)));
    [leader, other, still]
}

/// `other` set nothing aside.
fn records_are_read_from_who_set_them_aside(volume: &Path, other: &Path) {
    let shown = text(&broker(&["inspect", "-o", "table"], volume));
    assert!(shown.contains("SET-ASIDE") && shown.contains("fulmar broker set-aside DATA"), "{shown}");
    let records = text(&broker(&["set-aside"], volume));
    let values: Vec<Value> =
        records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["value"].take()).collect();
    assert_eq!(values, ["gone-1", "gone-2"]);
    assert_eq!(text(&broker(&["set-aside"], other)), "");
}

#[test]
fn what_is_lost_is_told_given_up_by_the_annotation_once_and_read_from_who_set_it_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data, ports) = (dir.path().join("orders.yaml"), dir.path().join("data"), Block::take());
    let base = ports.base;
    fs::write(&file, yaml("")).unwrap();
    let server = |ordinal: u64| format!("http://127.0.0.1:{}", u64::from(base) + 10 * ordinal);
    let first = Dev::start(&file, &data, base);
    let [leader, other, still] = publish_past_a_broker_that_stands_still(first, &server);
    let server = server(still);
    let asked = Asked(&server);

    // One volume is lost for good; the other is out of reach.
    let volume = |ordinal: u64| data.join("brokers").join(format!("orders-{ordinal}"));
    let out_of_reach = dir.path().join("out-of-reach");
    fs::remove_dir_all(volume(other)).unwrap();
    fs::rename(volume(leader), &out_of_reach).unwrap();
    fs::write(volume(leader), "not a folder").unwrap();
    let mut dev = Dev::start(&file, &data, base);
    let told = dev.wait_for("what is lost, and that something can be done", |line| {
        line.starts_with("topic events is not ready: QuorumLost: ") && !line.contains("first bring broker")
    });
    for what in [
        format!("{other} (its volume was replaced)"),
        format!("broker {still} has the longest log that is left, up to "),
    ] {
        assert!(told.contains(&what), "{what}: {told}");
    }
    dev.wait_for_start("if what is missing never comes back, give up what only it has: ");
    let line = dev.wait_for("what to put into the file", |line| line.trim_start().starts_with(KEY));
    let word =
        line.trim_start().strip_prefix(&format!("{KEY}: \"")).unwrap().strip_suffix('"').unwrap().to_owned();
    let epoch = word.strip_prefix("0:").unwrap();
    let now = asked.partition(&dev);
    assert_eq!((now["serving"].as_bool(), now["epoch"].as_str()), (Some(false), Some(epoch)), "{now}");
    let table = asked.table(&dev);
    assert!(table.contains("Partition 0 is served by nobody"), "{table}");

    // What does not name this partition and this epoch does nothing, and is told.
    fs::write(&file, annotated("everything")).unwrap();
    said(&mut dev, &["not applied", "\"everything\" is not PARTITION:EPOCH"]);
    fs::write(&file, annotated(&format!("7:{epoch}"))).unwrap();
    said(&mut dev, &["not applied", "there is no partition 7"]);
    fs::write(&file, annotated("0:1.1")).unwrap();
    said(&mut dev, &["applied", "the annotation for 0:1.1 names another epoch"]);
    assert_eq!(asked.partition(&dev)["epoch"], epoch);

    fs::write(&file, annotated(&word)).unwrap();
    let from = "topic events, partition 0 may lack acknowledged records from offset ";
    said(&mut dev, &["DataLossAccepted: ", "RecordsGivenUp: ", "topic events is ready", from]);
    asked.fulmar(&dev, &["publish", "events", "after"]);
    let all = asked.all(&dev);
    assert_eq!(all, "kept-1\nkept-2\nafter\n");
    let lost = asked.partition(&dev)["may_have_lost_from"].as_u64().unwrap();
    let table = asked.table(&dev);
    let said_so = format!("Partition 0 may lack acknowledged records from offset {lost} on");
    assert!(table.contains(&said_so), "{table}");
    // Once: the same file again decides nothing.
    let after = asked.partition(&dev)["epoch"].clone();
    assert_ne!(after, epoch);
    fs::write(&file, yaml("")).unwrap();
    dev.wait_for_start("applied");
    fs::write(&file, annotated(&word)).unwrap();
    dev.wait_for_start("applied");
    assert_eq!(asked.partition(&dev)["may_have_lost_from"].as_u64(), Some(lost));

    // Who was out of reach comes back with more than anybody has, and keeps it apart.
    fs::remove_file(volume(leader)).unwrap();
    fs::rename(&out_of_reach, volume(leader)).unwrap();
    dev.wait_for_start(&format!("LogSetAside: broker {leader} set aside "));
    assert_eq!(asked.all(&dev), all);
    assert_eq!(dev.interrupt(), Some(0));
    records_are_read_from_who_set_them_aside(&volume(leader), &volume(still));
    let nowhere = broker(&["set-aside"], &dir.path().join("nowhere"));
    let error = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(nowhere.status.code() == Some(1) && error.contains("holds no volume"), "{error}");
}
