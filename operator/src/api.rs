//! One call to the API server: its own timeout, and what can come of it.
//!
//! Owns the mapping from kube's errors to what callers decide by, and that they say how long the API server asks to wait. Never: retries;
//! the reconciling task comes again.

use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::http::header::RETRY_AFTER;
use axum::http::{Request, Response};
use kube::Client;
use kube::client::ClientBuilder;
use kube::core::Status;
use kube::core::response::StatusDetails;
use thiserror::Error;
use tower::Service;
use tower::util::AndThenLayer;

/// How long one call may take. A call that hangs longer is given up, and what came of it is unknown.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// No wish to wait is heeded for longer: API servers name no more (`maxRetryAfter` of apiserver's `dropped_requests_tracker.go`), but
/// whatever stands in front of one may name anything.
const REST_MAX: Duration = Duration::from_secs(32);

/// The longest refusal that is read, in bytes. An API server's is a sentence with a few details; one that is longer is none of its own.
const REFUSAL_MAX: usize = 64 * 1024;

/// What came of a call that did not succeed.
#[derive(Debug, Error)]
pub enum ApiError {
    /// The object is not there.
    #[error("{what}: not found")]
    NotFound {
        /// What was tried.
        what: &'static str,
    },
    /// The object has changed since it was read, or exists already.
    #[error("{what}: conflict: {message}")]
    Conflict {
        /// What was tried.
        what: &'static str,
        /// What the API server says.
        message: String,
    },
    /// Not now: the API server or a budget asks to wait.
    #[error("{what}: not now: {message}")]
    NotNow {
        /// What was tried.
        what: &'static str,
        /// What the API server says.
        message: String,
        /// How long it asks to wait, if it says so.
        rest: Option<Duration>,
    },
    /// The API server refuses: trying again the same way gives the same.
    #[error("{what}: refused ({code} {reason}): {message}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// The HTTP status.
        code: u16,
        /// The reason, one word.
        reason: String,
        /// What the API server says.
        message: String,
    },
    /// Whether it was carried out is not known.
    #[error("{what}: outcome unknown: {message}")]
    OutcomeUnknown {
        /// What was tried.
        what: &'static str,
        /// What is known.
        message: String,
    },
}

impl ApiError {
    /// Whether the object was not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether the object was newer than what the caller had read.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }

    /// How long the API server asks to wait before it is asked again. After a call of unknown outcome nobody waits: what came of it is
    /// found out by looking.
    pub fn rest(&self) -> Option<Duration> {
        if let Self::NotNow { rest, .. } = self { *rest } else { None }
    }

    fn from_status(what: &'static str, status: Status) -> Self {
        let rest = rest(&status);
        let Status { code, reason, message, .. } = status;
        match code {
            404 => Self::NotFound { what },
            409 => Self::Conflict { what, message },
            // 410: a listing in parts took so long that its snapshot is gone.
            410 | 429 => Self::NotNow { what, message, rest },
            // 500 may come after etcd took the write; server-side apply of an unknown field is a 500 too, and is shown.
            500.. => Self::OutcomeUnknown { what, message: format!("{code} {reason}: {message}") },
            _ => Self::Refused { what, code, reason, message },
        }
    }
}

/// Waits for a call, at most [`CALL_TIMEOUT`].
pub async fn call<T>(what: &'static str, call: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    call_within(what, CALL_TIMEOUT, call).await
}

/// Waits for a call, at most so long.
pub async fn call_within<T>(
    what: &'static str,
    limit: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(limit, call).await {
        Err(_) => Err(ApiError::OutcomeUnknown { what, message: format!("no answer within {limit:?}") }),
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) => Err(ApiError::from_status(what, *status)),
        Ok(Err(error)) => Err(ApiError::OutcomeUnknown { what, message: error.to_string() }),
    }
}

/// As [`call`]; an object that is not there is `None`.
pub async fn find<T>(
    what: &'static str,
    get: impl Future<Output = kube::Result<T>>,
) -> Result<Option<T>, ApiError> {
    match call(what, get).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// How long a refusal asks to wait before the same is asked again, if it does.
pub fn rest(refusal: &Status) -> Option<Duration> {
    let seconds = refusal.details.as_ref()?.retry_after_seconds;
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)).min(REST_MAX))
}

/// The client, from the pod's service account or, outside, from the kubeconfig.
///
/// # Errors
/// No configuration, or one that cannot be read.
pub async fn client() -> anyhow::Result<Client> {
    let mut config = kube::Config::infer().await?;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.write_timeout = Some(CALL_TIMEOUT);
    // Whoever calls tries again, later and with what is true then. Tries within a call would take a budget's refusal of an eviction, or an API
    // server that has no time, for a call of unknown outcome.
    config.default_retry = false;
    Ok(attentive(ClientBuilder::try_from(config)?))
}

/// A client whose errors say how long the API server asks to wait. It does so in a header, `Retry-After`, and mostly there alone: one
/// that has too much to do (priority and fairness) answers with a plain sentence. kube's errors have the body and no header.
pub(crate) fn attentive<S, B>(builder: ClientBuilder<S>) -> Client
where
    S: Service<Request<kube::client::Body>, Response = Response<B>, Error: Into<BoxError>>,
    S: Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    builder.with_layer(&AndThenLayer::new(with_rest::<B>)).build()
}

/// A refusal with what its header asks for in its body, too; every other answer as it is.
async fn with_rest<B>(answer: Response<B>) -> Result<Response<Body>, BoxError>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let answer = answer.map(Body::new);
    let Some(seconds) = retry_after(&answer) else { return Ok(answer) };
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, REFUSAL_MAX).await?;
    let mut refusal: Status = serde_json::from_slice(&body).unwrap_or_else(|_| {
        let reason = head.status.canonical_reason().unwrap_or_default();
        Status::failure(String::from_utf8_lossy(&body).trim(), reason)
    });
    refusal.code = head.status.as_u16();
    refusal.details.get_or_insert_with(no_details).retry_after_seconds = seconds;
    let body = serde_json::to_vec(&refusal).expect("a Status has texts and numbers");
    Ok(Response::from_parts(head, Body::from(body)))
}

/// In seconds, as API servers give it; a date is nothing that they say.
fn retry_after<B>(answer: &Response<B>) -> Option<u32> {
    let is_refusal = answer.status().is_client_error() || answer.status().is_server_error();
    answer.headers().get(RETRY_AFTER).filter(|_| is_refusal)?.to_str().ok()?.parse().ok()
}

fn no_details() -> StatusDetails {
    let nothing = String::new;
    StatusDetails {
        name: nothing(),
        group: nothing(),
        kind: nothing(),
        uid: nothing(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
