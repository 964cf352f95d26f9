//! The book: what was acknowledged where, what was read, and every contradiction between the two.
//!
//! Owns the judgement. An acknowledged record has one offset and one value for ever; a record that the SDK calls absent is never
//! read; what is read of one writer rises, but for records that were given up with an unknown outcome; two readings of one offset are
//! equal.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::time::Instant;

use super::record::{Name, Print};

/// More than a person reads; the first ones tell.
const VIOLATIONS_MAX: usize = 100;

/// A batch has fewer records: a lane has not as many under way.
const BATCH_OFFSETS_MAX: u64 = 128;

/// A topic and a partition of it.
pub(crate) type Partition = (&'static str, u32);

/// A record on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) topic: &'static str,
    pub(crate) partition: u32,
    pub(crate) name: Name,
    pub(crate) print: Print,
    pub(crate) at: Instant,
}

/// What the SDK said of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stands there.
    Acknowledged { offset: u64 },
    /// It may be in the log, once, or not at all.
    Unknown,
    /// It is not in the log.
    Absent,
}

/// A record that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) offset: u64,
    pub(crate) name: Option<Name>,
    pub(crate) print: Print,
}

/// What is known of one partition.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// What was acknowledged, by offset.
    pub(crate) acknowledged: BTreeMap<u64, (Name, Print)>,
    /// What the follower has read, by offset, in order.
    pub(crate) read: Vec<(u64, Print)>,
    /// Acknowledged since the last comparison.
    fresh: Vec<u64>,
    last_number: HashMap<u64, u64>,
    names: HashSet<Name>,
    absent: HashSet<Name>,
    /// Given up with an unknown outcome: these may come once, and late, for what was under way may still arrive.
    unknown: HashSet<Name>,
}

#[derive(Debug, Clone, Copy)]
struct Writer {
    partition: Partition,
    is_patient: bool,
    last_acknowledged: Option<Instant>,
}

#[derive(Debug, Default)]
struct State {
    logs: BTreeMap<Partition, Log>,
    writers: BTreeMap<u64, Writer>,
    pending: BTreeMap<Name, Instant>,
    /// The longest wait of an acknowledged record of each topic since it was last asked.
    waits: BTreeMap<&'static str, Duration>,
    counts: Counts,
    violations: Vec<String>,
    refusals: BTreeMap<String, u64>,
    /// Where a record was given away to be damaged.
    given: BTreeMap<Partition, BTreeSet<u64>>,
}

/// How much of everything.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) sent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) unknown: u64,
    pub(crate) absent: u64,
    pub(crate) read: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) disordered: u64,
    pub(crate) late: u64,
    pub(crate) changed: u64,
    pub(crate) raised: u64,
}

impl Counts {
    /// Together with those of another round.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            sent,
            acknowledged,
            unknown,
            absent,
            read,
            lost,
            duplicated,
            disordered,
            late,
            changed,
            raised,
        } = other;
        let sums = [
            (&mut self.sent, sent),
            (&mut self.acknowledged, acknowledged),
            (&mut self.unknown, unknown),
            (&mut self.absent, absent),
            (&mut self.read, read),
            (&mut self.lost, lost),
            (&mut self.duplicated, duplicated),
            (&mut self.disordered, disordered),
            (&mut self.late, late),
            (&mut self.changed, changed),
            (&mut self.raised, raised),
        ];
        for (sum, more) in sums {
            *sum += more;
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Book {
    state: Mutex<State>,
}

impl State {
    fn violated(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(what);
        }
    }
}

impl Book {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a lane.
    pub(crate) fn new_writer(&self, topic: &'static str, partition: u32, is_patient: bool) -> u64 {
        let mut state = self.state();
        let number = state.writers.len() as u64 + 1;
        let partition = (topic, partition);
        let writer = Writer { partition, is_patient, last_acknowledged: None };
        state.writers.insert(number, writer);
        state.logs.entry(partition).or_default();
        number
    }

    /// A record is handed over.
    pub(crate) fn sent(&self, sent: &Sent) {
        let mut state = self.state();
        state.counts.sent += 1;
        state.pending.insert(sent.name, sent.at);
    }

