//! Operators: processes around `core::control`, at most two, of which sometimes both believe that they rule.
//!
//! Owns the Lease, what an operator sees of the world (late, or not at all for a while), and its way to the API server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fulmar_core::control::{
    Controller, Desired, DocumentName, Effect, Input, Revision, Sighting, View, WriteFailure,
};
use fulmar_core::id::{Ordinal, ReplicaId};

use crate::event::{Event, Government};
use crate::network::OPERATOR;
use crate::node::Node;
use crate::random::Random;
use crate::streams::Line;
use crate::world::{Rule, World};

/// 2023: tenures are above the wall clock's microseconds.
const CLOCK_US: u64 = 1_700_000_000_000_000;

/// So much the clocks of two operators differ at most.
const SKEW_US: u64 = 2_000_000;

/// One operator's process, or its place.
pub(crate) struct Operator {
    pub(crate) controller: Option<Controller>,
    pub(crate) life: u64,
    pub(crate) started_ms: u64,
    pub(crate) frozen_until: u64,
    skew_us: u64,
    pub(crate) lines: BTreeMap<Ordinal, Line>,
    /// What its watches last brought.
    sightings: Vec<Sighting>,
    desired: Option<Desired>,
    shown: BTreeMap<DocumentName, Revision>,
    /// What its watches bring comes in order.
    watched_ms: u64,
    /// Its watches are broken until then.
    pub(crate) blind_until: u64,
    pub(crate) view: Arc<View>,
}

impl Operator {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self {
            controller: None,
            life: 0,
            started_ms: 0,
            frozen_until: 0,
            skew_us: random.below(SKEW_US),
            lines: BTreeMap::new(),
            sightings: Vec::new(),
            desired: None,
            shown: BTreeMap::new(),
            watched_ms: 0,
            blind_until: 0,
            view: Arc::new(View::default()),
        }
    }

    pub(crate) fn is_active(&self, now_ms: u64) -> bool {
        self.controller.is_some() && self.frozen_until <= now_ms
    }
}

impl World {
    pub(crate) fn is_capricious(&self) -> bool {
        matches!(self.rule, Rule::Capricious(_))
    }

    pub(crate) fn govern(&mut self, event: Government) {
        match event {
            Government::Lease => self.lease(),
            Government::Tick { operator, life } => self.operator_tick(operator, life),
            Government::Hear { operator, life, input } => self.hear(operator, life, *input),
            Government::Dial { operator, life, ordinal, number } => {
                self.dial(operator, life, ordinal, number);
            }
            Government::Greet { stream } => self.greet(stream),
            Government::Down { stream, down } => self.down(stream, down),
            Government::Up { stream, input } => self.up(stream, *input),
            Government::StreamLost { operator, life, ordinal, number, refused } => {
                self.stream_lost(operator, life, ordinal, number, refused);
            }
            Government::PlaceLeft { node, life, stream } => self.leave_place(node, life, stream),
            Government::Write { operator, life, document, expected, answer } => {
                let name = document.name;
                let input = self.store(&document, expected.as_ref());
                if answer {
                    self.answer(operator, life, input);
                } else {
                    let failure = WriteFailure::OutcomeUnknown;
                    self.answer(operator, life, Input::WriteFailed { name, failure });
                }
            }
            Government::Load { operator, life } => self.load(operator, life),
            Government::Word { topic, word } => self.say_word(&topic, word),
            Government::Capricious => self.capricious_turn(),
            Government::Order { to, key, order } => self.order(to, key, order),
            Government::Report { key, generation, from, report } => {
                if let Rule::Capricious(all) = &mut self.rule
                    && let Some(one) = all.get_mut(&key).filter(|_| self.now_ms >= self.ungoverned_until)
                {
                    one.reported(generation, from, report);
                }
            }
        }
    }

    /// Whoever holds the Lease rules; if nobody does, somebody will soon.
    fn lease(&mut self) {
        self.forget_damage();
        let again = self.random.between(100, 1000);
        self.at(again, Event::Government(Government::Lease));
        if self.now_ms < self.ungoverned_until {
            return;
        }
        for number in 0..self.operators.len() {
            let halted = self.operators[number].view.waiting.as_ref().filter(|waiting| waiting.halted);
            let Some(reason) = halted.map(|waiting| waiting.reason) else { continue };
            self.totals.count(&format!("operators halted: {reason}"));
            self.kill_operator(number);
        }
        let now_ms = self.now_ms;
        if !self.operators.iter().any(|operator| operator.is_active(now_ms)) {
            let idle = |number: &usize| self.operators[*number].controller.is_none();
            let number = (0..self.operators.len()).find(idle).unwrap_or(0);
            self.start_operator(number);
        }
    }

    pub(crate) fn start_operator(&mut self, number: usize) {
        self.kill_operator(number);
        let now_ms = self.now_ms;
        let operator = &mut self.operators[number];
        operator.controller = Some(Controller::new());
        operator.started_ms = now_ms;
        let life = operator.life;
        self.totals.count("operators started");
        self.story.line(now_ms, || format!("operator {number} starts, life {life}"));
        self.at(1, Event::Government(Government::Tick { operator: number, life }));
    }

