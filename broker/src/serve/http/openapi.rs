//! The `OpenAPI` document of what HTTP serves, and a page to read and try it.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::header;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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
const PAGE: &str = include_str!("docs.html");

/// What the page may do: its own script and style, known by their hashes, and asking this broker.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |name: &str| {
        let (_, rest) = PAGE.split_once(&format!("<{name}>")).expect("the page has it once");
        let (content, _) = rest.split_once(&format!("</{name}>")).expect("and its end");
        STANDARD.encode(digest(&SHA256, content.as_bytes()))
    };
    let (script, style) = (hash("script"), hash("style"));
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

pub(super) async fn page() -> impl IntoResponse {
    let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    ([kind, (header::CONTENT_SECURITY_POLICY, POLICY.as_str())], PAGE)
}
