//! The accept loop of every TCP port: bounded, with or without TLS, with an end to every connection's life.
//!
//! Owns connections until they are HTTP, or somebody else's. Never knows what is served on them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use fulmar_logging::Ends as Sockets;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::cors::CorsLayer;
use tracing::{debug, warn};

use super::handshakes::{Handshakes, UNDER_WAY_MAX};
use super::outflow::Outflow;
use super::reception::{Ends, Reception};
use crate::memory::Budget;
use crate::tls::{self, Tls};

/// Handshakes that are under way, and as many that were told to give way and whose tasks have not run since.
const HANDSHAKING_MAX: usize = 2 * UNDER_WAY_MAX;
/// After a failed accept (no file descriptors): waiting gives others time to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// HTTP/2's default of 16 KiB is the bottleneck of a fast network.
const FRAME_BYTES_MAX: u32 = 256 * 1024;
/// Names and tokens, not payloads.
const HEADER_BYTES_MAX: u32 = 32 * 1024;
/// The same of HTTP/1, whose head has the target too: a message in the query of `/publish`, of at most 64 KiB. As much is read at a
/// time of a body.
const HTTP1_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How HTTP/2 begins. Until a peer has sent it, or something else, nothing is known of it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two looks at a beginning that came in pieces.
const PREFACE_PAUSE: Duration = Duration::from_millis(20);
/// How often TCP asks in vain before it gives a peer up: what Linux and macOS do by themselves, with 9 and 8 times.
const KEEPALIVE_PROBES: u32 = 9;
/// Systems count in seconds, and none is an error.
const KEEPALIVE_EVERY_MIN: Duration = Duration::from_secs(1);
/// A request's head must arrive in this time: half-open HTTP/1 requests cost a connection each.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// When programs are asked after, and how long they may take.
pub const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));

/// Who is at the other end of a connection; in every request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate says that it is a broker.
    pub is_broker: bool,
    /// Its certificate says that it is the operator.
    pub is_operator: bool,
}

/// What messages may take while they arrive.
#[derive(Debug, Clone)]
pub struct Requests {
    /// Of all connections.
    pub all: Budget,
    /// Bytes of one connection.
    pub connection_bytes: usize,
    /// Bytes of one message; a longer one is refused by whoever reads it.
    pub message_bytes_max: usize,
}

/// What a port allows.
#[derive(Debug, Clone)]
pub struct Limits {
    /// For messages: which port this is.
    pub port: &'static str,
    /// Connections at a time; more are closed at once. With TLS, those that have shown their certificate.
    pub connections_max: usize,
    /// Streams of one connection at a time.
    pub streams_max: u32,
    /// How long a connection lives, up to a tenth more or less; then it is asked to go (a Service balances connections,
    /// not calls).
    pub age_max: Option<Duration>,
    /// How much a peer may send before it is read, in one stream and in all of a connection: what a peer can make this
    /// broker hold, and what one stream can have under way.
    pub windows: (u32, u32),
    /// HTTP/2 only: what is not gRPC is refused by the protocol.
    pub http2_only: bool,
    /// After how long without a word a peer is asked whether it is still there, and how long it may take: one that vanished is
    /// noticed within their sum by HTTP/2, which pings. HTTP/1 cannot; TCP does, see `stall_max`.
    pub keepalive: (Duration, Duration),
    /// How long a program may read nothing of its answers. Over HTTP/1 one that vanished is noticed a little later, for TCP does not
    /// tell the two apart; absent where HTTP/1 is not spoken.
    pub stall_max: Option<Duration>,
    /// How many bytes of answers one connection's streams may hold; absent: no more than all together.
    pub answer_bytes: Option<usize>,
    /// What gRPC messages may take while they arrive, gRPC-web's included, which is translated then; absent: what the windows
    /// let in.
    pub requests: Option<Requests>,
    /// What browsers are told of pages of other origins, for all of the port; absent: nothing, or the router does it.
    pub cors: Option<CorsLayer>,
}

/// Listens, or says which address is the trouble.
pub async fn bind(flag: &'static str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| anyhow::anyhow!("{flag} {address} cannot be listened on: {error}"))
}

