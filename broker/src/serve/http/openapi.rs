//! The `OpenAPI` document of what HTTP serves, and a page to read and try it.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::OpenApi;

use super::{messages, publish, stream, topics};

/// Publish and read messages of a Fulmar Cluster by HTTP, at any broker. Errors are problem documents (RFC 9457).
#[derive(OpenApi)]
#[openapi(
    info(title = "Fulmar"),
    paths(
        publish::publish,
        messages::publish,
        messages::read,
        stream::follow,
        topics::list,
        topics::describe,
        topics::cluster,
    ),
    tags(
        (name = "messages", description = "Publish and read"),
        (name = "topics", description = "What topics there are"),
        (name = "cluster", description = "What brokers there are"),
    ),
)]
struct Document;

static TEXT: LazyLock<String> =
    LazyLock::new(|| Document::openapi().to_pretty_json().expect("a document of our own is JSON"));

pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}

/// One file without anything from elsewhere: a cluster may have no way out.
pub(super) async fn page() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], include_str!("docs.html"))
}
