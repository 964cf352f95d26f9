//! Promise: `kubectl fulmar …` works alone from where no address of a broker leads anywhere, goes on when the pod at the other end of its
//! port-forward is replaced, and leaves nothing running.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::environment::Environment;
use fulmar_e2e::wait;
use serde_json::Value;

/// Where brokers answer gRPC.
const GRPC: u16 = 50051;

/// Partitions enough for each broker to lead some.
const PARTITIONS: u32 = 6;
const RECORDS: usize = 30;

/// Far beyond what anything here takes on a busy machine, a broker's restart included.
const PATIENCE: Duration = Duration::from_mins(5);

/// A consumer that runs, and its lines.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _nobody_waits = sender.send(line);
            }
        });
        Self { child, lines }
    }

    fn next(&mut self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            panic!("no record came: {error}; the consumer: {:?}", self.child.try_wait())
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // kubectl becomes its plugin, so this is it; after a test that went well it has ended.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }
}

/// Port-forwards to this namespace that run.
fn forwards(namespace: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    let is_ours = |line: &String| line.contains("port-forward") && line.contains(namespace);
    lines.filter(is_ours).collect()
}

fn await_no_forwards(namespace: &str) {
    wait::until_so("no port-forward is left", PATIENCE, || Ok(forwards(namespace).is_empty())).unwrap();
}

#[test]
fn kubectl_fulmar_works_where_no_broker_is_reached_and_outlives_the_pod_behind_it() {
    let environment = Environment::get().unwrap();
    let brokers = Brokers::apply("plugin", &(cluster(3) + &topic("events", PARTITIONS, ""))).unwrap();
    let namespace = brokers.namespace();
    brokers.await_ready("flt/events").unwrap();
    let _shut = environment.nodes().unwrap().shut(GRPC).unwrap();
    let typed = |words: &[&str]| {
        let started = Instant::now();
        let printed = environment.run_plugin(&[words, &["-n", namespace]].concat()).unwrap();
        println!("$ kubectl fulmar {} …: {:?}\n{printed}", words[0], started.elapsed());
        printed
    };
    let json = |words: &[&str]| -> Value { serde_json::from_str(&typed(words)).unwrap() };

    let found = json(&["discover", "--cluster", "orders", "-o", "json"]);
    let reached: Vec<bool> =
        found["brokers"].as_array().unwrap().iter().map(|one| one["reached"] == true).collect();
    assert_eq!(reached, [false; 3], "{found:#}");

    let records: Vec<String> =
        (0..RECORDS).map(|number| format!("key-{number}=record-{number:02}")).collect();
    let mut publish = vec!["publish", "events", "--cluster", "orders", "--key-separator", "="];
    publish.extend(records.iter().map(String::as_str));
    assert!(typed(&publish).contains("30 records published to events"));
    let read = typed(&["consume", "events", "--from", "earliest", "--until-end"]);
    let mut read: Vec<&str> = read.lines().collect();
    read.sort_unstable();
    let expected: Vec<String> = (0..RECORDS).map(|number| format!("record-{number:02}")).collect();
    assert_eq!(read, expected);
    assert_eq!(json(&["topic", "list"])[0]["name"], "events");
    let leads = |one: &Value| one["alive"] == true && one["leading"] != 0;
    // A Topic is Ready before the last of its leaders is at home.
    wait::until_so("each broker leads", PATIENCE, || {
        let status = json(&["cluster", "status"]);
        Ok(status["brokers"].as_array().unwrap().iter().all(leads))
    })
    .unwrap();
    await_no_forwards(namespace);

    let consume = ["consume", "events", "--from", "earliest", "-n", namespace];
    let mut follower = Follower::start(environment.plugin(&consume).unwrap());
    for _ in 0..RECORDS {
        follower.next();
    }
    for ordinal in 0..3 {
        // One of them is at the other end.
        brokers.replace_pod(ordinal).unwrap();
        brokers.await_ready("flt/events").unwrap();
        let record = format!("after-{ordinal}");
        typed(&["publish", "events", "--timeout", "5m", "--request-timeout", "1m", &record]);
        assert_eq!(follower.next(), record);
    }
    let pid = follower.child.id().to_string();
    assert!(Command::new("kill").args(["-s", "INT", &pid]).status().unwrap().success());
    assert_eq!(follower.child.wait().unwrap().code(), Some(0), "Ctrl-C is how a consumer ends");
    await_no_forwards(namespace);
}
