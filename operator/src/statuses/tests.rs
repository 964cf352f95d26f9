//! Claims about the writer, before an API server of our own.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use axum::http::{Request, Response, StatusCode};
use kube::client::Body;

use super::fixture::cluster;
use super::flow::{REST, WIDTH_MAX};
use super::*;

/// What the API server saw.
#[derive(Default)]
struct Seen {
    in_flight: BTreeSet<String>,
    most: usize,
    twice: bool,
    /// When each request came, by its path.
    came: BTreeMap<String, Vec<Instant>>,
    /// So many are refused before any is taken.
    refusals: usize,
}

impl Seen {
    fn came(&self) -> usize {
        self.came.values().map(Vec::len).sum()
    }
}

/// A request, until it is answered or given up.
struct Visit(Arc<Mutex<Seen>>, String);

impl Visit {
    fn new(seen: &Arc<Mutex<Seen>>, path: String) -> Self {
        let mut inner = seen.lock();
        inner.twice |= !inner.in_flight.insert(path.clone());
        inner.most = inner.most.max(inner.in_flight.len());
        inner.came.entry(path.clone()).or_default().push(Instant::now());
        Self(Arc::clone(seen), path)
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.lock().in_flight.remove(&self.1);
    }
}

struct Server {
    seen: Arc<Mutex<Seen>>,
    writers: JoinSet<()>,
    statuses: Statuses,
}

impl Server {
    /// An API server whose answers take so long, with a writer before it.
    fn start(answer: Duration, refusals: usize) -> Self {
        let seen = Arc::new(Mutex::new(Seen { refusals, ..Seen::default() }));
        let shown = Arc::clone(&seen);
        let service = tower::service_fn(move |request: Request<Body>| {
            let visit = Visit::new(&shown, request.uri().path().to_owned());
            async move {
                tokio::time::sleep(answer).await;
                let mut seen = visit.0.lock();
                let refused = seen.refusals > 0;
                seen.refusals = seen.refusals.saturating_sub(1);
                drop(seen);
                let status = if refused { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
                // What was written is what it answers with.
                let body = if refused { Body::empty() } else { request.into_body() };
                Ok::<_, Infallible>(Response::builder().status(status).body(body).expect("a response"))
            }
        });
        let mut writers = JoinSet::new();
        let client = Client::new(service, "default");
        let statuses = Statuses::start(client, Arc::new(Metrics::new()), &mut writers);
        Self { seen, writers, statuses }
    }

    /// Waits until it is so.
    async fn until(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let looks = async {
            while !is_so(&self.seen.lock()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), looks).await.expect(what);
    }
}

#[tokio::test]
async fn several_statuses_are_in_flight_at_once_but_never_two_of_one_object() {
    let server = Server::start(Duration::from_millis(20), 0);
    let objects = 100;
    for round in 0..3 {
        for number in 0..objects {
            server.statuses.submit(cluster(&format!("c{number:03}"), round), Rank::InTurn);
        }
        server.until("some were written", |seen| seen.came() > objects / 4).await;
    }
    let all = |seen: &Seen| seen.came.len() == objects && seen.in_flight.is_empty();
    server.until("all were written", all).await;
    let seen = server.seen.lock();
    assert!(!seen.twice, "two writes of one object at once");
    assert!(seen.most <= WIDTH_MAX, "{} at once", seen.most);
    assert!(seen.most > 1, "one after the other");
}

#[tokio::test]
async fn an_api_server_that_refuses_is_given_a_rest_and_then_the_write() {
    let server = Server::start(Duration::ZERO, 2);
    for name in ["a", "b", "c"] {
        server.statuses.submit(cluster(name, 1), Rank::InTurn);
    }
    server.until("each was taken", |seen| seen.came() == 5 && seen.in_flight.is_empty()).await;
    let seen = server.seen.lock();
    let mut times: Vec<Instant> = seen.came.values().flatten().copied().collect();
    times.sort();
    let rests: Vec<bool> = times.windows(2).take(2).map(|pair| pair[1] - pair[0] >= REST).collect();
    assert_eq!(rests, [true, true], "{times:?}");
}

#[tokio::test]
async fn a_writer_that_was_ended_writes_nothing_more_not_even_what_is_in_flight() {
    let mut server = Server::start(Duration::from_mins(1), 0);
    for name in ["a", "b", "c"] {
        server.statuses.submit(cluster(name, 1), Rank::InTurn);
    }
    server.until("one is in flight", |seen| !seen.in_flight.is_empty()).await;
    server.writers.shutdown().await;
    assert!(server.seen.lock().in_flight.is_empty(), "given up");
    let came = server.seen.lock().came();
    server.statuses.submit(cluster("d", 1), Rank::InTurn);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(server.seen.lock().came(), came);
}
