//! For the fuzzer (`fuzz/`): queries and bodies that programs sent.

use super::{line, messages, query};

const PARAMETERS: [&str; 7] = ["topic", "msg", "key", "offset", "limit", "wait", "partition"];

/// `q` and a query, `j` and a body of JSON, or `l` and a line of it.
pub fn request(bytes: &[u8]) {
    match bytes.split_first() {
        Some((b'q', text)) => {
            if let Ok(text) = std::str::from_utf8(text) {
                query_of(text);
            }
        }
        Some((b'j', body)) => messages::fuzzed(body),
        Some((b'l', line)) => drop(line::read(line, "orders")),
        _ => {}
    }
}

fn query_of(text: &str) {
    let Ok(values) = query::parse(text, &PARAMETERS) else { return };
    for (name, value) in &values {
        assert!(value.len() <= text.len(), "{name}: decoding only shortens");
        let _ = (query::number(name, value), query::start(name, value));
        if let Ok(count) = query::count(name, Some(value), 1, 1000) {
            assert!((1..=1000).contains(&count));
        }
    }
}
