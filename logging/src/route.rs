//! `/log-level`: shows, changes and resets the filter.
//!
//! Owns who may: whoever is inside of the pod already, since it is answered only on loopback. `kubectl exec` and `kubectl port-forward`
//! come from there, so the rights to these decide, and no program in the cluster can make a broker noisy.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use crate::filter::{FILTER_BYTES_MAX, Filter};
use crate::level::{Levels, levels};

/// Where it is.
pub const PATH: &str = "/log-level";

/// How long a change lasts that does not say so.
pub(crate) const CHANGE_DEFAULT: Duration = Duration::from_mins(10);

/// The two ends of a connection; whoever accepts it puts them into the extensions of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Ours.
    pub local: SocketAddr,
    /// The caller's.
    pub peer: SocketAddr,
}

impl Ends {
    /// Both are loopback. A proxy beside the container (a service mesh) may come *from* loopback with what others sent it, but goes to
    /// the pod's address.
    fn are_inside(self) -> bool {
        let is_loopback = |address: SocketAddr| address.ip().to_canonical().is_loopback();
        is_loopback(self.local) && is_loopback(self.peer)
    }
}

/// The route; it acts on what [`install`](crate::install) installed. Without [`Ends`] in a request's extensions it is refused.
pub fn route<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route(PATH, any(|request: Request| answer(levels(), request)))
}

pub(crate) async fn answer(levels: Option<&Levels>, request: Request) -> Response {
    match act(levels, request).await {
        Ok(text) => format!("{text}\n").into_response(),
        Err((StatusCode::METHOD_NOT_ALLOWED, text)) => {
            let allowed = [(header::ALLOW, "GET, HEAD, PUT, DELETE")];
            (StatusCode::METHOD_NOT_ALLOWED, allowed, format!("{text}\n")).into_response()
        }
        Err((status, text)) => (status, format!("{text}\n")).into_response(),
    }
}

async fn act(levels: Option<&Levels>, request: Request) -> Result<String, (StatusCode, String)> {
    let is_inside = request.extensions().get::<Ends>().is_some_and(|ends| ends.are_inside());
    if !is_inside {
        let said = format!(
            "{PATH} answers only on loopback: by kubectl exec, or at 127.0.0.1 through kubectl port-forward"
        );
        return Err((StatusCode::FORBIDDEN, said));
    }
    // Every browser sends it with what changes something, whatever name the page's server gave to 127.0.0.1.
    if request.headers().contains_key(header::ORIGIN) {
        return Err((StatusCode::FORBIDDEN, format!("{PATH} does not answer pages in a browser")));
    }
    let levels =
        levels.ok_or_else(|| (StatusCode::CONFLICT, "this process does not log by itself".to_owned()))?;
    match *request.method() {
        Method::GET | Method::HEAD => {}
        Method::DELETE => levels.reset(),
        Method::PUT => {
            let bad = |why: String| (StatusCode::BAD_REQUEST, why);
            let lasting = lasting(request.uri().query().unwrap_or_default()).map_err(bad)?;
            let filter = filter(request.into_body()).await.map_err(bad)?;
            levels.change(filter, lasting).map_err(|error| bad(error.to_string()))?;
        }
        ref other => {
            let said = format!("{other} is not answered at {PATH}; GET, PUT and DELETE are");
            return Err((StatusCode::METHOD_NOT_ALLOWED, said));
        }
    }
    Ok(levels.describe())
}

/// `for=10m`, or nothing.
fn lasting(query: &str) -> Result<Duration, String> {
    match query.split_once('=') {
        None if query.is_empty() => Ok(CHANGE_DEFAULT),
        Some(("for", text)) => {
            humantime::parse_duration(text).map_err(|error| format!("for={text}: {error}; such as for=10m"))
        }
        _ => Err(format!("{query:?} is no parameter of {PATH}; there is for, such as for=10m")),
    }
}

async fn filter(body: Body) -> Result<Filter, String> {
    let too_long = |_| format!("the filter has more than {FILTER_BYTES_MAX} bytes");
    let bytes = to_bytes(body, FILTER_BYTES_MAX).await.map_err(too_long)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| format!("the filter is no UTF-8: {error}"))?;
    text.parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
#[path = "route_tests.rs"]
mod tests;
