//! `Log.Fetch`: batches of partitions that this broker leads, as long as there is credit.

use std::collections::{BTreeMap, VecDeque};

use fulmar_core::batch::Batch;
use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use fulmar_proto::v1::{FetchRequest, FetchResponse};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;
use tracing::debug;

use super::super::Door;
use super::super::convert::{term_bytes, term_of, topic_bytes, topic_id};
use super::super::error::Failure;
use super::super::feed::{Fed, Feed, Form};
use super::super::outflow::{self, Answered, Answers, Held, Outflow};
use super::relay;
use crate::traces::Delivering;

/// Partitions of one stream: a task and a place in the queue each.
const PARTITIONS_MAX: usize = 10_000;
/// Responses that wait for the socket, of all partitions.
const RESPONSES_MAX: usize = 8;
/// Credit that is not asked for, and the most, as the API says.
const CREDIT_DEFAULT: u32 = 4 << 20;
const CREDIT_MAX: u32 = 16 << 20;
/// One response.
const READ_BYTES_MAX: usize = 1 << 20;

type Queue = Answers<FetchResponse>;

/// A partition that is delivered: where its newest request goes.
struct Delivered {
    newest: watch::Sender<FetchRequest>,
    _task: AbortOnDropHandle<()>,
}

impl Door {
    pub(super) fn fetch(
        &self,
        requests: Streaming<FetchRequest>,
        connection: Option<Outflow>,
        passes_on: bool,
    ) -> Answered<FetchResponse> {
        let (all, stall_max) = (self.shared.answers.clone(), self.shared.stall_max);
        let (queue, responses) = outflow::stream(RESPONSES_MAX, all, connection, stall_max);
        tokio::spawn(steer((self.clone(), passes_on), requests, queue, self.shared.stop.child_token()));
        responses
    }
}

impl Door {
    /// What is told of batches on their way to a program, from this offset on.
    pub(super) fn delivering(
        &self,
        key: PartitionKey,
        from: Offset,
        batches: &[Batch],
    ) -> Option<Delivering> {
        let traces = &self.shared.traces;
        let topic = traces.is_on().then(|| self.topic_of(key.topic).ok()).flatten()?;
        let mut delivering = traces.delivering(&topic.name, key.partition)?;
        for batch in batches {
            delivering.batch(batch, from, &self.shared.answers);
        }
        Some(delivering)
    }
}

/// Reads the stream of requests; ends when the program ends it, and what is delivered with it.
async fn steer(
    (door, passes_on): (Door, bool),
    mut requests: Streaming<FetchRequest>,
    queue: Queue,
    end: CancellationToken,
) {
    let mut delivered: BTreeMap<PartitionKey, Delivered> = BTreeMap::new();
    loop {
        let request = tokio::select! {
            () = queue.closed() => return,
            () = end.cancelled() => {
                if door.shared.stop.is_cancelled() {
                    // The program may be gone.
                    let _gone = queue.send(Err(Door::leaving().into()), None).await;
                }
                return;
            }
            request = requests.message() => request,
        };
        let request = match request {
            Ok(Some(request)) => request,
            Ok(None) => {
                // No more requests; what there is credit for still goes out.
                tokio::select! { () = queue.closed() => {}, () = end.cancelled() => {} }
                return;
            }
            Err(status) => {
                debug!(%status, "a fetch stream broke");
                // The program may be gone.
                let _gone = queue.send(Err(status), None).await;
                return;
            }
        };
        if let Err(failure) = take((&door, passes_on), &mut delivered, (&queue, &end), request) {
            // The program may be gone.
            let _gone = queue.send(Err(failure.into()), None).await;
            return;
        }
    }
}

/// An error concerns the whole stream; one of a partition is sent as its response.
fn take(
    (door, passes_on): (&Door, bool),
    delivered: &mut BTreeMap<PartitionKey, Delivered>,
    (queue, end): (&Queue, &CancellationToken),
    request: FetchRequest,
) -> Result<(), Failure> {
    let key = PartitionKey { topic: topic_id(&request.topic_id)?, partition: request.partition };
    term_of(&request.term)?;
    if request.bytes_max > CREDIT_MAX {
        let message = format!("bytes_max: at most {CREDIT_MAX}, this is {}", request.bytes_max);
        return Err(Failure::invalid("bytes_max", message));
    }
    if request.stop {
        delivered.remove(&key);
        return Ok(());
    }
    if let Some(known) = delivered.get(&key)
        && !known.newest.is_closed()
    {
        known.newest.send_replace(request);
        return Ok(());
    }
    delivered.retain(|_, partition| !partition.newest.is_closed());
    if delivered.len() >= PARTITIONS_MAX {
        return Err(Failure::invalid(
            "partition",
            format!("at most {PARTITIONS_MAX} partitions in one stream"),
        ));
    }
    let (newest, requests) = watch::channel(request);
    let (queue, end) = (queue.clone(), end.clone());
    let delivery = Delivery { door: door.clone(), passes_on, key, queue, end, requests };
    delivered.insert(key, Delivered { newest, _task: AbortOnDropHandle::new(tokio::spawn(delivery.run())) });
    Ok(())
}

