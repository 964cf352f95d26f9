//! Two brokers in this process that speak the real protocol over real sockets, share one log, and misbehave on demand.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::result_unit_err,
    clippy::doc_markdown,
    missing_docs,
    reason = "each test file uses a part of it"
)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fulmar_client::v1::log_server::{Log, LogServer};
use fulmar_client::v1::{self, ErrorReason, produce_response::Outcome};
use fulmar_core::batch::{Batch, ProducedBatch, Stamp};
use fulmar_core::id::{PartitionKey, ProducerId, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::term::{Epoch, Term};
use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// The first topic; most tests have no other.
pub const TOPIC: &str = "orders.v1";
const TOPIC_ID: TopicId = TopicId(0x0198_a5c2_7b1e_7c3d_9f00_1234_5678_90ab);

/// What happens to one produce request.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The stream ends, nothing is appended.
    DropBefore,
    /// The batch is appended, the stream ends without the answer.
    DropAfter,
    /// It is refused with this reason, nothing is appended.
    Refuse(ErrorReason),
    /// The other broker leads from now on; NOT_LEADER with its address.
    Move,
    /// Everything remembered of producers is forgotten before it is taken.
    Forget,
    /// No answer ever.
    Silence,
    /// As it should be.
    Well,
}

#[derive(Default)]
struct PartitionLog {
    batches: Vec<Batch>,
    /// Retention has passed there.
    start: u64,
    end: u64,
    /// By producer and sequence: the offset.
    producers: HashMap<ProducerId, HashMap<u64, u64>>,
}

impl PartitionLog {
    /// Empty, and it goes on there.
    fn at(start: u64) -> Self {
        Self { start, end: start, ..Self::default() }
    }
}

/// What brokers say of a topic, whatever is in its logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// What is so.
    Well,
    /// Nobody leads it.
    Leaderless,
    /// It was deleted, and its data is kept.
    Retained,
}

struct Topic {
    id: TopicId,
    mood: Mood,
    logs: Vec<PartitionLog>,
}

impl Topic {
    /// Why nothing is read of it.
    fn refusal(&self) -> Option<v1::Error> {
        match self.mood {
            Mood::Well => None,
            Mood::Leaderless => Some(error(ErrorReason::NotLeader, "nobody leads")),
            Mood::Retained => Some(error(ErrorReason::TopicRetained, "it was deleted")),
        }
    }
}

/// What the brokers share.
pub struct World {
    /// By name.
    topics: Mutex<BTreeMap<String, Topic>>,
    leader: AtomicUsize,
    /// Partitions with odd numbers are led by the other broker.
    pub is_split: AtomicBool,
    /// Brokers tell addresses that lead nowhere, as those of pods do outside of their cluster.
    pub is_hidden: AtomicBool,
    /// So many answers about the topic say that the first broker leads all of it.
    pub stale_answers: AtomicUsize,
    /// So many answers about the topic say that there is no such topic.
    pub unknown_answers: AtomicUsize,
    /// So many answers about the topic are those of another Cluster, which has a topic of that name.
    pub foreign_answers: AtomicUsize,
    pub faults: Mutex<VecDeque<Fault>>,
    pub fetch_drops: AtomicUsize,
    /// What each partition may be sent ahead, by the last request of a reader.
    credits: Mutex<BTreeMap<PartitionKey, u32>>,
    addresses: Mutex<Vec<String>>,
    pub appended: AtomicUsize,
}

