//! Claims about what a roll writes: the real projection of each Topic, a clock of our own.

use std::collections::BTreeMap;
use std::sync::Arc;

use fulmar_core::control::{PartitionView, TopicView};
use fulmar_core::id::Ordinal;
use fulmar_core::term::Epoch;
use fulmar_crds::Topic;

use super::*;
use crate::cluster::patience::{Mood, Patience};
use crate::topic::fixture::topic;

const TOPICS: u16 = 1_000;
const BROKERS: u16 = 3;

/// How one broker is, seconds after its pod was evicted: leaders move within the first second, the process is gone from the
/// third to the fifteenth, its replicas are in sync two seconds later.
const GONE: std::ops::Range<u64> = 3..15;
const BEHIND: std::ops::Range<u64> = 3..17;
/// The next pod goes then.
const POD: u64 = 20;
/// Leaders go back so long after their broker was well.
const HOME: u64 = 60;

/// Statuses as they are written, and how many writes that took.
struct Board {
    claims: Vec<Claimed>,
    patience: Patience,
    mood: Mood,
    start: Instant,
    writes: usize,
}

impl Board {
    fn new() -> Self {
        let topics: Vec<Arc<Topic>> = (0..TOPICS)
            .map(|number| topic(&format!("t{number:04}"), |topic| topic.spec.partitions = 1, 10))
            .collect();
        let start = Instant::now();
        let mut board = Self {
            claims: claims(&topics, Some(BROKERS)),
            patience: Patience::default(),
            mood: Mood::new(start),
            start,
            writes: 0,
        };
        board.look(0, &view(None, 0), false);
        assert_eq!(board.writes, usize::from(TOPICS), "each was written once, when it became Ready");
        board.look(1, &view(None, 0), false);
        board.writes = 0;
        board
    }

    fn look(&mut self, second: u64, view: &View, rolling: bool) {
        let now = self.start + Duration::from_secs(second);
        let calm = self.mood.note(is_restless(view, BROKERS), rolling, now);
        for claimed in &mut self.claims {
            let told = crate::topic::status::status(
                claimed,
                Home::View(view),
                Timestamp::from_second(1_000).unwrap(),
            );
            let before = claimed.topic.status.clone().unwrap_or_default();
            let gists = (
                Gist { generation: before.observed_generation, conditions: &before.conditions },
                Gist { generation: told.observed_generation, conditions: &told.conditions },
            );
            let (name, same) = (claimed.topic.name_any(), before == told);
            let due = self.patience.judge(&name, same, gists, Subject::Topic(calm), now);
            if matches!(due, Due::Now | Due::Behind) {
                self.writes += 1;
                let mut topic = (*claimed.topic).clone();
                topic.status = Some(told);
                claimed.topic = Arc::new(topic);
            }
        }
    }
}

/// What the controller says `second` seconds after the eviction of `down`; before that broker's turn, and a minute after the
/// last one's, all is at home.
fn view(down: Option<u16>, second: u64) -> View {
    let gone = |ordinal: u16| down == Some(ordinal) && GONE.contains(&second);
    let topic = |number: u16| {
        let replicas: Vec<Ordinal> = (0..BROKERS).map(|at| Ordinal((number + at) % BROKERS)).collect();
        let has_left = |ordinal: Ordinal| down.is_some_and(|down| ordinal.0 <= down);
        let leader = replicas.iter().copied().find(|ordinal| !has_left(*ordinal)).unwrap_or(Ordinal(0));
        let behind = |ordinal: &Ordinal| down == Some(ordinal.0) && BEHIND.contains(&second);
        let in_sync: Vec<Ordinal> = replicas.iter().copied().filter(|one| !behind(one)).collect();
        let under_replicated = u32::from(in_sync.len() < replicas.len());
        // While leaders move, nobody has opened its term.
        let serving = second != 0 || down.is_none();
        let partition = PartitionView {
            leader: Some(leader),
            replicas,
            in_sync,
            serving,
            epoch: Epoch::default(),
            may_have_lost: None,
            stuck: None,
        };
        let (reason, message) = ("OpeningTerms", "no leader has opened its term".to_owned());
        let view = TopicView {
            id: None,
            replication_factor: 3,
            ack_quorum: 2,
            partitions: vec![partition],
            ready: serving,
            reason,
            message,
            under_replicated,
            bereft: 0,
        };
        (format!("t{number:04}"), view)
    };
    let topics: BTreeMap<String, TopicView> = (0..TOPICS).map(topic).collect();
    let away =
        |topic: &&TopicView| topic.partitions[0].leader != topic.partitions[0].replicas.first().copied();
    let brokers = (0..BROKERS).map(|ordinal| BrokerView {
        ordinal: Ordinal(ordinal),
        incarnation: None,
        zone: None,
        state: if gone(ordinal) { BrokerState::Dead } else { BrokerState::Serving },
        replicas: 0,
        is_empty: false,
        message: String::new(),
        certificates: String::new(),
        disk: None,
    });
    View {
        controller_epoch: 7,
        wished: BROKERS,
        brokers: brokers.collect(),
        under_replicated: topics.values().map(|topic| topic.under_replicated).sum(),
        away: u32::try_from(topics.values().filter(away).count()).unwrap(),
        topics,
        ..View::default()
    }
}

#[test]
fn a_roll_of_a_thousand_topics_writes_no_status_of_a_topic() {
    let mut board = Board::new();
    let mut second = 100;
    for broker in 0..BROKERS {
        for at in 0..POD {
            board.look(second, &view(Some(broker), at), true);
            second += 1;
        }
    }
    // The roll is done, and leaders are on their way home.
    for _ in 0..HOME {
        board.look(second, &view(Some(BROKERS - 1), POD), false);
        second += 1;
    }
    for _ in 0..60 {
        board.look(second, &view(None, 0), false);
        second += 1;
    }
    assert_eq!(board.writes, 0, "all is as it was");
}

#[test]
fn a_broker_that_stays_away_is_told_once_a_topic_after_a_minute() {
    let mut board = Board::new();
    let away = view(Some(1), 5);
    for second in 100..155 {
        board.look(second, &away, false);
    }
    assert_eq!(board.writes, 0);
    for second in 155..400 {
        board.look(second, &away, false);
    }
    assert_eq!(board.writes, usize::from(TOPICS), "once each, with all that has changed");
}

#[test]
fn a_topic_that_stops_serving_in_a_roll_is_told_after_ten_seconds() {
    let mut board = Board::new();
    for second in 100..200 {
        board.look(second, &view(Some(0), 18), true);
    }
    let mut down = view(Some(0), 18);
    for topic in down.topics.values_mut().take(3) {
        topic.ready = false;
        topic.partitions[0].serving = false;
    }
    for second in 200..210 {
        board.look(second, &down, true);
    }
    assert_eq!(board.writes, 0);
    board.look(210, &down, true);
    assert_eq!(board.writes, 3);
}
