use bytes::Bytes;
use fulmar_core::batch::RecordHeader;
use fulmar_core::id::{PartitionKey, TopicId};
use fulmar_core::offset::Offset;

use super::*;

#[test]
fn base64_is_that_of_rfc_4648() {
    let examples = [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("foobar", "Zm9vYmFy"),
    ];
    for (plain, encoded) in examples {
        assert_eq!(base64(plain.as_bytes()), encoded);
    }
}

#[test]
fn bytes_that_are_no_text_are_shown_as_base64() {
    let mut object = Map::new();
    put_bytes(&mut object, "key", b"k");
    put_bytes(&mut object, "value", &[0xff, 0xfe]);
    assert_eq!(Value::from(object), json!({"key": "k", "value_base64": "//4="}));
}

#[test]
fn a_record_that_was_set_aside_is_a_line_with_all_that_it_had() {
    let key = PartitionKey { topic: TopicId(7), partition: 3 };
    let header = RecordHeader { name: "trace".to_owned(), value: Bytes::from_static(b"\x00\xff") };
    let record = Record {
        key: Some(Bytes::new()),
        value: Bytes::from_static(b"v"),
        headers: vec![header],
        timestamp_ms: -1,
    };
    let shown = line(&Salvaged::Record { key, offset: Offset(21), append_time_ms: 5, record });
    let expected = json!({
        "topic_id": TopicId(7).to_string(), "partition": 3, "offset": 21, "append_time_ms": 5,
        "key": "", "value": "v", "headers": [{"name": "trace", "value_base64": "AP8="}], "timestamp_ms": -1,
    });
    assert_eq!(shown, expected);
}
