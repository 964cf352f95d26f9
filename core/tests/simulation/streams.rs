//! Streams between operators and brokers, and what a broker's shell does on its end: hellos, pages, asks, reports.
//!
//! A stream delivers in order or breaks: what was said before it broke may have arrived, what came after has not.

use std::net::SocketAddr;

use fulmar_core::broker::{Broker, Conclusion, Input, conclude, conclude_from_operator};
use fulmar_core::control::table::{Page, TopicRecord};
use fulmar_core::control::{self, Effect, Greeting, HeldPage, Hello};
use fulmar_core::entry::Entry;
use fulmar_core::id::Ordinal;
use fulmar_core::partition;

use crate::disk::StoredPage;
use crate::event::{Down, Event, Government};
use crate::network::OPERATOR;
use crate::node::entries;
use crate::world::World;

/// A broker that hears nothing of its operator for so long ends the stream.
const SILENCE_MS: u64 = 10_000;

/// A broker that an operator attends: whom it dials with which greeting.
pub(crate) struct Line {
    number: u64,
    address: SocketAddr,
    greeting: Greeting,
    stream: Option<u64>,
    /// For this target, while no stream stands.
    queue: Vec<(u64, Down)>,
}

pub(crate) struct Stream {
    pub(crate) operator: usize,
    pub(crate) operator_life: u64,
    number: u64,
    ordinal: Ordinal,
    pub(crate) node: usize,
    pub(crate) node_life: u64,
    greeting: Greeting,
    up_at: u64,
    down_at: u64,
    heard_ms: u64,
    /// Whom the broker said last that it hears.
    hears: Option<Vec<Ordinal>>,
    /// … and that it is connected with.
    linked: Option<Vec<Ordinal>>,
    /// Something was said that did not get through: nothing does any more.
    stalled: bool,
}

/// The operator's end.
impl World {
    pub(crate) fn say(&mut self, operator: usize, effect: Effect) {
        match effect {
            Effect::Attend { ordinal, address, greeting, afresh } => {
                self.attend(operator, ordinal, address, greeting, afresh);
            }
            Effect::Leave(ordinal) => {
                let line = self.operators[operator].lines.remove(&ordinal);
                if let Some(stream) = line.and_then(|line| line.stream) {
                    self.end_stream(stream, 300);
                }
            }
            Effect::Push { ordinal, page } => {
                self.totals.count("pages pushed");
                if !self.ledger.was_stored(page.number, &page.lines) {
                    self.violate(format!(
                        "page {} is pushed to broker {ordinal}, and was never stored",
                        page.number
                    ));
                }
                self.say_down(operator, ordinal, Down::Page(page));
            }
            Effect::Ask { ordinal, request } => self.say_down(operator, ordinal, Down::Ask(request)),
            Effect::SendAddresses { ordinal, .. } => self.say_down(operator, ordinal, Down::Addresses),
            Effect::Release { ordinal, key, epoch } => {
                self.say_down(operator, ordinal, Down::Release(key, epoch));
            }
            Effect::StopAppends { ordinal, key } => {
                self.say_down(operator, ordinal, Down::StopAppends(key));
            }
            Effect::Load
            | Effect::Write { .. }
            | Effect::NeedIds(_)
            | Effect::Event(_)
            | Effect::ViewChanged(_) => {}
        }
    }

    fn attend(
        &mut self,
        operator: usize,
        ordinal: Ordinal,
        address: SocketAddr,
        greeting: Greeting,
        afresh: bool,
    ) {
        let number = self.number();
        let life = self.operators[operator].life;
        let lines = &mut self.operators[operator].lines;
        let mut before = None;
        if let Some(line) = lines.get_mut(&ordinal) {
            (line.address, line.greeting) = (address, greeting);
            if !afresh {
                return;
            }
            line.number = number;
            before = line.stream.take();
        } else {
            lines.insert(ordinal, Line { number, address, greeting, stream: None, queue: Vec::new() });
        }
        if let Some(before) = before {
            self.end_stream(before, 300);
        }
        let dial = Government::Dial { operator, life, ordinal, number };
        self.at(1, Event::Government(dial));
    }

