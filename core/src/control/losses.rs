//! The last resort: a partition that no quorum can open any more goes on with what is left, by a person's word.
//!
//! A word names partition and epoch. It acts only on exactly that decision, only while nothing else helps, and once: the
//! decision that it makes has another epoch. It makes who has the longest log of those that are left the one member of the
//! old set of a joint entry, so that nobody else can lead before enough others hold that log.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::accepted_loss::AcceptedLoss;
use crate::control::controller::Controller;
use crate::control::table::BrokerRecord;
use crate::control::view::{EventKind, Stuck};
use crate::entry::{Entry, Members, ReplicaSet};
use crate::id::{PartitionKey, ReplicaId};
use crate::offset::Offset;
use crate::partition::{PromiseKind, Report};
use crate::term::{Epoch, Session};

/// Nothing else has helped for so long: brokers that restart, or that a new tenure has still to hear, are back by then.
const HOPELESS_AFTER: Duration = Duration::from_secs(10);

/// A person's word: the loss of what nobody has any more is accepted for this partition of a topic, in this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LossWord {
    /// The partition.
    pub partition: u32,
    /// The decision that stands when the word is given.
    pub epoch: Epoch,
}

/// `PARTITION:EPOCH`
impl fmt::Display for LossWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.epoch)
    }
}

/// A text that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidLossWord {
    /// It is not `PARTITION:EPOCH`.
    #[error("{0:?} is not PARTITION:EPOCH, such as 0:1763750000.4")]
    Malformed(String),
    /// The topic has fewer partitions.
    #[error("{word} names a partition that is not there: there is no partition {}, the last one is {last}", word.partition)]
    NoPartition {
        /// What was said.
        word: LossWord,
        /// The topic's last partition.
        last: u32,
    },
}

impl FromStr for LossWord {
    type Err = InvalidLossWord;
    fn from_str(text: &str) -> Result<Self, InvalidLossWord> {
        let invalid = || InvalidLossWord::Malformed(text.chars().take(64).collect());
        let (partition, epoch) = text.split_once(':').ok_or_else(invalid)?;
        let partition = partition.parse().map_err(|_| invalid())?;
        Ok(Self { partition, epoch: epoch.parse().map_err(|_| invalid())? })
    }
}

impl LossWord {
    /// Several for a topic of so many partitions, separated by commas; blanks around them do not matter, and nothing is none.
    pub fn parse_all(text: &str, partitions: u32) -> Result<Vec<Self>, InvalidLossWord> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let there = |word: Self| {
            let last = partitions.saturating_sub(1);
            if word.partition <= last { Ok(word) } else { Err(InvalidLossWord::NoPartition { word, last }) }
        };
        words.map(|word| word.parse().and_then(there)).collect()
    }
}

impl Controller {
    /// Notes which partitions nothing but a word can help, and takes the words that are given for them.
    pub(super) fn accept_losses(&mut self) {
        self.watch_hopeless();
        let Some(desired) = self.desired.clone() else { return };
        let names = self.names();
        for wish in desired.topics.iter().filter(|wish| !wish.accepted_losses.is_empty()) {
            let Some(topic) = names.get(&wish.name).copied() else { continue };
            for word in &wish.accepted_losses {
                let key = PartitionKey { topic, partition: word.partition };
                let Some(base) = self.base(key).filter(|base| base.epoch == word.epoch) else { continue };
                if self.commits(&base) {
                    self.refuse_loss(&base, *word);
                } else if self.is_hopeless(key)
                    && let Ok(next) = self.remainder(&base)
                {
                    self.accept_loss(&base, next, *word);
                }
            }
        }
    }

    /// The decision that stands: the table's, or a higher one that a replica holds.
    fn base(&self, key: PartitionKey) -> Option<Entry> {
        let stored = self.plan.entries.get(&key)?;
        let brokers = self.brokers.values().filter(|broker| broker.answered_at.is_some());
        let reported = brokers.filter_map(|broker| broker.reports.get(&key)?.promise.entry.as_ref());
        let highest = reported.max_by_key(|entry| entry.epoch).filter(|entry| entry.epoch > stored.epoch);
        Some(highest.unwrap_or(stored)).filter(|entry| !entry.is_deletion()).cloned()
    }

    /// It has a leader, and enough others with it to commit what comes.
    fn commits(&self, entry: &Entry) -> bool {
        self.leading(entry).is_some() && entry.acknowledged_by(|replica| self.serving(replica).is_some())
    }

