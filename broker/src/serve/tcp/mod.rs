//! TCP: a small binary protocol for programs that have no gRPC and want less than HTTP. `docs/protocol.md` says each byte.
//!
//! Owns connections: reading frames, carrying requests out side by side, and one writer of what comes of them. Never knows
//! more of topics and partitions than the other ways in.

mod answer;
mod fields;
mod frame;
pub mod fuzzed;
mod kind;
mod request;
mod subscription;
mod writer;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fulmar_proto::v1::{ErrorReason, PublishRequest};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::frame::{FrameError, HEAD_BYTES, Head};
use self::request::{Placement, Request};
use self::writer::Piece;
use super::error::Failure;
use super::inflow::Received;
use super::listen::{KEEPALIVE, asked_after};
use super::outflow::{self, Outflow};
use super::pull::Pull;
use super::{DEADLINE_DEFAULT, Door, listen};
use crate::memory::{Budget, Shares};

/// Requests of one connection that are worked on at a time: the next one is not read before.
const REQUESTS_MAX: usize = 64;
/// Answers that wait for the socket.
const ANSWERS_MAX: usize = 4;
/// A program that says nothing for so long, and follows nothing, is gone: its connection makes room.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// A frame that has begun arrives whole within this time: the longest one needs 14 Mbit/s.
const ARRIVAL_MAX: Duration = Duration::from_secs(5);
/// How long a frame waits for its connection's share of the memory; for all programs' it waits as long.
const ROOM_MAX: Duration = Duration::from_secs(5);
/// Behind an error that ends a connection so much is still read, for so long: closed with bytes unread, the program's
/// system throws the error away.
const FAREWELL: (u64, Duration) = (1 << 20, Duration::from_secs(1));

/// Serves programs until `stop`; then what is under way is finished, and waited for until the caller waits no more.
pub async fn serve(listener: TcpListener, door: Door, shares: Shares, stop: CancellationToken) {
    let stopping = stop.clone();
    let each = move |socket, address| run(socket, address, door.clone(), shares, stopping.clone());
    listen::accept(listener, "tcp", shares.connections, stop, each).await;
}

/// What all requests of a connection share.
#[derive(Debug)]
struct Connection {
    door: Door,
    outflow: Outflow,
    /// To the writer.
    answers: mpsc::Sender<Piece>,
    /// What frames may take while they are requests.
    requests: Budget,
    working: Arc<Semaphore>,
    /// By their correlation ids; each with what ends it.
    subscriptions: Mutex<HashMap<u32, CancellationToken>>,
    /// Ends all of them.
    end: CancellationToken,
}

/// Why no more is read.
enum Ended {
    /// The program has closed, or vanished.
    Gone,
    /// What it sent is no frame, or comes too slowly.
    Failed(Failure),
}

async fn run(socket: TcpStream, address: SocketAddr, door: Door, shares: Shares, stop: CancellationToken) {
    let stall_max = door.shared.stall_max;
    // Off, a small answer waits 40 ms for an acknowledgement that waits for more.
    if socket.set_nodelay(true).is_err() || asked_after(&socket, KEEPALIVE, Some(stall_max)).is_err() {
        return;
    }
    let (reading, writing) = socket.into_split();
    let (answers, queue) = mpsc::channel(ANSWERS_MAX);
    let mut writer = tokio::spawn(writer::write(writing, queue, stall_max));
    let outflow = Outflow::new(shares.connection_answers);
    let connection = Arc::new(Connection {
        door,
        outflow: outflow.clone(),
        answers,
        requests: Budget::new(shares.connection_requests),
        working: Arc::new(Semaphore::new(REQUESTS_MAX)),
        subscriptions: Mutex::default(),
        end: CancellationToken::new(),
    });
    let mut reading = BufReader::new(reading);
    tokio::select! {
        ended = connection.read(&mut reading) => {
            if let Ended::Failed(failure) = ended {
                debug!(%address, failure = failure.message, "a connection is ended");
                connection.answer(answer::error(0, &failure)).await;
            }
            connection.end.cancel();
        }
        // Subscriptions say so themselves.
        () = stop.cancelled() => {}
        () = outflow.is_cut() => return writer.abort(),
        ended = &mut writer => {
            if let Ok(Err(error)) = ended && error.kind() == ErrorKind::TimedOut {
                info!(%address, "a program that does not read its answers is cut off");
            }
            return;
        }
    }
    // The writer ends with the last request that is under way.
    drop(connection);
    let (bytes_max, time_max) = FAREWELL;
    let (mut rest, mut nowhere) = (reading.take(bytes_max), tokio::io::sink());
    let unread = timeout(time_max, tokio::io::copy(&mut rest, &mut nowhere));
    tokio::select! {
        () = outflow.is_cut() => writer.abort(),
        // Whether it could be written, or anything came: it is over.
        _ended = async { tokio::join!(&mut writer, unread) } => {}
    }
}

