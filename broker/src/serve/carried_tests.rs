//! What of a request's trace becomes a header of its messages.

use http::HeaderValue;

use super::*;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn carried(value: &'static str) -> Carried {
    let mut headers = HeaderMap::new();
    headers.insert(TRACEPARENT, HeaderValue::from_static(value));
    Carried::by(&headers)
}

fn header(name: &str, value: &'static str) -> Header {
    Header { name: name.to_owned(), value: Bytes::from_static(value.as_bytes()) }
}

#[test]
fn a_traceparent_becomes_the_header_of_a_message_that_has_none() {
    let message = PublishRequest { headers: vec![header("a", "b")], ..PublishRequest::default() };
    let message = carried(PARENT).onto(message);
    assert_eq!(message.headers, [header("a", "b"), header(TRACEPARENT, PARENT)]);
}

#[test]
fn what_a_message_says_itself_stays() {
    let own = vec![header(TRACEPARENT, "its own, whatever it is")];
    let message = PublishRequest { headers: own.clone(), ..PublishRequest::default() };
    assert_eq!(carried(PARENT).onto(message).headers, own);
}

#[test]
fn a_message_is_not_refused_for_it() {
    let full: Vec<Header> = (0..RECORD_HEADERS_MAX).map(|_| header("a", "b")).collect();
    let message = PublishRequest { headers: full.clone(), ..PublishRequest::default() };
    assert_eq!(carried(PARENT).onto(message).headers, full);
}

#[test]
fn what_is_no_traceparent_is_not_passed_on() {
    for carried in [carried("00-nonsense"), carried(""), Carried::by(&HeaderMap::new())] {
        assert_eq!(carried.onto(PublishRequest::default()).headers, []);
    }
}
