//! Streams to brokers: who is dialled and greeted how, whose handshake holds, what is sent down.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::control::broker::Broker;
use crate::control::controller::Controller;
use crate::control::effect::{Address, DocumentName, Effect, Greeting, PushedPage};
use crate::control::input::{HeldPage, Hello, Sighting};
use crate::control::table::{BrokerRecord, BrokerStanding, RECORDS_MAX};
use crate::control::tenure::Phase;
use crate::control::view::EventKind;
use crate::id::{Ordinal, ReplicaId};
use crate::term::Process;

/// People are told of a refusal that goes on so often.
const REFUSAL_AGAIN: Duration = Duration::from_mins(1);

impl Controller {
    pub(super) fn note_sightings(&mut self, sightings: Vec<Sighting>) -> bool {
        let now = self.now;
        let sightings: BTreeMap<Ordinal, Sighting> =
            sightings.into_iter().map(|sighting| (sighting.ordinal, sighting)).collect();
        for (ordinal, sighting) in &sightings {
            let broker = self.brokers.entry(*ordinal).or_insert_with(|| new_broker(now));
            let same =
                |old: &Sighting| old.internal == sighting.internal && old.volume_uid == sighting.volume_uid;
            if !self.sightings.get(ordinal).is_some_and(same) {
                broker.dial_refused = false;
                broker.refused = None;
                broker.refusal = None;
                broker.restored = false;
                broker.lost = None;
                (broker.known_since, broker.suspected_since) = (now, None);
            }
            if let Some(zone) = &sighting.zone {
                broker.zone = Some(zone.clone());
            }
        }
        self.sightings = sightings;
        let book: Vec<Address> = self.sightings.values().map(address).collect();
        if book[..] != *self.book.1 {
            self.book = (self.book.0 + 1, book.into());
        }
        true
    }

    /// Dials who is seen, with the greeting that holds now.
    pub(super) fn attend(&mut self) {
        if matches!(self.phase, Phase::Halted(_)) {
            return;
        }
        let wanted: Vec<(Ordinal, _, Greeting)> = self
            .sightings
            .values()
            .filter_map(|sighting| {
                Some((sighting.ordinal, sighting.internal, self.greeting(sighting.ordinal)?))
            })
            .collect();
        for (ordinal, address, greeting) in wanted {
            let Some(broker) = self.brokers.get_mut(&ordinal) else { continue };
            let before = broker.attended.as_ref();
            if before == Some(&(address, greeting.clone())) {
                continue;
            }
            let afresh = !before.is_some_and(|(before, old)| {
                let same_tenure = (old.cluster_id, old.controller_epoch)
                    == (greeting.cluster_id, greeting.controller_epoch);
                *before == address
                    && same_tenure
                    && (old.restored, old.lost) == (greeting.restored, greeting.lost)
            });
            if afresh {
                broker.detach();
                broker.known_since = self.now;
            }
            broker.attended = Some((address, greeting.clone()));
            self.out.push(Effect::Attend { ordinal, address, greeting, afresh });
        }
        let gone = |(ordinal, broker): (&Ordinal, &Broker)| {
            let unseen = !self.sightings.contains_key(ordinal) && broker.hello.is_none();
            (unseen && broker.attended.is_some()).then_some(*ordinal)
        };
        let gone: Vec<Ordinal> = self.brokers.iter().filter_map(gone).collect();
        for ordinal in gone {
            self.leave(ordinal);
        }
    }

    fn greeting(&self, ordinal: Ordinal) -> Option<Greeting> {
        let inquiry =
            Greeting { cluster_id: None, controller_epoch: 0, known: None, restored: false, lost: None };
        match self.phase {
            Phase::Identify { .. } => Some(inquiry),
            // Whoever is greeted in this tenure's name has to find it in the ledger.
            Phase::Stamping | Phase::Ruling => {
                let root = self.shelf.root.as_ref()?;
                let known = root.active(ordinal).map(|record| (record.incarnation, record.process));
                let broker = self.brokers.get(&ordinal);
                let restored = broker.is_some_and(|broker| broker.restored);
                let lost = broker.and_then(|broker| broker.lost);
                let (cluster_id, controller_epoch) = (Some(root.cluster_id), root.controller_epoch);
                Some(Greeting { cluster_id, controller_epoch, known, restored, lost })
            }
            Phase::Load { .. } | Phase::TakingOver | Phase::Halted(_) => None,
        }
    }

