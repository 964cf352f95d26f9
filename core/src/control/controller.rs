//! The controller: one state, stepped by one task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::control::broker::Broker;
use crate::control::desired::Desired;
use crate::control::effect::{Address, Effect};
use crate::control::homing::Homing;
use crate::control::input::{Input, Sighting};
use crate::control::moves::Moves;
use crate::control::plan::Plan;
use crate::control::shelf::Shelf;
use crate::control::shown::Shown;
use crate::control::table::TopicRecord;
use crate::control::tenure::Phase;
use crate::control::view::{ControlEvent, EventKind, View};
use crate::entry::Entry;
use crate::id::{Ordinal, PartitionKey, ReplicaId, TopicId};
use crate::offset::Offset;
use crate::partition::Report;
use crate::term::Epoch;

/// So many identifiers are kept ready: what a person applies at once rarely mints more.
const IDS_READY: usize = 64;

/// What nothing but the time asks for is looked at so far apart …
const LOOKS_APART: Duration = Duration::from_millis(100);
/// … with up to so many partitions, and with more of them as much further apart as a look takes longer: a Cluster at rest costs its
/// controller the same few hundredths of a core whatever its size …
const LOOKS_APART_PARTITIONS: u32 = 3_000;
/// … up to this, which still is short beside anything that is waited for.
const LOOKS_APART_MAX: Duration = Duration::from_secs(1);
/// What is due by what was decided or told waits for a part of that, so that looks do not crowd out what they wait for. A death does
/// not wait.
const LOOKS_APART_WHEN_DUE: u32 = 2;
/// So many times as far apart while nothing comes and nothing is under way: then only hours pass.
const LOOKS_APART_AT_REST: u32 = 5;

/// What is known of one partition, beside its entry.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// This tenure's first decision may be made: enough replicas of the entry reported, none of them a higher one.
    pub(super) settled: bool,
    /// The last epoch issued in this tenure.
    pub(super) counter: u64,
    /// Publishing was stopped for a planned move, since then.
    pub(super) handover: Option<Duration>,
    /// Since when the preferred leader, which does not lead, lives and is in sync.
    pub(super) fit_since: Option<Duration>,
    /// Since when who is named in this decision lives and has not opened its term.
    pub(super) unopened: Option<(Epoch, Duration)>,
    /// How many were named in vain since a term was opened last.
    pub(super) vain: u32,
    /// Who was named in vain, or did not take over: how often, and when last.
    pub(super) failed: BTreeMap<ReplicaId, (u32, Duration)>,
    /// Replicas whose answer is awaited; for people.
    pub(super) awaits: Vec<ReplicaId>,
    /// When a Release was sent last, to whom.
    pub(super) released: BTreeMap<Ordinal, Duration>,
    /// What was said about it in an Event already.
    pub(super) told: BTreeSet<&'static str>,
    /// Since when no quorum of it lives whose logs are known to be whole.
    pub(super) hopeless_since: Option<Duration>,
    /// The highest offset that a replica said is committed.
    pub(super) known_end: Offset,
}

/// The controller of one Cluster. [`step`](Self::step) is its only door.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "what is due, each by itself")]
pub struct Controller {
    pub(super) now: Duration,
    pub(super) phase: Phase,
    pub(super) desired: Option<Arc<Desired>>,
    pub(super) sightings: BTreeMap<Ordinal, Sighting>,
    pub(super) book: (u64, Arc<[Address]>),
    pub(super) ids: Vec<u128>,
    ids_asked: bool,
    /// The tenure; 0 before there is one.
    pub(super) tenure: u64,
    /// The tenure of the table as it was loaded: a broker that saw a later one has seen more than the table tells.
    pub(super) loaded_epoch: u64,
    /// The wall clock at the last load, in microseconds, and the random number that came with it.
    pub(super) clock_us: u64,
    pub(super) salt: u16,
    /// The tenure that last began to decide, and when.
    pub(super) ruling: (u64, Duration),
    /// The highest tenure that a broker spoke of.
    pub(super) tenure_reported: u64,
    pub(super) requests: u64,
    pub(super) plan: Plan,
    pub(super) shelf: Shelf,
    pub(super) shown: Shown,
    pub(super) brokers: BTreeMap<Ordinal, Broker>,
    pub(super) partitions: BTreeMap<PartitionKey, Partition>,
    /// Planned moves to preferred leaders.
    pub(super) homing: Homing,
    /// Moves of replicas between brokers.
    pub(super) moves: Moves,
    /// Topics as brokers remember them, for a table that lost them.
    pub(super) heard_topics: BTreeMap<TopicId, TopicRecord>,
    /// Why a wished topic is not as wished, by name: reason and message.
    pub(super) waits: BTreeMap<String, (&'static str, String)>,
    /// Everything is to be looked at again in this step.
    pub(super) due: bool,
    /// Somebody died: it does not wait.
    pub(super) is_urgent: bool,
    /// Pages were stored: they are sent in this step, whatever else can wait.
    pub(super) push_is_due: bool,
    /// When everything was looked at last.
    pub(super) looked: Option<Duration>,
    /// Something else than heartbeats came since, or something was to be done then.
    is_restless: bool,
    pub(super) view: Arc<View>,
    pub(super) out: Vec<Effect>,
}

impl Default for Controller {
    fn default() -> Self {
        Self::new()
    }
}

impl Controller {
    /// One that knows nothing. Its first step asks for the table.
    pub fn new() -> Self {
        Self {
            now: Duration::ZERO,
            phase: Phase::Load { at: Duration::ZERO, asked: false },
            desired: None,
            sightings: BTreeMap::new(),
            book: (0, Arc::new([])),
            ids: Vec::new(),
            ids_asked: false,
            tenure: 0,
            loaded_epoch: 0,
            clock_us: 0,
            salt: 0,
            ruling: (0, Duration::ZERO),
            tenure_reported: 0,
            requests: 0,
            plan: Plan::default(),
            shelf: Shelf::default(),
            shown: Shown::default(),
            brokers: BTreeMap::new(),
            partitions: BTreeMap::new(),
            homing: Homing::default(),
            moves: Moves::default(),
            heard_topics: BTreeMap::new(),
            waits: BTreeMap::new(),
            due: true,
            is_urgent: false,
            push_is_due: false,
            looked: None,
            is_restless: true,
            view: Arc::new(View::default()),
            out: Vec::new(),
        }
    }

