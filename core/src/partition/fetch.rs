//! Fetching the longest log before a term is opened: from whose it is, and from others that share it where a disk is rotten.

use std::collections::BTreeSet;
use std::time::Duration;

use super::open::{ASK_AGAIN, Answer, Opening};
use super::reconcile::parting_point;
use super::replica::{Now, Replica, Role};
use super::{Effect, Message, ProducerTable};
use crate::batch::Batch;
use crate::id::ReplicaId;
use crate::offset::Offset;
use crate::term::{Term, TermVector};

/// One answer to a fetch is at most so large: a few frames of the wire, and what a leader may hold for it in memory.
const FETCH_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The longest log is another replica's, and is being fetched.
#[derive(Debug)]
pub(super) struct Fetching {
    /// Whose log it is.
    best: ReplicaId,
    /// Who was asked last: another one whose log agrees so far, if `best` cannot read its own.
    source: ReplicaId,
    /// Who was asked at all: all of them agree with `best` in what they were asked for.
    sources: BTreeSet<ReplicaId>,
    from: Offset,
    until: Offset,
    vector: TermVector,
    asked: Duration,
}

impl Fetching {
    /// Whether it comes to nothing without this replica.
    pub(super) fn needs(&self, replica: ReplicaId) -> bool {
        self.source == replica || self.best == replica
    }

    /// Whether it is time to ask again.
    pub(super) fn is_due(&self, now: Now) -> bool {
        now.since_start >= self.asked + ASK_AGAIN
    }
}

impl Replica {
    /// The longest log is another's: what is not shared goes, and the rest is asked for.
    pub(super) fn begin_fetch(&mut self, now: Now, source: ReplicaId, answer: Answer) {
        let parting = parting_point(&self.log.vector, self.log.end, &answer.vector, Some(answer.log_end));
        let parting = match parting {
            Ok(parting) => parting,
            Err(contradiction) => {
                return self.halt(format!("opening with the log of {source}: {contradiction}"));
            }
        };
        // Below the source's log start its snapshot replaces our log; the cut would only delay that.
        let gives_up = parting < self.log.end && self.is_left_behind();
        let from = if gives_up && parting < self.high_watermark {
            self.set_all_aside();
            Offset::ZERO
        } else if gives_up {
            self.set_aside(parting, self.log.producers.before(parting));
            parting
        } else if parting >= answer.log_start && !self.cut_own_log(parting) {
            return;
        } else {
            parting
        };
        let Role::Opening(opening) = &mut self.role else { return };
        let (term, until) = (opening.term, answer.log_end);
        opening.fetching = Some(Fetching {
            best: source,
            source,
            sources: BTreeSet::from([source]),
            from,
            until,
            vector: answer.vector,
            asked: now.since_start,
        });
        self.send(source, Message::Fetch { term, from, until });
        self.finish_fetch(now);
    }

    /// A leader asks for what it lacks. Only who promised that very term answers.
    pub(super) fn fetch(&mut self, from: ReplicaId, term: Term, offset: Offset, until: Offset) {
        if !self.follows(from, term) {
            self.refuse_lower(from, term);
            return;
        }
        let (log_start, high_watermark) = (self.log.start, self.high_watermark);
        if offset < log_start {
            let mut vector = self.log.vector.clone();
            vector.cut(log_start);
            let producers = self.log.producers.before(log_start).encode();
            self.send(from, Message::Snapshot { term, log_start, vector, producers });
        }
        let (offset, until) = (offset.max(log_start), until.min(self.log.durable));
        // Up to a damaged batch, and not beyond it.
        let damaged = self.repairs.first_from(offset).filter(|damaged| *damaged < until);
        if damaged == Some(offset) {
            return self.send(from, Message::Unreadable { term, offset });
        }
        let until = damaged.unwrap_or(until);
        if offset < until {
            let bytes_max = FETCH_BYTES_MAX;
            let fetch = true;
            self.emit(Effect::Ship {
                to: from,
                term,
                from: offset,
                until,
                bytes_max,
                high_watermark,
                log_start,
                fetch,
            });
        }
    }

    /// The source's log begins above where ours parts from it: ours is replaced.
    pub(super) fn snapshot(
        &mut self,
        now: Now,
        from: ReplicaId,
        term: Term,
        log_start: Offset,
        vector: TermVector,
        producers: &[u8],
    ) {
        let Some(fetching) = self.fetching_from(from, term) else { return };
        let (until, theirs) = (fetching.until, fetching.vector.clone());
        let parting = parting_point(&self.log.vector, self.log.end, &theirs, Some(until));
        let (Ok(parting), Ok(producers)) = (parting, ProducerTable::decode(producers)) else { return };
        if log_start > until
            || parting >= log_start
            || !self.reset_own_log(parting, log_start, vector, producers)
        {
            return;
        }
        if let Role::Opening(Opening { fetching: Some(fetching), .. }) = &mut self.role {
            fetching.from = log_start;
        }
        self.finish_fetch(now);
    }

