//! Whose trace a record belongs to: its header `traceparent` (<https://www.w3.org/TR/trace-context/>), read by OpenTelemetry's
//! own reader.
//!
//! Never fails: what is no `traceparent` is a header like any other.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// The header's name, in records as in HTTP; in records in this case only.
pub const TRACEPARENT: &str = "traceparent";
/// Version, trace, span and flags with what is between them; versions to come may append to that.
const PARENT_BYTES: usize = 55;
/// Longer ones are not read, so that nobody's header costs more than that.
const PARENT_BYTES_MAX: usize = 128;

struct Carrier<'a>(&'a str);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == TRACEPARENT).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// The span that a `traceparent` names; `None` if it is none. Without its `tracestate`: that may be thirty times as large, and
/// readers find it in the message.
pub fn read(parent: &[u8]) -> Option<SpanContext> {
    let text = std::str::from_utf8(parent).ok().filter(|text| has_its_form(text.as_bytes()))?;
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Carrier(text));
    let read = context.span().span_context().clone();
    read.is_valid().then_some(read)
}

/// OpenTelemetry's reader takes ids of any length, and signs before them.
fn has_its_form(bytes: &[u8]) -> bool {
    let is_in_place = |(at, byte): (usize, &u8)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    let (Some(known), more) = (bytes.get(..PARENT_BYTES), bytes.get(PARENT_BYTES..).unwrap_or_default())
    else {
        return false;
    };
    let may_be_longer = !known.starts_with(b"00") && more.starts_with(b"-");
    bytes.len() <= PARENT_BYTES_MAX
        && known.iter().enumerate().all(is_in_place)
        && (more.is_empty() || may_be_longer)
}

/// The span that a record's headers name, if its trace is sampled.
pub(super) fn sampled<'a>(mut headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<SpanContext> {
    let (_, parent) = headers.find(|(name, _)| *name == TRACEPARENT)?;
    read(parent).filter(SpanContext::is_sampled)
}

#[cfg(test)]
#[path = "parent_tests.rs"]
mod tests;
