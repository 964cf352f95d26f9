//! One replica on a bench: a test hands it inputs and sees what it wants done.

use std::time::Duration;

use bytes::Bytes;

use super::{Effect, Input, Message, Now, Recovered, Replica, Ticket, Write, WriteSeq};
use crate::batch::{Batch, ProducedBatch, ProducerSequence, Record, Stamp};
use crate::entry::{Entry, Members, ReplicaSet};
use crate::id::{Incarnation, Ordinal, PartitionKey, ProducerId, ReplicaId, TopicId};
use crate::offset::Offset;
use crate::term::{BootId, Epoch, Process, Session, Term, TermStart, TermVector};

pub(super) fn key() -> PartitionKey {
    PartitionKey { topic: TopicId(1), partition: 0 }
}

pub(super) fn id(number: u16) -> ReplicaId {
    ReplicaId { ordinal: Ordinal(number), incarnation: Incarnation(u128::from(number) + 1) }
}

pub(super) fn process(number: u16, session: u64) -> Process {
    Process { session: Session(session), boot: BootId(u64::from(number) << 8 | session) }
}

/// The term of replica `leader` in its first session.
pub(super) fn term(counter: u64, leader: u16) -> Term {
    Term { epoch: Epoch { generation: 1, counter }, process: process(leader, 1) }
}

pub(super) fn set(numbers: &[u16], ack_quorum: u8) -> ReplicaSet {
    ReplicaSet::new(numbers.iter().copied().map(id).collect(), ack_quorum).unwrap()
}

/// Replicas 0, 1 and 2, ackQuorum 2.
pub(super) fn entry(counter: u64, leader: u16) -> Entry {
    entry_of(counter, leader, Members::One(set(&[0, 1, 2], 2)))
}

pub(super) fn entry_of(counter: u64, leader: u16, members: Members) -> Entry {
    let epoch = Epoch { generation: 1, counter };
    Entry {
        key: key(),
        epoch,
        leader: Some(id(leader)),
        members,
        learners: Vec::new(),
        lost: Vec::new(),
        accepted_loss: None,
    }
}

pub(super) fn vector(lines: &[(Term, u64)]) -> TermVector {
    let lines = lines.iter().map(|(term, start)| TermStart { term: *term, start: Offset(*start) });
    TermVector::new(lines.collect()).unwrap()
}

pub(super) fn produced(sequence: Option<(u128, u64)>) -> ProducedBatch {
    let sequence =
        sequence.map(|(producer, sequence)| ProducerSequence { producer: ProducerId(producer), sequence });
    ProducedBatch::build(&[Record { value: Bytes::from_static(b"x"), ..Record::default() }], sequence)
        .unwrap()
}

pub(super) fn batch(term: Term, base: u64) -> Batch {
    batch_of(term, base, None, 1000)
}

pub(super) fn batch_of(term: Term, base: u64, sequence: Option<(u128, u64)>, append_time_ms: u64) -> Batch {
    produced(sequence).stamp(Stamp { key: key(), base: Offset(base), term, append_time_ms })
}

pub(super) fn opening(term: Term, leader: u16, base: u64) -> Batch {
    let stamp = Stamp { key: key(), base: Offset(base), term, append_time_ms: 1000 };
    Batch::opening(&entry(term.epoch.counter, leader), stamp)
}

pub(super) struct Bench {
    pub(super) replica: Replica,
    pub(super) now: Now,
    written: WriteSeq,
}

impl Bench {
    /// Replica 0 in its first session, with an empty volume.
    pub(super) fn empty() -> Self {
        Self::recovered(Recovered::default())
    }

    pub(super) fn recovered(recovered: Recovered) -> Self {
        let replica = Replica::new(id(0), process(0, 1), key(), recovered).unwrap();
        Self { replica, now: Now { since_start: Duration::ZERO, clock_ms: 5000 }, written: WriteSeq(0) }
    }

    /// Leads term 1 with the opening record appended, 1 and 2 connected and promised, nothing synced.
    pub(super) fn leading() -> Self {
        let mut bench = Self::empty();
        bench.up(1);
        bench.up(2);
        bench.step(Input::Assign(entry(1, 0)));
        bench.sync();
        bench.promised(1, 1);
        assert_eq!(bench.replica.leading(), Some(term(1, 0)));
        bench
    }

