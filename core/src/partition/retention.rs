//! The log's start: the leader decides, followers follow, and nobody deletes what is not known to be committed.

use super::Write;
use super::replica::{Now, Replica, Role};
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

    /// What others have let go is not held on to where it cannot be read here, nor be had from anybody: a leader would feed
    /// nobody beyond it, so that a member that begins anew would never catch up, and who opens a term would not be counted.
    ///
    /// Safe, because a replica's log start is above zero only by the word of a leader that had opened its term and whose
    /// retention had passed there. (A reset takes over such a start, too; one that a person's word made agrees only with logs
    /// that went the same way.) A replica that promised our term, and whose log agrees with ours up to where it begins, shows
    /// that this was decided about our own records: nobody is promised them any more, and we would have let them go had that
    /// word not been lost on its way. What somebody who is connected can still give is fetched instead; of several starts the
    /// lowest beyond the damage is taken, so that what others still have stays; and, as ever, nothing goes that is not known
    /// to be committed.
    pub(super) fn let_go_with_the_others(&mut self, now: Now) {
        let starts = self.agreed_starts();
        let beyond = |damaged: Offset| starts.iter().copied().filter(|start| *start > damaged).min();
        let damaged = self.repairs.damaged().map(|(damaged, _)| damaged);
        let gone = damaged.filter(|damaged| self.nobody_here_has(*damaged)).filter_map(beyond).max();
        let Some(gone) = gone.map(|gone| gone.min(self.high_watermark)) else { return };
        if gone > self.log.start {
            self.raise_log_start(gone);
            self.choose_log(now);
        }
    }

    /// Where the logs begin that agree with ours up to there, of those who promised us the term that we lead or open.
    fn agreed_starts(&self) -> Vec<Offset> {
        match &self.role {
            Role::Leading(leading) => leading.followers.values().map(|follower| follower.log_start).collect(),
            Role::Opening(opening) => {
                opening.answers.values().map(|answer| self.log.start_agreed_with(answer)).collect()
            }
            Role::Idle | Role::Following(_) | Role::Halted(_) => Vec::new(),
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
