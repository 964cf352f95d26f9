//! Clients that mean harm, or behave as if: they take no more than their share, and the others are served.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{Earliest, PublishRequest, Start, SubscribeRequest};
use h2::client::ResponseFuture;
use prost::Message as _;
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::{Brokers, PATIENCE, eventually};

/// What the brokers of these tests are told instead of a minute: many times the pauses that a test makes.
const STALL_MAX: Duration = Duration::from_secs(10);

/// The slowest of them is given ten seconds; the rest is for a machine that is busy.
const CLOSED_WITHIN: Duration = Duration::from_mins(1);

async fn one() -> (Brokers, Operator) {
    let stall_max = format!("{}s", STALL_MAX.as_secs());
    let brokers = Brokers::start_with(1, &["--reader-stall-max", &stall_max]);
    let operator = brokers.operator(0, CLUSTER).await;
    let me = operator.replica();
    operator.push(&page(1, &[me], me, 1), 1).await;
    operator.leads(key(0), epoch(1)).await;
    (brokers, operator)
}

async fn publish(brokers: &Brokers, count: usize, bytes: usize) {
    let mut client = brokers.pubsub(0).await;
    for number in 0..count {
        let value = vec![u8::try_from(number % 251).unwrap(); bytes].into();
        let request = PublishRequest { topic: "events".to_owned(), value, ..PublishRequest::default() };
        client.publish(request).await.unwrap();
    }
}

fn from_the_first() -> SubscribeRequest {
    SubscribeRequest {
        topics: vec!["events".to_owned()],
        start: Some(Start { at: Some(At::Earliest(Earliest {})) }),
        partitions: Vec::new(),
    }
}

async fn read(brokers: &Brokers, count: usize) {
    let mut stream = brokers.pubsub(0).await.subscribe(from_the_first()).await.unwrap().into_inner();
    let mut seen = 0;
    while seen < count {
        seen += stream.message().await.unwrap().unwrap().messages.len();
    }
}

