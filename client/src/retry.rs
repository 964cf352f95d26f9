//! How long to wait before asking again, and until when.
//!
//! Owns the delays. Never decides whether something may be asked again: `error` does.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// A leader is replaced in about a second: the first attempts should not miss that by much.
const DELAY_MIN: Duration = Duration::from_millis(20);

/// Soon enough that a person does not notice, seldom enough that a thousand clients do not hurt.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// Delays that double from 20 ms to 1 s, each with as much again of jitter at most, so that clients do not come in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    delays: ExponentialBackoff,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { delays: builder().build() }
    }

    /// What was asked went well: the next trouble is a new one.
    pub(crate) fn reset(&mut self) {
        self.delays = builder().build();
    }

    /// How long to wait now.
    pub(crate) fn delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(DELAY_MAX)
    }

    /// Waits, but not beyond `deadline`; false if the deadline has come.
    pub(crate) async fn wait_until(&mut self, deadline: Instant) -> bool {
        let at = Instant::now() + self.delay();
        tokio::time::sleep_until(at.min(deadline)).await;
        at < deadline
    }
}

fn builder() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(DELAY_MIN)
        .with_max_delay(DELAY_MAX)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
}
