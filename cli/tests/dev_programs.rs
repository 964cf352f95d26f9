//! What programs and scripts do with a real broker: the SDK, gRPC, HTTP and the commands side by side.

#![allow(clippy::unwrap_used, reason = "tests")]

mod dev;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dev::Dev;
use dev::ports::Block;
use fulmar_client::v1::pub_sub_client::PubSubClient;
use fulmar_client::v1::start::At;
use fulmar_client::v1::{Earliest, Start as From, SubscribeRequest};
use fulmar_client::{Client, Compression, Message, Record, Start, Subscriber};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::Value;

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A Cluster of so many brokers, with these topics of one partition.
fn yaml(brokers: usize, topics: &[&str]) -> String {
    let head = "apiVersion: fulmar.dev/v1alpha1\n";
    let topic = |name: &&str| {
        format!(
            "---\n{head}kind: Topic\nmetadata: {{name: {name}}}\n\
             spec: {{clusterRef: {{name: orders}}, partitions: 1, deletionPolicy: Delete}}\n"
        )
    };
    let topics: String = topics.iter().map(topic).collect();
    format!("{head}kind: Cluster\nmetadata: {{name: orders}}\nspec: {{replicas: {brokers}}}\n{topics}")
}

fn dev(dir: &Path, block: &Block, brokers: usize, topics: &[&str]) -> Dev {
    let file = dir.join("orders.yaml");
    fs::write(&file, yaml(brokers, topics)).unwrap();
    let mut dev = Dev::start(&file, &dir.join("data"), block.base);
    dev.wait_for_start(&format!("ready: {brokers} brokers, {} topics", topics.len()));
    dev
}

async fn client(base: u16) -> Client {
    Client::builder().server(format!("127.0.0.1:{base}")).connect().await.unwrap()
}

