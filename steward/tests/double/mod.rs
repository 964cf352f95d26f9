//! What a steward meets, in one process: a broker that speaks the real stream over real mutual TLS, and a ledger in memory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fulmar_core::control::table::Page;
use fulmar_core::entry::Entry;
use fulmar_core::id::{Ordinal, PartitionKey};
use fulmar_proto::internal::v1 as proto;
use fulmar_proto::internal::v1::control_server::{Control, ControlServer};
use fulmar_proto::internal::v1::from_broker::Message as Up;
use fulmar_proto::internal::v1::from_operator::Message as Down;
use fulmar_steward::{Credentials, Document, DocumentName, Ledger, LedgerError, Revision, Sighting};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

/// A CA, and what it signs.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn operator(&self) -> Credentials {
        let (certificate, key) = self.issue("operator.fulmar.internal");
        Credentials { ca: self.0.pem().into(), certificate: certificate.into(), key: key.into() }
    }
}

/// What a fake broker's volume holds; outlives its process.
#[derive(Default)]
pub(crate) struct Volume {
    pub(crate) cluster_id: String,
    pub(crate) seen: u64,
    pub(crate) sessions: u64,
    pub(crate) pages: BTreeMap<u32, proto::Page>,
    pub(crate) entries: BTreeMap<PartitionKey, Entry>,
    /// Refuses every hello, with these words.
    pub(crate) refuses: Option<String>,
}

/// A broker at work.
pub(crate) struct FakeBroker {
    pub(crate) address: SocketAddr,
    pub(crate) volume: Arc<Mutex<Volume>>,
    task: JoinHandle<()>,
    /// Dropped, it ends the streams that stand: they are tasks of their own.
    _alive: watch::Sender<()>,
}

const INCARNATION: &str = "00000000-0000-0000-0000-00000000000";

impl FakeBroker {
    /// Listens at `address` (port 0: any).
    pub(crate) fn start(
        ordinal: u16,
        address: SocketAddr,
        authority: &Authority,
        volume: Arc<Mutex<Volume>>,
    ) -> Self {
        volume.lock().unwrap().sessions += 1;
        let (certificate, key) = authority.issue("broker.fulmar.internal");
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certificate, key))
            .client_ca_root(Certificate::from_pem(authority.0.pem()));
        let incoming = TcpIncoming::bind(address).unwrap();
        let address = incoming.local_addr().unwrap();
        let (alive, dies) = watch::channel(());
        let service = Attended { ordinal, volume: Arc::clone(&volume), dies };
        let server = Server::builder().tls_config(tls).unwrap().add_service(ControlServer::new(service));
        let task = tokio::spawn(async move { server.serve_with_incoming(incoming).await.unwrap() });
        Self { address, volume, task, _alive: alive }
    }

    /// The process ends without a word.
    pub(crate) async fn kill(self) -> (SocketAddr, Arc<Mutex<Volume>>) {
        self.task.abort();
        let _aborted = self.task.await;
        (self.address, self.volume)
    }

    pub(crate) fn sighting(&self, ordinal: u16) -> Sighting {
        Sighting {
            ordinal: Ordinal(ordinal),
            internal: self.address,
            client: "127.0.0.1:1".to_owned(),
            zone: None,
            volume_uid: String::new(),
            running: true,
        }
    }
}

struct Attended {
    ordinal: u16,
    volume: Arc<Mutex<Volume>>,
    dies: watch::Receiver<()>,
}

#[tonic::async_trait]
impl Control for Attended {
    type AttendStream = ReceiverStream<Result<proto::FromBroker, Status>>;

    async fn attend(
        &self,
        request: Request<Streaming<proto::FromOperator>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let (send, receive) = mpsc::channel(64);
        let talk = converse(self.ordinal, Arc::clone(&self.volume), request.into_inner(), send);
        let mut dies = self.dies.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = talk => {}
                _ = dies.changed() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receive)))
    }
}

type Send = mpsc::Sender<Result<proto::FromBroker, Status>>;

