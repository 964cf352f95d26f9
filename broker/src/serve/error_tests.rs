use super::*;

#[test]
fn a_status_carries_reason_metadata_and_whether_to_retry() {
    let failure = Failure::not_leader("broker 2 leads", "10.0.0.2:50051".to_owned()).with("topic", "orders");
    let status = Status::from(failure.clone());
    assert_eq!(status.code(), Code::Unavailable);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("NOT_LEADER", "fulmar.dev"));
    assert_eq!(info.metadata["topic"], "orders");
    assert!(details.retry_info().is_some());
    let back = Failure::from_status(&status).unwrap();
    assert_eq!((back.reason, back.leader_address), (failure.reason, failure.leader_address));
}

#[test]
fn what_may_be_there_already_is_not_to_be_retried() {
    let status = Status::from(Failure::outcome_unknown());
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.get_error_details().retry_info().is_none());
}

#[test]
fn a_broken_connection_is_no_answer() {
    assert!(Failure::from_status(&Status::unavailable("transport error")).is_none());
}

#[test]
fn a_problem_document_names_reason_and_status() {
    let failure = Failure::new(ErrorReason::UnknownTopic, "there is no topic \"x\"").with("topic", "x");
    let response = failure.into_response();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
}
