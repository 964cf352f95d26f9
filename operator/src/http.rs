//! /livez, /readyz and /metrics.
//!
//! Owns the port. Never: anything that changes something; it is plain text and open to whoever reaches it. (The log level, which is
//! changed here too, answers only on loopback: `fulmar_logging`.)

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::extract::connect_info::{ConnectInfo, Connected};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use fulmar_logging::Ends;
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// What the port tells.
#[derive(Debug, Clone)]
pub struct Told {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether this process does its part: it has reached the API server once. One that waits for the Lease is ready,
    /// or a second replica could never be rolled out.
    pub ready: Arc<AtomicBool>,
}

/// Listens, and serves until the process ends.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(address: SocketAddr, told: Told) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (--http-address, FULMAR_HTTP_ADDRESS)"))?;
    let routes = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(fulmar_logging::route())
        .layer(from_fn(with_ends))
        .with_state(told)
        .into_make_service_with_connect_info::<Accepted>();
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the HTTP port stopped serving");
        }
    });
    Ok(())
}

/// The ends of a connection, if they could still be asked for.
#[derive(Debug, Clone, Copy)]
struct Accepted(Option<Ends>);

impl Connected<IncomingStream<'_, TcpListener>> for Accepted {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let local = stream.io().local_addr();
        Self(local.ok().map(|local| Ends { local, peer: *stream.remote_addr() }))
    }
}

async fn with_ends(
    ConnectInfo(Accepted(ends)): ConnectInfo<Accepted>,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(ends) = ends {
        request.extensions_mut().insert(ends);
    }
    next.run(request).await
}

async fn ready(State(told): State<Told>) -> impl IntoResponse {
    if told.ready.load(Ordering::Relaxed) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the API server was not reached yet\n")
    }
}

async fn metrics(State(told): State<Told>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], told.metrics.text())
}
