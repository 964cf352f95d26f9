//! gRPC-web: how browsers speak gRPC, on gRPC's own port, over HTTP/1 and HTTP/2.
//!
//! Owns which requests are translated, and what is said to those that are neither gRPC nor gRPC-web. The translation is
//! `tonic-web`'s. Never counts memory: behind it requests are gRPC's, and before it answers are what is written.
//!
//! The protocol: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md>.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use axum::response::Response;
use tonic_web::GrpcWebLayer;
use tower::util::service_fn;
use tower::{Layer, ServiceExt};

use super::error::Failure;
use super::outflow::Outflow;

/// The types of bodies that are gRPC-web; the last two are base64, for browsers that read a stream as text only.
const TYPES: [&str; 4] = [
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];
/// How those begin that are base64.
const TEXT: &str = "application/grpc-web-text";

/// What a request speaks.
#[derive(Debug)]
pub(super) enum Spoken {
    /// What gRPC itself takes, or refuses.
    Grpc,
    /// What is translated.
    Web,
    /// Something else; the answer says what there is.
    Neither(Box<Response>),
}

/// Looks at a request's head.
pub(super) fn spoken(request: &Request) -> Spoken {
    let kind = named(request.headers(), header::CONTENT_TYPE);
    if TYPES.contains(&kind) {
        let is_post = request.method() == Method::POST;
        return if is_post { Spoken::Web } else { Spoken::Neither(Box::new(wrong_method())) };
    }
    let is_grpc = request.version() == Version::HTTP_2;
    if is_grpc { Spoken::Grpc } else { Spoken::Neither(Box::new(wrong_type())) }
}

/// Has `serve` answer a gRPC-web request as if it were gRPC's.
pub(super) async fn translated<F>(mut request: Request, serve: impl FnMut(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    if named(request.headers(), header::ACCEPT).starts_with(TEXT)
        && let Some(outflow) = request.extensions_mut().get_mut::<Outflow>()
    {
        outflow.write_base64();
    }
    let mut serve = serve;
    let answering = service_fn(move |request: http::Request<tonic::body::Body>| {
        let answering = serve(request.map(Body::new));
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let Ok(answer) = GrpcWebLayer::new().layer(answering).oneshot(request).await;
    answer.map(Body::new)
}

fn named(headers: &HeaderMap, name: HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn wrong_method() -> Response {
    let failure = Failure::invalid("method", "method: gRPC-web is spoken with POST alone");
    let mut answer = failure.into_response_as(StatusCode::METHOD_NOT_ALLOWED);
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    answer
}

fn wrong_type() -> Response {
    let message = format!(
        "content-type: over HTTP/1 this port takes gRPC-web ({}), over HTTP/2 gRPC too; plain HTTP has a port of its own, 8080 unless the broker was told another",
        TYPES.join(", ")
    );
    let failure = Failure::invalid("content-type", message);
    failure.into_response_as(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}
