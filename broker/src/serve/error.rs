//! Every error that a program meets, in one shape; and that shape in each protocol: a gRPC status, an item of a stream, an
//! RFC 9457 problem document.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use fulmar_core::batch::BatchError;
use fulmar_core::offset::Offset;
use fulmar_core::partition::Refusal;
use fulmar_proto::v1::{self as proto, ErrorReason};
use http::{HeaderValue, StatusCode, header};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::storage::ReadError;

/// `ErrorInfo.domain` of every error.
pub const DOMAIN: &str = "fulmar.dev";
/// Every name of a reason begins with it in the proto, never on the wire.
const PREFIX: &str = "ERROR_REASON_";

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub reason: ErrorReason,
    /// For people: what was wrong and what is allowed.
    pub message: String,
    /// What it is about, for programs.
    pub metadata: Vec<(&'static str, String)>,
    /// `NOT_LEADER`: where to go; empty if unknown.
    pub leader_address: String,
}

impl Failure {
    /// Without more about it.
    pub fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), metadata: Vec::new(), leader_address: String::new() }
    }

    /// With one more thing that it is about.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers write numbers and texts alike")]
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.metadata.push((name, value.to_string()));
        self
    }

    /// Says where in the request it was.
    #[must_use]
    pub fn about(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// A field is missing or out of its range.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorReason::InvalidRequest, message).with("field", field)
    }

    /// The leader is another, or nobody.
    pub fn not_leader(message: impl Into<String>, leader_address: String) -> Self {
        Self { leader_address, ..Self::new(ErrorReason::NotLeader, message) }
    }

    /// A publish was refused by the replica.
    pub fn refused(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::NotLeader { leader: None } => {
                Self::not_leader("nobody leads the partition now", String::new())
            }
            Refusal::NotLeader { leader: Some(leader) } => {
                Self::not_leader(format!("broker {} leads the partition", leader.ordinal), String::new())
            }
            Refusal::OutcomeUnknown => Self::outcome_unknown(),
            Refusal::NotEnoughReplicas { needed, have } => Self::new(
                ErrorReason::NotEnoughReplicas,
                format!("{needed} replicas are needed and {have} answer; nothing was appended"),
            )
            .with("needed", needed)
            .with("have", have),
            Refusal::Moving => {
                Self::new(ErrorReason::Moving, "the partition's leader is being moved; nothing was appended")
            }
            Refusal::OutOfSequence { expected, got } => Self::new(
                ErrorReason::OutOfSequence,
                format!("the producer's batch {got} came where {expected} must come next"),
            )
            .with("expected", expected)
            .with("got", got),
            Refusal::DuplicateTooOld => Self::new(
                ErrorReason::DuplicateTooOld,
                "the producer's batch is older than the remembered ones",
            ),
            Refusal::TooManyProducers => Self::new(
                ErrorReason::TooManyProducers,
                "too many idempotent producers, or too many batches of this one under way",
            ),
            Refusal::Busy => Self::new(
                ErrorReason::Busy,
                "too many publishes wait for their acknowledgement; nothing was appended",
            ),
            Refusal::EarlierVersion { broker } => Self::new(
                ErrorReason::NotEnoughReplicas,
                format!(
                    "the batch is compressed, and broker {broker} runs an earlier version, which cannot store it; nothing was \
                     appended. Publish without compression until all brokers are upgraded"
                ),
            ),
        }
    }

    /// It may or may not have been appended.
    pub fn outcome_unknown() -> Self {
        Self::new(
            ErrorReason::OutcomeUnknown,
            "the leader changed while the publish was under way: the message may or may not be there",
        )
    }

    /// Bytes that are no batch.
    pub fn corrupt(error: &BatchError) -> Self {
        Self::new(ErrorReason::CorruptBatch, format!("the batch is refused: {error}"))
    }

    /// The storage gave nothing.
    pub fn unread(error: &ReadError) -> Self {
        match error {
            ReadError::Unknown(_) => Self::not_leader("the partition is not on this broker", String::new()),
            ReadError::BelowStart { from, log_start, .. } => Self::new(
                ErrorReason::OffsetOutOfRange,
                format!("offset {from} is below the oldest kept, {log_start}"),
            )
            .with("log_start", log_start),
            ReadError::Rotten { base, .. } => Self::under_repair(*base),
            ReadError::Failed(what) => {
                Self::new(ErrorReason::NotServing, format!("the storage failed: {what}"))
            }
        }
    }

    /// Nothing stands there any more, or yet.
    pub fn out_of_range(offset: Offset, log_start: Offset, high_watermark: Offset) -> Self {
        let message = format!("offset {offset} is outside of what is kept, {log_start} to {high_watermark}");
        Self::new(ErrorReason::OffsetOutOfRange, message)
            .with("log_start", log_start)
            .with("high_watermark", high_watermark)
    }

    /// A batch is damaged on this broker's disk, and the other replicas are asked for a copy.
    pub fn under_repair(base: Offset) -> Self {
        let message = format!(
            "the batch at offset {base} is damaged on this broker's disk, and a copy of another replica is awaited"
        );
        Self::new(ErrorReason::NotServing, message).with("offset", base)
    }

    /// A batch is damaged, and all members were asked for a copy in vain.
    pub fn irreparable(base: Offset) -> Self {
        let message = format!(
            "the batch at offset {base} is damaged on this broker's disk, and no other replica can give a copy"
        );
        Self::new(ErrorReason::Damaged, message).with("offset", base)
    }

    /// Whether nothing was done and the same request may succeed soon.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.reason {
            ErrorReason::NotLeader | ErrorReason::Moving | ErrorReason::Busy => {
                Some(Duration::from_millis(100))
            }
            ErrorReason::NotEnoughReplicas | ErrorReason::NotServing => Some(Duration::from_millis(500)),
            ErrorReason::TooManyProducers => Some(Duration::from_secs(1)),
            ErrorReason::DiskFull => Some(Duration::from_secs(10)),
            ErrorReason::Unspecified
            | ErrorReason::UnknownTopic
            | ErrorReason::UnknownPartition
            | ErrorReason::TopicRetained
            | ErrorReason::OutcomeUnknown
            | ErrorReason::RecordTooLarge
            | ErrorReason::CorruptBatch
            | ErrorReason::OutOfSequence
            | ErrorReason::DuplicateTooOld
            | ErrorReason::OffsetOutOfRange
            | ErrorReason::InvalidRequest
            | ErrorReason::Damaged => None,
        }
    }

    /// The reason as it stands in `ErrorInfo`.
    pub fn reason_name(&self) -> &'static str {
        self.reason.as_str_name().trim_start_matches(PREFIX)
    }

    fn code(&self) -> Code {
        match self.reason {
            ErrorReason::Unspecified => Code::Internal,
            ErrorReason::UnknownTopic | ErrorReason::UnknownPartition | ErrorReason::TopicRetained => {
                Code::NotFound
            }
            ErrorReason::NotLeader
            | ErrorReason::NotEnoughReplicas
            | ErrorReason::Moving
            | ErrorReason::NotServing => Code::Unavailable,
            ErrorReason::OutcomeUnknown => Code::Aborted,
            ErrorReason::RecordTooLarge | ErrorReason::CorruptBatch | ErrorReason::InvalidRequest => {
                Code::InvalidArgument
            }
            ErrorReason::OutOfSequence | ErrorReason::DuplicateTooOld => Code::FailedPrecondition,
            ErrorReason::TooManyProducers | ErrorReason::DiskFull | ErrorReason::Busy => {
                Code::ResourceExhausted
            }
            ErrorReason::OffsetOutOfRange => Code::OutOfRange,
            ErrorReason::Damaged => Code::DataLoss,
        }
    }

    fn http_status(&self) -> StatusCode {
        match self.reason {
            ErrorReason::Unspecified | ErrorReason::Damaged => StatusCode::INTERNAL_SERVER_ERROR,
            ErrorReason::UnknownTopic | ErrorReason::UnknownPartition | ErrorReason::TopicRetained => {
                StatusCode::NOT_FOUND
            }
            ErrorReason::NotLeader
            | ErrorReason::NotEnoughReplicas
            | ErrorReason::Moving
            | ErrorReason::NotServing => StatusCode::SERVICE_UNAVAILABLE,
            // Not 503: proxies and clients retry that by themselves.
            ErrorReason::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
            ErrorReason::RecordTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorReason::CorruptBatch | ErrorReason::InvalidRequest => StatusCode::BAD_REQUEST,
            ErrorReason::OutOfSequence | ErrorReason::DuplicateTooOld => StatusCode::CONFLICT,
            ErrorReason::TooManyProducers | ErrorReason::Busy => StatusCode::TOO_MANY_REQUESTS,
            ErrorReason::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
            ErrorReason::OffsetOutOfRange => StatusCode::RANGE_NOT_SATISFIABLE,
        }
    }

    /// As an item of a stream or list.
    pub fn to_item(&self) -> proto::Error {
        proto::Error {
            reason: self.reason.into(),
            message: self.message.clone(),
            leader_address: self.leader_address.clone(),
        }
    }

    /// Back from an item that another broker sent.
    pub fn from_item(item: &proto::Error) -> Self {
        Self { leader_address: item.leader_address.clone(), ..Self::new(item.reason(), item.message.clone()) }
    }

    /// Back from a status that another broker answered; `None` if it is not one of ours: the connection broke, or it
    /// timed out.
    pub fn from_status(status: &Status) -> Option<Self> {
        let details = status.get_error_details();
        let info = details.error_info()?;
        if info.domain != DOMAIN {
            return None;
        }
        let reason = ErrorReason::from_str_name(&format!("{PREFIX}{}", info.reason))?;
        let leader_address = info.metadata.get("leader_address").cloned().unwrap_or_default();
        Some(Self { leader_address, ..Self::new(reason, status.message()) })
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut metadata: HashMap<String, String> =
            failure.metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        if !failure.leader_address.is_empty() {
            metadata.insert("leader_address".to_owned(), failure.leader_address.clone());
        }
        let mut details = ErrorDetails::with_error_info(failure.reason_name(), DOMAIN, metadata);
        if let Some(after) = failure.retry_after() {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(failure.code(), failure.message, details)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.http_status();
        self.into_response_as(status)
    }
}

impl Failure {
    /// As a problem document, RFC 9457.
    pub fn to_problem(&self) -> serde_json::Value {
        self.problem_of(self.http_status())
    }

    fn problem_of(&self, status: StatusCode) -> serde_json::Value {
        let mut document = serde_json::Map::new();
        document.insert("type".to_owned(), format!("urn:fulmar:error:{}", self.reason_name()).into());
        document.insert("title".to_owned(), status.canonical_reason().unwrap_or("Error").into());
        document.insert("status".to_owned(), status.as_u16().into());
        document.insert("detail".to_owned(), self.message.clone().into());
        document.insert("reason".to_owned(), self.reason_name().into());
        for (name, value) in &self.metadata {
            document.insert((*name).to_owned(), value.clone().into());
        }
        document.into()
    }

    /// As a problem document of another status than its reason's: of a path, or of a method.
    pub fn into_response_as(self, status: StatusCode) -> Response {
        let mut response = (status, Json(self.problem_of(status))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
