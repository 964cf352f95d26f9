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
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fulmar_core::batch::{ProducedBatch, Record};
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::produce_response::Outcome;
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{Earliest, FetchRequest, ProduceRequest, PublishRequest, Start, SubscribeRequest};
use h2::SendStream;
use h2::client::{Connection, ResponseFuture, SendRequest};
use support::http::get;
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::{Brokers, PATIENCE, eventually};

/// What the brokers of these tests are told instead of a minute: many times the pauses that a test makes.
const STALL_MAX: Duration = Duration::from_secs(10);

/// The slowest of them is given ten seconds; the rest is for a machine that is busy.
const CLOSED_WITHIN: Duration = Duration::from_mins(1);

const CUT_OFF: &str = "does not read its answers is cut off";
const ANSWERS_HELD: &str = "fulmar_answers_held_bytes";
const REQUESTS_HELD: &str = "fulmar_requests_held_bytes";
const WINDOW_DEFAULT: u32 = 65_535;
const WINDOW_MAX: u32 = (1 << 31) - 1;

/// The `--memory-limit` of these tests' brokers, beyond which Kubernetes would kill them. Without a bound the clients here
/// make them take 700 MiB more.
const MEBIBYTES_MAX: u64 = 256;

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

/// A connection that announces such windows, to be driven, or left, by the test.
async fn connect(brokers: &Brokers, window: u32) -> (SendRequest<Bytes>, Connection<tokio::net::TcpStream>) {
    let socket = tokio::net::TcpStream::connect(brokers.ports[0].grpc).await.unwrap();
    h2::client::Builder::new()
        .initial_window_size(window)
        .initial_connection_window_size(window)
        .initial_max_send_streams(1000)
        .handshake::<_, Bytes>(socket)
        .await
        .unwrap()
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    let encoded = message.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(encoded.len()).unwrap().to_be_bytes());
    framed.extend(encoded);
    framed
}

/// A gRPC call that ends with its message.
fn call(sender: &mut SendRequest<Bytes>, method: &str, message: &impl prost::Message) -> ResponseFuture {
    let (response, mut body) = open(sender, method);
    body.send_data(framed(message).into(), true).unwrap();
    response
}

