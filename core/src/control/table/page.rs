//! A page: topics with the entries of their partitions.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::control::table::codec::{FORMAT, InvalidTable, Words, bytes_of, opened};
use crate::control::table::topic::TopicRecord;
use crate::entry::{Entry, Members, ReplicaSet};
use crate::id::{PartitionKey, ReplicaId, TopicId};

/// The most bytes of lines in one page: an object of this size is written to etcd in some 15 ms, and a change of one
/// partition rewrites the page.
pub const PAGE_BYTES_MAX: usize = 64 * 1024;

/// A page of the partition table. A partition stays on its page; a topic has its line on each page that has one of its
/// partitions (the line with the highest `changed` holds).
///
/// As lines: `format 1`; each replica that the page speaks of, `replica INDEX ORDINAL:INCARNATION`; then each topic,
/// `topic …` (or `unnamed ID`, if only entries of it are known), followed by its partitions, whose replicas are indices:
/// `PARTITION epoch=G.C leader=INDEX|none members=Qof[INDEX,…][+Qof[INDEX,…]] [learners=INDEX,…] [lost=INDEX,…]
/// [accepted=EPOCH@OFFSET]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// Its number.
    pub number: u32,
    /// Topics, by id.
    pub topics: Vec<TopicRecord>,
    /// Decisions, by partition.
    pub entries: Vec<Entry>,
}

impl Page {
    /// Its lines. Topics and entries come in the order of their ids, whatever their order here.
    pub fn lines(&self) -> Vec<String> {
        let mut replicas: Vec<ReplicaId> = self.entries.iter().flat_map(named_by).collect();
        replicas.sort_unstable();
        replicas.dedup();
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by_key(|entry| entry.key);
        let mut ids: Vec<TopicId> = self.topics.iter().map(|topic| topic.id).collect();
        ids.extend(entries.iter().map(|entry| entry.key.topic));
        ids.sort_unstable();
        ids.dedup();

        let mut lines = vec![FORMAT.to_owned()];
        lines
            .extend(replicas.iter().enumerate().map(|(index, replica)| format!("replica {index} {replica}")));
        for id in ids {
            lines.push(match self.topics.iter().find(|topic| topic.id == id) {
                Some(topic) => format!("topic {topic}"),
                None => format!("unnamed {id}"),
            });
            let from = entries.partition_point(|entry| entry.key.topic < id);
            let own = entries[from..].iter().take_while(|entry| entry.key.topic == id);
            lines.extend(own.map(|entry| entry_line(entry, &replicas)));
        }
        lines
    }

    /// The size of [`lines`](Self::lines), to be kept within [`PAGE_BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        bytes_of(&self.lines())
    }

    /// Back from [`lines`](Self::lines). An error names the line and what may stand there.
    pub fn parse(number: u32, lines: &[String]) -> Result<Self, InvalidTable> {
        let mut page = Page { number, ..Page::default() };
        let mut replicas: Vec<ReplicaId> = Vec::new();
        let mut topic: Option<TopicId> = None;
        for (line, text) in opened(lines)? {
            let mut words = Words::new(line, text);
            match words.word().unwrap_or_default() {
                "replica" if topic.is_none() => {
                    let index: usize = words.value("the next index")?;
                    if index != replicas.len() {
                        return Err(words.wrong(text, format_args!("replica {}", replicas.len())));
                    }
                    replicas.push(words.value("ORDINAL:INCARNATION")?);
                }
                "topic" => {
                    let record = TopicRecord::read(&mut words)?;
                    topic = Some(record.id);
                    page.topics.push(record);
                }
                "unnamed" => topic = Some(words.value("a topic's id, a UUID")?),
                partition => {
                    let (Ok(partition), Some(topic)) = (partition.parse(), topic) else {
                        return Err(
                            words.wrong(text, "replica …, then topic …, then its partitions' numbers")
                        );
                    };
                    page.entries.push(read_entry(PartitionKey { topic, partition }, &mut words, &replicas)?);
                }
            }
            words.end()?;
        }
        page.check_unique()?;
        Ok(page)
    }

    fn check_unique(&self) -> Result<(), InvalidTable> {
        let twice =
            |what: String| InvalidTable::Line { line: 0, text: what, wanted: "named once".to_owned() };
        let (mut topics, mut partitions) = (BTreeSet::new(), BTreeSet::new());
        if let Some(topic) = self.topics.iter().find(|topic| !topics.insert(topic.id)) {
            return Err(twice(format!("topic {}", topic.id)));
        }
        match self.entries.iter().find(|entry| !partitions.insert(entry.key)) {
            Some(entry) => Err(twice(format!("partition {}", entry.key))),
            None => Ok(()),
        }
    }
}

