//! The world: events in the order of their time, blows, and the calm after them.

use std::collections::{BTreeMap, BTreeSet};

use fulmar_core::broker::Input;
use fulmar_core::control::{Desired, LossWord, TopicWish};
use fulmar_core::id::{PartitionKey, ReplicaId, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{self, Effect, Message, Write};

use crate::capricious::Capricious;
use crate::clients::Clients;
use crate::event::{Event, Government};
use crate::homeward::Homing;
use crate::ledger::Ledger;
use crate::network::{Network, Weather};
use crate::node::{CLUSTER, Node};
use crate::observer::Observer;
use crate::operators::Operator;
use crate::random::Random;
use crate::scaling::Scaling;
use crate::story::Story;
use crate::streams::Stream;
use crate::swarm::Swarm;
use crate::totals::Totals;

/// After the storm everything must work again within so long.
pub(crate) const CALM_MS: u64 = 90_000;

/// Who decides.
pub(crate) enum Rule {
    /// `core::control`, two operators of it.
    Controllers,
    /// Decisions at random, by the rules of the table: what the controller may decide one day and does not today, such as
    /// moving replicas between brokers that live.
    Capricious(BTreeMap<PartitionKey, Capricious>),
}

/// What a world begins with.
pub(crate) struct Shape {
    pub(crate) brokers: usize,
    /// Brokers that join later.
    pub(crate) spare: usize,
    pub(crate) desired: Desired,
    /// The smallest ackQuorum of all: one less volumes may be hurt at a time.
    pub(crate) least_quorum: u8,
    pub(crate) rule: Rule,
    pub(crate) weather: Weather,
    pub(crate) swarm: Swarm,
    pub(crate) storm_ms: u64,
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) random: Random,
    pub(crate) story: Story,
    pub(crate) now_ms: u64,
    sequence: u64,
    pub(crate) events: BTreeMap<(u64, u64), Event>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) rule: Rule,
    pub(crate) operators: Vec<Operator>,
    pub(crate) streams: BTreeMap<u64, Stream>,
    pub(crate) ledger: Ledger,
    pub(crate) desired: Desired,
    /// What the capricious operator remembers of brokers' sessions.
    pub(crate) sessions: BTreeMap<ReplicaId, fulmar_core::term::Session>,
    /// No operator turns up before that.
    pub(crate) ungoverned_until: u64,
    /// The operator dies after so many more of the controller's effects.
    pub(crate) operator_dies_in: Option<u64>,
    pub(crate) clients: Clients,
    pub(crate) observer: Observer,
    pub(crate) swarm: Swarm,
    pub(crate) calm: bool,
    pub(crate) least_quorum: u8,
    /// Volumes that lost something, with the partitions that are not whole again.
    pub(crate) damaged: BTreeMap<ReplicaId, BTreeSet<PartitionKey>>,
    pub(crate) totals: Totals,
    pub(crate) violation: Option<String>,
    /// Which process a broker talks to when it means this replica.
    pub(crate) partners: BTreeMap<(usize, ReplicaId), usize>,
    /// Blows so far, and which of them do not fall.
    pub(crate) blows: u64,
    pub(crate) spared: BTreeSet<u64>,
    /// So often more was lost than the settings allow.
    pub(crate) ruins: u64,
    /// Words that the person is about to give.
    pub(crate) words: BTreeSet<(String, LossWord)>,
    numbers: u64,
    storm_ms: u64,
    /// Whether it waits, when all is well, for leaders to go home.
    pub(crate) homing: Homing,
    /// Whether the number of brokers changes.
    pub(crate) scaling: Option<Scaling>,
    /// What is awaited has to have come by then.
    pub(crate) patience_until: u64,
    at_rest: bool,
}

fn wish(name: &str, partitions: u32, replicas: u8, quorum: u8) -> TopicWish {
    TopicWish {
        name: name.to_owned(),
        partitions,
        replication_factor: Some(replicas),
        ack_quorum: Some(quorum),
        max_message_bytes: 1 << 20,
        retention_ms: None,
        retention_bytes: None,
        accepted_losses: Vec::new(),
    }
}

