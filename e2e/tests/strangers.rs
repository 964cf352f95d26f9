//! Promise: nobody but the operator and the brokers of a Cluster is heard on 50052.

// A test's functions may end it, and print what they saw.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use fulmar_client::Record;
use fulmar_e2e::brokers::{Brokers, cluster, topic};
use fulmar_e2e::clients::producer;
use fulmar_e2e::identities::{Asks, BROKER, Comes, OPERATOR};
use fulmar_proto::internal::v1::control_client::ControlClient;
use tonic::transport::Channel;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_text_a_foreign_ca_and_garbage_get_nowhere() {
    let brokers = Brokers::apply("strangers", &(cluster(1) + &topic("events", 1, ""))).unwrap();
    brokers.await_ready("flt/events").unwrap();
    let ip = brokers.pod_ip(0).unwrap();

    // The broker may close it before it seems to be open.
    let said = match Channel::from_shared(format!("http://{ip}:50052")).unwrap().connect().await {
        Ok(channel) => {
            let attending = ControlClient::new(channel).attend(tokio_stream::pending()).await;
            attending.map(drop).unwrap_err().to_string()
        }
        Err(error) => error.to_string(),
    };
    println!("plain text: {said}");

    // The same certificates but for the signature: who is of the Cluster is let in where he belongs, and is told where he does not;
    // who is not gets no answer at all.
    let ca = brokers.pem("tls", "ca.crt").unwrap();
    for (name, belongs) in [(OPERATOR, Asks::ToAttend), (BROKER, Asks::ToFollow)] {
        let (signed, forged) = (brokers.signed(name).unwrap(), brokers.forged(name).unwrap());
        for asks in [Asks::ToAttend, Asks::ToFollow] {
            let comes = brokers.comes(0, (&ca, &signed), asks).await.unwrap();
            assert_eq!(comes, if asks == belongs { Comes::In } else { Comes::Known }, "{name} {asks:?}");
            for strange in [&forged, &Brokers::self_signed(name).unwrap()] {
                let comes = brokers.comes(0, (&ca, strange), asks).await.unwrap();
                println!("forged {name}, {asks:?}: {comes:?}");
                assert!(matches!(comes, Comes::Nowhere(_)), "forged {name}, {asks:?}: {comes:?}");
            }
        }
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
