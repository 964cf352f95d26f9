//! What goes on all day: clients publish and read, the operator has its turn.

use fulmar_core::broker::{Broker, Input};
use fulmar_core::id::ReplicaId;
use fulmar_core::offset::Offset;
use fulmar_core::partition::{self, Ticket};

use crate::clients::Attempt;
use crate::node::{Node, key};
use crate::operator::{Order, Sight};
use crate::world::{Event, World};

impl World {
    pub(crate) fn client(&mut self, client: usize) {
        let again = self.random.between(5, 150);
        self.at(again, Event::Client(client));
        let now_ms = self.now_ms;
        let producer = &mut self.clients.producers[client];
        let Some((number, batch)) = producer.next_batch(now_ms) else { return };
        let leading = self
            .nodes
            .iter()
            .position(|node| node.replica().is_some_and(|replica| replica.leading().is_some()));
        let node = match leading.filter(|_| self.random.chance(700)) {
            Some(node) => node,
            None => self.random.below(self.nodes.len() as u64) as usize,
        };
        self.clients.next_ticket += 1;
        let ticket = Ticket(self.clients.next_ticket);
        self.clients.tickets.insert(ticket, Attempt { producer: client, number });
        for delay in self.network.delays(&mut self.random).into_iter().take(1) {
            self.at(delay, Event::Produce { node, ticket, batch: batch.clone() });
        }
    }

    pub(crate) fn reader(&mut self, number: usize) {
        let again = self.random.between(5, 300);
        self.at(again, Event::Reader(number));
        let node = self.random.below(self.nodes.len() as u64) as usize;
        let Some(replica) = self.nodes[node].replica() else { return };
        let (Some(term), Some(high_watermark)) = (replica.leading(), replica.readable()) else { return };
        let reader = &mut self.clients.readers[number];
        // A fetch carries the highest term that the reader saw; a lower leader answers NOT_LEADER.
        if reader.term.is_some_and(|seen| term < seen) {
            return;
        }
        if high_watermark < reader.high_watermark {
            let seen = reader.high_watermark;
            self.violation.get_or_insert(format!(
                "reader {number} sees the high watermark fall from {seen} to {high_watermark}"
            ));
            return;
        }
        (reader.term, reader.high_watermark) = (Some(term), high_watermark);
        reader.at = reader.at.max(replica.log_start());
        self.totals.reads += 1;
        for batch in self.nodes[node].disk.read(reader.at, high_watermark, 4000) {
            let known = self.observer.committed.get(&batch.base());
            if batch.base() != reader.at || known != Some(&batch) {
                self.violation.get_or_insert(format!(
                    "reader {number} at {} reads from broker {node} what others do not",
                    reader.at
                ));
                return;
            }
            reader.at = batch.end();
        }
    }

    pub(crate) fn sight(&self) -> Sight {
        let up = self.nodes.iter().filter(|node| node.broker.is_some()).map(Node::id).collect();
        Sight { volumes: self.nodes.iter().map(Node::id).collect(), up }
    }

    pub(crate) fn operator_turn(&mut self) {
        let again = self.random.between(100, 500);
        self.at(again, Event::Operator);
        if self.now_ms < self.operator.down_until {
            return;
        }
        let sight = self.sight();
        let before = self.operator.entry.epoch;
        let orders = self.operator.act(&sight, &mut self.random, self.calm);
        if self.operator.entry.epoch != before {
            let entry = crate::story::entry(&self.operator.entry);
            self.story.line(self.now_ms, || format!("operator decides {entry}"));
        }
        for (to, order) in orders {
            for delay in self.network.delays(&mut self.random) {
                self.at(delay, Event::Order { to, order: order.clone() });
            }
        }
        self.forget_damage();
    }

    /// A lost volume matters no more once no entry in force names it.
    pub(crate) fn forget_damage(&mut self) {
        let Some(committed) = &self.operator.committed else { return };
        if *committed == self.operator.entry
            && matches!(committed.members, fulmar_core::entry::Members::One(_))
        {
            let nodes: Vec<ReplicaId> = self.nodes.iter().map(Node::id).collect();
            self.damaged.retain(|volume| committed.members.contains(*volume) || nodes.contains(volume));
        }
    }

    pub(crate) fn order(&mut self, to: ReplicaId, order: Order) {
        let Some(node) = self.number(to) else { return };
        match order {
            Order::Assign(entry) => self.input(node, Input::Assign(vec![entry])),
            Order::Release(epoch) => self.input(node, Input::Release { key: key(), epoch }),
            Order::StopAppends => self.input(node, Input::Partition(key(), partition::Input::StopAppends)),
            Order::Ask(generation) => {
                let Some(reports) = self.nodes[node].broker.as_ref().and_then(Broker::all_reports) else {
                    return;
                };
                let report = reports.into_iter().next().map(|(_, report)| report);
                for delay in self.network.delays(&mut self.random) {
                    self.at(delay, Event::Report { generation, from: to, report: report.clone() });
                }
            }
        }
    }

    pub(crate) fn acknowledge(&mut self, node: usize, ticket: Ticket, base: Offset) -> Result<(), String> {
        let Some(Attempt { producer, number }) = self.clients.tickets.remove(&ticket) else { return Ok(()) };
        let value = self.clients.producers[producer].value(number);
        self.observer.acknowledged(&self.nodes, &self.nodes[node], &self.damaged, base, value)?;
        // The answer may not arrive: then the client asks again.
        if self.random.chance(self.network.weather.loss) {
            self.clients.producers[producer].unheard(number);
        } else {
            self.clients.producers[producer].acknowledged(number);
        }
        Ok(())
    }
}
