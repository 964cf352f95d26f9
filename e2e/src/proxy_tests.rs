use std::process::Command;

use super::*;

/// What was carried out.
type Log = Arc<Mutex<Vec<String>>>;

/// A proxy in front of an API server that answers everything, a watch with a line, and no end; an operator that waits for its death;
/// and a client of it.
async fn scene(treatment: Treatment) -> (Proxy, Client, Log) {
    let log = Log::default();
    let seen = Arc::clone(&log);
    let server = tower::service_fn(move |request: Request<kube::client::Body>| {
        unpoisoned(&seen).push(format!("{} {}", request.method(), request.uri().path()));
        let line = futures::stream::iter([Ok::<_, std::convert::Infallible>("a line that is long enough\n")]);
        let body = match request.uri().query() {
            Some("watch=true") => Body::from_stream(line.chain(futures::stream::pending())),
            _ => Body::from("{}"),
        };
        async { Ok::<_, std::convert::Infallible>(Response::new(body)) }
    });
    let proxy = Proxy::in_front_of(Client::new(server, "default")).await.unwrap();
    proxy.belongs_to(Command::new("sleep").arg("600").spawn().unwrap());
    proxy.let_it_be(move |_| treatment);
    let mut config = Config::new(proxy.url().parse().unwrap());
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    (proxy, client, log)
}

async fn ask(client: &Client, method: Method, path: &str) -> kube::Result<Response<kube::client::Body>> {
    let request = Request::builder().method(method).uri(path).body(kube::client::Body::empty()).unwrap();
    client.send(request).await
}

#[tokio::test]
async fn in_calm_weather_everything_is_carried_out_answered_and_counted() {
    let (proxy, client, log) = scene(Treatment::Pass).await;
    for method in [Method::GET, Method::POST] {
        assert_eq!(ask(&client, method, "/api/v1/pods").await.unwrap().status(), 200);
    }
    assert_eq!(*unpoisoned(&log), ["GET /api/v1/pods", "POST /api/v1/pods"]);
    assert_eq!(proxy.counted(), (2, 1));
}

#[tokio::test]
async fn what_is_refused_is_not_carried_out() {
    for (treatment, code) in [
        (Treatment::TooMany(7), 429),
        (Treatment::Conflict, 409),
        (Treatment::GoneAtOnce, 410),
        (Treatment::Gone, 200),
    ] {
        let (_proxy, client, log) = scene(treatment).await;
        let answer = ask(&client, Method::PUT, "/api/v1/pods/one").await.unwrap();
        assert_eq!(answer.status(), code, "{treatment:?}");
        let after = answer.headers().get(RETRY_AFTER).map(|after| after.to_str().unwrap());
        assert_eq!(after, (code == 429).then_some("7"));
        let is_status = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        assert_eq!(is_status, code != 429, "an API server with too much to do makes no Status");
        assert!(unpoisoned(&log).is_empty());
    }
}

#[tokio::test]
async fn what_is_not_answered_was_carried_out() {
    let (_proxy, client, log) = scene(Treatment::Unanswered).await;
    assert!(ask(&client, Method::PUT, "/api/v1/pods/one").await.is_err());
    assert_eq!(*unpoisoned(&log), ["PUT /api/v1/pods/one"]);
}

#[tokio::test]
async fn an_operator_dies_before_or_after_and_nothing_that_it_asked_besides_is_carried_out() {
    for (treatment, carried_out) in [(Treatment::DeathBefore, 0), (Treatment::DeathAfter, 1)] {
        let (proxy, client, log) = scene(treatment).await;
        assert!(!proxy.is_orphaned());
        for _ in 0..2 {
            assert!(ask(&client, Method::PUT, "/api/v1/pods/one").await.is_err());
            assert!(proxy.is_orphaned());
            assert_eq!(unpoisoned(&log).len(), carried_out, "{treatment:?}");
        }
    }
}

#[tokio::test]
async fn a_watch_is_cut_or_torn_within_a_line() {
    for (treatment, received) in [(Treatment::Pass, 27), (Treatment::Torn(5), 5)] {
        let (proxy, client, _log) = scene(treatment).await;
        let answer = ask(&client, Method::GET, "/api/v1/pods?watch=true").await.unwrap();
        let mut data = Body::new(answer.into_body()).into_data_stream();
        assert_eq!(data.next().await.unwrap().unwrap().len(), received, "{treatment:?}");
        if received == 27 {
            proxy.cut_watches();
        }
        assert!(data.next().await.unwrap().is_err());
    }
}
