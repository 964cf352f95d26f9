//! The schedules that broke weaker rules for a table that goes back or goes away, with the real controller: 2, 3 and 4.

use fulmar_core::broker::Input;
use fulmar_core::control::table::Root;
use fulmar_core::control::{Document, DocumentName};
use fulmar_core::entry::{Entry, Members, ReplicaSet};
use fulmar_core::id::ReplicaId;
use fulmar_core::term::Epoch;

use crate::network::OPERATOR;
use crate::random::Random;
use crate::world::{Shape, World};

/// Long enough for a tenure to begin, and for everything that it decides.
const SECONDS_20: u64 = 20_000;

struct Stage {
    world: World,
    entry: Entry,
    /// A, B and C of the first set; the leader is C.
    abc: Vec<usize>,
    de: Vec<usize>,
}

impl Stage {
    /// Five brokers, one partition on three of them, with records.
    fn set() -> Self {
        let mut world = World::shaped(7, Random::new(7), &mut Shape::quiet(5, 3, 2), true);
        world.set_going();
        world.pass(SECONDS_20).unwrap();
        let mut stage = Self { entry: only_entry(&world), world, abc: Vec::new(), de: Vec::new() };
        let place = |replica: ReplicaId| usize::from(replica.ordinal.0);
        let Members::One(set) = &stage.entry.members else { panic!("{}", stage.entry) };
        stage.abc = set.replicas().iter().copied().map(place).collect();
        stage.abc.sort_by_key(|node| Some(*node) == stage.entry.leader.map(place));
        stage.de = (0..5).filter(|node| !stage.abc.contains(node)).collect();
        stage
    }

    fn replicas(&self, nodes: &[usize]) -> Vec<ReplicaId> {
        nodes.iter().map(|node| self.world.nodes[*node].id()).collect()
    }

    fn cde(&self) -> Vec<usize> {
        [&self.abc[2..], &self.de[..]].concat()
    }

    /// What an operator decides that moves replicas: stored in the table, then told to these.
    fn decide(&mut self, epoch: Epoch, members: Members, to: &[usize]) {
        let leader = Some(self.world.nodes[self.abc[2]].id());
        let entry = Entry { epoch, leader, members, ..self.entry.clone() };
        let root = self.world.ledger.root().unwrap();
        let root = Root { controller_epoch: epoch.generation, ..root };
        let mut page = self.world.ledger.pages().remove(0);
        page.entries = vec![entry.clone()];
        for (name, lines) in
            [(DocumentName::Root, root.lines()), (DocumentName::Page(page.number), page.lines())]
        {
            let load = self.world.ledger.load();
            let at = load.iter().find(|(document, _)| document.name == name).map(|(_, at)| at.clone());
            let (cluster_id, controller_epoch) = (root.cluster_id, epoch.generation);
            let document = Document { name, cluster_id, controller_epoch, lines };
            self.world.ledger.write(&document, at.as_ref()).expect("nobody else writes");
        }
        self.world.observer.decided(&entry, &mut self.world.totals).unwrap();
        for node in to {
            self.world.input(*node, Input::Assign(vec![entry.clone()]));
        }
    }

    /// The members move from {ABC} to {CDE}, and A hears nothing of it.
    fn move_to_cde(&mut self) {
        let set = |nodes: &[usize]| ReplicaSet::new(self.replicas(nodes), 2).unwrap();
        let (old, new) = (set(&self.abc), set(&self.cde()));
        let epoch = |counter| Epoch { generation: self.entry.epoch.generation + 3, counter };
        let (first, second) = (epoch(1), epoch(2));
        self.isolate(&[self.abc[0]], 10_000);
        let all: Vec<usize> = (1..3).map(|at| self.abc[at]).chain(self.de.iter().copied()).collect();
        self.decide(first, Members::Joint { old, new: new.clone() }, &all);
        self.world.pass(4000).unwrap();
        self.decide(second, Members::One(new), &self.cde());
        self.world.pass(4000).unwrap();
        let leader = &self.world.nodes[self.abc[2]];
        let term = leader.replica(self.entry.key).unwrap().leading().unwrap();
        assert_eq!(
            (term.epoch, leader.replica(self.entry.key).unwrap().readable().is_some()),
            (second, true)
        );
    }

    /// Nothing comes from them or to them, the operators' streams included.
    fn isolate(&mut self, nodes: &[usize], ms: u64) {
        let until = self.world.now_ms + ms;
        for node in nodes {
            for other in (0..5).chain([OPERATOR, OPERATOR + 1]).filter(|other| !nodes.contains(other)) {
                self.world.network.cut(*node, other, until);
                self.world.network.cut(other, *node, until);
                if other < 5 {
                    self.world.disconnect(*node, other);
                }
            }
        }
    }

