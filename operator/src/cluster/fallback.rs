//! Which template brokers are made from when the wanted one brings up nobody: the last one that did.
//!
//! Owns what is remembered of templates, on the `StatefulSet` itself, so that it survives the operator. Never: which pod is
//! made anew; `roll` does, and finds the pods of a template that was given up to be of no use.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use sha2::{Digest as _, Sha256};

use crate::certificates::hexadecimal;
use crate::cluster::roll::Step;
use crate::cluster::status::{Problem, ROLLOUT_FAILED};
use crate::pods::BrokerPod;

/// A pod that Kubernetes cannot run (no such image, it crashes, no node takes it) and that is not Ready by then never will be.
const TROUBLED_MAX: Duration = Duration::from_mins(5);

/// Any other pod is given longer than its startup probe gives it: it may have much to recover.
const READY_MAX: Duration = Duration::from_mins(15);

/// The reason of the first template of a Cluster that brought up nobody.
const NEVER_CAME_UP: &str = "NoBrokerCameUp";

/// The annotation with the last template that all brokers were Ready with, as JSON.
const GOOD: &str = "fulmar.dev/good-template";

/// The annotation with the name of the last template that a broker was Ready with: it works, whatever fails later.
const CAME_UP: &str = "fulmar.dev/came-up-template";

/// The annotation with the name of the template that was given up.
const REJECTED: &str = "fulmar.dev/rejected-template";

/// The annotation that says why.
const BECAUSE: &str = "fulmar.dev/rejected-because";

/// What the roll found out about the template in place, by the template's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Every broker runs it and is Ready.
    Proven(String),
    /// A broker of it is Ready.
    CameUp(String),
    /// The first broker of it was not Ready in time; why, for a person.
    Failed(String, String),
}

/// A template's name: the beginning of its hash.
pub fn name(template: &PodTemplateSpec) -> String {
    let text = serde_json::to_string(template).expect("the types of the API have string keys");
    hexadecimal(&Sha256::digest(text)[..8])
}

/// What the pods tell of the template in place, which is called `template` and has this revision; `None`: nothing yet.
/// `rolled`: no pod is of another one.
pub fn find(
    template: &str,
    revision: &str,
    rolled: bool,
    brokers: u16,
    pods: &[BrokerPod],
    now: Timestamp,
) -> Option<Finding> {
    let ready = pods.iter().filter(|pod| pod.ready && pod.ordinal < brokers).count();
    if rolled && ready == usize::from(brokers) {
        return Some(Finding::Proven(template.to_owned()));
    }
    let of_it = || pods.iter().filter(|pod| pod.revision.as_deref() == Some(revision));
    // One that is Ready proves the template: what ails another one is something else.
    if of_it().any(|pod| pod.ready) {
        return Some(Finding::CameUp(template.to_owned()));
    }
    let why = of_it().filter(|pod| !pod.leaving).find_map(|pod| overdue(pod, now))?;
    Some(Finding::Failed(template.to_owned(), why))
}

/// A template as a roll found it in place.
#[derive(Debug, Clone, PartialEq)]
pub struct Rolled {
    /// What Kubernetes calls it.
    pub revision: String,
    /// The template.
    pub template: PodTemplateSpec,
}

/// What the first step of a roll says of the template before: every broker is Ready with it, or none would be taken. A change may
/// come before that was seen otherwise.
pub fn outlived(step: &Step, pods: &[BrokerPod], before: Option<&Rolled>) -> Option<Finding> {
    let (Step::Evict(_), Some(before)) = (step, before) else { return None };
    let is_first = pods.iter().all(|pod| pod.revision.as_ref() == Some(&before.revision));
    is_first.then(|| Finding::Proven(name(&before.template)))
}

/// Why this pod, which is not Ready, will never be; `None`: it has time left.
fn overdue(pod: &BrokerPod, now: Timestamp) -> Option<String> {
    // One that was Ready before has its time anew.
    let since = pod.created.max(pod.unready_since)?;
    let age = Duration::try_from(now.duration_since(since)).unwrap_or(Duration::ZERO);
    let may = if pod.trouble.is_some() { TROUBLED_MAX } else { READY_MAX };
    let why = pod.trouble.as_deref().unwrap_or("it is not Ready");
    (age >= may).then(|| format!("{} after {} minutes: {why}", pod.name, may.as_secs() / 60))
}

/// Puts into `set`, which is as wanted, the template to be used, and what is to be remembered; gives back what a person should
/// know. `live` is the set as it is, `before` the template before, of which the finding may speak.
pub fn settle(
    set: &mut StatefulSet,
    live: Option<&StatefulSet>,
    finding: Option<&Finding>,
    before: Option<&PodTemplateSpec>,
) -> Option<Problem> {
    let noted = |key: &str| live?.metadata.annotations.as_ref()?.get(key).cloned();
    let spec = set.spec.as_mut()?;
    let wanted = name(&spec.template);
    let good = match finding {
        Some(Finding::Proven(proven)) if *proven == wanted => Some(spec.template.clone()),
        // Another one is wanted before it was noted.
        Some(Finding::Proven(proven)) if before.is_some_and(|one| *proven == name(one)) => before.cloned(),
        // Of a version that knew other fields: no use.
        _ => noted(GOOD).and_then(|json| serde_json::from_str(&json).ok()),
    };
    let came_up = match finding {
        Some(Finding::Proven(up) | Finding::CameUp(up)) if *up == wanted => Some(wanted.clone()),
        _ => noted(CAME_UP),
    };
    let failed = match finding {
        Some(Finding::Failed(failed, why)) if *failed == wanted => Some(why.clone()),
        _ => noted(BECAUSE).filter(|_| noted(REJECTED).as_ref() == Some(&wanted)),
    };
    let works = good.as_ref().is_some_and(|good| name(good) == wanted) || came_up.as_ref() == Some(&wanted);
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.extend(good.as_ref().map(|good| {
        (GOOD.to_owned(), serde_json::to_string(good).expect("it was JSON, or became it just now"))
    }));
    annotations.extend(came_up.clone().map(|name| (CAME_UP.to_owned(), name)));
    let why = failed.filter(|_| !works)?;
    annotations.insert(REJECTED.to_owned(), wanted);
    annotations.insert(BECAUSE.to_owned(), why.clone());
    let (reason, rest) = match (good, came_up) {
        (Some(good), _) => {
            spec.template = good;
            (ROLLOUT_FAILED, "brokers keep the template before. Change the spec to try again")
        }
        (None, Some(_)) => {
            (ROLLOUT_FAILED, "no template is known that all brokers were Ready with: change the spec")
        }
        // It may still come up.
        (None, None) => {
            (NEVER_CAME_UP, "no broker has run yet: change the spec, or mend what Kubernetes names")
        }
    };
    Some(Problem { reason, message: format!("{why}; {rest}"), stuck: true })
}

#[cfg(test)]
#[path = "fallback_tests.rs"]
mod tests;
