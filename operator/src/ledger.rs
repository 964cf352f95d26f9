//! The partition table's ledger in Kubernetes: a `PartitionTable` object for the root and for each page.
//!
//! Owns the step between documents and objects. A write is a PUT with the `resourceVersion` that the writer knows, or a
//! create; server-side apply would cost more and guard less. No object has a Cluster as its controller: the table goes when
//! the volumes go. Never: what a document says, and never a cache, for another operator may have written meanwhile.
//!
//! An API server that asks to wait (429) is asked again all the same, as for the Lease: until the table is known no leader is replaced.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

use async_trait::async_trait;
use fulmar_core::id::ClusterId;
use fulmar_crds::partition_table::{PageRole, PartitionTable, PartitionTableSpec};
use fulmar_steward::{Document, DocumentName, Ledger, LedgerError, Revision};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Client, ResourceExt};

use crate::api::{ApiError, call};
use crate::metrics::Metrics;
use crate::names::{ClusterKey, FIELD_MANAGER};

/// So many pages are read at once; a page has up to 64 KiB.
const PAGE_OF_LIST: u32 = 50;

/// The ledger of one Cluster.
pub struct KubernetesLedger {
    key: ClusterKey,
    api: Api<PartitionTable>,
    metrics: Arc<Metrics>,
    /// With whom the table is to be deleted: the Cluster whose volumes are deleted with it, or nobody.
    owner: Option<OwnerReference>,
}

impl KubernetesLedger {
    /// The ledger of the Cluster of this name.
    pub fn new(
        client: Client,
        key: ClusterKey,
        metrics: Arc<Metrics>,
        owner: Option<OwnerReference>,
    ) -> Self {
        let api = Api::namespaced(client, &key.namespace);
        Self { key, api, metrics, owner }
    }
}

fn object_name(key: &ClusterKey, document: DocumentName) -> String {
    match document {
        DocumentName::Root => key.table_root(),
        DocumentName::Page(number) => key.table_page(number),
    }
}

fn document_name(key: &ClusterKey, object: &str) -> Option<DocumentName> {
    let rest = object.strip_prefix(&key.table_root())?;
    if rest.is_empty() {
        return Some(DocumentName::Root);
    }
    rest.strip_prefix('-')?.parse().ok().map(DocumentName::Page)
}

/// What the watch of these objects' metadata shows. It may be behind: enough to ask, not to decide.
pub fn shown(
    key: &ClusterKey,
    tables: &[Arc<PartialObjectMeta<PartitionTable>>],
) -> BTreeMap<DocumentName, Revision> {
    let revision = |table: &PartialObjectMeta<PartitionTable>| {
        Some((document_name(key, &table.name_any())?, Revision(table.resource_version()?)))
    };
    tables.iter().filter_map(|table| revision(table)).collect()
}

fn to_object(
    key: &ClusterKey,
    document: Document,
    expected: Option<Revision>,
    owner: Option<OwnerReference>,
) -> Result<PartitionTable, LedgerError> {
    let role = match document.name {
        DocumentName::Root => PageRole::Root,
        DocumentName::Page(_) => PageRole::Page,
    };
    let controller_epoch = i64::try_from(document.controller_epoch).map_err(|_| {
        LedgerError::Refused(format!("controllerEpoch {} is too large", document.controller_epoch))
    })?;
    let metadata = ObjectMeta {
        name: Some(object_name(key, document.name)),
        namespace: Some(key.namespace.clone()),
        labels: Some(key.labels()),
        owner_references: owner.map(|owner| vec![owner]),
        resource_version: expected.map(|revision| revision.0),
        ..ObjectMeta::default()
    };
    let cluster_id = document.cluster_id.to_string();
    let spec = PartitionTableSpec { role, cluster_id, controller_epoch, lines: document.lines };
    Ok(PartitionTable { metadata, spec })
}

