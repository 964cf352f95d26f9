//! Which topics there are and who leads their partitions, as brokers told it last.
//!
//! Owns the cache and asking brokers in turn until one answers. Never decides what a leader's refusal means.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fulmar_core::id::TopicId;
use fulmar_core::term::Epoch;
use fulmar_proto::v1::log_client::LogClient;
use fulmar_proto::v1::{self, ErrorReason};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::connection::Connections;
use crate::error::{DescribeError, Failure, Verdict};
use crate::retry::Backoff;

/// One broker gets so long.
const ONE_BROKER_TIMEOUT: Duration = Duration::from_secs(2);

/// A broker answers within milliseconds; where one says nothing for so long, the next one is asked beside it: whoever waits for a
/// leader must not wait for a pod that is gone.
const SILENT_AFTER: Duration = Duration::from_millis(200);

/// A Cluster that is rolled has a few brokers at new addresses before the first list names them.
const HEARD_MAX: usize = 8;

/// A topic, as far as programs need it.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) id: TopicId,
    pub(crate) record_bytes_max: usize,
    pub(crate) partitions: Vec<Partition>,
}

/// Who should lead a partition, by which decision.
#[derive(Debug, Clone)]
pub(crate) struct Partition {
    pub(crate) leader: Option<u32>,
    pub(crate) epoch: Epoch,
}

#[derive(Debug, Default)]
struct State {
    brokers: BTreeMap<u32, String>,
    /// Where brokers said that a leader is, which no list of brokers has named yet; the newest last.
    heard: VecDeque<String>,
    topics: HashMap<String, (Instant, Arc<Topic>)>,
    /// The Cluster that answered first. Another one's topics of the same names are other topics: a record that was sent to one
    /// must not be sent to the other.
    cluster: Option<String>,
}

/// The cache, and the way to fill it.
#[derive(Debug)]
pub(crate) struct Metadata {
    connections: Connections,
    servers: Vec<String>,
    timeout: Duration,
    state: Mutex<State>,
    /// One refresh at a time: a hundred lanes that lose a leader at once ask once.
    refreshing: tokio::sync::Mutex<()>,
    turn: AtomicUsize,
}