impl World {
    /// Starts the brokers, with a topic of so many partitions; gives the first one's address.
    pub async fn start(partitions: usize) -> (Arc<Self>, String) {
        let world = Arc::new(Self {
            topics: Mutex::default(),
            leader: AtomicUsize::new(0),
            is_split: AtomicBool::new(false),
            is_hidden: AtomicBool::new(false),
            stale_answers: AtomicUsize::new(0),
            unknown_answers: AtomicUsize::new(0),
            foreign_answers: AtomicUsize::new(0),
            faults: Mutex::default(),
            fetch_drops: AtomicUsize::new(0),
            credits: Mutex::default(),
            addresses: Mutex::default(),
            appended: AtomicUsize::new(0),
        });
        world.add(TOPIC, partitions, 0);
        for number in 0..2 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            world.addresses.lock().unwrap().push(listener.local_addr().unwrap().to_string());
            let service = LogServer::new(Broker { number, world: Arc::clone(&world), passes_on: false })
                .max_decoding_message_size(16 * 1024 * 1024);
            let server = tonic::transport::Server::builder().add_service(service);
            tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        }
        let first = world.addresses.lock().unwrap()[0].clone();
        (world, first)
    }

    /// Brokers tell these addresses from now on.
    pub fn tell(&self, addresses: [&str; 2]) {
        *self.addresses.lock().unwrap() = addresses.map(str::to_owned).to_vec();
    }

    /// An address that leads to a broker until it is shut: from then on nobody answers there, and nobody refuses, as where a pod was
    /// that is gone.
    pub async fn door(&self, broker: usize) -> (String, Door) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (to, (shut, is_shut)) = (self.address(broker), watch::channel(false));
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Ok((mut program, _)) = listener.accept().await {
                if *is_shut.borrow() {
                    unanswered.push(program);
                    continue;
                }
                let (to, mut is_shut) = (to.clone(), is_shut.clone());
                tokio::spawn(async move {
                    let mut broker = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ended = tokio::io::copy_bidirectional(&mut program, &mut broker) => {}
                        _shut = is_shut.wait_for(|is_shut| *is_shut) => {}
                    }
                });
            }
        });
        (address, Door(shut))
    }

    pub fn misbehave(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().unwrap().extend(faults);
    }

    pub fn move_leader(&self) {
        self.leader.fetch_xor(1, Ordering::SeqCst);
    }

    fn told_addresses(&self) -> Vec<String> {
        if self.is_hidden.load(Ordering::SeqCst) {
            return vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()];
        }
        self.addresses.lock().unwrap().clone()
    }

    pub fn address(&self, broker: usize) -> String {
        self.addresses.lock().unwrap()[broker].clone()
    }

    /// The first topic gets more partitions, of which retention has taken what was below this offset.
    pub fn grow(&self, partitions: usize, start: u64) {
        let mut topics = self.topics.lock().unwrap();
        topics.get_mut(TOPIC).unwrap().logs.resize_with(partitions, || PartitionLog::at(start));
    }

    /// There is a topic more, of whose partitions retention has taken what was below this offset.
    pub fn add(&self, name: &str, partitions: usize, start: u64) {
        let mut topics = self.topics.lock().unwrap();
        let id = TopicId(TOPIC_ID.0 + topics.len() as u128);
        let logs = (0..partitions).map(|_| PartitionLog::at(start)).collect();
        topics.insert(name.to_owned(), Topic { id, mood: Mood::Well, logs });
    }

    /// A person has accepted the loss of all that a partition had; it goes on there.
    pub fn lose(&self, name: &str, partition: usize, end: u64) {
        let mut topics = self.topics.lock().unwrap();
        topics.get_mut(name).unwrap().logs[partition] = PartitionLog::at(end);
    }

    pub fn set(&self, name: &str, mood: Mood) {
        self.topics.lock().unwrap().get_mut(name).unwrap().mood = mood;
    }

    fn is_leaderless(&self, name: &str) -> bool {
        self.topics.lock().unwrap().get(name).is_some_and(|topic| topic.mood == Mood::Leaderless)
    }

    /// What readers may be sent ahead now, each partition.
    pub fn credits(&self) -> Vec<u32> {
        self.credits.lock().unwrap().values().copied().collect()
    }

    fn leader_of(&self, partition: u32) -> usize {
        let turn = if self.is_split.load(Ordering::SeqCst) { partition as usize } else { 0 };
        (self.leader.load(Ordering::SeqCst) + turn) % 2
    }

    /// How many bytes the batches of a partition of the first topic have, each.
    pub fn sizes(&self, partition: usize) -> Vec<usize> {
        self.topics.lock().unwrap()[TOPIC].logs[partition].batches.iter().map(Batch::size).collect()
    }

    /// All records of a partition of the first topic: offset and value.
    pub fn records(&self, partition: usize) -> Vec<(u64, String)> {
        let logs = &self.topics.lock().unwrap()[TOPIC].logs;
        let of_batch = |batch: &Batch| {
            let values =
                batch.records().unwrap().map(|record| String::from_utf8(record.value.to_vec()).unwrap());
            (batch.base().0..).zip(values).collect::<Vec<_>>()
        };
        logs[partition].batches.iter().flat_map(of_batch).collect()
    }

    fn append(&self, request: v1::ProduceRequest) -> Result<u64, v1::Error> {
        let (topic, partition) = (id_of(&request.topic_id), request.partition);
        let batch = ProducedBatch::parse(request.batch)
            .map_err(|e| error(ErrorReason::CorruptBatch, &e.to_string()))?;
        let mut topics = self.topics.lock().unwrap();
        let logs = topics.values_mut().find(|known| known.id == topic).map(|known| &mut known.logs);
        let unknown = || error(ErrorReason::UnknownTopic, "no such topic");
        let log = &mut logs.ok_or_else(unknown)?[partition as usize];
        if let Some(at) = batch.sequence() {
            let known = log.producers.entry(at.producer).or_default();
            if let Some(base) = known.get(&at.sequence) {
                return Ok(*base);
            }
            let next = known.keys().max().map_or(0, |last| last + 1);
            if at.sequence != next {
                return Err(error(ErrorReason::OutOfSequence, "a gap"));
            }
            known.insert(at.sequence, log.end);
        }
        let base = log.end;
        let key = PartitionKey { topic, partition };
        let term = Term { epoch: Epoch { generation: 1, counter: 1 }, ..Term::default() };
        let batch = batch.stamp(Stamp { key, base: Offset(base), term, append_time_ms: 1 });
        log.end = batch.end().0;
        log.batches.push(batch);
        self.appended.fetch_add(1, Ordering::SeqCst);
        Ok(base)
    }
}

