//! The TCP protocol: what `docs/protocol.md` promises, by the Python client of `examples/` and by frames of our own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Output};

use fulmar_core::id::ReplicaId;
use fulmar_proto::v1::PublishRequest;
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::{Brokers, PATIENCE, eventually};

const PING: u8 = 0x05;
const PUBLISH: u8 = 0x01;
const SUBSCRIBE: u8 = 0x02;
const ERROR: u8 = 0xff;

/// The first leads all partitions.
async fn brokers(count: usize, partitions: u32) -> (Brokers, Vec<Operator>) {
    attended(Brokers::start(count), count, partitions).await
}

async fn attended(brokers: Brokers, count: usize, partitions: u32) -> (Brokers, Vec<Operator>) {
    let mut operators = Vec::new();
    for ordinal in 0..count {
        operators.push(brokers.operator(ordinal, CLUSTER).await);
    }
    let replicas: Vec<ReplicaId> = operators.iter().map(Operator::replica).collect();
    let page = page(partitions, &replicas, replicas[0], 1);
    for operator in &operators {
        operator.push(&page, 1).await;
    }
    for partition in 0..partitions {
        operators[0].leads(key(partition), epoch(1)).await;
    }
    for operator in &operators {
        operator.holds(page.number, 1).await;
    }
    (brokers, operators)
}

