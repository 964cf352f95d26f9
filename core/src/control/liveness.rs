//! Who is dead.
//!
//! At once: nobody listens at its address, or its container has ended. Else: silent for a second, and no peer hears it by
//! gossip. A storage loop that stands still is a dead broker, whatever the network says.

use std::time::Duration;

use crate::control::broker::Broker;
use crate::control::controller::Controller;
use crate::control::view::{Disk, EventKind};
use crate::entry::Entry;
use crate::id::Ordinal;

/// Silence that, with no peer hearing it, means death.
const SILENCE: Duration = Duration::from_secs(1);
/// Rounds of the storage loop that stand still for so long mean a hanging disk.
const STILL: Duration = Duration::from_secs(2);
/// When more than half fall silent at once, it is more likely this process that is cut off: they are asked again for so
/// long.
const SELF_DOUBT: Duration = Duration::from_secs(3);

/// How a broker looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Alive,
    /// Known to be gone.
    Gone(&'static str),
    /// Nothing is heard of it.
    Silent,
}

impl Controller {
    pub(super) fn note_heartbeat(&mut self, ordinal: Ordinal, rounds: u64) -> bool {
        if let Some(broker) = self.brokers.get_mut(&ordinal) {
            (broker.heard_at, broker.beat_at) = (self.now, self.now);
            if broker.rounds.0 != rounds {
                broker.rounds = (rounds, self.now);
            }
        }
        false
    }

    pub(super) fn note_certificates(&mut self, ordinal: Ordinal, worn: String) -> bool {
        let Some(broker) = self.brokers.get_mut(&ordinal) else { return false };
        broker.heard_at = self.now;
        broker.certificates = worn;
        true
    }

    pub(super) fn note_disk(&mut self, ordinal: Ordinal, disk: Disk) -> bool {
        let Some(broker) = self.brokers.get_mut(&ordinal) else { return false };
        broker.heard_at = self.now;
        broker.disk.replace(disk) != Some(disk)
    }

    pub(super) fn note_gossip(&mut self, ordinal: Ordinal, alive: Vec<Ordinal>) -> bool {
        if let Some(broker) = self.brokers.get_mut(&ordinal) {
            broker.heard_at = self.now;
            broker.hears = alive.into_iter().filter(|other| *other != ordinal).collect();
        }
        false
    }

    pub(super) fn note_stopping(&mut self, ordinal: Ordinal) -> bool {
        let Some(broker) = self.brokers.get_mut(&ordinal) else { return false };
        broker.heard_at = self.now;
        !std::mem::replace(&mut broker.stopping, true)
    }

    /// Notes who died and who came back.
    pub(super) fn judge_liveness(&mut self) {
        let looks: Vec<(Ordinal, Look)> =
            self.brokers.iter().map(|(ordinal, broker)| (*ordinal, self.look(*ordinal, broker))).collect();
        let fresh = |look: &(Ordinal, Look)| {
            let broker = &self.brokers[&look.0];
            look.1 == Look::Silent && broker.dead_since.is_none()
        };
        let living = self.brokers.values().filter(|broker| broker.dead_since.is_none()).count();
        let silent = looks.iter().filter(|look| fresh(look)).count();
        let doubt = silent > 1 && silent * 2 > living;
        for (ordinal, look) in looks {
            self.judge(ordinal, look, doubt);
        }
    }

    fn look(&self, ordinal: Ordinal, broker: &Broker) -> Look {
        let now = self.now;
        if broker.hello.is_some() {
            if now.saturating_sub(broker.rounds.1) >= STILL && now.saturating_sub(broker.heard_at) < STILL {
                return Look::Gone("its disk hangs");
            }
            if now.saturating_sub(broker.heard_at) < SILENCE {
                return Look::Alive;
            }
        } else if broker.dial_refused {
            return Look::Gone("nobody listens at its address");
        } else if self.sightings.get(&ordinal).is_some_and(|sighting| !sighting.running) {
            return Look::Gone("its container has ended");
        }
        // Who was asked again is given no new time, or nobody would ever be called dead.
        let known_since = if broker.suspected_since.is_some() { Duration::ZERO } else { broker.known_since };
        let silent_for = now.saturating_sub(broker.heard_at.max(known_since));
        if silent_for < SILENCE || self.is_heard(ordinal) { Look::Alive } else { Look::Silent }
    }

    /// Whether a peer whose stream lives hears it. What a peer said of it is as old as its last heartbeat: it says at once when
    /// that is true no more.
    fn is_heard(&self, ordinal: Ordinal) -> bool {
        self.brokers.iter().any(|(peer, broker)| {
            let speaks = *peer != ordinal && broker.hello.is_some();
            let fresh = self.now.saturating_sub(broker.beat_at) < SILENCE;
            speaks && fresh && broker.hears.contains(&ordinal)
        })
    }

    fn judge(&mut self, ordinal: Ordinal, look: Look, doubt: bool) {
        let now = self.now;
        let Some(broker) = self.brokers.get_mut(&ordinal) else { return };
        let was_dead = broker.dead_since.is_some();
        let why = match look {
            Look::Alive => {
                broker.suspected_since = None;
                // Who was dead is back when it takes part again.
                if was_dead && broker.answered_at.is_some() {
                    broker.dead_since = None;
                    self.due = true;
                    if std::mem::replace(&mut broker.served, true) {
                        let message = format!("broker {ordinal} answers again");
                        self.event(EventKind::Normal, "BrokerReturned", None, message);
                    }
                }
                return;
            }
            _ if was_dead => return,
            Look::Gone(why) => why,
            Look::Silent => {
                // Who was asked again has its time to answer, whoever of the others did meanwhile.
                let is_asked = broker.suspected_since.is_some();
                let since = *broker.suspected_since.get_or_insert(now);
                let asked_again = now.saturating_sub(since);
                if (doubt || is_asked) && asked_again < SELF_DOUBT {
                    if asked_again == Duration::ZERO {
                        self.ask_again(ordinal);
                    }
                    return;
                }
                "it is silent, and no other broker hears it"
            }
        };
        broker.dead_since = Some(now);
        broker.suspected_since = None;
        (self.due, self.is_urgent) = (true, true);
        let told_to_stop = broker.stopping;
        if broker.served && self.rules() {
            self.tell_of_the_end(ordinal, told_to_stop, why);
        }
    }

    fn tell_of_the_end(&mut self, ordinal: Ordinal, told_to_stop: bool, why: &str) {
        let leads = |entry: &&Entry| entry.leader.is_some_and(|leader| leader.ordinal == ordinal);
        let led = self.plan.entries.values().filter(leads).count();
        let wished = self.desired.as_ref().is_none_or(|desired| ordinal.0 < desired.brokers);
        let (kind, reason, message) = if !wished && led == 0 {
            (
                EventKind::Normal,
                "BrokerLeft",
                format!("broker {ordinal} is not wished any more, and has gone"),
            )
        } else if told_to_stop && led == 0 {
            (
                EventKind::Normal,
                "BrokerStopped",
                format!("broker {ordinal} was told to stop, and has stopped"),
            )
        } else {
            let message = format!("broker {ordinal} is dead: {why}; it led {led} partitions");
            (EventKind::Warning, "BrokerLost", message)
        };
        self.event(kind, reason, None, message);
    }

    /// Opens another stream: an answer on it clears the suspicion.
    fn ask_again(&mut self, ordinal: Ordinal) {
        if let Some(broker) = self.brokers.get_mut(&ordinal) {
            broker.attended = None;
            self.due = true;
        }
    }
}
