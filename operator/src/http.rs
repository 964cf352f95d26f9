//! /livez, /readyz and /metrics.
//!
//! Owns the port. Never: anything that changes something; it is plain text and open to whoever reaches it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
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
        .with_state(told);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the HTTP port stopped serving");
        }
    });
    Ok(())
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
