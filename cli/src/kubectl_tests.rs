use super::*;

/// That of the current context.
pub(crate) fn run_by(program: impl Into<PathBuf>) -> Kubectl {
    Kubectl { namespace: None, context: None, kubeconfig: None, program: program.into() }
}

/// A program that prints what it is told to.
fn shell(script: &str) -> (Kubectl, [&str; 2]) {
    (run_by("sh"), ["-c", script])
}

#[tokio::test]
async fn of_a_log_the_newest_whole_lines_are_kept() {
    let (kubectl, arguments) = shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done");
    let kept = kubectl.run(&arguments, Bound::End(1000)).await.unwrap();
    let kept = String::from_utf8(kept).unwrap();
    assert!(kept.len() <= 1000 && kept.len() > 980, "{} bytes", kept.len());
    assert!(kept.starts_with("line ") && kept.ends_with("line 19999\n"), "{kept}");
}

#[tokio::test]
async fn a_document_that_is_too_large_is_refused_and_not_waited_for() {
    let (kubectl, arguments) = shell("while :; do echo and so on; done");
    let refused = kubectl.run(&arguments, Bound::Whole(1000)).await.unwrap_err();
    assert_eq!(refused.to_string(), "it has more than 1000 bytes");
}

#[tokio::test]
async fn what_kubectl_says_of_a_failure_is_told_in_a_line() {
    let (kubectl, arguments) =
        shell("echo half; echo 'Error from server (Forbidden):' >&2; echo '  no' >&2; exit 1");
    let refused = kubectl.run(&arguments, Bound::Whole(1000)).await.unwrap_err();
    assert_eq!(refused.to_string(), "Error from server (Forbidden):; no");
    let missing = run_by("/nowhere/kubectl");
    let refused = missing.run(&["version"], Bound::Whole(1)).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("/nowhere/kubectl cannot be run") && refused.contains("--kubectl"),
        "{refused}"
    );
}

#[test]
fn only_the_object_that_was_asked_for_counts_as_not_found() {
    let said = |words: &str| KubectlError::Failed(format!("Error from server (NotFound): {words} not found"));
    assert!(said("services \"orders\"").is_not_found("services", "orders"));
    assert!(!said("services \"orders-eu\"").is_not_found("services", "orders"));
    assert!(!said("pods \"orders\"").is_not_found("services", "orders"));
}
