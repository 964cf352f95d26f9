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

/// And while a broker is away, or leaders are on their way back to it, this old: mostly all is then as it was before …
const DETAIL_WHILE_RESTLESS: Duration = Duration::from_mins(5);

/// … but not that a replica is missing.
const FLIP_WHILE_RESTLESS: Duration = Duration::from_mins(1);

/// Of a Topic that is new this is the first word, unless it is Ready by then, as most are: its status says until then that it was not seen,
/// and thousands that are applied at once take one write each and not two.
const FIRST_WORD: Duration = Duration::from_secs(2);

/// While brokers are made anew one after the other, each of which touches every topic, this old …
const DETAIL_WHILE_ROLLING: Duration = Duration::from_mins(30);

/// … and this old, if a replica is missing all that time.
const FLIP_WHILE_ROLLING: Duration = Duration::from_mins(5);

/// How calm a Cluster is: whatever concerns all of its topics at once, and will soon be as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calm {
    /// Everything is in its place, for so long.
    For(Duration),
    /// A broker is away or was just now, replicas catch up, or leaders are about to go back.
    Restless,
    /// Brokers are being made anew one after the other.
    Rolling,
}

/// So long after the last thing that concerned all topics it is calm: between two pods of a roll, and between a broker's
/// return and the news that its leaders will go back, nothing seems to happen.
pub const CALM_AFTER: Duration = Duration::from_secs(15);

/// Remembers when something that concerns all topics was last on its way.
#[derive(Debug, Clone, Copy)]
pub struct Mood {
    restless: Instant,
}

impl Mood {
    /// Nothing is known yet: that is not calm.
    pub fn new(now: Instant) -> Self {
        Self { restless: now }
    }

    /// How calm it is, with what is seen now.
    pub fn note(&mut self, restless: bool, rolling: bool, now: Instant) -> Calm {
        if restless || rolling {
            self.restless = now;
        }
        match now.saturating_duration_since(self.restless).checked_sub(CALM_AFTER) {
            Some(calm) => Calm::For(calm),
            None if rolling => Calm::Rolling,
            None => Calm::Restless,
        }
    }
}

/// What is to be done about a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing: it is as it should be.
    Content,
    /// To look again after so long.
    Later(Duration),
    /// To write it.
    Now,
    /// To write it, behind whatever else is to be written: the first word on a Topic that is not Ready yet.
    Behind,
}

/// What the object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A Cluster: there are few, and each of its conditions is worth a write.
    Cluster,
    /// A Topic: there may be thousands, and a broker that is restarted touches all of them.
    Topic(Calm),
    /// A Topic that a volume was lost of: whoever replaces another one waits until this is made up for, so it is said at once.
    Bereft,
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

/// Since when an object's status differs from the truth, and in what.
#[derive(Debug, Clone, Copy)]
struct Since {
    difference: Instant,
    /// Another status of a condition.
    flip: Option<Instant>,
    /// Ready is written as True, and is not.
    dip: Option<Instant>,
}

/// Since when each object's status differs from the truth.
#[derive(Debug, Default)]
pub struct Patience {
    since: HashMap<String, Since>,
}

impl Patience {
    /// What is to be done about a status that is (`same`) or is not as it was written.
    pub fn judge(
        &mut self,
        object: &str,
        same: bool,
        (old, new): (Gist<'_>, Gist<'_>),
        subject: Subject,
        now: Instant,
    ) -> Due {
        if same {
            self.since.remove(object);
            return Due::Content;
        }
        match self.left(object, old, new, subject, now) {
            Duration::ZERO if is_first_word(old, new, subject) => Due::Behind,
            Duration::ZERO => Due::Now,
            left => Due::Later(left),
        }
    }

    /// How much longer a difference may stand; zero: it is to be written.
    fn left(
        &mut self,
        object: &str,
        old: Gist<'_>,
        new: Gist<'_>,
        subject: Subject,
        now: Instant,
    ) -> Duration {
        let ready = (is_true(old.conditions, "Ready"), is_true(new.conditions, "Ready"));
        let since = self.since.entry(object.to_owned());
        let since = since.or_insert(Since { difference: now, flip: None, dip: None });
        // A difference that stands long must not make a dip look old, nor a flip.
        since.flip = flips(old, new).then(|| since.flip.unwrap_or(now));
        since.dip = (ready == (true, false)).then(|| since.dip.unwrap_or(now));
        let left = |from: Instant, may: Duration| may.saturating_sub(now.saturating_duration_since(from));
        if is_first_word(old, new, subject) {
            return left(since.difference, FIRST_WORD);
        }
        if old.generation != new.generation || subject == Subject::Homeless || !ready.0 {
            return Duration::ZERO;
        }
        if let Some(dip) = since.dip {
            return left(dip, DIP);
        }
        let flip = |may: Duration| since.flip.map_or(Duration::MAX, |flip| left(flip, may));
        match subject {
            Subject::Homeless => Duration::ZERO,
            Subject::Cluster => left(since.difference, DETAIL).min(flip(Duration::ZERO)),
            Subject::Bereft => left(since.difference, DETAIL_WHILE_RESTLESS).min(flip(Duration::ZERO)),
            // What stood while it was restless had its reasons: a last moment to become as it was.
            Subject::Topic(Calm::For(calm)) => {
                left(since.difference, DETAIL).max(DETAIL.saturating_sub(calm))
            }
            Subject::Topic(Calm::Restless) => {
                left(since.difference, DETAIL_WHILE_RESTLESS).min(flip(FLIP_WHILE_RESTLESS))
            }
            Subject::Topic(Calm::Rolling) => {
                left(since.difference, DETAIL_WHILE_ROLLING).min(flip(FLIP_WHILE_ROLLING))
            }
        }
    }

    /// Forgets objects that are not there any more.
    pub fn keep(&mut self, exists: impl Fn(&str) -> bool) {
        self.since.retain(|object, _| exists(object));
    }
}

/// Whether a Topic that has no status yet is on its way to be Ready. One without a Cluster is not.
fn is_first_word(old: Gist<'_>, new: Gist<'_>, subject: Subject) -> bool {
    let is_topic = matches!(subject, Subject::Topic(_));
    is_topic && old.conditions.is_empty() && is_true(new.conditions, "Reconciling")
}

/// Whether any condition has another status.
fn flips(old: Gist<'_>, new: Gist<'_>) -> bool {
    let mut pairs = old.conditions.iter().zip(new.conditions);
    let is_other = |(old, new): (&Condition, &Condition)| old.type_ != new.type_ || old.status != new.status;
    old.conditions.len() != new.conditions.len() || pairs.any(is_other)
}

#[cfg(test)]
#[path = "patience_tests.rs"]
mod tests;