    fn watch_hopeless(&mut self) {
        let now = self.now;
        let entries = self.plan.entries.values().filter(|entry| !entry.is_deletion());
        let verdict = |entry: &Entry| {
            let hopeless = !self.commits(entry) && !self.can_open_surely(entry);
            let since = self.partitions.get(&entry.key).and_then(|state| state.hopeless_since);
            (since.is_some() != hopeless).then_some((entry.key, hopeless))
        };
        let news: Vec<(PartitionKey, bool)> = entries.filter_map(verdict).collect();
        for (key, hopeless) in news {
            self.partitions.entry(key).or_default().hopeless_since = hopeless.then_some(now);
        }
    }

    /// Whether so many live whose logs are known to be whole that the next term loses nothing.
    fn can_open_surely(&self, entry: &Entry) -> bool {
        let sound = |report: &Report| {
            let sure = !report.uncertain && report.unreadable.is_none();
            sure && report.halted.is_none() && report.promise.kind == PromiseKind::Live
        };
        entry.opened_by(|replica| {
            self.serving(replica).is_some_and(|broker| broker.reports.get(&entry.key).is_none_or(sound))
        })
    }

    fn is_hopeless(&self, key: PartitionKey) -> bool {
        let since = self.partitions.get(&key).and_then(|state| state.hopeless_since);
        since.is_some_and(|since| self.now.saturating_sub(since.max(self.ruling.1)) >= HOPELESS_AFTER)
    }

    /// How the partition goes on with what is left; or why it cannot.
    fn remainder(&self, base: &Entry) -> Result<Entry, String> {
        let left: Vec<ReplicaSet> =
            base.members.sets().map(|set| self.with_replacements(base.key, set)).collect();
        let leader = self.longest_left(base).or_else(|| {
            // Nobody is left: one who knows nothing begins.
            let fresh = left.iter().rev().flat_map(ReplicaSet::replicas);
            fresh.copied().find(|replica| self.serving(*replica).is_some())
        });
        let leader = leader.ok_or("none of its brokers serves")?;
        let new = left.iter().rev().find(|set| set.contains(leader)).ok_or("nobody is left")?.clone();
        let serves = |replica: &&ReplicaId| self.serving(**replica).is_some();
        let have = new.replicas().iter().filter(serves).count();
        if have < new.ack_quorum() {
            let missing = new.replicas().iter().filter(|replica| !serves(replica));
            let missing: Vec<String> = missing.map(|replica| replica.ordinal.to_string()).collect();
            return Err(format!(
                "an acknowledgement needs {} replicas and {have} would be there: first bring broker {} back, if only with an \
                 empty volume, or lower spec.ackQuorum",
                new.ack_quorum(),
                missing.join(", ")
            ));
        }
        let alone = ReplicaSet::new(vec![leader], 1).expect("one replica, and a quorum of one");
        let members = if alone == new { Members::One(new) } else { Members::Joint { old: alone, new } };
        let (leader, learners, lost) = (Some(leader), Vec::new(), Vec::new());
        Ok(Entry { leader, members, learners, lost, ..base.clone() })
    }

    /// Who takes the places of volumes that others have replaced; the quorum as the topic says now.
    fn with_replacements(&self, key: PartitionKey, set: &ReplicaSet) -> ReplicaSet {
        let replaced = |replica: &ReplicaId| self.replacement(*replica).unwrap_or(*replica);
        let quorum = self.plan.topics.get(&key.topic).map(|topic| topic.ack_quorum);
        let quorum = quorum.filter(|quorum| usize::from(*quorum) <= set.replicas().len());
        let quorum = quorum.or_else(|| u8::try_from(set.ack_quorum()).ok()).unwrap_or(1);
        ReplicaSet::new(set.replicas().iter().map(replaced).collect(), quorum).unwrap_or_else(|_| set.clone())
    }

    /// The volume that its broker has now, if that is another one, and serves.
    fn replacement(&self, replica: ReplicaId) -> Option<ReplicaId> {
        let living = self.plan.root.as_ref()?.active(replica.ordinal).map(BrokerRecord::replica)?;
        (living != replica && self.serving(living).is_some()).then_some(living)
    }

