//! The leader's side: followers are fenced, attached, and pushed what they lack, as far as their credit goes.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::open::{ASK_AGAIN, Answer};
use super::reconcile::{needs_reset, parting_point};
use super::replica::{Now, Replica, Role};
use super::{Effect, Message};
use crate::batch::Batch;
use crate::entry::Entry;
use crate::id::ReplicaId;
use crate::offset::Offset;
use crate::term::{Process, Term};

/// So much may be on its way to one follower of one partition: enough to keep a sync busy, little enough that a thousand
/// partitions do not fill the memory of a slow one. One larger batch goes alone.
pub const IN_FLIGHT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// And so many messages, which bounds what their bookkeeping costs.
pub const IN_FLIGHT_MESSAGES_MAX: usize = 256;

/// While something is under way, a follower that heard nothing else hears a heartbeat, and answers: what was lost shows.
const HEARTBEAT_BUSY: Duration = Duration::from_millis(500);

/// At rest the connection itself tells that both live; this only mends what should not happen.
const HEARTBEAT_IDLE: Duration = Duration::from_secs(5);

/// A risen high watermark that no batch carries is told after so long: it costs followers nothing to know late.
const WATERMARK_EACH: Duration = Duration::from_millis(50);

/// Messages that overtake each other make a follower miss the same batches again and again until they come. What goes out a
/// second time for each of them overtakes still more. A round trip and a sync are less; what is lost once more is asked for by
/// the next heartbeat.
const RESEND_AGAIN: Duration = Duration::from_millis(200);

/// A term at work.
#[derive(Debug)]
pub(super) struct Leading {
    pub(super) entry: Entry,
    pub(super) term: Term,
    /// Behind the opening record: nothing is committed before it is.
    pub(super) opened_end: Offset,
    pub(super) opened: bool,
    pub(super) followers: BTreeMap<ReplicaId, Follower>,
    /// What earlier processes of a follower had durable in this term: less than that means that it lost something.
    counted: BTreeMap<ReplicaId, Offset>,
    /// Since when too few followers are attached to commit anything.
    pub(super) short_since: Option<Duration>,
    /// Nothing is appended any more since then, for a planned move.
    pub(super) stopped: Option<Duration>,
}

/// A connected process of another replica.
#[derive(Debug)]
pub(super) struct Follower {
    process: Process,
    /// The log's end when this process was first heard in this term.
    hello_end: Offset,
    stage: Stage,
    pub(super) in_sync_at: Option<Duration>,
    /// Where its log began when it promised, if ours holds the same up to there and beyond: what lies below it was let go by the
    /// retention of a leader before us.
    pub(super) log_start: Offset,
}

#[derive(Debug)]
enum Stage {
    /// It has to promise.
    Fencing { asked: Option<Duration> },
    /// It promised, and compares its log with ours.
    Attaching { answer: Answer, asked: Option<Duration> },
    /// Its log is a prefix of ours.
    Attached(Stream),
}

/// What goes to an attached follower.
#[derive(Debug)]
struct Stream {
    /// Its durable end in this term and session: the only thing that counts.
    durable: Offset,
    next: Offset,
    /// From where it was sent anew what it missed, and when.
    resent: Option<(Offset, Duration)>,
    /// An [`Effect::Ship`] has not come back.
    shipping: bool,
    in_flight: VecDeque<(Offset, u64)>,
    in_flight_bytes: u64,
    high_watermark: Offset,
    log_start: Offset,
    said: Duration,
    /// When its durable end last rose, or it had nothing to do.
    progress: Duration,
}

impl Follower {
    /// Its durable end, if it counts.
    pub(super) fn durable(&self) -> Option<Offset> {
        match &self.stage {
            Stage::Attached(stream) => Some(stream.durable),
            Stage::Fencing { .. } | Stage::Attaching { .. } => None,
        }
    }

    /// Whether it holds what the leader held when it heard this process.
    pub(super) fn is_caught_up(&self) -> bool {
        self.durable().is_some_and(|durable| durable >= self.hello_end)
    }
}

impl Stream {
    fn has_just_resent(&self, from: Offset, now: Now) -> bool {
        self.resent.is_some_and(|(resent, at)| resent == from && now.since_start < at + RESEND_AGAIN)
    }
}

impl Leading {
    pub(super) fn new(
        entry: Entry,
        term: Term,
        opening: &Batch,
        mut answers: BTreeMap<ReplicaId, Answer>,
        peers: &BTreeMap<ReplicaId, Process>,
        me: ReplicaId,
    ) -> Self {
        let mut leading = Self {
            entry,
            term,
            opened_end: opening.end(),
            opened: false,
            followers: BTreeMap::new(),
            counted: BTreeMap::new(),
            short_since: None,
            stopped: None,
        };
        for (peer, process) in peers.iter().filter(|(peer, _)| **peer != me) {
            leading.connected(*peer, *process, opening.end());
            if let Some(answer) = answers.remove(peer) {
                leading.answered(*peer, answer);
            }
        }
        leading
    }

