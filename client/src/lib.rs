//! The Rust SDK of Fulmar: publish to and read from topics, with whole batches, straight to and from the leaders.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use fulmar_client::{Client, Record, Start};
//!
//! let client = Client::builder().server("http://127.0.0.1:50051").connect().await?;
//!
//! let producer = client.producer("orders.v1").build().await?;
//! let ack = producer.publish(Record::new("one espresso").key("table 4")).await?;
//! println!("partition {}, offset {}", ack.partition, ack.offset);
//! producer.close().await;
//!
//! let mut messages = client.subscriber("orders.v1").start(Start::Earliest).build().await?;
//! while let Some(message) = messages.next().await {
//!     let message = message?;
//!     println!("{}: {:?}", message.offset, message.value);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! - [`Producer`] batches, is idempotent, retries with backoff within its delivery timeout and keeps the order of each
//!   partition. [`Producer::publish`] waits for the acknowledgement; [`Producer::send`] only for room in the buffer.
//! - [`Subscriber`] reads what is committed, of a topic or of all that fit a pattern such as `orders.*`, in order within each
//!   partition, and goes on over reconnects and changes of leaders.
//! - [`Admin`] answers questions about the Cluster, its topics and their offsets.
//!
//! Owns connections, finding leaders, retries and bounded buffers. Never decides anything that a broker has to enforce:
//! what it checks before sending, it checks to give a better error.

mod admin;
mod client;
mod connection;
mod error;
mod metadata;
mod producer;
mod record;
mod retry;
mod subscriber;

pub use fulmar_core::batch::{Compression, RecordHeader};
pub use fulmar_core::partitioner::partition_of;
pub use fulmar_proto::v1;

pub use self::admin::Admin;
pub use self::client::{Client, ClientBuilder, DEFAULT_SERVER};
pub use self::error::{
    ConnectError, DescribeError, Failure, ProducerError, SendError, SubscribeError, name_of,
};
pub use self::producer::{Ack, Delivery, Producer, ProducerBuilder};
pub use self::record::{Message, Record};
pub use self::subscriber::{Start, Subscriber, SubscriberBuilder};
