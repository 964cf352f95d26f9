//! One Cluster's part of a run: from empty volumes until its log is long.
//!
//! Owns the Cluster, the programs that use it and what they wrote down. Never: what falls on it, and when.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use fulmar_client::Client;
use tokio::time::Instant;

use crate::arguments::Arguments;
use crate::cluster::{Cluster, TOPICS};
use crate::leaders::Leaders;
use crate::load::Load;
use crate::load::book::Book;
use crate::story::Story;

/// A Cluster of empty brokers needs no longer to come up.
const FIRST_CLIENT_WITHIN: Duration = Duration::from_mins(3);

/// See the module.
pub(crate) struct Round {
    pub(crate) cluster: Cluster,
    pub(crate) load: Load,
    pub(crate) book: Arc<Book>,
    pub(crate) leaders: Arc<Leaders>,
    /// By it leaders are watched.
    pub(crate) observer: Client,
}

impl Round {
    /// Starts brokers on empty volumes, and programs.
    pub(crate) async fn begin(arguments: &Arguments, story: &Arc<Story>, seed: u64) -> Result<Self> {
        let Arguments { data, program, brokers, .. } = arguments;
        let cluster = Cluster::start(data, program, *brokers, Arc::clone(story))?;
        let book = Arc::new(Book::default());
        let client = first_client(*brokers).await?;
        let observer = Cluster::client(*brokers).await?;
        let load = Load::start(&client, &book, story, seed).await?;
        Ok(Self { cluster, load, book, leaders: Arc::default(), observer })
    }

    /// Ends everything, and leaves nothing of it but the story and the report.
    pub(crate) async fn end(self, folder: &Path) -> Result<()> {
        let Self { cluster, load, .. } = self;
        drop(load);
        cluster.end().await?;
        let read = fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
        for entry in read {
            let path = entry?.path();
            if path.is_dir() {
                fs::remove_dir_all(&path).with_context(|| format!("could not delete {}", path.display()))?;
            } else if path.extension().is_some_and(|extension| extension == "img") {
                fs::remove_file(&path).with_context(|| format!("could not delete {}", path.display()))?;
            }
        }
        Ok(())
    }
}

async fn first_client(brokers: u16) -> Result<Client> {
    let deadline = Instant::now() + FIRST_CLIENT_WITHIN;
    loop {
        let answered = async {
            let client = Cluster::client(brokers).await?;
            for (topic, _) in TOPICS {
                client.admin().describe_topic(topic).await?;
            }
            anyhow::Ok(client)
        };
        match answered.await {
            Ok(client) => return Ok(client),
            Err(error) if Instant::now() > deadline => {
                return Err(
                    error.context(format!("the Cluster did not come up within {FIRST_CLIENT_WITHIN:?}"))
                );
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
}
