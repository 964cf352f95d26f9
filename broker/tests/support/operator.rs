//! An operator that decides what the test wants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fulmar_core::control::table::{Page, TopicRecord};
use fulmar_core::entry::{Entry, Members, ReplicaSet};
use fulmar_core::id::{PartitionKey, ReplicaId, TopicId};
use fulmar_core::term::Epoch;
use fulmar_proto::internal::v1::control_client::ControlClient;
use fulmar_proto::internal::v1::from_broker::Message as Up;
use fulmar_proto::internal::v1::from_operator::Message as Down;
use fulmar_proto::internal::v1::{self as proto, FromOperator, ReplicaReport};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

pub const CLUSTER: &str = "0198a5c2-7b1e-7c3d-9f00-00000000c1a5";

/// What a broker has said.
#[derive(Default)]
pub struct Heard {
    pub reports: BTreeMap<String, ReplicaReport>,
    pub held: BTreeMap<u32, u64>,
    pub answers: Vec<proto::Reports>,
    pub heartbeats: u64,
    pub alive: Vec<u32>,
    pub is_stopping: bool,
    pub ended: Option<String>,
}

/// One attended broker.
pub struct Operator {
    pub hello: proto::BrokerHello,
    pub heard: Arc<Mutex<Heard>>,
    send: mpsc::Sender<FromOperator>,
}

impl Operator {
    pub async fn attend(channel: Channel, ordinal: usize, cluster: &str, epoch: u64) -> Result<Self, String> {
        Self::greet(channel, hello(ordinal, cluster, epoch)).await
    }

    pub async fn greet(channel: Channel, hello: proto::OperatorHello) -> Result<Self, String> {
        let mut client = ControlClient::new(channel);
        let (send, requests) = mpsc::channel(64);
        send.send(FromOperator { message: Some(Down::Hello(hello)) }).await.unwrap();
        let attending = client.attend(ReceiverStream::new(requests)).await;
        let mut inbound = attending.map_err(|status| status.message().to_owned())?.into_inner();
        let first = inbound.message().await.map_err(|status| status.message().to_owned())?;
        let Some(Up::Hello(hello)) = first.and_then(|first| first.message) else { panic!("no hello") };
        let heard = Arc::new(Mutex::new(Heard::default()));
        let listening = heard.clone();
        tokio::spawn(async move {
            let ended = loop {
                match inbound.message().await {
                    Ok(Some(message)) => listening.lock().hear(message.message.unwrap()),
                    Ok(None) => break "ended".to_owned(),
                    Err(status) => break status.message().to_owned(),
                }
            };
            listening.lock().ended = Some(ended);
        });
        let beating = send.clone();
        tokio::spawn(async move {
            let beat = || FromOperator { message: Some(Down::Heartbeat(proto::Heartbeat::default())) };
            while beating.send(beat()).await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        Ok(Self { hello, heard, send })
    }

    pub fn replica(&self) -> ReplicaId {
        format!("{}:{}", self.hello.ordinal, self.hello.incarnation).parse().unwrap()
    }

    pub async fn say(&self, message: Down) {
        self.send.send(FromOperator { message: Some(message) }).await.unwrap();
    }

    pub async fn push(&self, page: &Page, revision: u64) {
        let page = proto::Page { number: page.number, revision, controller_epoch: 1, lines: page.lines() };
        self.say(Down::Page(page)).await;
    }

    /// Waits until this broker holds the page: whoever asks it knows the page's topics from then on.
    pub async fn holds(&self, number: u32, revision: u64) {
        super::eventually(&format!("broker {} holds page {number}", self.hello.ordinal), async || {
            self.heard.lock().held.get(&number).is_some_and(|held| *held >= revision)
        })
        .await;
    }

    /// Waits until this broker leads the partition, its term open.
    pub async fn leads(&self, key: PartitionKey, epoch: Epoch) {
        super::eventually(&format!("broker {} leads {key} in {epoch}", self.hello.ordinal), async || {
            let heard = self.heard.lock();
            let report = heard.reports.get(&key.to_string());
            report.is_some_and(|report| report.leading.starts_with(&format!("{epoch}/")))
        })
        .await;
    }
}

impl Heard {
    fn hear(&mut self, message: Up) {
        match message {
            Up::Hello(_) => panic!("a second hello"),
            Up::PageHeld(held) => {
                self.held.insert(held.number, held.revision);
            }
            Up::Reports(reports) => {
                for report in &reports.reports {
                    self.reports.insert(report.partition.clone(), report.clone());
                }
                if reports.request != 0 {
                    self.answers.push(reports);
                }
            }
            Up::Heartbeat(heartbeat) => {
                self.heartbeats += 1;
                self.alive = heartbeat.hears.unwrap_or_default().alive;
            }
            Up::Stopping(_) => self.is_stopping = true,
        }
    }
}

pub const TOPIC: TopicId = TopicId(0x0198_a5c2_7b1e_7c3d_9f00_0000_0000_0001);

pub fn hello(ordinal: usize, cluster: &str, epoch: u64) -> proto::OperatorHello {
    proto::OperatorHello {
        cluster_id: cluster.to_owned(),
        controller_epoch: epoch,
        ordinal: u32::try_from(ordinal).unwrap(),
        protocol: Some(proto::ProtocolRange { minimum: 1, maximum: 1 }),
        ..proto::OperatorHello::default()
    }
}

pub fn epoch(counter: u64) -> Epoch {
    Epoch { generation: 1, counter }
}

pub fn key(partition: u32) -> PartitionKey {
    PartitionKey { topic: TOPIC, partition }
}

/// Topic `events` with so many partitions on these replicas, all led by the first, unless `leader` says otherwise.
pub fn page(partitions: u32, replicas: &[ReplicaId], leader: ReplicaId, counter: u64) -> Page {
    let ack_quorum = u8::try_from(replicas.len() / 2 + 1).unwrap();
    let set = ReplicaSet::new(replicas.to_vec(), ack_quorum).unwrap();
    let entry = |partition| Entry {
        key: key(partition),
        epoch: epoch(counter),
        leader: Some(leader),
        members: Members::One(set.clone()),
        learners: Vec::new(),
        lost: Vec::new(),
        accepted_loss: None,
    };
    Page {
        number: 1,
        topics: vec![TopicRecord {
            id: TOPIC,
            name: "events".to_owned(),
            partitions,
            replication_factor: u8::try_from(replicas.len()).unwrap(),
            ack_quorum,
            max_message_bytes: 1 << 20,
            retention_ms: None,
            retention_bytes: None,
            retained: false,
            changed: epoch(1),
        }],
        entries: (0..partitions).map(entry).collect(),
    }
}
