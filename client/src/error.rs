//! What can go wrong, an enum for each operation; and [`Failure`], what a broker or the way to it answered.
//!
//! Owns the mapping from `google.rpc` details and `fulmar.v1.Error` to reasons. Never retries: that is `retry`'s.

use fulmar_core::batch::BatchError;
use fulmar_proto::v1::{self, ErrorReason};
use std::time::Duration;
use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What a broker answered instead of what was asked, or why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{message}", .reason.map_or(String::new(), |reason| format!("{}: ", name_of(reason))))]
pub struct Failure {
    /// Why, for programs; absent if no broker answered, or something between that is not Fulmar.
    pub reason: Option<ErrorReason>,
    /// Why, for people.
    pub message: String,
    /// `NOT_LEADER`: where the leader is, `host:port`, if the broker knows.
    pub leader: Option<String>,
    /// The gRPC code, for answers without a reason.
    pub(crate) code: Code,
}

/// A reason's name without its prefix, as `ErrorInfo.reason` carries it: `NOT_LEADER`.
pub fn name_of(reason: ErrorReason) -> &'static str {
    reason.as_str_name().trim_start_matches("ERROR_REASON_")
}

/// What a failure says about what may be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing was done; the same may be asked again.
    Retry,
    /// It may have been done; only what carries a sequence, or only reads, may be asked again.
    Unknown,
    /// The broker does not know the topic or partition: true, or it is behind.
    Missing,
    /// The producer's sequence does not fit what the broker remembers.
    Sequence,
    /// Asking again would bring the same answer.
    Refused,
}

impl Failure {
    /// No broker answered.
    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self { reason: None, message: message.into(), leader: None, code: Code::Unavailable }
    }

    /// The broker broke the protocol, or a checksum did not hold on the way.
    pub(crate) fn garbled(message: impl Into<String>) -> Self {
        Self { reason: None, message: message.into(), leader: None, code: Code::DataLoss }
    }

    pub(crate) fn from_error(error: v1::Error) -> Self {
        let leader = Some(error.leader_address).filter(|address| !address.is_empty());
        let reason = ErrorReason::try_from(error.reason).ok().filter(|r| *r != ErrorReason::Unspecified);
        Self { reason, message: error.message, leader, code: Code::Unknown }
    }

    pub(crate) fn from_status(status: &Status) -> Self {
        let info = status.get_details_error_info();
        let reason = info
            .as_ref()
            .and_then(|info| ErrorReason::from_str_name(&format!("ERROR_REASON_{}", info.reason)));
        let leader =
            info.and_then(|mut info| info.metadata.remove("leader_address")).filter(|a| !a.is_empty());
        let message = if status.message().is_empty() {
            status.code().description().to_owned()
        } else {
            with_sources(status)
        };
        Self { reason, message, leader, code: status.code() }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let Some(reason) = self.reason else { return self.verdict_by_code() };
        match reason {
            ErrorReason::NotLeader
            | ErrorReason::NotEnoughReplicas
            | ErrorReason::Moving
            | ErrorReason::NotServing
            | ErrorReason::Busy
            | ErrorReason::TooManyProducers
            | ErrorReason::DiskFull => Verdict::Retry,
            ErrorReason::OutcomeUnknown => Verdict::Unknown,
            ErrorReason::UnknownTopic | ErrorReason::UnknownPartition => Verdict::Missing,
            ErrorReason::OutOfSequence => Verdict::Sequence,
            ErrorReason::Unspecified
            | ErrorReason::TopicRetained
            | ErrorReason::RecordTooLarge
            | ErrorReason::CorruptBatch
            | ErrorReason::Damaged
            | ErrorReason::DuplicateTooOld
            | ErrorReason::OffsetOutOfRange
            | ErrorReason::InvalidRequest => Verdict::Refused,
        }
    }

    /// Without a reason it is mostly the connection that speaks: then nothing is known of what was under way.
    fn verdict_by_code(&self) -> Verdict {
        match self.code {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Unauthenticated => Verdict::Refused,
            _ => Verdict::Unknown,
        }
    }
}

