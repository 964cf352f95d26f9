//! More is lost than the settings survive, and a person decides: what is left is better than nothing.

use fulmar_core::control::{LossWord, View};
use fulmar_core::entry::{Entry, Members};
use fulmar_core::id::PartitionKey;
use fulmar_core::term::Epoch;

use crate::event::{Event, Government};
use crate::world::World;

/// A world is ruined so often at most.
const RUINS_MAX: u64 = 2;
/// An annotation keeps so many words; nobody takes old ones away.
const WORDS_MAX: usize = 8;

impl World {
    /// Of one partition so many volumes go, or stay away, that those that are left are no open quorum, and those who come back
    /// empty suffice to acknowledge.
    pub(crate) fn ruin(&mut self) {
        // With table and volumes lost together nobody can know what there was.
        if self.is_capricious()
            || self.ledger.root().is_none()
            || self.ledger.went_back
            || self.ruins >= RUINS_MAX
            || !self.hurt().is_empty()
        {
            return;
        }
        let entries: Vec<Entry> = self.ledger.pages().into_iter().flat_map(|page| page.entries).collect();
        let Some(entry) = self.random.pick(&entries).cloned() else { return };
        let Members::One(set) = &entry.members else { return };
        let place = |replica| self.nodes.iter().find(|node| node.id() == replica && !node.is_odd());
        let nodes: Option<Vec<usize>> = set
            .replicas()
            .iter()
            .map(|one| place(*one).filter(|node| node.broker.is_some()).map(|node| node.number))
            .collect();
        // Who acknowledges alone among several goes on alone, where no loss can be accepted.
        let Some(mut nodes) = nodes.filter(|nodes| self.least_quorum > 1 || nodes.len() == 1) else { return };
        // Who is behind stays.
        nodes.sort_by_key(|node| self.nodes[*node].durable(entry.key).map(|state| state.end));
        let stay = self.random.below(set.open_quorum() as u64) as usize;
        let gone = set.ack_quorum().saturating_sub(stay);
        self.ruins += 1;
        self.totals.count("ruins");
        for (at, node) in nodes.into_iter().skip(stay).enumerate() {
            if at < gone || self.random.chance(300) {
                self.take_volume(node);
            } else {
                self.nodes[node].away_until = self.now_ms + self.random.between(15_000, 60_000);
                self.crash(node, false);
            }
        }
    }

    /// The person reads what the operator says, and thinks.
    pub(crate) fn read_view(&mut self, view: &View) {
        for (topic, shown) in &view.topics {
            let words = shown.partitions.iter().filter_map(|partition| partition.stuck.as_ref()?.word);
            for word in words.collect::<Vec<LossWord>>() {
                let wish = self.desired.topics.iter().find(|wish| wish.name == *topic);
                // A Topic that was made anew has no annotation.
                let is_said = wish.is_some_and(|wish| wish.accepted_losses.contains(&word));
                if !is_said && self.words.insert((topic.clone(), word)) {
                    let thinks = self.random.between(100, 4000);
                    let topic = topic.clone();
                    self.at(thinks, Event::Government(Government::Word { topic, word }));
                }
            }
        }
    }

    /// The annotation is written.
    pub(crate) fn say_word(&mut self, topic: &str, word: LossWord) {
        let ids: Vec<_> = self.ledger.pages().into_iter().flat_map(|page| page.topics).collect();
        for record in ids.iter().filter(|record| record.name == topic) {
            let key = PartitionKey { topic: record.id, partition: word.partition };
            self.observer.word(key, word.epoch);
        }
        self.words.remove(&(topic.to_owned(), word));
        self.story.line(self.now_ms, || format!("a person accepts a loss of {topic}, {word}"));
        self.totals.count("words given");
        if let Some(wish) = self.desired.topics.iter_mut().find(|wish| wish.name == topic) {
            wish.accepted_losses.push(word);
            if wish.accepted_losses.len() > WORDS_MAX {
                wish.accepted_losses.remove(0);
            }
        }
    }

    /// For a partition that works, or for a decision that stands no more, or not yet.
    pub(crate) fn say_false_word(&mut self) {
        let pages = self.ledger.pages();
        let entries: Vec<&Entry> = pages.iter().flat_map(|page| &page.entries).collect();
        let Some(entry) = self.random.pick(&entries).copied() else { return };
        let names = pages.iter().flat_map(|page| &page.topics);
        let Some(topic) = names.clone().find(|topic| topic.id == entry.key.topic) else { return };
        let counter = match self.random.below(3) {
            0 => entry.epoch.counter.saturating_sub(1),
            1 => entry.epoch.counter + self.random.between(1, 3),
            _ => entry.epoch.counter,
        };
        let word = LossWord { partition: entry.key.partition, epoch: Epoch { counter, ..entry.epoch } };
        let topic = topic.name.clone();
        self.totals.count("false words");
        self.say_word(&topic, word);
    }
}
