//! What browsers speak in gRPC's place: the same services, errors and bounds, over HTTP/1.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed test panics and tells why"
)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{
    DescribeClusterRequest, DescribeClusterResponse, DescribeTopicRequest, DescribeTopicResponse, Earliest,
    ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse, PublishRequest,
    PublishResponse, Start, SubscribeRequest, SubscribeResponse,
};
use prost::Message as _;
use support::http::{get, send};
use support::operator::{CLUSTER, Operator, epoch, key, page};
use support::web::{Call, Frame, Kind, framed};
use support::{Brokers, eventually};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const PUBLISH: &str = "PubSub/Publish";
const SUBSCRIBE: &str = "PubSub/Subscribe";
/// Of the topic, and of any request.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
const REQUEST_BYTES_MAX: usize = (8 << 20) + 64 * 1024;
/// When a reader that does not read is cut off.
const STALL_MAX: Duration = Duration::from_secs(2);

async fn one() -> (Brokers, Operator) {
    let brokers = Brokers::start_with(1, &["--reader-stall-max", &format!("{}s", STALL_MAX.as_secs())]);
    let operator = brokers.operator(0, CLUSTER).await;
    let me = operator.replica();
    operator.push(&page(1, &[me], me, 1), 1).await;
    operator.leads(key(0), epoch(1)).await;
    (brokers, operator)
}

fn message(value: &[u8]) -> PublishRequest {
    PublishRequest { topic: "events".to_owned(), value: value.to_vec().into(), ..PublishRequest::default() }
}

fn from(at: At) -> SubscribeRequest {
    SubscribeRequest {
        topics: vec!["events".to_owned()],
        start: Some(Start { at: Some(at) }),
        partitions: Vec::new(),
    }
}

fn publish(address: SocketAddr, kind: Kind, value: &[u8]) -> Result<PublishResponse, Status> {
    Call::start(address, kind, PUBLISH, &message(value)).one()
}

/// The next message of a stream, or its end.
fn try_next(stream: &mut Call) -> Result<Vec<u8>, Status> {
    if let Some(status) = stream.ended() {
        return Err(status);
    }
    loop {
        match stream.next() {
            Frame::Trailers(status) => return Err(status),
            Frame::Message(bytes) => {
                let messages = SubscribeResponse::decode(&bytes[..]).unwrap().messages;
                assert!(messages.len() <= 1, "{messages:?}");
                // The first answer has none: it stands.
                if let Some(message) = messages.first() {
                    return Ok(message.value.to_vec());
                }
            }
        }
    }
}

fn next(stream: &mut Call) -> Vec<u8> {
    try_next(stream).unwrap()
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!(info.domain, "fulmar.dev");
    info.reason.clone()
}

