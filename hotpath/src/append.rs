//! A turn of a partition with three replicas, as its leader and as a follower have it; disk and network answer at once.

use std::time::Duration;

use bytes::Bytes;
use fulmar_core::batch::{Batch, ProducedBatch, Stamp};
use fulmar_core::entry::{Entry, Members, ReplicaSet};
use fulmar_core::id::{Incarnation, Ordinal, ReplicaId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Effect, Input, Message, Now, Recovered, Replica, Ticket, WriteSeq};
use fulmar_core::term::{BootId, Epoch, Process, Session, Term, TermStart, TermVector};

use super::Run;
use super::records::{key, produced};

/// Publishes of one turn, one record each: what is there when a sync ends, under load.
const PUBLISHES: u64 = 32;
const CLOCK_MS: u64 = 1_700_000_000_000;

fn id(number: u16) -> ReplicaId {
    ReplicaId { ordinal: Ordinal(number), incarnation: Incarnation(u128::from(number) + 1) }
}

fn process(number: u16) -> Process {
    Process { session: Session(1), boot: BootId(u64::from(number) + 1) }
}

fn term(leader: u16) -> Term {
    Term { epoch: Epoch { generation: 1, counter: 1 }, process: process(leader) }
}

fn entry(leader: u16) -> Entry {
    let set = ReplicaSet::new(vec![id(0), id(1), id(2)], 2).expect("three replicas, two acknowledge");
    Entry {
        key: key(),
        epoch: term(leader).epoch,
        leader: Some(id(leader)),
        members: Members::One(set),
        learners: Vec::new(),
        lost: Vec::new(),
        accepted_loss: None,
    }
}

/// Replica 0, and what it wants done.
struct Bench {
    replica: Replica,
    now: Now,
    written: WriteSeq,
    effects: Vec<Effect>,
}

impl Bench {
    fn new() -> Self {
        let replica = Replica::new(id(0), process(0), key(), Recovered::default()).expect("no producers");
        let now = Now { since_start: Duration::ZERO, clock_ms: CLOCK_MS };
        Self { replica, now, written: WriteSeq(0), effects: Vec::new() }
    }

    fn step(&mut self, input: Input) {
        let effects = self.replica.step(self.now, input);
        self.note(effects);
    }

    fn settle(&mut self) {
        let effects = self.replica.settle(self.now);
        self.note(effects);
    }

    fn note(&mut self, effects: Vec<Effect>) {
        for effect in &effects {
            if let Effect::Write(seq, _) = effect {
                self.written = *seq;
            }
        }
        self.effects.extend(effects);
    }

    fn sync(&mut self) {
        self.step(Input::Durable(self.written));
    }

    fn up(&mut self, number: u16) {
        self.step(Input::PeerUp { peer: id(number), process: process(number) });
    }

    fn says(&mut self, number: u16, message: Message) {
        self.step(Input::Message { from: id(number), process: process(number), message });
    }

    /// It leads, its opening record is committed, and both followers are attached.
    fn leading() -> Self {
        let mut bench = Self::new();
        bench.up(1);
        bench.up(2);
        bench.step(Input::Assign(entry(0)));
        bench.sync();
        for follower in [1, 2] {
            let (vector, log_start, log_end) = (TermVector::default(), Offset::ZERO, Offset::ZERO);
            bench.says(
                follower,
                Message::Promised { term: term(0), vector, log_start, log_end, certain: true },
            );
        }
        bench.sync();
        bench.settle();
        for follower in [1, 2] {
            bench.says(follower, Message::Attached { term: term(0), log_end: Offset(1) });
        }
        bench.settle();
        assert_eq!(bench.replica.readable(), Some(Offset(1)), "the opening record is committed");
        bench.effects.clear();
        bench
    }

    /// It follows replica 1, and has its opening record.
    fn following() -> Self {
        let mut bench = Self::new();
        bench.up(1);
        bench.says(1, Message::Fence { entry: entry(1), term: term(1) });
        bench.sync();
        let starts = vec![TermStart { term: term(1), start: Offset::ZERO }];
        bench.says(
            1,
            Message::Attach {
                entry: entry(1),
                term: term(1),
                follower: process(0),
                vector: TermVector::new(starts).expect("one term"),
                log_start: Offset::ZERO,
                log_end: Offset(1),
                counted: Offset::ZERO,
                producers: Vec::new(),
            },
        );
        bench.sync();
        bench.settle();
        bench.hears(vec![Batch::opening(&entry(1), stamp(0))], 0);
        bench.sync();
        bench.settle();
        bench.effects.clear();
        bench
    }

    fn hears(&mut self, batches: Vec<Batch>, from: u64) {
        let (from, high_watermark, log_start) = (Offset(from), Offset(from), Offset::ZERO);
        self.says(1, Message::Append { term: term(1), from, batches, high_watermark, log_start });
    }

    /// What is to be shipped reaches the connection.
    fn ship(&mut self) {
        let ships = self.effects.iter().filter_map(|effect| match effect {
            Effect::Ship { to, until, .. } => Some(Input::Shipped { to: *to, until: *until, bytes: 10_000 }),
            _ => None,
        });
        for shipped in ships.collect::<Vec<_>>() {
            self.step(shipped);
        }
    }

    fn count(&self, is_counted: fn(&Effect) -> bool) -> u64 {
        self.effects.iter().filter(|effect| is_counted(effect)).count() as u64
    }
}

fn stamp(base: u64) -> Stamp {
    Stamp { key: key(), base: Offset(base), term: term(1), append_time_ms: CLOCK_MS }
}

/// The leader's turn: publishes are appended, shipped, synced, stored by the followers, and acknowledged.
pub(crate) fn lead() -> Run {
    let mut bench = Bench::leading();
    let batches: Vec<ProducedBatch> = (0..PUBLISHES).map(|sequence| produced(1, sequence)).collect();
    Box::new(move || {
        for (ticket, batch) in (0..).map(Ticket).zip(batches) {
            bench.step(Input::Produce { ticket, batch });
        }
        bench.settle();
        bench.ship();
        bench.sync();
        for follower in [1, 2] {
            bench.says(follower, Message::Stored { term: term(0), log_end: Offset(1 + PUBLISHES) });
        }
        bench.settle();
        let acknowledged = bench.count(|effect| matches!(effect, Effect::Acknowledge { .. }));
        assert_eq!(acknowledged, PUBLISHES, "every publish is acknowledged");
        Box::new(bench)
    })
}

/// The follower's: batches from the wire are checked, appended, synced, and the leader is told.
pub(crate) fn follow() -> Run {
    let mut bench = Bench::following();
    let wire: Vec<Bytes> = (0..PUBLISHES)
        .map(|number| Bytes::copy_from_slice(produced(1, number).stamp(stamp(1 + number)).bytes()))
        .collect();
    Box::new(move || {
        let batches = wire.into_iter().map(|bytes| Batch::parse(bytes, key()).expect("it was stamped"));
        bench.hears(batches.collect(), 1);
        bench.sync();
        bench.settle();
        let stored = bench.count(|effect| {
            let end = Offset(1 + PUBLISHES);
            matches!(effect, Effect::Send { message: Message::Stored { log_end, .. }, .. } if *log_end == end)
        });
        assert_eq!(stored, 1, "the leader is told once that all of it is stored");
        Box::new(bench)
    })
}
