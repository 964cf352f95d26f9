//! What happened, for people; kept only when somebody listens.

use std::collections::VecDeque;

use fulmar_core::batch::Batch;
use fulmar_core::broker::Input;
use fulmar_core::entry::Entry;
use fulmar_core::id::ReplicaId;
use fulmar_core::partition::{self, Effect, Message, Promise, Refusal, Write};
use fulmar_core::term::{Term, TermVector};

/// A failing story is read from its end; so many lines are plenty, and memory stays small.
const LINES_MAX: usize = 100_000;

pub(crate) struct Story {
    lines: VecDeque<String>,
    told: bool,
}

impl Story {
    pub(crate) fn new(told: bool) -> Self {
        Self { lines: VecDeque::new(), told }
    }

    pub(crate) fn is_told(&self) -> bool {
        self.told
    }

    pub(crate) fn line(&mut self, now_ms: u64, line: impl FnOnce() -> String) {
        if !self.told {
            return;
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>7} ms  {}", now_ms, line()));
    }

    pub(crate) fn last_lines(&self, count: usize) -> String {
        let skip = self.lines.len().saturating_sub(count);
        self.lines.iter().skip(skip).map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// `2#1`: the second broker in its first life.
fn replica(replica: ReplicaId) -> String {
    format!("{}#{}", replica.ordinal, replica.incarnation.0 >> 8)
}

fn term(term: Term) -> String {
    format!("{}/{}", term.epoch, term.process.session)
}

fn some_term(some: Option<Term>) -> String {
    some.map_or("none".to_owned(), term)
}

fn vector(vector: &TermVector) -> String {
    let lines: Vec<String> =
        vector.starts().iter().map(|line| format!("{}@{}", term(line.term), line.start)).collect();
    lines.join(" ")
}

pub(crate) fn entry(entry: &Entry) -> String {
    let names =
        |replicas: &[ReplicaId]| replicas.iter().map(|one| replica(*one)).collect::<Vec<_>>().join(",");
    let sets: Vec<String> = entry
        .members
        .sets()
        .map(|set| format!("{}of[{}]", set.ack_quorum(), names(set.replicas())))
        .collect();
    let leader = entry.leader.map_or("none".to_owned(), replica);
    let (learners, lost) = (names(&entry.learners), names(&entry.lost));
    format!("{} leader {leader} {} learners [{learners}] lost [{lost}]", entry.epoch, sets.join("+"))
}

fn batches(batches: &[Batch]) -> String {
    let each = |batch: &Batch| {
        format!("{}-{}{}", batch.base(), batch.end(), if batch.is_opening() { "!" } else { "" })
    };
    batches.iter().map(each).collect::<Vec<_>>().join(" ")
}

fn promise(promise: &Promise) -> String {
    let held = promise.entry.as_ref().map_or("none".to_owned(), entry);
    format!("{:?} term {} entry {held}", promise.kind, some_term(promise.term))
}

fn message(message: &Message) -> String {
    match message {
        Message::Fence { term: t, .. } => format!("fence {}", term(*t)),
        Message::Promised { term: t, vector: v, log_start, log_end, certain } => {
            format!("promised {} log {log_start}-{log_end} {} certain {certain}", term(*t), vector(v))
        }
        Message::Refused { term: t, promised, .. } => {
            format!("refused {} for {}", term(*t), some_term(*promised))
        }
        Message::Fetch { term: t, from, until } => format!("fetch {} {from}-{until}", term(*t)),
        Message::Snapshot { term: t, log_start, .. } => format!("snapshot {} at {log_start}", term(*t)),
        Message::Fetched { term: t, batches: b } => format!("fetched {} {}", term(*t), batches(b)),
        Message::Attach { term: t, vector: v, log_start, log_end, counted, .. } => {
            format!("attach {} log {log_start}-{log_end} {} counted {counted}", term(*t), vector(v))
        }
        Message::Attached { term: t, log_end } => format!("attached {} {log_end}", term(*t)),
        Message::Append { term: t, from, batches: b, high_watermark, log_start } => {
            format!("append {} from {from} [{}] hw {high_watermark} start {log_start}", term(*t), batches(b))
        }
        Message::Stored { term: t, log_end } => format!("stored {} {log_end}", term(*t)),
        Message::Unreadable { term: t, offset } => format!("unreadable {} at {offset}", term(*t)),
        Message::Refetch { term: t, offset } => format!("refetch {} at {offset}", term(*t)),
        Message::Refetched { term: t, offset, batches: b } => {
            format!("refetched {} at {offset} {}", term(*t), batches(b))
        }
        Message::Release { epoch } => format!("release {epoch}"),
    }
}

/// `None` for what would only fill the page.
pub(crate) fn input(input: &Input) -> Option<String> {
    Some(match input {
        Input::Partition(_, partition::Input::Produce { .. } | partition::Input::Shipped { .. })
        | Input::Tick => {
            return None;
        }
        Input::Partition(_, other) => format!("{other:?}"),
        Input::PeerUp(one) => format!("peer up {} session {}", replica(one.peer), one.process.session),
        Input::PeerDown { peer, .. } => format!("peer down {}", replica(*peer)),
        Input::Message { from, message: m, .. } => format!("{} says {}", replica(*from), message(m)),
        Input::Assign(_) => return None,
        Input::Release { epoch, .. } => format!("release {epoch}"),
        Input::OperatorUp => "operator up".to_owned(),
        Input::OperatorDown => "operator down".to_owned(),
    })
}

/// `None` for what would only fill the page.
pub(crate) fn effect(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Changed | Effect::Ship { .. } | Effect::Refetch { .. } => return None,
        Effect::Refuse { refusal: Refusal::NotLeader { .. } | Refusal::NotEnoughReplicas { .. }, .. } => {
            return None;
        }
        Effect::Write(seq, Write::Append(batch)) => {
            format!("write {} append {}", seq.0, batches(std::slice::from_ref(batch)))
        }
        Effect::Write(seq, Write::Promise(one)) => format!("write {} promise {}", seq.0, promise(one)),
        Effect::Write(seq, Write::Reset { start, vector: v, .. }) => {
            format!("write {} reset {start} {}", seq.0, vector(v))
        }
        Effect::Write(seq, write) => format!("write {} {write:?}", seq.0),
        Effect::Send { to, message: m } => format!("to {}: {}", replica(*to), message(m)),
        Effect::Acknowledge { ticket, base } => format!("acknowledge {} at {base}", ticket.0),
        Effect::Refuse { ticket, refusal } => format!("refuse {} {refusal:?}", ticket.0),
        Effect::HighWatermark(offset) => format!("high watermark {offset}"),
    })
}
