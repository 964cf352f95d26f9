//! What HTTP's answers and bodies look like as JSON, and what the `OpenAPI` document says of them.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use fulmar_core::batch::RECORD_HEADERS_MAX;
use fulmar_proto::v1::{
    BrokerStatus, DescribeClusterResponse, DescribeTopicResponse, Header, Message, PartitionStatus,
    PublishRequest, PublishResponse,
};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;
use uuid::Uuid;

use super::super::error::Failure;

/// One request's messages: a batch may have more, and nobody writes them by hand.
pub(super) const MESSAGES_MAX: usize = 10_000;

/// Bytes: as text if they are UTF-8, else as base64 under the other name.
fn text_or_base64(bytes: &Bytes) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

/// One of the two, or none.
fn bytes_of(
    name: &'static str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Bytes>, Failure> {
    match (text, base64) {
        (Some(_), Some(_)) => {
            Err(Failure::invalid(name, format!("{name}, {name}_base64: one of them, not both")))
        }
        (Some(text), None) => Ok(Some(Bytes::from(text))),
        (None, Some(base64)) => {
            let wrong = |error| Failure::invalid(name, format!("{name}_base64: it is no base64: {error}"));
            Ok(Some(Bytes::from(BASE64.decode(base64).map_err(wrong)?)))
        }
        (None, None) => Ok(None),
    }
}

/// At most so many of something: their number is known when the rest of the body would be memory already.
struct AtMost<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for AtMost<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a list of at most {MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = list.next_element()? {
            if all.len() == MAX {
                return Err(de::Error::invalid_length(MAX + 1, &self));
            }
            all.push(one);
        }
        Ok(all)
    }
}

fn at_most<'de, T, const MAX: usize, D>(from: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    from.deserialize_seq(AtMost::<T, MAX>(PhantomData))
}

/// Any JSON as its text, without the white space between its parts: numbers and texts stay as they are written. As values it would
/// take many times its bytes, and a number would become the nearest that a computer has.
fn json_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let mut text = String::from(Box::<str>::from(Box::<RawValue>::deserialize(from)?));
    let (mut is_inside, mut is_escaped) = (false, false);
    text.retain(|letter| {
        if !is_inside {
            is_inside = letter == '"';
            return !letter.is_ascii_whitespace();
        }
        is_inside = letter != '"' || is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        true
    });
    Ok(Some(text))
}

/// A name and a value beside a message's own value.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderDocument {
    /// UTF-8, not empty.
    name: String,
    /// The value as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// The value as base64, for bytes that are no UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl HeaderDocument {
    fn read(self) -> Result<Header, Failure> {
        let value = bytes_of("value", self.value, self.value_base64)?.unwrap_or_default();
        Ok(Header { name: self.name, value })
    }

    fn of(header: Header) -> Self {
        let (value, value_base64) = text_or_base64(&header.value);
        Self { name: header.name, value, value_base64 }
    }
}

/// A message to publish. Exactly one of `value`, `value_json` and `value_base64`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// Messages with equal keys go to one partition and stay in order. Absent: any partition.
    key: Option<String>,
    /// The key as base64, for bytes that are no UTF-8.
    key_base64: Option<String>,
    /// The value as text.
    #[schema(example = "hello")]
    value: Option<String>,
    /// Any JSON; its text is published as it is written, without the white space between its parts.
    #[serde(default, deserialize_with = "json_text")]
    #[schema(value_type = Option<Object>)]
    value_json: Option<String>,
    /// The value as base64, for bytes that are no UTF-8.
    value_base64: Option<String>,
    /// At most 256.
    #[serde(default, deserialize_with = "at_most::<_, RECORD_HEADERS_MAX, _>")]
    headers: Vec<HeaderDocument>,
    /// The program's own clock, milliseconds since 1970. Absent: the broker's.
    timestamp_ms: Option<i64>,
    /// Publish to this partition, whatever the key.
    partition: Option<u32>,
}