    pub(crate) fn kill_operator(&mut self, number: usize) {
        let operator = &mut self.operators[number];
        if operator.controller.take().is_none() {
            return;
        }
        operator.life += 1;
        operator.frozen_until = 0;
        operator.blind_until = 0;
        operator.lines.clear();
        operator.sightings.clear();
        operator.desired = None;
        operator.shown.clear();
        operator.view = Arc::new(View::default());
        self.story.line(self.now_ms, || format!("operator {number} ends"));
        let own = self.streams.iter().filter(|(_, stream)| stream.operator == number).map(|(id, _)| *id);
        for stream in own.collect::<Vec<u64>>() {
            self.end_stream(stream, 1000);
        }
    }

    fn operator_tick(&mut self, number: usize, life: u64) {
        if self.operators[number].life != life || self.operators[number].controller.is_none() {
            return;
        }
        if self.operators[number].blind_until <= self.now_ms {
            self.watch(number, life);
        }
        self.hear(number, life, Input::Tick);
        self.at(100, Event::Government(Government::Tick { operator: number, life }));
    }

    /// What watches bring, each at its own time.
    fn watch(&mut self, number: usize, life: u64) {
        let seen = self.sightings();
        if self.operators[number].sightings != seen {
            self.operators[number].sightings.clone_from(&seen);
            self.bring(number, life, Input::Sightings(seen));
        }
        if self.operators[number].desired.as_ref() != Some(&self.desired) {
            let desired = self.desired.clone();
            self.operators[number].desired = Some(desired.clone());
            self.bring(number, life, Input::Desired(desired));
        }
        if !self.is_ledger_away() {
            let shown = self.ledger.revisions();
            if self.operators[number].shown != shown {
                self.operators[number].shown.clone_from(&shown);
                self.bring(number, life, Input::Shown(shown));
            }
        }
    }

    /// Late, but in order.
    fn bring(&mut self, number: usize, life: u64, input: Input) {
        let late = self.random.between(1, 50) + self.random.below(4).pow(6);
        let at = self.operators[number].watched_ms.max(self.now_ms + late);
        self.operators[number].watched_ms = at;
        self.answer_in(at - self.now_ms, number, life, input);
    }

    fn sightings(&self) -> Vec<Sighting> {
        let is_seen = |node: &&Node| {
            !node.is_ghost && self.is_to_run(node.number) && (node.life > 0 || node.broker.is_some())
        };
        let seen = self.nodes.iter().filter(is_seen);
        seen.map(|node| Sighting {
            ordinal: node.ordinal,
            internal: node.address,
            client: format!("{}:2", node.address.ip()),
            zone: None,
            volume_uid: node.disk.uid.to_string(),
            running: node.broker.is_some(),
        })
        .collect()
    }

