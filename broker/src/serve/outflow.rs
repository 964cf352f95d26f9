//! Memory of answers on their way to a program's socket, and what becomes of a program that does not read.
//!
//! Owns one bound: an answer holds memory of its connection's share and of all programs' share from before it is read until
//! its last byte is written to the socket, in the queue of its stream and in HTTP's hands alike. A program that leaves its
//! answers unread for too long loses its connection: nothing less gives back what HTTP holds for it. Never looks into answers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status};
use tracing::info;

use crate::memory::{Budget, keep};

/// While the memory for all programs is taken, one that holds some of it and reads nothing loses it after this time.
const PRESSED_MAX: Duration = Duration::from_secs(5);
/// The memory for all programs is taken if it has no room for one more of these: a message of a stream.
const PIECE_BYTES: usize = 1 << 20;

/// One connection of a program; in every request's extensions. A handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Outflow {
    share: Budget,
    cut: CancellationToken,
    shape: Shape,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As they are.
    Plain,
    /// As base64.
    Base64,
}

impl Shape {
    /// What so many bytes of an answer take.
    fn written(self, bytes: usize) -> usize {
        match self {
            Self::Plain => bytes,
            Self::Base64 => bytes.div_ceil(3).saturating_mul(4),
        }
    }
}

impl Outflow {
    /// Of a connection whose streams may hold so many bytes, together.
    pub fn new(share_bytes: usize) -> Self {
        Self { share: Budget::new(share_bytes), cut: CancellationToken::new(), shape: Shape::Plain }
    }

    /// The answers to one request, whose handle this is, are written as base64.
    pub(super) fn write_base64(&mut self) {
        self.shape = Shape::Base64;
    }

    /// Completes when the connection is to be closed.
    pub(super) async fn is_cut(&self) {
        self.cut.cancelled().await;
    }
}

/// Memory for an answer.
#[derive(Debug)]
pub struct Held {
    of_connection: Option<OwnedSemaphorePermit>,
    of_all: OwnedSemaphorePermit,
    shape: Shape,
}

impl Held {
    /// Gives back what is beyond so many bytes of an answer.
    pub(super) fn keep(&mut self, bytes: usize) {
        let bytes = self.shape.written(bytes);
        self.of_connection.iter_mut().chain([&mut self.of_all]).for_each(|permit| keep(permit, bytes));
    }

    fn kibibytes(&self) -> usize {
        self.of_all.num_permits()
    }
}

/// What both ends of a stream, its bytes in HTTP's hands, and who watches it, share.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Answers that are queued or in HTTP's hands.
    waiting: AtomicUsize,
    /// The memory that they hold.
    kibibytes: AtomicUsize,
    /// Steps that answers took towards the socket.
    steps: AtomicU64,
    /// The program was cut off.
    cut: CancellationToken,
}

impl Progress {
    /// Something of an answer went on.
    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }
}

/// An answer that was sent and is not written yet.
#[derive(Debug)]
pub struct Load {
    held: Option<Held>,
    progress: Arc<Progress>,
}

impl Load {
    fn new(held: Option<Held>, progress: Arc<Progress>) -> Self {
        progress.waiting.fetch_add(1, Ordering::Relaxed);
        progress.kibibytes.fetch_add(held.as_ref().map_or(0, Held::kibibytes), Ordering::Relaxed);
        Self { held, progress }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let kibibytes = self.held.as_ref().map_or(0, Held::kibibytes);
        self.progress.kibibytes.fetch_sub(kibibytes, Ordering::Relaxed);
        self.progress.waiting.fetch_sub(1, Ordering::Relaxed);
        self.progress.step();
    }
}

/// Answers of one stream that HTTP has asked for and that are not bytes yet; in the response's extensions, for
/// [`Metered`](super::metered::Metered). A handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Handed {
    loads: Arc<Mutex<Vec<Load>>>,
    pub(super) progress: Arc<Progress>,
}

impl Handed {
    /// All of them.
    pub fn take(&self) -> Vec<Load> {
        std::mem::take(&mut self.loads.lock())
    }
}

struct Queued<T> {
    answer: Result<T, Status>,
    load: Load,
}

/// The program is gone, or was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// The sending end of one stream of answers; a handle that can be cloned.
pub struct Answers<T> {
    queue: mpsc::Sender<Queued<T>>,
    all: Budget,
    connection: Option<Outflow>,
    progress: Arc<Progress>,
}

/// The other end, for HTTP.
pub struct Answered<T> {
    queue: mpsc::Receiver<Queued<T>>,
    handed: Handed,
}