impl Shape {
    fn draw(random: &mut Random) -> Self {
        let (replicas, quorum) = *random
            .pick(&[(3, 2), (3, 2), (3, 2), (2, 2), (3, 3), (5, 3), (2, 1), (1, 1)])
            .expect("there are some");
        let brokers = usize::from(replicas) + random.between(0, 2) as usize;
        let maybe =
            |random: &mut Random, most: u64| if random.chance(500) { random.between(1, most) } else { 0 };
        let weather = Weather {
            loss: maybe(random, 100),
            duplication: maybe(random, 100),
            late: maybe(random, 100),
            late_ms: random.between(10, 6000),
            delay_ms: random.between(1, 40),
        };
        let partitions = random.between(1, 2) as u32;
        let mut topics = vec![wish("orders", partitions, replicas, quorum)];
        if random.chance(300) {
            topics.push(wish("payments", 1, replicas, quorum));
        }
        let swarm = Swarm::draw(random);
        Self {
            brokers,
            spare: random.between(0, 1) as usize,
            desired: Desired { brokers: brokers as u16, topics, ..Desired::default() },
            least_quorum: quorum,
            rule: Rule::Controllers,
            weather,
            storm_ms: random.between(6_000, 25_000) + swarm.ruin_ms,
            swarm,
        }
    }

    /// A world in which nothing happens that a test does not want.
    pub(crate) fn quiet(brokers: usize, replicas: u8, quorum: u8) -> Self {
        Self {
            brokers,
            spare: 0,
            desired: Desired {
                brokers: brokers as u16,
                topics: vec![wish("orders", 1, replicas, quorum)],
                ..Desired::default()
            },
            least_quorum: quorum,
            rule: Rule::Controllers,
            weather: Weather { delay_ms: 3, ..Weather::default() },
            swarm: Swarm { sync_ms: 3, each_ms: 1000, ..Swarm::default() },
            storm_ms: u64::MAX / 4,
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64, told: bool) -> Self {
        let mut random = Random::new(seed);
        let mut shape = Shape::draw(&mut random);
        let capricious = random.chance(350);
        let mut world = Self::shaped(seed, random, &mut shape, told);
        if capricious {
            world.storm_ms -= world.swarm.ruin_ms;
            world.rule_capriciously(&shape.desired.topics);
        } else {
            world.homing = Homing::draw(seed);
            world.scaling = Scaling::draw(seed);
        }
        world.set_going();
        world
    }

    pub(crate) fn shaped(seed: u64, mut random: Random, shape: &mut Shape, told: bool) -> Self {
        let count = shape.brokers + shape.spare;
        let nodes: Vec<Node> = (0..count).map(|number| Node::new(number, &mut random)).collect();
        let operators = (0..2).map(|_| Operator::new(&mut random)).collect();
        Self {
            seed,
            random,
            story: Story::new(told),
            now_ms: 0,
            sequence: 0,
            events: BTreeMap::new(),
            nodes,
            network: Network { weather: shape.weather.clone(), ..Network::default() },
            rule: std::mem::replace(&mut shape.rule, Rule::Controllers),
            operators,
            streams: BTreeMap::new(),
            ledger: Ledger::default(),
            desired: shape.desired.clone(),
            sessions: BTreeMap::new(),
            ungoverned_until: 0,
            operator_dies_in: None,
            clients: Clients::default(),
            observer: Observer::default(),
            swarm: shape.swarm.clone(),
            calm: false,
            least_quorum: shape.least_quorum,
            damaged: BTreeMap::new(),
            totals: Totals::default(),
            violation: None,
            partners: BTreeMap::new(),
            blows: 0,
            spared: BTreeSet::new(),
            ruins: 0,
            words: BTreeSet::new(),
            numbers: 1000,
            storm_ms: shape.storm_ms,
            homing: Homing::Never,
            scaling: None,
            patience_until: u64::MAX,
            at_rest: false,
        }
    }

    /// Partitions exist from the beginning, and decisions fall at random.
    fn rule_capriciously(&mut self, topics: &[TopicWish]) {
        let mut capricious = BTreeMap::new();
        for (topic, wish) in topics.iter().enumerate() {
            let members = usize::from(wish.replication_factor.unwrap_or(1));
            for partition in 0..wish.partitions {
                let key = PartitionKey { topic: TopicId(0x7001 + topic as u128), partition };
                let replicas = self.nodes[..members].iter().map(Node::id).collect();
                let one = Capricious::new(key, replicas, wish.ack_quorum.unwrap_or(1));
                self.observer.decided(one.entry(), &mut self.totals).expect("it is the first");
                capricious.insert(key, one);
            }
        }
        let keys: Vec<PartitionKey> = capricious.keys().copied().collect();
        self.rule = Rule::Capricious(capricious);
        for key in keys {
            self.meet_partition(key);
        }
    }

    pub(crate) fn set_going(&mut self) {
        let joins_later = self.nodes.len() - usize::from(self.desired.brokers).min(self.nodes.len());
        let at_once = match self.rule {
            Rule::Controllers => self.nodes.len() - joins_later,
            Rule::Capricious(_) => self.nodes.len(),
        };
        for node in 0..at_once {
            self.at(node as u64, Event::Start { node });
        }
        match self.rule {
            Rule::Controllers => self.at(10, Event::Government(Government::Lease)),
            Rule::Capricious(_) => self.at(50, Event::Government(Government::Capricious)),
        }
        self.at(20, Event::Connect);
        self.at(3000, Event::Blow);
        self.at(self.storm_ms, Event::Calm);
        self.patience_until = self.storm_ms + CALM_MS;
        self.sets_scaling();
    }

    /// A number that was never given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn at(&mut self, in_ms: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((self.now_ms + in_ms, self.sequence), event);
    }

