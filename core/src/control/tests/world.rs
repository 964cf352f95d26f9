//! Brokers, a ledger and a clock that do what real ones would, as far as the controller can tell.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::control::table::{Page, Root, TopicRecord};
use crate::control::*;
use crate::entry::Entry;
use crate::id::{ClusterId, Incarnation, Ordinal, PartitionKey, ReplicaId};
use crate::offset::Offset;
use crate::partition::{Promise, PromiseKind, Report};
use crate::term::{BootId, Epoch, Process, Session, Term};

pub(super) const MIB: u32 = 1 << 20;

/// One replica on a fake volume.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) entry: Entry,
    pub(super) tombstone: bool,
    pub(super) log_end: u64,
}

/// One fake broker.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "what a test does to it, each by itself")]
pub(super) struct FakeBroker {
    pub(super) replica: ReplicaId,
    pub(super) processes: Vec<Process>,
    pub(super) cluster_id: Option<ClusterId>,
    pub(super) seen: u64,
    pub(super) pages: BTreeMap<u32, (u64, u64, Page)>,
    pub(super) replicas: BTreeMap<PartitionKey, Held>,
    pub(super) up: bool,
    /// Cut off from the controller: nothing is refused, nothing is heard.
    pub(super) silent: bool,
    /// Its pod is being made anew: nobody sees it.
    pub(super) unseen: bool,
    /// Hears nobody by gossip.
    pub(super) deaf: bool,
    /// Does not act on pages.
    pub(super) stuck: bool,
    /// The storage loop stands still.
    pub(super) disk_hangs: bool,
    pub(super) volume: String,
    /// Something lies beside its replicas.
    pub(super) keeps_copies: bool,
    pub(super) zone: Option<String>,
    pub(super) greeting: Option<Greeting>,
    answered: bool,
    book: usize,
    reported: BTreeMap<PartitionKey, Report>,
    asked: Option<u64>,
    /// Whom it said on this stream that it hears.
    hears: Option<Vec<Ordinal>>,
    linked: Option<Vec<Ordinal>>,
    rounds: u64,
    /// In which epoch appends were stopped.
    pub(super) stopped_appends: BTreeMap<PartitionKey, Epoch>,
    /// The terms that it has opened: an opened one stays open until another epoch comes.
    opened: BTreeMap<PartitionKey, Term>,
    /// Named, it does not open a term, though it lives.
    pub(super) opens_nothing: bool,
}

/// Documents, with their revisions.
pub(super) type Ledger = BTreeMap<DocumentName, (Document, u64)>;

/// All of it.
#[expect(clippy::struct_excessive_bools, reason = "how it is, each by itself")]
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) wall: u64,
    pub(super) salt: u16,
    pub(super) controller: Controller,
    pub(super) ledger: Ledger,
    pub(super) brokers: BTreeMap<u16, FakeBroker>,
    pub(super) desired: Desired,
    pub(super) view: Arc<View>,
    pub(super) events: Vec<ControlEvent>,
    pub(super) writes: usize,
    /// What the next write of a page meets instead of success; the document is stored all the same if `stored`.
    pub(super) trouble: VecDeque<(WriteFailure, bool)>,
    pub(super) ledger_away: bool,
    /// How often the ledger was read.
    pub(super) loads: usize,
    pub(super) gossip: bool,
    /// Brokers between which no packet passes.
    pub(super) cuts: Vec<(u16, u16)>,
    /// No leader says that a follower holds the whole log.
    pub(super) never_whole: bool,
    /// What waits is told together.
    pub(super) grouped: bool,
    /// Every planned move: when it began.
    pub(super) stops: Vec<(Duration, PartitionKey)>,
    revisions: u64,
    ids: u128,
    inbox: VecDeque<Input>,
}

fn is_cut(cuts: &[(u16, u16)], one: u16, other: u16) -> bool {
    cuts.contains(&(one, other)) || cuts.contains(&(other, one))
}

pub(super) fn wish(name: &str, partitions: u32) -> TopicWish {
    TopicWish {
        name: name.to_owned(),
        partitions,
        replication_factor: None,
        ack_quorum: None,
        max_message_bytes: MIB,
        retention_ms: Some(1_000),
        retention_bytes: None,
        accepted_losses: Vec::new(),
    }
}

