//! The volumes of brokers that were removed: which of them are known to hold nothing, and what is to be done about each. No client.
//!
//! That a broker is not there, or that a table does not name it, is never a reason to delete its volume: the table may be an older copy,
//! and the pods may have been taken away by somebody else. The reason is a mark on the claim, which is made only while its broker runs,
//! is not wanted any more, is given nothing by a whole table, and says itself that it holds nothing; it goes as soon as the broker is
//! wanted again, before anything can be placed there. A claim that never had a volume holds nothing either.
//!
//! Owns the mark, its reading, and the condition `VolumesReleased`. Never: what becomes of volumes when the Cluster is deleted.

use fulmar_core::control::{BrokerState, BrokerView, View};
use fulmar_crds::cluster::WhenScaled;
use kube::ResourceExt as _;

use crate::cluster::refusal::Refusal;
use crate::cluster::scale::Scale;
use crate::cluster::validate::Wanted;
use crate::conditions::{Claim as Condition, Truth};
use crate::names::ANNOTATION_EMPTY;
use crate::pods::{BrokerPod, Claim};

const NAME: &str = "VolumesReleased";

/// What is known when the claims are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// What is wanted.
    pub wanted: &'a Wanted,
    /// How many brokers there are to be now.
    pub scale: Scale,
    /// How many the `StatefulSet` was told to run; `None`: there is none.
    pub set: Option<u16>,
    /// The brokers' pods.
    pub pods: &'a [BrokerPod],
    /// Every ordinal that has a pod, whosever it is.
    pub standing: &'a [u16],
    /// What the controller says under this very wish, of a whole table; `None`: nothing yet.
    pub view: Option<&'a View>,
}

/// A change of a claim's mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Its broker says that it holds nothing, and is to go.
    Set,
    /// Its broker is wanted again, or holds something.
    Remove,
}

/// What becomes of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its broker is wanted, or runs until it holds nothing.
    InUse,
    /// It is kept, as is wanted.
    Kept,
    /// It is to be deleted, and nobody knows that it holds nothing.
    Unproven,
    /// It is to be deleted once the table was read and says nothing against it.
    Waits,
    /// It is to be deleted now.
    Goes,
    /// It is being deleted.
    Going,
}

impl Look<'_> {
    /// What is to be changed about the mark of a claim.
    pub fn mark(&self, claim: &Claim) -> Option<Mark> {
        let ordinal = self.wanted.key.ordinal_of_claim(&claim.name_any())?;
        if claim.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let is_wanted = ordinal < self.wanted.settings.replicas;
        if is_wanted || self.view.is_some_and(|view| holds(view, ordinal)) {
            return claim.annotations().contains_key(ANNOTATION_EMPTY).then_some(Mark::Remove);
        }
        (!is_marked(claim) && self.is_proven(ordinal, claim)).then_some(Mark::Set)
    }

    /// Whether the broker that runs on this very claim is given nothing, and says that it holds nothing.
    fn is_proven(&self, ordinal: u16, claim: &Claim) -> bool {
        let is_empty = |one: &BrokerView| one.ordinal.0 == ordinal && one.is_empty && one.replicas == 0;
        let runs_on_it = |pod: &BrokerPod| pod.ordinal == ordinal && pod.volume == claim.uid();
        self.view.is_some_and(|view| view.brokers.iter().any(is_empty))
            && claim.uid().is_some()
            && self.pods.iter().any(runs_on_it)
    }

    /// What becomes of a claim.
    pub fn fate(&self, claim: &Claim) -> Fate {
        let Some(ordinal) = self.wanted.key.ordinal_of_claim(&claim.name_any()) else { return Fate::InUse };
        let brokers = self.scale.brokers().max(self.wanted.settings.replicas);
        // Without a set it is not known whose pods come next.
        let stands = self.set.is_none_or(|set| ordinal < set) || self.standing.contains(&ordinal);
        if ordinal < brokers || stands {
            return Fate::InUse;
        }
        if claim.metadata.deletion_timestamp.is_some() {
            return Fate::Going;
        }
        match self.wanted.settings.storage.when_scaled {
            WhenScaled::Retain => Fate::Kept,
            WhenScaled::Delete if !is_marked(claim) && has_volume(claim) => Fate::Unproven,
            WhenScaled::Delete => match self.view {
                Some(view) if view.holding <= ordinal => Fate::Goes,
                Some(_) | None => Fate::Waits,
            },
        }
    }
}

