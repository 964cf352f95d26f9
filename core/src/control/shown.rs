//! What a watch of the ledger shows, beside what the controller knows to be stored there.
//!
//! Owns the doubt: a document that nobody writes was perhaps changed, deleted or brought back by somebody else. Never
//! what it says now: a watch may be late, so the ledger is read, and only reading decides.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::control::controller::Controller;
use crate::control::effect::{DocumentName, Revision};
use crate::control::tenure::Phase;

/// A watch shows a write a moment after it is answered. What it shows otherwise for so long is read: soon enough for a person
/// who brought something back, and seldom for a watch that is only slow.
const PATIENCE: Duration = Duration::from_secs(2);

/// A document that is shown at another revision than the one that is known.
#[derive(Debug)]
struct Doubt {
    shown: Option<Revision>,
    known: Option<Revision>,
    since: Duration,
    /// The ledger was read for it: it costs no second read.
    read: bool,
}

/// All that was shown.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// `None`: there is no watch.
    revisions: Option<BTreeMap<DocumentName, Revision>>,
    /// Of documents that are known, so no more than they.
    doubts: BTreeMap<DocumentName, Doubt>,
}

impl Controller {
    pub(super) fn note_shown(&mut self, revisions: BTreeMap<DocumentName, Revision>) -> bool {
        self.shown.revisions = Some(revisions);
        true
    }

    /// Reads the ledger again where what is shown is not what was written.
    pub(super) fn doubt_ledger(&mut self) {
        if !matches!(self.phase, Phase::Stamping | Phase::Ruling) {
            return;
        }
        let Some(revisions) = &self.shown.revisions else { return };
        let (now, mut read) = (self.now, false);
        let doubts = &mut self.shown.doubts;
        doubts.retain(|name, _| self.shelf.documents.contains_key(name));
        for (name, document) in &self.shelf.documents {
            let (shown, known) = (revisions.get(name), document.revision.as_ref());
            // One that is being written meets a conflict by itself.
            if shown == known || document.writing.is_some() {
                doubts.remove(name);
                continue;
            }
            match doubts.get_mut(name) {
                Some(doubt) if doubt.shown.as_ref() == shown && doubt.known.as_ref() == known => {
                    let is_due = !doubt.read && now.saturating_sub(doubt.since) >= PATIENCE;
                    doubt.read |= is_due;
                    read |= is_due;
                }
                _ => {
                    let (shown, known) = (shown.cloned(), known.cloned());
                    doubts.insert(*name, Doubt { shown, known, since: now, read: false });
                }
            }
        }
        if read {
            self.reload();
        }
    }
}