    pub(super) fn leave(&mut self, ordinal: Ordinal) {
        if let Some(broker) = self.brokers.get_mut(&ordinal) {
            broker.detach();
            broker.attended = None;
        }
        self.out.push(Effect::Leave(ordinal));
    }

    /// The handshake does not hold: nothing this process says counts.
    pub(super) fn refuse(&mut self, ordinal: Ordinal, why: &str) -> bool {
        let now = self.now;
        let broker = self.brokers.entry(ordinal).or_insert_with(|| new_broker(now));
        broker.accepted = false;
        broker.refused = Some(why.to_owned());
        let told = broker.refusal.as_ref().is_some_and(|(_, at)| now.saturating_sub(*at) < REFUSAL_AGAIN);
        if !told {
            broker.refusal = Some((why.to_owned(), now));
            self.event(EventKind::Warning, "BrokerRefused", None, format!("broker {ordinal}: {why}"));
        }
        true
    }

    pub(super) fn note_lost(&mut self, ordinal: Ordinal, refused: bool) -> bool {
        let Some(broker) = self.brokers.get_mut(&ordinal) else { return false };
        let news = broker.hello.is_some() || refused && !broker.dial_refused;
        broker.detach();
        // One dial that is not refused says that somebody listens again, or that the address is gone: silence then.
        broker.dial_refused = refused;
        news
    }

    pub(super) fn note_answered(&mut self, ordinal: Ordinal, hello: &Hello) -> bool {
        let now = self.now;
        let broker = self.brokers.entry(ordinal).or_insert_with(|| new_broker(now));
        broker.detach();
        broker.heard_at = now;
        broker.rounds = (0, now);
        broker.dial_refused = false;
        broker.stopping = false;
        broker.refused = None;
        broker.hello = Some(hello.clone());
        if hello.replica.ordinal != ordinal || hello.processes.is_empty() {
            let speaks = hello.replica.ordinal;
            return self
                .refuse(ordinal, &format!("broker {speaks} answers at its address, or names no process"));
        }
        if matches!(self.phase, Phase::Identify { .. }) {
            self.tenure_reported = self.tenure_reported.max(hello.controller_epoch);
            return true;
        }
        self.check_handshake(ordinal, hello);
        true
    }

    fn check_handshake(&mut self, ordinal: Ordinal, hello: &Hello) {
        let Some(root) = &mut self.plan.root else { return };
        if let Some(other) = hello.cluster_id
            && other != root.cluster_id
        {
            let why = format!("its volume belongs to Cluster {other}, this one is {}", root.cluster_id);
            self.refuse(ordinal, &why);
            return;
        }
        if hello.controller_epoch > self.tenure {
            // Another operator has taken over, or the table is older than what was: the ledger tells which.
            self.tenure_reported = self.tenure_reported.max(hello.controller_epoch);
            self.reload();
            return;
        }
        if hello.controller_epoch != self.tenure
            && hello.controller_epoch > self.loaded_epoch
            && !root.rebuilding
        {
            root.rebuilding = true;
            self.shelf.soil_root();
            let message = format!(
                "broker {ordinal} has seen tenure {}, the table that was found is of {}: it is rebuilt from reports",
                hello.controller_epoch, self.loaded_epoch
            );
            self.event(EventKind::Warning, "TableIsOld", None, message);
        }
        match self.record(ordinal, hello) {
            Ok(()) => {
                let speaks = Some(hello.replica.incarnation);
                if let Some(broker) = self.brokers.get_mut(&ordinal).filter(|broker| broker.lost == speaks) {
                    broker.lost = None;
                }
            }
            Err(why) => {
                self.refuse(ordinal, &why);
            }
        }
    }

