//! Some worlds change how many brokers there are, up and down, while blows fall. Whoever runs them takes away only whom the ruling
//! operator lets go, as a `StatefulSet` does: the highest first; and now and then their volumes with them, of those that said that they
//! hold nothing. Meanwhile somebody pauses moves, and lets more or fewer go on at once. In the calm all carry the same number.

use std::collections::BTreeMap;

use fulmar_core::control::{BrokerView, Rebalance, View};
use fulmar_core::id::PartitionKey;

use crate::event::Event;
use crate::random::Random;
use crate::world::{Rule, World};

/// So many worlds in a thousand.
const OFTEN: u64 = 300;

/// Between two looks at who may go, as the operator looks.
const LOOK_MS: u64 = 2_000;

/// Brokers that are away are waited for, one move follows the other, and a plan is made each second.
pub(crate) const SPREAD_MS: u64 = 240_000;

/// What a world wishes now and then.
pub(crate) struct Scaling {
    random: Random,
    /// The next change of mind.
    next_ms: u64,
    /// Whether moves are paused, and how many go on: of its own numbers, too.
    pace: Random,
    /// How often moves were paused.
    pauses: u32,
    /// Of a tenure whose moves were paused at the last look: how many were under way.
    paused: Option<(u64, u32)>,
    /// Volumes of brokers that are not wished and said that they hold nothing, by their node.
    empty: BTreeMap<usize, u64>,
}

impl Scaling {
    /// Of its own numbers: a seed's storm stays what it is.
    pub(crate) fn draw(seed: u64) -> Option<Self> {
        let mut random = Random::new(seed ^ 0x51c4_11e5_0b57_ac1e);
        let next_ms = random.between(3_000, 10_000);
        let pace = Random::new(seed ^ 0x9a05_ed00_77ac_3e11);
        random.chance(OFTEN).then_some(Self {
            random,
            next_ms,
            pace,
            pauses: 0,
            paused: None,
            empty: BTreeMap::new(),
        })
    }
}

impl World {
    /// A look: perhaps another number of brokers is wished, perhaps one may go.
    pub(crate) fn scale(&mut self) {
        let Some(mut scaling) = self.scaling.take() else { return };
        if !self.calm && self.now_ms >= scaling.next_ms {
            scaling.next_ms = self.now_ms + scaling.random.between(1_000, 12_000);
            self.wish_brokers(&mut scaling.random);
            scaling.pauses += u32::from(self.wish_pace(&mut scaling.pace));
        } else if self.calm {
            self.desired.rebalance = Rebalance::default();
        }
        // An operator that froze may hear later that moves were resumed and paused again: only of the first time it is certain.
        let is_certain = scaling.pauses == 1 && self.desired.rebalance.paused;
        scaling.paused = is_certain.then(|| self.look_at_paused(scaling.paused)).flatten();
        self.look_at_empty(&mut scaling.empty);
        let (empty, goes) = (std::mem::take(&mut scaling.empty), scaling.pace.chance(500));
        self.scaling = Some(scaling);
        self.take_away(&empty, goes);
        if let Some(scaling) = &mut self.scaling {
            scaling.empty = empty;
        }
        self.at(LOOK_MS, Event::Scale);
    }

    fn wish_brokers(&mut self, random: &mut Random) {
        let nodes = self.nodes.iter().filter(|node| !node.is_ghost).count() as u64;
        let size = self.desired.topics.iter().filter_map(|wish| wish.replication_factor).max().unwrap_or(1);
        if u64::from(size) >= nodes {
            return;
        }
        let wished = random.between(u64::from(size), nodes) as u16;
        if wished != self.desired.brokers {
            let up = wished > self.desired.brokers;
            self.totals.count(if up { "scalings up" } else { "scalings down" });
            self.story.line(self.now_ms, || format!("{wished} brokers are wished"));
        }
        self.desired.standing = self.desired.present().max(wished);
        self.desired.brokers = wished;
        for node in 0..usize::from(wished) {
            self.at(100, Event::Start { node });
        }
    }

    /// Whether moves are paused from now on, which they were not.
    fn wish_pace(&mut self, random: &mut Random) -> bool {
        let paused = random.chance(300);
        let moves_a_broker = random.between(1, 6) as u8;
        let is_new = paused && !self.desired.rebalance.paused;
        if is_new {
            self.totals.count("moves paused");
            self.story.line(self.now_ms, || "moves are paused".to_owned());
        }
        self.desired.rebalance = Rebalance { paused, moves_a_broker };
        is_new
    }

    /// What is paused never becomes more in one tenure. Gives what is to be compared with at the next look.
    fn look_at_paused(&mut self, before: Option<(u64, u32)>) -> Option<(u64, u32)> {
        let view = self.ruling_view()?;
        let tenure = view.controller_epoch;
        let under_way = view.moving.filter(|moving| moving.is_paused)?.under_way;
        if let Some((_, fewer)) = before.filter(|(then, fewer)| *then == tenure && *fewer < under_way) {
            self.violate(format!("moves are paused, and {under_way} are under way, which were {fewer}"));
        }
        Some((tenure, under_way))
    }

