//! Promise: nobody but the operator and the brokers of a Cluster is heard on 50052.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use fulmar_client::Record;
use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::clients::producer;
use rcgen::{CertificateParams, KeyPair};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_a_foreign_ca_and_garbage_get_nowhere() {
    let brokers = Brokers::apply("strangers", &(cluster(1) + &topic("events", 1, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let ip = brokers.pod_ip(0).unwrap();

    // The broker may close it before it seems to be open.
    let said = match Channel::from_shared(format!("http://{ip}:50052")).unwrap().connect().await {
        Ok(channel) => attend(channel).await.unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    println!("plain text: {said}");

    // A broker's own certificate is believed, and is no operator's.
    let of_brokers = Identity::from_pem(pem(&brokers, "tls.crt"), pem(&brokers, "tls.key"));
    let said = attend(connect(&brokers, &ip, of_brokers).await.unwrap()).await.unwrap_err();
    assert_eq!(said.code(), Code::PermissionDenied, "{said}");

    // Certificates with the very names, of a CA of our own: nobody gets as far as to be told who he is not.
    for name in ["operator.fulmar.internal", "broker.fulmar.internal"] {
        let key = KeyPair::generate().unwrap();
        let forged = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
        let forged = Identity::from_pem(forged.pem(), key.serialize_pem());
        let said = match connect(&brokers, &ip, forged.clone()).await {
            Ok(channel) => attend(channel).await.unwrap_err(),
            Err(error) => tonic::Status::from_error(error.into()),
        };
        println!("forged {name}, to attend: {said}");
        assert_ne!(said.code(), Code::PermissionDenied, "{name}: {said}");
        let said = match connect(&brokers, &ip, forged).await {
            Ok(channel) => follow(channel).await.unwrap_err(),
            Err(error) => tonic::Status::from_error(error.into()),
        };
        println!("forged {name}, to follow: {said}");
        assert_ne!(said.code(), Code::PermissionDenied, "{name}: {said}");
    }

    for port in [50051, 50052, 8080, 9001] {
        let mut stream = TcpStream::connect((ip.as_str(), port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let garbage: Vec<u8> = (0..4096u32).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect();
        let _ = stream.write_all(&garbage);
        let mut answer = Vec::new();
        // Closed by the other side, whatever it says before.
        let _ = stream.read_to_end(&mut answer);
    }
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for size in [0, 1, 28, 1400] {
        socket.send_to(&vec![0xa5; size], (ip.as_str(), 7946)).unwrap();
    }
    let producer = producer(&brokers.client(0).await.unwrap(), "events").await.unwrap();
    producer.publish(Record::new("served all the same")).await.unwrap();
    let restarts = brokers.kubectl(&[
        "get",
        "pod",
        "orders-0",
        "-o",
        "jsonpath={.status.containerStatuses[0].restartCount}",
    ]);
    assert_eq!(restarts.unwrap(), "0");
}

fn pem(brokers: &Brokers, key: &str) -> String {
    let template = format!("go-template={{{{index .data {key:?} | base64decode}}}}");
    brokers.kubectl(&["get", "secret", "orders-tls", "-o", &template]).unwrap()
}

/// A connection to a broker's internal port by this certificate.
async fn connect(
    brokers: &Brokers,
    ip: &str,
    identity: Identity,
) -> Result<Channel, tonic::transport::Error> {
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(pem(brokers, "ca.crt")))
        .domain_name("broker.fulmar.internal")
        .identity(identity);
    Channel::from_shared(format!("https://{ip}:50052")).unwrap().tls_config(tls)?.connect().await
}

async fn follow(channel: Channel) -> Result<(), tonic::Status> {
    use fulmar_proto::internal::v1::replica_client::ReplicaClient;
    let mut client = ReplicaClient::new(channel);
    let mut answers = client.follow(tokio_stream::pending()).await?.into_inner();
    answers.message().await.map(drop)
}

async fn attend(channel: Channel) -> Result<(), tonic::Status> {
    use fulmar_proto::internal::v1::control_client::ControlClient;
    let mut client = ControlClient::new(channel);
    let mut answers = client.attend(tokio_stream::pending()).await?.into_inner();
    answers.message().await.map(drop)
}
