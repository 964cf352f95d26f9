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
/// What tracing systems add to it.
const TRACESTATE: &str = "tracestate";

/// 55 bytes are version, ids and flags; later versions may append to them. Longer ones are not read, so that nobody's header
/// costs more than that.
const TRACEPARENT_BYTES_MAX: usize = 128;
/// What everybody has to pass on, says the standard; of a longer one nothing is kept.
const TRACESTATE_BYTES_MAX: usize = 512;

struct Carrier<'a> {
    parent: &'a str,
    state: Option<&'a str>,
}

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            TRACEPARENT => Some(self.parent),
            TRACESTATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

/// The span that a `traceparent` names; `None` if it is none.
pub fn read(parent: &[u8], state: Option<&[u8]>) -> Option<SpanContext> {
    let carrier = Carrier {
        parent: text(parent, TRACEPARENT_BYTES_MAX)?,
        state: state.and_then(|state| text(state, TRACESTATE_BYTES_MAX)),
    };
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let read = context.span().span_context().clone();
    read.is_valid().then_some(read)
}

/// The span that a record's headers name, if its trace is sampled.
pub(super) fn sampled<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<SpanContext> {
    let (mut parent, mut state) = (None, None);
    for (name, value) in headers {
        match name {
            TRACEPARENT => parent = parent.or(Some(value)),
            TRACESTATE => state = state.or(Some(value)),
            _ => {}
        }
    }
    read(parent?, state).filter(SpanContext::is_sampled)
}

fn text(bytes: &[u8], bytes_max: usize) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| text.len() <= bytes_max)
}

#[cfg(test)]
#[path = "parent_tests.rs"]
mod tests;