    pub(crate) fn dial(&mut self, operator: usize, life: u64, ordinal: Ordinal, number: u64) {
        if self.operators[operator].life != life {
            return;
        }
        let Some(line) = self.operators[operator].lines.get(&ordinal) else { return };
        if line.number != number || line.stream.is_some() {
            return;
        }
        let (address, greeting) = (line.address, line.greeting.clone());
        let node = self.nodes.iter().position(|node| node.address == address && !node.is_ghost);
        let up = node.filter(|node| self.nodes[*node].broker.is_some());
        let reached = up.filter(|node| !self.is_out_of_reach(operator, *node));
        let Some(node) = reached else {
            // A pod that is there refuses; an address that nobody has, or a cut, is silence.
            let refused = node.is_some() && up.is_none();
            let wait = if refused { self.random.between(1, 50) } else { self.random.between(500, 2000) };
            let lost = Government::StreamLost { operator, life, ordinal, number, refused };
            return self.at(wait, Event::Government(lost));
        };
        let stream = self.number();
        self.operators[operator].lines.get_mut(&ordinal).expect("it is dialled").stream = Some(stream);
        let now_ms = self.now_ms;
        self.streams.insert(
            stream,
            Stream {
                operator,
                operator_life: life,
                number,
                ordinal,
                node,
                node_life: self.nodes[node].life,
                greeting,
                up_at: now_ms,
                down_at: now_ms,
                heard_ms: now_ms,
                hears: None,
                linked: None,
                stalled: false,
            },
        );
        let delay = self.random.between(1, 20);
        self.at(delay, Event::Government(Government::Greet { stream }));
    }

    fn say_down(&mut self, operator: usize, ordinal: Ordinal, down: Down) {
        let Some(line) = self.operators[operator].lines.get_mut(&ordinal) else { return };
        match line.stream {
            Some(stream) => self.pass_down(stream, down),
            None => line.queue.push((line.number, down)),
        }
    }

    fn pass_down(&mut self, id: u64, down: Down) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (from, to) = (OPERATOR + stream.operator, stream.node);
        if let Some(delay) = self.way(id, from, to) {
            let stream = self.streams.get_mut(&id).expect("it stands");
            stream.down_at = stream.down_at.max(self.now_ms + delay);
            let at = stream.down_at;
            self.at_time(at, Event::Government(Government::Down { stream: id, down }));
        }
    }

    /// How long a message takes, or nothing if it does not get through; then the stream ends before long.
    fn way(&mut self, id: u64, from: usize, to: usize) -> Option<u64> {
        let is_cut = self.network.is_cut(from, to, self.now_ms);
        let parked = self.network.parked(from, to, self.now_ms).map_or(0, |until| until - self.now_ms);
        let delay = self.random.between(1, self.network.weather.delay_ms.max(1));
        let stream = self.streams.get_mut(&id)?;
        if is_cut && !stream.stalled {
            stream.stalled = true;
            self.end_stream_later(id);
        }
        let stream = self.streams.get(&id)?;
        (!stream.stalled).then_some(delay + parked)
    }

    fn end_stream_later(&mut self, id: u64) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (operator, life, ordinal, number) =
            (stream.operator, stream.operator_life, stream.ordinal, stream.number);
        let (node, node_life) = (stream.node, stream.node_life);
        let (soon, late) = (self.random.between(200, 8000), self.random.between(200, SILENCE_MS));
        let lost = Government::StreamLost { operator, life, ordinal, number, refused: false };
        self.at(soon, Event::Government(lost));
        self.at(late, Event::Government(Government::PlaceLeft { node, life: node_life, stream: id }));
    }

    /// Both ends learn of it, each at its own time.
    pub(crate) fn end_stream(&mut self, id: u64, within_ms: u64) {
        let Some(stream) = self.streams.remove(&id) else { return };
        let Stream { operator, operator_life: life, ordinal, number, node, node_life, .. } = stream;
        let lost = Government::StreamLost { operator, life, ordinal, number, refused: false };
        let delay = self.random.between(0, within_ms);
        self.at(delay, Event::Government(lost));
        let delay = self.random.between(0, within_ms);
        self.at(delay, Event::Government(Government::PlaceLeft { node, life: node_life, stream: id }));
    }

    pub(crate) fn stream_lost(
        &mut self,
        operator: usize,
        life: u64,
        ordinal: Ordinal,
        number: u64,
        refused: bool,
    ) {
        if self.operators[operator].life != life {
            return;
        }
        let Some(line) = self.operators[operator].lines.get_mut(&ordinal) else { return };
        if line.number != number {
            return;
        }
        if let Some(stream) = line.stream.take() {
            self.end_stream(stream, 300);
        }
        self.hear(operator, life, control::Input::Lost { ordinal, refused });
        let pause = self.random.between(1, 500);
        self.at(pause, Event::Government(Government::Dial { operator, life, ordinal, number }));
    }

    /// Something came up the stream.
    pub(crate) fn up(&mut self, id: u64, input: control::Input) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (operator, life, ordinal, number) =
            (stream.operator, stream.operator_life, stream.ordinal, stream.number);
        let line = self.operators[operator].lines.get_mut(&ordinal);
        let Some(line) = line.filter(|line| line.number == number && line.stream == Some(id)) else { return };
        let is_answer = matches!(input, control::Input::Answered { .. });
        let is_end = matches!(input, control::Input::Unfit { .. });
        let queue = if is_answer { std::mem::take(&mut line.queue) } else { Vec::new() };
        self.hear(operator, life, input);
        for (of, down) in queue {
            if of == number {
                self.pass_down(id, down);
            }
        }
        if is_end {
            self.end_stream(id, 50);
        }
    }
}