impl World {
    /// So many brokers with empty volumes, and these topics.
    pub(super) fn new(brokers: u16, topics: Vec<TopicWish>) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            wall: 1_000,
            salt: 0,
            controller: Controller::new(),
            ledger: BTreeMap::new(),
            brokers: BTreeMap::new(),
            desired: Desired { brokers, topics, ..Desired::default() },
            view: Arc::new(View::default()),
            events: Vec::new(),
            writes: 0,
            trouble: VecDeque::new(),
            ledger_away: false,
            loads: 0,
            gossip: true,
            cuts: Vec::new(),
            never_whole: false,
            grouped: false,
            stops: Vec::new(),
            revisions: 0,
            ids: 0,
            inbox: VecDeque::new(),
        };
        for ordinal in 0..brokers {
            world.add_broker(ordinal, u128::from(ordinal) + 1);
        }
        world.wish();
        world
    }

    /// Puts a broker with an empty volume at an ordinal.
    pub(super) fn add_broker(&mut self, ordinal: u16, incarnation: u128) {
        let replica = ReplicaId { ordinal: Ordinal(ordinal), incarnation: Incarnation(incarnation) };
        let broker = FakeBroker {
            replica,
            processes: vec![Process { session: Session(1), boot: BootId(u64::from(ordinal) + 7) }],
            cluster_id: None,
            seen: 0,
            pages: BTreeMap::new(),
            replicas: BTreeMap::new(),
            up: true,
            silent: false,
            unseen: false,
            deaf: false,
            stuck: false,
            disk_hangs: false,
            volume: format!("claim-{incarnation}"),
            keeps_copies: false,
            zone: None,
            greeting: self.brokers.get(&ordinal).and_then(|before| before.greeting.clone()),
            answered: false,
            book: 0,
            reported: BTreeMap::new(),
            asked: None,
            hears: None,
            linked: None,
            rounds: 0,
            stopped_appends: BTreeMap::new(),
            opened: BTreeMap::new(),
            opens_nothing: false,
        };
        self.brokers.insert(ordinal, broker);
        self.see();
    }

    pub(super) fn wish(&mut self) {
        self.inbox.push_back(Input::Desired(self.desired.clone()));
    }

    /// Tells the sightings as they are now.
    pub(super) fn see(&mut self) {
        let seen = self.brokers.iter().filter(|(_, broker)| !broker.unseen);
        let sightings = seen.map(|(ordinal, broker)| Sighting {
            ordinal: Ordinal(*ordinal),
            internal: ([127, 0, 0, 1], 1_000 + ordinal).into(),
            client: format!("127.0.0.1:{}", 2_000 + ordinal),
            zone: broker.zone.clone(),
            volume_uid: broker.volume.clone(),
            running: true,
        });
        self.inbox.push_back(Input::Sightings(sightings.collect()));
    }

    /// How full a broker says that its volume is.
    pub(super) fn fill(&mut self, ordinal: u16, used_percent: u8) {
        let disk = Disk { total_bytes: 1 << 30, used_percent, is_full: used_percent >= 90 };
        self.inbox.push_back(Input::Disk { ordinal: Ordinal(ordinal), disk });
    }

    /// Tells what a watch of the ledger shows while it says what is here.
    pub(super) fn show(&mut self, ledger: &BTreeMap<DocumentName, (Document, u64)>) {
        let shown = ledger.iter().map(|(name, (_, at))| (*name, Revision(at.to_string())));
        self.inbox.push_back(Input::Shown(shown.collect()));
    }

    /// What a restore makes of a document: what it said, at a revision that never was.
    pub(super) fn restore(&mut self, name: DocumentName, document: Document) {
        self.revisions += 1;
        self.ledger.insert(name, (document, self.revisions));
    }

    /// A new controller takes over from the old one.
    pub(super) fn restart_controller(&mut self) {
        self.controller = Controller::new();
        self.inbox.clear();
        for broker in self.brokers.values_mut() {
            broker.disconnect();
            broker.greeting = None;
        }
        self.wish();
        self.see();
    }

    /// The process ends; its address refuses.
    pub(super) fn kill(&mut self, ordinal: u16) {
        let broker = self.brokers.get_mut(&ordinal).unwrap();
        broker.up = false;
        broker.disconnect();
        self.inbox.push_back(Input::Lost { ordinal: Ordinal(ordinal), refused: false });
        self.inbox.push_back(Input::Lost { ordinal: Ordinal(ordinal), refused: true });
    }

    /// It is told to stop, and says so.
    pub(super) fn tell_to_stop(&mut self, ordinal: u16) {
        self.inbox.push_back(Input::Stopping(Ordinal(ordinal)));
    }

    /// A new process on the same volume.
    pub(super) fn start(&mut self, ordinal: u16) {
        let broker = self.brokers.get_mut(&ordinal).unwrap();
        let session = Session(broker.processes.last().unwrap().session.0 + 1);
        broker.processes.push(Process { session, boot: BootId(session.0 * 1_000 + u64::from(ordinal)) });
        broker.up = true;
    }

    /// Time passes, and everything on its way arrives.
    pub(super) fn run(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.now < until {
            self.now += Duration::from_millis(50);
            self.dial();
            self.speak();
            self.inbox.push_back(Input::Tick);
            self.settle();
        }
    }

    fn settle(&mut self) {
        while let Some(input) = self.inbox.pop_front() {
            let effects = if self.grouped {
                self.controller
                    .step_all(self.now, std::iter::once(input).chain(std::mem::take(&mut self.inbox)))
            } else {
                self.controller.step(self.now, input)
            };
            for effect in effects {
                self.carry_out(effect);
            }
            if self.inbox.is_empty() {
                self.report();
            }
        }
    }

    fn dial(&mut self) {
        for (ordinal, broker) in &mut self.brokers {
            let Some(greeting) = broker.greeting.clone().filter(|_| !broker.answered && !broker.silent)
            else {
                continue;
            };
            if !broker.up {
                self.inbox.push_back(Input::Lost { ordinal: Ordinal(*ordinal), refused: true });
                continue;
            }
            let hello = broker.hello();
            let fits = broker.cluster_id.is_none() || broker.cluster_id == greeting.cluster_id;
            (broker.answered, broker.hears, broker.linked) = (true, None, None);
            if greeting.cluster_id.is_some() && fits && greeting.controller_epoch >= broker.seen {
                broker.cluster_id = greeting.cluster_id;
                broker.seen = greeting.controller_epoch;
            }
            self.inbox.push_back(Input::Answered { ordinal: Ordinal(*ordinal), hello });
        }
    }

    fn speak(&mut self) {
        let alive: Vec<Ordinal> =
            self.brokers.values().filter(|broker| broker.up).map(|b| b.replica.ordinal).collect();
        for (ordinal, broker) in &mut self.brokers {
            if broker.up && broker.answered && !broker.silent {
                broker.rounds += u64::from(!broker.disk_hangs);
                let ordinal = Ordinal(*ordinal);
                self.inbox.push_back(Input::Heartbeat { ordinal, storage_rounds: broker.rounds });
                let hears = if self.gossip && !broker.deaf { alive.clone() } else { Vec::new() };
                if broker.hears.as_ref() != Some(&hears) {
                    broker.hears = Some(hears.clone());
                    self.inbox.push_back(Input::Gossip { ordinal, alive: hears });
                }
                let linked = alive.iter().copied().filter(|other| !is_cut(&self.cuts, ordinal.0, other.0));
                let linked: Vec<Ordinal> = linked.filter(|other| *other != ordinal).collect();
                if broker.linked.as_ref() != Some(&linked) {
                    broker.linked = Some(linked.clone());
                    self.inbox.push_back(Input::Links { ordinal, linked });
                }
            }
        }
    }

    /// Reports that changed.
    fn report(&mut self) {
        let ordinals: Vec<u16> = self.brokers.keys().copied().collect();
        for ordinal in ordinals {
            let broker = &self.brokers[&ordinal];
            if !broker.up || !broker.answered || broker.silent || broker.book == 0 {
                continue;
            }
            let reports: BTreeMap<PartitionKey, Report> =
                broker.replicas.iter().map(|(key, held)| (*key, self.report_of(broker, held))).collect();
            let (request, seen) = (broker.asked, broker.seen);
            let news = |(key, report): &(&PartitionKey, &Report)| {
                request.is_some() || broker.reported.get(*key) != Some(*report)
            };
            let changed: Vec<(PartitionKey, Report)> =
                reports.iter().filter(news).map(|(key, report)| (*key, report.clone())).collect();
            let topics: Vec<TopicRecord> =
                broker.pages.values().flat_map(|(_, _, page)| page.topics.clone()).collect();
            if request.is_none() && changed.is_empty() {
                continue;
            }
            let broker = self.brokers.get_mut(&ordinal).unwrap();
            broker.asked = None;
            let opened = |(key, report): (&PartitionKey, &Report)| Some((*key, report.leading?));
            broker.opened.extend(reports.iter().filter_map(opened));
            broker.reported = reports;
            self.inbox.push_back(Input::Reports {
                ordinal: Ordinal(ordinal),
                request: request.unwrap_or_default(),
                controller_epoch: seen,
                reports: changed,
                topics,
                complete: request.is_some(),
            });
        }
    }

    /// A leader leads when an open quorum and an ack quorum have held its entry, and commits when an ack quorum does.
    fn report_of(&self, broker: &FakeBroker, held: &Held) -> Report {
        let entry = &held.entry;
        let holds = |replica: ReplicaId| {
            self.brokers.get(&replica.ordinal.0).is_some_and(|peer| {
                let same = peer
                    .replicas
                    .get(&entry.key)
                    .is_some_and(|other| other.entry == *entry && !other.tombstone);
                let is_reached = !is_cut(&self.cuts, broker.replica.ordinal.0, replica.ordinal.0);
                peer.up && is_reached && !peer.stuck && peer.replica == replica && same
            })
        };
        let leads =
            entry.leader == Some(broker.replica) && !held.tombstone && !broker.stuck && !broker.opens_nothing;
        let term = Term { epoch: entry.epoch, process: *broker.processes.last().unwrap() };
        let opened = broker.opened.get(&entry.key) == Some(&term);
        let open = leads && (opened || entry.opened_by(holds) && entry.acknowledged_by(holds));
        let in_sync =
            entry.members.replicas().into_iter().filter(|replica| open && holds(*replica)).collect();
        let caught_up = entry.learners.iter().copied().filter(|replica| open && holds(*replica)).collect();
        let stopped =
            open && !self.never_whole && broker.stopped_appends.get(&entry.key) == Some(&entry.epoch);
        let others = entry.members.replicas().into_iter();
        let whole =
            others.filter(|replica| stopped && *replica != broker.replica && holds(*replica)).collect();
        let kind = if held.tombstone { PromiseKind::Tombstone } else { PromiseKind::Live };
        Report {
            promise: Promise { entry: Some(entry.clone()), term: None, kind },
            leading: open.then_some(term),
            in_sync,
            caught_up,
            whole,
            log_start: Offset::ZERO,
            log_end: Offset(held.log_end),
            high_watermark: Offset::ZERO,
            last_term: None,
            uncertain: false,
            may_have_lost: None,
            set_aside: None,
            unreadable: None,
            irreparable: None,
            halted: None,
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Load if self.ledger_away => self.inbox.push_back(Input::LoadFailed("away".to_owned())),
            Effect::Load => {
                self.loads += 1;
                let all =
                    self.ledger.values().map(|(document, at)| (document.clone(), Revision(at.to_string())));
                self.inbox.push_back(Input::Loaded {
                    documents: all.collect(),
                    clock_us: self.wall,
                    salt: self.salt,
                });
            }
            Effect::Write { document, expected } => self.store(document, expected.as_ref()),
            Effect::Attend { ordinal, greeting, afresh, .. } => {
                let broker = self.brokers.get_mut(&ordinal.0).unwrap();
                broker.greeting = Some(greeting);
                if afresh {
                    broker.disconnect();
                }
            }
            Effect::Leave(ordinal) => {
                if let Some(broker) = self.brokers.get_mut(&ordinal.0) {
                    broker.greeting = None;
                    broker.disconnect();
                }
            }
            Effect::Push { ordinal, page } => self.push(ordinal, &page),
            Effect::Ask { ordinal, request } => {
                self.brokers.get_mut(&ordinal.0).unwrap().asked = Some(request);
            }
            Effect::SendAddresses { ordinal, book } => {
                self.brokers.get_mut(&ordinal.0).unwrap().book = book.len();
            }
            Effect::Release { ordinal, key, epoch } => {
                self.brokers.get_mut(&ordinal.0).unwrap().release(key, epoch);
            }
            Effect::StopAppends { ordinal, key } => {
                let broker = self.brokers.get_mut(&ordinal.0).unwrap();
                let epoch = broker.replicas.get(&key).map(|held| held.entry.epoch).unwrap();
                broker.stopped_appends.insert(key, epoch);
                self.stops.push((self.now, key));
            }
            Effect::NeedIds(count) => {
                let ids = (0..count).map(|_| {
                    self.ids += 1;
                    self.ids << 64
                });
                let ids = ids.collect();
                self.inbox.push_back(Input::Ids(ids));
            }
            Effect::Event(event) => self.events.push(event),
            Effect::ViewChanged(view) => self.view = view,
        }
    }

    fn store(&mut self, document: Document, expected: Option<&Revision>) {
        let name = document.name;
        if self.ledger_away {
            let failure = WriteFailure::Unavailable("away".to_owned());
            return self.inbox.push_back(Input::WriteFailed { name, failure });
        }
        let trouble = if name == DocumentName::Root { None } else { self.trouble.pop_front() };
        if let Some((failure, false)) = trouble {
            return self.inbox.push_back(Input::WriteFailed { name, failure });
        }
        let at = self.ledger.get(&name).map(|(_, at)| Revision(at.to_string()));
        if at.as_ref() != expected {
            return self.inbox.push_back(Input::WriteFailed { name, failure: WriteFailure::Conflict });
        }
        self.revisions += 1;
        self.writes += 1;
        self.ledger.insert(name, (document, self.revisions));
        self.inbox.push_back(match trouble {
            Some((failure, _)) => Input::WriteFailed { name, failure },
            None => Input::Written { name, revision: Revision(self.revisions.to_string()) },
        });
    }

    fn push(&mut self, ordinal: Ordinal, pushed: &PushedPage) {
        // Persist, then push: what is sent was stored before.
        let stored = self.ledger.get(&DocumentName::Page(pushed.number)).map(|(document, _)| &document.lines);
        assert!(self.ledger_away || stored.is_some(), "page {} is pushed and not stored", pushed.number);
        let broker = self.brokers.get_mut(&ordinal.0).unwrap();
        assert!(broker.up && broker.answered || broker.silent, "a page for who is not there");
        if broker.silent || broker.stuck {
            return;
        }
        let page = Page::parse(pushed.number, &pushed.lines).unwrap();
        broker.take(&page);
        broker.pages.insert(pushed.number, (pushed.controller_epoch, pushed.revision, page));
        let page = HeldPage {
            number: pushed.number,
            controller_epoch: pushed.controller_epoch,
            revision: pushed.revision,
        };
        self.inbox.push_back(Input::Held { ordinal, page });
    }

    pub(super) fn root(&self) -> Root {
        Root::parse(&self.ledger[&DocumentName::Root].0.lines).unwrap()
    }

    /// All entries as they are stored.
    pub(super) fn entries(&self) -> BTreeMap<PartitionKey, Entry> {
        let pages = self.ledger.iter().filter_map(|(name, (document, _))| match name {
            DocumentName::Root => None,
            DocumentName::Page(number) => Some(Page::parse(*number, &document.lines).unwrap()),
        });
        pages.flat_map(|page| page.entries).map(|entry| (entry.key, entry)).collect()
    }

    pub(super) fn topic(&self, name: &str) -> &TopicView {
        &self.view.topics[name]
    }

    pub(super) fn told(&self, reason: &str) -> bool {
        self.events.iter().any(|event| event.reason == reason)
    }
}

