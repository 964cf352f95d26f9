use std::convert::Infallible;

use axum::http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::client::Body;

use super::*;

/// What comes of asking an API server that answers with this.
async fn asked(code: StatusCode, retry_after: Option<&'static str>, text: &'static str) -> ApiError {
    let service = tower::service_fn(move |_: Request<Body>| {
        let answer = Response::builder().status(code);
        let answer = retry_after.into_iter().fold(answer, |answer, after| answer.header(RETRY_AFTER, after));
        let answer = answer.body(Body::from(text.as_bytes().to_vec()));
        async { Ok::<_, Infallible>(answer.expect("a status, a header and a text")) }
    });
    let pods: Api<Pod> = Api::all(attentive(ClientBuilder::new(service, "default")));
    let listed = call("list pods", pods.list(&kube::api::ListParams::default())).await;
    listed.expect_err("it was refused")
}

#[tokio::test]
async fn what_a_refusal_says_and_how_long_it_asks_to_wait_is_known_whatever_its_form() {
    let (plain, status) = (
        "Too many requests, please try again later.\n",
        r#"{"kind": "Status", "status": "Failure", "message": "storage is (re)initializing", "reason": "TooManyRequests", "code": 429}"#,
    );
    for (text, message) in
        [(plain, "Too many requests, please try again later."), (status, "storage is (re)initializing")]
    {
        let refusal = asked(StatusCode::TOO_MANY_REQUESTS, Some("7"), text).await;
        assert_eq!(refusal.rest(), Some(Duration::from_secs(7)), "{refusal:?}");
        assert_eq!(refusal.to_string(), format!("list pods: not now: {message}"));
    }
    // An eviction's, and of API servers that have said it there alone.
    let details =
        r#"{"kind": "Status", "status": "Failure", "code": 429, "details": {"retryAfterSeconds": 3}}"#;
    let refusal = asked(StatusCode::TOO_MANY_REQUESTS, None, details).await;
    assert_eq!(refusal.rest(), Some(Duration::from_secs(3)), "{refusal:?}");
}

#[tokio::test]
async fn nobody_waits_for_ever_nor_where_nothing_is_asked_for() {
    for (asks, rest) in [
        (None, None),
        (Some("0"), None),
        (Some("-1"), None),
        (Some("Wed, 21 Oct 2026 07:28:00 GMT"), None),
        (Some("4294967295"), Some(REST_MAX)),
    ] {
        let refusal = asked(StatusCode::TOO_MANY_REQUESTS, asks, "no").await;
        assert!(matches!(refusal, ApiError::NotNow { .. }), "{refusal:?}");
        assert_eq!(refusal.rest(), rest, "{asks:?}");
    }
}

#[tokio::test]
async fn a_refusal_of_another_kind_stays_what_it_is() {
    assert!(asked(StatusCode::NOT_FOUND, Some("1"), "404 page not found\n").await.is_not_found());
    let unavailable = asked(StatusCode::SERVICE_UNAVAILABLE, Some("1"), "not yet").await;
    assert!(matches!(unavailable, ApiError::OutcomeUnknown { .. }), "{unavailable:?}");
    assert_eq!(unavailable.rest(), None, "it is looked what came of it");
}