/// A stream of which at most so many answers wait. `connection`: absent for other brokers, who lose the stream alone.
pub fn stream<T: Send + 'static>(
    depth: usize,
    all: Budget,
    connection: Option<Outflow>,
    stall_max: Duration,
) -> (Answers<T>, Answered<T>) {
    let (sender, queue) = mpsc::channel(depth);
    let progress = Arc::new(Progress::default());
    let answers = Answers { queue: sender, all, connection, progress: progress.clone() };
    tokio::spawn(answers.watch(stall_max).run());
    let handed = Handed { loads: Arc::default(), progress };
    (answers, Answered { queue, handed })
}

impl<T> Clone for Answers<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            all: self.all.clone(),
            connection: self.connection.clone(),
            progress: self.progress.clone(),
        }
    }
}

impl<T> Answers<T> {
    fn watch(&self, stall_max: Duration) -> Watch<T> {
        Watch {
            queue: self.queue.downgrade(),
            all: self.all.clone(),
            connection: self.connection.clone(),
            progress: self.progress.clone(),
            stall_max,
        }
    }

    /// Completes when the program is gone, or was cut off.
    pub(super) async fn closed(&self) {
        tokio::select! {
            () = self.queue.closed() => {}
            () = self.progress.cut.cancelled() => {}
        }
    }

    /// Waits for memory for an answer of about so many bytes: before it is read, so that who waits holds nothing.
    pub async fn room(&self, bytes: usize) -> Held {
        let shape = self.connection.as_ref().map_or(Shape::Plain, |connection| connection.shape);
        let bytes = shape.written(bytes);
        let of_connection = match &self.connection {
            Some(connection) => Some(connection.share.take(bytes).await),
            None => None,
        };
        Held { of_connection, of_all: self.all.take(bytes).await, shape }
    }

    /// Whether they go to a program, and not to another broker, which goes on with them.
    pub(super) fn is_for_program(&self) -> bool {
        self.connection.is_some()
    }

    /// Queues an answer, behind those that wait.
    pub async fn send(&self, answer: Result<T, Status>, held: Option<Held>) -> Result<(), Gone> {
        let place = tokio::select! {
            place = self.queue.reserve() => place.map_err(|_| Gone)?,
            () = self.progress.cut.cancelled() => return Err(Gone),
        };
        place.send(Queued { answer, load: Load::new(held, self.progress.clone()) });
        Ok(())
    }
}

/// Watches whether anybody reads what waits.
struct Watch<T> {
    queue: mpsc::WeakSender<Queued<T>>,
    all: Budget,
    connection: Option<Outflow>,
    progress: Arc<Progress>,
    stall_max: Duration,
}

/// Since when nothing moves.
#[derive(Debug, Clone, Copy)]
struct Unread {
    steps_before: u64,
    since: Instant,
}

impl Unread {
    /// For how long now what waits was left unread.
    fn judge(&mut self, now: Instant, waiting: usize, steps: u64) -> Duration {
        if waiting == 0 || steps != self.steps_before {
            *self = Self { steps_before: steps, since: now };
        }
        now - self.since
    }
}

impl<T> Watch<T> {
    async fn run(self) {
        let look_every = self.stall_max.min(PRESSED_MAX) / 2;
        let mut unread = Unread { steps_before: 0, since: Instant::now() };
        loop {
            tokio::time::sleep(look_every).await;
            let waiting = self.progress.waiting.load(Ordering::Relaxed);
            if waiting == 0 && self.queue.upgrade().is_none_or(|queue| queue.is_closed()) {
                return;
            }
            let steps = self.progress.steps.load(Ordering::Relaxed);
            if unread.judge(Instant::now(), waiting, steps) >= self.patience() {
                return self.cut();
            }
        }
    }

    /// Who holds none of the memory is not the one that the others wait for.
    fn patience(&self) -> Duration {
        let holds = self.progress.kibibytes.load(Ordering::Relaxed) > 0;
        if holds && self.all.is_pressed(PIECE_BYTES) {
            self.stall_max.min(PRESSED_MAX)
        } else {
            self.stall_max
        }
    }

    fn cut(&self) {
        info!("a program that does not read its answers is cut off");
        self.progress.cut.cancel();
        if let Some(connection) = &self.connection {
            connection.cut.cancel();
        }
    }
}

impl<T> Answered<T> {
    /// What a response of another shape carries in its extensions, for its memory to be counted until it is written.
    pub fn handed(&self) -> Handed {
        self.handed.clone()
    }

    /// As a response whose memory is counted until it is written.
    pub(super) fn into_response(self) -> Response<Self> {
        let handed = self.handed();
        let mut response = Response::new(self);
        response.extensions_mut().insert(handed);
        response
    }
}

impl<T> Stream for Answered<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(Queued { answer, load }) = ready!(self.queue.poll_recv(context)) else {
            return Poll::Ready(None);
        };
        load.progress.step();
        self.handed.loads.lock().push(load);
        Poll::Ready(Some(answer))
    }
}

#[cfg(test)]
#[path = "outflow_tests.rs"]
mod tests;
