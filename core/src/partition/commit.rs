//! The high watermark: what so many replicas hold durably that no later leader can lack it.

use super::publish::Settled;
use super::replica::{Replica, Role};
use super::{Effect, Write};
use crate::entry::{Members, ReplicaSet};
use crate::id::ReplicaId;
use crate::offset::Offset;

/// The largest offset that an ackQuorum of every set holds.
fn held_by_quorums(members: &Members, end: impl Fn(ReplicaId) -> Offset) -> Offset {
    let held_by_set = |set: &ReplicaSet| {
        let mut ends: Vec<Offset> = set.replicas().iter().map(|replica| end(*replica)).collect();
        ends.sort_unstable();
        ends[ends.len() - set.ack_quorum()]
    };
    members.sets().map(held_by_set).min().unwrap_or_default()
}

impl Replica {
    /// The leader's rule: durable on Qa replicas of each set, in its own term, and not before its opening record is.
    pub(super) fn advance_commit(&mut self) {
        // A damaged batch that is committed lies on others; what is durable behind it counts as ever.
        let damaged = self.repairs.first_from(self.high_watermark);
        let own = damaged.map_or(self.log.durable, |damaged| damaged.min(self.log.durable));
        let Role::Leading(leading) = &mut self.role else { return };
        let held = held_by_quorums(&leading.entry.members, |replica| match replica {
            replica if replica == self.me => own,
            // Lost for ever: it held all that it acknowledged, and nobody will ask it again.
            replica if leading.entry.lost.contains(&replica) => self.log.end,
            replica => {
                leading.followers.get(&replica).and_then(super::lead::Follower::durable).unwrap_or_default()
            }
        });
        if held < leading.opened_end || held <= self.high_watermark {
            return;
        }
        self.high_watermark = held;
        let opens = !std::mem::replace(&mut leading.opened, true);
        self.emit(Effect::HighWatermark(held));
        if opens {
            // All that is committed is here: this log is as whole as any.
            if self.uncertain {
                let seq = self.write(Write::Mark { uncertain: false });
                self.park(seq, super::replica::Parked::Certain);
            }
            self.changed();
        }
        for Settled { ticket, base } in self.publishes.settle(held) {
            self.emit(Effect::Acknowledge { ticket, base });
        }
    }

    /// The follower's rule: what the leader of the reconciled term said, as far as it is durable here.
    pub(super) fn learn_commit(&mut self) {
        let Role::Following(following) = &self.role else { return };
        let known = following.leader_high_watermark.min(self.log.durable);
        if following.reconciled && known > self.high_watermark {
            self.high_watermark = known;
            self.emit(Effect::HighWatermark(known));
        }
    }
}

#[cfg(test)]
#[path = "commit_tests.rs"]
mod tests;