impl NewMessage {
    pub(super) fn read(self, topic: &str) -> Result<PublishRequest, Failure> {
        let needed = || {
            let message = "one of value, value_json and value_base64 is needed, and only one of them";
            Failure::invalid("value", message)
        };
        let given = bytes_of("value", self.value, self.value_base64)?;
        let value = match (given, self.value_json) {
            (Some(value), None) => value,
            (None, Some(json)) => Bytes::from(json),
            (Some(_), Some(_)) | (None, None) => return Err(needed()),
        };
        let headers =
            self.headers.into_iter().enumerate().map(|(at, header)| {
                header.read().map_err(|failure| failure.about(&format!("headers[{at}]")))
            });
        Ok(PublishRequest {
            topic: topic.to_owned(),
            key: bytes_of("key", self.key, self.key_base64)?,
            value,
            headers: headers.collect::<Result<_, _>>()?,
            timestamp_ms: self.timestamp_ms,
            partition: self.partition,
        })
    }
}

/// Messages to publish together: those of one partition become one batch, in their order.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessages {
    /// 1 to 10,000.
    #[serde(deserialize_with = "at_most::<_, MESSAGES_MAX, _>")]
    pub(super) messages: Vec<NewMessage>,
}

/// Where a message stands, or why it is not known to be there.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Outcome {
    /// It is committed.
    Published(Published),
    /// It is not known to be committed.
    Failed {
        /// A problem document.
        #[schema(value_type = Object)]
        error: serde_json::Value,
    },
}

/// Where a message stands.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Published {
    /// The topic's name.
    topic: String,
    /// The partition, from 0.
    partition: u32,
    /// Its offset.
    offset: u64,
}

impl From<PublishResponse> for Published {
    fn from(published: PublishResponse) -> Self {
        Self { topic: published.topic, partition: published.partition, offset: published.offset }
    }
}

/// What became of each message, in the order of the request.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Outcomes {
    pub(super) messages: Vec<Outcome>,
}

/// A delivered message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageDocument {
    /// The topic's name.
    topic: String,
    /// The partition.
    partition: u32,
    /// Its offset. Offsets rise, not always by one: the log keeps records of its own between messages.
    offset: u64,
    /// The key, if there is one and it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The key as base64, if it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    /// The value, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    /// The value as base64, if it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    /// As published.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<HeaderDocument>,
    /// The program's clock, milliseconds since 1970.
    timestamp_ms: i64,
    /// The leader's clock when it was appended, milliseconds since 1970.
    append_time_ms: i64,
}

impl From<Message> for MessageDocument {
    fn from(message: Message) -> Self {
        let (key, key_base64) = message.key.as_ref().map(text_or_base64).unwrap_or_default();
        let (value, value_base64) = text_or_base64(&message.value);
        Self {
            topic: message.topic,
            partition: message.partition,
            offset: message.offset,
            key,
            key_base64,
            value,
            value_base64,
            headers: message.headers.into_iter().map(HeaderDocument::of).collect(),
            timestamp_ms: message.timestamp_ms,
            append_time_ms: message.append_time_ms,
        }
    }
}

/// Messages of one partition, in order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Messages {
    pub(super) messages: Vec<MessageDocument>,
    /// Where to go on: the next request's `offset`.
    pub(super) next_offset: u64,
}

/// A topic as the list shows it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TopicSummary {
    /// Its name.
    name: String,
    /// Its id: a topic that was deleted and created anew is another one.
    topic_id: String,
    /// How many partitions it has.
    partitions: usize,
    /// How many copies of each there are.
    replicas: usize,
    /// How many partitions nobody leads.
    leaderless: usize,
    /// The largest message, key and headers included, in bytes.
    max_message_bytes: u32,
}

impl From<fulmar_proto::v1::Topic> for TopicSummary {
    fn from(topic: fulmar_proto::v1::Topic) -> Self {
        let id = Uuid::from_slice(&topic.topic_id).map(|id| id.to_string()).unwrap_or_default();
        Self {
            name: topic.name,
            topic_id: id,
            partitions: topic.partitions.len(),
            replicas: topic.partitions.iter().map(|one| one.replicas.len()).max().unwrap_or(0),
            leaderless: topic.partitions.iter().filter(|one| one.leader.is_none()).count(),
            max_message_bytes: topic.max_message_bytes,
        }
    }
}

