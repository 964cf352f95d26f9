//! The partition table in files: what the Kubernetes API is to the operator.
//!
//! A document is a file: a line `fulmar-table 1`, then `revision`, `cluster` and `epoch`, then the document's own lines.
//! Each is replaced whole and synced, by compare-and-swap over its revision; the folder's lock keeps other processes out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use fulmar_steward::{Document, DocumentName, Ledger, LedgerError, Revision};

use super::folder::{replace, sync_folder_of};

const FIRST_LINE: &str = "fulmar-table 1";

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct FileLedger {
    folder: PathBuf,
    /// Taken to begin a change and to end it, not while the disk works: documents are written side by side.
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Revisions of what is there.
    revisions: BTreeMap<DocumentName, u64>,
    /// The highest that was given or found: none is given twice, also after a removal.
    last: u64,
    /// What is being changed. Whoever wants to change it meanwhile has not seen what it becomes.
    changing: BTreeSet<DocumentName>,
}

impl FileLedger {
    /// A ledger in a folder that nobody else writes to.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, state: Arc::default() }
    }

    fn path(&self, name: DocumentName) -> PathBuf {
        self.folder.join(match name {
            DocumentName::Root => "root".to_owned(),
            DocumentName::Page(number) => format!("page-{number}"),
        })
    }

    /// File calls block; the table is small, but a disk can be slow.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Self) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let ledger = self.clone();
        let done = tokio::task::spawn_blocking(move || work(ledger)).await;
        done.unwrap_or_else(|error| Err(LedgerError::OutcomeUnknown(error.to_string())))
    }

    fn load_all(&self) -> Result<Vec<(Document, Revision)>, LedgerError> {
        let mut state = self.state();
        let unavailable =
            |error: io::Error| LedgerError::Unavailable(format!("{}: {error}", self.folder.display()));
        let mut documents = Vec::new();
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).map_err(unavailable)? {
            let path = entry.map_err(unavailable)?.path();
            let Some(name) = name_of(&path) else { continue };
            let text = fs::read_to_string(&path).map_err(unavailable)?;
            let (document, revision) = parse(name, &text).ok_or_else(|| {
                LedgerError::Refused(format!(
                    "{} is damaged: restore it, or take it away to have the table rebuilt",
                    path.display()
                ))
            })?;
            found.insert(name, revision);
            documents.push((document, Revision(revision.to_string())));
        }
        state.last = found.values().copied().fold(state.last, u64::max);
        state.revisions = found;
        Ok(documents)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the document for a change, if it is as expected; gives the change its number.
    fn begin(&self, name: DocumentName, expected: Option<&Revision>) -> Result<u64, LedgerError> {
        let mut state = self.state();
        let present = state.revisions.get(&name).map(u64::to_string);
        let is_expected = present.as_deref() == expected.map(|revision| revision.0.as_str());
        if !is_expected || !state.changing.insert(name) {
            return Err(LedgerError::Conflict);
        }
        state.last += 1;
        Ok(state.last)
    }

    fn store(&self, document: &Document, expected: Option<&Revision>) -> Result<Revision, LedgerError> {
        let name = document.name;
        let next = self.begin(name, expected)?;
        let path = self.path(name);
        let replaced = replace(&path, print(document, next).as_bytes());
        let mut state = self.state();
        state.changing.remove(&name);
        replaced.map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem => {
                LedgerError::Refused(format!("{}: {error}", path.display()))
            }
            // It may have been renamed, and the sync have failed.
            _ => LedgerError::OutcomeUnknown(format!("{}: {error}", path.display())),
        })?;
        state.revisions.insert(name, next);
        Ok(Revision(next.to_string()))
    }

    fn remove(&self, name: DocumentName, expected: &Revision) -> Result<(), LedgerError> {
        self.begin(name, Some(expected))?;
        let path = self.path(name);
        let removed = fs::remove_file(&path).and_then(|()| sync_folder_of(&path));
        let mut state = self.state();
        state.changing.remove(&name);
        removed.map_err(|error| LedgerError::OutcomeUnknown(format!("{}: {error}", path.display())))?;
        state.revisions.remove(&name);
        Ok(())
    }
}

#[async_trait]
impl Ledger for FileLedger {
    async fn load(&self) -> Result<Vec<(Document, Revision)>, LedgerError> {
        self.blocking(|ledger| ledger.load_all()).await
    }

    async fn write(&self, document: Document, expected: Option<Revision>) -> Result<Revision, LedgerError> {
        self.blocking(move |ledger| ledger.store(&document, expected.as_ref())).await
    }

    async fn delete(&self, name: DocumentName, expected: Revision) -> Result<(), LedgerError> {
        self.blocking(move |ledger| ledger.remove(name, &expected)).await
    }
}

fn name_of(path: &Path) -> Option<DocumentName> {
    match path.file_name()?.to_str()? {
        "root" => Some(DocumentName::Root),
        name => name.strip_prefix("page-")?.parse().ok().map(DocumentName::Page),
    }
}

fn print(document: &Document, revision: u64) -> String {
    let (cluster, epoch) = (document.cluster_id, document.controller_epoch);
    let mut text = format!("{FIRST_LINE}\nrevision {revision}\ncluster {cluster}\nepoch {epoch}\n");
    for line in &document.lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

fn parse(name: DocumentName, text: &str) -> Option<(Document, u64)> {
    // A file that was cut short does not end with a line's end.
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let revision = lines.next()?.strip_prefix("revision ")?.parse().ok()?;
    let cluster_id = lines.next()?.strip_prefix("cluster ")?.parse().ok()?;
    let controller_epoch = lines.next()?.strip_prefix("epoch ")?.parse().ok()?;
    let lines = lines.map(str::to_owned).collect();
    Some((Document { name, cluster_id, controller_epoch, lines }, revision))
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
