//! Which Topic has which name: of two that claim one, the older; of the same second, the one with the lower uid.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmar_crds::Topic;
use fulmar_crds::topic::DeletionPolicy;
use fulmar_crds::validate::{SettingsError, TopicSettings};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use crate::names::FINALIZER_RECORDS;

/// A Topic, checked.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The object.
    pub topic: Arc<Topic>,
    /// How it stands.
    pub standing: Standing,
}

/// How a Topic stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has its name.
    Holder(TopicSettings),
    /// An older one has its name.
    Taken {
        /// The name that both claim.
        name: String,
        /// The object that has it.
        by: String,
    },
    /// It says what no rule lets through.
    Invalid(SettingsError),
}

impl Claimed {
    /// Whether it is being deleted.
    pub fn is_going(&self) -> bool {
        self.topic.metadata.deletion_timestamp.is_some()
    }

    /// Whether its deletion waits for us.
    pub fn is_held(&self) -> bool {
        self.topic.finalizers().iter().any(|one| one == FINALIZER_RECORDS)
    }

    /// The settings, if it has its name.
    pub fn holder(&self) -> Option<&TopicSettings> {
        match &self.standing {
            Standing::Holder(settings) => Some(settings),
            Standing::Taken { .. } | Standing::Invalid(_) => None,
        }
    }

    /// The name of the topic whose records are to be deleted: it is going, has its name, and its policy says so.
    pub fn condemned(&self) -> Option<&str> {
        let settings = self.holder().filter(|_| self.is_going() && self.is_held())?;
        match settings.deletion_policy {
            DeletionPolicy::Delete => Some(&settings.name),
            DeletionPolicy::Retain => None,
        }
    }
}

/// Checks the Topics of one Cluster, which wants so many brokers (`None`: there is none), in the order of their names.
pub fn claims(topics: &[Arc<Topic>], brokers: Option<u16>) -> Vec<Claimed> {
    let mut by_age: Vec<&Arc<Topic>> = topics.iter().collect();
    by_age.sort_by(|one, other| age(one).cmp(&age(other)));
    let mut holders: BTreeMap<String, String> = BTreeMap::new();
    let mut claims: Vec<Claimed> = by_age
        .into_iter()
        .map(|topic| Claimed { topic: Arc::clone(topic), standing: standing(topic, brokers, &mut holders) })
        .collect();
    claims.sort_by(|one, other| one.topic.metadata.name.cmp(&other.topic.metadata.name));
    claims
}

/// The name that a Topic claims, checked or not: those of one name decide among themselves who has it.
pub fn claimed_name(topic: &Topic) -> Option<&str> {
    topic.spec.topic_name.as_deref().or(topic.metadata.name.as_deref())
}

fn age(topic: &Topic) -> (Option<&Time>, Option<&str>) {
    (topic.metadata.creation_timestamp.as_ref(), topic.metadata.uid.as_deref())
}

fn standing(topic: &Topic, brokers: Option<u16>, holders: &mut BTreeMap<String, String>) -> Standing {
    let settings = match TopicSettings::of(topic) {
        Ok(settings) => settings,
        Err(error) => return Standing::Invalid(error),
    };
    if let Some(by) = holders.get(&settings.name) {
        return Standing::Taken { name: settings.name, by: by.clone() };
    }
    holders.insert(settings.name.clone(), topic.name_any());
    // It keeps its name though it cannot be made: a younger one must not slip in while it is mended.
    match brokers.map(|brokers| settings.replicas(brokers)) {
        Some(Err(error)) => Standing::Invalid(error),
        Some(Ok(_)) | None => Standing::Holder(settings),
    }
}

#[cfg(test)]
#[path = "claims_tests.rs"]
mod tests;
