//! The files as one wish: a Cluster and its Topics, with the defaults and verdicts of the API server.
//!
//! Owns what is special about files: several of them, an object that is no longer in them, Topics that do not belong.
//! Never checks a field: `fulmar_crds::admission` does.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use fulmar_core::control::{Desired, LossWord, Rebalance, TopicWish};
use fulmar_crds::admission::{self, Document};
use fulmar_crds::topic::{ACCEPT_DATA_LOSS, DeletionPolicy};
use fulmar_crds::{ClusterSettings, SettingsError, Topic, TopicSettings};

use crate::exit::Failed;

/// Beyond any manifest that a person writes: ten thousand Topics have 2 MB.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) cluster: ClusterSettings,
    pub(crate) topics: Vec<TopicSettings>,
    /// Names of topics that were taken out of the files and whose deletionPolicy is Delete.
    pub(crate) deleted: Vec<String>,
    /// What is applied: the objects in the files, and those that are being deleted.
    pub(crate) documents: Vec<Document>,
    /// What a person should know, such as Topics that are left aside.
    pub(crate) notes: Vec<String>,
}

impl Manifest {
    /// Reads all files, checked against what was applied before. Fails with everything that is wrong in them.
    pub(crate) fn read(files: &[PathBuf], previous: &[Document]) -> Result<Self, Failed> {
        let texts = files
            .iter()
            .map(|path| read_file(path).map(|text| (path.as_path(), text)))
            .collect::<Result<Vec<_>, _>>()?;
        let documents = admit(&texts, previous)?;
        let cluster = the_cluster(&documents)?;
        let namespace =
            documents.iter().find(|one| matches!(one, Document::Cluster(_))).map(Document::namespace);
        let mut sorted = Topics::new(&cluster, namespace.unwrap_or_default());
        // Who was there before has the older claim to a name.
        let is_known = |document: &&Document| previous.iter().any(|other| is_same(other, document));
        let (known, new): (Vec<_>, Vec<_>) = documents.iter().partition(is_known);
        for document in known.into_iter().chain(new) {
            if let Document::Topic(topic) = document {
                sorted
                    .take(topic, document.namespace())
                    .map_err(|error| Failed::Failure(error.to_string()))?;
            }
        }
        let topics: Vec<TopicSettings> = sorted.by_name.into_values().map(|(_, settings)| settings).collect();
        for topic in &topics {
            LossWord::parse_all(&topic.accept_data_loss, topic.partitions).map_err(|error| {
                let name = &topic.name;
                Failed::Failure(format!(
                    "topic {name:?}: annotation {ACCEPT_DATA_LOSS}: {error}; several are separated by commas"
                ))
            })?;
        }
        let mut manifest = Self { deleted: Vec::new(), notes: sorted.notes, documents, cluster, topics };
        manifest.take_leave(previous);
        Ok(manifest)
    }

    /// Topics that are not in the files any more: `Retain` leaves their data, `Delete` does not.
    fn take_leave(&mut self, previous: &[Document]) {
        let gone: Vec<&Document> =
            previous.iter().filter(|old| !self.documents.iter().any(|new| is_same(old, new))).collect();
        for document in gone {
            let Document::Topic(topic) = document else { continue };
            let Ok(settings) = TopicSettings::of(topic) else { continue };
            let is_claimed = self.topics.iter().any(|other| other.name == settings.name);
            if settings.cluster != self.cluster.name || is_claimed {
                continue;
            }
            match settings.deletion_policy {
                DeletionPolicy::Retain => self.notes.push(format!(
                    "topic {:?} is not in the files any more: its data is retained, and found again by a Topic of that name",
                    settings.name
                )),
                DeletionPolicy::Delete => {
                    self.notes.push(format!(
                        "topic {:?} is not in the files any more, and its deletionPolicy is Delete: its data goes",
                        settings.name
                    ));
                    self.deleted.push(settings.name);
                    // Kept until nothing is left of it, or a restart would forget it half-way.
                    self.documents.push(document.clone());
                }
            }
        }
    }

    /// Nothing is left of these topics.
    pub(crate) fn forget(&mut self, gone: &[String]) {
        let is_gone =
            |topic: &Topic| TopicSettings::of(topic).is_ok_and(|settings| gone.contains(&settings.name));
        let leaving = std::mem::take(&mut self.deleted);
        self.documents.retain(|document| match document {
            Document::Cluster(_) => true,
            Document::Topic(topic) => {
                !(is_gone(topic) && TopicSettings::of(topic).is_ok_and(|one| leaving.contains(&one.name)))
            }
        });
        self.deleted = leaving.into_iter().filter(|name| !gone.contains(name)).collect();
    }

    /// The objects, for the next comparison: with the floor of `replicas` as the API server would know it.
    pub(crate) fn applied(&self, min_brokers: u16) -> Vec<Document> {
        let with_floor = |document: &Document| {
            let mut document = document.clone();
            if let Document::Cluster(cluster) = &mut document
                && min_brokers > 0
            {
                let status = cluster.status.get_or_insert_default();
                status.min_replicas = Some(min_brokers.into());
            }
            document
        };
        self.documents.iter().map(with_floor).collect()
    }

