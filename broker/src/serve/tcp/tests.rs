use std::collections::BTreeMap;

use bytes::{BufMut, Bytes};
use fulmar_proto::v1::start::At;
use fulmar_proto::v1::{Earliest, ErrorReason, Header, Message, PublishRequest, PublishResponse};
use proptest::prelude::*;

use super::fields::{NONE, put_bytes, put_optional_bytes};
use super::frame::{BODY_BYTES_MAX, CRC_BYTES, FrameError, HEAD_BYTES, Head, body, frame};
use super::request::{Placement, Request, sha256};
use super::{Failure, answer, kind};

const PAGE: &str = include_str!("../../../../docs/protocol.md");

/// The frames of the page, by their names.
fn examples() -> BTreeMap<&'static str, Vec<u8>> {
    let blocks = PAGE.split("```hex ").skip(1).map(|block| {
        let (name, rest) = block.split_once('\n').unwrap();
        let hex = rest.split_once("```").unwrap().0;
        let byte = |digits| u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{name}: {digits}"));
        (name, hex.split_whitespace().map(byte).collect())
    });
    blocks.collect()
}

fn told(frame: &[u8]) -> String {
    let bytes: Vec<String> = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(" ")
}

fn read(frame: &[u8]) -> (Head, Result<Bytes, FrameError>) {
    let head_bytes = frame[..HEAD_BYTES].try_into().unwrap();
    let head = Head::parse(&head_bytes).unwrap();
    assert_eq!(frame.len(), HEAD_BYTES + head.rest());
    (head, body(&head_bytes, Bytes::copy_from_slice(&frame[HEAD_BYTES..])))
}

fn request(frame: &[u8]) -> (u32, Request) {
    let (head, body) = read(frame);
    (head.correlation, Request::parse(head.kind, body.unwrap()).unwrap())
}

#[test]
fn the_requests_of_the_page_are_read_as_it_says() {
    let page = examples();
    assert_eq!(request(&page["PING"]), (7, Request::Ping("hi".into())));
    let message = PublishRequest {
        key: Some("k".into()),
        value: "hello".into(),
        headers: vec![Header { name: "a".to_owned(), value: "b".into() }],
        ..PublishRequest::default()
    };
    let publish = Request::Publish {
        topic: "events".to_owned(),
        placement: Placement::Default,
        messages: vec![message],
    };
    assert_eq!(request(&page["PUBLISH"]), (1, publish));
    let subscribe =
        Request::Subscribe { topic: "events".to_owned(), partition: None, start: At::Earliest(Earliest {}) };
    assert_eq!(request(&page["SUBSCRIBE"]), (2, subscribe));
    let pull = Request::Pull {
        topic: "events".to_owned(),
        partition: 3,
        start: At::Offset(42),
        max: 10,
        wait_ms: 1000,
    };
    assert_eq!(request(&page["PULL"]), (3, pull));
}

#[test]
fn the_answers_of_the_page_are_written_as_it_says() {
    let page = examples();
    let published = PublishResponse { topic: "events".to_owned(), partition: 3, offset: 42 };
    let message = Message {
        topic: "events".to_owned(),
        partition: 3,
        offset: 42,
        key: Some("k".into()),
        value: "hello".into(),
        headers: vec![Header { name: "a".to_owned(), value: "b".into() }],
        timestamp_ms: 1_700_000_000_000,
        append_time_ms: 1_700_000_000_500,
    };
    let unknown = Failure::new(ErrorReason::UnknownTopic, "there is no topic \"nowhere\"");
    for (name, frame) in [
        ("PONG", answer::pong(7, b"hi")),
        ("PUBLISHED", answer::published(1, &[Ok(published)])),
        ("DELIVERED", answer::delivered(2, &[message])),
        ("PULLED", answer::pulled(3, &[], 42)),
        ("ERROR", answer::error(4, &unknown)),
    ] {
        assert_eq!(told(&page[name]), told(&frame), "{name}");
    }
}

#[test]
fn what_is_no_frame_is_told_by_its_byte() {
    let ping = frame(kind::PING, 1, |out| out.put_slice(b"hi"));
    let head = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = ping.to_vec();
        change(&mut bytes);
        Head::parse(&bytes[..HEAD_BYTES].try_into().unwrap()).unwrap_err()
    };
    assert_eq!(head(&|bytes| bytes[..2].copy_from_slice(b"GE")), FrameError::Magic(b'G', b'E'));
    assert_eq!(head(&|bytes| bytes[2] = 2), FrameError::Version(2));
    let length = u32::try_from(BODY_BYTES_MAX + 1).unwrap();
    let too_long = head(&|bytes| bytes[8..12].copy_from_slice(&length.to_be_bytes()));
    assert_eq!(too_long, FrameError::Length(BODY_BYTES_MAX + 1));
}

#[test]
fn fields_that_are_wrong_are_named_with_their_byte() {
    let refused = |kind, write: &dyn Fn(&mut bytes::BytesMut)| {
        let frame = frame(kind, 1, write);
        let (head, body) = read(&frame);
        Request::parse(head.kind, body.unwrap()).unwrap_err().message
    };
    let said = refused(kind::PUBLISH, &|out| put_bytes(out, b"events"));
    assert_eq!(said, "partition, at byte 10 of the body: it needs 4 bytes, 0 are left");
    let said = refused(kind::SUBSCRIBE, &|out| {
        put_bytes(out, b"\xff");
    });
    assert!(said.starts_with("topic, at byte 4 of the body: it is no UTF-8"), "{said}");
    let said = refused(kind::PUBLISH, &|out| {
        put_bytes(out, b"events");
        out.put_u32(NONE);
        out.put_u8(0);
        out.put_u32(10_000);
    });
    assert!(said.starts_with("messages, at byte 19 of the body: it needs"), "{said}");
    let said = refused(kind::UNSUBSCRIBE, &|out| out.put_u8(0));
    assert!(said.contains("1 bytes are left"), "{said}");
    assert!(refused(0x40, &|_| {}).contains("0x40 is no request"));
}