impl Connection {
    /// Frame after frame.
    async fn read(self: &Arc<Self>, socket: &mut (impl AsyncRead + Unpin)) -> Ended {
        loop {
            if let Err(ended) = self.next(socket).await {
                return ended;
            }
        }
    }

    async fn next(self: &Arc<Self>, socket: &mut (impl AsyncRead + Unpin)) -> Result<(), Ended> {
        let mut head = [0; HEAD_BYTES];
        head[0] = self.first(socket).await?;
        let arriving = timeout(ARRIVAL_MAX, socket.read_exact(&mut head[1..]));
        arriving.await.map_err(|_| late())?.map_err(|_| Ended::Gone)?;
        let parsed = Head::parse(&head).map_err(|error| Ended::Failed(failure_of(error)))?;
        let Ok(turn) = self.working.clone().acquire_owned().await else { return Err(Ended::Gone) };
        let memory = match self.room(request::memory(parsed.length)).await {
            Ok(memory) => memory,
            Err(busy) => {
                skip(socket, parsed.rest()).await?;
                self.answer(answer::error(parsed.correlation, &busy)).await;
                return Ok(());
            }
        };
        let mut rest = vec![0; parsed.rest()];
        let arriving = timeout(ARRIVAL_MAX, socket.read_exact(&mut rest));
        arriving.await.map_err(|_| late())?.map_err(|_| Ended::Gone)?;
        let body = frame::body(&head, rest.into()).map_err(|error| Ended::Failed(failure_of(error)))?;
        match Request::parse(parsed.kind, body) {
            Ok(request) => self.take(parsed.correlation, request, (turn, memory)).await,
            Err(failure) => self.answer(answer::error(parsed.correlation, &failure)).await,
        }
        Ok(())
    }

    /// The first byte of a frame may take its time.
    async fn first(&self, socket: &mut (impl AsyncRead + Unpin)) -> Result<u8, Ended> {
        loop {
            match timeout(IDLE_MAX, socket.read_u8()).await {
                Ok(first) => return first.map_err(|_| Ended::Gone),
                Err(_) if self.subscriptions.lock().is_empty() => {
                    let message = format!("nothing was asked for {IDLE_MAX:?}, and nothing is followed");
                    return Err(Ended::Failed(Failure::new(ErrorReason::NotServing, message)));
                }
                Err(_) => {}
            }
        }
    }

    async fn room(&self, bytes: usize) -> Result<(OwnedSemaphorePermit, Received), Failure> {
        let busy = |_| {
            let message = "the requests of this connection have all its memory; this one was not read";
            Failure::new(ErrorReason::Busy, message)
        };
        let of_connection = timeout(ROOM_MAX, self.requests.take(bytes)).await.map_err(busy)?;
        Ok((of_connection, Received::alone(&self.door.shared.requests, bytes).await?))
    }

