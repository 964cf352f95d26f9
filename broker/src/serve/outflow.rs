//! Memory of answers on their way to a program's socket, and what becomes of a program that does not read.
//!
//! Owns two bounds. *Before* the socket: what waits in the queue of a stream holds memory of its connection's share and of
//! all programs' share, taken before anything is read for it. *In* the socket: frames that HTTP has taken and not written
//! are counted for each connection. A program that leaves a stream unread for too long loses its connection: nothing less
//! gives back what HTTP holds for it. Never looks into answers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures::Stream;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::{CancellationToken, PollSemaphore};
use tonic::Status;
use tracing::info;

/// While the memory for all programs is taken, one that holds some of it and reads nothing loses it after this time.
const PRESSED_MAX: Duration = Duration::from_secs(5);
/// The largest frame that HTTP is given at once, about: a message of a stream.
const FRAME_KIB: usize = 1024;
/// What HTTP may have taken of one connection's answers: enough that eight streams go at full speed.
const FLOWING_KIB_MAX: usize = 8 * FRAME_KIB;

/// Memory of a fixed size; a handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Budget {
    room: Arc<Semaphore>,
    kibibytes: usize,
}

impl Budget {
    /// Of so many bytes, all of them free.
    pub fn new(bytes: usize) -> Self {
        let kibibytes = (bytes / 1024).max(1);
        Self { room: Arc::new(Semaphore::new(kibibytes)), kibibytes }
    }

    /// More than the whole takes all of it: one larger answer goes alone.
    async fn take(&self, bytes: usize) -> OwnedSemaphorePermit {
        let kibibytes = u32::try_from(bytes.div_ceil(1024).min(self.kibibytes)).unwrap_or(u32::MAX);
        self.room.clone().acquire_many_owned(kibibytes).await.expect("nobody closes this semaphore")
    }

    /// Whether there is no room for one more large answer.
    fn is_pressed(&self) -> bool {
        self.room.available_permits() < FRAME_KIB.min(self.kibibytes)
    }
}

/// One connection of a program; in every request's extensions. A handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Outflow {
    queued: Budget,
    flowing: Arc<Semaphore>,
    cut: CancellationToken,
}

impl Outflow {
    /// Of a connection whose streams may have so many bytes waiting, together.
    pub fn new(queued_bytes: usize) -> Self {
        Self {
            queued: Budget::new(queued_bytes),
            flowing: Arc::new(Semaphore::new(FLOWING_KIB_MAX)),
            cut: CancellationToken::new(),
        }
    }

    /// Completes when the connection is to be closed.
    pub(super) async fn is_cut(&self) {
        self.cut.cancelled().await;
    }

    /// Counts what HTTP takes of an answer until it is written.
    pub(super) fn metered(&self, answer: Body) -> Body {
        Body::new(Metered { inner: answer, room: PollSemaphore::new(self.flowing.clone()) })
    }
}

/// Memory that an answer holds until the socket asks for it.
#[derive(Debug)]
pub(super) struct Held {
    _of_connection: Option<OwnedSemaphorePermit>,
    _of_all: OwnedSemaphorePermit,
}

struct Queued<T> {
    answer: Result<T, Status>,
    _held: Option<Held>,
}

/// What both ends of a stream, and who watches it, share.
#[derive(Debug, Default)]
struct Progress {
    /// Answers that the socket asked for.
    taken: AtomicU64,
    /// The program was cut off.
    cut: CancellationToken,
}

/// The program is gone, or was cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// The sending end of one stream of answers; a handle that can be cloned.
pub(super) struct Answers<T> {
    queue: mpsc::Sender<Queued<T>>,
    all: Budget,
    connection: Option<Outflow>,
    progress: Arc<Progress>,
}

/// The other end, for HTTP.
pub struct Answered<T> {
    queue: mpsc::Receiver<Queued<T>>,
    progress: Arc<Progress>,
}

/// A stream of which at most so many answers wait. `connection`: absent for other brokers, who lose the stream alone.
pub(super) fn stream<T: Send + 'static>(
    depth: usize,
    all: Budget,
    connection: Option<Outflow>,
    stall_max: Duration,
) -> (Answers<T>, Answered<T>) {
    let (sender, queue) = mpsc::channel(depth);
    let progress = Arc::new(Progress::default());
    let watch = Watch {
        queue: sender.downgrade(),
        all: all.clone(),
        connection: connection.clone(),
        progress: progress.clone(),
        stall_max,
    };
    tokio::spawn(watch.run());
    let answers = Answers { queue: sender, all, connection, progress: progress.clone() };
    (answers, Answered { queue, progress })
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
    /// Completes when the program is gone, or was cut off.
    pub(super) async fn closed(&self) {
        tokio::select! {
            () = self.queue.closed() => {}
            () = self.progress.cut.cancelled() => {}
        }
    }

    /// Waits for memory for an answer of about so many bytes: before it is read, so that who waits holds nothing.
    pub(super) async fn room(&self, bytes: usize) -> Held {
        let of_connection = match &self.connection {
            Some(connection) => Some(connection.queued.take(bytes).await),
            None => None,
        };
        Held { _of_connection: of_connection, _of_all: self.all.take(bytes).await }
    }

    /// Queues an answer, behind those that wait.
    pub(super) async fn send(&self, answer: Result<T, Status>, held: Option<Held>) -> Result<(), Gone> {
        tokio::select! {
            sent = self.queue.send(Queued { answer, _held: held }) => sent.map_err(|_| Gone),
            () = self.progress.cut.cancelled() => Err(Gone),
        }
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

impl<T> Watch<T> {
    async fn run(self) {
        let look_every = self.stall_max.min(PRESSED_MAX) / 2;
        let mut taken_before = 0;
        let mut unread_since = Instant::now();
        loop {
            tokio::time::sleep(look_every).await;
            let Some(queue) = self.queue.upgrade().filter(|queue| !queue.is_closed()) else { return };
            let taken = self.progress.taken.load(Ordering::Relaxed);
            if taken != taken_before || queue.capacity() == queue.max_capacity() {
                (taken_before, unread_since) = (taken, Instant::now());
                continue;
            }
            drop(queue);
            let patience =
                if self.all.is_pressed() { self.stall_max.min(PRESSED_MAX) } else { self.stall_max };
            if unread_since.elapsed() >= patience {
                return self.cut();
            }
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

impl<T> Stream for Answered<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let queued = ready!(self.queue.poll_recv(context));
        self.progress.taken.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(queued.map(|queued| queued.answer))
    }
}

/// A body whose frames hold a connection's room until HTTP has written them.
struct Metered {
    inner: Body,
    room: PollSemaphore,
}

/// Bytes of a frame, and the room that they give back when they are dropped.
struct Flowing {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Flowing {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Metered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let whole = u32::try_from(FRAME_KIB).expect("1024");
        // Given back at once if there is no frame: a stream that has nothing to say holds nothing.
        let room = ready!(self.room.poll_acquire_many(context, whole));
        let mut room = room.expect("nobody closes this semaphore");
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|bytes| {
                    let used = bytes.len().div_ceil(1024).clamp(1, FRAME_KIB);
                    drop(room.split(FRAME_KIB - used));
                    Bytes::from_owner(Flowing { bytes, _room: room })
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
