//! The streams between pairs of brokers: dialled by the broker with the lower ordinal (by the other one too if that does
//! not come about), hello both ways, then messages of replicas.
//!
//! Owns dialling and the handshake's outcome. Never looks into a message.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fulmar_core::broker::{Accepted, Conclusion, Hello, HelloRefusal, ProtocolRange, conclude};
use fulmar_core::id::{Ordinal, ReplicaId};
use fulmar_core::term::Process;
use fulmar_proto::internal::v1::peer_message::Message as Kind;
use fulmar_proto::internal::v1::replica_client::ReplicaClient;
use fulmar_proto::internal::v1::replica_server::Replica;
use fulmar_proto::internal::v1::{PeerHello, PeerMessage, PeerRefusal, ProtocolRange as ProtoRange};
use futures::Stream;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};

use super::link::{Link, LinkNumber, Outbox, Outgoing};
use super::wire::{self, process_from, process_to};
use super::{Command, Replicas, Said};
use crate::brokers::Brokers;
use crate::dial;
use crate::serve::listen::Caller;
use crate::tls::Tls;

/// After a failed attempt; doubled up to the most.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// A broker that comes back is reached within it.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A hello waits at most so long for its answer.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// The broker with the higher ordinal dials after waiting so long for the other one.
const DIAL_BACK_AFTER: Duration = Duration::from_secs(2);
/// Messages between the socket and the task that reads them: HTTP/2's window bounds the bytes.
const WIRE_QUEUE_MAX: usize = 8;

/// What this process was told about itself by a refusal: it must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict(pub Conclusion);

/// All that streams to peers need; a handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    replicas: Replicas,
    brokers: Brokers,
    tls: Tls,
    outbox_bytes_max: usize,
    numbers: AtomicU64,
    /// The newest standing stream of each peer.
    linked: Mutex<BTreeMap<Ordinal, LinkNumber>>,
    verdicts: mpsc::Sender<Verdict>,
}

impl Peers {
    /// Tells a verdict over this process through `verdicts`.
    pub fn new(
        replicas: Replicas,
        brokers: Brokers,
        tls: Tls,
        outbox_bytes_max: usize,
        verdicts: mpsc::Sender<Verdict>,
    ) -> Self {
        let (numbers, linked) = (AtomicU64::new(1), Mutex::default());
        Self {
            shared: Arc::new(Shared { replicas, brokers, tls, outbox_bytes_max, numbers, linked, verdicts }),
        }
    }

    /// Whether a stream to that broker stands.
    pub fn is_linked(&self, ordinal: Ordinal) -> bool {
        self.shared.linked.lock().contains_key(&ordinal)
    }

    /// The brokers to which a stream stands.
    pub fn linked(&self) -> Vec<Ordinal> {
        self.shared.linked.lock().keys().copied().collect()
    }

    /// Keeps a stream to each peer that a partition is shared with, for ever.
    pub async fn keep_dialling(self) {
        let me = self.shared.replicas.me().ordinal;
        let mut wanted = self.shared.replicas.wanted();
        let mut dialling: BTreeMap<Ordinal, AbortOnDropHandle<()>> = BTreeMap::new();
        loop {
            // An earlier volume of this broker may be a member still: where it was is here now.
            let others = |ordinal: &Ordinal| *ordinal != me;
            let ordinals: BTreeSet<Ordinal> =
                wanted.borrow_and_update().iter().map(|peer| peer.ordinal).filter(others).collect();
            dialling.retain(|ordinal, _| ordinals.contains(ordinal));
            for ordinal in ordinals {
                let peers = self.clone();
                dialling
                    .entry(ordinal)
                    .or_insert_with(|| AbortOnDropHandle::new(tokio::spawn(peers.dial_for_ever(ordinal))));
            }
            if wanted.changed().await.is_err() {
                return;
            }
        }
    }

