//! `Log`'s streams for programs that reach this broker alone, such as those behind a port-forward: what another broker leads is
//! passed on to it and back.
//!
//! Owns the streams to leaders. Never tries again: the program does, as it would with the leader itself.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use fulmar_core::batch::Batch;
use fulmar_core::id::{Ordinal, PartitionKey};
use fulmar_core::offset::Offset;
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::produce_response::Outcome;
use fulmar_proto::v1::{FetchRequest, FetchResponse, ProduceRequest};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};
use tracing::debug;

use super::super::convert::topic_id;
use super::super::error::Failure;
use super::super::outflow::Answers;
use super::super::{DEADLINE_DEFAULT, Door, find, forward};
use super::is_forwarded;
use crate::dial;
use crate::traces::Delivering;

/// In the metadata of a stream: the program cannot reach the leaders.
const PASS_ON: &str = "fulmar-pass-on";
/// Batches on their way to one leader: as many as a producer's window.
const BATCHES_MAX: usize = 64;

/// Whether a program asks for it. Brokers never do: nothing is passed on twice.
pub(super) fn is_wanted<T>(request: &Request<T>) -> bool {
    request.metadata().contains_key(PASS_ON) && !is_forwarded(request)
}

async fn client(door: &Door, leader: Ordinal) -> Result<LogClient<Channel>, Failure> {
    let channel = door.shared.channels.to(leader).await?;
    Ok(LogClient::new(channel)
        .max_decoding_message_size(dial::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(dial::MESSAGE_BYTES_MAX))
}

fn unanswered(door: &Door, leader: Ordinal) -> Failure {
    door.shared.channels.forget(leader);
    Failure::not_leader(format!("broker {leader}, which leads, does not answer"), String::new())
}

/// Delivers one partition from its leader until the program asks no more, or something ends it: then why.
pub(super) async fn fetch(
    door: &Door,
    leader: Ordinal,
    requests: &mut watch::Receiver<FetchRequest>,
    queue: &Answers<FetchResponse>,
) -> Result<(), Failure> {
    let mut client = client(door, leader).await?;
    let (ask, asks) = mpsc::channel(1);
    let first = requests.borrow_and_update().clone();
    let (key, mut from) =
        (PartitionKey { topic: topic_id(&first.topic_id)?, partition: first.partition }, first.offset);
    ask.try_send(first).expect("the queue is new");
    let fetching = client.fetch(forward::marked(ReceiverStream::new(asks)));
    let Ok(Ok(fetching)) = timeout(DEADLINE_DEFAULT, fetching).await else {
        return Err(unanswered(door, leader));
    };
    let mut inbound: Streaming<FetchResponse> = fetching.into_inner();
    loop {
        tokio::select! {
            changed = requests.changed() => {
                let newest = requests.borrow_and_update().clone();
                from = newest.offset;
                if changed.is_err() || ask.send(newest).await.is_err() {
                    return Ok(());
                }
            }
            response = inbound.message() => {
                let Ok(Some(response)) = response else { return Err(unanswered(door, leader)) };
                if let Some(error) = &response.error {
                    return Err(find::behind(leader, Failure::from_item(error)));
                }
                let room = queue.room(response.batches.iter().map(Bytes::len).sum()).await;
                let traced = delivering(door, key, Offset(from), &response);
                if queue.send(Ok(response), Some(room)).await.is_err() {
                    return Ok(());
                }
                if let Some(traced) = traced {
                    traced.done();
                }
            }
        }
    }
}

/// The leader gave them to a broker; to the program they come from here.
fn delivering(door: &Door, key: PartitionKey, from: Offset, response: &FetchResponse) -> Option<Delivering> {
    if !door.shared.traces.is_on() {
        return None;
    }
    let parse = |bytes: &Bytes| Batch::parse(bytes.clone(), key).ok();
    let batches: Vec<Batch> = response.batches.iter().filter_map(parse).collect();
    door.delivering(key, from, &batches)
}

/// A batch, the memory that it takes until it is answered, and who waits for that.
type Passed = (ProduceRequest, OwnedSemaphorePermit, oneshot::Sender<Outcome>);

/// One program's streams of batches to leaders.
#[derive(Default)]
pub(super) struct Relays {
    open: BTreeMap<Ordinal, mpsc::Sender<Passed>>,
}

impl Relays {
    /// Hands a batch over, behind those before it. The answer comes, or its sender is dropped: then nobody knows.
    pub(super) async fn pass(
        &mut self,
        door: &Door,
        leader: Ordinal,
        (request, admission): (ProduceRequest, OwnedSemaphorePermit),
    ) -> oneshot::Receiver<Outcome> {
        let (done, outcome) = oneshot::channel();
        let relay = self.open.entry(leader).or_insert_with(|| start(door, leader));
        if relay.is_closed() {
            *relay = start(door, leader);
        }
        // If it has ended this moment, the dropped sender says so.
        let _ended = relay.send((request, admission, done)).await;
        outcome
    }
}

fn start(door: &Door, leader: Ordinal) -> mpsc::Sender<Passed> {
    let (sender, batches) = mpsc::channel(BATCHES_MAX);
    let door = door.clone();
    tokio::spawn(async move {
        if let Err(failure) = produce(&door, leader, batches).await {
            debug!(%leader, message = failure.message, "batches were passed on and not answered");
        }
    });
    sender
}

/// Until the program's stream ends and all is answered, or the leader's breaks.
async fn produce(door: &Door, leader: Ordinal, mut batches: mpsc::Receiver<Passed>) -> Result<(), Failure> {
    let mut client = client(door, leader).await?;
    let (requests, outgoing) = mpsc::channel(BATCHES_MAX);
    let mut requests = Some(requests);
    let producing = client.produce(forward::marked(ReceiverStream::new(outgoing)));
    let Ok(Ok(producing)) = timeout(DEADLINE_DEFAULT, producing).await else {
        return Err(unanswered(door, leader));
    };
    let mut answers = producing.into_inner();
    let mut waiting: VecDeque<(OwnedSemaphorePermit, oneshot::Sender<Outcome>)> = VecDeque::new();
    while requests.is_some() || !waiting.is_empty() {
        tokio::select! {
            batch = batches.recv(), if requests.is_some() => match batch {
                Some((request, admission, done)) => {
                    waiting.push_back((admission, done));
                    if let Some(requests) = &requests
                        && requests.send(request).await.is_err()
                    {
                        return Err(unanswered(door, leader));
                    }
                }
                None => requests = None,
            },
            answer = answers.message() => {
                let Ok(Some(answer)) = answer else { return Err(unanswered(door, leader)) };
                if let (Some((_admission, done)), Some(outcome)) = (waiting.pop_front(), answer.outcome) {
                    // The program may be gone.
                    let _gone = done.send(outcome);
                }
            }
        }
    }
    Ok(())
}