fn named_by(entry: &Entry) -> Vec<ReplicaId> {
    let mut named = entry.members.replicas();
    named.extend(&entry.learners);
    named.extend(&entry.lost);
    named
}

fn indices(of: &[ReplicaId], replicas: &[ReplicaId]) -> String {
    let index =
        |replica| replicas.binary_search(replica).expect("the page lists every replica that an entry names");
    let texts: Vec<String> = of.iter().map(|replica| index(replica).to_string()).collect();
    texts.join(",")
}

fn entry_line(entry: &Entry, replicas: &[ReplicaId]) -> String {
    let mut line = format!("{} epoch={} leader=", entry.key.partition, entry.epoch);
    match entry.leader {
        Some(leader) => line.push_str(&indices(&[leader], replicas)),
        None => line.push_str("none"),
    }
    for (at, set) in entry.members.sets().enumerate() {
        let before = if at == 0 { " members=" } else { "+" };
        let list = indices(set.replicas(), replicas);
        write!(line, "{before}{}of[{list}]", set.ack_quorum()).expect("a String takes everything");
    }
    for (field, list) in [("learners", &entry.learners), ("lost", &entry.lost)] {
        if !list.is_empty() {
            write!(line, " {field}={}", indices(list, replicas)).expect("a String takes everything");
        }
    }
    if let Some(accepted) = entry.accepted_loss {
        write!(line, " accepted={accepted}").expect("a String takes everything");
    }
    line
}

fn read_entry(
    key: PartitionKey,
    words: &mut Words<'_>,
    replicas: &[ReplicaId],
) -> Result<Entry, InvalidTable> {
    let read = |words: &Words<'_>, text: &str| -> Result<Vec<ReplicaId>, InvalidTable> {
        let one = |index: &str| index.parse::<usize>().ok().and_then(|index| replicas.get(index).copied());
        let known =
            |index: &str| one(index).ok_or_else(|| words.wrong(index, "the index of a replica of this page"));
        text.split(',').map(known).collect()
    };
    let set = |words: &Words<'_>, text: &str| -> Result<ReplicaSet, InvalidTable> {
        let wrong = || words.wrong(text, "Qof[INDEX,…]");
        let (quorum, indices) = text.split_once("of[").ok_or_else(wrong)?;
        let indices = indices.strip_suffix(']').ok_or_else(wrong)?;
        let quorum = quorum.parse().map_err(|_| wrong())?;
        ReplicaSet::new(read(words, indices)?, quorum).map_err(|error| words.wrong(text, error))
    };
    let epoch = words.field_value("epoch", "GENERATION.COUNTER")?;
    let leader = match words.field("leader")? {
        "none" => None,
        index => read(words, index)?.first().copied(),
    };
    let members = words.field("members")?;
    let members = match members.split_once('+') {
        None => Members::One(set(words, members)?),
        Some((old, new)) => Members::Joint { old: set(words, old)?, new: set(words, new)? },
    };
    let mut optional = |field| words.field_if(field).map_or(Ok(Vec::new()), |text| read(words, text));
    let learners = optional("learners")?;
    let lost = optional("lost")?;
    let accepted = words.field_if("accepted");
    let accepted = accepted.map(|text| text.parse().map_err(|_| words.wrong(text, "EPOCH@OFFSET")));
    let accepted_loss = accepted.transpose()?;
    let entry = Entry { key, epoch, leader, members, learners, lost, accepted_loss };
    entry.checked().map_err(|error| words.wrong(&format!("partition {key}"), error))
}
