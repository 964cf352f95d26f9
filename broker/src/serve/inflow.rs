//! Memory of messages on their way in, from a program's first byte until the message is passed on or answered.
//!
//! Owns one bound: before a message of a gRPC request is read, memory for all of it is taken from its connection's share and
//! from all programs' share. While there is none a stream of messages is not read, so that HTTP/2's windows hold its program
//! up, for some seconds; a call of one message is refused at once, for its unread bytes would take the connection's window
//! from the calls that have memory. What a message takes beyond its bytes once it is read (`growth`) is taken before its last
//! byte is passed on. A message that arrives too slowly is refused too. Never looks into payloads.
//!
//! How gRPC frames messages: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use fulmar_proto::v1::ErrorReason;
use http_body::Frame;
use parking_lot::Mutex;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tonic::Status;

use super::error::Failure;
use super::growth::{self, Shape, Walk};
use crate::memory::Budget;

/// How long a message may keep others waiting.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// How long one of a stream waits for memory before it is refused as too much.
    room: Duration,
    /// How long it may take to arrive.
    arrival: Duration,
    /// The same while the memory is taken and others wait.
    arrival_pressed: Duration,
}

/// A publish waits as long for its memory; a call's deadline is no longer than an arrival. The largest message that has to
/// arrive within four seconds needs 17 Mbit/s, and who waits for its memory is still there then.
const PATIENCE: Patience = Patience {
    room: Duration::from_secs(5),
    arrival: Duration::from_secs(30),
    arrival_pressed: Duration::from_secs(4),
};
/// Between two looks whether others wait.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The memory is taken if it has no room for one more of these.
const PIECE_BYTES: usize = 1 << 20;
/// Before each message of gRPC: whether it is compressed (a byte), and its length.
const HEADER_BYTES: usize = 5;

/// What one connection's messages take while they arrive; a handle that can be cloned.
#[derive(Debug, Clone)]
pub(super) struct Inflow {
    share: Budget,
    all: Budget,
    message_bytes_max: usize,
    patience: Patience,
}

/// Memory of a message.
#[derive(Debug)]
struct Held {
    of_connection: Option<OwnedSemaphorePermit>,
    of_all: OwnedSemaphorePermit,
}

/// The memory of the message that a request brought last; in the request's extensions, a handle that can be cloned. It is
/// given back when the service says so, when an answered request's next message is asked for, or with the request.
#[derive(Debug, Clone, Default)]
pub(super) struct Received(Arc<Mutex<Last>>);

#[derive(Debug, Default)]
struct Last {
    held: Option<Held>,
    /// How long it is.
    bytes: usize,
    /// The service has answered. One that answers with a stream may ask for more messages.
    is_answered: bool,
    /// It asked for more, and nothing has arrived.
    is_awaited: bool,
}

impl Received {
    /// A message without a connection's share: one that waits too long for memory fails as too much.
    pub(super) async fn alone(all: &Budget, bytes: usize) -> Result<Self, Failure> {
        let of_all = timeout(PATIENCE.room, all.take(bytes)).await.map_err(|_| busy())?;
        let held = Some(Held { of_connection: None, of_all });
        Ok(Self(Arc::new(Mutex::new(Last { held, ..Last::default() }))))
    }

    /// Something else stands for the message from now on.
    pub(super) fn release(&self) {
        self.0.lock().held = None;
    }

    /// The service has answered.
    pub(super) fn answered(&self) {
        let mut last = self.0.lock();
        last.is_answered = true;
        if last.is_awaited {
            last.held = None;
        }
    }

    fn awaited(&self, is_awaited: bool) {
        let mut last = self.0.lock();
        last.is_awaited = is_awaited;
        if is_awaited && last.is_answered {
            last.held = None;
        }
    }

    /// How many bytes came of it as gRPC: whoever keeps a part of them keeps all. 0 of other interfaces.
    pub(super) fn bytes(&self) -> usize {
        self.0.lock().bytes
    }

    fn hold(&self, held: Held, bytes: usize) {
        let mut last = self.0.lock();
        (last.held, last.bytes) = (Some(held), bytes);
    }