impl Metadata {
    pub(crate) fn new(connections: Connections, servers: Vec<String>, timeout: Duration) -> Self {
        Self {
            connections,
            servers,
            timeout,
            state: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// All addresses that lead somewhere now.
    pub(crate) fn known_addresses(&self) -> Vec<String> {
        let state = self.state();
        self.servers.iter().chain(state.brokers.values()).chain(&state.heard).cloned().collect()
    }

    /// A broker said that the leader is there. Gives whether a list of brokers names the address: if not, it is kept and asked like the
    /// others, and so it should be soon. Where brokers come up at new addresses, all that are known may lead nowhere before long.
    pub(crate) fn hear(&self, address: &str) -> bool {
        let mut state = self.state();
        if state.brokers.values().any(|known| known == address) {
            return true;
        }
        if !state.heard.iter().any(|known| known == address) {
            if state.heard.len() == HEARD_MAX {
                state.heard.pop_front();
            }
            state.heard.push_back(address.to_owned());
        }
        false
    }

    /// Whether a broker says that it is reached there; others may be a service's name, or a tunnel to any broker.
    pub(crate) fn is_of_a_broker(&self, address: &str) -> bool {
        self.state().brokers.values().any(|known| known == address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom to ask, best first: who answered lately before who did not, and in turn, so that no broker bears all.
    pub(crate) fn candidates(&self) -> Vec<String> {
        let mut all = self.known_addresses();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % all.len();
        all.rotate_left(turn);
        let mut seen = Vec::with_capacity(all.len());
        for address in all {
            if !seen.contains(&address) {
                seen.push(address);
            }
        }
        seen.sort_by_key(|address| self.connections.is_set_back(address));
        seen
    }

    /// Asks brokers until one answers or refuses, or `deadline` comes.
    pub(crate) async fn ask<T, F>(
        &self,
        deadline: Instant,
        question: impl Fn(LogClient<Channel>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut backoff = Backoff::new();
        loop {
            let failure = match self.ask_each(deadline, &question).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if matches!(failure.verdict(), Verdict::Refused | Verdict::Missing)
                || !backoff.wait_until(deadline).await
            {
                return Err(failure);
            }
        }
    }

    /// Asks each broker once, the next one as soon as the last one failed or says nothing for a moment; the first answer counts. Of
    /// failures a refusal ends it; then what speaks of the topic comes before what speaks of the way to a broker.
    async fn ask_each<T, F>(
        &self,
        deadline: Instant,
        question: &impl Fn(LogClient<Channel>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut candidates = self.candidates().into_iter().peekable();
        let mut asked = FuturesUnordered::new();
        let mut silent: Vec<(String, Instant)> = Vec::new();
        let (mut failure, mut missing) = (Failure::lost("no broker is known"), None);
        loop {
            if let Some(address) = candidates.next() {
                silent.push((address.clone(), Instant::now()));
                asked.push(async move {
                    let answer = self.ask_one(&address, deadline, question).await;
                    (address, answer)
                });
            }
            let others_wait = candidates.peek().is_some();
            let answer = tokio::select! {
                answer = asked.next() => answer,
                () = tokio::time::sleep(SILENT_AFTER), if others_wait => continue,
            };
            let Some((address, answer)) = answer else { return Err(missing.unwrap_or(failure)) };
            silent.retain(|(other, _)| *other != address);
            match answer {
                Ok(answer) => {
                    // Nobody hears any more what becomes of them.
                    for (overtaken, _) in silent.iter().filter(|(_, since)| since.elapsed() >= SILENT_AFTER) {
                        self.connections.note_overtaken(overtaken);
                    }
                    return Ok(answer);
                }
                Err(other) => {
                    match other.verdict() {
                        Verdict::Refused => return Err(other),
                        // It may be behind the others.
                        Verdict::Missing => missing = Some(other.clone()),
                        Verdict::Retry | Verdict::Unknown | Verdict::Sequence => {}
                    }
                    failure = other;
                }
            }
        }
    }

    async fn ask_one<T, F>(
        &self,
        address: &str,
        deadline: Instant,
        question: &impl Fn(LogClient<Channel>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let client = self.connections.log(address, 0).map_err(|error| Failure::lost(error.to_string()))?;
        let until = Instant::now() + ONE_BROKER_TIMEOUT;
        let answer = match tokio::time::timeout_at(until.min(deadline), question(client)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(Failure::from_status(&status)),
            Err(_) => Err(Failure::lost(format!("{address} does not answer"))),
        };
        match &answer {
            // Who had no time to answer is not to blame.
            Err(failure) if failure.reason.is_none() && Instant::now() >= deadline => {}
            Err(failure) if failure.reason.is_none() => self.connections.note_unreachable(address),
            _ => self.connections.note_reached(address),
        }
        answer.map_err(|failure| Failure { message: format!("{address}: {}", failure.message), ..failure })
    }

    /// Asks for metadata until a broker that was told its Cluster's state answers.
    pub(crate) async fn fetch(
        &self,
        request: v1::MetadataRequest,
        deadline: Instant,
    ) -> Result<v1::MetadataResponse, Failure> {
        let question = |mut client: LogClient<Channel>| {
            let request = request.clone();
            async move {
                let answer = client.metadata(request).await?.into_inner();
                self.check_cluster(&answer.cluster_id)?;
                Ok(answer)
            }
        };
        let answer = self.ask(deadline, question).await?;
        self.note_brokers(&answer.brokers);
        Ok(answer)
    }

    /// Whether the answer is of the Cluster that this client talks to; the first one decides which that is.
    fn check_cluster(&self, told: &str) -> Result<(), Status> {
        if told.is_empty() {
            return Err(Status::unavailable("the broker has not been told of the Cluster's state yet"));
        }
        let mut state = self.state();
        let ours = state.cluster.get_or_insert_with(|| told.to_owned());
        if ours == told {
            return Ok(());
        }
        Err(Status::unavailable(format!(
            "the broker belongs to Cluster {told}; this client talks to {ours}, for as long as it lives"
        )))
    }

    fn note_brokers(&self, brokers: &[v1::Broker]) {
        if brokers.is_empty() {
            return;
        }
        let told = brokers.iter().filter(|broker| !broker.address.is_empty());
        let told: BTreeMap<u32, String> =
            told.map(|broker| (broker.ordinal, broker.address.clone())).collect();
        let mut state = self.state();
        // Whoever answers may be behind who was heard; where nobody answers, or others before it, there is nothing to keep: a hint
        // names it again.
        let is_new = |address: &String| !told.values().any(|known| known == address);
        state.heard.retain(|address| is_new(address) && !self.connections.is_set_back(address));
        state.brokers = told;
        drop(state);
        self.connections.keep_only(&self.known_addresses());
    }

    /// Asks again. Who comes while another asks waits for that answer.
    pub(crate) async fn refresh(&self, name: &str, deadline: Instant) -> Result<Arc<Topic>, DescribeError> {
        let asked_at = Instant::now();
        let Ok(_one) = tokio::time::timeout_at(deadline, self.refreshing.lock()).await else {
            let failure = Failure::lost("others ask too, and are not answered");
            return Err(describe_error(name, self.timeout, failure));
        };
        if let Some((told_at, topic)) = self.state().topics.get(name)
            && *told_at >= asked_at
        {
            return Ok(Arc::clone(topic));
        }
        let mut backoff = Backoff::new();
        loop {
            let refused = match self.told(name, deadline).await {
                Ok(topic) => return Ok(topic),
                Err(refused) => refused,
            };
            // A broker that has no table yet says so; it has one soon.
            if !matches!(refused, DescribeError::Unavailable { .. }) {
                self.state().topics.remove(name);
                return Err(refused);
            }
            if !backoff.wait_until(deadline).await {
                return Err(refused);
            }
        }
    }

    /// What brokers say of a topic. One that does not know it may be behind the others: each is asked once, they come in
    /// turn.
    async fn told(&self, name: &str, deadline: Instant) -> Result<Arc<Topic>, DescribeError> {
        let mut refused = DescribeError::UnknownTopic { topic: name.to_owned() };
        for _ in 0..self.known_addresses().len() {
            let request =
                v1::MetadataRequest { topics: vec![name.to_owned()], ..v1::MetadataRequest::default() };
            let answer = self.fetch(request, deadline).await;
            let answer = answer.map_err(|failure| describe_error(name, self.timeout, failure))?;
            let Some(told) = answer.topics.into_iter().find(|topic| topic.name == name) else { continue };
            let Some(error) = told.error else { return self.note_topic(name, &told) };
            refused = describe_error(name, self.timeout, Failure::from_error(error));
        }
        Err(refused)
    }

    /// What a broker told of a topic.
    pub(crate) fn note_topic(&self, name: &str, told: &v1::Topic) -> Result<Arc<Topic>, DescribeError> {
        let mut topic = from_proto(told).map_err(|failure| describe_error(name, self.timeout, failure))?;
        let mut state = self.state();
        if let Some((_, known)) = state.topics.get(name).filter(|(_, known)| known.id == topic.id) {
            for (told, known) in topic.partitions.iter_mut().zip(&known.partitions) {
                // A broker may be behind another one.
                if known.epoch > told.epoch {
                    *told = known.clone();
                }
            }
        }
        let topic = Arc::new(topic);
        state.topics.insert(name.to_owned(), (Instant::now(), Arc::clone(&topic)));
        Ok(topic)
    }

    /// Where the leader of a partition is, as told last: `host:port`.
    pub(crate) fn leader_address(&self, name: &str, partition: u32) -> Option<String> {
        let state = self.state();
        let (_, topic) = state.topics.get(name)?;
        let leader = topic.partitions.get(usize::try_from(partition).ok()?)?.leader?;
        state.brokers.get(&leader).cloned()
    }

    /// Where to go for a partition: its leader, or, while that cannot be reached, an address that the program gave, whose
    /// broker passes on or knows better.
    pub(crate) fn way_to(&self, name: &str, partition: u32) -> Option<String> {
        let leader = self.leader_address(name, partition)?;
        if self.connections.is_unreachable(&leader) {
            let other = self.servers.iter().find(|server| !self.connections.is_unreachable(server));
            return Some(other.cloned().unwrap_or(leader));
        }
        Some(leader)
    }
}

/// In the metadata of a stream: the broker passes on what another one leads.
const PASS_ON: &str = "fulmar-pass-on";

impl Metadata {
    /// A stream to `address`. Behind one that no broker calls its own, such as a port-forward, may be any broker, and the
    /// leaders may not be reached from here.
    pub(crate) fn request<T>(&self, address: &str, stream: T) -> Request<T> {
        let mut request = Request::new(stream);
        if !self.is_of_a_broker(address) {
            request.metadata_mut().insert(PASS_ON, MetadataValue::from_static("1"));
        }
        request
    }
}

/// A failed look-up in the words of its caller.
pub(crate) fn describe_error(topic: &str, timeout: Duration, failure: Failure) -> DescribeError {
    let topic = topic.to_owned();
    match failure.reason {
        Some(ErrorReason::UnknownTopic) => DescribeError::UnknownTopic { topic },
        Some(ErrorReason::TopicRetained) => DescribeError::Retained { topic },
        _ => match failure.verdict() {
            Verdict::Retry | Verdict::Unknown => DescribeError::Unavailable { timeout, failure },
            Verdict::Missing | Verdict::Sequence | Verdict::Refused => DescribeError::Refused(failure),
        },
    }
}

fn from_proto(told: &v1::Topic) -> Result<Topic, Failure> {
    let garbled = |what: &str| Failure::garbled(format!("metadata of topic {:?}: {what}", told.name));
    let id = topic_id(&told.topic_id).ok_or_else(|| garbled("its id has not 16 bytes"))?;
    if told.partitions.is_empty() {
        return Err(garbled("it has no partitions"));
    }
    let partitions = told.partitions.iter().zip(0u32..).map(|(partition, number)| {
        if partition.partition != number {
            return Err(garbled("its partitions are not in order"));
        }
        let epoch = partition.epoch.parse().map_err(|_| garbled("an epoch is not GENERATION.COUNTER"))?;
        Ok(Partition { leader: partition.leader, epoch })
    });
    Ok(Topic {
        id,
        record_bytes_max: usize::try_from(told.max_message_bytes).unwrap_or(usize::MAX),
        partitions: partitions.collect::<Result<_, _>>()?,
    })
}

/// Sixteen bytes as a topic's id.
pub(crate) fn topic_id(bytes: &[u8]) -> Option<TopicId> {
    bytes.try_into().ok().map(TopicId::from_bytes)
}