    /// Notes the process in the root, unless the volume is not what it says.
    fn record(&mut self, ordinal: Ordinal, hello: &Hello) -> Result<(), String> {
        let volume = self.sightings.get(&ordinal).map(|sighting| sighting.volume_uid.clone());
        let volume = volume.filter(|uid| !uid.is_empty());
        let last = *hello.processes.last().ok_or("it names no process")?;
        let Some(root) = &mut self.plan.root else { return Ok(()) };
        let mut replaced = None;
        match root.brokers.iter_mut().find(|record| record.replica() == hello.replica) {
            Some(record) if record.standing == BrokerStanding::Lost => {
                if let Some(broker) = self.brokers.get_mut(&ordinal) {
                    broker.lost = Some(hello.replica.incarnation);
                }
                return Err(format!(
                    "its volume {} was replaced by another and is lost for ever",
                    hello.replica
                ));
            }
            Some(record) => {
                let moved = record.volume.is_some() && volume.is_some() && record.volume != volume;
                let unheard =
                    record.process != Process::default() && !hello.processes.contains(&record.process);
                if moved || unheard {
                    if let Some(broker) = self.brokers.get_mut(&ordinal) {
                        broker.restored = true;
                    }
                    return Err(format!("its volume {} was restored from a copy", hello.replica));
                }
                if record.process == last && (volume.is_none() || record.volume == volume) {
                    return Ok(());
                }
                record.process = last;
                record.volume = volume.or(record.volume.take());
            }
            None => {
                let former = |record: &&mut BrokerRecord| {
                    record.ordinal == ordinal && record.standing == BrokerStanding::Active
                };
                for record in root.brokers.iter_mut().filter(former) {
                    record.standing = BrokerStanding::Lost;
                    replaced = Some(record.replica());
                }
                let incarnation = hello.replica.incarnation;
                let standing = BrokerStanding::Active;
                if let Some(broker) = self.brokers.get_mut(&ordinal) {
                    // That was the volume before: this one would be told to give itself up when it is greeted again.
                    broker.restored = false;
                }
                root.brokers.push(BrokerRecord { ordinal, incarnation, process: last, volume, standing });
                root.brokers.sort_by_key(BrokerRecord::replica);
            }
        }
        self.shelf.soil_root();
        if let Some(old) = replaced {
            self.tell_of_replaced(ordinal, old);
            self.forget_lost();
        }
        Ok(())
    }

    /// Whoever was removed and is added again may have another volume, and nothing is lost then.
    fn tell_of_replaced(&mut self, ordinal: Ordinal, old: ReplicaId) {
        let is_whole = self.plan.root.as_ref().is_some_and(|root| !root.rebuilding);
        if is_whole && !self.plan.entries.values().any(|entry| entry.concerns(old)) {
            let message = format!(
                "broker {ordinal} has another volume; {old}, which held nothing, is refused for ever"
            );
            self.event(EventKind::Normal, "VolumeReplaced", None, message);
        } else {
            let message = format!("broker {ordinal} came back with another volume; {old} is lost for ever");
            self.event(EventKind::Warning, "VolumeLost", None, message);
        }
    }

    /// Bounds the records: lost volumes that no entry names go first.
    pub(super) fn forget_lost(&mut self) {
        let Some(root) = &mut self.plan.root else { return };
        while root.brokers.len() > RECORDS_MAX {
            let entries = &self.plan.entries;
            let needed = |record: &BrokerRecord| {
                let replica = record.replica();
                record.standing == BrokerStanding::Active
                    || entries.values().any(|entry| entry.concerns(replica) || entry.lost.contains(&replica))
            };
            let Some(at) = root.brokers.iter().position(|record| !needed(record)) else { return };
            root.brokers.remove(at);
        }
    }