    pub(super) fn connected(&mut self, peer: ReplicaId, process: Process, log_end: Offset) {
        let is_known = self.followers.get(&peer).is_some_and(|follower| follower.process == process);
        if is_known || !self.entry.concerns(peer) {
            return;
        }
        self.disconnected(peer);
        let stage = Stage::Fencing { asked: None };
        let (hello_end, in_sync_at, log_start) = (log_end, None, Offset::ZERO);
        self.followers.insert(peer, Follower { process, hello_end, stage, in_sync_at, log_start });
    }

    pub(super) fn disconnected(&mut self, peer: ReplicaId) {
        if let Some(durable) = self.followers.remove(&peer).and_then(|follower| follower.durable()) {
            let counted = self.counted.entry(peer).or_default();
            *counted = durable.max(*counted);
        }
    }

    /// A follower promised this term.
    pub(super) fn answered(&mut self, peer: ReplicaId, answer: Answer) {
        if let Some(follower) = self.followers.get_mut(&peer)
            && matches!(follower.stage, Stage::Fencing { .. })
        {
            follower.stage = Stage::Attaching { answer, asked: None };
        }
    }

    /// Whether those whose ends count, and we, are enough to commit.
    pub(super) fn has_quorum(&self, me: ReplicaId) -> bool {
        let attached = |replica| self.followers.get(&replica).is_some_and(|one| one.durable().is_some());
        self.entry.acknowledged_by(|replica| replica == me || attached(replica))
    }
}

impl Replica {
    /// The follower's log is a prefix of ours, durable up to `log_end`.
    pub(super) fn attached(&mut self, now: Now, from: ReplicaId, term: Term, log_end: Offset) {
        let end = self.log.end;
        let Role::Leading(leading) = &mut self.role else { return };
        let Some(follower) =
            leading.followers.get_mut(&from).filter(|_| leading.term == term && log_end <= end)
        else {
            return;
        };
        let mut resent = None;
        let durable = match &follower.stage {
            Stage::Fencing { .. } => return,
            Stage::Attaching { answer, .. } => {
                follower.log_start = self.log.start_agreed_with(answer);
                log_end
            }
            // Overtaken on its way by a later word: a durable end never falls.
            Stage::Attached(stream) if log_end < stream.durable => return,
            // Asked for once more, and on its way already.
            Stage::Attached(stream) if stream.has_just_resent(log_end, now) => return,
            Stage::Attached(_) => {
                resent = Some((log_end, now.since_start));
                log_end
            }
        };
        follower.stage = Stage::Attached(Stream {
            durable,
            next: log_end,
            resent,
            shipping: false,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            high_watermark: Offset::ZERO,
            log_start: Offset::ZERO,
            said: now.since_start,
            progress: now.since_start,
        });
        self.advance_commit();
    }

    /// The follower's durable end.
    pub(super) fn stored(&mut self, now: Now, from: ReplicaId, term: Term, log_end: Offset) {
        let end = self.log.end;
        let Role::Leading(leading) = &mut self.role else { return };
        let Some(follower) =
            leading.followers.get_mut(&from).filter(|_| leading.term == term && log_end <= end)
        else {
            return;
        };
        let Stage::Attached(stream) = &mut follower.stage else { return };
        if log_end > stream.durable {
            stream.durable = log_end;
            stream.progress = now.since_start;
        }
        while let Some((_, bytes)) = stream.in_flight.pop_front_if(|(until, _)| *until <= log_end) {
            stream.in_flight_bytes -= bytes;
        }
        self.advance_commit();
    }

    /// Storage has read what was to be shipped, and the connection has it.
    pub(super) fn shipped(&mut self, to: ReplicaId, until: Offset, bytes: u64) {
        let end = self.log.end;
        let Role::Leading(leading) = &mut self.role else { return };
        let Some(Follower { stage: Stage::Attached(stream), .. }) = leading.followers.get_mut(&to) else {
            return;
        };
        if !stream.shipping || until > end {
            return;
        }
        stream.shipping = false;
        if until > stream.next {
            stream.next = until;
            stream.in_flight.push_back((until, bytes));
            stream.in_flight_bytes += bytes;
        }
    }

    /// A read met a damaged batch: what was to be shipped from it is not under way any more.
    pub(super) fn stop_shipping(&mut self, damaged: Offset) {
        let Role::Leading(leading) = &mut self.role else { return };
        for follower in leading.followers.values_mut() {
            if let Stage::Attached(stream) = &mut follower.stage
                && stream.next <= damaged
            {
                stream.shipping = false;
            }
        }
    }