    /// No broker of these leads in an epoch of an operator that came after the move.
    fn nobody_leads(&self, nodes: &[usize]) {
        for node in nodes {
            let replica = self.world.nodes[*node].replica(self.entry.key);
            let term = replica.and_then(fulmar_core::partition::Replica::leading);
            assert!(
                term.is_none_or(|term| term.epoch <= self.entry.epoch),
                "{term:?} of a set that is not in force\n{}",
                self.world.story.last_lines(60, false)
            );
        }
    }

    /// Everything works again, and nothing is lost.
    fn recover(&mut self) {
        self.world.pass(SECONDS_20).unwrap();
        self.world.calm = true;
        self.world.pass(SECONDS_20).unwrap();
        let rests = self.world.rests();
        assert!(rests.is_ok(), "{rests:?}\n{}", self.world.story.last_lines(60, false));
        self.world.final_check().unwrap();
    }
}

fn only_entry(world: &World) -> Entry {
    world.ledger.pages().remove(0).entries.remove(0)
}

#[test]
fn schedule_2_a_table_that_goes_back_decides_nothing_from_a_set_that_was_left() {
    let mut stage = Stage::set();
    let before = stage.world.ledger.past();
    stage.world.kill_operator(0);
    stage.world.ungoverned_until = u64::MAX;
    stage.move_to_cde();
    stage.isolate(&stage.cde(), 30_000);
    stage.world.ledger.restore(before, None);
    assert_eq!(only_entry(&stage.world).members, stage.entry.members, "the table says {{ABC}} again");
    stage.world.ungoverned_until = 0;
    stage.world.pass(SECONDS_20).unwrap();
    stage.nobody_leads(&stage.abc[..2]);
    stage.recover();
}

#[test]
fn a_document_that_goes_back_under_a_living_operator_is_put_right() {
    let mut stage = Stage::set();
    let before = stage.world.ledger.past();
    stage.world.desired.topics[0].ack_quorum = Some(3);
    stage.world.pass(SECONDS_20).unwrap();
    let changed = only_entry(&stage.world);
    let page = stage.world.ledger.pages()[0].number;
    stage.world.ledger.restore(before, Some(DocumentName::Page(page)));
    assert!(only_entry(&stage.world).epoch < changed.epoch, "the document says what it said before");
    // Nothing happens that would have the operator write.
    stage.world.pass(SECONDS_20).unwrap();
    let now = only_entry(&stage.world);
    assert!(now.epoch >= changed.epoch, "{now} after {changed}");
    assert_eq!(now.members, changed.members);
    stage.recover();
}

#[test]
fn schedule_3_reports_from_before_a_tenure_do_not_count_in_it() {
    let mut stage = Stage::set();
    // The operator knows what A and B reported long ago, sleeps through the move, and finds no table.
    stage.world.operators[0].frozen_until = stage.world.now_ms + 12_000;
    stage.world.ungoverned_until = stage.world.now_ms + 40_000;
    stage.move_to_cde();
    let (ab, cde) = (stage.abc[..2].to_vec(), stage.cde());
    stage.isolate(&cde, 30_000);
    stage.world.ledger.clear();
    stage.world.pass(SECONDS_20).unwrap();
    stage.nobody_leads(&ab);
    stage.recover();
}

#[test]
fn a_table_that_is_gone_is_not_rebuilt_from_one_member_that_missed_a_change() {
    let mut stage = Stage::set();
    stage.world.kill_operator(0);
    stage.world.ungoverned_until = u64::MAX;
    stage.move_to_cde();
    // A alone answers, and knows nothing of {CDE}; then B is back, whose log ends where the change began.
    stage.isolate(&stage.cde(), 40_000);
    stage.isolate(&[stage.abc[1]], 15_000);
    stage.world.ledger.clear();
    stage.world.ungoverned_until = 0;
    stage.world.pass(2 * SECONDS_20 - 5000).unwrap();
    stage.nobody_leads(&stage.abc[..2]);
    stage.recover();
}

#[test]
fn schedule_4_no_epoch_is_issued_twice_though_the_table_forgot_it() {
    let mut stage = Stage::set();
    let before = stage.world.ledger.past();
    // The first step of a change reaches one member only, and the table forgets it.
    let far: Vec<usize> = (0..5).filter(|node| *node != stage.abc[2]).collect();
    for node in &far {
        stage.world.network.cut(OPERATOR, *node, stage.world.now_ms + 1500);
    }
    stage.world.desired.topics[0].ack_quorum = Some(3);
    stage.world.pass(1000).unwrap();
    let lost = only_entry(&stage.world);
    assert!(lost.epoch > stage.entry.epoch, "{lost}");
    stage.world.kill_operator(0);
    let last = stage.abc[2];
    stage.isolate(&[last], 15_000);
    stage.world.ledger.restore(before, None);
    stage.world.desired.topics[0].ack_quorum = Some(1);
    stage.world.pass(SECONDS_20).unwrap();
    let now = only_entry(&stage.world);
    assert!(now.epoch.generation > lost.epoch.generation, "{now} after {lost}");
    stage.recover();
}
