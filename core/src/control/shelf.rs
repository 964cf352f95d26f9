//! Documents on their way to the ledger: grouped, elections first, one write of each at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::control::WRITES_MAX;
use crate::control::controller::Controller;
use crate::control::effect::{Document, DocumentName, Effect, Revision};
use crate::control::input::WriteFailure;
use crate::control::table::{PAGE_BYTES_MAX, Root};
use crate::control::tenure::Phase;
use crate::id::TopicId;
use crate::term::Epoch;

/// A document is written at once, and then at most so often: what is decided meanwhile goes together.
const PACE: Duration = Duration::from_millis(100);
/// A write that failed is tried again after this, doubled up to [`RETRY_MAX`].
const RETRY: Duration = Duration::from_millis(100);
/// An API server that is away is asked this often at least, so that its return is noticed.
const RETRY_MAX: Duration = Duration::from_secs(5);
/// Bytes written in one second, elections aside: etcd keeps every revision for minutes, and its quota is the whole
/// Kubernetes'.
const BYTES_A_SECOND: usize = 1 << 20;

/// One document.
#[derive(Debug, Default)]
pub(super) struct Shelved {
    /// Its state in the ledger; nothing: it does not exist.
    pub(super) revision: Option<Revision>,
    /// What is stored, by this tenure, with the count of its writes; pushed is nothing else.
    pub(super) stored: Option<(u64, Arc<[String]>)>,
    /// What is on its way.
    pub(super) writing: Option<Arc<[String]>>,
    /// Topics' lines on it: of which decision, and by which count of writes they were first stored.
    pub(super) topics: BTreeMap<TopicId, (Epoch, u64)>,
    writing_topics: Vec<(TopicId, Epoch)>,
    /// Whether what was on its way arrived is to be read.
    unknown: bool,
    /// The plan has moved on.
    dirty: bool,
    urgent: bool,
    not_before: Duration,
    failures: u32,
    writes: u64,
}

impl Shelved {
    /// The plan has moved on from what is stored or on its way.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }
}

/// All documents.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) documents: BTreeMap<DocumentName, Shelved>,
    /// The root as it is stored.
    pub(super) root: Option<Root>,
    /// The root on its way.
    root_writing: Option<Root>,
    /// Why the ledger does not take anything; for people.
    pub(super) trouble: Option<String>,
    budget: (Duration, usize),
}

impl Shelf {
    /// A page is to be written.
    pub(super) fn soil(&mut self, page: u32, urgent: bool) {
        self.soil_document(DocumentName::Page(page), urgent);
    }

    /// The root is to be written.
    pub(super) fn soil_root(&mut self) {
        self.soil_document(DocumentName::Root, true);
    }

    fn soil_document(&mut self, name: DocumentName, urgent: bool) {
        let document = self.documents.entry(name).or_default();
        document.dirty = true;
        document.urgent |= urgent;
    }

    /// Everything listed is stored by this tenure.
    pub(super) fn is_stamped(&self) -> bool {
        self.root.as_ref().is_some_and(|root| {
            let stored = |page: &u32| {
                self.documents.get(&DocumentName::Page(*page)).is_some_and(|d| d.stored.is_some())
            };
            root.pages.iter().all(stored)
        })
    }

    /// No write is under way whose outcome will still be told.
    pub(super) fn is_still(&self) -> bool {
        self.documents.values().all(|document| document.writing.is_none() || document.unknown)
    }

    fn takes(&mut self, now: Duration, bytes: usize, urgent: bool) -> bool {
        if now.saturating_sub(self.budget.0) >= Duration::from_secs(1) {
            self.budget = (now, 0);
        }
        let fits = urgent || self.budget.1 == 0 || self.budget.1 + bytes <= BYTES_A_SECOND;
        if fits {
            self.budget.1 += bytes;
        }
        fits
    }
}

impl Controller {
    /// Starts the writes that may start now.
    pub(super) fn write(&mut self) {
        if !matches!(self.phase, Phase::TakingOver | Phase::Stamping | Phase::Ruling) {
            return;
        }
        let under_way = self.shelf.documents.values().filter(|document| document.writing.is_some()).count();
        let now = self.now;
        let mut ready: Vec<(bool, DocumentName)> = self
            .shelf
            .documents
            .iter()
            .filter(|(_, document)| {
                document.dirty && document.writing.is_none() && document.not_before <= now
            })
            .filter(|(name, _)| self.may_write(**name))
            .map(|(name, document)| (!document.urgent, *name))
            .collect();
        ready.sort_unstable();
        for (_, name) in ready.into_iter().take(WRITES_MAX - under_way.min(WRITES_MAX)) {
            self.start_write(name);
        }
    }

