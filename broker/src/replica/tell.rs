//! What the log tells people of a replica when it changes.

use fulmar_core::id::PartitionKey;
use tracing::{error, info, warn};

use super::State;
use crate::storage::Storage;

/// Damaged batches: found, given up, healed.
pub(super) fn damage(storage: &Storage, key: PartitionKey, before: &State, now: &State) {
    if let Some(offset) = now.damaged.filter(|_| now.damaged != before.damaged) {
        warn!(
            partition = %key, %offset, file = %storage.records_path().display(),
            "a stored batch is damaged: the other replicas are asked for a copy"
        );
    }
    if let Some(offset) = now.irreparable.filter(|_| now.irreparable != before.irreparable) {
        error!(
            partition = %key, %offset, file = %storage.records_path().display(),
            "a stored batch is damaged, and no other member of the partition can give a copy: its records cannot be read"
        );
    }
    if now.mended > before.mended {
        let count = now.mended - before.mended;
        info!(partition = %key, count, "damaged batches were replaced by copies of other replicas");
    }
}