    /// The SDK says what became of it.
    pub(crate) fn fate(&self, sent: &Sent, fate: Fate, is_patient: bool) {
        let mut state = self.state();
        let waited = sent.at.elapsed();
        state.pending.remove(&sent.name);
        let at = (sent.topic, sent.partition);
        match fate {
            Fate::Acknowledged { offset } => {
                state.counts.acknowledged += 1;
                if is_patient {
                    let longest = state.waits.entry(sent.topic).or_default();
                    *longest = (*longest).max(waited);
                }
                if let Some(writer) = state.writers.get_mut(&sent.name.writer) {
                    writer.last_acknowledged = Some(Instant::now());
                }
                let log = state.logs.entry(at).or_default();
                log.fresh.push(offset);
                if let Some((other, _)) = log.acknowledged.insert(offset, (sent.name, sent.print)) {
                    state.violated(format!(
                        "{}/{}: offset {offset} was acknowledged twice, to {other:?} and to {:?}",
                        sent.topic, sent.partition, sent.name
                    ));
                }
            }
            Fate::Unknown => {
                state.counts.unknown += 1;
                state.logs.entry(at).or_default().unknown.insert(sent.name);
            }
            Fate::Absent => {
                state.counts.absent += 1;
                let log = state.logs.entry(at).or_default();
                log.absent.insert(sent.name);
                if log.names.contains(&sent.name) {
                    state.counts.raised += 1;
                    let what =
                        format!("{}/{}: {:?} is in the log, and was said not to be", at.0, at.1, sent.name);
                    state.violated(what);
                }
            }
        }
        if is_patient && !matches!(fate, Fate::Acknowledged { .. }) {
            let what = format!("{}/{}: {:?} was given up after {waited:?}: {fate:?}", at.0, at.1, sent.name);
            state.violated(what);
        }
    }

    /// A broker refused a record for good.
    pub(crate) fn refused(&self, sent: &Sent, why: &str) {
        let mut state = self.state();
        *state.refusals.entry(why.to_owned()).or_default() += 1;
        let what = format!("{}/{}: {:?} was refused: {why}", sent.topic, sent.partition, sent.name);
        state.violated(what);
    }

    /// The follower read a record.
    pub(crate) fn read(&self, topic: &'static str, partition: u32, found: &Found) {
        let mut state = self.state();
        let state = &mut *state;
        state.counts.read += 1;
        let log = state.logs.entry((topic, partition)).or_default();
        let at = format!("{topic}/{partition}, offset {}", found.offset);
        let mut wrong = Vec::new();
        if log.read.last().is_some_and(|(last, _)| *last >= found.offset) {
            state.counts.disordered += 1;
            wrong.push(format!("{at}: read after offset {}", log.read.last().map_or(0, |(last, _)| *last)));
        }
        log.read.push((found.offset, found.print));
        match found.name {
            None => wrong.push(format!("{at}: a record that nobody sent")),
            Some(name) => {
                if !log.names.insert(name) {
                    state.counts.duplicated += 1;
                    wrong.push(format!("{at}: {name:?} a second time"));
                }
                let last = log.last_number.entry(name.writer).or_default();
                if name.number < *last && log.unknown.contains(&name) {
                    state.counts.late += 1;
                } else if name.number < *last {
                    state.counts.disordered += 1;
                    wrong.push(format!("{at}: {name:?} behind number {last} of the same writer"));
                }
                *last = (*last).max(name.number);
                if log.absent.contains(&name) {
                    state.counts.raised += 1;
                    wrong.push(format!("{at}: {name:?}, which was said not to be in the log"));
                }
            }
        }
        for what in wrong {
            state.violated(what);
        }
    }

    /// Something else was wrong.
    pub(crate) fn violation(&self, what: String) {
        self.state().violated(what);
    }

    /// Takes what was violated since it was last asked.
    pub(crate) fn violations(&self) -> Vec<String> {
        std::mem::take(&mut self.state().violations)
    }

