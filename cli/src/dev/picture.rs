//! What a person sees: brokers, leaders, the next lines to type; redrawn in place on a terminal, plain lines elsewhere.
//!
//! Owns words and drawing. Never asks anybody: the session tells it.

use std::collections::BTreeMap;

use fulmar_core::control::{BrokerState, Stuck, TopicView, View};
use fulmar_crds::topic::ACCEPT_DATA_LOSS;

use super::ports::Ports;
use crate::live::{Live, write_out};
use crate::output::table;

/// A topic of more partitions is shown in one line.
const PARTITIONS_SHOWN_MAX: usize = 6;

/// More lines than a small terminal has could not be redrawn in place.
const TOPIC_LINES_MAX: usize = 18;

/// A line to type names so many partitions; the next ones are named when these are done.
const WORDS_MAX: usize = 16;

/// What is fixed while it runs.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) cluster: String,
    pub(crate) folder: String,
    pub(crate) ports: Ports,
}

/// What is known of a broker's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Process {
    Running(u32),
    Gone,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Picture {
    setting: Setting,
    live: Live,
    view: std::sync::Arc<View>,
    processes: BTreeMap<u16, Process>,
    topic: Option<String>,
    was_ready: bool,
    has_told_next: bool,
}

impl Picture {
    pub(crate) fn new(setting: Setting) -> Self {
        Self {
            setting,
            live: Live::new(),
            view: std::sync::Arc::default(),
            processes: BTreeMap::new(),
            topic: None,
            was_ready: false,
            has_told_next: false,
        }
    }

    /// Says something that stays, above the picture.
    pub(crate) fn say(&mut self, what: &str) {
        self.live.erase();
        write_out(&format!("{what}\n"));
        self.draw();
    }

    pub(crate) fn process(&mut self, ordinal: u16, process: Option<Process>) {
        match process {
            Some(process) => self.processes.insert(ordinal, process),
            None => self.processes.remove(&ordinal),
        };
        self.draw();
    }

    /// The topic that the next lines to type speak of.
    pub(crate) fn topic(&mut self, topic: Option<String>) {
        self.topic = topic;
    }

    /// Shows what the controller knows now; says in a line what has changed.
    pub(crate) fn view(&mut self, view: &std::sync::Arc<View>, wanted: u16) {
        for line in changes(&self.view, view) {
            self.say(&line);
        }
        // On a terminal it stands in the picture.
        if let Some(line) = news_of_waiting(&self.view, view).filter(|_| !self.live.is_terminal()) {
            self.say(&line);
        }
        self.view = std::sync::Arc::clone(view);
        let ready = is_ready(view, wanted);
        if ready && !self.was_ready {
            let (brokers, topics) = (wanted, view.topics.len());
            self.say(&format!("ready: {brokers} brokers, {topics} topics"));
        }
        self.was_ready = ready;
        if ready && !self.live.is_terminal() && !self.has_told_next {
            self.has_told_next = true;
            let text = self.text();
            self.say(&text);
        }
        self.draw();
    }

    /// Leaves the last picture where it is.
    pub(crate) fn end(&mut self) {
        self.live.end();
    }

    fn draw(&mut self) {
        if self.live.is_terminal() {
            let text = self.text();
            self.live.draw(&text);
        }
    }

    fn text(&self) -> String {
        let mut text = format!("\nCluster {} in {}\n\n", self.setting.cluster, self.setting.folder);
        text.push_str(&self.brokers());
        text.push_str("\n\n");
        text.push_str(&self.topics());
        if let Some(waiting) = &self.view.waiting {
            text = format!("{text}\n\n{}: {}", waiting.reason, waiting.message);
        }
        text.push_str("\n\n");
        text.push_str(&self.next_lines());
        text
    }

