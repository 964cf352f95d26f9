//! What goes on all day: clients publish and read.

use fulmar_core::id::PartitionKey;
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Refusal, Ticket};

use crate::clients::Attempt;
use crate::event::Event;
use crate::homeward::Homing;
use crate::world::World;

impl World {
    /// A partition exists: clients turn to it.
    pub(crate) fn meet_partition(&mut self, key: PartitionKey) {
        if self.clients.readers.iter().any(|reader| reader.key == key) {
            return;
        }
        let (producers, readers) = (self.clients.producers.len(), self.clients.readers.len());
        self.clients.join(key);
        for client in producers..self.clients.producers.len() {
            self.at(300 + client as u64, Event::Client(client));
        }
        for reader in readers..self.clients.readers.len() {
            self.at(400 + reader as u64, Event::Reader(reader));
        }
    }

    pub(crate) fn client(&mut self, client: usize) {
        // Leaders go home at leisure, and so do those who publish meanwhile.
        let again = self.random.between(5, 200) * if self.homing == Homing::UnderWay { 20 } else { 1 };
        self.at(again, Event::Client(client));
        let (now_ms, goes_on) = (self.now_ms, !self.calm || self.homing == Homing::UnderWay);
        let producer = &mut self.clients.producers[client];
        let key = producer.key;
        let Some((number, batch)) = producer.next_batch(now_ms, goes_on) else { return };
        let leads =
            |node: &crate::node::Node| node.replica(key).is_some_and(|replica| replica.leading().is_some());
        let leading: Vec<usize> =
            self.nodes.iter().filter(|node| leads(node)).map(|node| node.number).collect();
        let node = match self.random.pick(&leading).copied().filter(|_| self.random.chance(800)) {
            Some(node) => node,
            None => self.random.below(self.nodes.len() as u64) as usize,
        };
        if self.nodes[node].full_until > now_ms {
            self.totals.count("publishes refused by a full disk");
            return self.clients.producers[client].unheard(number);
        }
        let ticket = self.clients.attempt(client, number);
        let life = self.nodes[node].life;
        for delay in self.network.delays(&mut self.random).into_iter().take(1) {
            self.at(delay, Event::Produce { node, life, key, ticket, batch: batch.clone() });
        }
    }

    pub(crate) fn reader(&mut self, number: usize) {
        let again = self.random.between(5, 300) * if self.homing == Homing::UnderWay { 20 } else { 1 };
        self.at(again, Event::Reader(number));
        let node = self.random.below(self.nodes.len() as u64) as usize;
        let key = self.clients.readers[number].key;
        let this = &self.nodes[node];
        let Some(replica) = this.replica(key).filter(|_| this.frozen_until <= self.now_ms) else { return };
        let (Some(term), Some(high_watermark)) = (replica.leading(), replica.readable()) else { return };
        if self.random.chance(10) {
            // Somebody else, who begins at the beginning.
            self.clients.readers[number].begin_anew();
        }
        let losses = self.observer.losses(key);
        let reader = &mut self.clients.readers[number];
        let is_between = |loss: &fulmar_core::term::Epoch| {
            reader.term.is_some_and(|seen| seen.epoch < *loss && *loss <= term.epoch)
        };
        if losses.iter().any(is_between) {
            // What a person gave up is gone: it is told that its offset is out of range, and begins anew.
            reader.begin_anew();
        }
        // A fetch carries the highest term that the reader saw; a lower leader answers NOT_LEADER.
        if reader.term.is_some_and(|seen| term < seen) {
            return;
        }
        if high_watermark < reader.high_watermark {
            let seen = reader.high_watermark;
            return self.violate(format!(
                "reader {number} sees the high watermark fall from {seen} to {high_watermark}"
            ));
        }
        (reader.term, reader.high_watermark) = (Some(term), high_watermark);
        reader.at = reader.at.max(replica.log_start());
        self.totals.count("reads");
        let batches = match self.nodes[node].disk.read(key, reader.at, high_watermark, 4000) {
            Ok(batches) => batches,
            // It waits until the broker has a copy.
            Err(damaged) => return self.unreadable(node, key, Some(damaged)),
        };
        for batch in batches {
            if batch.base() != reader.at
                || self.observer.committed(&self.nodes[node], key, batch.base()) != Some(&batch)
            {
                let at = reader.at;
                return self
                    .violate(format!("reader {number} at {at} reads from broker {node} what others do not"));
            }
            reader.at = batch.end();
        }
    }

    pub(crate) fn publish_refused(&mut self, ticket: Ticket, refusal: &Refusal) {
        let Some(producer) = self.clients.refused(ticket, refusal) else { return };
        // Also one that began after the loss: who led before may still acknowledge, until it hears of it.
        let has_lost = !self.observer.losses(self.clients.producers[producer].key).is_empty();
        if has_lost && matches!(refusal, Refusal::OutOfSequence { .. } | Refusal::DuplicateTooOld) {
            let id = u128::from(self.number());
            self.totals.count("producers that began anew after a loss");
            self.clients.begin_anew(producer, id);
        }
    }

    pub(crate) fn acknowledge(
        &mut self,
        node: usize,
        key: PartitionKey,
        ticket: Ticket,
        base: Offset,
    ) -> Result<(), String> {
        let Some(Attempt { producer, number }) = self.clients.answered(ticket) else { return Ok(()) };
        let value = self.clients.producers[producer].value(number);
        self.totals.count("acknowledgements");
        self.observer.acknowledged(&self.nodes, &self.nodes[node], key, &self.damaged, base, value)?;
        // The answer may not arrive: then the client asks again.
        if self.random.chance(self.network.weather.loss) {
            self.clients.producers[producer].unheard(number);
        } else {
            self.clients.producers[producer].acknowledged(number);
        }
        Ok(())
    }
}
