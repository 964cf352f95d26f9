//! Fulmar, through the SDK as programs use it: the topic that was named, which keeps what is published.

use std::collections::VecDeque;

use bytes::Bytes;
use fulmar_client::{Client, Delivery, Producer, Record, Start, Subscriber};
use http::uri::Authority;

use super::http::HttpPublisher;
use super::system::{Follower, From, Pipeline, Single, System};
use crate::exit::Failed;
use crate::server::Server;

/// So many acknowledgements may be pending: about what a producer's buffer holds of records of 1 KiB.
const PENDING_MAX: usize = 32_768;

/// A topic of a Cluster.
pub(super) struct Fulmar {
    server: Server,
    client: Client,
    topic: String,
    /// HOST:PORT of a broker's HTTP.
    http: Option<Authority>,
    safety: String,
    partitions: usize,
    /// Where each partition ended when the round began.
    begin: Vec<(u32, u64)>,
}

impl Fulmar {
    /// Looks the topic up; publishes nothing.
    pub(super) async fn connect(
        server: Server,
        topic: String,
        http: Option<Authority>,
    ) -> Result<Self, Failed> {
        let client = server.connect().await?;
        let described = client.admin().describe_topic(&topic).await?;
        let replicas = described.partitions.iter().map(|partition| partition.replicas.len()).max();
        let safety = format!("synced on {} of {} replicas", described.ack_quorum, replicas.unwrap_or(0));
        let partitions = described.partitions.len();
        Ok(Self { server, client, topic, http, safety, partitions, begin: Vec::new() })
    }

    /// What an acknowledgement means.
    pub(super) fn safety(&self) -> &str {
        &self.safety
    }

    /// How many partitions the topic has.
    pub(super) fn partitions(&self) -> usize {
        self.partitions
    }
}

impl System for Fulmar {
    type Pipeline = Publisher;
    type Single = Producer;
    type Plain = HttpPublisher;
    type Follower = Subscriber;
    type Teller = Publisher;
    type Listener = Subscriber;

    async fn begin(&mut self) -> Result<(), Failed> {
        let offsets = self.client.admin().list_offsets(&self.topic, &[], None).await?;
        if let Some((partition, error)) =
            offsets.iter().find_map(|told| Some((told.partition, told.error.as_ref()?)))
        {
            return Err(Failed::Unavailable(format!("partition {partition}: {}", error.message)));
        }
        self.begin = offsets.iter().map(|told| (told.partition, told.high_watermark)).collect();
        Ok(())
    }

    /// The topic is the user's, and so is what is in it.
    async fn end(&mut self) -> Result<(), Failed> {
        Ok(())
    }

    async fn pipeline(&self) -> Result<Publisher, Failed> {
        Ok(Publisher { producer: self.single().await?, pending: VecDeque::new() })
    }

    async fn single(&self) -> Result<Producer, Failed> {
        let client = self.server.connect().await?;
        Ok(client.producer(&self.topic).build().await?)
    }

    async fn plain(&self) -> Result<HttpPublisher, Failed> {
        let address = self.http.as_ref().expect("the work is refused without --http");
        HttpPublisher::connect(address, &self.topic).await
    }

    async fn tell(&self) -> Result<Publisher, Failed> {
        self.pipeline().await
    }

    async fn listen(&self) -> Result<Subscriber, Failed> {
        self.follow(From::Latest).await
    }

    async fn follow(&self, from: From) -> Result<Subscriber, Failed> {
        let subscriber = self.server.connect().await?.subscriber(&self.topic);
        let subscriber = match from {
            From::Earliest => subscriber.start_at(self.begin.iter().copied()),
            From::Latest => subscriber.start(Start::Latest),
        };
        Ok(subscriber.build().await?)
    }
}

/// A producer, and what became of its records.
pub(super) struct Publisher {
    producer: Producer,
    /// In the order in which they were sent.
    pending: VecDeque<Delivery>,
}

impl Pipeline for Publisher {
    async fn send(&mut self, value: Bytes) -> Result<(), Failed> {
        if self.pending.len() >= PENDING_MAX
            && let Some(oldest) = self.pending.pop_front()
        {
            oldest.await?;
        }
        self.pending.push_back(self.producer.send(Record::new(value)).await?);
        Ok(())
    }

    /// A producer holds nothing back while nothing is under way.
    async fn push(&mut self) -> Result<(), Failed> {
        Ok(())
    }

    async fn finish(self) -> Result<(), Failed> {
        self.producer.flush().await;
        for delivery in self.pending {
            delivery.await?;
        }
        self.producer.close().await;
        Ok(())
    }
}

impl Single for Producer {
    async fn publish(&mut self, value: Bytes) -> Result<(), Failed> {
        Producer::publish(self, Record::new(value)).await?;
        Ok(())
    }
}

impl Follower for Subscriber {
    async fn next(&mut self, each: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), Failed> {
        let Some(messages) = self.next_batch().await else {
            return Err(Failed::Failure("the subscription ended".to_owned()));
        };
        messages?.iter().for_each(|message| each(&message.value));
        Ok(())
    }
}
