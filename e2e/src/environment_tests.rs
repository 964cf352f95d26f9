//! Which of kubectl's complaints are asked again.

use super::may_pass;

#[test]
fn a_refused_connection_is_tried_again_whatever_was_asked() {
    let said =
        "The connection to the server 10.87.0.1:6443 was refused - did you specify the right host or port?";
    assert!(may_pass(said, &["create", "namespace", "a"]));
    assert!(may_pass(said, &["get", "pods"]));
}

#[test]
fn what_may_have_happened_already_is_not_asked_twice() {
    let said = "error: http2: client connection lost";
    assert!(may_pass(said, &["get", "pods"]));
    assert!(may_pass(said, &["delete", "pod", "a", "--ignore-not-found"]));
    assert!(!may_pass(said, &["delete", "pod", "a"]));
    assert!(!may_pass(said, &["create", "namespace", "a"]));
}

#[test]
fn a_verdict_is_a_verdict() {
    for said in ["Error from server (NotFound): pods \"a\" not found", "Error from server (Forbidden): no"] {
        assert!(!may_pass(said, &["get", "pods"]), "{said}");
    }
}
