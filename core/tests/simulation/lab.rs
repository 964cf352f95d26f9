//! A few replicas on a bench, where a test decides who hears whom.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use fulmar_core::batch::{ProducedBatch, ProducerSequence, Record};
use fulmar_core::entry::{Entry, Members, ReplicaSet};
use fulmar_core::id::{Incarnation, Ordinal, PartitionKey, ProducerId, ReplicaId, TopicId};
use fulmar_core::offset::Offset;
use fulmar_core::partition::{Effect, Input, Message, Now, Refusal, Replica, Ticket};
use fulmar_core::term::{BootId, Epoch, Process, Session};

use crate::disk::{Disk, State};
use crate::random::Random;

/// The one partition.
pub(crate) fn key() -> PartitionKey {
    PartitionKey { topic: TopicId(0x7001), partition: 0 }
}

pub(crate) fn id(name: char) -> ReplicaId {
    let number = u16::try_from(u32::from(name) - u32::from('A')).expect("a capital letter");
    ReplicaId { ordinal: Ordinal(number), incarnation: Incarnation(u128::from(number) + 1) }
}

pub(crate) fn set(names: &str, ack_quorum: u8) -> ReplicaSet {
    ReplicaSet::new(names.chars().map(id).collect(), ack_quorum).expect("it is well formed")
}

