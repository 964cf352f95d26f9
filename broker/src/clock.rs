//! The two clocks of a process.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fulmar_core::partition::Now;

/// Reads both; a handle that can be copied.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Both clocks, as `core` takes them.
    pub fn now(self) -> Now {
        Now { since_start: self.started.elapsed(), clock_ms: wall_ms() }
    }
}

/// Milliseconds since 1970; 0 for a clock before it.
pub fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