fn open(sender: &mut SendRequest<Bytes>, method: &str) -> (ResponseFuture, SendStream<Bytes>) {
    let request = http::Request::post(format!("http://broker/fulmar.v1.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    sender.send_request(request, false).unwrap()
}

/// One of the broker's metrics; 0 if there is none of that name.
async fn metric(brokers: &Brokers, name: &str) -> u64 {
    let address = brokers.ports[0].http;
    let text = tokio::task::spawn_blocking(move || {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        text
    });
    let text = text.await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// The most that the broker took, in MiB, and the most that it counted for answers, until a program is cut off.
async fn until_cut_off(brokers: &Brokers) -> (u64, u64) {
    let (mut resident, mut held) = (0, 0);
    eventually("it is cut off", async || {
        resident = resident.max(brokers.resident_mebibytes(0));
        held = held.max(metric(brokers, ANSWERS_HELD).await);
        brokers.log(0).contains(CUT_OFF)
    })
    .await;
    (resident, held)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_opens_streams_and_never_reads_is_bounded_and_cut_off_and_others_are_served() {
    let (brokers, _operator) = one().await;
    publish(&brokers, 100, 512 * 1024).await;
    read(&brokers, 100).await;
    let before = brokers.resident_mebibytes(0);
    let (mut sender, mut connection) = connect(&brokers, WINDOW_MAX).await;
    let calls: Vec<ResponseFuture> =
        (0..150).map(|_| call(&mut sender, "PubSub/Subscribe", &from_the_first())).collect();
    // So long the connection is driven that all calls are out; then nothing is read any more.
    let _driven = tokio::time::timeout(Duration::from_millis(300), &mut connection).await;
    tokio::time::timeout(PATIENCE, read(&brokers, 100)).await.expect("others are served");
    let (resident, held) = until_cut_off(&brokers).await;
    let grown = resident.saturating_sub(before);
    println!("150 streams of 50 MiB held {grown} MiB more ({resident}), {held} B by their count");
    assert!(held > 0, "answers were on their way");
    assert!(resident < MEBIBYTES_MAX, "{resident} MiB, of which one client made {grown}");
    // The rest of what was sent comes, then the end.
    let ended = tokio::time::timeout(PATIENCE, connection).await;
    assert!(ended.is_ok(), "the connection is closed");
    drop((calls, sender));
    read(&brokers, 100).await;
    eventually("all memory is given back", async || metric(&brokers, ANSWERS_HELD).await == 0).await;
}

/// A batch of about 7 MB: at which offset it begins.
async fn produce(brokers: &Brokers) -> u64 {
    let mut client = LogClient::new(brokers.channel(0).await).max_encoding_message_size(16 << 20);
    let record = |number: u8| Record {
        key: None,
        value: vec![number; 1_000_000].into(),
        headers: Vec::new(),
        timestamp_ms: 1,
    };
    let batch = ProducedBatch::build(&[1, 2, 3, 4, 5, 6, 7].map(record), None).unwrap();
    let request = ProduceRequest {
        correlation_id: 1,
        topic_id: key(0).topic.to_bytes().to_vec().into(),
        partition: 0,
        batch: batch.bytes().clone(),
    };
    let mut answers = client.produce(tokio_stream::once(request)).await.unwrap().into_inner();
    match answers.message().await.unwrap().unwrap().outcome {
        Some(Outcome::BaseOffset(base)) => base,
        outcome => panic!("{outcome:?}"),
    }
}

/// The same records on a broker that has none of them in memory.
async fn restarted(mut brokers: Brokers, operator: Operator) -> (Brokers, Operator) {
    drop(operator);
    assert!(brokers.terminate(0).success());
    brokers.spawn(0);
    let operator = brokers.operator(0, CLUSTER).await;
    let me = operator.replica();
    operator.push(&page(1, &[me], me, 2), 2).await;
    operator.leads(key(0), epoch(2)).await;
    (brokers, operator)
}

/// From the large batch on: what lies before it, the record that opened the term, would be enough.
fn a_byte(offset: u64) -> FetchRequest {
    FetchRequest {
        offset,
        topic_id: key(0).topic.to_bytes().to_vec().into(),
        bytes_max: 1,
        ..FetchRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_ask_for_a_byte_each_are_counted_by_the_batches_that_they_get() {
    let (brokers, operator) = one().await;
    let base = produce(&brokers).await;
    let (brokers, _operator) = restarted(brokers, operator).await;
    read(&brokers, 7).await;
    let before = brokers.resident_mebibytes(0);
    let (mut sender, mut connection) = connect(&brokers, WINDOW_DEFAULT).await;
    let calls: Vec<ResponseFuture> =
        (0..100).map(|_| call(&mut sender, "Log/Fetch", &a_byte(base))).collect();
    let _driven = tokio::time::timeout(Duration::from_millis(300), &mut connection).await;
    let (resident, held) = until_cut_off(&brokers).await;
    let grown = resident.saturating_sub(before);
    println!(
        "100 streams that asked for a byte and got 7 MB held {grown} MiB more ({resident}), {held} B by their count"
    );
    assert!(resident < MEBIBYTES_MAX, "{resident} MiB, of which one client made {grown}");
    assert!(held > 0, "answers were on their way");
    let ended = tokio::time::timeout(PATIENCE, connection).await;
    assert!(ended.is_ok(), "the connection is closed");
    drop((calls, sender));
    tokio::time::timeout(PATIENCE, read(&brokers, 7)).await.expect("others are served");
    eventually("all memory is given back", async || metric(&brokers, ANSWERS_HELD).await == 0).await;
}

/// The last answers of streams that have ended hold memory like others.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_ended_streams_that_are_never_read_are_given_up() {
    let (brokers, _operator) = one().await;
    let base = produce(&brokers).await;
    let (mut sender, mut connection) = connect(&brokers, WINDOW_DEFAULT).await;
    let (_response, mut body) = open(&mut sender, "Log/Fetch");
    body.send_data(framed(&a_byte(base)).into(), false).unwrap();
    let _driven = tokio::time::timeout(Duration::from_millis(300), &mut connection).await;
    eventually("an answer is on its way", async || metric(&brokers, ANSWERS_HELD).await > 0).await;
    // A wrong topic ends the stream behind the answer that waits.
    body.send_data(framed(&FetchRequest { topic_id: Bytes::new(), ..a_byte(base) }).into(), true).unwrap();
    let _driven = tokio::time::timeout(Duration::from_millis(300), &mut connection).await;
    eventually("it is cut off", async || brokers.log(0).contains(CUT_OFF)).await;
    eventually("all memory is given back", async || metric(&brokers, ANSWERS_HELD).await == 0).await;
}

/// 8 MiB are said, 7 MiB come.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_sent_by_halves_take_no_more_than_their_share_and_are_refused() {
    let (brokers, _operator) = one().await;
    publish(&brokers, 1, 1_000_000).await;
    let before = brokers.resident_mebibytes(0);
    let (mut sender, connection) = connect(&brokers, WINDOW_DEFAULT).await;
    let driven = tokio::spawn(connection);
    let half: Bytes = [vec![0, 0, 0x80, 0, 0], vec![0; 7 << 20]].concat().into();
    let refused = Arc::new(AtomicUsize::new(0));
    for _ in 0..100 {
        sender = sender.ready().await.unwrap();
        let (response, mut body) = open(&mut sender, "PubSub/Publish");
        body.send_data(half.clone(), false).unwrap();
        let refused = refused.clone();
        tokio::spawn(async move {
            let answer = response.await;
            let is_refused = answer.is_ok_and(|answer| answer.headers().get("grpc-status").unwrap() == "8");
            refused.fetch_add(usize::from(is_refused), Ordering::Relaxed);
            drop(body);
        });
    }
    let (mut resident, mut held) = (0, 0);
    eventually("but for the first all are refused by RESOURCE_EXHAUSTED", async || {
        resident = resident.max(brokers.resident_mebibytes(0));
        held = held.max(metric(&brokers, REQUESTS_HELD).await);
        refused.load(Ordering::Relaxed) >= 99
    })
    .await;
    let grown = resident.saturating_sub(before);
    println!("100 messages of which 7 MB came held {grown} MiB more ({resident}), {held} B by their count");
    assert!(resident < MEBIBYTES_MAX, "{resident} MiB, of which one client made {grown}");
    assert!(held > 0, "messages arrived");
    publish(&brokers, 1, 1_000_000).await;
    driven.abort();
    eventually("all memory is given back", async || metric(&brokers, REQUESTS_HELD).await == 0).await;
}

/// What one request may make a broker take beyond its own bytes, for a machine whose allocator keeps some.
const GROWN_MAX: u64 = 48;

/// The status of a call whose message has these bytes, and the MiB by which it raised the most that the broker ever took.
async fn told(brokers: &Brokers, method: &str, message: &[u8]) -> (String, u64) {
    let before = brokers.peak_mebibytes(0);
    let (mut sender, connection) = connect(brokers, WINDOW_DEFAULT).await;
    let driven = tokio::spawn(connection);
    let (response, mut body) = open(&mut sender, method);
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    // At once: what is refused by its length ends the stream.
    body.send_data([&[0][..], &length, message].concat().into(), true).unwrap();
    let answer = tokio::time::timeout(PATIENCE, response).await.unwrap().unwrap();
    let status = answer.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
    let grown = brokers.peak_mebibytes(0) - before;
    driven.abort();
    (status.unwrap_or_default(), grown)
}

const INVALID: &str = "3";

#[tokio::test(flavor = "multi_thread")]
async fn millions_of_empty_fields_in_one_request_are_refused_before_they_take_memory() {
    let (brokers, _operator) = one().await;
    publish(&brokers, 1, 1_000_000).await;
    // Two bytes each, as short as protobuf has them: the first byte says which field.
    let many = |field: u8| [field << 3 | 2, 0].repeat(4 << 20);
    // One number a byte, in one field.
    let numbers = |field: u8| [&[field << 3 | 2, 0x80, 0x80, 0x80, 0x04][..], &vec![7; 8 << 20]].concat();
    let cases = [
        ("PubSub/Publish", "headers", many(4)),
        ("PubSub/Subscribe", "topics", many(1)),
        ("PubSub/Subscribe", "partitions", numbers(3)),
        ("Log/Metadata", "topics", many(1)),
        ("Log/ListOffsets", "partitions", numbers(2)),
    ];
    for (method, field, message) in cases {
        let (status, grown) = told(&brokers, method, &message).await;
        println!("{method} with {} bytes of {field}: {grown} MiB more", message.len());
        assert!(grown < GROWN_MAX, "{method}, {field}: {grown} MiB");
        assert_eq!(status, INVALID, "{method}, {field}");
    }
    publish(&brokers, 1, 1).await;
    eventually("all memory is given back", async || metric(&brokers, REQUESTS_HELD).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_patterns_that_no_topic_can_have_are_refused_and_not_kept() {
    let (brokers, _operator) = one().await;
    publish(&brokers, 1, 1_000_000).await;
    // The field 1 of each is the name of a topic.
    let text = |text: &[u8]| {
        let mut message = vec![0x0a];
        prost::encoding::encode_varint(text.len() as u64, &mut message);
        message.extend_from_slice(text);
        message
    };
    let long_pattern = [b"a.".repeat(4_000_000), b"*".to_vec()].concat();
    let pattern = [b"a.".repeat(125), b"*".to_vec()].concat();
    for (method, name) in [
        ("PubSub/Subscribe", &long_pattern),
        ("PubSub/Subscribe", &pattern),
        ("PubSub/Subscribe", &vec![b'a'; 250]),
        ("PubSub/Publish", &vec![b'a'; 8_000_000]),
        ("PubSub/Publish", &vec![b'a'; 250]),
        ("Log/ListOffsets", &vec![b'a'; 250]),
        ("Admin/DescribeTopic", &vec![b'a'; 250]),
    ] {
        let (status, grown) = told(&brokers, method, &text(name)).await;
        println!("{method} with a name of {} bytes: {grown} MiB more", name.len());
        assert!(grown < GROWN_MAX, "{method}, {} bytes: {grown} MiB", name.len());
        assert_eq!(status, INVALID, "{method}, {} bytes", name.len());
    }
    let target = format!("/v1/topics/{}", "a".repeat(250));
    let refused = get(brokers.ports[0].http, &target);
    assert!(refused.tells(400, "at most 249 bytes"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_never_end_take_little() {
    let (brokers, _operator) = one().await;
    publish(&brokers, 1, 1).await;
    let before = brokers.peak_mebibytes(0);
    // The shorter ones are kept as long as a head may take, the longer ones are refused.
    let mut kept = Vec::new();
    for (port, bytes) in [brokers.ports[0].http, brokers.ports[0].grpc].into_iter().zip([400_000, 60_000]) {
        let head = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: {}", "a".repeat(bytes));
        let sending = |head: String| {
            move || {
                let send = |_| {
                    let mut socket = TcpStream::connect(port).unwrap();
                    // It may be closed before all of it was written.
                    let _refused = socket.write_all(head.as_bytes());
                    socket
                };
                (0..125).map(send).collect::<Vec<TcpStream>>()
            }
        };
        let threads: Vec<_> = (0..8).map(|_| std::thread::spawn(sending(head.clone()))).collect();
        kept.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap()));
    }
    publish(&brokers, 1, 1).await;
    let (peak, count) = (brokers.peak_mebibytes(0), kept.len());
    println!("{count} heads without an end took {} MiB more ({peak})", peak - before);
    assert!(peak < MEBIBYTES_MAX, "{peak} MiB");
}

/// From now on this system acknowledges nothing that comes for the socket: its program is gone for the other side.
#[cfg(target_os = "linux")]
fn vanish(socket: &TcpStream) {
    // BPF's "return 0": no byte of any packet passes.
    let nothing = socket2::SockFilter::new(0x06, 0, 0, 0);
    socket2::SockRef::from(socket).attach_filter(&[nothing]).unwrap();
}

/// What is sent to it is never acknowledged, and then TCP does not ask any more whether somebody is there.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_vanished_behind_a_stream_that_says_something_is_noticed() {
    let (brokers, _operator) = one().await;
    publish(&brokers, 1, 1).await;
    let ports = brokers.ports[0];
    eventually("nobody else is connected", async || connections(ports.http) + connections(ports.tcp) == 0)
        .await;
    let mut stream = TcpStream::connect(ports.http).unwrap();
    stream.write_all(b"GET /v1/topics/events/stream HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut [0; 12]).unwrap();
    let mut subscriber = TcpStream::connect(ports.tcp).unwrap();
    subscriber.set_read_timeout(Some(PATIENCE)).unwrap();
    subscriber.write_all(&subscribe_by_tcp("events")).unwrap();
    subscriber.read_exact(&mut [0; 12]).unwrap();
    for socket in [&stream, &subscriber] {
        vanish(socket);
    }
    assert_eq!((connections(ports.http), connections(ports.tcp)), (1, 1));
    eventually("both are noticed", async || connections(ports.http) + connections(ports.tcp) == 0).await;
}

/// `docs/protocol.md`: the topic, all partitions, from the latest on.
fn subscribe_by_tcp(topic: &str) -> Vec<u8> {
    let mut body = u32::try_from(topic.len()).unwrap().to_be_bytes().to_vec();
    body.extend_from_slice(topic.as_bytes());
    body.extend_from_slice(&u32::MAX.to_be_bytes());
    body.push(1);
    body.extend_from_slice(&0u64.to_be_bytes());
    let mut frame = b"FM\x01\x02\0\0\0\x07".to_vec();
    frame.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(&body);
    let crc = crc32c::crc32c(&frame);
    frame.extend_from_slice(&crc.to_be_bytes());
    frame
}

/// How many open connections a port of this machine has.
fn connections(address: SocketAddr) -> usize {
    let of_port = format!(":{:04X}", address.port());
    let all = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let fields = all.lines().map(|line| line.split_whitespace().collect::<Vec<&str>>());
    // 01 is an open connection.
    fields.filter(|fields| fields[1].ends_with(&of_port) && fields[3] == "01").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_connections_that_have_said_nothing() {
    let (mut brokers, operator) = one().await;
    let ports = brokers.ports[0];
    let silent = [ports.grpc, ports.http, ports.internal].map(|address| TcpStream::connect(address).unwrap());
    // Taken before it, as connections are taken in turn.
    publish(&brokers, 1, 1).await;
    drop(operator);
    assert!(brokers.terminate(0).success());
    let log = brokers.log(0);
    assert!(!log.contains("connections of programs that did not end are cut"), "{log}");
    drop(silent);
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
