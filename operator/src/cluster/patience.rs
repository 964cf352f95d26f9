//! How long a difference between a status and the truth may stand before it is written: dips and details are not worth a
//! write each.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::conditions::is_true;

/// A Ready that falls and rises again within this time was never gone: a leader is replaced in about a second.
const DIP: Duration = Duration::from_secs(10);

/// Who is in sync, and who leads, may be this old.
const DETAIL: Duration = Duration::from_secs(5);

/// And while brokers are restarted one after the other, each of which touches every topic, this old.
const DETAIL_WHILE_ROLLING: Duration = Duration::from_mins(2);

/// What the object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A Cluster: there are few, and each of its conditions is worth a write.
    Cluster,
    /// A Topic: there may be thousands, and a broker that is restarted touches all of them.
    Topic {
        /// Brokers are being made anew one after the other.
        rolling: bool,
    },
    /// A Topic whose Cluster is gone or invalid: that is no dip.
    Homeless,
}

/// What is compared of a status: the generation it speaks of, and its conditions.
#[derive(Debug, Clone, Copy)]
pub struct Gist<'a> {
    /// The generation.
    pub generation: Option<i64>,
    /// The conditions.
    pub conditions: &'a [Condition],
}

/// Since when each object's status differs from the truth.
#[derive(Debug, Default)]
pub struct Patience {
    since: HashMap<String, Instant>,
}

impl Patience {
    /// The status of this object is as it should be.
    pub fn is_content(&mut self, object: &str) {
        self.since.remove(object);
    }

    /// How much longer a difference may stand; zero: it is to be written.
    pub fn left(
        &mut self,
        object: &str,
        old: Gist<'_>,
        new: Gist<'_>,
        subject: Subject,
        now: Instant,
    ) -> Duration {
        let since = *self.since.entry(object.to_owned()).or_insert(now);
        may_stand(old, new, subject).saturating_sub(now.saturating_duration_since(since))
    }

    /// Forgets objects that are not there any more.
    pub fn keep(&mut self, exists: impl Fn(&str) -> bool) {
        self.since.retain(|object, _| exists(object));
    }
}

fn may_stand(old: Gist<'_>, new: Gist<'_>, subject: Subject) -> Duration {
    if old.generation != new.generation || subject == Subject::Homeless {
        return Duration::ZERO;
    }
    match (is_true(old.conditions, "Ready"), is_true(new.conditions, "Ready")) {
        (true, false) => DIP,
        (false, _) => Duration::ZERO,
        (true, true) => match subject {
            Subject::Homeless => Duration::ZERO,
            Subject::Cluster if flips(old, new) => Duration::ZERO,
            Subject::Topic { rolling: true } => DETAIL_WHILE_ROLLING,
            Subject::Cluster | Subject::Topic { rolling: false } => DETAIL,
        },
    }
}

/// Whether any condition has another status.
fn flips(old: Gist<'_>, new: Gist<'_>) -> bool {
    let status = |gist: Gist<'_>| -> Vec<(String, String)> {
        gist.conditions.iter().map(|one| (one.type_.clone(), one.status.clone())).collect()
    };
    status(old) != status(new)
}

#[cfg(test)]
#[path = "patience_tests.rs"]
mod tests;
