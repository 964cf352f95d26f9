//! What peers of earlier versions cannot take, and what is therefore not appended beside them.
//!
//! Owns who speaks how much of the protocol, as far as it was ever heard by this process. A peer that was not heard is believed
//! to be of this version: should it come with an earlier one, it ends the connection itself when it meets what it cannot read.

use std::collections::BTreeSet;

use super::handshake::Accepted;
use crate::batch::{Compression, ProducedBatch};
use crate::entry::Entry;
use crate::id::{Ordinal, ReplicaId};

/// Since this version of the protocol batches may be compressed.
const COMPRESSED_FROM: u32 = 2;

/// Peers that read no compressed batches. One that is away stays in it until it comes back.
#[derive(Debug, Default)]
pub(super) struct Earlier(BTreeSet<ReplicaId>);

impl Earlier {
    /// A peer came.
    pub(super) fn note(&mut self, accepted: Accepted) {
        if accepted.protocol < COMPRESSED_FROM {
            self.0.insert(accepted.peer);
        } else {
            self.0.remove(&accepted.peer);
        }
    }

    /// Who of a partition could not follow if this batch were in its log.
    pub(super) fn cannot_take(&self, batch: &ProducedBatch, entry: &Entry) -> Option<Ordinal> {
        if batch.compression() == Compression::None {
            return None;
        }
        self.0.iter().find(|peer| entry.concerns(**peer)).map(|peer| peer.ordinal)
    }
}
