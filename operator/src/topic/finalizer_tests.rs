use std::convert::Infallible;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;

use super::*;
use crate::topic::claims::claims;
use crate::topic::fixture::topic;

fn claimed(going: bool, held: bool, policy: DeletionPolicy) -> Claimed {
    let topic = topic(
        "orders",
        |topic| {
            topic.spec.deletion_policy = policy;
            topic.metadata.finalizers = held.then(|| vec![FINALIZER_RECORDS.to_owned()]);
            topic.metadata.deletion_timestamp =
                going.then(|| topic.metadata.creation_timestamp.clone()).flatten();
        },
        10,
    );
    claims(&[topic], Some(3)).remove(0)
}

fn settled() -> View {
    View { controller_epoch: 7, ..View::default() }
}

#[test]
fn a_retained_topic_never_has_a_finalizer() {
    let view = settled();
    assert_eq!(step(&claimed(false, false, DeletionPolicy::Retain), Keeper::View(&view)), Step::Keep);
    assert_eq!(step(&claimed(false, true, DeletionPolicy::Retain), Keeper::View(&view)), Step::Lift);
    assert_eq!(step(&claimed(true, true, DeletionPolicy::Retain), Keeper::Busy), Step::Lift);
}

#[test]
fn a_topic_that_deletes_its_records_is_held_until_they_are_gone() {
    assert_eq!(step(&claimed(false, false, DeletionPolicy::Delete), Keeper::Busy), Step::Set);
    let going = claimed(true, true, DeletionPolicy::Delete);
    let mut view = settled();
    view.retained = vec!["orders".to_owned()];
    assert_eq!(step(&going, Keeper::View(&view)), Step::LiftIfNamespaceGoes);
    assert_eq!(step(&going, Keeper::Busy), Step::LiftIfNamespaceGoes);
    assert_eq!(
        step(&going, Keeper::View(&View::default())),
        Step::LiftIfNamespaceGoes,
        "no tenure, no knowledge"
    );
    assert_eq!(step(&going, Keeper::View(&settled())), Step::Lift);
}

#[test]
fn nobody_left_to_delete_the_records_means_that_nothing_is_waited_for() {
    assert_eq!(step(&claimed(true, true, DeletionPolicy::Delete), Keeper::Nobody), Step::Lift);
}

/// Carries the steps out before an API server that answers every request with this status; what it was asked for, by method.
async fn asked(steps: Vec<(Arc<Topic>, Step)>, status: StatusCode) -> (Result<(), ApiError>, Vec<Method>) {
    let methods = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&methods);
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        told.lock().push(request.method().clone());
        async move {
            // Good for a namespace and for a Topic.
            let answer = json!({
                "metadata": {"name": "shop"}, "spec": {"clusterRef": {"name": "orders"}}, "status": {},
            });
            let body = if status.is_success() { answer.to_string() } else { String::new() };
            Ok::<_, Infallible>(
                Response::builder().status(status).body(Body::from(body)).expect("a response"),
            )
        }
    });
    let outcome = carry_out(&Client::new(service, "shop"), steps).await;
    let methods = methods.lock().clone();
    (outcome, methods)
}

fn many(step: Step) -> Vec<(Arc<Topic>, Step)> {
    (0..100).map(|number| (topic(&format!("t{number}"), |_| (), 10), step)).collect()
}

#[tokio::test]
async fn whether_the_namespace_goes_is_asked_once_for_all_topics_that_wait() {
    let (outcome, methods) = asked(many(Step::LiftIfNamespaceGoes), StatusCode::OK).await;
    outcome.unwrap();
    assert_eq!(methods, [Method::GET]);
    // It is gone already.
    let (outcome, methods) = asked(many(Step::LiftIfNamespaceGoes), StatusCode::NOT_FOUND).await;
    outcome.unwrap();
    assert_eq!(methods.len(), 1 + 100);
}

#[tokio::test]
async fn a_topic_that_has_changed_meanwhile_keeps_no_other_from_its_finalizer() {
    let (outcome, methods) = asked(many(Step::Set), StatusCode::CONFLICT).await;
    outcome.unwrap();
    assert_eq!(methods, vec![Method::PATCH; 100]);
}

#[tokio::test]
async fn an_api_server_that_does_not_do_it_ends_the_pass() {
    let (outcome, methods) = asked(many(Step::Set), StatusCode::TOO_MANY_REQUESTS).await;
    assert!(outcome.is_err());
    assert!(methods.len() <= AT_ONCE, "{}", methods.len());
}
