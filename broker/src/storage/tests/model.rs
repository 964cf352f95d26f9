//! A random life of a volume against a model in memory: writes of all kinds, crashes of all kinds, also while starting.

use std::collections::BTreeMap;

use fulmar_core::offset::Offset;
use fulmar_core::partition::{Promise, PromiseKind, Recovered, Write, WriteSeq};
use fulmar_core::term::TermVector;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::faulty::{Crash, FaultyFiles};
use super::*;
use crate::storage::tables::aside::COPIES_MAX;

/// What a replica is after one write.
#[derive(Debug, Clone, Default, PartialEq)]
struct State {
    start: u64,
    end: u64,
    batches: Vec<Batch>,
    vector: TermVector,
    promise: Promise,
    uncertain: bool,
    /// Copies of what was set aside, the oldest first.
    aside: Vec<Vec<Batch>>,
}

#[derive(Debug, Default)]
struct Replica {
    /// After each write of this life; the first is what the life began with.
    states: Vec<State>,
    durable: usize,
    committed: u64,
    term: u64,
}

#[derive(Debug, Default)]
struct Model {
    replicas: BTreeMap<PartitionKey, Replica>,
}

impl State {
    fn after(&self, write: &Write) -> State {
        let mut next = self.clone();
        match write {
            Write::Append(batch) => {
                next.vector.note(batch.term(), batch.base());
                next.end = batch.end().0;
                next.batches.push(batch.clone());
            }
            Write::Cut { to } => {
                next.end = to.0;
                next.batches.retain(|batch| batch.base() < *to);
                next.vector.cut(*to);
            }
            Write::Reset { start, vector, .. } => {
                (next.start, next.end) = (start.0, start.0);
                next.batches.clear();
                next.vector = vector.clone();
            }
            Write::SetAside { to, .. } => {
                next.end = to.0;
                let kept = |batch: &Batch| batch.base() < *to;
                let copy: Vec<Batch> = next.batches.iter().filter(|batch| !kept(batch)).cloned().collect();
                next.batches.retain(kept);
                next.vector.cut(*to);
                if !copy.is_empty() {
                    next.aside.push(copy);
                }
                if next.aside.len() > COPIES_MAX {
                    next.aside.remove(0);
                }
            }
            Write::ForgetAside => next.aside.clear(),
            Write::Promise(promise) => next.promise = promise.clone(),
            Write::LogStart(start) => {
                next.start = start.0;
                next.batches.retain(|batch| batch.end() > *start);
            }
            // A copy that holds stays, and none is damaged here.
            Write::Mend(_) => {}
            Write::Mark { uncertain } => next.uncertain = *uncertain,
            Write::Release => {
                let State { promise, uncertain, aside, .. } = next;
                next = State { promise, uncertain, aside, ..State::default() };
            }
        }
        next
    }

    fn is(&self, recovered: &Recovered, log: &[Batch], aside: &[Vec<Batch>]) -> bool {
        self.start == recovered.log_start.0
            && self.end == recovered.log_end.0
            && self.vector == recovered.vector
            && self.promise == recovered.promise
            && self.uncertain == recovered.uncertain
            && self.batches == log
            && self.aside == aside
    }
}