fn http(port: u16, target: &str) -> String {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(socket, "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// What gRPC's `Subscribe` delivers first.
async fn subscribed(base: u16, topic: &str, count: usize) -> Vec<Vec<u8>> {
    let mut pubsub = PubSubClient::connect(format!("http://127.0.0.1:{base}")).await.unwrap();
    let start = Some(From { at: Some(At::Earliest(Earliest {})) });
    let request = SubscribeRequest { topics: vec![topic.to_owned()], start, partitions: Vec::new() };
    let mut stream = pubsub.subscribe(request).await.unwrap().into_inner();
    let mut values = Vec::new();
    while values.len() < count {
        let response = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap();
        let messages = response.unwrap().unwrap().messages;
        values.extend(messages.into_iter().map(|message| message.value.to_vec()));
    }
    values
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_with_any_compression_is_read_by_the_sdk_grpc_http_and_the_command() {
    let (dir, block) = (tempfile::tempdir().unwrap(), Block::take());
    let dev = dev(dir.path(), &block, 1, &["plain", "lz4", "snappy", "zstd"]);
    let client = client(block.base).await;
    let value = |number: usize| format!("order {number}: {}", "one espresso, ".repeat(20));
    for (topic, compression) in ["plain", "lz4", "snappy", "zstd"].into_iter().zip(Compression::ALL) {
        let producer = client.producer(topic).compression(compression).build().await.unwrap();
        for number in 0..200 {
            drop(producer.send(Record::new(value(number)).key("k")).await.unwrap());
        }
        producer.close().await;

        let mut messages = client.subscriber(topic).start(Start::Earliest).until_end().build().await.unwrap();
        let mut read = Vec::new();
        while let Some(message) = messages.next().await {
            read.push(message.unwrap().value.to_vec());
        }
        let expected: Vec<Vec<u8>> = (0..200).map(|number| value(number).into_bytes()).collect();
        assert!(read == expected, "{topic} by the SDK: {} of 200", read.len());
        assert!(subscribed(block.base, topic, 200).await == expected, "{topic} by Subscribe");
        let target = format!("/v1/topics/{topic}/messages?offset=earliest&max=200");
        let answer = http(block.base + 2, &target);
        assert!((0..200).all(|number| answer.contains(&value(number))), "{topic} by HTTP: {answer}");
        let lines = dev.fulmar(&["consume", topic, "--from", "earliest", "-c", "200"]);
        assert!(lines.lines().map(|line| line.as_bytes().to_vec()).eq(expected), "{topic} by fulmar consume");
    }
    // What lies on the disk tells whether anything was compressed at all.
    let described = dev.fulmar(&["publish", "plain", "x", "--compression", "zstd"]);
    assert!(described.starts_with("published to plain: partition 0"), "{described}");
    assert_eq!(dev.interrupt(), Some(0));
    let volume = dir.path().join("data/brokers/orders-0");
    let shown =
        Command::new(dev::FULMAR).args(["broker", "inspect", "-o", "json"]).arg(&volume).output().unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let mut bytes: Vec<u64> = shown["replicas"]
        .as_array()
        .unwrap()
        .iter()
        .map(|replica| replica["bytes"].as_u64().unwrap())
        .collect();
    bytes.sort_unstable();
    let (largest, others) = bytes.split_last().unwrap();
    assert!(others.len() == 3 && others.iter().all(|bytes| bytes * 4 < *largest), "{bytes:?}");
}

async fn next(messages: &mut Subscriber) -> Message {
    tokio::time::timeout(PATIENCE, messages.next()).await.unwrap().unwrap().unwrap()
}

fn told(message: &Message) -> (String, String) {
    (message.topic.to_string(), String::from_utf8(message.value.to_vec()).unwrap())
}

fn pair(topic: &str, value: &str) -> (String, String) {
    (topic.to_owned(), value.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_means_all_topics_that_fit_those_that_come_and_none_that_goes() {
    let (dir, block) = (tempfile::tempdir().unwrap(), Block::take());
    let mut dev = dev(dir.path(), &block, 1, &["orders.eu", "orders.us", "bills.eu"]);
    for topic in ["orders.eu", "orders.us", "bills.eu"] {
        dev.fulmar(&["publish", topic, "first"]);
    }
    let client = client(block.base).await;
    let mut messages = client.subscriber("orders.*").start(Start::Earliest).build().await.unwrap();
    let mut found = [told(&next(&mut messages).await), told(&next(&mut messages).await)];
    found.sort();
    assert_eq!(found, [pair("orders.eu", "first"), pair("orders.us", "first")]);

    let save = |topics: &[&str]| fs::write(dir.path().join("orders.yaml"), yaml(1, topics)).unwrap();
    save(&["orders.eu", "orders.us", "bills.eu", "orders.de"]);
    dev.wait_for_start("ready: 1 brokers, 4 topics");
    dev.fulmar(&["publish", "orders.de", "before it was looked for"]);
    assert_eq!(told(&next(&mut messages).await), pair("orders.de", "before it was looked for"));
    save(&["orders.eu", "bills.eu", "orders.de"]);
    dev.wait_for_start("nothing is left of topic orders.us");
    dev.fulmar(&["publish", "bills.eu", "of another pattern"]);
    dev.fulmar(&["publish", "orders.eu", "second"]);
    assert_eq!(told(&next(&mut messages).await), pair("orders.eu", "second"));

    let lines = dev.fulmar(&["consume", "orders.>", "--from", "earliest", "--until-end", "-o", "json"]);
    let mut lines: Vec<(String, String)> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|message| pair(message["topic"].as_str().unwrap(), message["value"].as_str().unwrap()))
        .collect();
    lines.sort();
    let all = [("orders.de", "before it was looked for"), ("orders.eu", "first"), ("orders.eu", "second")];
    assert_eq!(lines, all.map(|(topic, value)| pair(topic, value)));
    assert_eq!(dev.fulmar(&["consume", "nothing.*", "--from", "earliest", "--until-end"]), "");
    for (arguments, said) in [
        (&["consume", "orders*"][..], "topic: orders* is not a name, or a pattern"),
        (&["consume", "orders.*", "--partition", "0"], "partitions: [0] is not allowed with a pattern"),
        (&["consume", "orders.*", "--from", "77"], "offset 77 is out of range"),
    ] {
        let refused = dev.try_fulmar(arguments);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && error.contains(said) && error.lines().count() == 1, "{error}");
    }
    assert_eq!(dev.interrupt(), Some(0));
}

#[test]
fn all_brokers_are_discovered_from_one_and_who_does_not_answer_is_told() {
    let (dir, block) = (tempfile::tempdir().unwrap(), Block::take());
    let dev = dev(dir.path(), &block, 3, &["events"]);
    let discover = || -> Value { serde_json::from_str(&dev.fulmar(&["discover"])).unwrap() };
    // They have seen each other when each one's version is known.
    let until = Instant::now() + PATIENCE;
    let mut all = discover();
    let is_seen = |all: &Value| {
        let brokers = all["brokers"].as_array().unwrap();
        brokers.len() == 3 && brokers.iter().all(|broker| broker["version"] != "")
    };
    while !is_seen(&all) {
        assert!(Instant::now() < until, "{all:#}");
        all = discover();
    }
    let brokers = all["brokers"].as_array().unwrap();
    for (ordinal, broker) in brokers.iter().enumerate() {
        let port = block.base + 10 * u16::try_from(ordinal).unwrap();
        assert_eq!(broker["address"], format!("127.0.0.1:{port}"));
        assert_eq!((&broker["ordinal"], &broker["reached"]), (&ordinal.into(), &true.into()), "{all:#}");
        assert_eq!((&broker["replicas"], &broker["version"]), (&1.into(), &env!("CARGO_PKG_VERSION").into()));
    }
    let leading: u64 = brokers.iter().map(|broker| broker["leading"].as_u64().unwrap()).sum();
    assert_eq!((brokers.len(), leading), (3, 1));

    let stopped = dev.broker("orders-2");
    kill_process(stopped, Signal::STOP).unwrap();
    let without = discover();
    kill_process(stopped, Signal::CONT).unwrap();
    let reached: Vec<&Value> =
        without["brokers"].as_array().unwrap().iter().map(|broker| &broker["reached"]).collect();
    assert_eq!(reached, [&Value::Bool(true), &true.into(), &false.into()], "{without:#}");
    assert_eq!(without["brokers"][2]["why"], "no answer within 2s");
    let table = dev.fulmar(&["discover", "-o", "table"]);
    assert!(table.starts_with("Cluster id: ") && table.contains("REACHED"), "{table}");
    assert_eq!(dev.interrupt(), Some(0));
}

fn watch(base: u16, stdout: impl Into<Stdio>) -> Child {
    let mut command = Command::new(dev::FULMAR);
    command.args(["cluster", "status", "--watch"]).env("FULMAR_SERVER", format!("127.0.0.1:{base}"));
    command.stdin(Stdio::null()).stdout(stdout).spawn().unwrap()
}

fn interrupted(mut child: Child) -> Option<i32> {
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn a_status_that_is_watched_is_redrawn_on_a_terminal_and_a_line_a_look_in_a_pipe() {
    let (dir, block) = (tempfile::tempdir().unwrap(), Block::take());
    let dev = dev(dir.path(), &block, 1, &["events"]);

    let mut child = watch(block.base, Stdio::piped());
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.take(2) {
        let told: Value = serde_json::from_str(&line.unwrap()).unwrap();
        assert_eq!((&told["topics"], &told["brokers"][0]["leading"]), (&1.into(), &1.into()), "{told}");
    }
    assert_eq!(interrupted(child), Some(0));

    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    tcsetwinsize(&terminal, Winsize { ws_row: 7, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let child = watch(block.base, terminal);
    let (mut seen, mut master) = (String::new(), File::from(master));
    // The second look takes the place of the first: six lines up, and clear from there on.
    while !seen.contains("\x1b[6A\x1b[J") || seen.matches("Brokers alive:").count() < 2 {
        let mut some = [0; 4096];
        let count = master.read(&mut some).unwrap();
        assert!(count > 0, "it ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&some[..count]));
    }
    assert!(seen.contains("Cluster id:") && seen.contains("more lines"), "{seen:?}");
    assert_eq!(interrupted(child), Some(0));
    assert_eq!(dev.interrupt(), Some(0));
}
