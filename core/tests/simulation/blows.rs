//! What befalls the world: crashes, cuts, lost and restored volumes, other tenures; and the calm after.

use fulmar_core::partition;

use fulmar_core::broker::Input;

use crate::disk::Disk;
use crate::node::key;
use crate::world::{Event, Swarm, World};

impl World {
    pub(crate) fn crash(&mut self, node: usize, drops_commit: bool) {
        if self.nodes[node].broker.is_none() {
            return;
        }
        self.story.line(self.now_ms, || {
            format!("{node} crashes{}", if drops_commit { " and loses its last commit" } else { "" })
        });
        self.totals.crashes += 1;
        self.totals.dropped_commits += u64::from(drops_commit);
        self.disconnect_all(node);
        if self.random.chance(300) {
            self.nodes[node].copy = Some(self.nodes[node].disk.clone());
        }
        self.nodes[node].crash(&mut self.random, drops_commit);
        let back = self.random.between(10, 4000);
        self.at(back, Event::Start { node });
    }

    /// Whether the world may damage one more volume: with Qa copies, Qa − 1 may be hurt at a time.
    pub(crate) fn may_damage(&self, node: usize) -> bool {
        let id = self.nodes[node].id();
        let concerned = self.operator.entry.concerns(id) || self.nodes[node].disk.durable.exists;
        let others = self.damaged.iter().filter(|one| **one != id).count();
        !concerned || others + 1 < usize::from(self.ack_quorum)
    }

    pub(crate) fn blow(&mut self) {
        if self.calm {
            return;
        }
        let again = self.random.between(1, 2 * self.swarm.each_ms);
        self.at(again, Event::Blow);
        let node = self.random.below(self.nodes.len() as u64) as usize;
        let other = self.random.below(self.nodes.len() as u64) as usize;
        let Swarm {
            crash, drop_commit, lose_volume, restore_volume, cut, tenure, restore_table, retain, ..
        } = self.swarm;
        if self.random.chance(crash * 3) {
            let drops =
                self.random.chance(drop_commit) && self.may_damage(node) && self.nodes[node].broker.is_some();
            if drops {
                self.damaged.insert(self.nodes[node].id());
            }
            self.crash(node, drops);
        }
        if self.random.chance(cut * 3) && node != other {
            let until = self.now_ms + self.random.between(100, 8000);
            self.network.cut(node, other, until);
            if self.random.chance(500) {
                self.disconnect(node, other);
            }
        }
        if self.random.chance(lose_volume) && self.may_damage(node) {
            self.lose_volume(node);
        }
        if self.random.chance(restore_volume) && self.may_damage(node) {
            self.restore_volume(node);
        }
        if self.random.chance(tenure) {
            self.totals.tenures += 1;
            self.operator.take_over(self.now_ms);
            self.operator.down_until = self.now_ms + self.random.below(5000);
        }
        if self.random.chance(restore_table) {
            self.totals.tenures += 1;
            self.operator.restore(&mut self.random, self.now_ms);
            self.story.line(self.now_ms, || "the table is restored from a backup".to_owned());
        }
        if self.random.chance(retain) {
            let base = self.observer.committed.keys().rev().nth(self.random.below(20) as usize).copied();
            if let Some(base) = base {
                self.input(node, Input::Partition(key(), partition::Input::Retain(base)));
            }
        }
        if self.random.chance(100) {
            self.nodes[node].copy = Some(self.nodes[node].disk.clone());
        }
    }

    pub(crate) fn lose_volume(&mut self, node: usize) {
        self.story.line(self.now_ms, || format!("{node} loses its volume"));
        self.totals.lost_volumes += 1;
        let id = self.nodes[node].id();
        if self.operator.entry.concerns(id) || self.nodes[node].disk.durable.exists {
            self.damaged.insert(id);
        }
        self.disconnect_all(node);
        self.nodes[node].lose_volume();
        self.at(500, Event::Start { node });
    }

    /// An old copy of the volume is put in its place.
    pub(crate) fn restore_volume(&mut self, node: usize) {
        // A copy of the running session is known by the volume's uid alone, if the operator is there to compare it.
        let disk = &self.nodes[node].disk;
        let is_older =
            |copy: &Disk| copy.incarnation == disk.incarnation && copy.processes.len() < disk.processes.len();
        let Some(copy) = self.nodes[node].copy.clone().filter(is_older) else { return };
        self.nodes[node].copy = None;
        self.story.line(self.now_ms, || format!("{node} is restored from a copy of its volume"));
        self.totals.restored_volumes += 1;
        self.damaged.insert(self.nodes[node].id());
        self.disconnect_all(node);
        self.nodes[node].broker = None;
        self.nodes[node].restored_after = Some(self.nodes[node].disk.processes.len() as u64);
        self.nodes[node].disk = copy;
        self.nodes[node].disk.crash(&mut self.random, false);
        self.at(500, Event::Start { node });
    }

    pub(crate) fn come_to_rest(&mut self) {
        self.story.line(self.now_ms, || "calm".to_owned());
        self.calm = true;
        self.network.heal();
        self.operator.down_until = 0;
        for node in 0..self.nodes.len() {
            self.at(1, Event::Start { node });
        }
    }
}
