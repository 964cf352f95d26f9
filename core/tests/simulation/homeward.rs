//! When all is well again, some worlds go on until every partition is led by its preferred leader, while clients go on too.

use fulmar_core::entry::{Entry, Members};

use crate::random::Random;
use crate::world::{CALM_MS, World};

/// So many worlds in a thousand wait for it: a minute without any blow is long, and mostly quiet.
const OFTEN: u64 = 100;

/// Who has failed to take over is not trusted for minutes, and longer each time.
const HOME_MS: u64 = 40 * 60_000;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Homing {
    /// This world does not wait for it.
    Never,
    /// It will, once everything works again.
    Due,
    UnderWay,
    Done,
}

impl Homing {
    /// Of its own numbers: a seed's storm stays what it is.
    pub(crate) fn draw(seed: u64) -> Self {
        let goes_home = Random::new(seed ^ 0x6f2d_68d1_77c1_90a5).chance(OFTEN);
        if goes_home { Self::Due } else { Self::Never }
    }
}

impl World {
    /// Everything works. Whether the world goes on all the same, for its leaders to go home.
    pub(crate) fn sets_out_for_home(&mut self) -> bool {
        if self.homing != Homing::Due {
            return false;
        }
        self.story.line(self.now_ms, || "leaders may go home".to_owned());
        self.homing = Homing::UnderWay;
        self.patience_until = self.now_ms + HOME_MS;
        self.totals.count("worlds that waited for their leaders to go home");
        let away = self.away().len() as u64;
        self.totals.add_many("partitions that were led by another than their preferred leader", away);
        true
    }

    /// Once all are, clients end what they began, and the world comes to rest for the second time.
    pub(crate) fn go_home(&mut self) {
        if self.away().is_empty() {
            self.homing = Homing::Done;
            self.patience_until = self.now_ms + CALM_MS;
        }
    }

    /// Decisions by which another than the preferred leader leads, or nobody does.
    fn away(&self) -> Vec<Entry> {
        let is_home = |entry: &Entry| match &entry.members {
            Members::One(set) => {
                let leader = self.leader(entry.key).map(crate::node::Node::id);
                leader.is_some() && leader == set.replicas().first().copied()
            }
            Members::Joint { .. } => false,
        };
        let entries = self.ledger.pages().into_iter().flat_map(|page| page.entries);
        entries.filter(|entry| self.is_served(entry.key) && !is_home(entry)).collect()
    }

    pub(crate) fn why_no_rest(&self) -> String {
        if self.homing == Homing::UnderWay {
            let away: Vec<String> = self.away().iter().map(crate::story::entry).collect();
            return format!(
                "leaders are not home {} min after all was well: {}",
                HOME_MS / 60_000,
                away.join(", ")
            );
        }
        let why = self.rests().err().unwrap_or_default();
        format!("no rest {} s after the storm: {why}", CALM_MS / 1000)
    }
}
