//! What a port does with what is not meant for it: nothing, and it goes on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use fulmar_core::batch::{ProducedBatch, Record};
use fulmar_core::id::TopicId;
use fulmar_proto::internal::v1::PeerMessage;
use fulmar_proto::internal::v1::replica_client::ReplicaClient;
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::produce_response::Outcome;
use fulmar_proto::v1::{ErrorReason, ListOffsetsRequest, MetadataRequest, ProduceRequest, PublishRequest};
use support::operator::{CLUSTER, Operator, TOPIC, epoch, key, page};
use support::{Authority, Brokers};
use tonic::Code;

async fn one() -> (Brokers, Operator) {
    let brokers = Brokers::start(1);
    let operator = brokers.operator(0, CLUSTER).await;
    let me = operator.replica();
    operator.push(&page(1, &[me], me, 1), 1).await;
    operator.leads(key(0), epoch(1)).await;
    (brokers, operator)
}

async fn still_serves(brokers: &Brokers) {
    let request =
        PublishRequest { topic: "events".to_owned(), value: "v".into(), ..PublishRequest::default() };
    brokers.pubsub(0).await.publish(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_every_port_harms_nobody() {
    let (brokers, _operator) = one().await;
    let ports = brokers.ports[0];
    for address in [ports.grpc, ports.http, ports.tcp, ports.internal] {
        for garbage in [
            b"\0\xff\x01garbage\r\n\r\n".repeat(1000),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff".to_vec(),
        ] {
            let mut socket = TcpStream::connect(address).unwrap();
            // It may be closed before all of it was written.
            let _refused = socket.write_all(&garbage);
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let _answer = socket.read(&mut [0; 64]);
        }
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 12, 13, 100, 60_000] {
        socket.send_to(&vec![1; length], ports.gossip).unwrap();
    }
    still_serves(&brokers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_between_brokers_refuses_plain_text_foreign_certificates_and_wrong_names() {
    let (brokers, _operator) = one().await;
    // Plain text.
    let plain = format!("http://{}", brokers.ports[0].internal);
    let channel = tonic::transport::Endpoint::from_shared(plain).unwrap().connect().await;
    if let Ok(channel) = channel {
        LogClient::new(channel).metadata(MetadataRequest::default()).await.unwrap_err();
    }
    // Another authority's certificate for the right name; it believes the broker's, so only the broker can refuse.
    let foreign = Authority::new().sign("operator.fulmar.internal");
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(&brokers.authority.certificate))
        .identity(tonic::transport::Identity::from_pem(foreign.certificate, foreign.key))
        .domain_name("broker.fulmar.internal");
    if let Ok(channel) = brokers.internal(0, tls).await {
        LogClient::new(channel).metadata(MetadataRequest::default()).await.unwrap_err();
    }
    // No certificate.
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(&brokers.authority.certificate))
        .domain_name("broker.fulmar.internal");
    if let Ok(channel) = brokers.internal(0, tls).await {
        LogClient::new(channel).metadata(MetadataRequest::default()).await.unwrap_err();
    }
    // A broker is no operator, and an operator no broker.
    let broker = brokers.internal(0, brokers.authority.client("broker.fulmar.internal")).await.unwrap();
    let refused = Operator::attend(broker, 0, CLUSTER, 1).await.err().unwrap();
    assert!(refused.contains("only the operator"), "{refused}");
    let operator = brokers.internal(0, brokers.authority.client("operator.fulmar.internal")).await.unwrap();
    let nothing = tokio_stream::iter(Vec::<PeerMessage>::new());
    let refused = ReplicaClient::new(operator).follow(nothing).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    still_serves(&brokers).await;
}

fn batch(value: &str) -> Vec<u8> {
    let record = Record { value: value.to_owned().into(), ..Record::default() };
    ProducedBatch::build(&[record], None).unwrap().bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_batches_is_answered_in_order_and_bad_ones_change_nothing() {
    let (brokers, _operator) = one().await;
    let topic = |id: TopicId| id.to_bytes().to_vec().into();
    let mut flipped = batch("flipped");
    *flipped.last_mut().unwrap() ^= 1;
    let mut short = batch("short");
    short.pop();
    let request = |id: u64, batch: Vec<u8>| ProduceRequest {
        topic_id: topic(TOPIC),
        partition: 0,
        batch: batch.into(),
        correlation_id: id,
    };
    let requests = vec![
        request(1, batch("one")),
        request(2, flipped),
        request(3, short),
        request(4, Vec::new()),
        ProduceRequest { partition: 9, ..request(5, batch("x")) },
        ProduceRequest { topic_id: topic(TopicId(7)), ..request(6, batch("x")) },
        ProduceRequest { topic_id: vec![1, 2, 3].into(), ..request(7, batch("x")) },
        request(8, batch("two")),
    ];
    let mut client = LogClient::new(brokers.channel(0).await);
    let mut answers = client.produce(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut outcomes = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        outcomes.push((answer.correlation_id, answer.outcome.unwrap()));
    }
    let failed = |outcome: &Outcome| match outcome {
        Outcome::Error(error) => error.reason(),
        Outcome::BaseOffset(_) => ErrorReason::Unspecified,
    };
    assert_eq!(outcomes.iter().map(|(id, _)| *id).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    assert_eq!(outcomes[0].1, Outcome::BaseOffset(1));
    for outcome in &outcomes[1..4] {
        assert_eq!(failed(&outcome.1), ErrorReason::CorruptBatch, "{outcome:?}");
    }
    assert_eq!(failed(&outcomes[4].1), ErrorReason::UnknownPartition);
    assert_eq!(failed(&outcomes[5].1), ErrorReason::UnknownTopic);
    assert_eq!(failed(&outcomes[6].1), ErrorReason::InvalidRequest);
    assert_eq!(outcomes[7].1, Outcome::BaseOffset(2));
    let request = ListOffsetsRequest { topic: "events".to_owned(), partitions: Vec::new(), time_ms: Some(0) };
    let offsets = client.list_offsets(request).await.unwrap().into_inner().partitions;
    assert_eq!((offsets[0].log_start, offsets[0].high_watermark, offsets[0].at_time), (0, 3, Some(0)));
    let topics = client.metadata(MetadataRequest::default()).await.unwrap().into_inner();
    assert_eq!((topics.cluster_id.as_str(), topics.topics[0].name.as_str()), (CLUSTER, "events"));
    assert_eq!(topics.topics[0].partitions[0].leader, Some(0));
}

#[test]
fn a_taken_port_and_a_bad_folder_are_named() {
    let brokers = Brokers::start(1);
    let output = brokers.command(0).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains("--http-address") && said.contains("listened"),
        "{said}"
    );
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fulmar-broker"));
    let output = command
        .args(["--name", "a-0", "--data", "/nonexistent/x", "--tls", "/nonexistent/tls"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("/nonexistent/tls/ca.crt"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_both_reflections_answer() {
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::{v1, v1alpha};

    let (brokers, _operator) = one().await;
    let mut health = HealthClient::new(brokers.channel(0).await);
    for service in ["", "fulmar.v1.PubSub"] {
        support::eventually("healthy", async || {
            let request = HealthCheckRequest { service: service.to_owned() };
            health.check(request).await.unwrap().into_inner().status() == ServingStatus::Serving
        })
        .await;
    }
    let ask = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(brokers.channel(0).await);
    let mut answers = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    let said = format!("{:?}", answers.message().await.unwrap());
    assert!(said.contains("fulmar.v1.PubSub") && said.contains("fulmar.v1.Log"), "{said}");
    let symbol = "fulmar.v1.PubSub".to_owned();
    let ask = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            symbol,
        )),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(brokers.channel(0).await);
    let mut answers = client.server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    let said = format!("{:?}", answers.message().await.unwrap());
    assert!(said.contains("FileDescriptorResponse"), "{said}");
}
