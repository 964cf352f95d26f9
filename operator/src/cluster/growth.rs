//! Whether the volumes are as large as wanted, and what is to be done about each that is not. No client.
//!
//! Owns the reading of claims, the words of refusals, and the condition `VolumesSized`. Never: shrinks a volume; nobody can.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fulmar_crds::quantity;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt as _;

use crate::cluster::refusal::Refusal;
use crate::cluster::validate::Wanted;
use crate::conditions::{Claim as Condition, Truth};

/// What the API server refused is asked for again after so long: a class or a quota may have been changed, and no watch of ours tells.
const ASK_AGAIN: Duration = Duration::from_mins(1);

/// What is to be done about one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It has what is wanted, or more.
    Nothing,
    /// It has no volume yet.
    Pending,
    /// It is to ask for the wanted size.
    Ask,
    /// It asks for it, and its volume grows: how far that is.
    Wait(String),
    /// Its volume does not grow by waiting: why.
    Stuck(String),
}

/// How the volumes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volumes {
    /// Claims that grow, or are about to, each with how far it is.
    pub growing: Vec<String>,
    /// Why some do not become as wanted without a person.
    pub refusal: Option<Refusal>,
    /// Claims without a volume, and the class that they wait for, by ordinal.
    pub pending: BTreeMap<u16, String>,
    /// The largest volume, as Kubernetes writes it.
    pub capacity: Option<String>,
}

impl Refusal {
    /// Of what the API server said about the claim.
    pub fn of(claim: &str, class: Option<&str>, wanted: &str, said: &str) -> Self {
        let class =
            class.map_or_else(|| "its StorageClass".to_owned(), |class| format!("StorageClass {class}"));
        let (reason, advice) = if said.contains("exceeded quota") {
            ("QuotaExceeded", "raise the quota, or lower spec.storage.size or spec.replicas".to_owned())
        } else if said.contains("support resize") || said.contains("dynamically provisioned") {
            let advice = format!(
                "{class} does not let its volumes grow, or is gone: set allowVolumeExpansion: true on it if its driver can, or take \
                 spec.storage.size back"
            );
            ("ClassCannotGrow", advice)
        } else {
            ("VolumeRefused", "mend what Kubernetes says, or take the change back".to_owned())
        };
        Self { reason, message: format!("{claim} does not get {wanted}: {advice} (Kubernetes says: {said})") }
    }
}

/// What was refused, and when; and since when claims are missing.
#[derive(Debug, Default)]
pub struct Memory {
    refused: Option<(String, Instant, Refusal)>,
    missing: BTreeMap<u16, Instant>,
}

impl Memory {
    /// The refusal of this wish, while it is not to be asked for again.
    pub fn recall(&mut self, size: &str, now: Instant) -> Option<&Refusal> {
        self.refused.take_if(|(refused, at, _)| refused != size || now >= *at + ASK_AGAIN);
        self.refused.as_ref().map(|(_, _, refusal)| refusal)
    }

    /// The API server refused this wish.
    pub fn remember(&mut self, size: &str, refusal: Refusal, now: Instant) {
        self.refused = Some((size.to_owned(), now, refusal));
    }

    /// Of these missing claims those that have been missing for so long.
    pub fn missing_for(&mut self, missing: &[u16], patience: Duration, now: Instant) -> Vec<u16> {
        self.missing.retain(|ordinal, _| missing.contains(ordinal));
        let mut long = Vec::new();
        for ordinal in missing {
            let since = self.missing.entry(*ordinal).or_insert(now);
            if now >= *since + patience {
                long.push(*ordinal);
            }
        }
        long
    }
}

/// What is to be done about a claim of a broker that is wanted.
pub fn step(claim: &PersistentVolumeClaim, wanted_bytes: u64) -> Step {
    if claim.metadata.deletion_timestamp.is_some() {
        return Step::Nothing;
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        return Step::Pending;
    }
    // What cannot be read is nobody's of ours: the claim was made by hand, and is left alone.
    let (Some(asked), Some(has)) = (bytes(requested(claim)), bytes(capacity(claim))) else {
        return Step::Nothing;
    };
    if asked < wanted_bytes || (has < wanted_bytes && asked > wanted_bytes) {
        return Step::Ask;
    }
    if has >= wanted_bytes {
        return Step::Nothing;
    }
    progress(claim)
}

