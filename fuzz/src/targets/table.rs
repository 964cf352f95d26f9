//! The partition table's text, and what people write in annotations: what is read is written and read again as the same.

use fulmar_core::control::LossWord;
use fulmar_core::control::table::{Page, Root, TopicRecord};
use fulmar_core::entry::Entry;

pub(super) fn run(bytes: &[u8]) {
    let Some((kind, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let lines = || text.split('\n').map(str::to_owned).collect::<Vec<_>>();
    match kind % 5 {
        0 => {
            if let Ok(page) = Page::parse(1, &lines()) {
                let written = page.lines();
                let again = Page::parse(1, &written).expect("a page that was read can be written");
                assert_eq!(again.lines(), written);
                assert_eq!(
                    (again.topics.len(), again.entries.len()),
                    (page.topics.len(), page.entries.len())
                );
            }
        }
        1 => {
            if let Ok(root) = Root::parse(&lines()) {
                assert_eq!(Root::parse(&root.lines()), Ok(root));
            }
        }
        2 => {
            if let Ok(entry) = text.parse::<Entry>() {
                assert_eq!(entry.to_string().parse(), Ok(entry));
            }
        }
        3 => {
            if let Ok(topic) = text.parse::<TopicRecord>() {
                assert_eq!(topic.to_string().parse(), Ok(topic));
            }
        }
        _ => {
            if let Ok(words) = LossWord::parse_all(text, 16) {
                assert!(words.iter().all(|word| word.partition < 16));
                for word in words {
                    assert_eq!(word.to_string().parse(), Ok(word));
                }
            }
        }
    }
}

pub(super) fn examples() -> Vec<Vec<u8>> {
    let topic = "00000000-0000-0000-0000-000000000001 name=orders.v1 partitions=2 replicationFactor=3 ackQuorum=2 \
                 maxMessageBytes=1048576 retentionMs=604800000 retentionBytes=none retained=false changed=7.3";
    let page = [
        "format 1",
        "replica 0 0:00000000-0000-0000-0000-000000000064",
        "replica 1 1:00000000-0000-0000-0000-000000000065",
        "replica 2 2:00000000-0000-0000-0000-000000000066",
        &format!("topic {topic}"),
        "0 epoch=7.1 leader=0 members=2of[2,0,1]",
        "1 epoch=7.2 leader=0 members=2of[0,1]+1of[0] lost=1 accepted=7.1@4",
        "unnamed 00000000-0000-0000-0000-000000000009",
        "0 epoch=7.1 leader=none members=1of[1] learners=0",
    ]
    .join("\n");
    let root = [
        "format 1",
        "cluster 00000000-0000-0000-0000-000000000007",
        "controllerEpoch 3",
        "rebuilding false",
        "pages 0,1,2",
        "broker 0:00000000-0000-0000-0000-000000000064 session=1 boot=2 volume=pvc-1 standing=Active",
    ]
    .join("\n");
    let replica = "0:00000000-0000-0000-0000-000000000064";
    let entry = format!(
        "00000000-0000-0000-0000-000000000001/0 epoch=7.1 leader={replica} members=1of[{replica}] accepted=7.1@4"
    );
    let texts = [page, root, entry, topic.to_owned(), "0:1763750000.4, 3:1.2".to_owned()];
    texts.iter().zip(0..).map(|(text, kind)| [&[kind], text.as_bytes()].concat()).collect()
}