    pub(super) fn settle_leading(&mut self, now: Now) {
        let Role::Leading(leading) = &mut self.role else { return };
        let has_quorum = leading.has_quorum(self.me);
        leading.short_since = leading.short_since.or(Some(now.since_start)).filter(|_| !has_quorum);
        let view = View {
            log: &self.log,
            repairs: &self.repairs,
            high_watermark: self.high_watermark,
            now: now.since_start,
        };
        let mut effects = Vec::new();
        for (to, follower) in &mut leading.followers {
            let counted = leading.counted.get(to).copied().unwrap_or_default();
            let next = match &mut follower.stage {
                Stage::Fencing { asked } => view
                    .is_due(asked)
                    .then(|| Message::Fence { entry: leading.entry.clone(), term: leading.term })
                    .map(|message| Effect::Send { to: *to, message }),
                Stage::Attaching { answer, asked } => view.is_due(asked).then(|| {
                    let message =
                        view.attach(&leading.entry, leading.term, follower.process, answer, counted);
                    Effect::Send { to: *to, message }
                }),
                Stage::Attached(stream) if stream.next < view.log.start => {
                    // Retention went past it: it has to begin anew from our log start.
                    follower.stage = Stage::Fencing { asked: Some(view.now) };
                    let message = Message::Fence { entry: leading.entry.clone(), term: leading.term };
                    Some(Effect::Send { to: *to, message })
                }
                Stage::Attached(stream) => view.push(*to, leading.term, stream),
            };
            effects.extend(next);
        }
        for effect in effects {
            self.emit(effect);
        }
        let whole = self.whole();
        if whole != self.whole_seen {
            self.whole_seen = whole;
            self.changed();
        }
    }
}

/// What the followers are shown.
struct View<'a> {
    log: &'a super::log::Log,
    repairs: &'a super::repair::Repairs,
    high_watermark: Offset,
    now: Duration,
}

impl View<'_> {
    fn is_due(&self, asked: &mut Option<Duration>) -> bool {
        let is_due = asked.is_none_or(|asked| self.now >= asked + ASK_AGAIN);
        if is_due {
            *asked = Some(self.now);
        }
        is_due
    }

    fn attach(
        &self,
        entry: &Entry,
        term: Term,
        follower: Process,
        answer: &Answer,
        counted: Offset,
    ) -> Message {
        let parting = parting_point(&answer.vector, answer.log_end, &self.log.vector, None);
        // If the vectors contradict each other the follower says so; it needs no snapshot for it.
        let gives_up = entry.gave_up(answer.vector.last_term());
        let producers = match parting {
            Ok(parting)
                if needs_reset(parting, answer.log_end, self.log.start)
                    || (gives_up && parting < answer.log_start) =>
            {
                self.log.producers.before(self.log.start).encode()
            }
            // It may have to set aside more than its own table of producers can be cut by.
            Ok(parting) if gives_up => self.log.producers.before(parting).encode(),
            Ok(_) | Err(_) => Vec::new(),
        };
        Message::Attach {
            entry: entry.clone(),
            term,
            follower,
            vector: self.log.vector.clone(),
            log_start: self.log.start,
            log_end: self.log.end,
            counted,
            producers,
        }
    }

    /// The next batches, if there is credit; else a heartbeat, if it is time.
    fn push(&self, to: ReplicaId, term: Term, stream: &mut Stream) -> Option<Effect> {
        if stream.in_flight.is_empty() && !stream.shipping {
            stream.progress = self.now;
        } else if self.now >= stream.progress + ASK_AGAIN * 4 {
            // Nothing became durable for long: whatever was on its way is sent again, and duplicates are harmless.
            stream.next = stream.durable;
            stream.in_flight.clear();
            stream.in_flight_bytes = 0;
            stream.shipping = false;
            stream.progress = self.now;
        }
        let (high_watermark, log_start) = (self.high_watermark, self.log.start);
        let has_credit = stream.in_flight_bytes < IN_FLIGHT_BYTES_MAX
            && stream.in_flight.len() < IN_FLIGHT_MESSAGES_MAX
            && !stream.shipping;
        let quiet = self.now.saturating_sub(stream.said);
        // A damaged batch is not shipped, nor is what lies behind it, until it is whole again.
        let until = self.repairs.first_from(stream.next).unwrap_or(self.log.end);
        if stream.next < until && has_credit {
            stream.shipping = true;
            (stream.high_watermark, stream.log_start, stream.said) = (high_watermark, log_start, self.now);
            return Some(Effect::Ship {
                to,
                term,
                from: stream.next,
                until,
                bytes_max: IN_FLIGHT_BYTES_MAX - stream.in_flight_bytes,
                high_watermark,
                log_start,
                fetch: false,
            });
        }
        let has_news = (stream.high_watermark, stream.log_start) != (high_watermark, log_start);
        let is_busy = stream.shipping || !stream.in_flight.is_empty();
        let due = if has_news {
            WATERMARK_EACH
        } else if is_busy {
            HEARTBEAT_BUSY
        } else {
            HEARTBEAT_IDLE
        };
        if quiet < due {
            return None;
        }
        (stream.high_watermark, stream.log_start, stream.said) = (high_watermark, log_start, self.now);
        let message =
            Message::Append { term, from: stream.next, batches: Vec::new(), high_watermark, log_start };
        Some(Effect::Send { to, message })
    }
}

#[cfg(test)]
#[path = "lead_tests.rs"]
mod tests;