/// How far a resize is, as Kubernetes tells it.
fn progress(claim: &PersistentVolumeClaim) -> Step {
    let name = claim.name_any();
    let has = capacity(claim).map_or("?", |quantity| quantity.0.as_str());
    let wants = requested(claim).map_or("?", |quantity| quantity.0.as_str());
    let far = format!("{name} has {has} of {wants}");
    let status = claim.status.as_ref();
    let resize = status.and_then(|status| status.allocated_resource_statuses.as_ref());
    let resize = resize.and_then(|all| all.get("storage")).map(String::as_str);
    let conditions = || status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let holds = |kind: &str| conditions().find(|one| one.type_ == kind && one.status == "True");
    let error = conditions().find(|one| one.type_.ends_with("ResizeError") && one.status == "True");
    let said = error.and_then(|one| one.message.as_deref()).unwrap_or_default();
    if resize.is_some_and(|resize| resize.ends_with("Infeasible")) {
        return Step::Stuck(format!(
            "{far}, and its driver cannot do it: take spec.storage.size back to a little above {has} (Kubernetes says: {said})"
        ));
    }
    if !said.is_empty() {
        return Step::Wait(format!("{far}, and is tried again: {said}"));
    }
    if holds("FileSystemResizePending").is_some() {
        return Step::Wait(format!(
            "{far}: the volume has grown, its file system not yet (if that stays so, its driver wants the pod to be made anew: \
             kubectl rollout restart)"
        ));
    }
    let stage = if holds("Resizing").is_some() { "the volume grows" } else { "its driver was asked" };
    Step::Wait(format!("{far}: {stage}"))
}

fn requested(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?.get("storage")
}

fn capacity(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.status.as_ref()?.capacity.as_ref()?.get("storage")
}

fn bytes(quantity: Option<&Quantity>) -> Option<u64> {
    quantity::bytes(&quantity?.0)
}

/// The class that a claim names.
pub fn class(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.storage_class_name.as_deref()
}

impl Volumes {
    /// Looks at the claims of the brokers that there are to be; gives those that are to ask for more.
    pub fn look<'a>(
        wanted: &Wanted,
        brokers: u16,
        claims: &[&'a PersistentVolumeClaim],
    ) -> (Self, Vec<&'a PersistentVolumeClaim>) {
        let (mut volumes, mut asking) = (Self::default(), Vec::new());
        let mut largest = 0;
        for claim in claims {
            let name = claim.name_any();
            let Some(ordinal) = wanted.key.ordinal_of_claim(&name).filter(|ordinal| *ordinal < brokers)
            else {
                continue;
            };
            if let Some(has) = bytes(capacity(claim)).filter(|has| *has > largest) {
                largest = has;
                volumes.capacity = capacity(claim).map(|quantity| quantity.0.clone());
            }
            match step(claim, wanted.settings.storage.size_bytes) {
                Step::Nothing => {}
                Step::Pending => {
                    volumes.pending.insert(ordinal, class(claim).unwrap_or("(none)").to_owned());
                }
                Step::Ask => asking.push(*claim),
                Step::Wait(how) => volumes.growing.push(how),
                Step::Stuck(message) => {
                    volumes.refusal = Some(Refusal { reason: "ResizeInfeasible", message });
                }
            }
        }
        (volumes, asking)
    }

    /// The condition.
    pub fn condition(&self) -> Condition {
        let name = "VolumesSized";
        if let Some(Refusal { reason, message }) = &self.refusal {
            return Condition::new(name, false, reason, message.clone());
        }
        if !self.growing.is_empty() {
            return Condition::new(name, false, "Growing", self.growing.join("; "));
        }
        match self.pending.first_key_value() {
            Some((_, class)) => {
                let message =
                    format!("{} claims have no volume of StorageClass {class} yet", self.pending.len());
                Condition::new(name, false, "AwaitingVolumes", message)
            }
            None => {
                Condition::new(name, true, "AsWanted", "every volume has the size that is wanted, or more")
            }
        }
    }

    /// The condition of a Cluster whose volumes were not looked at.
    pub fn not_looked_at() -> Condition {
        Condition::new(
            "VolumesSized",
            Truth::Unknown,
            "NotLookedAt",
            "the volumes were not compared with the spec",
        )
    }
}

#[cfg(test)]
#[path = "growth_tests.rs"]
mod tests;