fn metric(brokers: &Brokers, name: &str) -> usize {
    let text = get(brokers.ports[0].http, "/metrics").body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{text}"));
    line.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_publishes_follows_and_looks() {
    let (brokers, _operator) = one().await;
    let address = brokers.ports[0].grpc;
    for (number, kind) in Kind::BOTH.into_iter().enumerate() {
        let text = format!("{kind:?}").into_bytes();
        let published = publish(address, kind, &text).unwrap();
        assert_eq!((published.partition, published.offset), (0, 2 * number as u64 + 1));
        let start = At::Offset(published.offset);
        let mut stream = Call::start(address, kind, SUBSCRIBE, &from(start));
        assert_eq!((stream.status, stream.head["content-type"].to_str().unwrap()), (200, answered(kind)));
        assert_eq!(next(&mut stream), text);
        publish(address, kind, b"behind it").unwrap();
        assert_eq!(next(&mut stream), b"behind it", "while it is open");
        let topic = DescribeTopicRequest { topic: "events".to_owned() };
        let topic: DescribeTopicResponse =
            Call::start(address, kind, "Admin/DescribeTopic", &topic).one().unwrap();
        assert_eq!(topic.partitions[0].high_watermark, 2 * number as u64 + 3);
        let cluster: DescribeClusterResponse =
            Call::start(address, kind, "Admin/DescribeCluster", &DescribeClusterRequest {}).one().unwrap();
        assert_eq!(cluster.cluster_id, CLUSTER);
        let topics: MetadataResponse =
            Call::start(address, kind, "Log/Metadata", &MetadataRequest::default()).one().unwrap();
        assert_eq!(topics.topics[0].name, "events");
        let asked = ListOffsetsRequest { topic: "events".to_owned(), ..ListOffsetsRequest::default() };
        let offsets: ListOffsetsResponse =
            Call::start(address, kind, "Log/ListOffsets", &asked).one().unwrap();
        assert_eq!(offsets.partitions[0].high_watermark, 2 * number as u64 + 3);
    }
}

/// What the answer to such a request says that it is.
fn answered(kind: Kind) -> &'static str {
    match kind {
        Kind::Binary => "application/grpc-web+proto",
        Kind::Text => "application/grpc-web-text+proto",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_carries_its_reason_before_and_after_messages() {
    let (brokers, _operator) = one().await;
    let address = brokers.ports[0].grpc;
    for kind in Kind::BOTH {
        let elsewhere = PublishRequest { topic: "nothing".to_owned(), ..message(b"x") };
        let refused = Call::start(address, kind, PUBLISH, &elsewhere).one::<PublishResponse>().unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "UNKNOWN_TOPIC"));
        let mut stream = Call::start(address, kind, SUBSCRIBE, &from(At::Offset(99)));
        let status = try_next(&mut stream).unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "OFFSET_OUT_OF_RANGE"));
        let unknown = Call::start(address, kind, "PubSub/Nothing", &message(b"x"));
        assert_eq!(unknown.ended().unwrap().code(), Code::Unimplemented);
    }
    // In the body, behind messages: this broker is told to stop.
    let mut streams =
        Kind::BOTH.map(|kind| Call::start(address, kind, SUBSCRIBE, &from(At::Earliest(Earliest {}))));
    publish(address, Kind::Binary, b"one").unwrap();
    for stream in &mut streams {
        assert_eq!(next(stream), b"one");
    }
    brokers.signal(0, rustix::process::Signal::TERM);
    for stream in &mut streams {
        let status = try_next(stream).unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "NOT_SERVING"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_told_although_nobody_reads_the_rest_of_it() {
    let (brokers, _operator) = one().await;
    let ports = brokers.ports[0];
    for kind in Kind::BOTH {
        let large = publish(ports.grpc, kind, &vec![7; MESSAGE_BYTES_MAX + 1]).unwrap_err();
        assert_eq!((large.code(), reason(&large).as_str()), (Code::InvalidArgument, "RECORD_TOO_LARGE"));
        let giant = publish(ports.grpc, kind, &vec![7; REQUEST_BYTES_MAX + 1]).unwrap_err();
        assert!(giant.code() == Code::OutOfRange && giant.message().contains("too large"), "{giant:?}");
    }
    // The same on the port of HTTP, in chunks: it is not known before how large it is.
    let chunk = [format!("{:x}\r\n", 1 << 20).as_bytes(), &vec![7; 1 << 20], b"\r\n"].concat();
    let body = [chunk.repeat(12), b"0\r\n\r\n".to_vec()].concat();
    let giant = send(ports.http, "POST /publish?topic=events HTTP/1.1\r\nTransfer-Encoding: chunked", &body);
    assert!(giant.tells(413, "more than 8388608 bytes"), "{giant:?}");
    // One that waits to be asked is not asked, and told at once.
    let waits = "POST /publish?topic=nothing HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 9000000";
    let refused = send(ports.http, waits, b"");
    assert!(refused.tells(413, "more than 8388608 bytes"), "{refused:?}");
    for kind in Kind::BOTH {
        publish(ports.grpc, kind, b"goes on").unwrap();
    }
}

/// What is answered to a body of this kind.
fn told(address: SocketAddr, kind: Kind, body: &[u8]) -> Status {
    let mut socket = Call::send(address, kind, PUBLISH, body.len());
    socket.write_all(body).unwrap();
    let call = Call::answer(socket, kind);
    let what = String::from_utf8_lossy(body);
    call.one::<PublishResponse>().expect_err(&what)
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_and_harms_nobody() {
    let (brokers, _operator) = one().await;
    let address = brokers.ports[0].grpc;
    let whole = framed(&message(b"v"));
    let (binary, text) =
        (|bytes: &[u8]| told(address, Kind::Binary, bytes), |bytes: &[u8]| told(address, Kind::Text, bytes));
    for status in [
        binary(b""),
        binary(b"\0\0\0"),
        binary(&whole[..whole.len() - 1]),
        binary(&[&[9], &whole[1..]].concat()),
        binary(&[&[0x80], &whole[1..]].concat()),
        binary(b"\0\0\0\0\x03\xff\xff\xff"),
        binary(b"\0\xff\xff\xff\xffx"),
        text(b""),
        text(b"!!!!"),
        text(b"AAA"),
        text(&Kind::Text.written(b"\0\0\0\0\x03\xff\xff\xff")),
        text(&whole),
    ] {
        assert_ne!(status.code(), Code::Ok);
    }
    for (head, expected, words) in [
        ("GET / HTTP/1.1", 415, "content-type: over HTTP/1 this port takes gRPC-web"),
        ("POST /fulmar.v1.PubSub/Publish HTTP/1.1\r\nContent-Type: application/grpc", 415, "gRPC-web"),
        ("POST /fulmar.v1.PubSub/Publish HTTP/1.1\r\nContent-Type: application/json", 415, "8080"),
        ("PUT /fulmar.v1.PubSub/Publish HTTP/1.1\r\nContent-Type: application/grpc-web", 405, "POST alone"),
    ] {
        let answer = send(address, &format!("{head}\r\nContent-Length: 0"), b"");
        assert!(answer.tells(expected, words), "{head}: {answer:?}");
    }
    for kind in Kind::BOTH {
        assert_eq!(
            publish(address, kind, b"first").unwrap().offset,
            if kind == Kind::Binary { 1 } else { 2 }
        );
    }
    brokers.publish(0, &message(b"gRPC itself")).await;
}

/// The memory of a message is taken when its length has come, whatever way the bytes are written.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_sent_by_halves_holds_memory_for_all_of_it() {
    let (brokers, _operator) = one().await;
    let address = brokers.ports[0].grpc;
    for kind in Kind::BOTH {
        let body = kind.written(&framed(&message(&vec![7; 512 * 1024])));
        let mut socket = Call::send(address, kind, PUBLISH, body.len());
        socket.write_all(&body[..400]).unwrap();
        let held = || metric(&brokers, "fulmar_requests_held_bytes");
        eventually("all of it is held", async || held() >= 512 * 1024).await;
        socket.write_all(&body[400..]).unwrap();
        let call = Call::answer(socket, kind);
        call.one::<PublishResponse>().unwrap();
        eventually("nothing is held", async || held() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_does_not_read_its_stream_is_bounded_and_cut_off() {
    let (brokers, _operator) = one().await;
    let address = brokers.ports[0].grpc;
    for number in 0..24u8 {
        publish(address, Kind::Binary, &vec![number; MESSAGE_BYTES_MAX - 1024]).unwrap();
    }
    for kind in Kind::BOTH {
        let body = kind.written(&framed(&from(At::Earliest(Earliest {}))));
        let mut socket = Call::send(address, kind, SUBSCRIBE, body.len());
        socket.write_all(&body).unwrap();
        let held = || metric(&brokers, "fulmar_answers_held_bytes");
        eventually("its answers are held", async || held() > 0).await;
        // 256 Mi: a sixteenth for all, an eighth of that for one, or one piece that is larger.
        assert!(held() <= 3 << 20, "{kind:?}: {}", held());
        eventually("nothing is held any more", async || held() == 0).await;
        let rest = rest_of(&mut socket);
        assert!(rest < 24 << 20, "{kind:?}: it got {rest} bytes and was not cut off");
    }
}

/// How many bytes come until the connection ends.
fn rest_of(socket: &mut TcpStream) -> usize {
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        bytes += count;
    }
    bytes
}

/// HTTP/1 cannot ping: TCP does, or a browser that vanished behind a quiet stream would keep its connection for ever.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_says_nothing_is_asked_after() {
    let (brokers, _operator) = one().await;
    let ports = brokers.ports[0];
    let _stream =
        Call::start(ports.grpc, Kind::Binary, SUBSCRIBE, &from(At::Latest(fulmar_proto::v1::Latest {})));
    let _events = support::http::Events::open(ports.http, "/v1/topics/events/stream", "");
    for port in [ports.grpc.port(), ports.http.port()] {
        // The state 01 is an open connection, and the timer 02 the one that asks.
        let of_port = format!(":{port:04X} ");
        eventually("a timer asks", async || {
            let all = std::fs::read_to_string("/proc/net/tcp").unwrap();
            all.lines().any(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                format!("{} ", fields[1]).ends_with(&of_port)
                    && fields[3] == "01"
                    && fields[5].starts_with("02:")
            })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_brings_it_over_http2() {
    let (brokers, _operator) = one().await;
    let socket = tokio::net::TcpStream::connect(brokers.ports[0].grpc).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("http://broker/fulmar.v1.PubSub/Publish")
        .header("content-type", "application/grpc-web")
        .body(())
        .unwrap();
    let (answer, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(framed(&message(b"v")).into(), true).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/grpc-web+proto");
    let mut body = answer.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        bytes.extend(piece.unwrap());
    }
    let length = usize::from(bytes[4]);
    assert_eq!(PublishResponse::decode(&bytes[5..5 + length]).unwrap().offset, 1);
    assert!(bytes[5 + length] == 0x80 && String::from_utf8_lossy(&bytes).contains("grpc-status:0"));
}
