//! The API server, as far as the table goes: compare-and-swap, writes of unknown outcome, and what people do to it: they
//! delete the table, or bring an older copy back.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::control::table::{Page, Root};
use fulmar_core::control::{Document, DocumentName, Revision};

/// Earlier states that can be brought back.
const PAST_MAX: usize = 200;

type Documents = BTreeMap<DocumentName, (Document, u64)>;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    documents: Documents,
    past: Vec<Documents>,
    /// All that a page ever said: nothing else may be pushed.
    stored: BTreeSet<(u32, Vec<String>)>,
    revision: u64,
    pub(crate) away_until: u64,
    /// Something of it was lost, or brought back from an older state.
    pub(crate) went_back: bool,
}

impl Ledger {
    /// Stores it, if it still is at the expected revision.
    pub(crate) fn write(&mut self, document: &Document, expected: Option<&Revision>) -> Option<Revision> {
        let at = self.documents.get(&document.name).map(|(_, at)| Revision(at.to_string()));
        if at.as_ref() != expected {
            return None;
        }
        self.past.push(self.documents.clone());
        if self.past.len() > PAST_MAX {
            self.past.remove(0);
        }
        if let DocumentName::Page(number) = document.name {
            self.stored.insert((number, document.lines.clone()));
        }
        self.revision += 1;
        self.documents.insert(document.name, (document.clone(), self.revision));
        Some(Revision(self.revision.to_string()))
    }

    /// A consistent read of everything.
    pub(crate) fn load(&self) -> Vec<(Document, Revision)> {
        let all = self.documents.values();
        all.map(|(document, at)| (document.clone(), Revision(at.to_string()))).collect()
    }

    /// What a watch shows.
    pub(crate) fn revisions(&self) -> BTreeMap<DocumentName, Revision> {
        self.documents.iter().map(|(name, (_, at))| (*name, Revision(at.to_string()))).collect()
    }

    pub(crate) fn was_stored(&self, page: u32, lines: &[String]) -> bool {
        self.stored.contains(&(page, lines.to_vec()))
    }

    pub(crate) fn root(&self) -> Option<Root> {
        let (document, _) = self.documents.get(&DocumentName::Root)?;
        Some(Root::parse(&document.lines).expect("core wrote it"))
    }

    pub(crate) fn names(&self) -> Vec<DocumentName> {
        self.documents.keys().copied().collect()
    }

    /// The pages, listed or not.
    pub(crate) fn pages(&self) -> Vec<Page> {
        let pages = self.documents.values().filter_map(|(document, _)| page(document));
        pages.collect()
    }

    pub(crate) fn delete(&mut self, name: DocumentName) {
        self.went_back = true;
        self.documents.remove(&name);
    }

    pub(crate) fn clear(&mut self) {
        self.went_back = true;
        self.documents.clear();
    }

    /// How many earlier states there are.
    pub(crate) fn past(&self) -> usize {
        self.past.len()
    }

    /// An earlier state comes back, whole or one document of it. Revisions go on: a restored etcd has to raise them, else
    /// nothing that watches it would work.
    pub(crate) fn restore(&mut self, at: usize, only: Option<DocumentName>) {
        let Some(mut then) = self.past.get(at).cloned() else { return };
        self.went_back = true;
        for (_, revision) in then.values_mut() {
            self.revision += 1;
            *revision = self.revision;
        }
        match only {
            None => self.documents = then,
            Some(name) => match then.remove(&name) {
                Some(document) => drop(self.documents.insert(name, document)),
                None => drop(self.documents.remove(&name)),
            },
        }
    }
}

pub(crate) fn page(document: &Document) -> Option<Page> {
    match document.name {
        DocumentName::Root => None,
        DocumentName::Page(number) => Some(Page::parse(number, &document.lines).expect("core wrote it")),
    }
}
