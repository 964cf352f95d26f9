//! One call to the API server: its own timeout, and what can come of it.
//!
//! Owns the mapping from kube's errors to what callers decide by. Never: retries; the reconciling task comes again.

use std::time::Duration;

use kube::Client;
use kube::core::Status;
use thiserror::Error;

/// How long one call may take. A call that hangs longer is given up, and what came of it is unknown.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

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

    fn from_status(what: &'static str, status: Status) -> Self {
        let Status { code, reason, message, .. } = status;
        match code {
            404 => Self::NotFound { what },
            409 => Self::Conflict { what, message },
            // 410: a listing in parts took so long that its snapshot is gone.
            410 | 429 => Self::NotNow { what, message },
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
    Ok(Client::try_from(config)?)
}