impl Model {
    /// Something to write that a replica could want.
    fn invent(&mut self, key: PartitionKey, chance: &mut StdRng) -> Write {
        let replica = self.replicas.entry(key).or_insert_with(|| Replica {
            states: vec![State::default()],
            term: 1,
            ..Replica::default()
        });
        let state = replica.states.last().unwrap().clone();
        let boundary = |chance: &mut StdRng, from: u64| {
            let bounds: Vec<u64> =
                state.batches.iter().map(|batch| batch.base().0).filter(|base| *base >= from).collect();
            if bounds.is_empty() { state.end } else { bounds[chance.random_range(0..bounds.len())] }
        };
        let write = match chance.random_range(0..100) {
            0..5 => Write::Cut { to: Offset(boundary(chance, state.start.max(replica.committed))) },
            5..7 => {
                replica.term += 1;
                let start = state.end + chance.random_range(0..50);
                replica.committed = start;
                Write::Reset { start: Offset(start), vector: state.vector.clone(), producers: Vec::new() }
            }
            7..11 => {
                replica.term += 1;
                let term = Some(term(replica.term));
                Write::Promise(Promise { entry: None, term, kind: PromiseKind::Live })
            }
            11..15 => {
                let to = boundary(chance, state.start).min(replica.committed).max(state.start);
                let base = state.batches.iter().map(|batch| batch.base().0).filter(|base| *base <= to).max();
                Write::LogStart(Offset(base.unwrap_or(state.start)))
            }
            15..17 => Write::Mark { uncertain: chance.random_bool(0.5) },
            17 if chance.random_bool(0.3) => {
                replica.committed = 0;
                Write::Release
            }
            18..21 => {
                // Even what is committed.
                let to = Offset(boundary(chance, state.start));
                replica.committed = replica.committed.min(to.0);
                replica.term += 1;
                Write::SetAside { to, producers: Vec::new() }
            }
            21 if chance.random_bool(0.1) => Write::ForgetAside,
            _ => {
                let size = *[5, 40, 300, 1500, 7000].get(chance.random_range(0..5)).unwrap();
                let records = chance.random_range(1..4);
                Write::Append(batch_of(key, state.end, records, size, term(replica.term)))
            }
        };
        // A log's terms must begin at different offsets.
        if let (Write::Append(batch), Some(last)) = (&write, state.vector.starts().last())
            && last.start >= batch.base()
            && last.term != batch.term()
        {
            return Write::Mark { uncertain: false };
        }
        write
    }

    fn issue(&mut self, key: PartitionKey, write: &Write) -> WriteSeq {
        let replica = self.replicas.get_mut(&key).unwrap();
        let next = replica.states.last().unwrap().after(write);
        replica.states.push(next);
        WriteSeq(replica.states.len() as u64 - 1)
    }

    fn take_back(&mut self, writes: &[(PartitionKey, WriteSeq, Write)]) {
        for (key, ..) in writes {
            self.replicas.get_mut(key).unwrap().states.pop();
        }
    }

    fn note(&mut self, events: impl Iterator<Item = StorageEvent>) {
        for event in events {
            let StorageEvent::Durable(writes) = event else { continue };
            for (key, seq) in writes {
                let replica = self.replicas.get_mut(&key).unwrap();
                let seq = usize::try_from(seq.0).unwrap();
                assert!(
                    seq < replica.states.len() && seq >= replica.durable,
                    "durable goes up, to what was written"
                );
                replica.durable = seq;
            }
        }
    }

    /// What came back is the state after some write, not before the last durable one. It goes on from there.
    fn verify(&mut self, running: &Running, seed: u64) {
        for (key, replica) in &mut self.replicas {
            let recovered =
                running.opened.replicas.iter().find(|(other, _)| other == key).map(|(_, found)| found);
            let Some(recovered) = recovered else {
                assert_eq!(replica.durable, 0, "seed {seed}: {key} is gone");
                replica.restart(State::default());
                continue;
            };
            let log = running.log(*key, recovered.log_start.0);
            let aside = running.aside(*key);
            let candidates = &replica.states[replica.durable..];
            let Some(state) = candidates.iter().rev().find(|state| state.is(recovered, &log, &aside)) else {
                let brief = |state: &State| {
                    let copies: Vec<usize> = state.aside.iter().map(Vec::len).collect();
                    (state.start, state.end, state.batches.len(), state.promise.term, copies)
                };
                panic!(
                    "seed {seed}: {key} came back as {} to {} with {} batches, {:?}, uncertain {}, copies {:?}; it may be one of {:?}",
                    recovered.log_start,
                    recovered.log_end,
                    log.len(),
                    recovered.promise.term,
                    recovered.uncertain,
                    aside.iter().map(Vec::len).collect::<Vec<_>>(),
                    candidates.iter().map(brief).collect::<Vec<_>>()
                );
            };
            assert!(recovered.high_watermark <= recovered.log_end, "seed {seed}: {key}");
            assert!(recovered.high_watermark >= recovered.log_start, "seed {seed}: {key}");
            let state = state.clone();
            replica.committed = recovered.high_watermark.0;
            replica.restart(state);
        }
    }
}