/// Serves `router` until `stop`; then connections are asked to end, and waited for until the caller waits no more.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    limits: Limits,
    router: Router,
    stop: CancellationToken,
) {
    let (port, connections_max, ending) = (limits.port, limits.connections_max, stop.clone());
    let limits = Arc::new(limits);
    let Some(tls) = tls else {
        let each = move |socket, address| {
            let (limits, router, stop) = (limits.clone(), router.clone(), ending.clone());
            async move { plain(socket, address, &limits, router, stop).await }
        };
        return accept(listener, port, connections_max, stop, each).await;
    };
    let entry = Arc::new(Entry::new(tls, &limits));
    let each = move |socket, address| {
        let (entry, limits, router, stop) = (entry.clone(), limits.clone(), router.clone(), ending.clone());
        async move { sealed(socket, address, &entry, &limits, router, stop).await }
    };
    accept(listener, port, connections_max + HANDSHAKING_MAX, stop, each).await;
}

/// Gives each connection to `serve` until `stop`, then waits for those that are open. `port`: for messages. More than
/// `connections_max` at a time are closed at once.
pub async fn accept<S>(
    listener: TcpListener,
    port: &'static str,
    connections_max: usize,
    stop: CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr) -> S,
) where
    S: Future<Output = ()> + Send + 'static,
{
    let permits = Arc::new(Semaphore::new(connections_max));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(port, %error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            debug!(port, %address, max = connections_max, "too many connections");
            continue;
        };
        let serving = serve(socket, address);
        connections.spawn(async move {
            let _held = permit;
            serving.await;
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// How one comes in where TLS is spoken: a stranger takes the room of strangers, not that of brokers and operators.
#[derive(Debug)]
struct Entry {
    tls: Tls,
    handshakes: Handshakes,
    /// For connections that have shown their certificate.
    room: Arc<Semaphore>,
}

impl Entry {
    fn new(tls: Tls, limits: &Limits) -> Self {
        let (handshakes, room) = (Handshakes::new(limits.port), Semaphore::new(limits.connections_max));
        Self { tls, handshakes, room: Arc::new(room) }
    }
}

async fn plain(
    socket: TcpStream,
    address: SocketAddr,
    limits: &Limits,
    router: Router,
    stop: CancellationToken,
) {
    let set = asked_after(&socket, limits.keepalive, limits.stall_max);
    if let Err(error) = &set {
        debug!(%address, %error, "the connection was gone at once");
    }
    if set.is_err() || !answers_at_once(&socket, address) {
        return;
    }
    let spoke = tokio::select! {
        () = stop.cancelled() => return,
        spoke = timeout(HEAD_MAX, speaks(&socket)) => spoke,
    };
    if !matches!(spoke, Ok(Ok(()))) {
        debug!(port = limits.port, %address, "a connection that says nothing is closed");
        return;
    }
    let caller = Caller { address, is_broker: false, is_operator: false };
    // Without it, it is refused what only loopback may ask.
    let sockets = socket.local_addr().ok().map(|local| Sockets { local, peer: address });
    http(socket, Ends { caller, sockets }, limits, router, stop).await;
}

async fn sealed(
    socket: TcpStream,
    address: SocketAddr,
    entry: &Entry,
    limits: &Limits,
    router: Router,
    stop: CancellationToken,
) {
    if !answers_at_once(&socket, address) {
        return;
    }
    let accepted = tokio::select! {
        () = stop.cancelled() => return,
        accepted = entry.handshakes.accept(&entry.tls, socket, address) => accepted,
    };
    let Some(stream) = accepted else { return };
    let Ok(_held) = entry.room.clone().try_acquire_owned() else {
        debug!(port = limits.port, %address, max = limits.connections_max, "too many connections");
        return;
    };
    let caller = caller(&stream, address);
    // What is not taken by it goes past this buffer.
    let mut stream = BufReader::with_capacity(PREFACE.len(), stream);
    let spoke = tokio::select! {
        () = stop.cancelled() => return,
        spoke = timeout(HEAD_MAX, stream.fill_buf()) => spoke,
    };
    if !matches!(spoke, Ok(Ok([_, ..]))) {
        debug!(port = limits.port, %address, "a connection that says nothing is closed");
        return;
    }
    http(stream, Ends { caller, sockets: None }, limits, router, stop).await;
}

/// Whether the connection is still there.
fn answers_at_once(socket: &TcpStream, address: SocketAddr) -> bool {
    // Off, a small answer waits 40 ms for an acknowledgement that waits for more.
    let set = socket.set_nodelay(true);
    if let Err(error) = &set {
        debug!(%address, %error, "the connection was gone at once");
    }
    set.is_ok()
}

/// Has TCP itself ask after a peer that says nothing, and give up one that acknowledges nothing. An error: it is gone.
///
/// While bytes wait to be acknowledged TCP asks no more, it sends them again, by default for a quarter of an hour: who vanished
/// behind a stream that says something now and then is noticed by the second bound alone. Linux applies it to a peer that is
/// there and has no room as well, and to asking, so it lies behind the time that a program has to read.
pub(super) fn asked_after(
    socket: &TcpStream,
    (after, within): (Duration, Duration),
    stall_max: Option<Duration>,
) -> std::io::Result<()> {
    let socket = SockRef::from(socket);
    let every = (within / KEEPALIVE_PROBES).max(KEEPALIVE_EVERY_MIN);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after).with_interval(every))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(stall_max.map(|stall_max| stall_max + within))?;
    #[cfg(not(target_os = "linux"))]
    let _elsewhere_by_its_default = stall_max;
    Ok(())
}

fn caller(stream: &TlsStream<TcpStream>, address: SocketAddr) -> Caller {
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let is = |name| certificate.is_some_and(|certificate| tls::carries_name(certificate, name));
    Caller { address, is_broker: is(tls::BROKER_NAME), is_operator: is(tls::OPERATOR_NAME) }
}

/// Waits for a whole HTTP/2 preface, or for anything that is none. HTTP itself would wait for ever.
async fn speaks(socket: &TcpStream) -> std::io::Result<()> {
    let mut beginning = [0; PREFACE.len()];
    loop {
        let length = socket.peek(&mut beginning).await?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if length == PREFACE.len() || !PREFACE.starts_with(&beginning[..length]) {
            return Ok(());
        }
        tokio::time::sleep(PREFACE_PAUSE).await;
    }
}

async fn http<S>(socket: S, ends: Ends, limits: &Limits, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let builder = builder(limits);
    let outflow = limits.answer_bytes.map(Outflow::new);
    let address = ends.caller.address;
    let reception = Arc::new(Reception::new(ends, outflow.clone(), limits, router));
    let is_cut = async {
        match &outflow {
            Some(outflow) => outflow.is_cut().await,
            None => std::future::pending().await,
        }
    };
    let service = service_fn(move |request: Request<Incoming>| {
        let reception = reception.clone();
        async move { Ok::<_, Infallible>(reception.answer(request.map(Body::new)).await) }
    });
    let connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let age = limits.age_max.map(|age| age.mul_f64(rand::random_range(0.9..1.1)));
    let end_of_life = async {
        match age {
            Some(age) => tokio::select! { () = tokio::time::sleep(age) => {}, () = stop.cancelled() => {} },
            None => stop.cancelled().await,
        }
    };
    let serving = async {
        tokio::select! {
            ended = &mut connection => ended,
            () = end_of_life => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let ended = tokio::select! {
        ended = serving => ended,
        // Dropped, with all that it holds.
        () = is_cut => return,
    };
    if let Err(error) = ended {
        debug!(port = limits.port, %address, %error, "a connection broke");
    }
}

fn builder(limits: &Limits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    if limits.http2_only {
        builder = builder.http2_only();
    }
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(limits.windows.0)
        .initial_connection_window_size(limits.windows.1)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(limits.streams_max)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(limits.keepalive.0)
        .keep_alive_timeout(limits.keepalive.1);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HTTP1_BUFFER_BYTES_MAX);
    builder
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