    fn brokers(&self) -> String {
        let rows = self.processes.iter().map(|(ordinal, process)| {
            let ports = self.setting.ports.of(*ordinal);
            let known = self.view.brokers.iter().find(|broker| broker.ordinal.0 == *ordinal);
            let leads = self.view.topics.values().flat_map(|topic| &topic.partitions);
            let leads =
                leads.filter(|partition| partition.leader.is_some_and(|leader| leader.0 == *ordinal)).count();
            let (pid, state) = match process {
                Process::Running(pid) => {
                    (pid.to_string(), known.map_or("Starting", |broker| broker.state.name()))
                }
                Process::Gone => ("-".to_owned(), "Gone"),
            };
            [
                format!("{}-{ordinal}", self.setting.cluster),
                pid,
                state.to_owned(),
                format!("127.0.0.1:{}", ports.grpc),
                format!("127.0.0.1:{}", ports.http),
                leads.to_string(),
            ]
        });
        table(["BROKER", "PID", "STATE", "GRPC", "HTTP", "LEADS"], rows)
    }

    fn topics(&self) -> String {
        let mut rows: Vec<[String; 6]> =
            self.view.topics.iter().flat_map(|(name, topic)| topic_rows(name, topic)).collect();
        if rows.is_empty() {
            return "no topics yet".to_owned();
        }
        let more = rows.len().saturating_sub(TOPIC_LINES_MAX);
        rows.truncate(TOPIC_LINES_MAX);
        let text = table(["TOPIC", "READY", "PARTITION", "LEADER", "REPLICAS", "INSYNC"], rows);
        if more > 0 { format!("{text}\n… and {more} more lines: topic list, topic describe") } else { text }
    }

    fn next_lines(&self) -> String {
        let program = std::env::args().next().unwrap_or_else(|| "fulmar".to_owned());
        let grpc = self.setting.ports.of(0).grpc;
        let http = self.setting.ports.of(0).http;
        let server =
            if grpc == 50_051 { String::new() } else { format!(" --server http://127.0.0.1:{grpc}") };
        let topic = self.topic.as_deref().unwrap_or("TOPIC");
        let mut lines = format!(
            "Try in another terminal:\n  {program} publish {topic}{server} --key 42 hello\n  \
             {program} consume {topic}{server} --from earliest\n  \
             curl 'http://127.0.0.1:{http}/publish?topic={topic}&msg=hello'"
        );
        let victim = self.processes.iter().rev().find_map(|(ordinal, process)| match process {
            Process::Running(pid) => Some((ordinal, pid)),
            Process::Gone => None,
        });
        if let Some((ordinal, pid)) = victim {
            lines = format!("{lines}\n  kill -9 {pid}   # broker {ordinal} dies: watch its partitions move");
        }
        lines.push_str("\nSave the YAML to apply it. Ctrl-C stops; the next start finds the data.");
        lines
    }
}

fn ordinals(ordinals: &[fulmar_core::id::Ordinal]) -> String {
    crate::output::list(&ordinals.iter().map(|ordinal| u32::from(ordinal.0)).collect::<Vec<_>>())
}

fn topic_rows(name: &str, topic: &TopicView) -> Vec<[String; 6]> {
    let ready = if topic.ready { "yes".to_owned() } else { topic.reason.to_owned() };
    if topic.partitions.is_empty() || topic.partitions.len() > PARTITIONS_SHOWN_MAX {
        let serving = topic.partitions.iter().filter(|partition| partition.serving).count();
        let partitions = format!("{serving}/{} serving", topic.partitions.len());
        return vec![[name.to_owned(), ready, partitions, String::new(), String::new(), String::new()]];
    }
    let rows = topic.partitions.iter().enumerate().map(|(number, partition)| {
        let leader = partition.leader.map_or_else(|| "-".to_owned(), |leader| leader.to_string());
        let leader = if partition.serving { leader } else { format!("{leader} (opening)") };
        [
            name.to_owned(),
            ready.clone(),
            number.to_string(),
            leader,
            ordinals(&partition.replicas),
            ordinals(&partition.in_sync),
        ]
    });
    rows.collect()
}

