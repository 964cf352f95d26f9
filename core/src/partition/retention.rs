//! The log's start: the leader decides, followers follow, and nobody deletes what is not known to be committed.

use super::Write;
use super::replica::{Replica, Role};
use crate::offset::Offset;

impl Replica {
    /// Everything below `offset` may go, says retention.
    pub(super) fn retain(&mut self, offset: Offset) {
        if self.is_opened() && offset <= self.high_watermark {
            self.raise_log_start(offset);
        }
    }

    /// The leader's log starts here.
    pub(super) fn follow_log_start(&mut self, leader: Offset) {
        if matches!(self.role, Role::Following(_)) {
            self.raise_log_start(leader.min(self.high_watermark));
        }
    }

    /// The vector and the producers' table stay whole: comparing and recognising go on below the start.
    fn raise_log_start(&mut self, to: Offset) {
        if to > self.log.start {
            self.log.start = to;
            self.repairs.forget_below(to);
            self.write(Write::LogStart(to));
        }
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
