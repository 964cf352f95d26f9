//! What happened, for people; kept only when somebody listens.

use std::collections::VecDeque;

use fulmar_core::batch::Batch;
use fulmar_core::broker::Input;
use fulmar_core::control::{self, Greeting};
use fulmar_core::entry::Entry;
use fulmar_core::id::{PartitionKey, ReplicaId};
use fulmar_core::partition::{self, Effect, Message, Promise, Refusal, Report, Write};
use fulmar_core::term::{Term, TermVector};

/// A failing story is read from its end; so many lines are plenty, and memory stays small.
const LINES_MAX: usize = 100_000;

/// What marks lines that only a patient reader wants.
const DAILY: &str = "· ";

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

    /// The last lines; without the daily business of clients and appends unless `whole`.
    pub(crate) fn last_lines(&self, count: usize, whole: bool) -> String {
        let told: Vec<&str> =
            self.lines.iter().map(String::as_str).filter(|line| whole || !line.contains(DAILY)).collect();
        told[told.len().saturating_sub(count)..].join("\n")
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
    let accepted = entry.accepted_loss.map_or(String::new(), |accepted| format!(" accepted {accepted}"));
    format!(
        "{} leader {leader} {} learners [{learners}] lost [{lost}]{accepted}",
        entry.epoch,
        sets.join("+")
    )
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
        Input::Partition(_, partition::Input::Durable(seq)) => format!("{DAILY}durable {}", seq.0),
        Input::Partition(_, other) => format!("{other:?}"),
        Input::Message { from, message: m @ (Message::Append { .. } | Message::Stored { .. }), .. } => {
            format!("{DAILY}{} says {}", replica(*from), message(m))
        }
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
        Effect::Send { to, message: m @ (Message::Stored { .. } | Message::Append { .. }) } => {
            format!("{DAILY}to {}: {}", replica(*to), message(m))
        }
        Effect::Refuse { refusal: Refusal::NotLeader { .. } | Refusal::NotEnoughReplicas { .. }, .. } => {
            return None;
        }
        Effect::Write(seq, Write::Append(batch)) if !batch.is_opening() => {
            format!("{DAILY}write {} append {}", seq.0, batches(std::slice::from_ref(batch)))
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
        Effect::Acknowledge { ticket, base } => format!("{DAILY}acknowledge {} at {base}", ticket.0),
        Effect::Refuse { ticket, refusal } => format!("{DAILY}refuse {} {refusal:?}", ticket.0),
        Effect::HighWatermark(offset) => format!("{DAILY}high watermark {offset}"),
    })
}

/// What an operator hears; `None` for what would only fill the page.
pub(crate) fn heard(input: &control::Input) -> Option<String> {
    use control::Input;
    Some(match input {
        Input::Tick
        | Input::Heartbeat { .. }
        | Input::Gossip { .. }
        | Input::Links { .. }
        | Input::Ids(_)
        | Input::Certificates { .. }
        | Input::Disk { .. } => return None,
        Input::Desired(desired) => {
            let wishes = desired.topics.iter().map(|wish| {
                format!(
                    "{} {}x{:?}/{:?}",
                    wish.name, wish.partitions, wish.ack_quorum, wish.replication_factor
                )
            });
            let wishes: Vec<String> = wishes.collect();
            format!(
                "wished: {} brokers, {}, deleted {:?}",
                desired.brokers,
                wishes.join(", "),
                desired.deleted
            )
        }
        Input::Sightings(all) => {
            let seen: Vec<String> = all
                .iter()
                .map(|one| format!("{}{}", one.ordinal, if one.running { "" } else { " (ended)" }))
                .collect();
            format!("sees {}", seen.join(", "))
        }
        Input::Shown(all) => {
            let all: Vec<String> = all.iter().map(|(name, at)| format!("{name} {}", at.0)).collect();
            format!("is shown {}", all.join(", "))
        }
        Input::Loaded { documents, .. } => format!("loaded {} documents", documents.len()),
        Input::LoadFailed(why) => format!("load failed: {why}"),
        Input::Written { name, revision } => format!("{name} is written, {}", revision.0),
        Input::WriteFailed { name, failure } => format!("{name} is not written: {failure:?}"),
        Input::Answered { ordinal, hello } => {
            let session = hello.processes.last().map_or(0, |process| process.session.0);
            let (who, tenure) = (replica(hello.replica), hello.controller_epoch);
            format!("{ordinal} answers: {who} session {session} tenure {tenure}")
        }
        Input::Unfit { ordinal, message } => format!("{ordinal} is unfit: {message}"),
        Input::Lost { ordinal, refused } => format!("{ordinal} is lost, refused {refused}"),
        Input::Held { ordinal, page } => {
            format!("{ordinal} holds page {} {}.{}", page.number, page.controller_epoch, page.revision)
        }
        Input::Reports { ordinal, request, controller_epoch, reports, complete, .. } => {
            let all: Vec<String> = reports.iter().map(|(key, report)| reported(*key, report)).collect();
            format!(
                "{ordinal} reports to {controller_epoch}/{request} complete {complete}: {}",
                all.join("; ")
            )
        }
        Input::Stopping(ordinal) => format!("{ordinal} stops"),
    })
}

fn reported(key: PartitionKey, report: &Report) -> String {
    let Report { leading, log_start, log_end, high_watermark, uncertain, .. } = report;
    let leading = leading.map_or(String::new(), |leading| format!(" leads {}", term(leading)));
    let held = promise(&report.promise);
    let uncertain = if *uncertain { " uncertain" } else { "" };
    format!("{} log {log_start}-{log_end} hw {high_watermark}{leading}{uncertain}: {held}", short(key))
}

/// The last digits of the topic's id are enough.
fn short(key: PartitionKey) -> String {
    format!("{:x}/{}", (key.topic.0 >> 64) + (key.topic.0 & 0xffff), key.partition)
}

/// What an operator does; `None` for what would only fill the page.
pub(crate) fn done(effect: &control::Effect) -> Option<String> {
    use control::Effect;
    Some(match effect {
        Effect::SendAddresses { .. } | Effect::NeedIds(_) | Effect::ViewChanged(_) => return None,
        Effect::Load => "load".to_owned(),
        Effect::Write { document, expected } => {
            let expected = expected.as_ref().map_or("nothing", |revision| &revision.0);
            let lines = document.lines.join(" | ");
            format!("write {} tenure {} over {expected}: {lines}", document.name, document.controller_epoch)
        }
        Effect::Attend { ordinal, greeting, afresh, .. } => {
            let Greeting { controller_epoch, known, restored, .. } = greeting;
            let known = known.map(|(_, process)| process.session.0);
            format!(
                "attend {ordinal} tenure {controller_epoch} knows {known:?} restored {restored} afresh {afresh}"
            )
        }
        Effect::Leave(ordinal) => format!("leave {ordinal}"),
        Effect::Push { ordinal, page } => {
            format!("push page {} {}.{} to {ordinal}", page.number, page.controller_epoch, page.revision)
        }
        Effect::Ask { ordinal, request } => format!("ask {ordinal} {request}"),
        Effect::Release { ordinal, key, epoch } => format!("release {} {epoch} at {ordinal}", short(*key)),
        Effect::StopAppends { ordinal, key } => format!("stop appends of {} at {ordinal}", short(*key)),
        Effect::Event(event) => format!("event {}: {}", event.reason, event.message),
    })
}
