//! The world: events in the order of their time, blows, and the calm after them.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::broker::{Accepted, Conclusion, HelloRefusal, Input, conclude, conclude_from_operator};
use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{self, Effect, Message, Report, Ticket};
use fulmar_core::term::Process;

use crate::clients::{Attempt, Clients, Producer, Reader};
use crate::network::{Network, Weather};
use crate::node::{Node, key};
use crate::observer::Observer;
use crate::operator::{Operator, Order, Sight};
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
enum Event {
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
struct Swarm {
    crash: u64,
    drop_commit: u64,
    lose_volume: u64,
    restore_volume: u64,
    cut: u64,
    tenure: u64,
    restore_table: u64,
    retain: u64,
    each_ms: u64,
    sync_ms: u64,
}

pub(crate) struct World {
    random: Random,
    pub(crate) story: Story,
    now_ms: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    nodes: Vec<Node>,
    network: Network,
    operator: Operator,
    operator_knows: BTreeMap<ReplicaId, fulmar_core::term::Session>,
    clients: Clients,
    observer: Observer,
    swarm: Swarm,
    calm: bool,
    ack_quorum: u8,
    /// Volumes that lost something and are not whole again.
    damaged: BTreeSet<ReplicaId>,
    totals: Totals,
    violation: Option<String>,
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
            restore_volume: maybe(&mut random, 40),
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
        };
        world.set_going();
        world
    }

    fn set_going(&mut self) {
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

    fn at(&mut self, in_ms: u64, event: Event) {
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
    fn end(&mut self) -> Result<(), String> {
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

    fn happen(&mut self, event: Event) {
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

    fn input(&mut self, node: usize, input: Input) {
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

    fn settle(&mut self, node: usize) {
        let now = self.nodes[node].now(self.now_ms);
        let Some(broker) = self.nodes[node].broker.as_mut() else { return };
        let effects = broker.settle(now);
        self.carry_out(node, effects);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<(PartitionKey, Effect)>) {
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

    fn carry_out_one(&mut self, node: usize, effect: Effect) -> Result<(), String> {
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
                    | partition::Write::LogStart(_)
                    | partition::Write::Mark { .. } => {}
                }
                self.nodes[node].disk.write(seq, write);
                self.sync_soon(node);
            }
            Effect::Send { to, message } => self.send(node, to, message),
            Effect::Ship { to, term, from, until, bytes_max, high_watermark, log_start, fetch } => {
                let batches = self.nodes[node].disk.read(from, until, bytes_max.min(400));
                let end = batches.last().map_or(from, fulmar_core::batch::Batch::end);
                let bytes = batches.iter().map(|batch| batch.size() as u64).sum();
                let message = if fetch {
                    Message::Fetched { term, batches }
                } else {
                    Message::Append { term, from, batches, high_watermark, log_start }
                };
                self.send(node, to, message);
                let life = self.nodes[node].life;
                self.at(1, Event::Shipped { node, life, to, until: end, bytes });
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
                if is_whole && !this.disk.durable.uncertain && !this.is_restored {
                    let id = self.nodes[node].id();
                    self.damaged.remove(&id);
                }
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, node: usize, ticket: Ticket, base: Offset) -> Result<(), String> {
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

    fn sync_soon(&mut self, node: usize) {
        if !self.nodes[node].disk.sync_is_due {
            self.nodes[node].disk.sync_is_due = true;
            let life = self.nodes[node].life;
            let in_ms = self.random.between(1, self.swarm.sync_ms);
            self.at(in_ms, Event::Sync { node, life });
        }
    }

    fn sync(&mut self, node: usize) {
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

    fn number(&self, replica: ReplicaId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id() == replica)
    }

    fn send(&mut self, from: usize, to: ReplicaId, message: Message) {
        let Some(number) = self.number(to) else { return };
        let (Some(from_process), Some(to_process)) =
            (self.nodes[from].process(), self.nodes[number].process())
        else {
            return;
        };
        if !self.network.is_connected(from, number) || self.network.is_cut(from, number, self.now_ms) {
            return;
        }
        let sender = self.nodes[from].id();
        for delay in self.network.delays(&mut self.random) {
            self.at(
                delay,
                Event::Message {
                    to: number,
                    to_process,
                    from: sender,
                    from_process,
                    message: message.clone(),
                },
            );
        }
    }

    fn start(&mut self, node: usize) {
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

    fn crash(&mut self, node: usize, drops_commit: bool) {
        if self.nodes[node].broker.is_none() {
            return;
        }
        self.story.line(self.now_ms, || {
            format!("{node} crashes{}", if drops_commit { " and loses its last commit" } else { "" })
        });
        self.totals.crashes += 1;
        self.totals.dropped_commits += u64::from(drops_commit);
        self.disconnect_all(node);
        self.nodes[node].crash(&mut self.random, drops_commit);
        let back = self.random.between(10, 4000);
        self.at(back, Event::Start { node });
    }

    fn disconnect_all(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            self.disconnect(node, other);
        }
    }

    fn disconnect(&mut self, a: usize, b: usize) {
        if a == b || !self.network.disconnect(a, b) {
            return;
        }
        for (node, peer) in [(a, b), (b, a)] {
            if let Some(process) = self.nodes[peer].process() {
                let (life, peer) = (self.nodes[node].life, self.nodes[peer].id());
                let notice = self.random.between(0, 300);
                self.at(notice, Event::PeerDown { node, life, peer, process });
            }
        }
    }

    /// Brokers dial each other; both judge the other's hello. The operator does the like.
    fn connect(&mut self) {
        for a in 0..self.nodes.len() {
            for b in a + 1..self.nodes.len() {
                // Peers that restarted since have forgotten whom they saw; the operator has not. So it is asked first.
                let is_restored = self.nodes[a].is_restored || self.nodes[b].is_restored;
                let both = self.nodes[a].broker.is_some() && self.nodes[b].broker.is_some() && !is_restored;
                if both && !self.network.is_connected(a, b) && !self.network.is_cut(a, b, self.now_ms) {
                    self.shake_hands(a, b);
                }
            }
            self.meet_operator(a);
        }
    }

    fn shake_hands(&mut self, a: usize, b: usize) {
        let mut accepted: Vec<(usize, Accepted)> = Vec::new();
        for (here, there) in [(a, b), (b, a)] {
            let to = self.nodes[here].ordinal();
            let Some(hello) = self.nodes[there].broker.as_ref().map(|broker| broker.identity().hello(to))
            else {
                return;
            };
            let Some(broker) = self.nodes[here].broker.as_mut() else { return };
            match broker.hear(&hello) {
                Ok(one) => accepted.push((here, one)),
                Err(HelloRefusal::UnknownProcess { seen }) => {
                    return self.refused(there, conclude(seen, &self.nodes[there].disk.processes));
                }
                Err(other) => {
                    self.violation.get_or_insert(format!("{here} refuses {there}: {other}"));
                    return;
                }
            }
        }
        self.network.connect(a, b);
        for (here, one) in accepted {
            self.input(here, Input::PeerUp(one));
        }
    }

    fn refused(&mut self, node: usize, conclusion: Conclusion) {
        self.story.line(self.now_ms, || format!("{node} is refused and concludes {conclusion:?}"));
        self.disconnect_all(node);
        match conclusion {
            Conclusion::SecondProcess => self.nodes[node].crash(&mut self.random, false),
            Conclusion::Restored => self.nodes[node].lose_volume(),
        }
        self.at(100, Event::Start { node });
    }

    fn meet_operator(&mut self, node: usize) {
        if self.now_ms < self.operator.down_until || self.random.chance(500) {
            return;
        }
        let this = &self.nodes[node];
        let (Some(broker), id) = (&this.broker, this.id()) else { return };
        let session = broker.identity().process().session;
        let remembered = self.operator_knows.get(&id).copied().unwrap_or_default();
        let conclusion =
            conclude_from_operator(broker.identity(), (id.incarnation, remembered), &this.disk.processes);
        // A restored volume has another uid, which the operator remembers too: sessions alone may come out equal.
        let conclusion = conclusion.or(this.is_restored.then_some(Conclusion::Restored));
        if let Some(conclusion) = conclusion {
            return self.refused(node, conclusion);
        }
        self.operator_knows.insert(id, session);
        if remembered < session {
            self.input(node, Input::OperatorUp);
        }
    }

    fn client(&mut self, client: usize) {
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

    fn reader(&mut self, number: usize) {
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

    fn sight(&self) -> Sight {
        let up = self.nodes.iter().filter(|node| node.broker.is_some()).map(Node::id).collect();
        Sight { volumes: self.nodes.iter().map(Node::id).collect(), up }
    }

    fn operator_turn(&mut self) {
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
    fn forget_damage(&mut self) {
        let Some(committed) = &self.operator.committed else { return };
        if *committed == self.operator.entry
            && matches!(committed.members, fulmar_core::entry::Members::One(_))
        {
            let nodes: Vec<ReplicaId> = self.nodes.iter().map(Node::id).collect();
            self.damaged.retain(|volume| committed.members.contains(*volume) || nodes.contains(volume));
        }
    }

    fn order(&mut self, to: ReplicaId, order: Order) {
        let Some(node) = self.number(to) else { return };
        match order {
            Order::Assign(entry) => self.input(node, Input::Assign(vec![entry])),
            Order::Release(epoch) => self.input(node, Input::Release { key: key(), epoch }),
            Order::StopAppends => self.input(node, Input::Partition(key(), partition::Input::StopAppends)),
            Order::Ask(generation) => {
                let Some(reports) = self.nodes[node].broker.as_ref().and_then(|broker| broker.all_reports())
                else {
                    return;
                };
                let report = reports.into_iter().next().map(|(_, report)| report);
                for delay in self.network.delays(&mut self.random) {
                    self.at(delay, Event::Report { generation, from: to, report: report.clone() });
                }
            }
        }
    }

    /// Whether the world may damage one more volume: with Qa copies, Qa − 1 may be hurt at a time.
    fn may_damage(&self, node: usize) -> bool {
        let id = self.nodes[node].id();
        let concerned = self.operator.entry.concerns(id) || self.nodes[node].disk.durable.exists;
        let others = self.damaged.iter().filter(|one| **one != id).count();
        !concerned || others + 1 < usize::from(self.ack_quorum)
    }

    fn blow(&mut self) {
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

    fn lose_volume(&mut self, node: usize) {
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
    fn restore_volume(&mut self, node: usize) {
        let Some(copy) =
            self.nodes[node].copy.take().filter(|copy| copy.incarnation == self.nodes[node].disk.incarnation)
        else {
            return;
        };
        self.story.line(self.now_ms, || format!("{node} is restored from a copy of its volume"));
        self.totals.restored_volumes += 1;
        self.damaged.insert(self.nodes[node].id());
        self.disconnect_all(node);
        self.nodes[node].broker = None;
        self.nodes[node].disk = copy;
        self.nodes[node].is_restored = true;
        self.nodes[node].disk.crash(&mut self.random, false);
        self.at(500, Event::Start { node });
    }

    fn come_to_rest(&mut self) {
        self.story.line(self.now_ms, || "calm".to_owned());
        self.calm = true;
        self.network.heal();
        self.operator.down_until = 0;
        for node in 0..self.nodes.len() {
            self.at(1, Event::Start { node });
        }
    }
}
