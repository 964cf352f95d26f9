use super::*;

fn ends(local: &str, peer: &str) -> Ends {
    Ends { local: local.parse().unwrap(), peer: peer.parse().unwrap() }
}

fn request(method: &str, target: &str, ends: Option<Ends>, body: &str) -> Request {
    let mut request =
        Request::builder().method(method).uri(target).body(Body::from(body.to_owned())).unwrap();
    if let Some(ends) = ends {
        request.extensions_mut().insert(ends);
    }
    request
}

async fn told(levels: Option<&Levels>, request: Request) -> (u16, String) {
    let answer = answer(levels, request).await;
    let status = answer.status().as_u16();
    let body = to_bytes(answer.into_body(), 4096).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn only_loopback_is_answered_at_both_ends() {
    let levels = Levels::of_nobody("info");
    for (ends, status) in [
        (Some(ends("127.0.0.1:8080", "127.0.0.1:4000")), 200),
        (Some(ends("[::1]:8080", "[::1]:4000")), 200),
        (Some(ends("[::ffff:127.0.0.1]:8080", "[::ffff:127.0.0.1]:4000")), 200),
        (Some(ends("10.0.0.7:8080", "10.0.0.9:4000")), 403),
        // A proxy beside the container, with what came from elsewhere.
        (Some(ends("10.0.0.7:8080", "127.0.0.6:4000")), 403),
        (Some(ends("127.0.0.1:8080", "10.0.0.9:4000")), 403),
        (None, 403),
    ] {
        for method in ["GET", "PUT", "DELETE", "POST"] {
            let (answered, said) = told(Some(&levels), request(method, PATH, ends, "debug")).await;
            let expected = if method == "POST" && status == 200 { 405 } else { status };
            assert_eq!(answered, expected, "{method} {ends:?}: {said}");
        }
    }
    let mut page = request("PUT", PATH, Some(ends("127.0.0.1:8080", "127.0.0.1:4000")), "debug");
    page.headers_mut().insert(header::ORIGIN, "http://example.org".parse().unwrap());
    let (status, said) = told(Some(&levels), page).await;
    assert!(status == 403 && said.contains("browser"), "{said}");
}

#[tokio::test]
async fn a_change_is_told_and_what_is_wrong_with_one_is_named() {
    let levels = Levels::of_nobody("info");
    let inside = Some(ends("127.0.0.1:8080", "127.0.0.1:4000"));
    let (status, said) = told(Some(&levels), request("PUT", "/log-level?for=90s", inside, "debug")).await;
    assert!(status == 200 && said.starts_with("debug for 1m 3") && said.ends_with(", then info\n"), "{said}");
    for (target, body, words) in [
        ("/log-level", "debgu", "directive 1, \"debgu\", is neither a level"),
        ("/log-level", "info,fulmar_broker=loud", "directive 2, \"fulmar_broker=loud\""),
        ("/log-level", "", "the filter is empty"),
        ("/log-level", &"a".repeat(2000), "more than 1024 bytes"),
        ("/log-level?for=soon", "debug", "for=soon: "),
        ("/log-level?for=2h", "debug", "a change lasts 1s to 1h"),
        ("/log-level?until=1", "debug", "\"until=1\" is no parameter"),
    ] {
        let (status, said) = told(Some(&levels), request("PUT", target, inside, body)).await;
        assert!(status == 400 && said.contains(words), "{target} {body}: {said}");
    }
    assert!(levels.describe().starts_with("debug for "), "what was refused changes nothing");
    let (status, said) = told(Some(&levels), request("DELETE", PATH, inside, "")).await;
    assert_eq!((status, said.as_str()), (200, "info, as configured\n"));
    assert_eq!(told(None, request("GET", PATH, inside, "")).await.0, 409);
}
