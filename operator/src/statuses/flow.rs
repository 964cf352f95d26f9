//! How many writes are in flight: one more after a round of good answers, half as many when the API server refuses or is slow. That
//! is the additive increase and multiplicative decrease of TCP (RFC 5681), with which Netflix' `AIMDLimit` bounds calls in flight too.
//!
//! Owns the number and the pace. Never: a clock, or what is written.

use std::time::Duration;

use tokio::time::Instant;

/// So many at most: with answers in 30 ms, as a small API server gives them, some 250 a second. A server that is slower than that has too much
/// to do already, and of what the defaults let it have in flight for all controllers, some 250 requests, it is little.
pub(super) const WIDTH_MAX: usize = 8;

/// Between two writes' beginnings, some 300 a second: a faster API server can do more, but all who watch Topics get each of them. Ten thousand new
/// Topics are seen to be Ready half a minute after they are.
pub(super) const PACE: Duration = Duration::from_millis(3);

/// Who comes late to a beginning makes up for so much of it: timers are a millisecond or two late each time, and a busy process later, which would
/// make 200 a second of it.
pub(super) const LATE_MAX: Duration = Duration::from_millis(12);

/// An answer that takes longer is no good one: half of what Kubernetes promises for the slowest 1 %.
pub(super) const SLOW: Duration = Duration::from_millis(500);

/// After a refusal nothing begins for so long, or for as long as it asks for.
pub(super) const REST: Duration = Duration::from_secs(1);

/// What an answer says of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It had time for us, whatever it said.
    Given,
    /// Not now, or nothing is known of it; for so long it asks to be left alone.
    Refused(Duration),
}

/// How much may be in flight.
#[derive(Debug)]
pub(super) struct Flow {
    width: usize,
    /// Good answers since the last change.
    good: usize,
    /// Nothing begins before.
    opens: Instant,
    /// The last time that there were to be fewer: what had begun before says nothing new.
    narrowed: Instant,
}

impl Flow {
    /// Nothing is known of the API server: one at a time, to begin with.
    pub(super) fn new(now: Instant) -> Self {
        Self { width: 1, good: 0, opens: now, narrowed: now }
    }

    /// When another one may begin; `None`: not before one in flight has been answered.
    pub(super) fn opens(&self, in_flight: usize) -> Option<Instant> {
        (in_flight < self.width).then_some(self.opens)
    }

    /// One begins.
    pub(super) fn begin(&mut self, now: Instant) {
        let due = now.checked_sub(LATE_MAX).map_or(self.opens, |earliest| self.opens.max(earliest));
        self.opens = due + PACE;
    }

    /// One that had begun at `begun` was answered.
    pub(super) fn note(&mut self, answer: Answer, begun: Instant, now: Instant) {
        match answer {
            Answer::Given if now - begun <= SLOW => self.widen(),
            Answer::Given => self.narrow(begun, now),
            Answer::Refused(rest) => {
                self.narrow(begun, now);
                self.opens = now + rest.max(REST);
            }
        }
    }

    fn widen(&mut self) {
        self.good += 1;
        if self.good >= self.width {
            (self.width, self.good) = ((self.width + 1).min(WIDTH_MAX), 0);
        }
    }

    fn narrow(&mut self, begun: Instant, now: Instant) {
        self.good = 0;
        if begun >= self.narrowed {
            (self.width, self.narrowed) = ((self.width / 2).max(1), now);
        }
    }
}

#[cfg(test)]
#[path = "flow_tests.rs"]
mod tests;
