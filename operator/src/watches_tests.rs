use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Instant;

use axum::body::Body;
use axum::http::header::RETRY_AFTER;
use axum::http::{Request, Response, StatusCode};
use tokio::sync::mpsc;

use super::*;

struct Nobody;

impl Waker for Nobody {
    fn wake(&self, _: Wake) {}
}

/// The paths that are asked for when the watches start, until there are so many.
async fn asked(scopes: &[Option<String>], read_nodes: bool, expected: usize) -> BTreeSet<String> {
    let (tell, mut told) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let _told = tell.send(request.uri().path().to_owned());
        async {
            let forbidden = Response::builder().status(StatusCode::FORBIDDEN).body(Body::empty());
            Ok::<_, Infallible>(forbidden.expect("a status and no body"))
        }
    });
    let client = Client::new(service, "default");
    let (watches, waker): (_, Arc<dyn Waker>) = (Arc::new(Watches::default()), Arc::new(Nobody));
    let tasks = start(&client, &watches, scopes, read_nodes, &waker);
    assert_eq!(tasks.len(), expected);
    let mut paths = BTreeSet::new();
    // A refused one is asked for again, so this ends only by the others coming.
    while paths.len() < expected {
        let path = tokio::time::timeout(Duration::from_mins(1), told.recv()).await;
        paths.insert(path.expect("every watch asks").expect("the watches live"));
    }
    paths
}

#[tokio::test]
async fn with_namespaces_and_without_nodes_nothing_is_asked_of_the_whole_cluster() {
    let scopes = [Some("a".to_owned()), Some("b".to_owned())];
    let paths = asked(&scopes, false, 20).await;
    for path in &paths {
        assert!(path.contains("/namespaces/a/") || path.contains("/namespaces/b/"), "{path}");
    }
    assert!(paths.contains("/apis/fulmar.dev/v1alpha1/namespaces/b/topics"), "{paths:?}");
}

#[tokio::test]
async fn nodes_are_the_only_thing_that_is_asked_of_the_whole_cluster_for_one_namespace() {
    let paths = asked(&[Some("a".to_owned())], true, 11).await;
    let everywhere: Vec<_> = paths.iter().filter(|path| !path.contains("/namespaces/a/")).collect();
    assert_eq!(everywhere, ["/api/v1/nodes"]);
}

#[tokio::test]
async fn what_is_too_old_to_go_on_from_is_listed_anew_also_where_the_watch_is_refused_as_a_whole() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
        let (code, text) = if is_watch {
            (StatusCode::GONE, r#"{"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410}"#)
        } else {
            let _told = tell.send(());
            (StatusCode::OK, r#"{"metadata": {"resourceVersion": "41"}, "items": []}"#)
        };
        let answer = Response::builder().status(code).body(Body::from(text));
        async { Ok::<_, Infallible>(answer.expect("a status and a text")) }
    });
    let topics: Api<Topic> = Api::all(Client::new(service, "default"));
    let following = tokio::spawn(async move { follow(topics, "", |_| ()).await });
    for _ in 0..2 {
        let listed = tokio::time::timeout(Duration::from_mins(1), told.recv()).await;
        listed.expect("it is listed again").expect("the watch lives");
    }
    following.abort();
}

#[tokio::test]
async fn what_the_api_server_has_no_time_for_is_not_asked_for_again_before_it_says() {
    for is_list_refused in [true, false] {
        let (tell, mut told) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let is_watch = request.uri().query().is_some_and(|query| query.contains("watch=true"));
            let answer = if is_watch || is_list_refused {
                let _told = tell.send(Instant::now());
                let answer =
                    Response::builder().status(StatusCode::TOO_MANY_REQUESTS).header(RETRY_AFTER, "2");
                answer.body(Body::from("Too many requests, please try again later."))
            } else {
                Response::builder()
                    .body(Body::from(r#"{"metadata": {"resourceVersion": "41"}, "items": []}"#))
            };
            async { Ok::<_, Infallible>(answer.expect("a status, a header and a text")) }
        });
        let topics: Api<Topic> =
            Api::all(api::attentive(kube::client::ClientBuilder::new(service, "default")));
        let following = tokio::spawn(async move { follow(topics, "", |_| ()).await });
        let mut times = Vec::new();
        for _ in 0..2 {
            let asked = tokio::time::timeout(Duration::from_mins(1), told.recv()).await;
            times.push(asked.expect("it is asked for").expect("the watch lives"));
        }
        following.abort();
        // The watcher itself would come back after 0.8 s to 1.6 s.
        let rest = times[1] - times[0];
        assert!(rest >= Duration::from_secs(2), "list: {is_list_refused}, again after {rest:?}");
    }
}