impl Replica {
    fn restart(&mut self, state: State) {
        self.states = vec![state];
        self.durable = 0;
        // A new process leads in a new term.
        self.term += 1;
    }
}

fn crash(chance: &mut StdRng) -> Crash {
    match chance.random_range(0..4) {
        0 => Crash::Kill,
        1 => Crash::Drop,
        _ => Crash::Tear(chance.random()),
    }
}

/// One life: writes until the machine dies, or until it is stopped.
fn live(files: &FaultyFiles, running: Running, model: &mut Model, chance: &mut StdRng) {
    let last = files.changes() + chance.random_range(1..250);
    files.set(|faults| faults.dead_after = Some(last));
    for _ in 0..chance.random_range(1..150) {
        let key = key(chance.random_range(0..4));
        let writes: Vec<_> = (0..chance.random_range(1..4))
            .map(|_| {
                let write = model.invent(key, chance);
                (key, model.issue(key, &write), write)
            })
            .collect();
        if let Err(error) = running.storage.write_blocking(writes.clone()) {
            assert!(matches!(error, crate::storage::WriteError::Stopped(_)), "{error}");
            model.take_back(&writes);
            break;
        }
        model.note(running.events.try_iter());
        let replica = model.replicas.get_mut(&key).unwrap();
        let durable = replica.states[replica.durable].end;
        // Committed is at most durable, and never cut.
        if chance.random_bool(0.2)
            && replica.states[replica.durable..].iter().all(|state| state.end >= durable)
        {
            replica.committed = replica.committed.max(durable);
            running.storage.note_high_watermark(key, Offset(durable));
        }
        if chance.random_bool(0.05) {
            std::thread::sleep(std::time::Duration::from_millis(chance.random_range(1..30)));
        }
        if chance.random_bool(0.05) {
            let state = replica.states.last().unwrap();
            if let Ok(found) = running.storage.read(key, Offset(state.start), Offset(state.end), usize::MAX) {
                assert!(state.batches.starts_with(&found), "a read gives what was written");
            }
        }
    }
    let Running { storage, events, .. } = running;
    let closed = chance.random_bool(0.2) && storage.close().is_ok();
    if !closed && chance.random_bool(0.7) {
        // In the middle of whatever its threads do; a dropped handle lets redb close its file in order.
        files.crash(crash(chance));
    }
    drop(storage);
    model.note(events.try_iter());
    if closed {
        model.replicas.values_mut().for_each(|replica| replica.durable = replica.states.len() - 1);
    }
}

fn story(seed: u64) {
    let chance = &mut StdRng::seed_from_u64(seed);
    let files = FaultyFiles::default();
    let mut model = Model::default();
    for _ in 0..8 {
        if chance.random_bool(0.3) {
            // It dies while it starts, perhaps for the first time.
            let last = chance.random_range(0..80);
            files.set(|faults| faults.dead_after = Some(last));
            if let Ok(running) = try_open(&files, &config()) {
                drop(running);
            }
            files.crash(crash(chance));
        }
        let settings = if chance.random_bool(0.5) { config() } else { slow_to_apply() };
        let running = try_open(&files, &settings).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        model.verify(&running, seed);
        live(&files, running, &mut model, chance);
        files.crash(crash(chance));
    }
}

#[test]
fn random_lives_lose_nothing_durable_and_invent_nothing() {
    let first = std::env::var("STORAGE_SEED").ok().and_then(|seed| seed.parse().ok());
    let count = std::env::var("STORAGE_STORIES").ok().and_then(|count| count.parse().ok()).unwrap_or(40);
    let from: u64 = first.unwrap_or_else(|| rand::random::<u32>().into());
    println!("seeds {from} to {}", from + count - 1);
    for seed in from..from + count {
        story(seed);
    }
}
