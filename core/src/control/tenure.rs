//! Reading the table, finding out whose Cluster this is, and taking it over.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::control::controller::Controller;
use crate::control::effect::{Document, DocumentName, Effect, Revision};
use crate::control::input::Hello;
use crate::control::plan::Plan;
use crate::control::shelf::Shelf;
use crate::control::table::{InvalidTable, Page, Root};
use crate::control::view::{EventKind, Waiting};
use crate::id::{ClusterId, Ordinal};

/// A table that could not be read is asked for again after this.
const LOAD_RETRY: Duration = Duration::from_secs(1);
/// With an identity found on a volume but some brokers not heard, so long is waited for another identity to show.
const ADOPT_PATIENCE: Duration = Duration::from_secs(3);

/// How far the controller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// The table is to be read, or is being read.
    Load {
        /// Not before.
        at: Duration,
        /// Under way.
        asked: bool,
    },
    /// There is no table, or a root that names nobody and nothing: brokers are asked whose volumes they have.
    Identify {
        /// When the first volume with an identity was heard.
        found_at: Option<Duration>,
        /// That root. Perhaps nobody was ever told of it: the write of a first root may arrive after another one has won, and has gone.
        root: Option<Box<Root>>,
    },
    /// The root with the new tenure is on its way.
    TakingOver,
    /// Pages get the new tenure, so that an operator of an older one cannot write any more.
    Stamping,
    /// Decisions are made.
    Ruling,
    /// A person must look.
    Halted(Waiting),
}

impl Controller {
    /// Reads the table again: somebody else wrote it, or an outcome is not known.
    pub(super) fn reload(&mut self) -> bool {
        if !matches!(self.phase, Phase::Halted(_) | Phase::Load { .. }) {
            self.phase = Phase::Load { at: self.now, asked: false };
        }
        true
    }

    pub(super) fn note_load_failed(&mut self, why: &str) -> bool {
        self.shelf.trouble = Some(format!("the partition table cannot be read: {why}"));
        if let Phase::Load { .. } = self.phase {
            self.phase = Phase::Load { at: self.now + LOAD_RETRY, asked: false };
        }
        false
    }

    pub(super) fn note_loaded(
        &mut self,
        documents: Vec<(Document, Revision)>,
        clock_us: u64,
        salt: u16,
    ) -> bool {
        if !matches!(self.phase, Phase::Load { .. }) {
            return false;
        }
        self.shelf.trouble = None;
        (self.clock_us, self.salt) = (clock_us, salt);
        let stored = documents.iter().find(|(document, _)| document.name == DocumentName::Root);
        let stored_epoch = stored.map(|(document, _)| document.controller_epoch);
        if self.tenure != 0 && stored_epoch > Some(self.tenure) {
            let message = format!(
                "another operator has taken over: the table is of tenure {}, this one is {}",
                stored_epoch.unwrap_or_default(),
                self.tenure
            );
            self.halt("Deposed", message);
        } else {
            let own =
                self.tenure != 0 && stored_epoch == Some(self.tenure) && self.tenure_reported <= self.tenure;
            if !own || !self.resumes(&documents) {
                self.begin(documents);
            }
        }
        true
    }

    /// Our own tenure stands in the ledger: settle the writes whose outcome was not known. False if a document is neither
    /// what we wrote nor what was there before: then the tenure begins anew.
    fn resumes(&mut self, documents: &[(Document, Revision)]) -> bool {
        let found = |name: DocumentName| documents.iter().find(|(document, _)| document.name == name);
        let mut verdicts = Vec::new();
        for (name, shelved) in &self.shelf.documents {
            let loaded = found(*name);
            let revision = loaded.map(|(_, revision)| revision.clone());
            let is_ours = |lines: &[String]| loaded.is_some_and(|(document, _)| document.lines == lines);
            match &shelved.writing {
                _ if revision == shelved.revision => {
                    verdicts.push((*name, revision, false, shelved.writing.is_some()));
                }
                Some(lines) if is_ours(lines) => verdicts.push((*name, revision, true, true)),
                _ => return false,
            }
        }
        for (name, revision, stored, writing) in verdicts {
            if writing {
                self.resolve_write(name, revision, stored);
            }
        }
        self.phase = match self.shelf.root.as_ref().map(|root| root.controller_epoch) {
            Some(epoch) if epoch == self.tenure => Phase::Stamping,
            _ => Phase::TakingOver,
        };
        true
    }