fn id_of(bytes: &[u8]) -> TopicId {
    TopicId::from_bytes(bytes.try_into().unwrap())
}

fn error(reason: ErrorReason, message: &str) -> v1::Error {
    v1::Error { reason: reason.into(), message: message.to_owned(), leader_address: String::new() }
}

/// See [`World::door`].
pub struct Door(watch::Sender<bool>);

impl Door {
    pub fn shut(&self) {
        self.0.send_replace(true);
    }
}

#[derive(Clone)]
struct Broker {
    number: usize,
    world: Arc<World>,
    /// What others lead is passed on: it is the same log here.
    passes_on: bool,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Broker {
    fn not_leader(&self, partition: u32) -> Option<v1::Error> {
        let leader = self.world.leader_of(partition);
        let leader_address = self.world.told_addresses()[leader].clone();
        (leader != self.number && !self.passes_on)
            .then(|| v1::Error { leader_address, ..error(ErrorReason::NotLeader, "another broker leads") })
    }

    /// Answers one batch; nothing ends the stream.
    async fn produce_one(&self, request: v1::ProduceRequest) -> Option<Outcome> {
        let world = &self.world;
        if let Some(error) = self.not_leader(request.partition) {
            return Some(Outcome::Error(error));
        }
        let fault = world.faults.lock().unwrap().pop_front();
        match fault {
            None | Some(Fault::Well) => {}
            Some(Fault::DropBefore) => return None,
            Some(Fault::DropAfter) => {
                let _ = world.append(request);
                return None;
            }
            Some(Fault::Refuse(reason)) => return Some(Outcome::Error(error(reason, "on demand"))),
            Some(Fault::Move) => {
                world.move_leader();
                return self.not_leader(request.partition).map(Outcome::Error);
            }
            Some(Fault::Forget) => {
                let mut topics = world.topics.lock().unwrap();
                topics.values_mut().flat_map(|topic| &mut topic.logs).for_each(|log| log.producers.clear());
            }
            Some(Fault::Silence) => std::future::pending().await,
        }
        Some(match world.append(request) {
            Ok(base) => Outcome::BaseOffset(base),
            Err(error) => Outcome::Error(error),
        })
    }

    async fn send_fetched(
        &self,
        following: &mut HashMap<PartitionKey, (u64, u32)>,
        answers: &mpsc::Sender<Result<v1::FetchResponse, Status>>,
    ) -> Result<(), ()> {
        let answer = |key: PartitionKey| v1::FetchResponse {
            topic_id: key.topic.to_bytes().to_vec().into(),
            partition: key.partition,
            ..v1::FetchResponse::default()
        };
        // Refusals need no disk: they come before what the others are sent.
        let refused =
            following.iter().filter_map(|(key, (next, _))| Some((*key, self.refusal(*key, *next)?)));
        let refused: Vec<_> = refused.collect();
        for (key, error) in &refused {
            following.remove(key);
            let error = Some(error.clone());
            answers.send(Ok(v1::FetchResponse { error, ..answer(*key) })).await.map_err(drop)?;
        }
        if !refused.is_empty() {
            return Ok(());
        }
        for (key, (next, credit)) in following.iter_mut() {
            let batches = self.batches(*key, next, credit);
            if !batches.is_empty() {
                answers.send(Ok(v1::FetchResponse { batches, ..answer(*key) })).await.map_err(drop)?;
            }
        }
        Ok(())
    }

    /// Why a partition is not delivered from an offset on.
    fn refusal(&self, key: PartitionKey, next: u64) -> Option<v1::Error> {
        let topics = self.world.topics.lock().unwrap();
        let Some(topic) = topics.values().find(|topic| topic.id == key.topic) else {
            return Some(error(ErrorReason::UnknownTopic, "no such topic"));
        };
        let refusal = topic.refusal();
        let log = &topic.logs[key.partition as usize];
        let kept = log.start..=log.end;
        drop(topics);
        let outside = || {
            let message = format!("offsets {} to {} can be asked for now", kept.start(), kept.end());
            (!kept.contains(&next)).then(|| error(ErrorReason::OffsetOutOfRange, &message))
        };
        refusal.or_else(|| self.not_leader(key.partition)).or_else(outside)
    }

    fn batches(&self, key: PartitionKey, next: &mut u64, credit: &mut u32) -> Vec<bytes::Bytes> {
        let topics = self.world.topics.lock().unwrap();
        let topic = topics.values().find(|topic| topic.id == key.topic).unwrap();
        let mut batches = Vec::new();
        for batch in &topic.logs[key.partition as usize].batches {
            let size = u32::try_from(batch.size()).unwrap();
            if batch.end().0 <= *next {
                continue;
            }
            if size > *credit {
                break;
            }
            *credit -= size;
            *next = batch.end().0;
            batches.push(batch.bytes().clone());
        }
        batches
    }

    async fn serve_fetch(
        self,
        mut requests: Streaming<v1::FetchRequest>,
        answers: mpsc::Sender<Result<v1::FetchResponse, Status>>,
    ) {
        let mut following: HashMap<PartitionKey, (u64, u32)> = HashMap::new();
        loop {
            match tokio::time::timeout(Duration::from_millis(5), requests.next()).await {
                // What is asked for together is answered together, as a disk's read takes its time.
                Ok(Some(Ok(request))) => {
                    let key = PartitionKey { topic: id_of(&request.topic_id), partition: request.partition };
                    if request.stop {
                        following.remove(&key);
                        continue;
                    }
                    following.entry(key).or_insert((request.offset, 0)).1 = request.bytes_max;
                    self.world.credits.lock().unwrap().insert(key, request.bytes_max);
                    continue;
                }
                Ok(_) => return,
                Err(_) => {}
            }
            let is_under_way = following.values().any(|(next, _)| *next > 20);
            let drops = &self.world.fetch_drops;
            let left = drops.load(Ordering::SeqCst);
            if is_under_way && left > 0 {
                drops.store(left - 1, Ordering::SeqCst);
                return;
            }
            if self.send_fetched(&mut following, &answers).await.is_err() {
                return;
            }
        }
    }
}

#[tonic::async_trait]
impl Log for Broker {
    type ProduceStream = Answers<v1::ProduceResponse>;
    type FetchStream = Answers<v1::FetchResponse>;

