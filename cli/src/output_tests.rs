use serde_json::{Map, json};

use super::{base64, put_bytes, table};

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
    assert_eq!(serde_json::Value::from(object), json!({"key": "k", "value_base64": "//4="}));
}

#[test]
fn a_table_has_no_blanks_at_its_ends() {
    let text = table(["A", "LONGER"], [["1".to_owned(), "2".to_owned()]]);
    assert_eq!(text.lines().count(), 2);
    assert!(text.lines().all(|line| line == line.trim()));
}
