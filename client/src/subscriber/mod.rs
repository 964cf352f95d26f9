//! Reading: the messages of a topic's partitions, or of all topics that fit a pattern, in order within each, from where the
//! program wants to begin.
//!
//! Owns the bound on what was read ahead, and the end of the stream ([`beginning`] finds where, [`family`] which topics
//! fit, [`known`] which of them are read, [`fetch`] talks to leaders, [`credit`] says how far ahead, [`position`] keeps where
//! each partition stands, [`trouble`] since when one cannot be read). Never acknowledges: who reads keeps the offsets.

mod beginning;
mod builder;
mod credit;
mod family;
mod fetch;
mod known;
mod position;
mod trouble;

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

pub use self::builder::{Start, SubscriberBuilder};
use self::position::Messages;
use crate::error::SubscribeError;
use crate::record::Message;

/// What readers hand over: the messages of one batch, or why a partition ends.
type Chunk = Result<Batched, SubscribeError>;

/// The messages of one batch.
#[derive(Debug)]
struct Batched {
    messages: Messages,
    /// What they take beyond the bytes that came; given back when the program takes them.
    room: Option<OwnedSemaphorePermit>,
}

impl Batched {
    fn take(self) -> Messages {
        drop(self.room);
        self.messages
    }
}

/// Follows one topic, or those that fit a pattern: a [`Stream`] of messages. Reconnects, follows changes of leaders and goes on where it was; an error
/// it yields is final for that partition. Ends (`None`) only when every partition has come to the end that was asked for
/// ([`SubscriberBuilder::until_end`]) or failed.
#[derive(Debug)]
pub struct Subscriber {
    chunks: mpsc::Receiver<Chunk>,
    current: Option<Messages>,
    reader: JoinHandle<()>,
}

impl Subscriber {
    fn new(chunks: mpsc::Receiver<Chunk>, reader: JoinHandle<()>) -> Self {
        Self { chunks, current: None, reader }
    }

    /// The next message; waits for one. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Option<Result<Message, SubscribeError>> {
        std::future::poll_fn(|context| self.poll_message(context)).await
    }

    /// The messages that are there, at least one: as they came in one batch. Cheaper than one at a time.
    pub async fn next_batch(&mut self) -> Option<Result<Vec<Message>, SubscribeError>> {
        if let Some(left) = self.current.take().filter(|left| left.len() > 0) {
            return Some(Ok(left.collect()));
        }
        self.chunks.recv().await.map(|chunk| chunk.map(|batched| batched.take().collect()))
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message, SubscribeError>>> {
        loop {
            if let Some(message) = self.current.as_mut().and_then(Iterator::next) {
                return Poll::Ready(Some(Ok(message)));
            }
            self.current = None;
            match std::task::ready!(self.chunks.poll_recv(context)) {
                Some(Ok(batched)) => self.current = Some(batched.take()),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for Subscriber {
    type Item = Result<Message, SubscribeError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_message(context)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