    /// Like [`leading`](Self::leading), with 1 attached and the opening record committed.
    pub(super) fn opened() -> Self {
        let mut bench = Self::leading();
        bench.sync();
        bench.attached(1, 1);
        bench.settle();
        assert_eq!(bench.replica.readable(), Some(Offset(1)));
        bench
    }

    /// Follows 1 in term 1 with an empty log, reconciled.
    pub(super) fn following() -> Self {
        let mut bench = Self::empty();
        bench.up(1);
        bench.says(1, Message::Fence { entry: entry(1, 1), term: term(1, 1) });
        bench.sync();
        bench.attach(&entry(1, 1), 1, &[(term(1, 1), 0)], 0, 1);
        bench.sync();
        bench.settle();
        bench
    }

    pub(super) fn step(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.replica.step(self.now, input);
        self.note(effects)
    }

    pub(super) fn settle(&mut self) -> Vec<Effect> {
        let effects = self.replica.settle(self.now);
        self.note(effects)
    }

    fn note(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        for effect in &effects {
            if let Effect::Write(seq, _) = effect {
                self.written = *seq;
            }
        }
        effects
    }

    /// All that was written is durable.
    pub(super) fn sync(&mut self) -> Vec<Effect> {
        self.step(Input::Durable(self.written))
    }

    pub(super) fn after(&mut self, time: Duration) {
        self.now.since_start += time;
        self.now.clock_ms += u64::try_from(time.as_millis()).unwrap();
    }

    pub(super) fn up(&mut self, number: u16) -> Vec<Effect> {
        self.step(Input::PeerUp { peer: id(number), process: process(number, 1) })
    }

    pub(super) fn says(&mut self, number: u16, message: Message) -> Vec<Effect> {
        self.step(Input::Message { from: id(number), process: process(number, 1), message })
    }

    /// `number` promises our term with an empty log.
    pub(super) fn promised(&mut self, counter: u64, number: u16) -> Vec<Effect> {
        self.promised_with(counter, number, &[], 0, true)
    }

    pub(super) fn promised_with(
        &mut self,
        counter: u64,
        number: u16,
        lines: &[(Term, u64)],
        end: u64,
        certain: bool,
    ) -> Vec<Effect> {
        let (term, vector, log_start) = (term(counter, 0), vector(lines), Offset::ZERO);
        self.says(number, Message::Promised { term, vector, log_start, log_end: Offset(end), certain })
    }

    /// `number` is attached to term 1, durable up to `end`.
    pub(super) fn attached(&mut self, number: u16, end: u64) -> Vec<Effect> {
        self.settle();
        self.says(number, Message::Attached { term: term(1, 0), log_end: Offset(end) })
    }

    /// The entry's leader shows its log.
    pub(super) fn attach(
        &mut self,
        entry: &Entry,
        leader: u16,
        lines: &[(Term, u64)],
        log_start: u64,
        log_end: u64,
    ) -> Vec<Effect> {
        let message = Message::Attach {
            entry: entry.clone(),
            term: Term { epoch: entry.epoch, process: process(leader, 1) },
            follower: process(0, 1),
            vector: vector(lines),
            log_start: Offset(log_start),
            log_end: Offset(log_end),
            counted: Offset::ZERO,
            producers: Vec::new(),
        };
        self.says(leader, message)
    }

    pub(super) fn append(&mut self, leader: Term, batches: Vec<Batch>, high_watermark: u64) -> Vec<Effect> {
        let from = batches.first().map_or(self.replica.log_end(), Batch::base);
        let high_watermark = Offset(high_watermark);
        self.says(1, Message::Append { term: leader, from, batches, high_watermark, log_start: Offset::ZERO })
    }

    pub(super) fn publish(&mut self, ticket: u64, sequence: Option<(u128, u64)>) -> Vec<Effect> {
        self.step(Input::Produce { ticket: Ticket(ticket), batch: produced(sequence) })
    }
}

pub(super) fn writes(effects: &[Effect]) -> Vec<Write> {
    effects
        .iter()
        .filter_map(|effect| if let Effect::Write(_, write) = effect { Some(write.clone()) } else { None })
        .collect()
}

pub(super) fn sent(effects: &[Effect]) -> Vec<(ReplicaId, Message)> {
    effects
        .iter()
        .filter_map(|effect| {
            if let Effect::Send { to, message } = effect { Some((*to, message.clone())) } else { None }
        })
        .collect()
}
