//! What programs and scripts do with a real broker: the SDK, gRPC, HTTP and the commands side by side.

#![allow(clippy::unwrap_used, reason = "tests")]

mod dev;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use dev::Dev;
use dev::ports::Block;
use fulmar_client::v1::pub_sub_client::PubSubClient;
use fulmar_client::v1::start::At;
use fulmar_client::v1::{Earliest, Start as From, SubscribeRequest};
use fulmar_client::{Client, Compression, Record, Start};

/// Far beyond what anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A Cluster of one broker, with these topics of one partition.
fn yaml(topics: &[&str]) -> String {
    let head = "apiVersion: fulmar.dev/v1alpha1\n";
    let topic = |name: &&str| {
        format!(
            "---\n{head}kind: Topic\nmetadata: {{name: {name}}}\n\
             spec: {{clusterRef: {{name: orders}}, partitions: 1, deletionPolicy: Delete}}\n"
        )
    };
    let topics: String = topics.iter().map(topic).collect();
    format!("{head}kind: Cluster\nmetadata: {{name: orders}}\nspec: {{replicas: 1}}\n{topics}")
}

fn dev(dir: &Path, block: &Block, topics: &[&str]) -> Dev {
    let file = dir.join("orders.yaml");
    fs::write(&file, yaml(topics)).unwrap();
    let mut dev = Dev::start(&file, &dir.join("data"), block.base);
    dev.wait_for_start(&format!("ready: 1 brokers, {} topics", topics.len()));
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
    let dev = dev(dir.path(), &block, &["plain", "lz4", "snappy", "zstd"]);
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
        let lines = dev.fulmar(&["consume", topic, "--from", "earliest", "-n", "200"]);
        assert!(lines.lines().map(|line| line.as_bytes().to_vec()).eq(expected), "{topic} by fulmar consume");
    }
    // What lies on the disk tells whether anything was compressed at all.
    let described = dev.fulmar(&["publish", "plain", "x", "--compression", "zstd"]);
    assert!(described.starts_with("published to plain: partition 0"), "{described}");
    assert_eq!(dev.interrupt(), Some(0));
    let volume = dir.path().join("data/brokers/orders-0");
    let shown = std::process::Command::new(dev::FULMAR)
        .args(["broker", "inspect", "-o", "json"])
        .arg(&volume)
        .output()
        .unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
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