    /// Holds memory for so many bytes in all, or fails as too much.
    fn raise(&self, inflow: &Inflow, bytes: usize) -> Result<(), Failure> {
        let mut last = self.0.lock();
        let Some(held) = &mut last.held else { return Ok(()) };
        let of_connection = &mut held.of_connection;
        let has_room = of_connection.as_mut().is_none_or(|taken| inflow.share.try_raise(taken, bytes))
            && inflow.all.try_raise(&mut held.of_all, bytes);
        if has_room { Ok(()) } else { Err(busy()) }
    }

    fn holds(&self) -> bool {
        self.0.lock().held.is_some()
    }

    fn is_answered(&self) -> bool {
        self.0.lock().is_answered
    }
}

impl Inflow {
    /// Of one connection of a port: all its messages that arrive may have `share_bytes`, those of all connections `all`.
    /// `message_bytes_max`: a message that says that it is longer is refused by whoever reads it, without its bytes.
    pub(super) fn new(all: Budget, share_bytes: usize, message_bytes_max: usize) -> Self {
        Self { share: Budget::new(share_bytes), all, message_bytes_max, patience: PATIENCE }
    }

    /// Counts a request's messages.
    pub(super) fn counted(&self, mut request: Request) -> (Request, Received) {
        let received = Received::default();
        request.extensions_mut().insert(received.clone());
        let (inflow, counting) = (self.clone(), received.clone());
        let shape = growth::shape(request.uri().path());
        let counted = |inner| Counted {
            inner,
            inflow,
            received: counting,
            shape,
            unread: Bytes::new(),
            reading: Reading::Header,
            header: 0,
            walk: Walk::over(shape),
            slow: None,
        };
        (request.map(|inner| Body::new(counted(inner))), received)
    }

    fn room_now(&self, bytes: usize) -> Result<Held, Failure> {
        let of_connection = Some(self.share.try_take(bytes).ok_or_else(busy)?);
        Ok(Held { of_connection, of_all: self.all.try_take(bytes).ok_or_else(busy)? })
    }

    async fn room(self, bytes: usize) -> Result<Held, Failure> {
        let taking = async {
            let of_connection = Some(self.share.take(bytes).await);
            Held { of_connection, of_all: self.all.take(bytes).await }
        };
        timeout(self.patience.room, taking).await.map_err(|_| busy())
    }
}

fn busy() -> Failure {
    Failure::new(
        ErrorReason::Busy,
        "this broker's memory for messages that arrive is taken; this one was not read",
    )
}

fn too_long(bytes: usize, shape: &Shape) -> Failure {
    let message = format!("the request has {bytes} bytes, and this method takes at most {}", shape.bytes_max);
    Failure::invalid("request", message)
}

fn too_slow() -> Failure {
    Failure::new(
        ErrorReason::Busy,
        "the request did not arrive whole in time, and holds memory; it was not read",
    )
}

type Room = Pin<Box<dyn Future<Output = Result<Held, Failure>> + Send>>;

/// Where in its messages a request is.
enum Reading {
    /// Between two messages, or in the few bytes that tell the next one's length.
    Header,
    /// Its length is known, memory is waited for; so many bytes with the header.
    Room(usize, Room),
    /// So many of its bytes are to be passed on.
    Message(usize),
}

/// A request that is waited for.
struct Slow {
    since: Instant,
    look: Pin<Box<Sleep>>,
}

/// A request's body.
struct Counted {
    inner: Body,
    inflow: Inflow,
    received: Received,
    /// What its messages may hold.
    shape: &'static Shape,
    /// What has arrived and was not passed on.
    unread: Bytes,
    reading: Reading,
    /// So many bytes of the header are to be passed on before the message.
    header: usize,
    walk: Walk,
    /// Since the last message began.
    slow: Option<Slow>,
}