    /// Of the members that answer the one with the longest log, however sure it is of it.
    fn longest_left(&self, base: &Entry) -> Option<ReplicaId> {
        let rank = |replica: ReplicaId| {
            let broker = self.serving(replica)?;
            let report = broker.reports.get(&base.key)?;
            let leads = report.halted.is_none() && report.promise.kind == PromiseKind::Live;
            let last = report.last_term.map(|term| (term.epoch, term.process.session));
            let last: (Epoch, Session) = last.unwrap_or_default();
            leads.then_some((last, report.log_end, !report.uncertain, !broker.stopping))
        };
        let members = base.members.replicas().into_iter();
        let left = members.filter_map(|replica| Some((rank(replica)?, replica)));
        left.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, replica)| replica)
    }

    fn accept_loss(&mut self, base: &Entry, mut next: Entry, word: LossWord) {
        let key = base.key;
        for replica in base.members.replicas() {
            if self.replacement(replica).is_some() {
                self.list_lost(replica);
            }
        }
        let given_up = self.given_up_text(base);
        next.epoch = self.next_epoch(key);
        let state = self.partitions.entry(key).or_default();
        state.settled = true;
        state.awaits.clear();
        state.told.clear();
        (state.hopeless_since, state.unopened) = (None, None);
        // Who leads now tells of another history.
        let known_end = std::mem::take(&mut state.known_end);
        next.accepted_loss = Some(AcceptedLoss { epoch: next.epoch, known_end });
        let message = format!(
            "by the annotation for {word}, partition {} goes on without a quorum: {given_up}",
            key.partition
        );
        let topic = self.plan.topics.get(&key.topic).map(|topic| topic.name.clone());
        self.event(EventKind::Warning, "DataLossAccepted", topic, message);
        self.store_decision(next, true);
    }

    /// A word for a partition that works is void, and must not act on another day: the decision that it names goes.
    fn refuse_loss(&mut self, base: &Entry, word: LossWord) {
        if !self.can_open(base) || !self.partitions.get(&base.key).is_some_and(|state| state.settled) {
            return;
        }
        let message = format!(
            "partition {} has a leader that can commit: the annotation for {word} is refused, and is void from now on",
            base.key.partition
        );
        let topic = self.plan.topics.get(&base.key.topic).map(|topic| topic.name.clone());
        self.event(EventKind::Warning, "DataLossRefused", topic, message);
        self.decide(base.clone(), false);
    }

    /// What a person is told of a partition that nothing but a word can help.
    pub(super) fn stuck(&self, key: PartitionKey, words: &[LossWord]) -> Option<Stuck> {
        let base = self.is_hopeless(key).then(|| self.base(key))??;
        let word = LossWord { partition: key.partition, epoch: base.epoch };
        let mut message = format!("partition {} has no quorum: {}", key.partition, self.given_up_text(&base));
        let possible = self.remainder(&base);
        if let Err(why) = &possible {
            message = format!("{message}; {why}");
        }
        let other = words.iter().find(|other| other.partition == key.partition && other.epoch != base.epoch);
        if let Some(other) = other {
            message = format!(
                "{message}; the annotation for {other} names another epoch than {}, and does nothing",
                base.epoch
            );
        }
        Some(Stuck { word: possible.is_ok().then_some(word), message })
    }

    /// Who is missing, and what the others have.
    fn given_up_text(&self, base: &Entry) -> String {
        let serves = |replica: &ReplicaId| self.serving(*replica).is_some();
        let missing = base.members.replicas().into_iter().filter(|replica| !serves(replica));
        let name = |replica: ReplicaId| match self.replacement(replica) {
            Some(_) => format!("{} (its volume was replaced)", replica.ordinal),
            None => replica.ordinal.to_string(),
        };
        let missing: Vec<String> = missing.map(name).collect();
        let missing = if missing.is_empty() {
            "nobody is missing".to_owned()
        } else {
            format!("broker {} is missing", missing.join(", "))
        };
        let report =
            self.longest_left(base).and_then(|replica| Some((replica, self.report(replica, base.key)?)));
        let known =
            self.partitions.get(&base.key).map(|state| state.known_end).filter(|end| *end > Offset::ZERO);
        let known = known.map(|end| format!("; {end} was known to be committed")).unwrap_or_default();
        match report {
            Some((replica, report)) => {
                let damage =
                    report.unreadable.map(|at| format!(", with a damaged batch at {at}")).unwrap_or_default();
                format!(
                    "{missing}, and broker {} has the longest log that is left, up to {}{damage}; it knows that all below {} is committed{known}",
                    replica.ordinal, report.log_end, report.high_watermark
                )
            }
            None => format!("{missing}, and no record is left{known}"),
        }
    }
}