    /// Takes one input. `now` is the time since the shell's start; it never goes back. Effects are to be carried out in
    /// order.
    pub fn step(&mut self, now: Duration, input: Input) -> Vec<Effect> {
        self.step_all(now, [input])
    }

    /// Takes inputs that wait together, in their order, and looks at everything once: a look goes over all partitions, so with
    /// many of them as many inputs as came meanwhile share one.
    pub fn step_all(&mut self, now: Duration, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
        self.now = self.now.max(now);
        for input in inputs {
            self.note(input);
        }
        self.judge_liveness();
        if self.due && self.may_look() {
            (self.due, self.is_urgent) = (false, false);
            self.looked = Some(self.now);
            self.is_restless = false;
            self.proceed();
            self.is_restless |= !self.out.is_empty() || !self.is_at_rest();
        } else if std::mem::take(&mut self.push_is_due) && self.rules() {
            self.push();
        }
        self.write();
        self.ask_for_ids();
        std::mem::take(&mut self.out)
    }

    fn note(&mut self, input: Input) {
        self.is_restless |= !matches!(input, Input::Heartbeat { .. } | Input::Gossip { .. } | Input::Tick);
        // A heartbeat, a report or a page held waits for the next tick; the rest is acted on at once.
        self.due |= match input {
            Input::Desired(desired) => {
                self.desired = Some(Arc::new(desired));
                true
            }
            Input::Sightings(sightings) => self.note_sightings(sightings),
            Input::Loaded { documents, clock_us, salt } => self.note_loaded(documents, clock_us, salt),
            Input::LoadFailed(why) => self.note_load_failed(&why),
            Input::Shown(revisions) => self.note_shown(revisions),
            Input::Written { name, revision } => self.note_written(name, revision),
            Input::WriteFailed { name, failure } => self.note_write_failed(name, failure),
            Input::Answered { ordinal, hello } => self.note_answered(ordinal, &hello),
            Input::Unfit { ordinal, message } => self.refuse(ordinal, &message),
            Input::Lost { ordinal, refused } => self.note_lost(ordinal, refused),
            Input::Held { ordinal, page } => self.note_held(ordinal, page),
            Input::Reports { ordinal, request, controller_epoch, reports, topics, complete } => {
                let asked = request != 0 || complete;
                (!asked || controller_epoch == self.tenure)
                    && self.note_reports(ordinal, request, reports, topics, complete)
            }
            Input::Heartbeat { ordinal, storage_rounds } => self.note_heartbeat(ordinal, storage_rounds),
            Input::Certificates { ordinal, worn } => self.note_certificates(ordinal, worn),
            Input::Disk { ordinal, disk } => self.note_disk(ordinal, disk),
            Input::Gossip { ordinal, alive } => self.note_gossip(ordinal, alive),
            Input::Links { ordinal, linked } => self.note_links(ordinal, linked),
            Input::Stopping(ordinal) => self.note_stopping(ordinal),
            Input::Ids(ids) => {
                self.ids.extend(ids.into_iter().take(4 * IDS_READY));
                self.ids_asked = false;
                true
            }
            Input::Tick => {
                self.looked.is_none_or(|looked| self.now.saturating_sub(looked) >= self.looks_apart())
            }
        };
    }

    /// One pass over everything, in the order in which one thing makes the next possible.
    fn proceed(&mut self) {
        self.doubt_ledger();
        self.advance_tenure();
        self.attend();
        if self.rules() {
            self.accept_recorded();
            self.settle();
            self.follow_wishes();
            self.accept_losses();
            self.lead();
            self.replace_unopened();
            self.go_home();
            self.change_members();
            self.release();
            self.send_books();
            self.push();
        }
        self.project();
    }