    async fn produce(
        &self,
        request: Request<Streaming<v1::ProduceRequest>>,
    ) -> Result<Response<Self::ProduceStream>, Status> {
        let passes_on = request.metadata().contains_key("fulmar-pass-on");
        let mut requests = request.into_inner();
        let (answers, stream) = mpsc::channel(4);
        let broker = Self { passes_on, ..self.clone() };
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let correlation_id = request.correlation_id;
                let Some(outcome) = broker.produce_one(request).await else { break };
                let answer = v1::ProduceResponse { correlation_id, outcome: Some(outcome) };
                if answers.send(Ok(answer)).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn fetch(
        &self,
        request: Request<Streaming<v1::FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let (answers, stream) = mpsc::channel(4);
        let passes_on = request.metadata().contains_key("fulmar-pass-on");
        let broker = Self { passes_on, ..self.clone() };
        tokio::spawn(broker.serve_fetch(request.into_inner(), answers));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn metadata(
        &self,
        request: Request<v1::MetadataRequest>,
    ) -> Result<Response<v1::MetadataResponse>, Status> {
        let counts_down = |counter: &AtomicUsize| {
            !request.get_ref().topics.is_empty()
                && counter
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                    .is_ok()
        };
        let is_unknown = counts_down(&self.world.unknown_answers);
        let is_stale = !is_unknown && counts_down(&self.world.stale_answers);
        let is_foreign = counts_down(&self.world.foreign_answers);
        let leader = |partition| if is_stale { 0 } else { self.world.leader_of(partition) };
        let topics = self.world.topics.lock().unwrap();
        let topic = |name: String| {
            let known = topics.get(&name).filter(|_| !is_unknown);
            let is_led = known.is_some_and(|topic| topic.mood != Mood::Leaderless);
            let partition = |partition| v1::Partition {
                partition,
                leader: is_led.then(|| u32::try_from(leader(partition)).unwrap()),
                replicas: vec![0, 1],
                epoch: if is_stale { "1.1" } else { "1.2" }.to_owned(),
            };
            let count = known.map_or(0, |topic| u32::try_from(topic.logs.len()).unwrap());
            let is_retained = known.is_some_and(|topic| topic.mood == Mood::Retained);
            let error = match known {
                None => Some(error(ErrorReason::UnknownTopic, "no such topic")),
                Some(topic) if is_retained => topic.refusal(),
                Some(_) => None,
            };
            let id = known.filter(|_| !is_foreign).map_or(vec![7; 16], |topic| topic.id.to_bytes().to_vec());
            v1::Topic {
                topic_id: id.into(),
                partitions: (0..count).map(partition).collect(),
                max_message_bytes: 1024 * 1024,
                error,
                name,
            }
        };
        // Without names all are asked for.
        let mut names = request.into_inner().topics;
        if names.is_empty() {
            names.extend(topics.keys().cloned());
        }
        let told = names.into_iter().map(topic).collect();
        let addresses = self.world.told_addresses();
        let broker = |(ordinal, address)| v1::Broker { ordinal, address, zone: String::new() };
        Ok(Response::new(v1::MetadataResponse {
            cluster_id: format!("0198a5c2-7b1e-7c3d-9f00-00000000000{}", u8::from(is_foreign)),
            brokers: (0u32..).zip(addresses).map(broker).collect(),
            topics: told,
            next_page_token: String::new(),
        }))
    }

    async fn list_offsets(
        &self,
        request: Request<v1::ListOffsetsRequest>,
    ) -> Result<Response<v1::ListOffsetsResponse>, Status> {
        // As brokers do: a leader is waited for, up to a moment before nobody would hear the answer.
        let patience = timeout_of(&request).unwrap_or(Duration::from_secs(10));
        let request = request.into_inner();
        let until = tokio::time::Instant::now() + patience.saturating_sub(Duration::from_millis(100));
        while tokio::time::Instant::now() < until && self.world.is_leaderless(&request.topic) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let topics = self.world.topics.lock().unwrap();
        let unknown = || Status::not_found("no such topic");
        let topic = topics.get(&request.topic).ok_or_else(unknown)?;
        let offsets = |partition: u32| {
            let log = &topic.logs[partition as usize];
            let (log_start, high_watermark, error) = (log.start, log.end, topic.refusal());
            v1::PartitionOffsets { partition, log_start, high_watermark, at_time: None, error }
        };
        let partitions = request.partitions.into_iter().map(offsets).collect();
        Ok(Response::new(v1::ListOffsetsResponse { partitions }))
    }
}

/// What a client gave a request, if anything: a number and a unit (gRPC over HTTP/2, `grpc-timeout`).
fn timeout_of<T>(request: &Request<T>) -> Option<Duration> {
    let text = request.metadata().get("grpc-timeout")?.to_str().ok()?;
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let number = number.parse().ok()?;
    match unit {
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => panic!("grpc-timeout: {text}"),
    }
}
