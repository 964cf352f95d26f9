//! Programs that publish and read all the while.
//!
//! Owns what is sent and when, and that each acknowledgement and each message gets into the book. The only judge is the book.

pub(crate) mod book;
mod reader;
pub(crate) mod record;
mod writer;

use std::sync::Arc;

use anyhow::Result;
use fulmar_client::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::book::Book;
use crate::cluster::TOPICS;
use crate::story::Story;

/// What runs.
pub(crate) struct Load {
    tasks: JoinSet<Result<()>>,
    writing: watch::Sender<bool>,
}

impl Load {
    /// Starts writers and a reader for every topic.
    pub(crate) async fn start(
        client: &Client,
        book: &Arc<Book>,
        story: &Arc<Story>,
        seed: u64,
    ) -> Result<Self> {
        let mut tasks = JoinSet::new();
        let (writing, still) = watch::channel(true);
        for (topic, partitions) in TOPICS {
            for patience in [writer::Patience::Long, writer::Patience::Short] {
                let order = writer::Order { topic, partitions, patience, seed };
                writer::start(client, &order, book, &still, &mut tasks).await?;
            }
            tasks.spawn(reader::follow(client.clone(), topic, Arc::clone(book), Arc::clone(story)));
        }
        Ok(Self { tasks, writing })
    }

    /// What ended though nobody asked it to.
    pub(crate) fn failed(&mut self) -> Option<String> {
        match self.tasks.try_join_next()? {
            Ok(Ok(())) => Some("a program ended".to_owned()),
            Ok(Err(error)) => Some(format!("a program failed: {error:#}")),
            Err(error) => Some(format!("a program failed: {error}")),
        }
    }

    /// Whether anything is sent.
    pub(crate) fn is_writing(&self) -> bool {
        *self.writing.borrow()
    }

    /// No more is sent; what was sent is still waited for.
    pub(crate) fn stop_writing(&self) {
        self.writing.send_replace(false);
    }
}
