//! The trace that a request belongs to, onto its messages: programs' own instruments put it into the request, and readers look
//! for it in the message.
//!
//! Never replaces what a message says itself, and never passes on what is no `traceparent`.

use bytes::Bytes;
use fulmar_core::batch::RECORD_HEADERS_MAX;
use fulmar_proto::v1::{Header, PublishRequest};
use http::HeaderMap;

use crate::traces::parent::{self, TRACEPARENT};

/// A request's `traceparent`, if it has one.
#[derive(Debug, Clone, Default)]
pub(super) struct Carried(Option<Bytes>);

impl Carried {
    /// Of HTTP's headers, or gRPC's metadata, which are the same.
    pub(super) fn by(headers: &HeaderMap) -> Self {
        let given = headers.get(TRACEPARENT).map(http::HeaderValue::as_bytes);
        Self(given.filter(|given| parent::read(given).is_some()).map(Bytes::copy_from_slice))
    }

    /// Becomes a header of this message, unless it has one of its own, or no room for one more.
    pub(super) fn onto(&self, mut message: PublishRequest) -> PublishRequest {
        if let Some(value) = &self.0
            && message.headers.len() < RECORD_HEADERS_MAX
            && message.headers.iter().all(|header| header.name != TRACEPARENT)
        {
            message.headers.push(Header { name: TRACEPARENT.to_owned(), value: value.clone() });
        }
        message
    }
}

#[cfg(test)]
#[path = "carried_tests.rs"]
mod tests;
