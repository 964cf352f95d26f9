//! Conditions in a fixed order, whose `lastTransitionTime` moves only when the status flips: or every pass would be a write.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The longest message; a longer one is cut. Messages are for people.
const MESSAGE_CHARACTERS_MAX: usize = 1_024;

/// What a condition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// It is so.
    True,
    /// It is not.
    False,
    /// Nobody can say.
    Unknown,
}

impl Truth {
    fn text(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// One condition as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What it is about.
    pub kind: &'static str,
    /// Whether it is so.
    pub truth: Truth,
    /// Why, one `CamelCase` word.
    pub reason: String,
    /// Why, for a person.
    pub message: String,
}

impl Claim {
    /// A claim.
    pub fn new(
        kind: &'static str,
        truth: impl Into<Truth>,
        reason: &str,
        message: impl Into<String>,
    ) -> Self {
        Self { kind, truth: truth.into(), reason: reason.to_owned(), message: message.into() }
    }
}

/// The claims as conditions, in their order, over those that were there before.
pub fn conditions(
    claims: Vec<Claim>,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    claims.into_iter().map(|claim| condition(claim, before, generation, now)).collect()
}

/// The status of a condition that was written.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}

fn condition(claim: Claim, before: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
    let status = claim.truth.text();
    let unchanged = before.iter().find(|old| old.type_ == claim.kind && old.status == status);
    // Whole seconds: that is what the API server keeps.
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    Condition {
        type_: claim.kind.to_owned(),
        status: status.to_owned(),
        reason: claim.reason,
        message: claim.message.chars().take(MESSAGE_CHARACTERS_MAX).collect(),
        observed_generation: generation,
        last_transition_time: unchanged.map_or(Time(now), |old| old.last_transition_time.clone()),
    }
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
mod tests;
