//! Reading: the messages of a topic's partitions, or of all topics that fit a pattern, in order within each, from where the
//! program wants to begin.
//!
//! Owns the bound on what was read ahead, and the end of the stream ([`beginning`] finds where, [`family`] which topics
//! fit, [`known`] which of them are read, [`fetch`] talks to leaders, [`credit`] says how far ahead, [`chunk`] what is handed over at
//! once, [`position`] keeps where each partition stands, [`trouble`] since when one cannot be read). Never acknowledges: who reads keeps the offsets.

mod beginning;
mod builder;
mod chunk;
mod credit;
mod family;
mod fetch;
mod known;
mod position;
mod trouble;

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use self::builder::{Start, SubscriberBuilder};
use self::chunk::{Batched, Chunk};
use self::position::Messages;
use crate::error::SubscribeError;
use crate::record::Message;

/// Follows one topic, or those that fit a pattern: a [`Stream`] of messages. Reconnects, follows changes of leaders and goes on where it was; an error
/// it yields is final for that partition. Ends (`None`) only when every partition has come to the end that was asked for
/// ([`SubscriberBuilder::until_end`]) or failed.
#[derive(Debug)]
pub struct Subscriber {
    chunks: mpsc::Receiver<Chunk>,
    /// What was handed over and not begun.
    batches: std::vec::IntoIter<Batched>,
    current: Option<Messages>,
    reader: JoinHandle<()>,
}

impl Subscriber {
    fn new(chunks: mpsc::Receiver<Chunk>, reader: JoinHandle<()>) -> Self {
        Self { chunks, batches: Vec::new().into_iter(), current: None, reader }
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
        let next = std::future::poll_fn(|context| self.poll_batch(context)).await;
        next.map(|batch| batch.map(Iterator::collect))
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Message, SubscribeError>>> {
        loop {
            if let Some(message) = self.current.as_mut().and_then(Iterator::next) {
                return Poll::Ready(Some(Ok(message)));
            }
            self.current = None;
            match std::task::ready!(self.poll_batch(context)) {
                Some(Ok(messages)) => self.current = Some(messages),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn poll_batch(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Messages, SubscribeError>>> {
        loop {
            if let Some(batched) = self.batches.next() {
                return Poll::Ready(Some(Ok(batched.take())));
            }
            match std::task::ready!(self.chunks.poll_recv(context)) {
                Some(Ok(batches)) => self.batches = batches.into_iter(),
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