pub(crate) fn entry(counter: u64, leader: char, members: Members) -> Entry {
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

struct Place {
    replica: Option<Replica>,
    disk: Disk,
    last_write: Option<fulmar_core::partition::WriteSeq>,
}

/// Messages between two replicas that may not talk wait here.
type Parked = Vec<(char, Process, char, Message)>;

pub(crate) struct Lab {
    places: BTreeMap<char, Place>,
    now: Now,
    random: Random,
    wires: Parked,
    pub(crate) answers: BTreeMap<Ticket, Result<Offset, Refusal>>,
    tickets: u64,
}

impl Lab {
    /// Replicas with empty volumes.
    pub(crate) fn new(names: &str) -> Self {
        let places = names.chars().map(|name| {
            let disk = Disk::new(id(name).incarnation.0, 1);
            (name, Place { replica: None, disk, last_write: None })
        });
        let places = places.collect();
        let now = Now { since_start: Duration::ZERO, clock_ms: 1_000_000 };
        let (random, answers) = (Random::new(1), BTreeMap::new());
        let mut lab = Self { places, now, random, wires: Vec::new(), answers, tickets: 0 };
        names.chars().for_each(|name| lab.start(name));
        lab
    }

    pub(crate) fn replica(&self, name: char) -> &Replica {
        self.places[&name].replica.as_ref().expect("it runs")
    }

    pub(crate) fn disk(&self, name: char) -> &Disk {
        &self.places[&name].disk
    }

    /// What its volume holds, synced or not.
    pub(crate) fn log(&self, name: char) -> State {
        self.disk(name).written.states.get(&key()).cloned().unwrap_or_default()
    }

    pub(crate) fn process(&self, name: char) -> Process {
        *self.places[&name].disk.processes.last().expect("it was started")
    }

    /// A process on the volume as it is.
    pub(crate) fn start(&mut self, name: char) {
        let place = self.places.get_mut(&name).expect("it exists");
        let session = place.disk.processes.len() as u64 + 1;
        let process =
            Process { session: Session(session), boot: BootId(session * 100 + u64::from(u32::from(name))) };
        place.disk.processes.push(process);
        place.last_write = None;
        let recovered = place.disk.recovered().pop().map(|(_, recovered)| recovered).unwrap_or_default();
        place.replica = Some(Replica::new(id(name), process, key(), recovered).expect("core wrote it"));
        self.step(name, Input::Tick);
        self.step(name, Input::Confirmed);
    }

    pub(crate) fn crash(&mut self, name: char, drops_commit: bool) {
        let place = self.places.get_mut(&name).expect("it exists");
        place.replica = None;
        // Nothing of what was not synced survives here: the test says what was.
        place.disk.forget_pending();
        place.disk.crash(&mut self.random, drops_commit);
        let others: Vec<char> = self.places.keys().copied().collect();
        for other in others {
            self.step(other, Input::PeerDown(id(name)));
        }
    }

    /// Both hear that the other is there.
    pub(crate) fn connect(&mut self, a: char, b: char) {
        for (here, there) in [(a, b), (b, a)] {
            let process = self.process(there);
            self.step(here, Input::PeerUp { peer: id(there), process });
        }
    }

    pub(crate) fn disconnect(&mut self, a: char, b: char) {
        self.step(a, Input::PeerDown(id(b)));
        self.step(b, Input::PeerDown(id(a)));
    }

    pub(crate) fn connect_all(&mut self, names: &str) {
        for (at, a) in names.chars().enumerate() {
            for b in names.chars().skip(at + 1) {
                self.connect(a, b);
            }
        }
    }

    pub(crate) fn assign(&mut self, names: &str, entry: &Entry) {
        for name in names.chars() {
            self.step(name, Input::Assign(entry.clone()));
        }
    }

    pub(crate) fn step(&mut self, name: char, input: Input) {
        let now = self.now;
        let Some(replica) = self.places.get_mut(&name).and_then(|place| place.replica.as_mut()) else {
            return;
        };
        let effects = replica.step(now, input);
        self.carry_out(name, effects);
    }

    fn carry_out(&mut self, name: char, effects: Vec<Effect>) {
        let process = self.process(name);
        for effect in effects {
            let place = self.places.get_mut(&name).expect("it exists");
            match effect {
                Effect::Write(seq, write) => {
                    place.disk.write(key(), seq, write);
                    place.last_write = Some(seq);
                }
                Effect::Send { to, message } => self.wires.push((name, process, letter(to), message)),
                Effect::Ship { to, term, from, until, bytes_max, high_watermark, log_start, fetch } => {
                    let batches =
                        place.disk.read(key(), from, until, bytes_max).expect("nothing is damaged here");
                    let end = batches.last().map_or(from, fulmar_core::batch::Batch::end);
                    let message = if fetch {
                        Message::Fetched { term, batches }
                    } else {
                        Message::Append { term, from, batches, high_watermark, log_start }
                    };
                    self.wires.push((name, process, letter(to), message));
                    self.step(name, Input::Shipped { to, until: end, bytes: 1 });
                }
                Effect::Refetch { to, term, offset, until, bytes_max } => {
                    let batches = place.disk.read(key(), offset, until, bytes_max).unwrap_or_default();
                    self.wires.push((
                        name,
                        process,
                        letter(to),
                        Message::Refetched { term, offset, batches },
                    ));
                }
                Effect::Acknowledge { ticket, base } => drop(self.answers.insert(ticket, Ok(base))),
                Effect::Refuse { ticket, refusal } => drop(self.answers.insert(ticket, Err(refusal))),
                Effect::HighWatermark(offset) => place.disk.high_watermark(key(), offset),
                Effect::Changed => {}
            }
        }
    }

    /// Everything that was written is synced.
    pub(crate) fn sync(&mut self, name: char) {
        let Some(place) = self.places.get_mut(&name) else { return };
        if let Some(seq) = place.last_write.take().filter(|_| place.replica.is_some()) {
            place.disk.sync_all();
            self.step(name, Input::Durable(seq));
        }
    }

    pub(crate) fn settle(&mut self, name: char) {
        let now = self.now;
        let Some(replica) = self.places.get_mut(&name).and_then(|place| place.replica.as_mut()) else {
            return;
        };
        let effects = replica.settle(now);
        self.carry_out(name, effects);
    }

    /// Delivers what these have for each other, once; what others have waits.
    pub(crate) fn deliver(&mut self, names: &str) {
        let (now, wait) = std::mem::take(&mut self.wires)
            .into_iter()
            .partition(|(from, _, to, _)| names.contains(*from) && names.contains(*to));
        self.wires = wait;
        let now: Parked = now;
        for (from, process, to, message) in now {
            self.step(to, Input::Message { from: id(from), process, message });
        }
    }

    /// These talk to each other for a few seconds.
    pub(crate) fn run(&mut self, names: &str) {
        for _ in 0..40 {
            for name in names.chars() {
                self.sync(name);
                self.settle(name);
            }
            self.deliver(names);
            self.now.since_start += Duration::from_millis(100);
            self.now.clock_ms += 100;
            names.chars().for_each(|name| self.step(name, Input::Tick));
        }
    }

    /// Whatever is on its way is lost.
    pub(crate) fn lose_messages(&mut self) {
        self.wires.clear();
    }

    pub(crate) fn publish(&mut self, name: char, value: u64) -> Ticket {
        self.publish_as(name, value, None)
    }

    pub(crate) fn publish_as(&mut self, name: char, value: u64, sequence: Option<(u128, u64)>) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let sequence = sequence
            .map(|(producer, sequence)| ProducerSequence { producer: ProducerId(producer), sequence });
        let value = Bytes::copy_from_slice(&value.to_le_bytes());
        let record = Record { value, ..Record::default() };
        let batch = ProducedBatch::build(&[record], sequence).expect("it is well formed");
        self.step(name, Input::Produce { ticket, batch });
        ticket
    }

    pub(crate) fn is_acknowledged(&self, ticket: Ticket) -> bool {
        matches!(self.answers.get(&ticket), Some(Ok(_)))
    }

    /// The values that a replica's log holds.
    pub(crate) fn values(&self, name: char) -> Vec<u64> {
        self.log(name).batches.iter().filter_map(crate::clients::value).collect()
    }
}

fn letter(replica: ReplicaId) -> char {
    char::from(b'A' + u8::try_from(replica.ordinal.0).expect("a letter"))
}
