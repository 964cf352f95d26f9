//! `/publish`: one message, from the query or the body of a POST.

use std::time::Instant;

use axum::Json;
use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::State;
use axum::http::{Method, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fulmar_core::batch::BATCH_BYTES_MAX;
use fulmar_proto::v1::{ErrorReason, PublishRequest};
use serde::Serialize;
use tokio::time::timeout;

use super::super::error::Failure;
use super::super::inflow::Received;
use super::super::{DEADLINE_DEFAULT, Door};
use super::{Http, query, wrong_method};

/// The parameters of the query.
const PARAMETERS: [&str; 3] = ["topic", "msg", "key"];

#[derive(Debug, Serialize)]
struct Published {
    topic: String,
    partition: u32,
    offset: u64,
}

/// `?topic=&msg=[&key=]`; a POST may carry the message as its body instead, as it is.
pub(super) async fn publish(State(http): State<Http>, request: Request<Body>) -> Response {
    if request.method() == Method::HEAD {
        return wrong_method(request).await;
    }
    match take(http, request).await {
        Ok(published) => Json(published).into_response(),
        Err(failure) => failure.into_response(),
    }
}

async fn take(http: Http, request: Request<Body>) -> Result<Published, Failure> {
    let deadline = Instant::now() + DEADLINE_DEFAULT;
    let mut query = query::parse(request.uri().query().unwrap_or_default(), &PARAMETERS)?;
    let topic = query.remove("topic").ok_or_else(|| {
        Failure::invalid("topic", "topic: the name of a topic is needed, ?topic=NAME&msg=TEXT")
    })?;
    let is_post = request.method() == Method::POST;
    let door = http.door()?;
    let mut received = Received::default();
    let value = match query.remove("msg") {
        Some(_) if is_post && !request.body().is_end_stream() => {
            return Err(Failure::invalid(
                "msg",
                "msg: the message is in the query or in the body, not in both",
            ));
        }
        Some(message) => Bytes::from(message),
        None if is_post => {
            let value;
            (value, received) = body(&door, request).await?;
            value
        }
        None => {
            let message =
                "msg: the message is needed, ?topic=NAME&msg=TEXT, or a POST with the message as its body";
            return Err(Failure::invalid("msg", message));
        }
    };
    let key = query.remove("key").map(Bytes::from);
    let publish = PublishRequest { topic, key, value, ..PublishRequest::default() };
    let published = door.publish((publish, received), false, deadline).await?;
    Ok(Published { topic: published.topic, partition: published.partition, offset: published.offset })
}

/// The whole body and its memory, which is taken first. One that says that it is too large is refused before it is sent.
async fn body(door: &Door, request: Request<Body>) -> Result<(Bytes, Received), Failure> {
    let limit = BATCH_BYTES_MAX;
    let too_large = || {
        let message = format!("body: it has more than {limit} bytes, the most that any topic takes");
        Failure::new(ErrorReason::RecordTooLarge, message).with("limit", limit)
    };
    let body = request.into_body();
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let says = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let received = Received::alone(&door.shared.requests, says.unwrap_or(limit).min(limit)).await?;
    let read = timeout(DEADLINE_DEFAULT, to_bytes(body, limit)).await;
    let late = |_| Failure::invalid("body", format!("body: it did not arrive within {DEADLINE_DEFAULT:?}"));
    let bytes = read.map_err(late)?.map_err(|error| {
        let is_too_large = std::error::Error::source(&error)
            .is_some_and(|source| source.to_string().contains("length limit exceeded"));
        if is_too_large {
            return too_large();
        }
        Failure::invalid("body", format!("body: it did not arrive whole: {error}"))
    })?;
    Ok((bytes, received))
}
