//! A reader of each topic from its first record on, all the while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use fulmar_client::{Client, Start, SubscribeError};

use super::book::{Book, Found};
use super::record;
use crate::cluster::TOPICS;
use crate::story::Story;

/// A subscriber that could not be made is tried again: leaders may be away.
const AGAIN: Duration = Duration::from_millis(500);

/// Reads on for ever; each partition by a subscriber of its own, since one that fails ends alone.
pub(crate) async fn follow(
    client: Client,
    topic: &'static str,
    book: Arc<Book>,
    story: Arc<Story>,
) -> Result<()> {
    let partitions = TOPICS.iter().find(|(name, _)| *name == topic).map_or(0, |(_, count)| *count);
    let mut readers = tokio::task::JoinSet::new();
    for partition in 0..partitions {
        readers.spawn(follow_one(client.clone(), topic, partition, Arc::clone(&book), Arc::clone(&story)));
    }
    while let Some(ended) = readers.join_next().await {
        ended?;
    }
    Ok(())
}

async fn follow_one(client: Client, topic: &'static str, partition: u32, book: Arc<Book>, story: Arc<Story>) {
    let mut next = None;
    let mut troubles: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        let start = next.map_or(Start::Earliest, Start::Offset);
        let built = client.subscriber(topic).partitions([partition]).start(start).build().await;
        let why = match built {
            Ok(mut subscriber) => loop {
                match subscriber.next().await {
                    Some(Ok(message)) => {
                        next = Some(message.offset + 1);
                        let found = Found {
                            offset: message.offset,
                            name: record::name(&message.value),
                            print: record::print(&message.value),
                        };
                        book.read(topic, partition, &found);
                    }
                    Some(Err(error)) => break error,
                    None => {
                        break SubscribeError::Topic(fulmar_client::DescribeError::UnknownTopic {
                            topic: "the subscriber ended".to_owned(),
                        });
                    }
                }
            },
            Err(error) => error,
        };
        let times = troubles.entry(why.to_string()).or_default();
        *times += 1;
        if *times == 1 {
            story.note(&format!("the reader of {topic}/{partition} is interrupted at {next:?}: {why}"));
        }
        if matches!(why, SubscribeError::OffsetOutOfRange { .. }) {
            book.violation(format!("the reader of {topic}/{partition}, at {next:?}: {why}"));
        }
        tokio::time::sleep(AGAIN).await;
    }
}