impl Counted {
    /// What has arrived, up to the end of its message: the next one's memory is taken when the last one's was given back.
    /// `None`: more has to arrive.
    fn poll_arrived(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match &mut self.reading {
                Reading::Header => {
                    let Some((header, _)) = self.unread.split_first_chunk::<HEADER_BYTES>() else {
                        return Poll::Ready(None);
                    };
                    let [_, length @ ..] = *header;
                    let length = u32::from_be_bytes(length) as usize;
                    let is_too_long = length > self.inflow.message_bytes_max;
                    if !is_too_long && length > self.shape.bytes_max {
                        return Poll::Ready(Some(Err(too_long(length, self.shape).into())));
                    }
                    let bytes = if is_too_long { 0 } else { length + self.shape.beside };
                    self.received.release();
                    let inflow = self.inflow.clone();
                    let room: Room = if self.received.is_answered() {
                        Box::pin(inflow.room(bytes))
                    } else {
                        Box::pin(std::future::ready(inflow.room_now(bytes)))
                    };
                    self.reading = Reading::Room(HEADER_BYTES + length, room);
                }
                Reading::Room(length, room) => {
                    let held = ready!(room.as_mut().poll(context)).map_err(Status::from)?;
                    self.received.hold(held, *length - HEADER_BYTES);
                    self.reading = Reading::Message(*length);
                    (self.header, self.walk) = (HEADER_BYTES, Walk::over(self.shape));
                    self.slow = Some(Slow { since: Instant::now(), look: Box::pin(sleep(LOOK_EVERY)) });
                }
                Reading::Message(0) => self.reading = Reading::Header,
                Reading::Message(_) if self.unread.is_empty() => return Poll::Ready(None),
                Reading::Message(left) => {
                    let bytes = self.unread.split_to(self.unread.len().min(*left));
                    *left -= bytes.len();
                    let is_whole = *left == 0;
                    let looked_at = self.look(&bytes, is_whole);
                    return Poll::Ready(Some(looked_at.map(|()| bytes).map_err(Status::from)));
                }
            }
        }
    }

    /// Takes what the message takes beyond its bytes before the last of them is passed on: nobody reads it before.
    fn look(&mut self, bytes: &[u8], is_whole: bool) -> Result<(), Failure> {
        let (header, message) = bytes.split_at(self.header.min(bytes.len()));
        self.header -= header.len();
        self.walk.pass(message)?;
        if !is_whole {
            return Ok(());
        }
        match self.walk.end()? {
            growth if growth <= self.shape.beside => Ok(()),
            growth => self.received.raise(&self.inflow, self.received.bytes().saturating_add(growth)),
        }
    }

    /// Completes when what holds memory does not go on arriving.
    fn poll_slow(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        if !self.received.holds() {
            self.slow = None;
        }
        let Some(slow) = &mut self.slow else { return Poll::Pending };
        loop {
            ready!(slow.look.as_mut().poll(context));
            let is_pressed = self.inflow.all.is_pressed(PIECE_BYTES);
            let Patience { arrival, arrival_pressed, .. } = self.inflow.patience;
            if slow.since.elapsed() >= if is_pressed { arrival_pressed } else { arrival } {
                return Poll::Ready(too_slow().into());
            }
            slow.look.as_mut().reset(Instant::now() + LOOK_EVERY);
        }
    }

    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let is_between =
            self.unread.is_empty() && matches!(self.reading, Reading::Header | Reading::Message(0));
        self.received.awaited(is_between);
        let arrived = Pin::new(&mut self.inner).poll_frame(context);
        if arrived.is_pending() {
            let slow = ready!(self.poll_slow(context));
            return Poll::Ready(Some(Err(axum::Error::new(slow))));
        }
        self.received.awaited(false);
        arrived
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            if let Some(bytes) = ready!(self.poll_arrived(context)) {
                return Poll::Ready(Some(bytes.map(Frame::data).map_err(axum::Error::new)));
            }
            let Some(frame) = ready!(self.poll_more(context)?) else {
                // Half a header is for who reads it to refuse.
                let rest = std::mem::take(&mut self.unread);
                return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
            };
            match frame.into_data() {
                Ok(bytes) if self.unread.is_empty() => self.unread = bytes,
                // The bytes before are a part of a header.
                Ok(bytes) => self.unread = [&self.unread[..], &bytes[..]].concat().into(),
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.unread.is_empty() && self.inner.is_end_stream()
    }
}

#[cfg(test)]
#[path = "inflow_tests.rs"]
mod tests;
