//! Names to partitions, with the errors that a program sees.

use std::sync::Arc;

use fulmar_core::control::table::{TOPIC_NAME_BYTES_MAX, TopicRecord};
use fulmar_core::id::{PartitionKey, ReplicaId, TopicId};
use fulmar_proto::v1::ErrorReason;

use super::Door;
use super::error::Failure;
use crate::directory::Directory;

impl Door {
    pub(super) fn directory(&self) -> Arc<Directory> {
        self.shared.directory.borrow().clone()
    }

    /// A topic that is served, by what this broker was told. Programs' names go through [`find`](Self::find).
    pub(super) fn topic(&self, name: &str) -> Result<Arc<TopicRecord>, Failure> {
        if name.is_empty() {
            return Err(Failure::invalid("topic", "topic: the name of a topic is needed"));
        }
        // Before others are asked for it, and without it: an error repeats what is unknown several times.
        if name.len() > TOPIC_NAME_BYTES_MAX {
            let bytes = name.len();
            let message =
                format!("topic: a name has at most {TOPIC_NAME_BYTES_MAX} bytes, this one has {bytes}");
            return Err(Failure::invalid("topic", message));
        }
        let directory = self.directory();
        let unknown = || unknown(&directory, &format!("{name:?}")).with("topic", name);
        served(directory.topic(name).ok_or_else(unknown)?)
    }

    /// The same by id.
    pub(super) fn topic_of(&self, id: TopicId) -> Result<Arc<TopicRecord>, Failure> {
        let directory = self.directory();
        let unknown = || unknown(&directory, &format!("with id {id}")).with("topic_id", id);
        served(directory.topic_of(id).ok_or_else(unknown)?)
    }

    /// A partition of a topic.
    pub(super) fn partition(topic: &TopicRecord, partition: u32) -> Result<PartitionKey, Failure> {
        if partition < topic.partitions {
            return Ok(PartitionKey { topic: topic.id, partition });
        }
        let message = format!(
            "topic {:?} has the partitions 0 to {}, not {partition}",
            topic.name,
            topic.partitions.saturating_sub(1)
        );
        Err(Failure::new(ErrorReason::UnknownPartition, message)
            .with("topic", &topic.name)
            .with("partition", partition))
    }

    /// Who should lead a partition, by the newest decision that this broker knows: of the pages, or of its replica, which
    /// hears from its peers while the operator is away.
    pub(super) fn leader(&self, key: PartitionKey) -> Option<ReplicaId> {
        let directory = self.directory();
        let entry = directory.entry(key);
        match self.shared.replicas.states().get(key) {
            Some(state) if entry.is_none_or(|entry| entry.epoch < state.epoch) => state.leader,
            Some(_) | None => entry?.leader,
        }
    }

    /// Tells where the leader is.
    pub(super) fn not_leader(&self, key: PartitionKey) -> Failure {
        match self.leader(key) {
            None => {
                Failure::not_leader(format!("nobody leads partition {} now", key.partition), String::new())
            }
            Some(leader) if leader == self.shared.replicas.me() => Failure::not_leader(
                format!("this broker is about to lead partition {}", key.partition),
                self.shared.brokers.client(leader.ordinal),
            ),
            Some(leader) => Failure::not_leader(
                format!("broker {} leads partition {}", leader.ordinal, key.partition),
                self.shared.brokers.client(leader.ordinal),
            ),
        }
        .with("partition", key.partition)
    }
}

fn unknown(directory: &Directory, what: &str) -> Failure {
    if directory.pages().next().is_none() {
        return not_told();
    }
    Failure::new(ErrorReason::UnknownTopic, format!("there is no topic {what}"))
}

/// Another broker may know.
pub(super) fn not_told() -> Failure {
    Failure::new(ErrorReason::NotServing, "this broker has not been told which topics there are yet")
}

fn served(topic: &Arc<TopicRecord>) -> Result<Arc<TopicRecord>, Failure> {
    if topic.retained {
        let message = format!(
            "topic {:?} was deleted and its data is retained: apply the Topic again to use it",
            topic.name
        );
        return Err(Failure::new(ErrorReason::TopicRetained, message).with("topic", &topic.name));
    }
    Ok(topic.clone())
}
