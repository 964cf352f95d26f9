//! HTTP: `/publish` for people and scripts, `/v1` for programs, probes, metrics.
//!
//! Owns routes and what they answer to what is not theirs. Every error is an RFC 9457 problem document.

mod body;
mod document;
pub mod fuzzed;
pub mod line;
mod messages;
mod openapi;
mod publish;
mod query;
mod stream;
mod topics;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fulmar_proto::v1::ErrorReason;
use tokio::sync::watch;

use super::Door;
use super::cors::{self, Origins};
use super::error::Failure;

/// How far the broker has come; what probes answer from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The volume is being opened, or followers catch up.
    Starting,
    /// Programs may come.
    Ready,
    /// The operator refuses this volume for ever.
    Refused,
    /// It was told to stop.
    Stopping,
}

/// What HTTP serves: probes from the first moment, the rest once there is a door.
#[derive(Debug, Clone)]
pub struct Http(Arc<Served>);

#[derive(Debug)]
struct Served {
    door: OnceLock<Door>,
    phase: watch::Receiver<Phase>,
}

impl Http {
    /// Without a door yet.
    pub fn new(phase: watch::Receiver<Phase>) -> Self {
        Self(Arc::new(Served { door: OnceLock::new(), phase }))
    }

    /// From now on publishes are taken, by the first door that it is given.
    pub fn open(&self, door: Door) {
        let _only_one = self.0.door.set(door);
    }

    /// The routes. `origins`: whose pages browsers let use what is for programs.
    pub fn router(self, origins: Option<&Origins>) -> Router {
        let mut programs = Router::new()
            .route("/publish", get(publish::publish).post(publish::publish))
            .route("/v1/topics", get(topics::list))
            .route("/v1/topics/{topic}", get(topics::describe))
            .route("/v1/topics/{topic}/messages", get(messages::read).post(messages::publish))
            .route("/v1/topics/{topic}/stream", get(stream::follow))
            .route("/v1/cluster", get(topics::cluster))
            .route("/openapi.json", get(openapi::document))
            .method_not_allowed_fallback(wrong_method);
        if let Some(origins) = origins {
            programs = programs.layer(cors::of_http(origins));
        }
        Router::new()
            .route("/docs", get(openapi::page))
            .route("/metrics", get(metrics))
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/health", get(ready))
            .method_not_allowed_fallback(wrong_method)
            .merge(programs)
            .fallback(unknown)
            .merge(fulmar_logging::route())
            .with_state(self)
    }

    fn door(&self) -> Result<Door, Failure> {
        let starting =
            || Failure::new(ErrorReason::NotServing, "this broker is starting; nothing was appended");
        self.0.door.get().cloned().ok_or_else(starting)
    }
}

async fn metrics(State(http): State<Http>) -> Response {
    let text = http.0.door.get().map(|door| {
        let states: Vec<_> =
            door.shared.replicas.states().all().into_iter().map(|(_, state)| state).collect();
        let is_attached = *door.shared.attached.borrow();
        door.shared.metrics.hold(&door.shared.answers, &door.shared.requests);
        door.shared.metrics.fill(door.shared.replicas.storage().fullness());
        door.shared.metrics.text(&states, is_attached)
    });
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text.unwrap_or_else(|| "# EOF\n".to_owned())).into_response()
}

async fn ready(State(http): State<Http>) -> Response {
    let phase = *http.0.phase.borrow();
    match phase {
        Phase::Ready => (StatusCode::OK, "ok\n").into_response(),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n").into_response(),
        Phase::Refused => (
            StatusCode::SERVICE_UNAVAILABLE,
            "refused: another volume has the place of this one, or it belongs to another Cluster; the log says which\n",
        )
            .into_response(),
        Phase::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response(),
    }
}

async fn unknown(request: Request<Body>) -> Response {
    let message = format!(
        "there is nothing at {}; there are /publish /v1/topics /v1/cluster /docs /openapi.json /metrics /livez /readyz /health",
        request.uri().path()
    );
    Failure::invalid("path", message).into_response_as(StatusCode::NOT_FOUND)
}

async fn wrong_method(request: Request<Body>) -> Response {
    let path = request.uri().path();
    // A HEAD would publish, and nobody expects that of it.
    let allowed = match path {
        "/publish" => "GET, POST",
        path if path.ends_with("/messages") => "GET, HEAD, POST",
        _ => "GET, HEAD",
    };
    let message = format!("{} is not answered at {}, {allowed} are", request.method(), path);
    let mut response = Failure::invalid("method", message).into_response_as(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}
