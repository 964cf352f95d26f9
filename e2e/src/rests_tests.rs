use http::{Method, Request};

use super::*;

fn asked(method: Method, target: &str) -> Asked {
    let request = Request::builder().method(method).uri(target).body(()).unwrap();
    Asked::of(&request.into_parts().0)
}

/// Whether it is refused.
fn is_refused(rests: &Rests, asked: &Asked, weather: Treatment) -> bool {
    matches!(rests.treat(asked, || weather), Treatment::TooMany(_))
}

#[test]
fn while_nothing_may_be_read_each_list_watch_and_get_is_refused_and_counted_by_itself() {
    let rests = Rests::new(0);
    let list = asked(Method::GET, "/apis/fulmar.dev/v1alpha1/namespaces/a/topics?limit=500");
    let watch = asked(Method::GET, "/apis/fulmar.dev/v1alpha1/namespaces/a/topics?watch=true");
    assert!(!is_refused(&rests, &list, Treatment::Pass));
    rests.close();
    for asked in [&list, &watch, &list] {
        assert!(is_refused(&rests, asked, Treatment::Pass));
    }
    assert_eq!((rests.times("topics"), rests.times("pods")), (2, 0));
    rests.open();
    assert!(!is_refused(&rests, &list, Treatment::Pass));
    rests.close();
    assert_eq!(rests.times("topics"), 0, "it is counted anew");
    rests.check().unwrap();
}

#[test]
fn who_comes_back_before_it_was_to_is_named() {
    let rests = Rests::new(60);
    let (one, other) =
        (asked(Method::GET, "/api/v1/pods?limit=1"), asked(Method::GET, "/api/v1/pods?limit=2"));
    rests.close();
    assert!(is_refused(&rests, &one, Treatment::Pass) && is_refused(&rests, &other, Treatment::Pass));
    rests.check().unwrap();
    rests.open();
    assert!(!is_refused(&rests, &one, Treatment::Pass));
    let named = rests.check().unwrap_err().to_string();
    assert!(named.contains("/api/v1/pods?limit=1") && !named.contains("limit=2"), "{named}");
    // The weather may ask for it, too.
    let rests = Rests::new(0);
    for _ in 0..2 {
        assert!(is_refused(&rests, &one, Treatment::TooMany(60)));
    }
    rests.check().unwrap_err();
}

#[test]
fn writes_and_the_lease_have_a_pace_of_their_own() {
    let rests = Rests::new(60);
    rests.close();
    let write = asked(Method::PUT, "/api/v1/namespaces/a/pods/one");
    let lease = asked(Method::GET, "/apis/coordination.k8s.io/v1/namespaces/a/leases/fulmar");
    for asked in [&write, &lease] {
        assert!(!is_refused(&rests, asked, Treatment::Pass));
        for _ in 0..2 {
            assert!(is_refused(&rests, asked, Treatment::TooMany(60)));
        }
    }
    rests.check().unwrap();
}
