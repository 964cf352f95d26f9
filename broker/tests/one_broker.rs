//! One broker with one replica: published is durable, durable is read, and bad input is told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::time::Duration;

use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{
    Earliest, Latest, ListOffsetsRequest, Message, MetadataRequest, PublishRequest, PublishResponse, Start,
    SubscribeRequest,
};
use support::Brokers;
use support::operator::{CLUSTER, Operator, epoch, key, page};
use tonic::{Code, Status};
use tonic_types::StatusExt;

async fn one(partitions: u32) -> (Brokers, Operator) {
    let brokers = Brokers::start(1);
    let operator = brokers.operator(0, CLUSTER).await;
    let me = operator.replica();
    operator.push(&page(partitions, &[me], me, 1), 1).await;
    for partition in 0..partitions {
        operator.leads(key(partition), epoch(1)).await;
    }
    (brokers, operator)
}

async fn publish(brokers: &Brokers, value: &str) -> Result<PublishResponse, Status> {
    let request = PublishRequest {
        topic: "events".to_owned(),
        key: Some("k".into()),
        value: value.to_owned().into(),
        ..PublishRequest::default()
    };
    brokers.pubsub(0).await.publish(request).await.map(tonic::Response::into_inner)
}

async fn read(brokers: &Brokers, ordinal: usize, count: usize) -> Vec<Message> {
    let request = SubscribeRequest {
        topics: vec!["events".to_owned()],
        start: Some(Start { at: Some(At::Earliest(Earliest {})) }),
        partitions: Vec::new(),
    };
    let mut stream = brokers.pubsub(ordinal).await.subscribe(request).await.unwrap().into_inner();
    let mut messages = Vec::new();
    while messages.len() < count {
        messages.extend(stream.message().await.unwrap().unwrap().messages);
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_read_and_survives_kill_9() {
    let (mut brokers, operator) = one(1).await;
    for number in 0..10 {
        publish(&brokers, &format!("hello {number}")).await.unwrap();
    }
    let messages = read(&brokers, 0, 10).await;
    assert_eq!(messages[3].value, "hello 3");
    assert_eq!(messages[3].key.as_deref(), Some(b"k".as_slice()));
    drop(operator);
    brokers.kill(0);
    brokers.spawn(0);
    // Its only replica opens nothing on its own word: it waits for the operator, who tells it nothing new.
    let operator = brokers.operator(0, CLUSTER).await;
    operator.leads(key(0), epoch(1)).await;
    let again = read(&brokers, 0, 10).await;
    assert_eq!(again, messages);
    let offset = publish(&brokers, "after").await.unwrap().offset;
    assert!(offset > messages[9].offset);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_by_sigterm_is_clean_and_keeps_everything() {
    let (mut brokers, operator) = one(1).await;
    publish(&brokers, "hello").await.unwrap();
    assert!(brokers.terminate(0).success(), "{}", brokers.log(0));
    support::eventually("the operator is told", async || operator.heard.lock().is_stopping).await;
    brokers.spawn(0);
    let operator = brokers.operator(0, CLUSTER).await;
    operator.leads(key(0), epoch(1)).await;
    assert_eq!(read(&brokers, 0, 1).await[0].value, "hello");
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_told_what_is_wrong() {
    let (brokers, _operator) = one(2).await;
    let mut client = brokers.pubsub(0).await;
    let good =
        || PublishRequest { topic: "events".to_owned(), value: "v".into(), ..PublishRequest::default() };
    for (request, code, wanted, says) in [
        (
            PublishRequest { topic: "nothing".to_owned(), ..good() },
            Code::NotFound,
            "UNKNOWN_TOPIC",
            "\"nothing\"",
        ),
        (
            PublishRequest { topic: String::new(), ..good() },
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "topic",
        ),
        (PublishRequest { partition: Some(2), ..good() }, Code::NotFound, "UNKNOWN_PARTITION", "0 to 1"),
        (
            PublishRequest { value: vec![0; (1 << 20) + 1].into(), ..good() },
            Code::InvalidArgument,
            "RECORD_TOO_LARGE",
            "1048576",
        ),
    ] {
        let status = client.publish(request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, wanted), "{status:?}");
        assert!(status.message().contains(says), "{status:?}");
        assert!(status.get_error_details().retry_info().is_none());
    }
    let subscribe = |topics: Vec<String>| SubscribeRequest { topics, start: None, partitions: Vec::new() };
    let status = client.subscribe(subscribe(Vec::new())).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_REQUEST");
    let status = client.subscribe(subscribe(vec!["nothing".to_owned()])).await.unwrap_err();
    assert_eq!(reason(&status), "UNKNOWN_TOPIC");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_again_and_again_in_one_request_is_answered_once() {
    let (brokers, _operator) = one(2).await;
    let mut log = LogClient::new(brokers.channel(0).await);
    let topics = vec!["events".to_owned(); 10_000];
    let metadata = log.metadata(MetadataRequest { topics, ..MetadataRequest::default() }).await.unwrap();
    assert_eq!(metadata.into_inner().topics.len(), 1);
    let partitions: Vec<u32> = (0..100_000).map(|at| at % 2).collect();
    let request = ListOffsetsRequest { topic: "events".to_owned(), partitions, time_ms: None };
    let offsets = log.list_offsets(request).await.unwrap().into_inner().partitions;
    assert_eq!(offsets.iter().map(|offsets| offsets.partition).collect::<Vec<_>>(), [0, 1]);
}

/// The broker says who it is, then why it does not go on.
async fn refusal(brokers: &Brokers, cluster: &str, epoch: u64) -> String {
    let refused = brokers.try_operator(0, cluster, epoch).await.unwrap();
    support::eventually("the stream is refused", async || refused.heard.lock().ended.is_some()).await;
    refused.heard.lock().ended.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_another_cluster_refuses_the_operator() {
    let (brokers, operator) = one(1).await;
    let other = "0198a5c2-7b1e-7c3d-9f00-0000000000ff";
    let refusal = refusal(&brokers, other, 2).await;
    assert!(refusal.contains(CLUSTER) && refusal.contains(other), "{refusal}");
    drop(operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_tenure_is_refused_and_a_newer_one_takes_over() {
    let (brokers, operator) = one(1).await;
    let newer = brokers.try_operator(0, CLUSTER, 7).await.unwrap();
    support::eventually("the older stream ends", async || operator.heard.lock().ended.is_some()).await;
    let refusal = refusal(&brokers, CLUSTER, 6).await;
    assert!(refusal.contains('7'), "{refusal}");
    drop(newer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_begins_where_it_is_told() {
    let (brokers, _operator) = one(1).await;
    let mut offsets = Vec::new();
    for number in 0..4 {
        offsets.push(publish(&brokers, &format!("{number}")).await.unwrap().offset);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let time_of_third = read(&brokers, 0, 4).await[2].append_time_ms;
    let mut client = brokers.pubsub(0).await;
    for (at, wanted) in [
        (Some(At::Earliest(Earliest {})), "0"),
        (Some(At::Offset(offsets[1])), "1"),
        (Some(At::TimeMs(time_of_third)), "2"),
        (Some(At::Latest(Latest {})), "new"),
        (None, "new"),
    ] {
        let start = at.map(|at| Start { at: Some(at) });
        let request = SubscribeRequest { topics: vec!["events".to_owned()], start, partitions: vec![0] };
        let mut stream = client.subscribe(request).await.unwrap().into_inner();
        // The first response says that it stands.
        assert!(stream.message().await.unwrap().unwrap().messages.is_empty());
        if wanted == "new" {
            publish(&brokers, "new").await.unwrap();
        }
        assert_eq!(stream.message().await.unwrap().unwrap().messages[0].value, wanted);
    }
    let start = Some(Start { at: Some(At::Offset(1_000)) });
    let request = SubscribeRequest { topics: vec!["events".to_owned()], start, partitions: vec![0] };
    let mut stream = client.subscribe(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    let status = stream.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_harms_nobody() {
    let (brokers, _operator) = one(1).await;
    let request = SubscribeRequest { topics: vec!["events".to_owned()], start: None, partitions: Vec::new() };
    let mut stalled = brokers.pubsub(0).await;
    let unread = stalled.subscribe(request).await.unwrap().into_inner();
    let big = "x".repeat(512 * 1024);
    for _ in 0..64 {
        publish(&brokers, &big).await.unwrap();
    }
    assert_eq!(read(&brokers, 0, 64).await.len(), 64);
    drop(unread);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_in_use_or_of_another_broker_is_named() {
    let (mut brokers, operator) = one(1).await;
    let other_ports = |command: &mut std::process::Command| {
        for flag in
            ["--grpc-address", "--http-address", "--tcp-address", "--internal-address", "--gossip-address"]
        {
            command.args([flag, "127.0.0.1:0"]);
        }
    };
    let start = |name: &str, brokers: &Brokers| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fulmar-broker"));
        command
            .args(["--name", name, "--data"])
            .arg(brokers.data(0))
            .arg("--tls")
            .arg(brokers.dir.path().join("tls"));
        other_ports(&mut command);
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let said = start("orders-0", &brokers);
    assert!(said.contains("another process") && said.contains("data-0"), "{said}");
    drop(operator);
    brokers.kill(0);
    let said = start("orders-1", &brokers);
    assert!(said.contains("belongs to broker 0"), "{said}");
    let mut inspect = std::process::Command::new(env!("CARGO_BIN_EXE_fulmar-broker"));
    let output = inspect.arg("inspect").arg(brokers.data(0)).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.contains(CLUSTER), "{said}");
}
