//! What is wished of the comparison; `docs/performance.md` shows how it stands.

use crate::wish::Wish;

/// A wish for one row: of Fulmar's figure divided by the rival's.
pub(super) struct Goal {
    /// With so many replicas.
    pub(super) replicas: u16,
    pub(super) work: &'static str,
    pub(super) measure: &'static str,
    /// What the rival's address or its safety has in it.
    pub(super) against: &'static str,
    pub(super) wish: Wish,
}

const RATE: &str = "records_per_second";

const fn goal(
    replicas: u16,
    work: &'static str,
    measure: &'static str,
    against: &'static str,
    wish: Wish,
) -> Goal {
    Goal { replicas, work, measure, against, wish }
}

/// All of them.
pub(super) const GOALS: [Goal; 14] = [
    goal(1, "publish-batched", RATE, "sync_interval=always", Wish::AtLeast(20.0)),
    goal(1, "publish-batched", RATE, "2m", Wish::AtLeast(2.0)),
    goal(1, "publish-unbatched", RATE, "sync_interval=always", Wish::AtLeast(5.0)),
    goal(1, "publish-unbatched", RATE, "appendfsync always", Wish::AtLeast(1.0)),
    goal(1, "publish-http", RATE, "appendfsync always", Wish::AtLeast(1.0)),
    goal(1, "fan-out", RATE, "sync_interval", Wish::AtLeast(1.0)),
    goal(1, "one-in-flight", "p50_us", "sync_interval=always", Wish::AtMost(0.75)),
    goal(1, "one-in-flight", "p99_us", "sync_interval=always", Wish::AtMost(0.75)),
    goal(1, "read-back", RATE, "sync_interval", Wish::AtLeast(3.0)),
    goal(1, "end-to-end", "p50_us", "sync_interval=always", Wish::AtMost(1.0)),
    goal(1, "end-to-end", "p99_us", "sync_interval=always", Wish::AtMost(1.0)),
    goal(3, "publish-batched", RATE, "2m", Wish::AtLeast(2.0)),
    goal(3, "publish-unbatched", RATE, "2m", Wish::AtLeast(2.0)),
    goal(3, "read-back", RATE, "sync_interval", Wish::AtLeast(3.0)),
];
