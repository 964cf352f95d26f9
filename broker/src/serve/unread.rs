//! What is left of a request of HTTP/1 that was answered before it was read.
//!
//! HTTP/1 cannot refuse the rest of a request. Whoever closes a connection with bytes that nobody has read resets it, and the
//! program, still writing, may never see the answer that says what was wrong. So the rest is read and dropped first. Owns how
//! much of it, and for how long. Never keeps any of it, and never asks a program for what it holds back.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{Version, header};
use axum::response::Response;
use bytes::Bytes;
use fulmar_core::batch::BATCH_BYTES_MAX;
use futures::StreamExt;
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// What is about twice too large is a slip that is told; who sends more than that is not heard out.
const REST_BYTES_MAX: u64 = 3 * BATCH_BYTES_MAX as u64;
/// A little that is left has arrived already, and HTTP drops it itself.
const REST_BYTES_MIN: u64 = 64 * 1024;
/// At 25 Mbit/s all of that is there.
const REST_TIME_MAX: Duration = Duration::from_secs(8);

/// Reads what is left of a request before its answer is written.
pub(super) async fn heard_out<F>(request: Request, serve: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    if !may_be_left(&request) {
        return serve(request).await;
    }
    let (give_back, mut left) = oneshot::channel();
    let waits = request.headers().contains_key(header::EXPECT);
    let request = request.map(|inner| Body::new(Lent { inner, waits, give_back: Some(give_back) }));
    let answer = serve(request).await;
    // A stream of answers may go on reading: then it is not given back yet, and not read here.
    if let Ok(rest) = left.try_recv() {
        // Too slow or too much: the connection is closed on it.
        let _left = timeout(REST_TIME_MAX, drop_all(rest)).await;
    }
    answer
}

/// Whether some of it may be unread when it is answered. One that says that it sends more than is read is left alone.
pub(super) fn may_be_left(request: &Request) -> bool {
    let says = request.body().size_hint().upper();
    request.version() < Version::HTTP_2
        && says.is_none_or(|bytes| (REST_BYTES_MIN..=REST_BYTES_MAX).contains(&bytes))
}

async fn drop_all(rest: Body) {
    let mut bytes = 0;
    let mut pieces = rest.into_data_stream();
    while let Some(Ok(piece)) = pieces.next().await {
        bytes += piece.len() as u64;
        if bytes > REST_BYTES_MAX {
            return;
        }
    }
}

/// A body that comes back when its reader is done with it.
struct Lent {
    inner: Body,
    /// The program sends nothing before it is asked for it (`Expect: 100-continue`), which the first look does.
    waits: bool,
    give_back: Option<oneshot::Sender<Body>>,
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.waits || self.inner.is_end_stream() {
            return;
        }
        if let Some(give_back) = self.give_back.take() {
            // Nobody waits for what is left behind an answer that has begun.
            let _nobody = give_back.send(std::mem::take(&mut self.inner));
        }
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.waits = false;
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