    /// Starts from what is stored, as if nothing had been known before.
    fn begin(&mut self, documents: Vec<(Document, Revision)>) {
        self.plan = Plan::default();
        self.shelf = Shelf::default();
        self.partitions.clear();
        self.homing.forget();
        self.moves.forget();
        self.heard_topics.clear();
        let (mut root, mut broken) = (None, false);
        let mut pages = Vec::new();
        for (document, revision) in documents {
            self.shelf.documents.entry(document.name).or_default().revision = Some(revision);
            let parsed = match document.name {
                DocumentName::Root => Root::parse(&document.lines).map(|parsed| root = Some(parsed)),
                DocumentName::Page(number) => {
                    self.plan.numbers.insert(number);
                    Page::parse(number, &document.lines).map(|page| pages.push(page))
                }
            };
            match parsed {
                Ok(()) => {}
                Err(error @ InvalidTable::Format(_)) => {
                    return self.halt("TableOfAnotherVersion", format!("{}: {error}", document.name));
                }
                Err(error) => {
                    broken = true;
                    let message = format!("{} is taken as lost: {error}", document.name);
                    self.event(EventKind::Warning, "TableDamaged", None, message);
                }
            }
        }
        self.forget_brokers();
        match root {
            None => {
                self.loaded_epoch = 0;
                self.phase = Phase::Identify { found_at: None, root: None };
            }
            Some(mut root) => {
                self.loaded_epoch = root.controller_epoch;
                root.rebuilding |= broken || root.controller_epoch < self.tenure.max(self.tenure_reported);
                // Of our own tenure, and not as we left it: it went back to an earlier moment.
                root.rebuilding |= self.tenure != 0 && root.controller_epoch == self.tenure;
                let lacking = |page: &u32| !pages.iter().any(|loaded: &Page| loaded.number == *page);
                root.rebuilding |= root.pages.iter().any(lacking);
                let listed: BTreeSet<u32> = root.pages.iter().copied().collect();
                for page in pages.into_iter().filter(|page| listed.contains(&page.number)) {
                    self.plan.take(page);
                }
                self.plan.numbers.extend(listed);
                if root.pages.is_empty() && root.brokers.is_empty() {
                    self.phase = Phase::Identify { found_at: None, root: Some(Box::new(root)) };
                } else {
                    self.take_over(root);
                }
            }
        }
    }

    fn forget_brokers(&mut self) {
        for broker in self.brokers.values_mut() {
            broker.detach();
            broker.attended = None;
            broker.refused = None;
        }
    }

    /// Raises the tenure; the root's write is the election.
    fn take_over(&mut self, mut root: Root) {
        // Above the wall clock too: also above the tenures that a restored backup has forgotten. And by a random number more:
        // compare-and-swap keeps apart who finds the same table, but not who finds it restored after the other has taken over.
        let highest = root.controller_epoch.max(self.tenure_reported).max(self.tenure);
        let next = highest.checked_add(1).map(|next| next.max(self.clock_us));
        let next = next.and_then(|next| next.checked_add(u64::from(self.salt)));
        self.tenure = next.expect("2^64 tenures");
        root.controller_epoch = self.tenure;
        for page in root.pages.clone() {
            self.shelf.soil(page, true);
        }
        self.plan.root = Some(root);
        self.shelf.soil_root();
        self.phase = Phase::TakingOver;
    }

    pub(super) fn halt(&mut self, reason: &'static str, message: String) {
        self.event(EventKind::Warning, reason, None, message.clone());
        self.phase = Phase::Halted(Waiting { reason, message, halted: true });
        let attended: Vec<Ordinal> = self
            .brokers
            .iter()
            .filter(|(_, broker)| broker.attended.is_some())
            .map(|(ordinal, _)| *ordinal)
            .collect();
        for ordinal in attended {
            self.leave(ordinal);
        }
    }

    /// Moves on as far as what is known allows.
    pub(super) fn advance_tenure(&mut self) {
        match self.phase.clone() {
            // A write that is still under way would change what the load shows.
            Phase::Load { at, asked: false } if at <= self.now && self.shelf.is_still() => {
                self.phase = Phase::Load { at, asked: true };
                self.out.push(Effect::Load);
            }
            Phase::Identify { found_at, root } => self.identify(found_at, root),
            Phase::TakingOver
                if self.shelf.root.as_ref().is_some_and(|root| root.controller_epoch == self.tenure) =>
            {
                self.phase = Phase::Stamping;
                self.advance_tenure();
            }
            Phase::Stamping if self.shelf.is_stamped() => {
                if self.ruling.0 != self.tenure {
                    self.ruling = (self.tenure, self.now);
                    let message = format!("tenure {} has begun", self.tenure);
                    self.event(EventKind::Normal, "TookOver", None, message);
                }
                self.phase = Phase::Ruling;
            }
            Phase::Load { .. } | Phase::TakingOver | Phase::Stamping | Phase::Ruling | Phase::Halted(_) => {}
        }
    }

