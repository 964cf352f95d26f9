//! What stands between an operator and the API server, and can be as bad as a network, a busy API server and a store that was compacted
//! are: connections that break, answers that never come, refusals that pass. It counts what is asked, and can end the operator at any
//! request, before or after it is carried out.
//!
//! Owns what becomes of one request. Never: which request it befalls; the weather that a test makes says that.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Child;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use axum::body::{Body, Bytes};
use futures::StreamExt as _;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::config::AuthInfo;
use kube::{Client, Config};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The API server takes no larger request.
const REQUEST_BYTES_MAX: usize = 3 << 20;

/// What an API server with too much to do says, and nothing else.
const TOO_MANY: &str = "Too many requests, please try again later.\n";

/// What an operator asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET`, `POST`, ….
    pub method: Method,
    /// Without what follows the question mark.
    pub path: String,
    query: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
pub enum Treatment {
    /// It is carried out and answered.
    Pass,
    /// The same, but the answer comes so much later.
    Slowly(Duration),
    /// The same, but the answer breaks off after so many bytes. Of a watch, each time.
    Torn(usize),
    /// It is not carried out: 429 Too Many Requests, to be tried again after so many seconds. As an API server with too much to do says it:
    /// in a plain sentence, with the seconds in the header alone.
    TooMany(u32),
    /// It is not carried out: 409 Conflict.
    Conflict,
    /// A watch is answered 410 Gone, in its stream, as the API server does.
    Gone,
    /// A watch is answered 410 Gone at once, as whoever stands in front of an API server may do.
    GoneAtOnce,
    /// It is carried out, and its answer is lost: the connection breaks.
    Unanswered,
    /// The operator is killed, and it is not carried out.
    DeathBefore,
    /// It is carried out, and the operator is killed before it hears of that.
    DeathAfter,
}

/// Says what becomes of each request.
pub type Weather = Box<dyn Fn(&Asked) -> Treatment + Send + Sync>;

/// Stands between an operator and the API server until it is dropped.
pub struct Proxy {
    road: Arc<Road>,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

struct Road {
    server: Client,
    weather: Mutex<Arc<Weather>>,
    /// Every watch that is under way breaks off when this changes.
    cuts: watch::Sender<()>,
    /// The operator; what one that was killed had still asked is not carried out.
    operator: Mutex<Option<Child>>,
    requests: AtomicU64,
    writes: AtomicU64,
}

impl Asked {
    pub(crate) fn of(head: &http::request::Parts) -> Self {
        let query = head.uri.query().unwrap_or_default().to_owned();
        Self { method: head.method.clone(), path: head.uri.path().to_owned(), query }
    }

    /// Whether it is to change something.
    pub fn is_write(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether it is a watch. Each goes on from a version that was listed before.
    pub fn is_watch(&self) -> bool {
        self.query.split('&').any(|parameter| parameter == "watch=true")
    }

    /// All of it but the method: who asks for the same again names the same.
    pub fn target(&self) -> String {
        format!("{}?{}", self.path, self.query)
    }

    /// Whether it is about objects of this kind: `leases`, `events`, ….
    pub fn is_about(&self, resource: &str) -> bool {
        self.path.split('/').any(|part| part == resource)
    }
}

impl Proxy {
    /// Starts one that speaks to the API server with this token, in calm weather.
    pub async fn start(token: String) -> Result<Self> {
        let mut config = Config::infer().await.context("could not read the kubeconfig")?;
        config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
        // What the API server answers is for the operator to judge.
        config.default_retry = false;
        Self::in_front_of(Client::try_from(config)?).await
    }

    async fn in_front_of(server: Client) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let road = Arc::new(Road {
            server,
            weather: Mutex::new(Arc::new(Box::new(|_| Treatment::Pass))),
            cuts: watch::Sender::new(()),
            operator: Mutex::new(None),
            requests: AtomicU64::new(0),
            writes: AtomicU64::new(0),
        });
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(accept(listener, Arc::clone(&road)));
        Ok(Self { road, address, accepting })
    }

    /// Where it is, for a kubeconfig. It adds the token itself.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on the weather is this.
    pub fn let_it_be(&self, weather: impl Fn(&Asked) -> Treatment + Send + Sync + 'static) {
        *unpoisoned(&self.road.weather) = Arc::new(Box::new(weather));
    }

    /// Breaks off every watch that is under way.
    pub fn cut_watches(&self) {
        self.road.cuts.send_replace(());
    }

    /// How many requests there were, and how many of them were to change something.
    pub fn counted(&self) -> (u64, u64) {
        (self.road.requests.load(Ordering::Relaxed), self.road.writes.load(Ordering::Relaxed))
    }

    /// Whose requests these are from now on: the one that is killed when the weather says so.
    pub(crate) fn belongs_to(&self, operator: Child) {
        *unpoisoned(&self.road.operator) = Some(operator);
    }

    /// Whether there is no operator, because it was killed or has ended.
    pub(crate) fn is_orphaned(&self) -> bool {
        let mut operator = unpoisoned(&self.road.operator);
        if operator.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
            *operator = None;
        }
        operator.is_none()
    }