/// `None`: an object that carries our labels, and is no page by its name.
fn from_object(
    key: &ClusterKey,
    object: PartitionTable,
) -> Result<Option<(Document, Revision)>, LedgerError> {
    let Some(name) = document_name(key, &object.name_any()) else { return Ok(None) };
    let revision = Revision(object.resource_version().unwrap_or_default());
    let spoilt = |what: &dyn Display| {
        LedgerError::Refused(format!("PartitionTable {}: {what}", object_name(key, name)))
    };
    let PartitionTableSpec { role, cluster_id, controller_epoch, lines } = object.spec;
    let is_root = matches!(role, PageRole::Root);
    if is_root != matches!(name, DocumentName::Root) {
        return Err(spoilt(&"spec.role does not fit its name"));
    }
    let cluster_id: ClusterId = cluster_id.parse().map_err(|error| spoilt(&error))?;
    let controller_epoch = u64::try_from(controller_epoch).map_err(|error| spoilt(&error))?;
    Ok(Some((Document { name, cluster_id, controller_epoch, lines }, revision)))
}

#[async_trait]
impl Ledger for KubernetesLedger {
    async fn load(&self) -> Result<Vec<(Document, Revision)>, LedgerError> {
        let labels: Vec<String> =
            self.key.labels().iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut documents = Vec::new();
        let mut from = None;
        loop {
            // Without a resourceVersion the answer is as new as the question.
            let mut parameters = ListParams::default().labels(&labels.join(",")).limit(PAGE_OF_LIST);
            parameters.continue_token = from;
            let list = call("load the partition table", self.api.list(&parameters))
                .await
                .map_err(|error| unread(&error))?;
            from = list.metadata.continue_.filter(|token| !token.is_empty());
            for object in list.items {
                documents.extend(from_object(&self.key, object)?);
            }
            if from.is_none() {
                return Ok(documents);
            }
        }
    }

    async fn write(&self, document: Document, expected: Option<Revision>) -> Result<Revision, LedgerError> {
        let is_new = expected.is_none();
        let object = to_object(&self.key, document, expected, self.owner.clone())?;
        let name = object.name_any();
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let outcome = if is_new {
            call("create a page of the partition table", self.api.create(&parameters, &object)).await
        } else {
            call("write a page of the partition table", self.api.replace(&name, &parameters, &object)).await
        };
        match outcome {
            Ok(written) => {
                self.metrics.table_writes.inc();
                Ok(Revision(written.resource_version().unwrap_or_default()))
            }
            Err(error) => Err(unwritten(&self.metrics, &error)),
        }
    }

    async fn delete(&self, name: DocumentName, expected: Revision) -> Result<(), LedgerError> {
        let preconditions = Preconditions { resource_version: Some(expected.0), uid: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let object = object_name(&self.key, name);
        let deleted = self.api.delete(&object, &parameters);
        match call("delete a page of the partition table", deleted).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(unwritten(&self.metrics, &error)),
        }
    }
}

fn unwritten(metrics: &Metrics, error: &ApiError) -> LedgerError {
    match error {
        // A page that is gone is not at the revision that was expected.
        ApiError::Conflict { .. } | ApiError::NotFound { .. } => LedgerError::Conflict,
        ApiError::NotNow { .. } => LedgerError::Unavailable(error.to_string()),
        ApiError::Refused { .. } => LedgerError::Refused(error.to_string()),
        ApiError::OutcomeUnknown { .. } => {
            metrics.table_outcomes_unknown.inc();
            LedgerError::OutcomeUnknown(error.to_string())
        }
    }
}

/// Of a read no outcome is unknown: it was not read.
fn unread(error: &ApiError) -> LedgerError {
    match error {
        ApiError::Refused { .. } => LedgerError::Refused(error.to_string()),
        ApiError::Conflict { .. }
        | ApiError::NotFound { .. }
        | ApiError::NotNow { .. }
        | ApiError::OutcomeUnknown { .. } => LedgerError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