    /// The view of who rules, if it is one of this wish and of a whole table.
    fn ruling_view(&self) -> Option<&View> {
        let active = self.operators.iter().filter(|operator| operator.is_active(self.now_ms));
        let view = active.map(|operator| &*operator.view).max_by_key(|view| view.controller_epoch)?;
        // A table that was deleted or went back is missed by nobody before somebody writes.
        let tenure = self.ledger.root().map_or(1, |root| root.controller_epoch);
        let rules = view.controller_epoch >= tenure && view.waiting.is_none();
        (rules && view.wished == self.desired.brokers).then_some(view)
    }

    /// As the operator marks claims: what is wished again, or holds something, is marked no more.
    fn look_at_empty(&self, empty: &mut BTreeMap<usize, u64>) {
        empty.retain(|node, _| *node >= usize::from(self.desired.brokers));
        let Some(view) = self.ruling_view() else { return };
        let leaves = |broker: &&BrokerView| broker.ordinal.0 >= self.desired.brokers;
        for broker in view.brokers.iter().filter(leaves) {
            let node = usize::from(broker.ordinal.0);
            let Some(this) = self.nodes.get(node).filter(|this| !this.is_odd()) else { continue };
            if broker.is_empty && broker.replicas == 0 {
                empty.insert(node, this.disk.uid);
            } else if broker.replicas > 0 {
                empty.remove(&node);
            }
        }
    }

    fn take_away(&mut self, empty: &BTreeMap<usize, u64>, volumes_go: bool) {
        let Some(holding) = self.ruling_view().map(|view| view.holding) else { return };
        let stays = self.desired.brokers.max(holding);
        for node in usize::from(stays)..usize::from(self.desired.standing) {
            if self.nodes[node].life > 0 {
                self.totals.count("brokers taken away");
            }
            let id = self.nodes[node].id();
            let holds = |key: &PartitionKey| self.observer.is_concerned(*key, id) && !self.is_nowhere(*key);
            if let Some(key) = self.observer.keys().into_iter().find(holds) {
                self.violate(format!("broker {node} is taken away, and has a part in {key}"));
            }
            self.crash(node, false);
            // Nobody is asked whether that may be: what is known of it has to be enough.
            if volumes_go && empty.get(&node) == Some(&self.nodes[node].disk.uid) {
                self.totals.count("volumes of removed brokers deleted");
                if self.nodes[node].disk.keeps_copies() {
                    self.violate(format!("a log that was set aside goes with the volume of broker {node}"));
                }
                let uid = self.number();
                self.nodes[node].lose_volume(uid);
                self.move_pod(node);
            }
        }
        self.desired.standing = self.desired.standing.min(stays);
    }

    /// Whether enough of a partition's volumes are there to commit: who leads it may still do so, for nothing.
    fn has_quorum(&self, key: PartitionKey) -> bool {
        let is_there = |replica| self.nodes.iter().any(|node| node.id() == replica);
        let pages = self.ledger.pages();
        let entry = pages.iter().flat_map(|page| &page.entries).find(|entry| entry.key == key);
        entry.is_some_and(|entry| entry.acknowledged_by(is_there))
    }

    /// Whether a partition went with its table before anybody had taken note of it: nothing of it is anywhere, nor was there ever a record.
    fn is_nowhere(&self, key: PartitionKey) -> bool {
        let is_named =
            || self.ledger.pages().iter().flat_map(|page| &page.entries).any(|entry| entry.key == key);
        let is_held = || self.nodes.iter().any(|node| node.disk.written.states.contains_key(&key));
        !self.observer.has_opened(key) && !is_named() && !is_held()
    }

    /// Whether a broker of this number is to run: each that is wished, or not taken away yet.
    pub(crate) fn is_to_run(&self, node: usize) -> bool {
        let is_own = node < self.nodes.len() && !self.nodes[node].is_ghost;
        self.scaling.is_none() || !is_own || node < usize::from(self.desired.present())
    }

    /// Whether all carry the same number, as far as that was ever upset.
    pub(crate) fn is_spread(&self) -> Result<(), String> {
        if self.scaling.is_none() {
            return Ok(());
        }
        // What nobody serves any more cannot be moved, and keeps its brokers until a person decides; of a topic that nobody wishes
        // none does.
        let is_stuck = |key: &PartitionKey| {
            !self.is_served(*key) && (self.leader(*key).is_none() || !self.has_quorum(*key))
        };
        if self.ruins > 0 && self.observer.keys().iter().any(is_stuck) {
            return Ok(());
        }
        let view = self.ruling_view().ok_or("nobody rules with this wish")?;
        if let Some(moving) = view.moving {
            return Err(format!("{} of {} replicas are moved", moving.done, moving.total));
        }
        if self.desired.present() > self.desired.brokers {
            return Err(format!(
                "{} brokers run, {} are wished",
                self.desired.present(),
                self.desired.brokers
            ));
        }
        let loads = || view.brokers.iter().filter(|one| one.ordinal.0 < view.wished).map(|one| one.replicas);
        // New topics alone leave brokers two apart.
        let (least, most) = (loads().min().unwrap_or_default(), loads().max().unwrap_or_default());
        if most > least + 2 {
            return Err(format!("one broker has {most} replicas, another one {least}"));
        }
        Ok(())
    }

    pub(crate) fn sets_scaling(&mut self) {
        if let Rule::Controllers = self.rule
            && self.scaling.is_some()
        {
            self.patience_until += SPREAD_MS;
            self.at(3_000, Event::Scale);
        }
    }
}
