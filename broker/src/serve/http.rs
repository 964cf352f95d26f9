//! HTTP: `/publish` for people and scripts, probes, metrics. Plain text by design: probes and metrics stay so.

use std::sync::Arc;
use std::time::Instant;

use axum::body::{Body, to_bytes};
use axum::extract::{Query, State};
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use fulmar_core::batch::BATCH_BYTES_MAX;
use fulmar_proto::v1::{ErrorReason, PublishRequest};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::error::Failure;
use super::{DEADLINE_DEFAULT, Door};

/// How far the broker has come; what probes answer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The volume is being opened, or followers catch up.
    Starting,
    /// Programs may come.
    Ready,
    /// It was told to stop.
    Stopping,
}

/// What HTTP serves: probes from the first moment, the rest once there is a door.
#[derive(Debug, Clone)]
pub struct Http {
    door: Arc<RwLock<Option<Door>>>,
    phase: watch::Receiver<Phase>,
}

impl Http {
    /// Without a door yet.
    pub fn new(phase: watch::Receiver<Phase>) -> Self {
        Self { door: Arc::default(), phase }
    }

    /// From now on publishes are taken.
    pub fn open(&self, door: Door) {
        *self.door.write() = Some(door);
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/publish", get(publish).post(publish))
            .route("/metrics", get(metrics))
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/health", get(ready))
            .fallback(unknown)
            .method_not_allowed_fallback(wrong_method)
            .with_state(self)
    }

    fn door(&self) -> Result<Door, Failure> {
        let starting =
            || Failure::new(ErrorReason::NotServing, "this broker is starting; nothing was appended");
        self.door.read().clone().ok_or_else(starting)
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublishQuery {
    topic: Option<String>,
    msg: Option<String>,
    key: Option<String>,
}

#[derive(Debug, Serialize)]
struct Published {
    topic: String,
    partition: u32,
    offset: u64,
}

/// `?topic=&msg=[&key=]`; a POST may carry the message as its body instead.
async fn publish(State(http): State<Http>, request: Request<Body>) -> Result<Json<Published>, Failure> {
    let deadline = Instant::now() + DEADLINE_DEFAULT;
    let query = Query::<PublishQuery>::try_from_uri(request.uri());
    let Query(query) = query.map_err(|error| {
        Failure::invalid("query", format!("the query is topic=&msg=[&key=]: {}", error.body_text()))
    })?;
    let topic = query.topic.ok_or_else(|| {
        Failure::invalid("topic", "topic: the name of a topic is needed, ?topic=NAME&msg=TEXT")
    })?;
    let value = match query.msg {
        Some(message) => Bytes::from(message),
        None if request.method() == axum::http::Method::POST => body(request).await?,
        None => return Err(Failure::invalid("msg", "msg: the message is needed, ?topic=NAME&msg=TEXT")),
    };
    let publish =
        PublishRequest { topic, key: query.key.map(Bytes::from), value, ..PublishRequest::default() };
    let published = http.door()?.publish(publish, false, deadline).await?;
    Ok(Json(Published { topic: published.topic, partition: published.partition, offset: published.offset }))
}

async fn body(request: Request<Body>) -> Result<Bytes, Failure> {
    let limit = BATCH_BYTES_MAX;
    let too_large = |_| {
        Failure::new(
            ErrorReason::RecordTooLarge,
            format!("the body has more than {limit} bytes, or did not arrive whole"),
        )
        .with("limit", limit)
    };
    tokio::time::timeout(DEADLINE_DEFAULT, to_bytes(request.into_body(), limit))
        .await
        .map_err(|_| Failure::invalid("body", "the body did not arrive in time"))?
        .map_err(too_large)
}

async fn metrics(State(http): State<Http>) -> Response {
    let text = http.door.read().as_ref().map(|door| {
        let states: Vec<_> =
            door.shared.replicas.states().all().into_iter().map(|(_, state)| state).collect();
        let is_attached = *door.shared.attached.borrow();
        door.shared.metrics.text(&states, is_attached)
    });
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text.unwrap_or_else(|| "# EOF\n".to_owned())).into_response()
}

async fn ready(State(http): State<Http>) -> Response {
    let phase = *http.phase.borrow();
    match phase {
        Phase::Ready => (StatusCode::OK, "ok\n").into_response(),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
        Phase::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response(),
    }
}

async fn unknown(request: Request<Body>) -> Response {
    let message = format!(
        "there is nothing at {}; there are /publish /metrics /livez /readyz /health",
        request.uri().path()
    );
    let mut response = Failure::invalid("path", message).into_response();
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

async fn wrong_method(request: Request<Body>) -> Response {
    let message = format!("{} is not answered at {}", request.method(), request.uri().path());
    let mut response = Failure::invalid("method", message).into_response();
    *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
    response
}
