//! NATS `JetStream`: a stream of files, made for the round, through `async-nats`.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::time::Duration;

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig};
use async_nats::jetstream::context::{
    Context, ContextBuilder, CreateStreamError, CreateStreamErrorKind, PublishAckFuture,
};
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::{Client, ConnectOptions, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use super::{Address, CONNECT_TIMEOUT, FORGOTTEN_AFTER, REQUEST_TIMEOUT};
use crate::bench::system::{Follower, From, Pipeline, Single, System};
use crate::exit::Failed;

/// So many acknowledgements may be pending: with fewer it publishes more slowly, with more no faster.
const PENDING_MAX: usize = 4096;

/// How often a cluster is asked whether it can make a stream by now.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// Three servers that just started elect who places streams within some seconds; a busy machine needs its time.
const READY_TIMEOUT: Duration = Duration::from_mins(1);

/// Whoever was asked while nobody was elected never answers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// A NATS server with `JetStream`, and the stream of this round.
pub(crate) struct JetStream {
    address: Address,
    replicas: usize,
    context: Context,
    version: String,
    /// Names the stream and its subject.
    name: String,
    has_stream: bool,
}

impl JetStream {
    /// Looks whether it is there and has `JetStream`; makes nothing.
    pub(crate) async fn connect(address: Address, replicas: usize, size: usize) -> Result<Self, Failed> {
        let client = connect(&address).await?;
        let info = client.server_info();
        if !info.jetstream {
            let why = "the server runs without JetStream (nats-server -js)";
            return Err(Failed::Unavailable(why.to_owned()));
        }
        if info.max_payload < size {
            let most = info.max_payload;
            return Err(Failed::Usage(format!("--size is {size}, and the server takes at most {most}")));
        }
        let name = format!("fulmar-bench-{}", Uuid::new_v4().simple());
        Ok(Self {
            address,
            replicas,
            version: info.version,
            context: context(client),
            name,
            has_stream: false,
        })
    }

    /// Its name and version.
    pub(crate) fn version(&self) -> String {
        format!("NATS JetStream {}", self.version)
    }

    /// What an acknowledgement means. The protocol does not tell when the server syncs: the user may.
    pub(crate) fn safety(&self) -> String {
        let synced = match self.address.label() {
            Some(label) => format!("sync: {label}, as told"),
            None => "sync: not told".to_owned(),
        };
        format!("R{}, file, {synced}", self.replicas)
    }

    fn core_subject(&self) -> String {
        format!("{}-core", self.name)
    }

    async fn connected(&self) -> Result<Context, Failed> {
        Ok(context(connect(&self.address).await?))
    }
}

async fn connect(address: &Address) -> Result<Client, Failed> {
    let url = address.url();
    let mut options = ConnectOptions::new()
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .max_reconnects(1);
    if let Some(password) = url.password() {
        options = options.user_and_password(url.username().to_owned(), password.to_owned());
    }
    options.connect(url.as_str()).await.map_err(|error| Failed::Unavailable(error.to_string()))
}

fn context(client: Client) -> Context {
    ContextBuilder::new().timeout(REQUEST_TIMEOUT).max_ack_inflight(PENDING_MAX + 1).build(client)
}

/// The server takes a connection's commands in order: when this has come back, it has done all of before.
async fn round_trip(client: &Client) -> Result<(), Failed> {
    let own = client.new_inbox();
    let mut round = client.subscribe(own.clone()).await.map_err(failed)?;
    client.publish(own, Bytes::new()).await.map_err(failed)?;
    match timeout(REQUEST_TIMEOUT, StreamExt::next(&mut round)).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) | Err(_) => Err(failed("the server does not answer on a connection that was open")),
    }
}

/// Nobody leads `JetStream` at this moment, or not all servers are there that the stream wants.
fn is_not_ready(error: &CreateStreamError) -> bool {
    match error.kind() {
        CreateStreamErrorKind::JetStream(refused) => {
            matches!(refused.code(), 500 | 503) || refused.error_code().0 == 10005
        }
        CreateStreamErrorKind::JetStreamUnavailable | CreateStreamErrorKind::TimedOut => true,
        _ => false,
    }
}

fn failed(error: impl std::fmt::Display) -> Failed {
    Failed::Failure(error.to_string())
}

impl System for JetStream {
    type Pipeline = Publisher;
    type Single = Publisher;
    type Plain = Publisher;
    type Follower = Ordered;
    type Teller = Core;
    type Listener = Subscriber;