/// A gRPC call on a connection that announces windows without end.
fn call(sender: &mut h2::client::SendRequest<Bytes>, message: &SubscribeRequest) -> ResponseFuture {
    let request = http::Request::post("http://broker/fulmar.v1.PubSub/Subscribe")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut body) = sender.send_request(request, false).unwrap();
    let encoded = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(encoded.len()).unwrap().to_be_bytes());
    framed.extend(encoded);
    body.send_data(framed.into(), true).unwrap();
    response
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_opens_streams_and_never_reads_is_bounded_and_cut_off_and_others_are_served() {
    let (brokers, _operator) = one().await;
    publish(&brokers, 100, 512 * 1024).await;
    read(&brokers, 100).await;
    let before = brokers.resident_mebibytes(0);
    let socket = tokio::net::TcpStream::connect(brokers.ports[0].grpc).await.unwrap();
    let (mut sender, mut connection) = h2::client::Builder::new()
        .initial_window_size((1 << 31) - 1)
        .initial_connection_window_size((1 << 31) - 1)
        .initial_max_send_streams(1000)
        .handshake::<_, Bytes>(socket)
        .await
        .unwrap();
    let calls: Vec<ResponseFuture> = (0..150).map(|_| call(&mut sender, &from_the_first())).collect();
    // The connection is driven for a moment: its first step already writes all calls. Then nothing is read any more.
    let _driven = tokio::time::timeout(Duration::from_millis(300), &mut connection).await;
    let began = Instant::now();
    tokio::time::timeout(PATIENCE, read(&brokers, 100)).await.expect("others are served");
    eventually("it is cut off", async || brokers.log(0).contains("does not read its answers is cut off"))
        .await;
    let grown = brokers.resident_mebibytes(0).saturating_sub(before);
    println!("150 streams of 50 MiB held {grown} MiB for {:?}", began.elapsed());
    assert!(grown < 64, "{grown} MiB more for one client");
    // The rest of what was sent comes, then the end.
    let ended = tokio::time::timeout(PATIENCE, connection).await;
    assert!(ended.is_ok(), "the connection is closed");
    drop((calls, sender));
    read(&brokers, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_stops_reading_is_cut_off_and_one_that_only_pauses_is_not() {
    let (brokers, _operator) = one().await;
    publish(&brokers, 40, 512 * 1024).await;
    let mut paused = brokers.pubsub(0).await.subscribe(from_the_first()).await.unwrap().into_inner();
    let mut stopped = brokers.pubsub(0).await.subscribe(from_the_first()).await.unwrap().into_inner();
    let mut seen = 0;
    let began = Instant::now();
    while seen < 40 {
        seen += paused.message().await.unwrap().unwrap().messages.len();
        // Slow, but never for as long as that.
        if began.elapsed() < STALL_MAX * 3 / 2 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    eventually("cut off", async || brokers.log(0).contains("does not read its answers is cut off")).await;
    let ended = tokio::time::timeout(PATIENCE, async { while let Ok(Some(_)) = stopped.message().await {} });
    assert!(ended.await.is_ok(), "the stream ends");
}

/// How long the peer keeps a connection on which `said` was said; answers are read and forgotten.
fn kept(address: SocketAddr, said: &[u8]) -> Duration {
    let began = Instant::now();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.write_all(said).unwrap();
    socket.set_read_timeout(Some(CLOSED_WITHIN)).unwrap();
    let mut sink = [0; 4096];
    while let Ok(1..) = socket.read(&mut sink) {}
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_or_not_all_are_closed_within_a_minute() {
    let (brokers, _operator) = one().await;
    let ports = brokers.ports[0];
    let cases: [(SocketAddr, &[u8]); 7] = [
        (ports.grpc, b""),
        (ports.grpc, b"PRI * HTTP/2.0\r\n"),
        (ports.http, b""),
        (ports.http, b"PRI * HTTP/2.0\r\n"),
        (ports.http, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "),
        (ports.internal, b""),
        (ports.internal, b"\x16\x03\x01\x02\x00\x01"),
    ];
    let waits = cases.map(|(address, said)| std::thread::spawn(move || (address, said, kept(address, said))));
    for wait in waits {
        let (address, said, kept) = wait.join().unwrap();
        let said = String::from_utf8_lossy(said).into_owned();
        assert!(kept < CLOSED_WITHIN, "{address} after {said:?}: {kept:?}");
    }
    publish(&brokers, 1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_heads_are_refused() {
    let (brokers, _operator) = one().await;
    let ports = brokers.ports[0];
    let mut socket = TcpStream::connect(ports.http).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may be closed before all of it was written.
    let _refused =
        socket.write_all(format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 20)).as_bytes());
    let mut answer = Vec::new();
    let _reset = socket.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    let mut request = tonic::Request::new(from_the_first());
    request.metadata_mut().insert("x-giant", "a".repeat(64 * 1024).parse().unwrap());
    let mut refused = brokers.pubsub(0).await.subscribe(request).await.unwrap().into_inner();
    refused.message().await.unwrap_err();
    publish(&brokers, 1, 1).await;
}

/// Whether the other side has closed it; what came before is read and forgotten.
fn is_closed(socket: &mut TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    loop {
        match socket.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_that_do_nothing_cost_little_and_more_than_fit_are_closed() {
    let (brokers, _operator) = one().await;
    publish(&brokers, 1, 1).await;
    let before = brokers.resident_mebibytes(0);
    let mut idle = Vec::new();
    for _ in 0..1000 {
        let mut socket = TcpStream::connect(brokers.ports[0].grpc).unwrap();
        // The preface and empty settings.
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        idle.push(socket);
    }
    for socket in &mut idle {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.read_exact(&mut [0; 9]).unwrap();
    }
    publish(&brokers, 1, 1).await;
    let grown = brokers.resident_mebibytes(0).saturating_sub(before);
    println!("1,000 connections: {grown} MiB");
    assert!(grown < 64, "{grown} MiB for 1,000 idle connections");
    // 256 Mi of memory have room for 1,024.
    let one_more = || {
        let mut socket = TcpStream::connect(brokers.ports[0].grpc).unwrap();
        let _closed = socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let is_taken = matches!(socket.read(&mut [0; 9]), Ok(1..));
        is_taken.then_some(socket)
    };
    let more: Vec<Option<TcpStream>> = (0..100).map(|_| one_more()).collect();
    let taken = more.iter().flatten().count();
    // They do not answer pings: if all of this took some twenty seconds the broker has closed some, and there is room for others.
    let lost = idle.iter_mut().filter_map(|socket| is_closed(socket).then_some(())).count();
    assert!((1..=24 + lost).contains(&taken), "{taken} of 100 more, {lost} lost");
    drop((more, idle));
    eventually("there is room again", async || {
        let request =
            PublishRequest { topic: "events".to_owned(), value: "v".into(), ..PublishRequest::default() };
        brokers.pubsub(0).await.publish(request).await.is_ok()
    })
    .await;
}
