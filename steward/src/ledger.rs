//! Where the partition table is kept: objects of Kubernetes (the operator), or files (`fulmar dev`).
//!
//! Owns what every ledger promises. Never what the documents say.

use async_trait::async_trait;
use fulmar_core::control::{Document, DocumentName, Revision, WriteFailure};
use thiserror::Error;

/// Keeps the documents of one Cluster's partition table. Each document is replaced whole and atomically, by
/// compare-and-swap over its revision.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Every document that exists, also those that no root lists, by a *consistent* read: what was written before the call
    /// is seen (no cache). Fails within 10 s.
    async fn load(&self) -> Result<Vec<(Document, Revision)>, LedgerError>;

    /// Stores `document` durably if it still is at `expected` (`None`: if it does not exist), and returns its new revision.
    /// Fails within 10 s.
    async fn write(&self, document: Document, expected: Option<Revision>) -> Result<Revision, LedgerError>;

    /// Removes a document if it still is at `expected`.
    async fn delete(&self, name: DocumentName, expected: Revision) -> Result<(), LedgerError>;
}

/// Why a ledger did not do it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// The document is not at the expected revision. Nothing was changed.
    #[error("the document was changed by somebody else")]
    Conflict,
    /// It may or may not have happened, or may happen yet: a timeout, a connection that broke.
    #[error("the outcome is not known: {0}")]
    OutcomeUnknown(String),
    /// It did not happen; trying again may help.
    #[error("the ledger cannot be reached: {0}")]
    Unavailable(String),
    /// It did not happen, and will not until a person does something: forbidden, no space, a file that is not ours.
    #[error("the ledger refuses: {0}")]
    Refused(String),
}

impl From<LedgerError> for WriteFailure {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Conflict => WriteFailure::Conflict,
            LedgerError::OutcomeUnknown(_) => WriteFailure::OutcomeUnknown,
            LedgerError::Unavailable(why) => WriteFailure::Unavailable(why),
            LedgerError::Refused(why) => WriteFailure::Refused(why),
        }
    }
}