    /// A process whose record is stored takes part: it is asked for its reports.
    pub(super) fn accept_recorded(&mut self) {
        let Some(root) = &self.shelf.root else { return };
        for (ordinal, broker) in &mut self.brokers {
            let Some(hello) = broker.hello.as_ref().filter(|_| !broker.accepted && broker.refused.is_none())
            else {
                continue;
            };
            let recorded = root.active(*ordinal).is_some_and(|record| {
                record.replica() == hello.replica && Some(&record.process) == hello.processes.last()
            });
            if !recorded {
                continue;
            }
            let of_tenure = |page: &&HeldPage| page.controller_epoch == self.tenure;
            broker.held =
                hello.pages.iter().filter(of_tenure).map(|page| (page.number, page.revision)).collect();
            broker.accepted = true;
            broker.refusal = None;
            self.requests += 1;
            broker.request = self.requests;
            broker.book = self.book.0;
            self.out.push(Effect::SendAddresses { ordinal: *ordinal, book: Arc::clone(&self.book.1) });
            self.out.push(Effect::Ask { ordinal: *ordinal, request: broker.request });
        }
        self.list_held_pages();
    }

    /// A page that a broker holds and no root lists (its table was lost) is listed, empty, so that it is replaced there.
    fn list_held_pages(&mut self) {
        let Some(root) = &mut self.plan.root else { return };
        let accepted = self.brokers.values().filter(|broker| broker.accepted);
        let held = accepted.filter_map(|broker| broker.hello.as_ref()).flat_map(|hello| &hello.pages);
        let mut unlisted: Vec<u32> =
            held.map(|page| page.number).filter(|page| !root.pages.contains(page)).collect();
        unlisted.sort_unstable();
        unlisted.dedup();
        for page in unlisted {
            if root.pages.len() >= crate::control::table::PAGES_MAX {
                return;
            }
            root.pages.push(page);
            root.pages.sort_unstable();
            self.plan.numbers.insert(page);
            self.shelf.soil(page, false);
            self.shelf.soil_root();
        }
    }

    pub(super) fn note_held(&mut self, ordinal: Ordinal, page: HeldPage) -> bool {
        if let Some(broker) = self.brokers.get_mut(&ordinal) {
            broker.heard_at = self.now;
            if page.controller_epoch == self.tenure {
                let held = broker.held.entry(page.number).or_default();
                *held = page.revision.max(*held);
            }
        }
        false
    }

    pub(super) fn send_books(&mut self) {
        for (ordinal, broker) in &mut self.brokers {
            if broker.accepted && broker.book != self.book.0 {
                broker.book = self.book.0;
                self.out.push(Effect::SendAddresses { ordinal: *ordinal, book: Arc::clone(&self.book.1) });
            }
        }
    }

    /// Sends stored pages to who lacks them, one of each under way.
    pub(super) fn push(&mut self) {
        let Some(root) = &self.shelf.root else { return };
        let rebuilding = root.rebuilding;
        // Who has not answered yet may be the last that remembers what the page once said.
        for (ordinal, broker) in self.brokers.iter_mut().filter(|(_, broker)| broker.answered_at.is_some()) {
            for number in &root.pages {
                let stored = self.shelf.documents.get(&DocumentName::Page(*number));
                let stored = stored.filter(|document| !(rebuilding && document.is_dirty()));
                let Some((revision, lines)) = stored.and_then(|document| document.stored.as_ref()) else {
                    continue;
                };
                let held = broker.held.get(number).copied().unwrap_or_default();
                let pushed = broker.pushed.get(number).copied().unwrap_or_default();
                if pushed.max(held) >= *revision || pushed > held {
                    continue;
                }
                broker.pushed.insert(*number, *revision);
                let (number, revision, lines) = (*number, *revision, Arc::clone(lines));
                let page = PushedPage { number, controller_epoch: self.tenure, revision, lines };
                self.out.push(Effect::Push { ordinal: *ordinal, page });
            }
        }
    }
}

fn new_broker(now: Duration) -> Broker {
    Broker { known_since: now, heard_at: now, rounds: (0, now), ..Broker::default() }
}

fn address(sighting: &Sighting) -> Address {
    Address {
        ordinal: sighting.ordinal,
        internal: sighting.internal,
        client: sighting.client.clone(),
        zone: sighting.zone.clone(),
    }
}