    async fn begin(&mut self) -> Result<(), Failed> {
        let config = Config {
            name: self.name.clone(),
            description: Some("made by fulmar bench, which removes it".to_owned()),
            subjects: vec![self.name.clone()],
            storage: StorageType::File,
            num_replicas: self.replicas,
            max_age: FORGOTTEN_AFTER,
            ..Config::default()
        };
        let until = Instant::now() + READY_TIMEOUT;
        // A cluster that just started has no leader yet: then it refuses, or says nothing. A stream that is there is not made twice.
        loop {
            let why = match timeout(ANSWER_TIMEOUT, self.context.create_stream(config.clone())).await {
                Ok(Ok(_)) => break,
                Ok(Err(error)) if is_not_ready(&error) => failed(error),
                Ok(Err(error)) => return Err(failed(error)),
                Err(_) => failed("the servers do not answer who asks for a stream"),
            };
            if Instant::now() >= until {
                return Err(why);
            }
            sleep(RETRY_EVERY).await;
        }
        self.has_stream = true;
        Ok(())
    }

    async fn end(&mut self) -> Result<(), Failed> {
        // Also after a `begin` that was cut short: the server may have made it all the same.
        let was_made = std::mem::take(&mut self.has_stream);
        match self.context.delete_stream(&self.name).await {
            Err(error) if was_made => Err(failed(format!("cannot remove the stream {}: {error}", self.name))),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn pipeline(&self) -> Result<Publisher, Failed> {
        self.single().await
    }

    async fn single(&self) -> Result<Publisher, Failed> {
        let context = self.connected().await?;
        Ok(Publisher { context, subject: self.name.clone(), pending: VecDeque::new() })
    }

    async fn plain(&self) -> Result<Publisher, Failed> {
        self.single().await
    }

    /// NATS core, on a subject that no stream keeps.
    async fn tell(&self) -> Result<Core, Failed> {
        Ok(Core { client: connect(&self.address).await?, subject: self.core_subject() })
    }

    async fn listen(&self) -> Result<Subscriber, Failed> {
        let client = connect(&self.address).await?;
        let subscriber = client.subscribe(self.core_subject()).await.map_err(failed)?;
        round_trip(&client).await?;
        Ok(subscriber)
    }

    async fn follow(&self, from: From) -> Result<Ordered, Failed> {
        let context = self.connected().await?;
        let stream = context.get_stream(&self.name).await.map_err(failed)?;
        let config = OrderedConfig {
            deliver_subject: context.client().new_inbox(),
            deliver_policy: match from {
                From::Earliest => DeliverPolicy::All,
                From::Latest => DeliverPolicy::New,
            },
            ..OrderedConfig::default()
        };
        let consumer = stream.create_consumer(config).await.map_err(failed)?;
        consumer.messages().await.map_err(failed)
    }
}

/// A connection that publishes.
pub(crate) struct Publisher {
    context: Context,
    subject: String,
    /// In the order in which they were sent, which is that in which they are acknowledged.
    pending: VecDeque<PublishAckFuture>,
}

impl Publisher {
    async fn settle_one(&mut self) -> Result<(), Failed> {
        if let Some(oldest) = self.pending.pop_front() {
            oldest.into_future().await.map_err(failed)?;
        }
        Ok(())
    }
}

impl Pipeline for Publisher {
    async fn send(&mut self, value: Bytes) -> Result<(), Failed> {
        if self.pending.len() >= PENDING_MAX {
            self.settle_one().await?;
        }
        self.pending.push_back(self.context.publish(self.subject.clone(), value).await.map_err(failed)?);
        Ok(())
    }

    /// The client writes at once.
    async fn push(&mut self) -> Result<(), Failed> {
        Ok(())
    }

    async fn finish(mut self) -> Result<(), Failed> {
        while !self.pending.is_empty() {
            self.settle_one().await?;
        }
        Ok(())
    }
}

impl Single for Publisher {
    async fn publish(&mut self, value: Bytes) -> Result<(), Failed> {
        let acknowledged = self.context.publish(self.subject.clone(), value).await.map_err(failed)?;
        acknowledged.await.map_err(failed)?;
        Ok(())
    }
}

/// A connection that publishes without a stream: nobody acknowledges.
pub(crate) struct Core {
    client: Client,
    subject: String,
}

impl Pipeline for Core {
    async fn send(&mut self, value: Bytes) -> Result<(), Failed> {
        self.client.publish(self.subject.clone(), value).await.map_err(failed)
    }

    async fn push(&mut self) -> Result<(), Failed> {
        Ok(())
    }

    async fn finish(self) -> Result<(), Failed> {
        // A connection that is closed too early takes what the server has not read with it.
        round_trip(&self.client).await
    }
}

impl Follower for Subscriber {
    async fn next(&mut self, each: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), Failed> {
        let Some(message) = StreamExt::next(self).await else {
            return Err(Failed::Failure("the subscription ended".to_owned()));
        };
        each(&message.payload);
        Ok(())
    }
}

impl Follower for Ordered {
    async fn next(&mut self, each: &mut (dyn FnMut(&[u8]) + Send)) -> Result<(), Failed> {
        let Some(message) = StreamExt::next(self).await else {
            return Err(Failed::Failure("the subscription ended".to_owned()));
        };
        each(&message.map_err(failed)?.payload);
        Ok(())
    }
}
