//! The world: events in the order of their time, blows, and the calm after them.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::broker::Input;
use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{self, Effect, Message, Report, Ticket};
use fulmar_core::term::Process;

use crate::clients::{Attempt, Clients, Producer, Reader};
use crate::network::{Network, Weather};
use crate::node::{Node, key};
use crate::observer::Observer;
use crate::operator::{Operator, Order};
use crate::random::Random;
use crate::story::Story;

/// The world is struck for so long …
const STORM_MS: u64 = 20_000;
/// … then it has so long to come to rest: everything must work again by then.
const CALM_MS: u64 = 40_000;

/// What many worlds amounted to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) events: u64,
    pub(crate) acknowledged: u64,
    pub(crate) opened: u64,
    pub(crate) crashes: u64,
    pub(crate) dropped_commits: u64,
    pub(crate) lost_volumes: u64,
    pub(crate) restored_volumes: u64,
    pub(crate) tenures: u64,
    pub(crate) reads: u64,
    pub(crate) resets: u64,
    pub(crate) cuts: u64,
    pub(crate) releases: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, one: &Self) {
        self.events += one.events;
        self.acknowledged += one.acknowledged;
        self.opened += one.opened;
        self.crashes += one.crashes;
        self.dropped_commits += one.dropped_commits;
        self.lost_volumes += one.lost_volumes;
        self.restored_volumes += one.restored_volumes;
        self.tenures += one.tenures;
        self.reads += one.reads;
        self.resets += one.resets;
        self.cuts += one.cuts;
        self.releases += one.releases;
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    Message { to: usize, to_process: Process, from: ReplicaId, from_process: Process, message: Message },
    PeerDown { node: usize, life: u64, peer: ReplicaId, process: Process },
    Sync { node: usize, life: u64 },
    Tick { node: usize, life: u64 },
    Shipped { node: usize, life: u64, to: ReplicaId, until: Offset, bytes: u64 },
    Start { node: usize },
    Connect,
    Produce { node: usize, ticket: Ticket, batch: fulmar_core::batch::ProducedBatch },
    Client(usize),
    Reader(usize),
    Operator,
    Order { to: ReplicaId, order: Order },
    Report { generation: u64, from: ReplicaId, report: Option<Report> },
    Blow,
    Calm,
}

/// How often which blow falls: each world has its own mix, and some it does not know at all.
#[derive(Debug, Default)]
pub(crate) struct Swarm {
    pub(crate) crash: u64,
    pub(crate) drop_commit: u64,
    pub(crate) lose_volume: u64,
    pub(crate) restore_volume: u64,
    pub(crate) cut: u64,
    pub(crate) tenure: u64,
    pub(crate) restore_table: u64,
    pub(crate) retain: u64,
    pub(crate) each_ms: u64,
    pub(crate) sync_ms: u64,
}

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) story: Story,
    pub(crate) now_ms: u64,
    pub(crate) sequence: u64,
    pub(crate) events: BTreeMap<(u64, u64), Event>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) operator: Operator,
    pub(crate) operator_knows: BTreeMap<ReplicaId, fulmar_core::term::Session>,
    pub(crate) clients: Clients,
    pub(crate) observer: Observer,
    pub(crate) swarm: Swarm,
    pub(crate) calm: bool,
    pub(crate) ack_quorum: u8,
    /// Volumes that lost something and are not whole again.
    pub(crate) damaged: BTreeSet<ReplicaId>,
    pub(crate) totals: Totals,
    pub(crate) violation: Option<String>,
    /// Which process of a broker has met which session of another one.
    pub(crate) met: BTreeSet<(usize, u64, usize, u64)>,
}

impl World {
    pub(crate) fn new(seed: u64, told: bool) -> Self {
        let mut random = Random::new(seed);
        let (members, ack_quorum) = *random
            .pick(&[(3, 2), (3, 2), (3, 2), (2, 2), (3, 3), (5, 3), (2, 1), (1, 1)])
            .expect("there are some");
        let count = members + random.between(0, 2) as usize;
        let nodes: Vec<Node> = (0..count).map(|number| Node::new(number, &mut random)).collect();
        let operator = Operator::new(nodes[..members].iter().map(Node::id).collect(), ack_quorum);
        let maybe =
            |random: &mut Random, most: u64| if random.chance(500) { random.between(1, most) } else { 0 };
        let weather = Weather {
            loss: maybe(&mut random, 100),
            duplication: maybe(&mut random, 100),
            late: maybe(&mut random, 100),
            late_ms: random.between(10, 6000),
            delay_ms: random.between(1, 40),
        };
        let swarm = Swarm {
            crash: maybe(&mut random, 200),
            drop_commit: maybe(&mut random, 900),
            lose_volume: maybe(&mut random, 40),
            restore_volume: maybe(&mut random, 150),
            cut: maybe(&mut random, 100),
            tenure: maybe(&mut random, 60),
            restore_table: maybe(&mut random, 30),
            retain: maybe(&mut random, 200),
            each_ms: random.between(50, 800),
            sync_ms: random.between(1, 60),
        };
        let producers = (0..3).map(|number| Producer::new(100 + number, number > 0)).collect();
        let readers = (0..2).map(|_| Reader::default()).collect();
        let mut world = Self {
            random,
            story: Story::new(told),
            now_ms: 0,
            sequence: 0,
            events: BTreeMap::new(),
            nodes,
            network: Network { weather, ..Network::default() },
            operator,
            operator_knows: BTreeMap::new(),
            clients: Clients { producers, readers, ..Clients::default() },
            observer: Observer::default(),
            swarm,
            calm: false,
            ack_quorum,
            damaged: BTreeSet::new(),
            totals: Totals { tenures: 1, ..Totals::default() },
            violation: None,
            met: BTreeSet::new(),
        };
        world.set_going();
        world
    }

