//! What the operator and `fulmar dev` share: dial the brokers of one Cluster, persist what `core::control` decides through
//! a [`Ledger`], then push it.
//!
//! Owns sockets to brokers, the clock and the identifiers that the controller is given. Never decides, and knows no
//! Kubernetes.

mod ledger;

pub use fulmar_core::control::{Document, DocumentName, Revision, Sighting};

pub use self::ledger::{Ledger, LedgerError};
