//! What can be measured: a log that is published to and read from.
//!
//! Owns the shape that Fulmar and its rivals share, so that the works are written once. Never measures.

use std::future::Future;

use bytes::Bytes;

use crate::exit::Failed;

/// A system under test, and the one log of it that this run uses.
pub(super) trait System: Send + Sync {
    /// Publishes many at a time.
    type Pipeline: Pipeline;
    /// Publishes one after the other.
    type Single: Single;
    /// Publishes one after the other for programs that have no SDK; where there is no other way, a [`Single`] too.
    type Plain: Single;
    /// Reads.
    type Follower: Follower;
    /// Publishes to many who listen now.
    type Teller: Pipeline;
    /// Listens to what is told now.
    type Listener: Follower;

    /// Before a round: what was published until now does not count any more.
    fn begin(&mut self) -> impl Future<Output = Result<(), Failed>> + Send;

    /// After a round, and after a failure: removes what was made for it.
    fn end(&mut self) -> impl Future<Output = Result<(), Failed>> + Send;

    /// A connection that publishes many at a time, in the way that its documentation recommends.
    fn pipeline(&self) -> impl Future<Output = Result<Self::Pipeline, Failed>> + Send;

    /// A connection of its own.
    fn single(&self) -> impl Future<Output = Result<Self::Single, Failed>> + Send;

    /// A connection of its own, without an SDK.
    fn plain(&self) -> impl Future<Output = Result<Self::Plain, Failed>> + Send;

    /// A connection that tells everybody who listens.
    fn tell(&self) -> impl Future<Output = Result<Self::Teller, Failed>> + Send;

    /// A connection that hears everything that is told after this returned.
    fn listen(&self) -> impl Future<Output = Result<Self::Listener, Failed>> + Send;

    /// A connection that reads from the round's first record, or from the next one.
    fn follow(&self, from: From) -> impl Future<Output = Result<Self::Follower, Failed>> + Send;
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// The first record of this round.
    Earliest,
    /// The record that is published next.
    Latest,
}

/// Publishes with a bounded number of records that are not acknowledged.
pub(super) trait Pipeline: Send + 'static {
    /// Hands a record over; waits only for room. A failure of an earlier record shows here or in [`finish`](Self::finish).
    fn send(&mut self, value: Bytes) -> impl Future<Output = Result<(), Failed>> + Send;

    /// Sends what waits for more of its kind.
    fn push(&mut self) -> impl Future<Output = Result<(), Failed>> + Send;

    /// Waits until everything is acknowledged.
    fn finish(self) -> impl Future<Output = Result<(), Failed>> + Send;
}

/// Publishes one record and waits for its acknowledgement.
pub(super) trait Single: Send + 'static {
    /// Until it is acknowledged.
    fn publish(&mut self, value: Bytes) -> impl Future<Output = Result<(), Failed>> + Send;
}

/// Reads values in order.
pub(super) trait Follower: Send + 'static {
    /// Waits for a record, and shows the values of all that came with it; may give up waiting without one.
    fn next(
        &mut self,
        each: &mut (dyn FnMut(&[u8]) + Send),
    ) -> impl Future<Output = Result<(), Failed>> + Send;
}
