//! `/publish`: one message, from the query or the body of a POST.

use std::time::Instant;

use axum::Json;
use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::{Method, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use fulmar_proto::v1::PublishRequest;

use super::super::DEADLINE_DEFAULT;
use super::super::carried::Carried;
use super::super::error::Failure;
use super::super::inflow::Received;
use super::document::Published;
use super::{Http, body, query, wrong_method};

/// The parameters of the query.
const PARAMETERS: [&str; 3] = ["topic", "msg", "key"];

/// Publish a message by hand
///
/// The message stands in the query, or is the body of a POST, byte for byte; not both.
#[utoipa::path(
    method(get, post),
    path = "/publish",
    tag = "messages",
    params(
        ("topic" = String, Query, description = "The topic's name"),
        ("msg" = Option<String>, Query, description = "The message"),
        ("key" = Option<String>, Query, description = "Messages with equal keys go to one partition and stay in order"),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context: becomes a header of the message"),
    ),
    responses(
        (status = 200, description = "It is committed", body = Published),
        (status = "default", description = "A problem document (RFC 9457) with a `reason`"),
    )
)]
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
    let (mut received, carried) = (Received::default(), Carried::by(request.headers()));
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
            (value, received) = body::read(&door, request, 1).await?;
            value
        }
        None => {
            let message =
                "msg: the message is needed, ?topic=NAME&msg=TEXT, or a POST with the message as its body";
            return Err(Failure::invalid("msg", message));
        }
    };
    let key = query.remove("key").map(Bytes::from);
    let publish = carried.onto(PublishRequest { topic, key, value, ..PublishRequest::default() });
    Ok(door.publish((publish, received), false, deadline).await?.into())
}