/// Whether the table gives a broker something, or it says that it holds something.
fn holds(view: &View, ordinal: u16) -> bool {
    let says_so = |one: &BrokerView| one.state == BrokerState::Serving && !one.is_empty;
    view.brokers.iter().any(|one| one.ordinal.0 == ordinal && (one.replicas > 0 || says_so(one)))
}

/// The mark names the claim that it was made for: one that was copied to another claim, or restored with it, says nothing.
fn is_marked(claim: &Claim) -> bool {
    claim.annotations().get(ANNOTATION_EMPTY).is_some_and(|mark| Some(mark) == claim.metadata.uid.as_ref())
}

/// Whether there ever was a volume, or is to be one of something that was: a claim that waits for its first pod has none.
fn has_volume(claim: &Claim) -> bool {
    let is_named = claim.spec.as_ref().is_some_and(|spec| {
        spec.volume_name.is_some() || spec.data_source.is_some() || spec.data_source_ref.is_some()
    });
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    is_named || phase != Some("Pending")
}

/// What became of the claims of brokers that were removed, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Kept, as is wanted.
    pub kept: Vec<String>,
    /// Kept, because nobody knows that they hold nothing.
    pub unproven: Vec<String>,
    /// To be deleted once more is known.
    pub waiting: Vec<String>,
    /// Being deleted.
    pub going: Vec<String>,
    /// Why one is not deleted.
    pub refusal: Option<Refusal>,
}

impl Leftovers {
    /// Looks at all claims; gives those that are to be deleted now.
    pub fn look<'a>(look: &Look<'_>, claims: &[&'a Claim]) -> (Self, Vec<&'a Claim>) {
        let (mut leftovers, mut deleting) = (Self::default(), Vec::new());
        for claim in claims {
            let name = claim.name_any();
            match look.fate(claim) {
                Fate::InUse => {}
                Fate::Kept => leftovers.kept.push(name),
                Fate::Unproven => leftovers.unproven.push(name),
                Fate::Waits => leftovers.waiting.push(name),
                Fate::Going => leftovers.going.push(name),
                Fate::Goes => deleting.push(*claim),
            }
        }
        for names in
            [&mut leftovers.kept, &mut leftovers.unproven, &mut leftovers.waiting, &mut leftovers.going]
        {
            names.sort_unstable();
        }
        (leftovers, deleting)
    }

    /// What is said of those that nobody knows to be empty; `None`: there are none.
    pub fn doubt(&self) -> Option<String> {
        (!self.unproven.is_empty()).then(|| {
            format!(
                "kept, though spec.storage.whenScaled is Delete: {}; their brokers did not say on their way out that they hold nothing, not \
                 even a log that was set aside. Delete them by kubectl delete pvc if you are sure, or raise spec.replicas until their \
                 brokers run, and lower it again",
                self.unproven.join(", ")
            )
        })
    }

    /// Whether some are still to go.
    pub fn is_underway(&self) -> bool {
        !self.waiting.is_empty() || !self.going.is_empty()
    }

    /// What goes on, for people; `None`: nothing.
    pub fn underway(&self) -> Option<(&'static str, String)> {
        (!self.going.is_empty())
            .then(|| ("DeletingVolumes", format!("claims of removed brokers go: {}", self.going.join(", "))))
    }

    /// The condition.
    pub fn condition(&self) -> Condition {
        if let Some(Refusal { reason, message }) = &self.refusal {
            return Condition::new(NAME, false, reason, message.clone());
        }
        if let Some((reason, message)) = self.underway() {
            return Condition::new(NAME, false, reason, message);
        }
        if let Some(doubt) = self.doubt() {
            return Condition::new(NAME, false, "NotKnownEmpty", doubt);
        }
        if !self.waiting.is_empty() {
            let message = format!(
                "to be deleted, and not yet, for the partition table was not read or spec.paused is true: {}",
                self.waiting.join(", ")
            );
            return Condition::new(NAME, false, "Waiting", message);
        }
        if !self.kept.is_empty() {
            let message = format!("kept, as spec.storage.whenScaled says: {}", self.kept.join(", "));
            return Condition::new(NAME, true, "Retained", message);
        }
        Condition::new(NAME, true, "NoneLeft", "no volume of a broker that was removed is left")
    }

    /// The condition of a Cluster whose volumes were not looked at.
    pub fn not_looked_at() -> Condition {
        Condition::new(NAME, Truth::Unknown, "NotLookedAt", "the volumes were not compared with the spec")
    }
}

#[cfg(test)]
#[path = "leftovers_tests.rs"]
mod tests;