/// Every broker serves, and every topic is ready.
fn is_ready(view: &View, wanted: u16) -> bool {
    let serving = view.brokers.iter().filter(|broker| broker.state == BrokerState::Serving).count();
    serving >= usize::from(wanted) && view.waiting.is_none() && view.topics.values().all(|topic| topic.ready)
}

/// Whether that a topic is not ready is to be said: not again while the reason is the same, and not for each topic when the
/// whole Cluster waits.
fn is_news(topic: &TopicView, old: Option<&TopicView>, view: &View) -> bool {
    let another = |old: &TopicView| old.ready || old.reason != topic.reason || stuck(old).ne(stuck(topic));
    !topic.ready && view.waiting.is_none() && old.is_none_or(another)
}

/// What is told of partitions that nothing but a person's word can help.
fn stuck(topic: &TopicView) -> impl Iterator<Item = &Stuck> {
    topic.partitions.iter().filter_map(|partition| partition.stuck.as_ref())
}

/// What to put into the file to give up what only those have that are missing, if that helps.
fn way_out(name: &str, topic: &TopicView) -> Option<String> {
    let words = stuck(topic).filter_map(|stuck| stuck.word).take(WORDS_MAX);
    let words: Vec<String> = words.map(|word| word.to_string()).collect();
    (!words.is_empty()).then(|| {
        format!(
            "if what is missing never comes back, give up what only it has: put this under metadata.annotations of topic {name}, and save\n  \
             {ACCEPT_DATA_LOSS}: \"{}\"",
            words.join(",")
        )
    })
}

/// From where on records may be missing, of each partition that was opened without enough logs.
fn given_up(name: &str, topic: &TopicView) -> Vec<String> {
    let lost = topic.partitions.iter().enumerate();
    let lost = lost.filter_map(|(number, partition)| Some((number, partition.may_have_lost?)));
    let tell = |(number, from)| {
        format!("topic {name}, partition {number} may lack acknowledged records from offset {from} on")
    };
    lost.map(tell).collect()
}

/// What a person should notice between two views.
fn changes(before: &View, after: &View) -> Vec<String> {
    let mut lines = Vec::new();
    for broker in &after.brokers {
        let old = before.brokers.iter().find(|old| old.ordinal == broker.ordinal).map(|old| old.state);
        let worth = matches!(broker.state, BrokerState::Serving | BrokerState::Dead | BrokerState::Refused);
        if old != Some(broker.state) && worth {
            let more =
                if broker.message.is_empty() { String::new() } else { format!(": {}", broker.message) };
            lines.push(format!("broker {} is {}{more}", broker.ordinal, broker.state.name()));
        }
    }
    for (name, topic) in &after.topics {
        let old = before.topics.get(name);
        if topic.ready && old.is_none_or(|old| !old.ready) {
            lines.push(format!("topic {name} is ready"));
        } else if is_news(topic, old, after) {
            lines.push(format!("topic {name} is not ready: {}: {}", topic.reason, topic.message));
            lines.extend(way_out(name, topic));
        }
        let before = old.map(|old| given_up(name, old)).unwrap_or_default();
        lines.extend(given_up(name, topic).into_iter().filter(|line| !before.contains(line)));
        let Some(old) = old else { continue };
        for (number, (was, is)) in old.partitions.iter().zip(&topic.partitions).enumerate() {
            if let (Some(was), Some(is)) = (was.leader, is.leader)
                && was != is
            {
                lines.push(format!(
                    "topic {name}, partition {number}: broker {is} leads instead of broker {was}"
                ));
            }
        }
    }
    lines
}

/// Why the whole Cluster waits, when that is new.
fn news_of_waiting(before: &View, after: &View) -> Option<String> {
    let is_new = |reason| before.waiting.as_ref().is_none_or(|old| old.reason != reason);
    let waiting = after.waiting.as_ref().filter(|waiting| is_new(waiting.reason))?;
    Some(format!("{}: {}", waiting.reason, waiting.message))
}
