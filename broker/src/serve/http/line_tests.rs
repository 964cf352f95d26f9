//! What is published of a line.

use bytes::Bytes;
use fulmar_proto::v1::Header;
use proptest::prelude::*;

use super::*;

fn said(line: &str) -> String {
    read(line.as_bytes(), "orders").unwrap_err().message
}

#[test]
fn a_line_that_was_printed_of_a_message_is_a_message_again() {
    let line = br#"{"topic":"a","partition":2,"offset":17,"key":"k","value_base64":"//4=",
        "headers":[{"name":"h","value":"v"}],"timestamp_ms":5,"append_time_ms":6,"topic_id":"0"}"#;
    let expected = PublishRequest {
        topic: "orders".to_owned(),
        key: Some(Bytes::from("k")),
        value: Bytes::from_static(&[0xff, 0xfe]),
        headers: vec![Header { name: "h".to_owned(), value: Bytes::from("v") }],
        timestamp_ms: Some(5),
        partition: Some(2),
    };
    assert_eq!(read(line, "orders").unwrap(), expected);
    let json = read(br#"{"value_json": {"b": 1, "a": [2]}}"#, "orders").unwrap();
    assert_eq!(json.value, r#"{"b":1,"a":[2]}"#);
}

#[test]
fn json_is_published_as_it_is_written_but_for_white_space_between_its_parts() {
    for (written, published) in [
        (
            " [ 123456789012345678901 , 1.10,1e2 , -0, 94.52706955539223 ]",
            "[123456789012345678901,1.10,1e2,-0,94.52706955539223]",
        ),
        (
            "{ \"a b\" :\t\" c  \\\" d \\\\\" , \"\\u00e9 e\":{ } }",
            "{\"a b\":\" c  \\\" d \\\\\",\"\\u00e9 e\":{}}",
        ),
        ("null", "null"),
    ] {
        let line = format!("{{\"value_json\": {written}}}");
        assert_eq!(read(line.as_bytes(), "orders").unwrap().value, published);
    }
    let said = said(r#"{"value_json": [1,]}"#);
    assert!(said.contains("expected value at column 19"), "{said}");
}

#[test]
fn what_is_wrong_with_a_line_is_named() {
    assert!(said("hello").contains("no message in JSON"), "{}", said("hello"));
    assert!(said("[1]").contains("an object"), "{}", said("[1]"));
    assert!(said(r#"{"valeu": "x"}"#).contains("unknown field `valeu`"));
    assert!(said(r#"{"value": "x"} y"#).contains("trailing"));
    assert!(said(r#"{"key": "x"}"#).contains("one of value, value_json and value_base64"));
    assert!(said(r#"{"value": "x", "partition": -1}"#).contains("-1"));
    assert!(said(r#"{"value": "x", "value": "y"}"#).contains("duplicate field"));
    let unnamed = r#"{"value": "x", "headers": [{"name": "", "value": "x"}]}"#;
    assert!(said(unnamed).contains("not empty"), "{}", said(unnamed));
    let hostile = format!(r#"{{"\u001b[2J\n{}": 1}}"#, "x".repeat(100_000));
    let answer = said(&hostile);
    assert!(answer.len() < 400 && answer.contains(r"\u{1b}[2J\n"), "{answer}");
    assert!(said("{").ends_with("at column 1"), "{}", said("{"));
    let header = r#"{"value": "x", "headers": [{"name": "h", "value_base64": "%"}]}"#;
    assert!(said(header).contains("headers[0]"), "{}", said(header));
}

/// JSON of some depth, with texts in which anything may stand.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<i64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into)
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|all| serde_json::Value::Object(all.into_iter().collect()))
        ]
    })
}

proptest! {
    #[test]
    fn json_that_is_spread_out_is_published_close_together(json in any_json()) {
        let line = format!("{{\"value_json\": {json:#}}}");
        prop_assert_eq!(read(line.as_bytes(), "orders").unwrap().value, json.to_string());
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = read(&bytes, "orders");
    }
}