    /// Whose volumes are asked before an identity is minted: who is wished, and who is to leave and was seen. One that was never
    /// seen may have no pod, nor ever get one.
    pub(super) fn founders(&self) -> Vec<u16> {
        let (wished, present) = self.desired.as_ref().map_or((0, 0), |one| (one.brokers, one.present()));
        let leaving = (wished..present).filter(|one| self.sightings.contains_key(&Ordinal(*one)));
        (0..wished).chain(leaving).collect()
    }

    /// No table: the identity is the one that volumes hold, or a new one if every broker's volume is empty.
    fn identify(&mut self, found_at: Option<Duration>, root: Option<Box<Root>>) {
        let hellos: Vec<&Hello> = self.brokers.values().filter_map(|broker| broker.hello.as_ref()).collect();
        let identities: BTreeSet<ClusterId> = hellos.iter().filter_map(|hello| hello.cluster_id).collect();
        let heard =
            |ordinal: u16| self.brokers.get(&Ordinal(ordinal)).is_some_and(|broker| broker.hello.is_some());
        let expected = self.founders();
        let all_heard = !expected.is_empty() && expected.into_iter().all(heard);
        if let Some(root) = root {
            return self.weigh(root, found_at, all_heard);
        }
        let mut identities = identities.into_iter();
        match (identities.next(), identities.next()) {
            (Some(_), Some(_)) => {
                let of =
                    |hello: &&Hello| Some(format!("broker {}: {}", hello.replica.ordinal, hello.cluster_id?));
                let volumes: Vec<String> = hellos.iter().filter_map(of).collect();
                let message = format!("the volumes belong to different Clusters: {}", volumes.join(", "));
                self.halt("TwoClusterIds", message);
            }
            (Some(identity), None) => {
                let found_at = found_at.unwrap_or(self.now);
                self.phase = Phase::Identify { found_at: Some(found_at), root: None };
                if all_heard || self.now >= found_at + ADOPT_PATIENCE {
                    self.adopt(identity);
                }
            }
            (None, _) if all_heard => {
                // Replicas without an identity: something is wrong with a volume; nothing is minted over it.
                if let Some(odd) = hellos.iter().find(|hello| hello.has_replicas) {
                    let message = format!(
                        "broker {}'s volume holds partitions, but no Cluster's id",
                        odd.replica.ordinal
                    );
                    return self.halt("VolumeWithoutClusterId", message);
                }
                if let Some(id) = self.take_id() {
                    self.event(
                        EventKind::Normal,
                        "ClusterCreated",
                        None,
                        format!("it has the id {}", ClusterId(id)),
                    );
                    self.found(ClusterId(id), false);
                }
            }
            (None, _) => {}
        }
    }

    /// A root that names nobody and nothing is right, unless the volumes of all brokers, two at least, agree on another identity: of a
    /// single foreign volume it is the volume that is wrong.
    fn weigh(&mut self, root: Box<Root>, found_at: Option<Duration>, all_heard: bool) {
        let hellos = || self.brokers.values().filter_map(|broker| broker.hello.as_ref());
        let mut identities = hellos().map(|hello| hello.cluster_id);
        let first = identities.next().flatten();
        let agreed =
            first.filter(|first| hellos().count() > 1 && identities.all(|other| other == Some(*first)));
        let is_known = hellos().any(|hello| hello.cluster_id == Some(root.cluster_id));
        let found_at = found_at.or_else(|| hellos().next().map(|_| self.now));
        let waited = found_at.is_some_and(|found_at| self.now >= found_at + ADOPT_PATIENCE);
        match agreed.filter(|agreed| all_heard && *agreed != root.cluster_id) {
            Some(identity) => self.adopt(identity),
            None if all_heard || is_known || waited => {
                self.forget_brokers();
                self.take_over(*root);
            }
            None => self.phase = Phase::Identify { found_at, root: Some(root) },
        }
    }

    fn adopt(&mut self, identity: ClusterId) {
        let message = format!("the table is lost; the volumes are of Cluster {identity}");
        self.event(EventKind::Warning, "TableLost", None, message);
        self.found(identity, true);
    }

    fn found(&mut self, cluster_id: ClusterId, rebuilding: bool) {
        let root =
            Root { cluster_id, controller_epoch: 0, rebuilding, pages: Vec::new(), brokers: Vec::new() };
        self.forget_brokers();
        self.take_over(root);
    }
}