/// Some topics, by name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Topics {
    pub(super) topics: Vec<TopicSummary>,
    /// The next request's `after`; absent: there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next_after: Option<String>,
}

/// A topic.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TopicDocument {
    /// Its name.
    name: String,
    /// Its id.
    topic_id: String,
    /// An acknowledgement means durable on so many replicas.
    ack_quorum: u32,
    /// Messages are kept so long, seconds; 0: for ever.
    retention_seconds: u64,
    /// At most so many bytes a partition are kept; 0: no limit.
    retention_bytes: u64,
    /// The largest message, key and headers included, in bytes.
    max_message_bytes: u32,
    partitions: Vec<PartitionDocument>,
}

/// A partition.
#[derive(Debug, Serialize, ToSchema)]
struct PartitionDocument {
    /// Its number.
    partition: u32,
    /// The broker that leads it; absent: nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    leader: Option<u32>,
    /// The leader opened its term and can commit.
    serving: bool,
    /// The brokers that hold copies.
    replicas: Vec<u32>,
    /// Those that hold all that is committed, as the leader sees it.
    in_sync: Vec<u32>,
    /// The oldest offset.
    log_start: u64,
    /// Where the next committed message will stand.
    high_watermark: u64,
    /// The leader's log end.
    log_end: u64,
    /// The decision's epoch.
    epoch: String,
}

impl From<PartitionStatus> for PartitionDocument {
    fn from(status: PartitionStatus) -> Self {
        Self {
            partition: status.partition,
            leader: status.leader,
            serving: status.serving,
            replicas: status.replicas,
            in_sync: status.in_sync,
            log_start: status.log_start,
            high_watermark: status.high_watermark,
            log_end: status.log_end,
            epoch: status.epoch,
        }
    }
}

impl From<DescribeTopicResponse> for TopicDocument {
    fn from(topic: DescribeTopicResponse) -> Self {
        Self {
            name: topic.name,
            topic_id: topic.topic_id,
            ack_quorum: topic.ack_quorum,
            retention_seconds: topic.retention_seconds,
            retention_bytes: topic.retention_bytes,
            max_message_bytes: topic.max_message_bytes,
            partitions: topic.partitions.into_iter().map(Into::into).collect(),
        }
    }
}

/// The Cluster as the asked broker sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClusterDocument {
    /// Its id; empty as long as the broker has not been told.
    cluster_id: String,
    /// The broker that answered.
    answered_by: u32,
    /// How many topics it knows.
    topics: u32,
    /// How many partitions nobody leads.
    leaderless: u32,
    /// An operator's stream is attached to the asked broker.
    operator_attached: bool,
    brokers: Vec<BrokerDocument>,
}

/// A broker.
#[derive(Debug, Serialize, ToSchema)]
struct BrokerDocument {
    /// Its number.
    ordinal: u32,
    /// Where programs reach it by gRPC.
    address: String,
    /// Its zone, if known.
    zone: String,
    /// Whether gossip sees it alive.
    alive: bool,
    /// How many partitions it should lead.
    leading: u32,
    /// Of how many it holds a copy.
    replicas: u32,
    /// Its software.
    version: String,
}

impl From<BrokerStatus> for BrokerDocument {
    fn from(broker: BrokerStatus) -> Self {
        Self {
            ordinal: broker.ordinal,
            address: broker.address,
            zone: broker.zone,
            alive: broker.alive,
            leading: broker.leading,
            replicas: broker.replicas,
            version: broker.version,
        }
    }
}

impl From<DescribeClusterResponse> for ClusterDocument {
    fn from(cluster: DescribeClusterResponse) -> Self {
        Self {
            cluster_id: cluster.cluster_id,
            answered_by: cluster.answered_by,
            topics: cluster.topics,
            leaderless: cluster.leaderless,
            operator_attached: cluster.operator_attached,
            brokers: cluster.brokers.into_iter().map(Into::into).collect(),
        }
    }
}