/// A publish of so many messages with so many headers each, whose names have so many bytes.
fn publish_of(topic: &str, messages: u32, headers: u16, name_bytes: usize) -> Bytes {
    frame(kind::PUBLISH, 1, |out| {
        put_bytes(out, topic.as_bytes());
        out.put_u32(NONE);
        out.put_u8(0);
        out.put_u32(messages);
        for _ in 0..messages {
            out.put_i64(0);
            out.put_u32(NONE);
            out.put_u16(headers);
            for _ in 0..headers {
                put_bytes(out, &vec![b'n'; name_bytes]);
                put_bytes(out, b"");
            }
            put_bytes(out, b"");
        }
    })
}

#[test]
fn a_request_takes_no_more_memory_than_was_counted_for_it_before_it_was_read() {
    for (messages, headers, name_bytes) in [
        (1, 0, 0),
        (3, 0, 0),
        (10_000, 0, 0),
        (1, 3, 0),
        (39, 256, 0),
        (1, 1, 4 << 20),
        (1, 1, 1 << 20),
        (10, 256, 400),
    ] {
        super::fuzzed::frame(&publish_of("events", messages, headers, name_bytes));
    }
    super::fuzzed::frame(&publish_of(&"t".repeat(4 << 20), 1, 0, 0));
}

#[test]
fn texts_that_are_too_long_are_refused_with_what_is_allowed() {
    let refused = |frame: Bytes| {
        let (head, body) = read(&frame);
        Request::parse(head.kind, body.unwrap()).unwrap_err().message
    };
    let said = refused(publish_of(&"t".repeat(300), 1, 0, 0));
    assert_eq!(said, "topic, at byte 4 of the body: at most 249 bytes, these are 300");
    let said = refused(publish_of("events", 1, 3, 400_000));
    assert!(
        said.starts_with("header's name, at byte")
            && said.ends_with("at most 248576 bytes, these are 400000"),
        "{said}"
    );
}

#[test]
fn sha256_placement_is_what_the_page_says() {
    // The digest of "k" begins with 8254c329a92850f6.
    assert_eq!(
        sha256(b"k", u32::MAX),
        u32::try_from(0x8254_c329_a928_50f6_u64 % u64::from(u32::MAX)).unwrap()
    );
    assert_eq!(sha256(b"k", 1), 0);
}

proptest! {
    #[test]
    fn any_body_is_read_or_refused(kind in 0u8..8, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        // Whatever it says: nothing panics.
        let _verdict = Request::parse(kind, body.into());
    }

    #[test]
    fn a_flipped_bit_is_found(at in 0usize..200, value in proptest::collection::vec(any::<u8>(), 0..60)) {
        let whole = frame(kind::PING, 9, |out| out.put_slice(&value));
        let mut bytes = whole.to_vec();
        let bit = at % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let head_bytes: [u8; HEAD_BYTES] = bytes[..HEAD_BYTES].try_into().unwrap();
        // A length that changed waits for other bytes, and their CRC is no better.
        if let Ok(head) = Head::parse(&head_bytes) && HEAD_BYTES + head.rest() == bytes.len() {
            prop_assert!(body(&head_bytes, Bytes::copy_from_slice(&bytes[HEAD_BYTES..])).is_err());
        }
    }

    #[test]
    fn what_is_published_is_read_back(
        partition in proptest::option::of(0u32..100),
        messages in proptest::collection::vec(
            (proptest::option::of(".{0,9}"), proptest::collection::vec((".{1,5}", ".{0,5}"), 0..3), ".{0,30}", any::<i64>()),
            1..5,
        ),
    ) {
        let whole = frame(kind::PUBLISH, 3, |out| {
            put_bytes(out, b"events");
            out.put_u32(partition.unwrap_or(NONE));
            out.put_u8(1);
            out.put_u32(u32::try_from(messages.len()).unwrap());
            for (key, headers, value, timestamp) in &messages {
                out.put_i64(*timestamp);
                put_optional_bytes(out, key.clone().map(Bytes::from).as_ref());
                out.put_u16(u16::try_from(headers.len()).unwrap());
                for (name, value) in headers {
                    put_bytes(out, name.as_bytes());
                    put_bytes(out, value.as_bytes());
                }
                put_bytes(out, value.as_bytes());
            }
        });
        prop_assert!(whole.len() > HEAD_BYTES + CRC_BYTES);
        let messages = messages.into_iter().map(|(key, headers, value, timestamp)| PublishRequest {
            topic: String::new(),
            key: key.map(Bytes::from),
            value: value.into(),
            headers: headers.into_iter().map(|(name, value)| Header { name, value: value.into() }).collect(),
            timestamp_ms: (timestamp != i64::MIN).then_some(timestamp),
            partition,
        });
        let publish = Request::Publish {
            topic: "events".to_owned(),
            placement: Placement::Sha256,
            messages: messages.collect(),
        };
        prop_assert_eq!(request(&whole), (3, publish));
    }
}