impl FakeBroker {
    fn disconnect(&mut self) {
        self.answered = false;
        self.book = 0;
        self.reported.clear();
        self.asked = None;
    }

    fn hello(&self) -> Hello {
        let pages = self.pages.iter();
        Hello {
            cluster_id: self.cluster_id,
            replica: self.replica,
            processes: self.processes.clone(),
            controller_epoch: self.seen,
            pages: pages
                .map(|(number, (controller_epoch, revision, _))| HeldPage {
                    number: *number,
                    controller_epoch: *controller_epoch,
                    revision: *revision,
                })
                .collect(),
            has_replicas: !self.replicas.is_empty(),
            nothing_aside: !self.keeps_copies,
            version: "test".to_owned(),
        }
    }

    /// Acts on a page: takes what concerns it, or what it holds, if it is higher.
    fn take(&mut self, page: &Page) {
        for entry in &page.entries {
            match self.replicas.get_mut(&entry.key) {
                Some(held) if held.entry.epoch >= entry.epoch => {}
                Some(held) => {
                    held.entry = entry.clone();
                    // Who is named again begins anew.
                    held.tombstone &= !entry.concerns(self.replica);
                }
                None if entry.concerns(self.replica) => {
                    let held = Held { entry: entry.clone(), tombstone: false, log_end: 0 };
                    self.replicas.insert(entry.key, held);
                }
                None => {}
            }
        }
    }

    fn release(&mut self, key: PartitionKey, epoch: crate::term::Epoch) {
        if let Some(held) = self.replicas.get_mut(&key)
            && !held.entry.concerns(self.replica)
            && held.entry.epoch <= epoch
        {
            held.tombstone = true;
        }
    }
}
