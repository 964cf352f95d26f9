//! Bodies of answers: what they hold is given back when their bytes are written, or will never be.
//!
//! Owns the way of a counted answer through HTTP. Never waits for memory: that was taken before the answer was made.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::outflow::{Handed, Load, Progress};

/// HTTP is given so many bytes at once: each is a step of a program that reads. While the memory is taken, that is 50 kB/s;
/// without a limit a program could hold it for ever with a byte now and then.
const STEP_BYTES: usize = 256 * 1024;

/// Counts what HTTP takes of a stream's answers until it is written; other answers pass.
pub(super) fn metered(mut answer: Response) -> Response {
    match answer.extensions_mut().remove::<Handed>() {
        Some(handed) => answer.map(|inner| Body::new(Metered { inner, handed, rest: None })),
        None => answer,
    }
}

/// A body of which each answer is counted until its last byte is written.
struct Metered {
    inner: Body,
    handed: Handed,
    /// What was made and HTTP has not taken.
    rest: Option<Step>,
}

/// Bytes of one allocation, and the answers in it.
struct Step {
    bytes: Bytes,
    loads: Arc<Vec<Load>>,
    progress: Arc<Progress>,
}

impl Step {
    fn split(&mut self) -> Option<Self> {
        let is_long = self.bytes.len() > STEP_BYTES;
        is_long.then(|| Self {
            bytes: self.bytes.split_to(STEP_BYTES),
            loads: self.loads.clone(),
            progress: self.progress.clone(),
        })
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.progress.step();
    }
}

impl AsRef<[u8]> for Step {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Metered {
    /// The next bytes of what was made.
    fn next(&mut self) -> Option<Bytes> {
        let rest = self.rest.as_mut()?;
        let step = rest.split().or_else(|| self.rest.take());
        step.map(Bytes::from_owner)
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(bytes) = self.next() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)?) else {
            return Poll::Ready(None);
        };
        Poll::Ready(match frame.into_data() {
            Ok(bytes) => {
                let (loads, progress) = (Arc::new(self.handed.take()), self.handed.progress.clone());
                self.rest = Some(Step { bytes, loads, progress });
                self.next().map(|bytes| Ok(Frame::data(bytes)))
            }
            Err(trailers) => Some(Ok(trailers)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

#[cfg(test)]
#[path = "metered_tests.rs"]
mod tests;