    pub(crate) fn at_time(&mut self, time_ms: u64, event: Event) {
        self.at(time_ms.saturating_sub(self.now_ms), event);
    }

    /// Until the end of the world, or the first violation.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        while !self.at_rest {
            if self.now_ms > self.patience_until {
                return Err(self.why_no_rest());
            }
            self.next()?;
        }
        self.observer.count(&mut self.totals);
        Ok(())
    }

    /// The world goes on for so long.
    pub(crate) fn pass(&mut self, ms: u64) -> Result<(), String> {
        let until = self.now_ms + ms;
        while self.events.first_key_value().is_some_and(|((time, _), _)| *time <= until) {
            self.next()?;
        }
        self.now_ms = until;
        Ok(())
    }

    fn next(&mut self) -> Result<(), String> {
        let Some(((time, sequence), event)) = self.events.pop_first() else {
            return Err("nothing is going to happen any more".to_owned());
        };
        self.now_ms = time;
        if let Some(until) = self.waits(&event) {
            self.events.insert((until, sequence), event);
            return Ok(());
        }
        self.totals.count("events");
        self.happen(event);
        match self.violation.take() {
            Some(violation) => Err(format!("at {} ms: {violation}", self.now_ms)),
            None => Ok(()),
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Message { to, life, from, process, key, message } => {
                if self.nodes[to].life == life {
                    if matches!(message, Message::Promised { certain: false, .. }) {
                        self.totals.count("uncertain answers");
                    }
                    self.input(to, Input::Message { from, process, key, message });
                }
            }
            Event::PeerDown { node, life, peer, process } if self.nodes[node].life == life => {
                self.input(node, Input::PeerDown { peer, process });
            }
            Event::Sync { node, life } if self.nodes[node].life == life => self.sync(node),
            Event::Tick { node, life } if self.nodes[node].life == life => self.tick(node),
            Event::Shipped { node, life, key, to, until, bytes } if self.nodes[node].life == life => {
                self.input(node, Input::Partition(key, partition::Input::Shipped { to, until, bytes }));
            }
            Event::Unreadable { node, life, key, offset } => {
                if self.nodes[node].life == life {
                    self.input(node, Input::Partition(key, partition::Input::Unreadable(offset)));
                }
            }
            Event::Start { node } => self.start(node),
            Event::OwnVolume { node } => self.bring_back_volume(node),
            Event::Stopped { node, life } if self.nodes[node].life == life => self.crash(node, false),
            Event::Connect => {
                self.connect();
                let again = self.random.between(20, 120);
                self.at(again, Event::Connect);
            }
            Event::Produce { node, life, key, ticket, batch } => {
                if self.nodes[node].life == life && self.nodes[node].broker.is_some() {
                    self.input(node, Input::Partition(key, partition::Input::Produce { ticket, batch }));
                }
            }
            Event::Client(client) => self.client(client),
            Event::Reader(reader) => self.reader(reader),
            Event::Government(government) => self.govern(government),
            Event::Blow => self.blow(),
            Event::Scale => self.scale(),
            Event::Calm => self.come_to_rest(),
            Event::Rest => self.look_for_rest(),
            Event::PeerDown { .. }
            | Event::Sync { .. }
            | Event::Tick { .. }
            | Event::Shipped { .. }
            | Event::Stopped { .. } => {}
        }
    }

    fn look_for_rest(&mut self) {
        if self.homing == Homing::UnderWay {
            self.go_home();
        } else if self.rests().is_ok() {
            if let Err(violation) = self.final_check() {
                self.violate(violation);
            }
            self.at_rest = !self.sets_out_for_home();
        }
        self.at(500, Event::Rest);
    }

    pub(crate) fn violate(&mut self, violation: String) {
        self.violation.get_or_insert(violation);
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
        self.report(node);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<(PartitionKey, Effect)>) {
        let mut keys = BTreeSet::new();
        for (key, effect) in effects {
            keys.insert(key);
            if let Err(violation) = self.carry_out_one(node, key, effect) {
                self.violate(violation);
            }
        }
        for key in keys {
            let this = &self.nodes[node];
            let Some(replica) = this.replica(key) else { continue };
            let halted = replica.halted().map(|reason| format!("broker {node} halted: {reason}"));
            let leads = self.observer.leads(this, replica, &mut self.totals).err();
            if let Some(violation) = halted.or(leads) {
                self.violate(violation);
            }
        }
    }

    fn carry_out_one(&mut self, node: usize, key: PartitionKey, effect: Effect) -> Result<(), String> {
        if let Some(line) = self.story.is_told().then(|| crate::story::effect(&effect)).flatten() {
            self.story.line(self.now_ms, || format!("{node} -> {line}"));
        }
        match effect {
            Effect::Write(seq, write) => {
                self.count_write(&write);
                if let Write::Append(batch) = &write {
                    self.observer.written(&self.nodes[node], key, batch)?;
                }
                if let Write::LogStart(start) = &write {
                    self.observer.lets_go(&self.nodes[node], key, *start)?;
                }
                let entry =
                    self.nodes[node].replica(key).and_then(|replica| replica.promise().entry.as_ref());
                if write == Write::Release && entry.is_some_and(fulmar_core::entry::Entry::is_deletion) {
                    self.observer.released(key, &mut self.totals);
                }
                self.nodes[node].disk.write(key, seq, write);
                self.sync_soon(node);
            }
            Effect::Send { to, message } => self.send(node, to, key, &message),
            Effect::Ship { .. } => self.ship(node, key, &effect),
            Effect::Refetch { to, term, offset, until, bytes_max } => {
                let read = self.nodes[node].disk.read(key, offset, until, bytes_max.min(400));
                let batches = read.clone().unwrap_or_default();
                self.totals.count("copies asked for in the place of damaged batches");
                self.send(node, to, key, &Message::Refetched { term, offset, batches });
                self.unreadable(node, key, read.err());
            }
            Effect::Acknowledge { ticket, base } => self.acknowledge(node, key, ticket, base)?,
            Effect::Refuse { ticket, refusal } => self.publish_refused(ticket, &refusal),
            Effect::HighWatermark(offset) => {
                self.nodes[node].disk.high_watermark(key, offset);
                self.observer.believes_committed(&self.nodes[node], key, offset)?;
            }
            Effect::Changed => self.heals(node, key),
        }
        Ok(())
    }

    /// Reads for a peer, and sends.
    fn ship(&mut self, node: usize, key: PartitionKey, effect: &Effect) {
        let Effect::Ship { to, term, from, until, bytes_max, high_watermark, log_start, fetch } = *effect
        else {
            return;
        };
        let batches = match self.nodes[node].disk.read(key, from, until, bytes_max.min(400)) {
            Ok(batches) => batches,
            Err(damaged) => return self.unreadable(node, key, Some(damaged)),
        };
        let end = batches.last().map_or(from, fulmar_core::batch::Batch::end);
        let bytes = batches.iter().map(|batch| batch.size() as u64).sum();
        let message = if fetch {
            self.totals.count("fetches of the longest log");
            Message::Fetched { term, batches }
        } else {
            Message::Append { term, from, batches, high_watermark, log_start }
        };
        self.send(node, to, key, &message);
        let life = self.nodes[node].life;
        self.at(1, Event::Shipped { node, life, key, to, until: end, bytes });
    }

    /// Somebody met a damaged batch; the replica hears of it.
    pub(crate) fn unreadable(&mut self, node: usize, key: PartitionKey, damaged: Option<Offset>) {
        if let Some(offset) = damaged {
            let life = self.nodes[node].life;
            self.at(1, Event::Unreadable { node, life, key, offset });
        }
    }

    fn count_write(&mut self, write: &Write) {
        self.totals.count(match write {
            Write::Append(batch) if batch.is_opening() => "opening records written",
            Write::Append(_) => "batches written",
            Write::Cut { .. } => "logs cut",
            Write::SetAside { .. } => "logs set aside",
            Write::ForgetAside => "topics whose copies went with them",
            Write::Reset { .. } => "logs replaced by a snapshot",
            Write::Release => "releases carried out",
            Write::Promise(_) => "promises written",
            Write::LogStart(_) => "retention steps",
            Write::Mend(_) => "damaged batches replaced by copies",
            Write::Mark { uncertain: true } => "marked uncertain",
            Write::Mark { uncertain: false } => "certain again",
        });
    }

    pub(crate) fn sync_soon(&mut self, node: usize) {
        if !self.nodes[node].disk.sync_is_due && !self.nodes[node].is_ghost {
            self.nodes[node].disk.sync_is_due = true;
            let life = self.nodes[node].life;
            let hangs = self.nodes[node].hangs_until.saturating_sub(self.now_ms);
            let in_ms = self.random.between(1, self.swarm.sync_ms) + hangs;
            self.at(in_ms, Event::Sync { node, life });
        }
    }

    fn sync(&mut self, node: usize) {
        if self.nodes[node].broker.is_none() || self.nodes[node].is_ghost {
            return;
        }
        self.nodes[node].disk.sync_is_due = false;
        let synced = self.nodes[node].disk.sync(&mut self.random);
        if self.nodes[node].disk.is_dirty() {
            self.sync_soon(node);
        }
        for (key, seq) in synced.writes {
            self.input(node, Input::Partition(key, partition::Input::Durable(seq)));
        }
        for (stream, page) in synced.pages {
            self.page_stored(node, stream, page);
        }
    }

    fn tick(&mut self, node: usize) {
        if self.nodes[node].broker.is_none() {
            return;
        }
        self.input(node, Input::Tick);
        self.settle(node);
        self.scrub(node);
        self.speak_to_operator(node);
        let life = self.nodes[node].life;
        self.at(100, Event::Tick { node, life });
    }

    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].broker.is_some() || self.nodes[node].is_ghost || !self.is_to_run(node) {
            return;
        }
        if self.nodes[node].away_until > self.now_ms && !self.calm {
            return self.at_time(self.nodes[node].away_until, Event::Start { node });
        }
        if self.nodes[node].foreign.is_some() {
            let back = self.random.between(1000, 5000);
            self.at(back, Event::OwnVolume { node });
        }
        if self.is_capricious() {
            self.nodes[node].disk.cluster = Some(CLUSTER);
        }
        let entries = self.nodes[node].start(self.now_ms, &mut self.random);
        let life = self.nodes[node].life;
        self.story.line(self.now_ms, || format!("{node} starts, life {life}"));
        self.at(1, Event::Tick { node, life });
        let keys: Vec<PartitionKey> = self.nodes[node].disk.durable.states.keys().copied().collect();
        for key in keys {
            let high_watermark = self.nodes[node].disk.durable.states[&key].high_watermark;
            if let Err(violation) = self.observer.believes_committed(&self.nodes[node], key, high_watermark) {
                self.violate(format!("on disk: {violation}"));
            }
        }
        // Some of the damage shows when the volume is opened.
        for (key, offset) in self.nodes[node].disk.damaged() {
            if self.random.chance(300)
                && let Some(broker) = self.nodes[node].broker.as_mut()
            {
                broker.recovered_damaged(key, offset..offset.plus(1));
            }
        }
        if !entries.is_empty() {
            self.input(node, Input::Assign(entries));
        }
    }
}
