//! What is a trace's parent, and what is a header like any other.

use opentelemetry::trace::{SpanId, TraceId};
use proptest::prelude::*;

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn sampled_of(headers: &[(&'static str, &[u8])]) -> Option<SpanContext> {
    sampled(headers.iter().copied())
}

#[test]
fn a_sampled_traceparent_names_its_trace_and_its_span() {
    let read = sampled_of(&[("a", b"b"), (TRACEPARENT, PARENT.as_bytes())]).unwrap();
    assert_eq!(read.trace_id(), TraceId::from_hex("0af7651916cd43dd8448eb211c80319c").unwrap());
    assert_eq!(read.span_id(), SpanId::from_hex("b7ad6b7169203331").unwrap());
    assert!(read.is_remote());
    let later = format!("01-{}-more", &PARENT[3..]);
    assert_eq!(sampled_of(&[(TRACEPARENT, later.as_bytes())]), Some(read));
}

#[test]
fn of_two_the_first_counts() {
    let other = PARENT.replace('b', "c");
    let read = sampled_of(&[(TRACEPARENT, PARENT.as_bytes()), (TRACEPARENT, other.as_bytes())]).unwrap();
    assert_eq!(read.span_id(), SpanId::from_hex("b7ad6b7169203331").unwrap());
}

#[test]
fn what_is_not_sampled_is_read_and_not_traced() {
    let parent = PARENT.replace("-01", "-00");
    assert_eq!(sampled_of(&[(TRACEPARENT, parent.as_bytes())]), None);
    assert!(read(parent.as_bytes()).is_some());
}

#[test]
fn what_is_no_traceparent_is_a_header_like_any_other() {
    let long = format!("01-{}-{}", &PARENT[3..], "f".repeat(PARENT_BYTES_MAX));
    let upper = PARENT.to_uppercase();
    let zeros = format!("00-{}-b7ad6b7169203331-01", "0".repeat(32));
    let appended = format!("{PARENT}-more");
    let wrong: [&[u8]; 12] = [
        b"",
        b"-",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        b"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        b"00-0af7-b7ad6b7169203331-zz",
        b"0-1-2-1",
        b"00-+1-+2-+1",
        appended.as_bytes(),
        &[0xff; 55],
        long.as_bytes(),
        upper.as_bytes(),
        zeros.as_bytes(),
    ];
    for parent in wrong {
        assert_eq!(read(parent), None, "{:?}", String::from_utf8_lossy(parent));
    }
}

/// Anything, and a `traceparent` with something else in it.
fn any_parent() -> impl Strategy<Value = Vec<u8>> {
    let spoilt = (any::<prop::sample::Index>(), proptest::collection::vec(any::<u8>(), 0..8)).prop_map(
        |(at, wrong)| {
            let mut bytes = PARENT.as_bytes().to_vec();
            let at = at.index(bytes.len());
            bytes.splice(at..(at + wrong.len()).min(PARENT.len()), wrong);
            bytes
        },
    );
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..140),
        "\\PC{0,140}".prop_map(String::into_bytes),
        spoilt
    ]
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic_and_what_is_taken_has_ids(parent in any_parent()) {
        if let Some(read) = read(&parent) {
            prop_assert!(read.trace_id() != TraceId::INVALID && read.span_id() != SpanId::INVALID);
        }
    }
}