    /// The longest waits of acknowledged records since it was last asked, what still waits included.
    pub(crate) fn take_waits(&self) -> BTreeMap<&'static str, Duration> {
        let mut state = self.state();
        let mut waits = std::mem::take(&mut state.waits);
        for (name, at) in &state.pending {
            let Some(writer) = state.writers.get(&name.writer).filter(|writer| writer.is_patient) else {
                continue;
            };
            let longest = waits.entry(writer.partition.0).or_default();
            *longest = (*longest).max(at.elapsed());
        }
        waits
    }

    /// Partitions where no patient writer was acknowledged since then.
    pub(crate) fn silent_since(&self, then: Instant) -> Vec<Partition> {
        let state = self.state();
        let silent =
            |writer: &&Writer| writer.is_patient && writer.last_acknowledged.is_none_or(|at| at < then);
        state.writers.values().filter(silent).map(|writer| writer.partition).collect()
    }

    /// How many records of patient writers wait.
    pub(crate) fn pending(&self) -> usize {
        let state = self.state();
        let patient = |name: &&Name| state.writers.get(&name.writer).is_some_and(|writer| writer.is_patient);
        state.pending.keys().filter(patient).count()
    }

    /// Partitions whose follower has not come as far as what was acknowledged; with both offsets.
    pub(crate) fn unread(&self) -> Vec<(Partition, u64, Option<u64>)> {
        let state = self.state();
        let behind = state.logs.iter().filter_map(|(at, log)| {
            let acknowledged = *log.acknowledged.keys().next_back()?;
            let read = log.read.last().map(|(offset, _)| *offset);
            (read.is_none_or(|read| read < acknowledged)).then_some((*at, acknowledged, read))
        });
        behind.collect()
    }

    /// Compares what was acknowledged since the last time with what the follower has read at that offset.
    pub(crate) fn compare_fresh(&self) {
        let mut state = self.state();
        let state = &mut *state;
        let mut wrong = Vec::new();
        for ((topic, partition), log) in &mut state.logs {
            let end = log.read.last().map(|(offset, _)| *offset);
            let (now, later): (Vec<u64>, Vec<u64>) =
                log.fresh.drain(..).partition(|offset| end.is_some_and(|end| *offset <= end));
            log.fresh = later;
            for offset in now {
                let (name, print) = log.acknowledged[&offset];
                let found = log.read.binary_search_by_key(&offset, |(offset, _)| *offset).ok();
                match found.map(|at| log.read[at].1) {
                    Some(read) if read == print => {}
                    Some(_) => {
                        state.counts.changed += 1;
                        wrong.push(format!(
                            "{topic}/{partition}, offset {offset}: not {name:?}, which was acknowledged"
                        ));
                    }
                    None => {
                        state.counts.lost += 1;
                        wrong.push(format!(
                            "{topic}/{partition}, offset {offset}: LOST {name:?}, acknowledged"
                        ));
                    }
                }
            }
        }
        for what in wrong {
            state.violated(what);
        }
    }

    /// Compares a whole reading of a partition with all that was acknowledged before it began, and with what the follower read.
    pub(crate) fn compare_all(&self, at: Partition, acknowledged_until: Option<u64>, found: &[(u64, Print)]) {
        let mut state = self.state();
        let state = &mut *state;
        let (topic, partition) = at;
        let mut wrong = Vec::new();
        let Some(log) = state.logs.get(&at) else { return };
        if let Some(until) = acknowledged_until {
            for (offset, (name, print)) in log.acknowledged.range(..=until) {
                match found
                    .binary_search_by_key(offset, |(offset, _)| *offset)
                    .ok()
                    .map(|index| found[index].1)
                {
                    Some(read) if read == *print => {}
                    Some(_) => {
                        state.counts.changed += 1;
                        wrong.push(format!("{topic}/{partition}, offset {offset}: read back, not {name:?}"));
                    }
                    None => {
                        state.counts.lost += 1;
                        wrong.push(format!(
                            "{topic}/{partition}, offset {offset}: LOST {name:?}, not read back"
                        ));
                    }
                }
            }
        }
        let mut first = log.read.iter().peekable();
        for (offset, print) in found {
            while first.next_if(|(other, _)| other < offset).is_some() {}
            if let Some((_, other)) = first.next_if(|(other, _)| other == offset)
                && other != print
            {
                state.counts.changed += 1;
                wrong.push(format!("{topic}/{partition}, offset {offset}: two readers disagree"));
            }
        }
        for what in wrong {
            state.violated(what);
        }
    }

    /// The last offset that was acknowledged in a partition.
    pub(crate) fn last_acknowledged(&self, at: Partition) -> Option<u64> {
        self.state().logs.get(&at).and_then(|log| log.acknowledged.keys().next_back().copied())
    }

    /// Some records that were acknowledged in a topic, no two of one batch, and none of a batch that one of them was given for
    /// before: who damages one copy of each has damaged no batch twice.
    pub(crate) fn some_acknowledged(&self, topic: &str, luck: &mut StdRng, count: usize) -> Vec<Name> {
        let mut state = self.state();
        let logs = state.logs.iter().filter(|((name, _), _)| *name == topic);
        let all =
            logs.flat_map(|(at, log)| log.acknowledged.iter().map(|(offset, found)| (*at, *offset, found.0)));
        let all: Vec<(Partition, u64, Name)> = all.collect();
        let mut given = Vec::new();
        for (at, offset, name) in all.sample(luck, count) {
            let taken = state.given.entry(*at).or_default();
            let near = offset.saturating_sub(BATCH_OFFSETS_MAX)..=offset.saturating_add(BATCH_OFFSETS_MAX);
            if taken.range(near).next().is_none() {
                taken.insert(*offset);
                given.push(*name);
            }
        }
        given
    }

    /// How much of everything.
    pub(crate) fn counts(&self) -> Counts {
        self.state().counts
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