struct Delivery {
    door: Door,
    /// What another broker leads is fetched from there.
    passes_on: bool,
    key: PartitionKey,
    queue: Queue,
    /// Ends the whole stream.
    end: CancellationToken,
    requests: watch::Receiver<FetchRequest>,
}

/// What was sent and not yet asked beyond.
#[derive(Default)]
struct InFlight {
    sent: VecDeque<(Offset, usize)>,
    bytes: usize,
}

impl InFlight {
    fn asked(&mut self, offset: Offset) {
        while let Some((_, bytes)) = self.sent.pop_front_if(|(end, _)| *end <= offset) {
            self.bytes -= bytes;
        }
    }
}

impl Delivery {
    async fn run(mut self) {
        if let Err(failure) = self.deliver().await {
            let response = FetchResponse {
                topic_id: topic_bytes(self.key.topic),
                partition: self.key.partition,
                error: Some(failure.to_item()),
                ..FetchResponse::default()
            };
            // The program may be gone.
            let _gone = self.queue.send(Ok(response), None).await;
        }
    }

    fn begin(&mut self) -> Result<(Feed, FetchRequest), Failure> {
        let topic = self.door.topic_of(self.key.topic)?;
        Door::partition(&topic, self.key.partition)?;
        let request = self.requests.borrow_and_update().clone();
        let seen = term_of(&request.term)?;
        let feed = self.door.feed(self.key, Offset(request.offset), seen, Form::Batches)?;
        Ok((feed, request))
    }

    async fn deliver(&mut self) -> Result<(), Failure> {
        if self.passes_on
            && let Some(leader) = self.door.leader(self.key)
            && leader != self.door.shared.replicas.me()
        {
            return relay::fetch(&self.door, leader.ordinal, &mut self.requests, &self.queue).await;
        }
        let (mut feed, mut request) = self.begin()?;
        let mut in_flight = InFlight::default();
        let mut changes = self.requests.clone();
        loop {
            let from = feed.next;
            let credit = if request.bytes_max == 0 { CREDIT_DEFAULT } else { request.bytes_max } as usize;
            let left = credit.saturating_sub(in_flight.bytes);
            tokio::select! {
                biased;
                moved = changes.changed() => {
                    if moved.is_err() {
                        return Ok(());
                    }
                    let newest = changes.borrow_and_update().clone();
                    let offset = Offset(newest.offset);
                    if newest.offset >= request.offset && offset <= feed.next {
                        in_flight.asked(offset);
                    } else {
                        // Elsewhere: what is under way is no credit of it.
                        in_flight = InFlight::default();
                        feed.next = offset;
                    }
                    if let Some(seen) = term_of(&newest.term)?
                        && feed.seen.is_none_or(|known| known < seen)
                    {
                        feed.seen = Some(seen);
                    }
                    request = newest;
                }
                next = feed.next(left.min(READ_BYTES_MAX), &self.queue), if left > 0 => {
                    let (delivery, held) = next?;
                    let bytes = delivery.batches.iter().map(Batch::size).sum();
                    in_flight.sent.push_back((feed.next, bytes));
                    in_flight.bytes += bytes;
                    if !self.send(from, delivery, held).await {
                        return Ok(());
                    }
                }
            }
        }
    }

    async fn send(&self, from: Offset, fed: Fed, held: Held) -> bool {
        let is_for_program = self.queue.is_for_program();
        let traced = is_for_program.then(|| self.door.delivering(self.key, from, &fed.batches)).flatten();
        let response = FetchResponse {
            topic_id: topic_bytes(self.key.topic),
            partition: self.key.partition,
            batches: fed.batches.iter().map(|batch| batch.bytes().clone()).collect(),
            high_watermark: fed.high_watermark.0,
            log_start: fed.log_start.0,
            term: term_bytes(fed.term),
            error: None,
        };
        let is_sent = self.queue.send(Ok(response), Some(held)).await.is_ok();
        if !is_sent {
            self.end.cancel();
        } else if let Some(traced) = traced {
            traced.done();
        }
        is_sent
    }
}