    /// Begins to carry a request out.
    async fn take(
        self: &Arc<Self>,
        correlation: u32,
        request: Request,
        (turn, (share, received)): (OwnedSemaphorePermit, (OwnedSemaphorePermit, Received)),
    ) {
        let connection = Arc::clone(self);
        match request {
            Request::Ping(said) => self.answer(answer::pong(correlation, &said)).await,
            Request::Unsubscribe => self.unsubscribe(correlation).await,
            Request::Subscribe { topic, partition, start } => {
                self.subscribe(correlation, topic, partition, start).await;
            }
            Request::Publish { topic, placement, messages } => {
                tokio::spawn(async move {
                    let _working = (turn, share);
                    let published = connection.publish(correlation, &topic, placement, messages, received);
                    let answer =
                        published.await.unwrap_or_else(|failure| answer::error(correlation, &failure));
                    connection.answer(answer).await;
                });
            }
            Request::Pull { topic, partition, start, max, wait_ms } => {
                let wait = Duration::from_millis(u64::from(wait_ms));
                tokio::spawn(async move {
                    let _working = (turn, share);
                    let pull = Pull { partition: Some(partition), at: start, max, wait };
                    if let Err(failure) = connection.pull(correlation, &topic, pull).await {
                        connection.answer(answer::error(correlation, &failure)).await;
                    }
                });
            }
        }
    }

    async fn publish(
        &self,
        correlation: u32,
        topic: &str,
        placement: Placement,
        mut messages: Vec<PublishRequest>,
        received: Received,
    ) -> Result<Bytes, Failure> {
        let deadline = Instant::now() + DEADLINE_DEFAULT;
        if placement == Placement::Sha256 {
            let partitions = self.door.find(topic, false, deadline).await?.partitions.max(1);
            for message in messages.iter_mut().filter(|message| message.partition.is_none()) {
                message.partition = message.key.as_deref().map(|key| request::sha256(key, partitions));
            }
        }
        let outcomes = self.door.publish_all(topic, (messages, received), deadline).await?;
        if outcomes.iter().all(Result::is_err)
            && let Some(Err(failure)) = outcomes.first()
        {
            return Err(failure.clone());
        }
        Ok(answer::published(correlation, &outcomes))
    }

    async fn pull(&self, correlation: u32, topic: &str, pull: Pull) -> Result<(), Failure> {
        let deadline = Instant::now() + DEADLINE_DEFAULT;
        let (all, stall_max) = (self.door.shared.answers.clone(), self.door.shared.stall_max);
        let (queue, answered) = outflow::stream::<Bytes>(1, all, Some(self.outflow.clone()), stall_max);
        let pulled = self.door.pull(topic, pull, &queue, deadline).await?;
        let answer = answer::pulled(correlation, &pulled.messages, pulled.next.0);
        drop(pulled.messages);
        // The queue is new.
        let _gone = queue.send(Ok(answer), pulled.room).await;
        drop(queue);
        self.pass_on(answered, |answer| answer).await;
        Ok(())
    }

    /// Queues an answer; the program may be gone.
    async fn answer(&self, frame: Bytes) {
        let _gone = self.answers.send(Piece::of(frame)).await;
    }
}

/// Reads what is not wanted.
async fn skip(socket: &mut (impl AsyncRead + Unpin), bytes: usize) -> Result<(), Ended> {
    let (mut unwanted, mut nowhere) = (socket.take(bytes as u64), tokio::io::sink());
    let skipped = timeout(ARRIVAL_MAX, tokio::io::copy(&mut unwanted, &mut nowhere)).await;
    match skipped.map_err(|_| late())? {
        Ok(skipped) if skipped == bytes as u64 => Ok(()),
        Ok(_) | Err(_) => Err(Ended::Gone),
    }
}

fn late() -> Ended {
    let message = format!("a frame that begins must arrive whole within {ARRIVAL_MAX:?}");
    Ended::Failed(Failure::new(ErrorReason::Busy, message))
}

fn failure_of(error: FrameError) -> Failure {
    let reason = match error {
        FrameError::Length(_) => ErrorReason::RecordTooLarge,
        FrameError::Magic(..) | FrameError::Version(_) | FrameError::Crc { .. } => {
            ErrorReason::InvalidRequest
        }
    };
    Failure::new(reason, error.to_string())
}

#[cfg(test)]
mod tests;
