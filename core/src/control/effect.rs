//! What the controller wants done. Effects are carried out in order; what they bring comes back as inputs.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::control::view::{ControlEvent, View};
use crate::id::{ClusterId, Incarnation, Ordinal, PartitionKey};
use crate::term::{Epoch, Process};

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read the whole table by a consistent read, then say [`Input::Loaded`](super::Input::Loaded) or
    /// [`Input::LoadFailed`](super::Input::LoadFailed). One at a time.
    Load,
    /// Store a document, if it still is at the expected revision (nothing: if it does not exist), then say
    /// [`Input::Written`](super::Input::Written) or [`Input::WriteFailed`](super::Input::WriteFailed). One at a time for each
    /// document, at most [`WRITES_MAX`](super::WRITES_MAX) altogether.
    Write {
        /// What.
        document: Document,
        /// Instead of what.
        expected: Option<Revision>,
    },
    /// Keep a stream to this broker at this address, opened with this greeting, redialled until something else is asked.
    Attend {
        /// Whom.
        ordinal: Ordinal,
        /// Where.
        address: SocketAddr,
        /// What to open each stream with from now on.
        greeting: Greeting,
        /// End the stream that stands, if one does, and open another at once.
        afresh: bool,
    },
    /// Keep no stream to this broker any more.
    Leave(Ordinal),
    /// Send a page, which is persisted. One is under way at a time for each broker and page.
    Push {
        /// Whom.
        ordinal: Ordinal,
        /// What.
        page: PushedPage,
    },
    /// Ask for reports of every replica.
    Ask {
        /// Whom.
        ordinal: Ordinal,
        /// To be echoed.
        request: u64,
    },
    /// Send the address book.
    SendAddresses {
        /// Whom.
        ordinal: Ordinal,
        /// All of it.
        book: Arc<[Address]>,
    },
    /// Records of this partition may go from this broker, which it left.
    Release {
        /// Whom.
        ordinal: Ordinal,
        /// The partition.
        key: PartitionKey,
        /// The decision without it.
        epoch: Epoch,
    },
    /// A planned move: this leader is to refuse new publishes.
    StopAppends {
        /// Whom.
        ordinal: Ordinal,
        /// The partition.
        key: PartitionKey,
    },
    /// So many fresh [`Input::Ids`](super::Input::Ids) are wanted.
    NeedIds(usize),
    /// For people, at once.
    Event(ControlEvent),
    /// For people: the whole picture, where it changed.
    ViewChanged(Arc<View>),
}

/// The name of a document of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentName {
    /// The root.
    Root,
    /// A page.
    Page(u32),
}

impl fmt::Display for DocumentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DocumentName::Root => f.write_str("root"),
            DocumentName::Page(number) => write!(f, "page {number}"),
        }
    }
}

/// A document of the table, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Which.
    pub name: DocumentName,
    /// Whose.
    pub cluster_id: ClusterId,
    /// The tenure that wrote it.
    pub controller_epoch: u64,
    /// What it says: lines of [`table`](super::table).
    pub lines: Vec<String>,
}

/// What the ledger calls one state of a document; only ever compared for equality.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision(pub String);

/// What a stream to a broker opens with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The Cluster; nothing: not known yet, the stream only inquires.
    pub cluster_id: Option<ClusterId>,
    /// The tenure, 0 for an inquiry.
    pub controller_epoch: u64,
    /// The last process that was heard of the volume that is remembered at this ordinal.
    pub known: Option<(Incarnation, Process)>,
    /// The volume of `known` was restored from a copy (its claim is another one): it is to become a new incarnation.
    pub restored: bool,
    /// Who answers there is lost for ever, for another volume took its place: it is refused, and is to know it.
    pub lost: Option<Incarnation>,
}

/// A page on its way to a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedPage {
    /// Its number.
    pub number: u32,
    /// The tenure that wrote it.
    pub controller_epoch: u64,
    /// Which of that tenure's writes, from 1.
    pub revision: u64,
    /// The whole page.
    pub lines: Arc<[String]>,
}

/// Where a broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Which.
    pub ordinal: Ordinal,
    /// For brokers and the operator.
    pub internal: SocketAddr,
    /// `host:port` for programs.
    pub client: String,
    /// Its zone, if known.
    pub zone: Option<String>,
}
