//! Something wanted that does not come by waiting: a person has to act.

/// What is not done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One `CamelCase` word.
    pub reason: &'static str,
    /// What happened, and what to do.
    pub message: String,
}