    /// By the size of the table; nothing for one that is looked through in no time.
    fn longer_apart(&self) -> Option<Duration> {
        let partitions = u32::try_from(self.plan.entries.len()).unwrap_or(u32::MAX);
        let longer = LOOKS_APART.saturating_mul(partitions) / LOOKS_APART_PARTITIONS;
        (longer > LOOKS_APART).then_some(longer.min(LOOKS_APART_MAX))
    }

    fn looks_apart(&self) -> Duration {
        match self.longer_apart() {
            // A clock that ticks as far apart as that is not to make it twice as long.
            None => LOOKS_APART / 2,
            Some(longer) if self.is_restless => longer,
            Some(longer) => longer.saturating_mul(LOOKS_APART_AT_REST),
        }
    }

    fn may_look(&self) -> bool {
        let Some(longer) = self.longer_apart().filter(|_| self.rules() && !self.is_urgent) else {
            return true;
        };
        self.looked.is_none_or(|looked| self.now.saturating_sub(looked) >= longer / LOOKS_APART_WHEN_DUE)
    }

    /// Nothing waits for the time to pass, but what waits for a minute.
    fn is_at_rest(&self) -> bool {
        let ready = self.view.topics.values().all(|topic| topic.ready && topic.under_replicated == 0);
        self.rules() && ready && self.view.away == 0 && self.homing.is_at_rest() && self.moves.is_at_rest()
    }

    fn ask_for_ids(&mut self) {
        if self.ids.len() < IDS_READY / 2 && !self.ids_asked {
            self.ids_asked = true;
            self.out.push(Effect::NeedIds(IDS_READY));
        }
    }

    /// An identifier of the pool; the first identifiers given are the first taken.
    pub(super) fn take_id(&mut self) -> Option<u128> {
        (!self.ids.is_empty()).then(|| self.ids.remove(0))
    }

    /// The tenure is taken and stamped: decisions may be made.
    pub(super) fn rules(&self) -> bool {
        matches!(self.phase, Phase::Ruling)
    }

    /// The broker behind a replica, if it takes part in that life, lives and has reported.
    pub(super) fn serving(&self, replica: ReplicaId) -> Option<&Broker> {
        let broker = self.brokers.get(&replica.ordinal)?;
        (broker.is_serving() && broker.replica() == Some(replica)).then_some(broker)
    }

    /// Whether a replica's broker, asked by this tenure, has said all that it holds.
    pub(super) fn has_answered(&self, replica: ReplicaId) -> bool {
        let broker = self.brokers.get(&replica.ordinal);
        broker.is_some_and(|broker| broker.replica() == Some(replica) && broker.answered_at.is_some())
    }

    /// What a replica's broker, asked by this tenure, said about a partition; nothing also if it holds nothing.
    pub(super) fn report(&self, replica: ReplicaId, key: PartitionKey) -> Option<&Report> {
        let broker = self.brokers.get(&replica.ordinal).filter(|_| self.has_answered(replica))?;
        broker.reports.get(&key)
    }

    /// The leader's report, if the leader opened its term under exactly this entry.
    pub(super) fn leading(&self, entry: &Entry) -> Option<&Report> {
        let leader = entry.leader?;
        let broker = self.serving(leader)?;
        let report = broker.reports.get(&entry.key)?;
        let term = report.leading?;
        let own = term.epoch == entry.epoch && Some(term.process) == broker.process();
        (own && report.promise.entry.as_ref() == Some(entry)).then_some(report)
    }

    /// The next epoch of a partition: never issued before, above everything of older tenures.
    pub(super) fn next_epoch(&mut self, key: PartitionKey) -> Epoch {
        let held = self.plan.entries.get(&key).map(|entry| entry.epoch).unwrap_or_default();
        let state = self.partitions.entry(key).or_default();
        if held.generation == self.tenure {
            state.counter = state.counter.max(held.counter);
        }
        state.counter =
            state.counter.checked_add(1).expect("2^64 decisions of one tenure about one partition");
        Epoch { generation: self.tenure, counter: state.counter }
    }

    /// Decides: `entry` with a new epoch takes the place of the one before.
    pub(super) fn decide(&mut self, mut entry: Entry, urgent: bool) {
        entry.epoch = self.next_epoch(entry.key);
        self.store_decision(entry, urgent);
    }

    /// Takes a decision with its epoch into the table.
    pub(super) fn store_decision(&mut self, entry: Entry, urgent: bool) {
        let entry = entry.checked().expect("decisions keep what an entry checks");
        let page = *self.plan.places.get(&entry.key).expect("an entry is placed before it is decided");
        if let Some(state) = self.partitions.get_mut(&entry.key) {
            (state.handover, state.fit_since, state.unopened) = (None, None, None);
            state.released.clear();
        }
        let before = self.plan.entries.get(&entry.key);
        if before.is_none_or(|before| before.members != entry.members) {
            self.moves.note_change();
        }
        self.plan.entries.insert(entry.key, entry);
        self.shelf.soil(page, urgent);
        self.due = true;
    }

    /// Tells people.
    pub(super) fn event(
        &mut self,
        kind: EventKind,
        reason: &'static str,
        topic: Option<String>,
        message: String,
    ) {
        self.out.push(Effect::Event(ControlEvent { kind, reason, message, topic }));
    }
}