    /// The controller takes an input, and its effects are carried out, unless the operator dies between two of them.
    pub(crate) fn hear(&mut self, number: usize, life: u64, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let now_ms = self.now_ms;
            let operator = &mut self.operators[number];
            let Some(controller) = operator.controller.as_mut().filter(|_| operator.life == life) else {
                return;
            };
            if let Some(line) = self.story.is_told().then(|| crate::story::heard(&input)).flatten() {
                self.story.line(now_ms, || format!("operator {number} <- {line}"));
            }
            let now = Duration::from_millis(now_ms - operator.started_ms);
            for effect in controller.step(now, input) {
                if let Some(left) = &mut self.operator_dies_in {
                    if *left == 0 {
                        self.operator_dies_in = None;
                        self.totals.count("operators that died between two calls");
                        return self.kill_operator(number);
                    }
                    *left -= 1;
                }
                if let Effect::NeedIds(count) = effect {
                    let ids = (0..count).map(|_| u128::from(self.number()) << 64 | 0x7d).collect();
                    inputs.push(Input::Ids(ids));
                    continue;
                }
                self.carry_out_for(number, effect);
            }
        }
    }

    fn carry_out_for(&mut self, number: usize, effect: Effect) {
        if let Some(line) = self.story.is_told().then(|| crate::story::done(&effect)).flatten() {
            self.story.line(self.now_ms, || format!("operator {number} -> {line}"));
        }
        let life = self.operators[number].life;
        match effect {
            Effect::Load => {
                let delay = self.random.between(1, 50);
                self.at(delay, Event::Government(Government::Load { operator: number, life }));
            }
            Effect::Write { document, expected } => self.write(number, life, document, expected),
            Effect::ViewChanged(view) => {
                if let Err(violation) = self.observer.told(&view) {
                    self.violate(violation);
                }
                self.read_view(&view);
                self.operators[number].view = view;
            }
            Effect::Event(event) => self.totals.count(&format!("event {}", event.reason)),
            Effect::NeedIds(_) => {}
            Effect::Attend { .. }
            | Effect::Leave(_)
            | Effect::Push { .. }
            | Effect::Ask { .. }
            | Effect::SendAddresses { .. }
            | Effect::Release { .. }
            | Effect::StopAppends { .. } => self.say(number, effect),
        }
    }

    fn answer(&mut self, operator: usize, life: u64, input: Input) {
        let delay = self.random.between(1, 30);
        self.answer_in(delay, operator, life, input);
    }

    fn answer_in(&mut self, delay: u64, operator: usize, life: u64, input: Input) {
        let input = Box::new(input);
        self.at(delay, Event::Government(Government::Hear { operator, life, input }));
    }

    fn is_ledger_away(&self) -> bool {
        self.now_ms < self.ledger.away_until
    }

    fn write(
        &mut self,
        operator: usize,
        life: u64,
        document: fulmar_core::control::Document,
        expected: Option<Revision>,
    ) {
        let name = document.name;
        if self.is_ledger_away() {
            let failure = WriteFailure::Unavailable("away".to_owned());
            return self.answer(operator, life, Input::WriteFailed { name, failure });
        }
        let mut delay = self.random.between(1, 40);
        let mut answer = true;
        if self.random.chance(self.swarm.unknown) {
            self.totals.count("writes of unknown outcome");
            let failure = WriteFailure::OutcomeUnknown;
            match self.random.below(3) {
                // It never arrives.
                0 => return self.answer(operator, life, Input::WriteFailed { name, failure }),
                // It arrives, and the answer is lost.
                1 => answer = false,
                // The answer is given up, and it arrives later all the same.
                _ => {
                    self.answer(operator, life, Input::WriteFailed { name, failure });
                    delay = self.random.between(40, 3000);
                    let late = Government::Write { operator, life: u64::MAX, document, expected, answer };
                    return self.at(delay, Event::Government(late));
                }
            }
        }
        let write = Government::Write { operator, life, document, expected, answer };
        self.at(delay, Event::Government(write));
    }

    fn store(&mut self, document: &fulmar_core::control::Document, expected: Option<&Revision>) -> Input {
        let name = document.name;
        if self.is_ledger_away() {
            return Input::WriteFailed { name, failure: WriteFailure::Unavailable("away".to_owned()) };
        }
        let was_rebuilding = self.ledger.root().is_some_and(|root| root.rebuilding);
        let before = self.ledger.pages();
        let Some(revision) = self.ledger.write(document, expected) else {
            self.totals.count("writes that met a conflict");
            return Input::WriteFailed { name, failure: WriteFailure::Conflict };
        };
        self.totals.count("writes of the table");
        if name == DocumentName::Root && !was_rebuilding {
            let rebuilds = self.ledger.root().is_some_and(|root| root.rebuilding);
            self.totals.add_many("rebuilds of the table", u64::from(rebuilds));
        }
        if let Some(page) = crate::ledger::page(document) {
            for topic in &page.topics {
                self.observer.named(topic);
                if self.desired.deleted.contains(&topic.name) {
                    self.observer.forfeit(&topic.name);
                }
            }
            for entry in &page.entries {
                let stood = before.iter().flat_map(|page| &page.entries).find(|one| one.key == entry.key);
                if let Err(violation) = self.observer.accepts(entry, stood.map(|one| one.epoch)) {
                    self.violate(violation);
                }
                if let Err(violation) = self.observer.decided(entry, &mut self.totals) {
                    self.violate(violation);
                }
                self.count_lost_members(entry);
                self.meet_partition(entry.key);
            }
        }
        Input::Written { name, revision }
    }

    /// A volume that went while a decision that names it was on its way into the table is one more that its partition lacks.
    fn count_lost_members(&mut self, entry: &fulmar_core::entry::Entry) {
        if entry.is_deletion() {
            return;
        }
        let volumes = self.nodes.iter().filter(|node| !node.is_ghost).map(|node| {
            let own = node.foreign.as_ref().unwrap_or(&node.disk);
            ReplicaId { ordinal: node.ordinal, incarnation: own.incarnation }
        });
        let volumes: Vec<ReplicaId> = volumes.collect();
        for lost in entry.members.replicas().into_iter().filter(|member| !volumes.contains(member)) {
            self.damaged.entry(lost).or_default().insert(entry.key);
        }
    }

    fn load(&mut self, operator: usize, life: u64) {
        if self.is_ledger_away() {
            return self.answer(operator, life, Input::LoadFailed("away".to_owned()));
        }
        let clock_us = CLOCK_US + self.now_ms * 1000 + self.operators[operator].skew_us;
        let salt = self.random.below(1 << 16) as u16;
        let documents = self.ledger.load();
        self.answer(operator, life, Input::Loaded { documents, clock_us, salt });
    }

    /// Whether an operator and a broker cannot talk just now.
    pub(crate) fn is_out_of_reach(&self, operator: usize, node: usize) -> bool {
        self.network.is_hindered(OPERATOR + operator, node, self.now_ms)
    }
}
