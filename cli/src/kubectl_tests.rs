use super::*;

/// A program that prints what it is told to.
fn shell(script: &str) -> (Kubectl, [&str; 2]) {
    (Kubectl { kubectl: PathBuf::from("sh"), context: None }, ["-c", script])
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
    let missing = Kubectl { kubectl: PathBuf::from("/nowhere/kubectl"), context: None };
    let refused = missing.run(&["version"], Bound::Whole(1)).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("/nowhere/kubectl cannot be run") && refused.contains("--kubectl"),
        "{refused}"
    );
}