    pub(crate) fn set_going(&mut self) {
        for node in 0..self.nodes.len() {
            self.at(node as u64, Event::Start { node });
        }
        for client in 0..self.clients.producers.len() {
            self.at(300 + client as u64, Event::Client(client));
        }
        for reader in 0..self.clients.readers.len() {
            self.at(400 + reader as u64, Event::Reader(reader));
        }
        self.at(50, Event::Operator);
        self.at(20, Event::Connect);
        self.at(1000, Event::Blow);
        self.at(STORM_MS, Event::Calm);
    }

    pub(crate) fn at(&mut self, in_ms: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now_ms + in_ms, self.sequence), event);
    }

    /// Until the end of the world, or the first violation.
    pub(crate) fn run(&mut self) -> Result<Totals, String> {
        while let Some(((time, _), event)) = self.events.pop_first() {
            if time > STORM_MS + CALM_MS {
                break;
            }
            self.now_ms = time;
            self.totals.events += 1;
            self.happen(event);
            if let Some(violation) = self.violation.take() {
                return Err(format!("at {} ms: {violation}", self.now_ms));
            }
        }
        self.end()?;
        self.totals.opened = self.observer.opened();
        self.totals.acknowledged = self.observer.acknowledged.len() as u64;
        Ok(std::mem::take(&mut self.totals))
    }

    /// After the calm somebody must lead, and hold everything.
    pub(crate) fn end(&mut self) -> Result<(), String> {
        let leader = self.nodes.iter().find(|node| {
            node.replica().is_some_and(|replica| {
                replica.readable().is_some()
                    && replica.leading().is_some_and(|term| term.epoch == self.operator.entry.epoch)
            })
        });
        let Some(leader) = leader else {
            return Err(format!("nobody leads after the calm; the table says {}", self.operator.entry));
        };
        let last = self.observer.acknowledged.last_key_value().map(|(base, _)| *base);
        self.observer.final_check(leader)?;
        let late = self.now_ms.saturating_sub(5000);
        let replica = leader.replica().expect("it leads");
        if replica.high_watermark() < replica.log_end()
            && replica.log_end() > last.unwrap_or_default().plus(100)
        {
            return Err(format!("nothing was committed since long before {late} ms"));
        }
        Ok(())
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Message { to, to_process, from, from_process, message } => {
                if self.nodes[to].process() == Some(to_process) {
                    self.input(to, Input::Message { from, process: from_process, key: key(), message });
                }
            }
            Event::PeerDown { node, life, peer, process } if self.nodes[node].life == life => {
                self.input(node, Input::PeerDown { peer, process });
            }
            Event::Sync { node, life } if self.nodes[node].life == life => self.sync(node),
            Event::Tick { node, life }
                if self.nodes[node].life == life && self.nodes[node].broker.is_some() =>
            {
                self.input(node, Input::Tick);
                self.settle(node);
                self.at(100, Event::Tick { node, life });
            }
            Event::Shipped { node, life, to, until, bytes } if self.nodes[node].life == life => {
                self.input(node, Input::Partition(key(), partition::Input::Shipped { to, until, bytes }));
            }
            Event::Start { node } => self.start(node),
            Event::Connect => {
                self.connect();
                let again = self.random.between(20, 120);
                self.at(again, Event::Connect);
            }
            Event::Produce { node, ticket, batch } => {
                self.input(node, Input::Partition(key(), partition::Input::Produce { ticket, batch }));
            }
            Event::Client(client) => self.client(client),
            Event::Reader(reader) => self.reader(reader),
            Event::Operator => self.operator_turn(),
            Event::Order { to, order } => self.order(to, order),
            Event::Report { generation, from, report } => {
                if self.now_ms >= self.operator.down_until {
                    self.operator.reported(generation, from, report);
                }
            }
            Event::Blow => self.blow(),
            Event::Calm => self.come_to_rest(),
            Event::PeerDown { .. } | Event::Sync { .. } | Event::Tick { .. } | Event::Shipped { .. } => {}
        }
    }

    pub(crate) fn input(&mut self, node: usize, input: Input) {
        let now_ms = self.now_ms;
        let now = self.nodes[node].now(now_ms);
        let Some(broker) = self.nodes[node].broker.as_mut() else { return };
        if let Some(line) = self.story.is_told().then(|| crate::story::input(&input)).flatten() {
            self.story.line(now_ms, || format!("{node} <- {line}"));
        }
        let effects = broker.step(now, input);
        self.carry_out(node, effects);
        if self.random.chance(600) {
            self.settle(node);
        }
    }

    pub(crate) fn settle(&mut self, node: usize) {
        let now = self.nodes[node].now(self.now_ms);
        let Some(broker) = self.nodes[node].broker.as_mut() else { return };
        let effects = broker.settle(now);
        self.carry_out(node, effects);
    }

    pub(crate) fn carry_out(&mut self, node: usize, effects: Vec<(PartitionKey, Effect)>) {
        for (_, effect) in effects {
            if let Err(violation) = self.carry_out_one(node, effect) {
                self.violation.get_or_insert(violation);
            }
        }
        let this = &self.nodes[node];
        let Some(replica) = this.replica() else { return };
        if let Some(reason) = replica.halted() {
            self.violation.get_or_insert(format!("broker {node} halted: {reason}"));
        }
        if let Err(violation) = self.observer.leads(this, replica) {
            self.violation.get_or_insert(violation);
        }
    }

    pub(crate) fn carry_out_one(&mut self, node: usize, effect: Effect) -> Result<(), String> {
        if let Some(line) = self.story.is_told().then(|| crate::story::effect(&effect)).flatten() {
            self.story.line(self.now_ms, || format!("{node} -> {line}"));
        }
        match effect {
            Effect::Write(seq, write) => {
                match &write {
                    partition::Write::Append(batch) => self.observer.written(&self.nodes[node], batch)?,
                    partition::Write::Cut { .. } => self.totals.cuts += 1,
                    partition::Write::Reset { .. } => self.totals.resets += 1,
                    partition::Write::Release => self.totals.releases += 1,
                    partition::Write::Promise(_)
                    | partition::Write::Mend(_)
                    | partition::Write::LogStart(_)
                    | partition::Write::Mark { .. } => {}
                }
                self.nodes[node].disk.write(seq, write);
                self.sync_soon(node);
            }
            Effect::Send { to, message } => self.send(node, to, &message),
            Effect::Ship { to, term, from, until, bytes_max, high_watermark, log_start, fetch } => {
                let batches = self.nodes[node].disk.read(from, until, bytes_max.min(400));
                let end = batches.last().map_or(from, fulmar_core::batch::Batch::end);
                let bytes = batches.iter().map(|batch| batch.size() as u64).sum();
                let message = if fetch {
                    Message::Fetched { term, batches }
                } else {
                    Message::Append { term, from, batches, high_watermark, log_start }
                };
                self.send(node, to, &message);
                let life = self.nodes[node].life;
                self.at(1, Event::Shipped { node, life, to, until: end, bytes });
            }
            Effect::Refetch { to, term, offset, until, bytes_max } => {
                let batches = self.nodes[node].disk.read(offset, until, bytes_max.min(400));
                self.send(node, to, &Message::Refetched { term, offset, batches });
            }
            Effect::Acknowledge { ticket, base } => self.acknowledge(node, ticket, base)?,
            Effect::Refuse { ticket, refusal } => {
                if let Some(Attempt { producer, number }) = self.clients.tickets.remove(&ticket) {
                    self.clients.producers[producer].refused(number, &refusal);
                }
            }
            Effect::HighWatermark(offset) => {
                self.nodes[node].disk.high_watermark(offset);
                self.observer.believes_committed(&self.nodes[node], offset)?;
            }
            Effect::Changed => {
                let is_whole = self.nodes[node]
                    .replica()
                    .is_some_and(|replica| replica.report().is_some_and(|report| !report.uncertain));
                let this = &self.nodes[node];
                if is_whole && !this.disk.durable.uncertain && this.restored_after.is_none() {
                    let id = self.nodes[node].id();
                    self.damaged.remove(&id);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn sync_soon(&mut self, node: usize) {
        if !self.nodes[node].disk.sync_is_due {
            self.nodes[node].disk.sync_is_due = true;
            let life = self.nodes[node].life;
            let in_ms = self.random.between(1, self.swarm.sync_ms);
            self.at(in_ms, Event::Sync { node, life });
        }
    }

    pub(crate) fn sync(&mut self, node: usize) {
        if self.nodes[node].broker.is_none() {
            return;
        }
        self.nodes[node].disk.sync_is_due = false;
        let seq = self.nodes[node].disk.sync(&mut self.random);
        if self.nodes[node].disk.is_dirty() {
            self.sync_soon(node);
        }
        if let Some(seq) = seq {
            self.input(node, Input::Partition(key(), partition::Input::Durable(seq)));
        }
    }

    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].broker.is_some() {
            return;
        }
        self.nodes[node].start(self.now_ms, &mut self.random);
        let life = self.nodes[node].life;
        self.story.line(self.now_ms, || format!("{node} starts, life {life}"));
        self.at(1, Event::Tick { node, life });
        if self.nodes[node].disk.durable.exists {
            let high_watermark = self.nodes[node].disk.durable.high_watermark;
            if let Err(violation) = self.observer.believes_committed(&self.nodes[node], high_watermark) {
                self.violation.get_or_insert(format!("on disk: {violation}"));
            }
        }
    }
}