    async fn dial_for_ever(self, ordinal: Ordinal) {
        let me = self.shared.replicas.me().ordinal;
        let mut backoff = BACKOFF_MIN;
        loop {
            if me > ordinal {
                tokio::time::sleep(DIAL_BACK_AFTER.mul_f64(rand::random_range(1.0..1.5))).await;
            }
            if !self.shared.linked.lock().contains_key(&ordinal) {
                for address in self.shared.brokers.internal(ordinal) {
                    match self.dial(ordinal, address).await {
                        Ok(()) => backoff = BACKOFF_MIN,
                        Err(error) => debug!(peer = %ordinal, %address, error, "a peer was not reached"),
                    }
                }
            }
            tokio::time::sleep(backoff.mul_f64(rand::random_range(0.8..1.2))).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// One stream, until it ends. An error: it never stood.
    async fn dial(&self, ordinal: Ordinal, address: std::net::SocketAddr) -> Result<(), String> {
        let channel = dial::broker(&self.shared.tls, address).await.map_err(|error| format!("{error:?}"))?;
        let mut client = ReplicaClient::new(channel)
            .max_decoding_message_size(dial::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(dial::MESSAGE_BYTES_MAX);
        let (send, outbound) = mpsc::channel(WIRE_QUEUE_MAX);
        let hello = PeerMessage { message: Some(Kind::Hello(self.hello(ordinal).await?)) };
        send.send(hello).await.map_err(|_| "closed".to_owned())?;
        let following = timeout(HELLO_MAX, client.follow(ReceiverStream::new(outbound)));
        let answer = following.await.map_err(|_| "no answer")?.map_err(|status| status.to_string())?;
        let mut inbound = answer.into_inner();
        match first(&mut inbound).await? {
            Kind::Hello(hello) => {
                let accepted = self.hear(&hello).await?.map_err(|refusal| refusal.to_string())?;
                let (outbox, outgoing, end) = self.outbox();
                tokio::spawn(pump(outgoing, end.clone(), move |message| {
                    let send = send.clone();
                    async move { send.send(message).await.is_ok() }
                }));
                // A task of its own: who gives up dialling must not tear a stream off without saying that it is down.
                let peers = self.clone();
                let ran = tokio::spawn(async move { peers.run(accepted, outbox, inbound, end).await }).await;
                ran.map_err(|error| error.to_string())
            }
            Kind::Refusal(refusal) => Err(self.refused(&refusal).await),
            Kind::Messages(_) => Err("messages came before a hello".to_owned()),
        }
    }

    fn outbox(&self) -> (Outbox, Outgoing, CancellationToken) {
        let end = CancellationToken::new();
        let (outbox, outgoing) = Outbox::new(self.shared.outbox_bytes_max, end.clone());
        (outbox, outgoing, end)
    }

    /// Judges a peer's hello.
    async fn hear(&self, hello: &PeerHello) -> Result<Result<Accepted, HelloRefusal>, String> {
        let hello = hello_from(hello)?;
        let (answer, judged) = oneshot::channel();
        let stopping = || "the broker is stopping".to_owned();
        self.shared.replicas.send(Command::Hear(Box::new(hello), answer)).await.map_err(|_| stopping())?;
        judged.await.map_err(|_| stopping())
    }

    async fn hello(&self, to: Ordinal) -> Result<PeerHello, String> {
        let identity = self.shared.replicas.identity();
        let storage = self.shared.replicas.storage().clone();
        // The Cluster may have been told since the start.
        let stored = tokio::task::spawn_blocking(move || storage.identity()).await;
        let stored = stored.map_err(|_| "cancelled")?.map_err(|error| error.to_string())?;
        let mut hello = identity.hello(to);
        hello.cluster = stored.cluster;
        Ok(hello_to(&hello))
    }

    /// Passes what comes in to the actor, until the stream ends from either side.
    async fn run(
        &self,
        accepted: Accepted,
        outbox: Outbox,
        mut inbound: Streaming<PeerMessage>,
        end: CancellationToken,
    ) {
        let Accepted { peer, .. } = accepted;
        let number = LinkNumber(self.shared.numbers.fetch_add(1, Ordering::Relaxed));
        let link = Link { accepted, number, outbox };
        if self.shared.replicas.send(Command::LinkUp(Box::new(link))).await.is_err() {
            return;
        }
        self.shared.linked.lock().insert(peer.ordinal, number);
        info!(%peer, session = %accepted.process.session, "connected to a peer");
        let why = loop {
            let message = tokio::select! {
                () = end.cancelled() => break "it does not read, or a newer connection took its place".to_owned(),
                message = inbound.message() => message,
            };
            match message {
                Ok(Some(message)) => {
                    if let Err(why) = self.heard(peer, number, message).await {
                        break why;
                    }
                }
                Ok(None) => break "it ended the stream".to_owned(),
                Err(status) => break status.message().to_owned(),
            }
        };
        end.cancel();
        self.shared.linked.lock().retain(|_, standing| *standing != number);
        info!(%peer, why, "the connection to a peer ended");
        // Fails only when the actor has ended.
        let _stopped = self.shared.replicas.send(Command::LinkDown(peer, number)).await;
    }

    async fn heard(&self, peer: ReplicaId, number: LinkNumber, message: PeerMessage) -> Result<(), String> {
        let Some(Kind::Messages(messages)) = message.message else {
            return Err("it sent something else than messages".to_owned());
        };
        let messages: Result<Vec<_>, _> = messages.messages.into_iter().map(wire::from_proto).collect();
        let messages = messages.map_err(|error| error.to_string())?;
        let said = Said { from: peer, link: number, messages };
        self.shared.replicas.hear(said).await.map_err(|stopped| stopped.to_string())
    }

    /// What a refusal says about this process. Also what the log shows.
    async fn refused(&self, refusal: &PeerRefusal) -> String {
        let seen = refusal.seen.as_ref().filter(|_| refusal.unknown_process).map(process_from);
        if let Some(seen) = seen {
            self.conclude(seen).await;
        }
        format!("refused: {}", refusal.reason)
    }

    async fn conclude(&self, seen: Process) {
        let storage = self.shared.replicas.storage().clone();
        let read = tokio::task::spawn_blocking(move || storage.identity()).await;
        let Ok(Ok(volume)) = read else { return };
        let conclusion = conclude(seen, &volume.processes);
        warn!(?conclusion, session = %seen.session, "a peer has seen another process on a volume with this identity");
        // Fails only when the process is ending already.
        let _ending = self.shared.verdicts.send(Verdict(conclusion)).await;
    }
}

/// Writes what waits to the socket, until either end is gone.
async fn pump<F, W>(mut outgoing: Outgoing, end: CancellationToken, mut write: F)
where
    F: FnMut(PeerMessage) -> W,
    W: Future<Output = bool>,
{
    loop {
        let message = tokio::select! {
            () = end.cancelled() => return,
            message = outgoing.next() => message,
        };
        let Some(message) = message else { return };
        let written = tokio::select! {
            () = end.cancelled() => return,
            written = write(message) => written,
        };
        if !written {
            end.cancel();
            return;
        }
    }
}

async fn first(inbound: &mut Streaming<PeerMessage>) -> Result<Kind, String> {
    let message = timeout(HELLO_MAX, inbound.message()).await.map_err(|_| "no hello came in time")?;
    let message = message.map_err(|status| status.message().to_owned())?;
    message.and_then(|message| message.message).ok_or_else(|| "the stream ended before a hello".to_owned())
}

#[tonic::async_trait]
impl Replica for Peers {
    type FollowStream = Pin<Box<dyn Stream<Item = Result<PeerMessage, Status>> + Send>>;

    async fn follow(
        &self,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let is_broker = request.extensions().get::<Caller>().is_some_and(|caller| caller.is_broker);
        if !is_broker {
            return Err(Status::permission_denied(
                "only brokers of this Cluster follow: the certificate names another",
            ));
        }
        let (send, outbound) = mpsc::channel(WIRE_QUEUE_MAX);
        let peers = self.clone();
        tokio::spawn(async move {
            if let Err(why) = peers.greet(request.into_inner(), &send).await {
                info!(why, "a peer was refused");
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }
}

impl Peers {
    /// The other end of [`dial`](Self::dial).
    async fn greet(
        &self,
        mut inbound: Streaming<PeerMessage>,
        send: &mpsc::Sender<Result<PeerMessage, Status>>,
    ) -> Result<(), String> {
        let Kind::Hello(hello) = first(&mut inbound).await? else {
            return Err("the first message was no hello".to_owned());
        };
        let answer = |kind| Ok(PeerMessage { message: Some(kind) });
        let gone = |_| "the caller is gone".to_owned();
        match self.hear(&hello).await? {
            Ok(accepted) => {
                let hello = self.hello(accepted.peer.ordinal).await?;
                send.send(answer(Kind::Hello(hello))).await.map_err(gone)?;
                let (outbox, outgoing, end) = self.outbox();
                let writer = send.clone();
                tokio::spawn(pump(outgoing, end.clone(), move |message| {
                    let writer = writer.clone();
                    async move { writer.send(Ok(message)).await.is_ok() }
                }));
                self.run(accepted, outbox, inbound, end).await;
                Ok(())
            }
            Err(refusal) => {
                send.send(answer(Kind::Refusal(refusal_to(&refusal)))).await.map_err(gone)?;
                Err(refusal.to_string())
            }
        }
    }
}

fn refusal_to(refusal: &HelloRefusal) -> PeerRefusal {
    let seen = match refusal {
        HelloRefusal::UnknownProcess { seen } => Some(process_to(*seen)),
        HelloRefusal::Cluster { .. }
        | HelloRefusal::Ordinal { .. }
        | HelloRefusal::Protocol { .. }
        | HelloRefusal::Processes
        | HelloRefusal::OurOwn(_) => None,
    };
    PeerRefusal { reason: refusal.to_string(), unknown_process: seen.is_some(), seen }
}

fn hello_to(hello: &Hello) -> PeerHello {
    PeerHello {
        cluster_id: hello.cluster.map(|cluster| cluster.to_string()).unwrap_or_default(),
        ordinal: hello.ordinal.0.into(),
        incarnation: hello.incarnation.to_string(),
        processes: hello.processes.iter().copied().map(process_to).collect(),
        protocol: Some(ProtoRange { minimum: hello.protocol.min, maximum: hello.protocol.max }),
        to_ordinal: hello.to.0.into(),
    }
}

fn hello_from(hello: &PeerHello) -> Result<Hello, String> {
    let wrong = |field: &str| format!("hello: {field} is missing or malformed");
    let ordinal = |number: u32| u16::try_from(number).map(Ordinal);
    let cluster = match hello.cluster_id.as_str() {
        "" => None,
        id => Some(id.parse().map_err(|_| wrong("cluster_id"))?),
    };
    let protocol = hello.protocol.ok_or_else(|| wrong("protocol"))?;
    Ok(Hello {
        cluster,
        ordinal: ordinal(hello.ordinal).map_err(|_| wrong("ordinal"))?,
        incarnation: hello.incarnation.parse().map_err(|_| wrong("incarnation"))?,
        processes: hello.processes.iter().map(process_from).collect(),
        protocol: ProtocolRange { min: protocol.minimum, max: protocol.maximum },
        to: ordinal(hello.to_ordinal).map_err(|_| wrong("to_ordinal"))?,
    })
}
