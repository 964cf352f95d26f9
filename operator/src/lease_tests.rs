use super::*;

fn candidate(identity: &str) -> Candidate {
    Candidate {
        identity: identity.to_owned(),
        namespace: "fulmar".to_owned(),
        name: "fulmar-operator".to_owned(),
        duration: Duration::from_secs(4),
        renewal: Duration::from_secs(1),
    }
}

fn transitions(lease: &Lease) -> Option<i32> {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions)
}

#[test]
fn taking_over_counts_a_transition_and_renewing_does_not() {
    let first = candidate("a").write(None);
    assert_eq!(transitions(&first), Some(0));
    let renewed = candidate("a").write(Some(&first));
    assert_eq!(transitions(&renewed), Some(0));
    let acquired = |lease: &Lease| lease.spec.clone().and_then(|spec| spec.acquire_time);
    assert_eq!(acquired(&renewed), acquired(&first));
    let taken = candidate("b").write(Some(&renewed));
    assert_eq!(transitions(&taken), Some(1));
    assert_eq!(taken.spec.and_then(|spec| spec.holder_identity).as_deref(), Some("b"));
}

#[test]
fn a_write_is_bound_to_the_version_that_was_read() {
    let mut found = candidate("a").write(None);
    found.metadata.resource_version = Some("41".to_owned());
    assert_eq!(candidate("b").write(Some(&found)).metadata.resource_version.as_deref(), Some("41"));
}
