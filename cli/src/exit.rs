//! How a command ends: its exit code, and the one line that says why.
//!
//! Owns the mapping from the SDK's errors to codes. The list stands in the help of `fulmar` and in `docs/cli.md`.

use std::io;
use std::process::ExitCode;

use fulmar_client::{ConnectError, DescribeError, ProducerError, SendError, SubscribeError};
use thiserror::Error;

/// Why a command did not do what it was told.
#[derive(Debug, Error)]
pub(crate) enum Failed {
    /// Refused, or failed on the way.
    #[error("{0}")]
    Failure(String),
    /// Arguments or environment that make no sense.
    #[error("{0}")]
    Usage(String),
    /// No broker answered in time.
    #[error("{0}")]
    Unavailable(String),
    /// No such topic or partition.
    #[error("{0}")]
    NotFound(String),
    /// Who reads the output has gone: a pipe into `head` is no error.
    #[error("nobody reads the output any more")]
    ClosedPipe,
}

impl Failed {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::ClosedPipe => 0,
            Self::Failure(_) => 1,
            Self::Usage(_) => 2,
            Self::Unavailable(_) => 3,
            Self::NotFound(_) => 4,
        }
    }

    /// The same, with words before it that say where.
    pub(crate) fn at(self, place: impl std::fmt::Display) -> Self {
        match self {
            Self::Failure(why) => Self::Failure(format!("{place}: {why}")),
            Self::Usage(why) => Self::Usage(format!("{place}: {why}")),
            Self::Unavailable(why) => Self::Unavailable(format!("{place}: {why}")),
            Self::NotFound(why) => Self::NotFound(format!("{place}: {why}")),
            Self::ClosedPipe => Self::ClosedPipe,
        }
    }
}

/// Says why on standard error.
#[allow(clippy::print_stderr, reason = "this is the place where a command's error is told")]
pub(crate) fn report(failed: &Failed) -> ExitCode {
    match failed {
        Failed::ClosedPipe => {}
        Failed::Failure(_) | Failed::Usage(_) | Failed::Unavailable(_) | Failed::NotFound(_) => {
            eprintln!("fulmar: {failed}");
        }
    }
    ExitCode::from(failed.code())
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Failure(error.to_string()),
        }
    }
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Address { .. } | ConnectError::Encrypted(_) => Self::Usage(error.to_string()),
            ConnectError::Unreachable { .. } => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<DescribeError> for Failed {
    fn from(error: DescribeError) -> Self {
        match error {
            DescribeError::UnknownTopic { .. } | DescribeError::Retained { .. } => {
                Self::NotFound(error.to_string())
            }
            DescribeError::Unavailable { .. } => Self::Unavailable(error.to_string()),
            DescribeError::Refused(_) => Self::Failure(error.to_string()),
        }
    }
}

impl From<ProducerError> for Failed {
    fn from(error: ProducerError) -> Self {
        match error {
            ProducerError::Setting { .. } => Self::Usage(error.to_string()),
            ProducerError::Topic(error) => error.into(),
        }
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Self {
        match error {
            SendError::UnknownPartition { .. } => Self::NotFound(error.to_string()),
            SendError::TimedOut { .. } | SendError::OutcomeUnknown { .. } => {
                Self::Unavailable(error.to_string())
            }
            SendError::TooLarge { .. }
            | SendError::TooManyHeaders(_)
            | SendError::Batch(_)
            | SendError::Refused(_)
            | SendError::Closed => Self::Failure(error.to_string()),
        }
    }
}

impl From<SubscribeError> for Failed {
    fn from(error: SubscribeError) -> Self {
        match error {
            SubscribeError::Setting { .. } => Self::Usage(error.to_string()),
            SubscribeError::Topic(error) => error.into(),
            SubscribeError::UnknownPartition { .. } => Self::NotFound(error.to_string()),
            SubscribeError::TooMany { .. }
            | SubscribeError::OffsetOutOfRange { .. }
            | SubscribeError::Refused { .. } => Self::Failure(error.to_string()),
        }
    }
}