    /// Kills the operator, if there is one.
    pub(crate) fn kill(&self) {
        self.road.kill();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.road.kill();
    }
}

async fn accept(listener: TcpListener, road: Arc<Road>) {
    // An operator that was just killed may have left a connection that cannot be taken any more.
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&road)));
        }
    }
}

/// Serves a connection. That it breaks is what this is for.
async fn serve(stream: TcpStream, road: Arc<Road>) {
    let service = service_fn(|request| Arc::clone(&road).treat(request));
    let connection =
        http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let _ = connection.await;
}

impl Road {
    /// What becomes of a request; an error breaks the connection.
    async fn treat(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(Body::new(body), REQUEST_BYTES_MAX).await?;
        if unpoisoned(&self.operator).is_none() {
            return Err(anyhow!("the operator that asked is dead"));
        }
        let asked = Asked::of(&head);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(u64::from(asked.is_write()), Ordering::Relaxed);
        let weather = Arc::clone(&unpoisoned(&self.weather));
        match weather(&asked) {
            Treatment::Pass => self.pass(&asked, head, body, usize::MAX).await,
            Treatment::Torn(bytes) => self.pass(&asked, head, body, bytes).await,
            Treatment::Slowly(late) => {
                let answer = self.pass(&asked, head, body, usize::MAX).await;
                tokio::time::sleep(late).await;
                answer
            }
            Treatment::TooMany(seconds) => {
                let mut answer = answer(StatusCode::TOO_MANY_REQUESTS, TOO_MANY.to_owned())?;
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                answer.headers_mut().insert(RETRY_AFTER, seconds.into());
                Ok(answer)
            }
            Treatment::Conflict => refusal(StatusCode::CONFLICT, "Conflict"),
            Treatment::Gone => {
                let event = json!({"type": "ERROR", "object": status(StatusCode::GONE, "Expired")});
                answer(StatusCode::OK, format!("{event}\n"))
            }
            Treatment::GoneAtOnce => refusal(StatusCode::GONE, "Expired"),
            Treatment::Unanswered => {
                drop(self.carry_out(head, body).await?);
                Err(anyhow!("the answer is lost"))
            }
            Treatment::DeathBefore => {
                self.kill();
                Err(anyhow!("nobody is there to hear it"))
            }
            Treatment::DeathAfter => {
                let carried_out = self.carry_out(head, body).await;
                self.kill();
                drop(carried_out?);
                Err(anyhow!("nobody is there to hear it"))
            }
        }
    }

    async fn pass(
        &self,
        asked: &Asked,
        head: http::request::Parts,
        body: Bytes,
        bytes_max: usize,
    ) -> Result<Response<Body>> {
        let cuts = self.cuts.subscribe();
        let answer = self.carry_out(head, body).await?;
        Ok(if asked.is_watch() { answer.map(|body| breaking(body, cuts, bytes_max)) } else { answer })
    }

    async fn carry_out(&self, mut head: http::request::Parts, body: Bytes) -> Result<Response<Body>> {
        for header in [HOST, CONNECTION] {
            head.headers.remove(header);
        }
        let request = Request::from_parts(head, kube::client::Body::from(body));
        let mut answer = self.server.send(request).await?.map(Body::new);
        answer.headers_mut().remove(CONNECTION);
        Ok(answer)
    }

    fn kill(&self) {
        if let Some(mut operator) = unpoisoned(&self.operator).take() {
            // It may have ended by itself.
            let _ = operator.kill();
            let _ = operator.wait();
        }
    }
}

/// The same, until there is a cut or so many bytes are over.
fn breaking(body: Body, cuts: watch::Receiver<()>, bytes_max: usize) -> Body {
    let state = Some((body.into_data_stream(), cuts, bytes_max));
    Body::from_stream(futures::stream::unfold(state, async |state| {
        let (mut data, mut cuts, left) = state?;
        if left == 0 {
            // An error at once would take with it what was not written to the connection yet.
            tokio::task::yield_now().await;
            return Some((Err(anyhow!("torn")), None));
        }
        let next = tokio::select! {
            _ = cuts.changed() => return Some((Err(anyhow!("cut")), None)),
            next = data.next() => next?,
        };
        match next {
            Ok(bytes) => {
                // Within a line, if it comes to that.
                let bytes = bytes.slice(..bytes.len().min(left));
                let left = left - bytes.len();
                Some((Ok(bytes), Some((data, cuts, left))))
            }
            Err(error) => Some((Err(error.into()), None)),
        }
    }))
}

fn refusal(code: StatusCode, reason: &str) -> Result<Response<Body>> {
    answer(code, status(code, reason).to_string())
}

fn answer(code: StatusCode, text: String) -> Result<Response<Body>> {
    let answer = Response::builder().status(code).header(CONTENT_TYPE, "application/json");
    Ok(answer.body(Body::from(text))?)
}

fn status(code: StatusCode, reason: &str) -> serde_json::Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "the test wants it so",
        "reason": reason,
        "code": code.as_u16(),
    })
}

/// Nothing that is kept behind these locks is ever half changed.
pub(crate) fn unpoisoned<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