    /// For the controller.
    pub(crate) fn desired(&self) -> Desired {
        let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let wish = |topic: &TopicSettings| TopicWish {
            name: topic.name.clone(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            ack_quorum: topic.ack_quorum,
            max_message_bytes: topic.max_message_bytes,
            retention_ms: topic.retention_time.map(millis),
            retention_bytes: topic.retention_bytes,
            accepted_losses: LossWord::parse_all(&topic.accept_data_loss, topic.partitions)
                .unwrap_or_default(),
        };
        Desired {
            brokers: self.cluster.replicas,
            standing: self.cluster.replicas,
            topics: self.topics.iter().map(wish).collect(),
            deleted: self.deleted.clone(),
            rebalance: Rebalance {
                paused: self.cluster.rebalance.paused,
                moves_a_broker: self.cluster.rebalance.moves_per_broker,
            },
        }
    }
}

fn read_file(path: &Path) -> Result<String, Failed> {
    let cannot =
        |error: &dyn std::fmt::Display| Failed::Failure(format!("cannot read {}: {error}", path.display()));
    let size = fs::metadata(path).map_err(|error| cannot(&error))?.len();
    if size > FILE_BYTES_MAX {
        return Err(cannot(&format!("it has {size} bytes, more than {FILE_BYTES_MAX}")));
    }
    fs::read_to_string(path).map_err(|error| cannot(&error))
}

fn is_same(one: &Document, other: &Document) -> bool {
    (one.kind(), one.namespace(), one.name()) == (other.kind(), other.namespace(), other.name())
}

/// Every document of every file; or every violation, with the file, the document and the object.
fn admit(texts: &[(&Path, String)], previous: &[Document]) -> Result<Vec<Document>, Failed> {
    let mut known = previous.to_vec();
    let mut documents: Vec<Document> = Vec::new();
    let mut rejections = Vec::new();
    for (path, text) in texts {
        for verdict in admission::read_update(text, &known) {
            match verdict {
                Ok(document) => {
                    for list in [&mut known, &mut documents] {
                        list.retain(|other| !is_same(other, &document));
                        list.push(document.clone());
                    }
                }
                Err(rejection) => rejections.push(format!("{}: {rejection}", path.display())),
            }
        }
    }
    if rejections.is_empty() { Ok(documents) } else { Err(Failed::Failure(rejections.join("\n"))) }
}

fn the_cluster(documents: &[Document]) -> Result<ClusterSettings, Failed> {
    let mut clusters = documents.iter().filter_map(|document| match document {
        Document::Cluster(cluster) => Some(cluster),
        Document::Topic(_) => None,
    });
    let Some(cluster) = clusters.next() else {
        return Err(Failed::Failure("there is no Cluster in the files: `fulmar dev` runs one".to_owned()));
    };
    if let Some(other) = clusters.next() {
        return Err(Failed::Failure(format!(
            "there are two Clusters in the files, {:?} and {:?}: `fulmar dev` runs one",
            cluster.metadata.name.as_deref().unwrap_or_default(),
            other.metadata.name.as_deref().unwrap_or_default(),
        )));
    }
    ClusterSettings::of(cluster).map_err(|error| Failed::Failure(error.to_string()))
}

/// Sorts Topics into those of the Cluster and those to be left aside.
struct Topics<'a> {
    cluster: &'a ClusterSettings,
    namespace: &'a str,
    by_name: BTreeMap<String, (String, TopicSettings)>,
    notes: Vec<String>,
}

impl<'a> Topics<'a> {
    fn new(cluster: &'a ClusterSettings, namespace: &'a str) -> Self {
        Self { cluster, namespace, by_name: BTreeMap::new(), notes: Vec::new() }
    }

    fn take(&mut self, topic: &Topic, namespace: &str) -> Result<(), SettingsError> {
        let settings = TopicSettings::of(topic)?;
        let object = topic.metadata.name.clone().unwrap_or_default();
        if settings.cluster != self.cluster.name || namespace != self.namespace {
            self.notes.push(format!(
                "Topic {object:?} waits for the Cluster {:?} in the namespace {namespace:?}, which is not here: it is left aside",
                settings.cluster
            ));
            return Ok(());
        }
        if let Some((older, _)) = self.by_name.get(&settings.name) {
            self.notes.push(format!(
                "Topic {object:?} claims the name {:?}, which the Topic {older:?} has: it is left aside",
                settings.name
            ));
            return Ok(());
        }
        if let Err(error) = settings.replicas(self.cluster.replicas) {
            self.notes.push(format!("Topic {object:?} is left aside: {error}"));
            return Ok(());
        }
        self.by_name.insert(settings.name.clone(), (object, settings));
        Ok(())
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