fn python(arguments: &[&str]) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/fulmar_tcp.py");
    Command::new("python3")
        .arg(script)
        .args(arguments)
        .output()
        .expect("python3 is needed: the example is Python")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn frame(kind: u8, correlation: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = b"FM\x01".to_vec();
    frame.push(kind);
    frame.extend(correlation.to_be_bytes());
    frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend(body);
    let crc = crc32c::crc32c(&frame);
    frame.extend(crc.to_be_bytes());
    frame
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next frame's kind, correlation id and body.
fn next(socket: &mut TcpStream) -> (u8, u32, Vec<u8>) {
    let mut head = [0; 12];
    socket.read_exact(&mut head).unwrap();
    let [_, _, _, kind, a, b, c, d, length @ ..] = head;
    let mut body = vec![0; u32::from_be_bytes(length) as usize + 4];
    socket.read_exact(&mut body).unwrap();
    body.truncate(body.len() - 4);
    (kind, u32::from_be_bytes([a, b, c, d]), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_publishes_pulls_and_follows_at_any_broker() {
    let (brokers, _operators) = brokers(2, 1).await;
    let [leader, other] = [0, 1].map(|ordinal: usize| brokers.ports[ordinal].tcp.to_string());
    assert_eq!(
        said(&python(&[&leader, "publish", "events", "hello", "--key", "k"])),
        "partition 0 offset 1\n"
    );
    let passed_on = python(&[&other, "publish", "events", "grüße", "--sha256", "--key", "k"]);
    assert_eq!(said(&passed_on), "partition 0 offset 2\n");
    for server in [&leader, &other] {
        assert_eq!(said(&python(&[server, "pull", "events"])), "0\t1\thello\n0\t2\tgrüße\n");
        assert_eq!(said(&python(&[server, "pull", "events", "--offset", "2"])), "0\t2\tgrüße\n");
        assert_eq!(said(&python(&[server, "follow", "events", "-n", "2"])), "0\t1\thello\n0\t2\tgrüße\n");
    }
    let refused = python(&[&leader, "publish", "nowhere", "x"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("there is no topic \"nowhere\""), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_is_answered_and_the_connection_closed() {
    let (brokers, _operators) = brokers(1, 1).await;
    let address = brokers.ports[0].tcp;
    let mut changed = frame(PING, 1, b"hello");
    changed[13] ^= 1;
    let mut later = frame(PING, 1, b"");
    later[2] = 9;
    let mut long = frame(PING, 1, b"");
    long[8] = 0x7f;
    for (bytes, expected) in [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "\"FM\""),
        (changed, "CRC32C"),
        (later, "version 9"),
        (long, "at most"),
    ] {
        let mut socket = connect(address);
        socket.write_all(&bytes).unwrap();
        let (kind, correlation, body) = next(&mut socket);
        let message = String::from_utf8_lossy(&body[10..]).into_owned();
        assert_eq!((kind, correlation), (ERROR, 0));
        assert!(message.contains(expected), "{message}");
        socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0, "it is closed");
    }
    // What has a frame around it is refused alone.
    let mut socket = connect(address);
    for (kind, body) in [(0x40, &b""[..]), (PUBLISH, b"\0\0\0\x09short"), (PING, &[0; 129])] {
        socket.write_all(&frame(kind, 7, body)).unwrap();
        assert_eq!(next(&mut socket).0, ERROR);
    }
    socket.write_all(&frame(PING, 8, b"still here")).unwrap();
    assert_eq!(next(&mut socket), (0x85, 8, b"still here".to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_side_by_side_and_all_of_them() {
    let (brokers, _operators) = brokers(1, 1).await;
    let mut socket = connect(brokers.ports[0].tcp);
    let start = [&b"\0\0\0\x06events\0\0\0\0"[..], &[0; 9]].concat();
    // A pull that waits keeps nobody else waiting.
    let pull =
        [&b"\0\0\0\x06events\0\0\0\0"[..], &[1], &[0; 8], &1u32.to_be_bytes(), &50_000u32.to_be_bytes()];
    socket.write_all(&frame(0x04, 1000, &pull.concat())).unwrap();
    socket.write_all(&frame(SUBSCRIBE, 2000, &start)).unwrap();
    let message = [&i64::MIN.to_be_bytes()[..], &[0xff; 4], &[0, 0], &3u32.to_be_bytes(), b"abc"].concat();
    let body = [&b"\0\0\0\x06events\xff\xff\xff\xff\0\0\0\0\x01"[..], &message].concat();
    let writing = std::thread::spawn({
        let mut socket = socket.try_clone().unwrap();
        move || (1..=500).for_each(|number| socket.write_all(&frame(PUBLISH, number, &body)).unwrap())
    });
    let (mut published, mut delivered, mut pulled) = (0, 0, 0);
    while published < 500 || delivered < 500 || pulled < 1 {
        match next(&mut socket) {
            (0x81, ..) => published += 1,
            (0x82, 2000, _) => {}
            (0xc2, 2000, body) => delivered += u32::from_be_bytes(body[..4].try_into().unwrap()),
            (0x84, 1000, body) => {
                assert_eq!(body[8..12], [0, 0, 0, 1]);
                pulled += 1;
            }
            (kind, correlation, body) => {
                panic!("{kind:#x} {correlation} {}", String::from_utf8_lossy(&body));
            }
        }
    }
    writing.join().unwrap();
    assert_eq!((published, delivered, pulled), (500, 500, 1));
    socket.write_all(&frame(0x03, 2000, b"")).unwrap();
    assert_eq!(next(&mut socket), (0x83, 2000, Vec::new()));
    socket.write_all(&frame(0x03, 2000, b"")).unwrap();
    assert_eq!(next(&mut socket).0, ERROR, "it is there no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_tells_followers_and_lets_them_go() {
    let (mut brokers, operators) = brokers(1, 1).await;
    let mut socket = connect(brokers.ports[0].tcp);
    let start = [&b"\0\0\0\x06events\0\0\0\0"[..], &[0; 9]].concat();
    socket.write_all(&frame(SUBSCRIBE, 5, &start)).unwrap();
    assert_eq!(next(&mut socket).0, 0x82);
    drop(operators);
    let ended = tokio::task::spawn_blocking(move || brokers.terminate(0)).await.unwrap();
    assert!(ended.success());
    let (kind, correlation, body) = next(&mut socket);
    assert_eq!((kind, correlation, body[1]), (ERROR, 5, 17), "NOT_SERVING");
    assert_eq!(socket.read(&mut [0; 1]).unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_does_not_read_is_cut_off_and_costs_nobody_else() {
    let brokers = Brokers::start_with(1, &["--reader-stall-max", "2s"]);
    let (brokers, _operators) = attended(brokers, 1, 1).await;
    let big = "x".repeat(512 * 1024);
    for _ in 0..64 {
        let request =
            PublishRequest { topic: "events".to_owned(), value: big.clone().into(), ..Default::default() };
        brokers.publish(0, &request).await;
    }
    let mut stalled = connect(brokers.ports[0].tcp);
    let start = [&b"\0\0\0\x06events\0\0\0\0"[..], &[0; 9]].concat();
    stalled.write_all(&frame(SUBSCRIBE, 1, &start)).unwrap();
    eventually("who does not read is cut off", async || brokers.log(0).contains("is cut off")).await;
    let server = brokers.ports[0].tcp.to_string();
    let read = said(&python(&[&server, "follow", "events", "-n", "64"]));
    assert_eq!(read.lines().count(), 64);
    // What was on its way comes, and then nothing.
    let mut rest = Vec::new();
    let _reset = stalled.read_to_end(&mut rest);
    assert!(rest.len() < 64 * big.len(), "{}", rest.len());
}