    /// A piece of the longest log.
    pub(super) fn fetched(&mut self, now: Now, from: ReplicaId, term: Term, batches: Vec<Batch>) {
        let Some(fetching) = self.fetching_from(from, term) else { return };
        let until = fetching.until;
        let before = self.log.end;
        for batch in batches {
            if batch.end() <= until && self.log.fits(&batch, term) {
                self.append_own(&batch);
            }
        }
        if self.log.end > before && self.log.end < until {
            let Role::Opening(Opening { fetching: Some(fetching), .. }) = &mut self.role else { return };
            fetching.from = self.log.end;
            let same = self.sources().into_iter().find(|(source, _)| *source == from);
            let next = same.or_else(|| self.next_source());
            self.fetch_from(now, next);
        }
        self.finish_fetch(now);
    }

    /// The source found that batch damaged: another one is asked, if there is one; else this one again, when it is time.
    pub(super) fn fetch_is_unreadable(&mut self, now: Now, from: ReplicaId, term: Term, offset: Offset) {
        let is_awaited = self.fetching_from(from, term).is_some_and(|fetching| {
            fetching.source == from && (fetching.from..fetching.until).contains(&offset)
        });
        if is_awaited && self.next_source().is_some_and(|(next, _)| next > from) {
            self.fetch_elsewhere(now);
        } else if is_awaited
            && offset == self.log.end
            && self.next_source().is_none_or(|(one, _)| one == from)
        {
            self.give_up_fetch(now, offset);
        }
    }

    /// Asks for the next piece of the longest log again: each replica in turn that has it.
    pub(super) fn fetch_elsewhere(&mut self, now: Now) {
        let next = self.next_source();
        self.fetch_from(now, next);
    }

    /// Asks this one up to there, or, for want of one, whose log is the longest.
    fn fetch_from(&mut self, now: Now, source: Option<(ReplicaId, Offset)>) {
        let Role::Opening(Opening { fetching: Some(fetching), term, .. }) = &mut self.role else { return };
        let (source, until) = source.unwrap_or((fetching.best, fetching.until));
        fetching.asked = now.since_start;
        fetching.source = source;
        fetching.sources.insert(source);
        let message = Message::Fetch { term: *term, from: fetching.from, until };
        self.send(source, message);
    }

    /// The next one of them after who was asked last.
    fn next_source(&self) -> Option<(ReplicaId, Offset)> {
        let Role::Opening(Opening { fetching: Some(fetching), .. }) = &self.role else { return None };
        let sources = self.sources();
        sources.iter().find(|(replica, _)| *replica > fetching.source).or(sources.first()).copied()
    }

    /// Connected replicas whose log agrees with the longest beyond our end, and how far it does.
    fn sources(&self) -> Vec<(ReplicaId, Offset)> {
        let Role::Opening(Opening { fetching: Some(fetching), answers, .. }) = &self.role else {
            return Vec::new();
        };
        if fetching.from != self.log.end {
            // The snapshot of the longest log comes first.
            return Vec::new();
        }
        let agrees = |answer: &Answer| {
            parting_point(&answer.vector, answer.log_end, &fetching.vector, Some(fetching.until))
                .ok()
                .filter(|parting| *parting > self.log.end && answer.log_start <= self.log.end)
        };
        let connected = answers.iter().filter(|(replica, _)| self.peers.contains_key(replica));
        connected.filter_map(|(replica, answer)| Some((*replica, agrees(answer)?))).collect()
    }

    fn fetching_from(&self, from: ReplicaId, term: Term) -> Option<&Fetching> {
        match &self.role {
            Role::Opening(opening) if opening.term == term => {
                opening.fetching.as_ref().filter(|fetching| fetching.sources.contains(&from))
            }
            Role::Idle | Role::Opening(_) | Role::Leading(_) | Role::Following(_) | Role::Halted(_) => None,
        }
    }

    fn finish_fetch(&mut self, now: Now) {
        let Role::Opening(Opening { fetching: Some(fetching), .. }) = &self.role else { return };
        let parting = parting_point(&self.log.vector, self.log.end, &fetching.vector, Some(fetching.until));
        // Only the whole of what was answered will do, not less.
        if self.log.end == fetching.until && parting == Ok(fetching.until) {
            self.append_opening(now);
        }
    }
}
