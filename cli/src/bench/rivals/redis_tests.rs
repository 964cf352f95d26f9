use redis::Value;

use super::{entries, entry_of};

fn text(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn entry(id: &str, value: &str) -> Value {
    Value::Array(vec![text(id), Value::Array(vec![text("v"), text(value)])])
}

#[test]
fn the_entries_of_an_answer_are_read_in_order() {
    let list = vec![entry("1-0", "a"), entry("1-1", "b")];
    let answer = Value::Array(vec![Value::Array(vec![text("key"), Value::Array(list)])]);
    let read: Vec<_> = entries(answer).unwrap().into_iter().map(|entry| entry_of(entry).unwrap()).collect();
    assert_eq!(read, [("1-0".to_owned(), b"a".to_vec()), ("1-1".to_owned(), b"b".to_vec())]);
}

#[test]
fn an_answer_of_another_shape_is_refused() {
    for answer in [Value::Nil, Value::Int(1), Value::Array(vec![]), Value::Array(vec![text("key")])] {
        assert!(entries(answer.clone()).is_none(), "{answer:?}");
    }
    for odd in [text("1-0"), Value::Array(vec![text("1-0")]), Value::Array(vec![])] {
        assert!(entry_of(odd.clone()).is_none(), "{odd:?}");
    }
}