    /// The root goes first; a page exists once the stored root lists it.
    fn may_write(&self, name: DocumentName) -> bool {
        match name {
            DocumentName::Root => true,
            DocumentName::Page(number) => {
                !matches!(self.phase, Phase::TakingOver)
                    && self.shelf.root.as_ref().is_some_and(|root| root.pages.contains(&number))
            }
        }
    }

    fn start_write(&mut self, name: DocumentName) {
        let Some(root) = self.plan.root.clone() else { return };
        let (lines, topics) = match name {
            DocumentName::Root => (root.lines(), Vec::new()),
            DocumentName::Page(number) => {
                let page = self.plan.page(number);
                let topics = page.topics.iter().map(|topic| (topic.id, topic.changed)).collect();
                (page.lines(), topics)
            }
        };
        let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
        if bytes > PAGE_BYTES_MAX {
            self.shelf.trouble = Some(format!("{name} would have {bytes} bytes, more than {PAGE_BYTES_MAX}"));
            return;
        }
        let urgent = self.shelf.documents.get(&name).is_some_and(|document| document.urgent);
        if !self.shelf.takes(self.now, bytes, urgent) {
            return;
        }
        let document = self.shelf.documents.entry(name).or_default();
        document.dirty = false;
        document.urgent = false;
        document.not_before = self.now + PACE;
        let shared: Arc<[String]> = lines.clone().into();
        document.writing = Some(shared);
        document.writing_topics = topics;
        let expected = document.revision.clone();
        let (cluster_id, controller_epoch) = (root.cluster_id, root.controller_epoch);
        if name == DocumentName::Root {
            self.shelf.root_writing = Some(root);
        }
        let document = Document { name, cluster_id, controller_epoch, lines };
        self.out.push(Effect::Write { document, expected });
    }

    /// A write is stored.
    pub(super) fn note_written(&mut self, name: DocumentName, revision: Revision) -> bool {
        let Some(document) = self.shelf.documents.get_mut(&name) else { return false };
        let Some(lines) = document.writing.take() else { return false };
        document.revision = Some(revision);
        document.unknown = false;
        document.writes += 1;
        document.failures = 0;
        let before = std::mem::take(&mut document.topics);
        let writes = document.writes;
        let since = |(id, changed): (TopicId, Epoch)| match before.get(&id) {
            Some((same, since)) if *same == changed => (id, (changed, *since)),
            _ => (id, (changed, writes)),
        };
        document.topics = document.writing_topics.drain(..).map(since).collect();
        document.stored = Some((document.writes, lines));
        self.shelf.trouble = None;
        if name == DocumentName::Root
            && let Some(root) = self.shelf.root_writing.take()
        {
            self.shelf.root = Some(root);
        }
        // A page that is stored while decisions are made only has to be sent; with many of them a look for each would take longer
        // than all the writes.
        self.push_is_due = true;
        name == DocumentName::Root || self.phase != Phase::Ruling
    }

    /// A write is not stored, or perhaps.
    pub(super) fn note_write_failed(&mut self, name: DocumentName, failure: WriteFailure) -> bool {
        match failure {
            // Who else wrote, or whether we did, is seen by reading.
            WriteFailure::Conflict | WriteFailure::OutcomeUnknown => {
                if let Some(document) = self.shelf.documents.get_mut(&name) {
                    document.unknown = document.writing.is_some();
                }
                self.reload()
            }
            WriteFailure::Unavailable(why) => self.retry_write(name, RETRY, &why),
            WriteFailure::Refused(why) => self.retry_write(name, RETRY_MAX, &why),
        }
    }

    fn retry_write(&mut self, name: DocumentName, first: Duration, why: &str) -> bool {
        let now = self.now;
        if let Some(document) = self.shelf.documents.get_mut(&name) {
            document.writing = None;
            document.dirty = true;
            document.urgent = true;
            let wait = first.saturating_mul(1 << document.failures.min(10)).min(RETRY_MAX);
            document.failures = document.failures.saturating_add(1);
            document.not_before = now + wait;
        }
        self.shelf.trouble = Some(format!("{name} cannot be written: {why}"));
        true
    }

    /// What is stored turned out to be what was on its way (`stored`), or what was there before.
    pub(super) fn resolve_write(&mut self, name: DocumentName, revision: Option<Revision>, stored: bool) {
        match (stored, revision) {
            (true, Some(revision)) => drop(self.note_written(name, revision)),
            (_, revision) => {
                if let Some(document) = self.shelf.documents.get_mut(&name) {
                    document.revision = revision;
                    document.unknown = false;
                    document.writing = None;
                    document.dirty = true;
                    document.urgent = true;
                }
            }
        }
    }
}