async fn converse(
    ordinal: u16,
    volume: Arc<Mutex<Volume>>,
    mut inbound: Streaming<proto::FromOperator>,
    send: Send,
) -> Option<()> {
    let Down::Hello(hello) = inbound.message().await.ok()??.message? else { return None };
    let refuses = volume.lock().unwrap().refuses.clone();
    if let Some(why) = refuses {
        return send.send(Err(Status::failed_precondition(why))).await.ok();
    }
    let answer = answer(ordinal, &volume.lock().unwrap());
    say(&send, Up::Hello(answer)).await?;
    if !hello.cluster_id.is_empty() {
        let mut volume = volume.lock().unwrap();
        volume.cluster_id = hello.cluster_id;
        volume.seen = hello.controller_epoch;
    }
    let mut beat = tokio::time::interval(Duration::from_millis(100));
    let mut rounds = 0;
    loop {
        let down = tokio::select! {
            down = inbound.message() => down.ok()??.message?,
            _ = beat.tick() => {
                rounds += 1;
                say(&send, Up::Heartbeat(proto::Heartbeat { storage_rounds: rounds, certificates: "abc".to_owned(), hears: None, links: None, volume: None })).await?;
                continue;
            }
        };
        match down {
            Down::Page(page) => {
                let held = take(&mut volume.lock().unwrap(), page);
                say(&send, Up::PageHeld(held)).await?;
                let reports = report(ordinal, &volume.lock().unwrap(), 0);
                say(&send, Up::Reports(reports)).await?;
            }
            Down::Ask(ask) => {
                let reports = report(ordinal, &volume.lock().unwrap(), ask.request);
                say(&send, Up::Reports(reports)).await?;
            }
            _ => {}
        }
    }
}

async fn say(send: &Send, message: Up) -> Option<()> {
    send.send(Ok(proto::FromBroker { message: Some(message) })).await.ok()
}

fn answer(ordinal: u16, volume: &MutexGuard<'_, Volume>) -> proto::BrokerHello {
    let process = |session| proto::ProcessId { session, boot: session + 100 };
    proto::BrokerHello {
        cluster_id: volume.cluster_id.clone(),
        ordinal: ordinal.into(),
        incarnation: format!("{INCARNATION}{ordinal}"),
        processes: (1..=volume.sessions).map(process).collect(),
        protocol: Some(proto::ProtocolRange { minimum: 1, maximum: 1 }),
        controller_epoch: volume.seen,
        pages: Vec::new(),
        has_replicas: !volume.entries.is_empty(),
        version: "double".to_owned(),
        nothing_aside: true,
    }
}

fn take(volume: &mut Volume, page: proto::Page) -> proto::PageHeld {
    let parsed = Page::parse(page.number, &page.lines).unwrap();
    for entry in parsed.entries {
        volume.entries.insert(entry.key, entry);
    }
    let held = proto::PageHeld {
        number: page.number,
        revision: page.revision,
        controller_epoch: page.controller_epoch,
    };
    volume.pages.insert(page.number, page);
    held
}

/// Everybody who leads has opened its term, and all members are in sync.
fn report(ordinal: u16, volume: &MutexGuard<'_, Volume>, request: u64) -> proto::Reports {
    let session = volume.sessions;
    let reports = volume.entries.values().map(|entry| {
        let leads = entry.leader.is_some_and(|leader| leader.ordinal == Ordinal(ordinal));
        let term = format!("{}/{session}/{:016x}", entry.epoch, session + 100);
        proto::ReplicaReport {
            partition: entry.key.to_string(),
            entry: entry.to_string(),
            leading: if leads { term.clone() } else { String::new() },
            term,
            in_sync: entry.members.replicas().iter().map(ToString::to_string).collect(),
            ..proto::ReplicaReport::default()
        }
    });
    proto::Reports {
        request,
        controller_epoch: volume.seen,
        reports: reports.collect(),
        complete: request != 0,
        topics: Vec::new(),
    }
}

/// A ledger in memory.
#[derive(Default)]
pub(crate) struct MemoryLedger {
    pub(crate) documents: Mutex<BTreeMap<DocumentName, (Document, u64)>>,
}

#[tonic::async_trait]
impl Ledger for MemoryLedger {
    async fn load(&self) -> Result<Vec<(Document, Revision)>, LedgerError> {
        let documents = self.documents.lock().unwrap();
        Ok(documents.values().map(|(document, at)| (document.clone(), Revision(at.to_string()))).collect())
    }

    async fn write(&self, document: Document, expected: Option<Revision>) -> Result<Revision, LedgerError> {
        let mut documents = self.documents.lock().unwrap();
        let at = documents.get(&document.name).map(|(_, at)| *at);
        if at.map(|at| Revision(at.to_string())) != expected {
            return Err(LedgerError::Conflict);
        }
        let at = at.unwrap_or_default() + 1;
        documents.insert(document.name, (document, at));
        Ok(Revision(at.to_string()))
    }

    async fn delete(&self, name: DocumentName, _expected: Revision) -> Result<(), LedgerError> {
        self.documents.lock().unwrap().remove(&name);
        Ok(())
    }
}
