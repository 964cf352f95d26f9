//! What the operator is told about this broker's replicas.

use super::Broker;
use crate::id::PartitionKey;
use crate::partition::Report;

impl Broker {
    /// Reports of the replicas that changed since they were last handed out. One whose promise is just being stored comes
    /// later: a report must not be older than what was promised.
    pub fn reports(&mut self) -> Vec<(PartitionKey, Report)> {
        let mut reports = Vec::new();
        self.changed.retain(|key| {
            let Some(replica) = self.replicas.get(key) else { return false };
            let Some(report) = replica.report() else { return true };
            reports.push((*key, report));
            false
        });
        reports
    }

    /// Reports of every replica on the volume, tombstones included, as of now: the answer to an operator that asks. `None`
    /// while a promise is just being stored; the shell asks again in its next turn.
    pub fn all_reports(&self) -> Option<Vec<(PartitionKey, Report)>> {
        self.replicas.iter().map(|(key, replica)| replica.report().map(|report| (*key, report))).collect()
    }

    /// Whether the volume holds replicas or tombstones.
    pub fn has_replicas(&self) -> bool {
        !self.replicas.is_empty()
    }
}