/// The broker's end.
impl World {
    fn say_up(&mut self, id: u64, input: control::Input) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (from, to) = (stream.node, OPERATOR + stream.operator);
        if let Some(delay) = self.way(id, from, to) {
            let stream = self.streams.get_mut(&id).expect("it stands");
            stream.up_at = stream.up_at.max(self.now_ms + delay);
            let at = stream.up_at;
            let input = Box::new(input);
            self.at_time(at, Event::Government(Government::Up { stream: id, input }));
        }
    }

    fn hello(&self, node: usize) -> Option<Hello> {
        let node = &self.nodes[node];
        let broker = node.broker.as_ref()?;
        let held = node.pages.values().map(|page| HeldPage {
            number: page.page.number,
            controller_epoch: page.controller_epoch,
            revision: page.revision,
        });
        Some(Hello {
            cluster_id: node.disk.cluster,
            replica: node.id(),
            processes: broker.identity().processes.clone(),
            controller_epoch: node.tenure,
            pages: held.collect(),
            has_replicas: broker.has_replicas(),
            nothing_aside: !node.disk.keeps_copies(),
            version: "simulated".to_owned(),
        })
    }

    fn say_hello(&mut self, id: u64) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (ordinal, node) = (stream.ordinal, stream.node);
        if let Some(hello) = self.hello(node) {
            self.say_up(id, control::Input::Answered { ordinal, hello });
        }
    }

    fn turn_away(&mut self, id: u64, why: &str) {
        self.say_hello(id);
        let Some(stream) = self.streams.get(&id) else { return };
        let (ordinal, message) = (stream.ordinal, why.to_owned());
        self.say_up(id, control::Input::Unfit { ordinal, message });
    }

    /// An operator's hello is judged.
    pub(crate) fn greet(&mut self, id: u64) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (node, greeting) = (stream.node, stream.greeting.clone());
        if self.nodes[node].life != stream.node_life || self.nodes[node].broker.is_none() {
            return self.end_stream(id, 50);
        }
        let Some(cluster) = greeting.cluster_id else { return self.say_hello(id) };
        if *self.nodes[node].disk.cluster.get_or_insert(cluster) != cluster {
            return self.turn_away(id, "the volume belongs to another Cluster");
        }
        if let Some(conclusion) = self.judge(node, &greeting) {
            self.turn_away(id, "a later process of this volume was seen");
            return self.refused(node, conclusion);
        }
        let this = &mut self.nodes[node];
        let before = this.attending.filter(|(tenure, _)| *tenure <= greeting.controller_epoch);
        if greeting.controller_epoch < this.tenure || this.attending.is_some() && before.is_none() {
            self.totals.count("operators of older tenures turned away");
            return self.turn_away(id, "a newer tenure was seen");
        }
        this.attending = Some((greeting.controller_epoch, id));
        this.tenure = this.tenure.max(greeting.controller_epoch);
        if let Some(broker) = this.broker.as_mut() {
            broker.adopt(cluster);
        }
        if let Some((_, before)) = before {
            self.end_stream(before, 50);
        }
        self.input(node, Input::OperatorUp);
        self.say_hello(id);
        self.report(node);
    }

    /// What the operator's memory says about a process.
    fn judge(&self, node: usize, greeting: &Greeting) -> Option<Conclusion> {
        let (incarnation, seen) = greeting.known?;
        let ours = self.nodes[node].broker.as_ref()?.identity();
        let volume = self.volume(node);
        let is_mine = incarnation == ours.incarnation;
        let lacks = is_mine && seen.boot.0 != 0 && conclude(seen, &volume) == Conclusion::Restored;
        let restored = (lacks || is_mine && greeting.restored).then_some(Conclusion::Restored);
        restored.or(conclude_from_operator(ours, (incarnation, seen.session), &volume))
    }

    pub(crate) fn leave_place(&mut self, node: usize, life: u64, stream: u64) {
        let this = &mut self.nodes[node];
        if this.life == life && this.attending.is_some_and(|(_, attending)| attending == stream) {
            this.attending = None;
            self.input(node, Input::OperatorDown);
        }
    }

    /// Something came down the stream.
    pub(crate) fn down(&mut self, id: u64, down: Down) {
        let now_ms = self.now_ms;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.heard_ms = now_ms;
        let (node, life) = (stream.node, stream.node_life);
        if self.nodes[node].life != life || self.nodes[node].attending.is_none_or(|(_, own)| own != id) {
            return;
        }
        match down {
            Down::Page(page) => {
                let parsed = Page::parse(page.number, &page.lines).expect("core wrote it");
                let (controller_epoch, revision) = (page.controller_epoch, page.revision);
                self.take_page(node, id, StoredPage { controller_epoch, revision, page: parsed });
            }
            Down::Ask(request) => {
                self.nodes[node].asks.push_back((id, request));
                self.answer_asks(node);
            }
            Down::Release(key, epoch) => self.input(node, Input::Release { key, epoch }),
            Down::StopAppends(key) => {
                self.input(node, Input::Partition(key, partition::Input::StopAppends));
            }
            Down::Addresses => {}
        }
    }

    /// Stored first, then acted on; an older one than the held changes nothing.
    fn take_page(&mut self, node: usize, stream: u64, page: StoredPage) {
        let held = self.nodes[node].disk.written.pages.get(&page.page.number);
        if held.is_some_and(|held| held.order() > page.order()) {
            return self.say_held(stream, node, page.page.number);
        }
        self.nodes[node].disk.write_page(stream, page);
        self.sync_soon(node);
    }

    fn say_held(&mut self, id: u64, node: usize, number: u32) {
        let Some(ordinal) = self.streams.get(&id).map(|stream| stream.ordinal) else { return };
        let Some(held) = self.nodes[node].pages.get(&number) else { return };
        let (controller_epoch, revision) = held.order();
        self.say_up(
            id,
            control::Input::Held { ordinal, page: HeldPage { number, controller_epoch, revision } },
        );
    }

    pub(crate) fn page_stored(&mut self, node: usize, stream: u64, page: StoredPage) {
        let number = page.page.number;
        let this = &mut self.nodes[node];
        let before = entries(&this.pages);
        this.tenure = this.tenure.max(page.controller_epoch);
        this.pages.insert(number, page);
        let changed = |entry: &Entry| before.get(&entry.key) != Some(entry);
        let changed: Vec<Entry> = entries(&this.pages).into_values().filter(changed).collect();
        self.input(node, Input::Assign(changed));
        self.say_held(stream, node, number);
    }

    /// What changed since the operator was last told, and answers that were waited for.
    pub(crate) fn report(&mut self, node: usize) {
        self.answer_asks(node);
        let this = &mut self.nodes[node];
        let (Some((_, stream)), Some(broker)) = (this.attending, this.broker.as_mut()) else { return };
        let Some(ordinal) = self.streams.get(&stream).map(|stream| stream.ordinal) else { return };
        let reports = broker.reports();
        if !reports.is_empty() {
            let topics = Vec::new();
            let (request, controller_epoch, complete) = (0, 0, false);
            let input =
                control::Input::Reports { ordinal, request, controller_epoch, reports, topics, complete };
            self.say_up(stream, input);
        }
    }

    fn answer_asks(&mut self, node: usize) {
        while let Some((stream, request)) = self.nodes[node].asks.front().copied() {
            let this = &mut self.nodes[node];
            let Some(reports) = this.broker.as_ref().and_then(Broker::all_reports) else { return };
            this.asks.pop_front();
            let topics: Vec<TopicRecord> =
                this.pages.values().flat_map(|page| page.page.topics.clone()).collect();
            let Some(of) = self.streams.get(&stream) else { continue };
            let (ordinal, controller_epoch) = (of.ordinal, of.greeting.controller_epoch);
            let complete = true;
            let input =
                control::Input::Reports { ordinal, request, controller_epoch, reports, topics, complete };
            self.say_up(stream, input);
        }
    }

    /// Heartbeats, and whom this broker hears when that has changed.
    pub(crate) fn speak_to_operator(&mut self, node: usize) {
        let now_ms = self.now_ms;
        self.gossip(node);
        self.nodes[node].rounds += u64::from(self.nodes[node].hangs_until <= now_ms);
        if !(now_ms / 100).is_multiple_of(3) {
            return;
        }
        let life = self.nodes[node].life;
        let own = |stream: &&(u64, usize, Ordinal)| self.streams[&stream.0].node == node;
        let all: Vec<(u64, usize, Ordinal)> =
            self.streams.iter().map(|(id, stream)| (*id, stream.operator, stream.ordinal)).collect();
        let streams: Vec<(u64, usize, Ordinal)> = all.iter().filter(own).copied().collect();
        for (id, operator, ordinal) in streams {
            let speaks = self.operators[operator].is_active(now_ms) && !self.is_out_of_reach(operator, node);
            let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.node_life == life) else {
                continue;
            };
            if speaks {
                stream.heard_ms = now_ms;
            } else if now_ms > stream.heard_ms + SILENCE_MS {
                self.end_stream(id, 50);
                continue;
            }
            let storage_rounds = self.nodes[node].rounds;
            self.say_up(id, control::Input::Heartbeat { ordinal, storage_rounds });
            if self.nodes[node].attending.is_some_and(|(_, own)| own == id) {
                self.say_whom_it_hears(id, node, ordinal);
                if self.nodes[node].is_stopping {
                    self.say_up(id, control::Input::Stopping(ordinal));
                }
            }
        }
    }

    /// And with whom it is connected. Only news: the heartbeats say that it still is so.
    fn say_whom_it_hears(&mut self, id: u64, node: usize, ordinal: Ordinal) {
        let alive = self.nodes[node].hears(self.now_ms);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.hears.as_ref() != Some(&alive) {
            stream.hears = Some(alive.clone());
            self.say_up(id, control::Input::Gossip { ordinal, alive });
        }
        let others = self.nodes.iter().filter(|other| self.network.is_connected(node, other.number));
        let linked: Vec<Ordinal> = others.map(|other| other.ordinal).collect();
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if stream.linked.as_ref() != Some(&linked) {
            stream.linked = Some(linked.clone());
            self.say_up(id, control::Input::Links { ordinal, linked });
        }
    }
}