/// A transport error says what it is in its sources only.
fn with_sources(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// Why a [`Client`](crate::Client) could not be made.
#[derive(Debug, Clone, Error)]
pub enum ConnectError {
    /// Not an address.
    #[error("server {given:?} is not an address such as http://127.0.0.1:50051: {why}")]
    Address {
        /// What was given.
        given: String,
        /// What is wrong with it.
        why: String,
    },
    /// `https`: programs' connections are not encrypted yet.
    #[error("server {0:?}: only http:// is served as yet, not https://")]
    Encrypted(String),
    /// Nobody answered in time.
    #[error("no broker answers at {server}: {failure}")]
    Unreachable {
        /// Where it was tried.
        server: String,
        /// What came of the last attempt.
        failure: Failure,
    },
}

/// Why a question about the Cluster or a topic was not answered.
#[derive(Debug, Clone, Error)]
pub enum DescribeError {
    /// No topic has this name.
    #[error("there is no topic {topic:?}")]
    UnknownTopic {
        /// The name.
        topic: String,
    },
    /// The Topic was deleted and its data is retained.
    #[error("topic {topic:?} was deleted; its data is retained until a Topic of that name is created again")]
    Retained {
        /// The name.
        topic: String,
    },
    /// No broker answered within the client's request timeout.
    #[error("no answer within {timeout:?}: {failure}")]
    Unavailable {
        /// How long it was tried.
        timeout: Duration,
        /// What came of the last attempt.
        failure: Failure,
    },
    /// The broker refused.
    #[error("{0}")]
    Refused(Failure),
}

/// Why a [`Producer`](crate::Producer) could not be made.
#[derive(Debug, Clone, Error)]
pub enum ProducerError {
    /// A setting is out of its range.
    #[error("{setting}: {given} is not {allowed}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What was given.
        given: String,
        /// What may be given.
        allowed: &'static str,
    },
    /// The topic could not be looked up.
    #[error(transparent)]
    Topic(#[from] DescribeError),
}

/// Why a record was not published, or is not known to be.
#[derive(Debug, Clone, Error)]
pub enum SendError {
    /// Larger than the topic, or the producer's buffer, takes. Nothing was sent.
    #[error("the record has {size} bytes (key, value and headers), {limit} takes at most {bytes_max}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// What limits it.
        limit: &'static str,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// More headers than a record may have. Nothing was sent.
    #[error("the record has {0} headers, at most 256 are allowed")]
    TooManyHeaders(usize),
    /// It cannot be framed. Nothing was sent.
    #[error("the batch cannot be framed: {0}")]
    Batch(#[from] BatchError),
    /// The topic has no such partition. Nothing was sent.
    #[error("partition {partition}: the topic has {partitions} partitions, numbered from 0")]
    UnknownPartition {
        /// What was asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// The topic is gone, or a broker refused the batch. It is not in the log.
    #[error("{0}")]
    Refused(Failure),
    /// It could not be appended in time. It is not in the log.
    #[error("not published within {timeout:?}: {failure}")]
    TimedOut {
        /// The delivery timeout.
        timeout: Duration,
        /// What came of the last attempt.
        failure: Failure,
    },
    /// It was sent and no answer came in time: it may be in the log, once, or not at all.
    #[error("sent, but not acknowledged within {timeout:?}; it may or may not be in the log: {failure}")]
    OutcomeUnknown {
        /// The delivery timeout.
        timeout: Duration,
        /// What came of the last attempt.
        failure: Failure,
    },
    /// The producer was closed or dropped before it was sent.
    #[error("the producer is closed")]
    Closed,
}

/// Why a [`Subscriber`](crate::Subscriber) could not be made, or ends.
#[derive(Debug, Clone, Error)]
pub enum SubscribeError {
    /// A setting is out of its range.
    #[error("{setting}: {given} is not {allowed}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What was given.
        given: String,
        /// What may be given.
        allowed: &'static str,
    },
    /// The topic could not be looked up.
    #[error(transparent)]
    Topic(#[from] DescribeError),
    /// The topics that fit the pattern have more partitions than one subscriber reads.
    #[error("{partitions} partitions fit {pattern:?}, and one subscriber reads at most {partitions_max}")]
    TooMany {
        /// The pattern.
        pattern: String,
        /// How many fit.
        partitions: usize,
        /// How many may.
        partitions_max: usize,
    },
    /// The topic has no such partition.
    #[error("partition {partition}: the topic has {partitions} partitions, numbered from 0")]
    UnknownPartition {
        /// What was asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// Nothing is at the asked offset: retention passed it, or it was never written.
    #[error("topic {topic:?}, partition {partition}: offset {asked} is out of range: {message}")]
    OffsetOutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// The asked offset.
        asked: u64,
        /// The broker's words, with the range.
        message: String,
    },
    /// The broker refused.
    #[error("topic {topic:?}, partition {partition}: {failure}")]
    Refused {
        /// The topic.
        topic: String,
        /// The partition.
        partition: u32,
        /// Its answer.
        failure: Failure,
    },
}
