//! The partition table's pages as this broker holds them: on the volume first, then acted on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fulmar_core::entry::Entry;
use fulmar_proto::internal::v1 as proto;
use thiserror::Error;
use tokio::sync::{Mutex, watch};
use tracing::{debug, info, warn};

use crate::directory::{Changing, Directory, HeldPage, read_page};
use crate::replica::{Command, Replicas};
use crate::storage;

/// The line in front of a stored page: the tenure that wrote it is not part of its lines.
const STAMP: &str = "controllerEpoch ";

/// The highest tenure that the volume knows, from its pages.
pub type StoredEpochs = Arc<AtomicU64>;

/// Why a page was not taken.
#[derive(Debug, Error)]
pub enum PageError {
    /// It does not parse: the operator is of another version.
    #[error("page {number}: {what}")]
    Malformed {
        /// Which.
        number: u32,
        /// What is wrong.
        what: String,
    },
    /// The volume did not take it.
    #[error("page {number} could not be stored: {what}")]
    Stored {
        /// Which.
        number: u32,
        /// Why.
        what: String,
    },
}

/// The pages; a handle that can be cloned.
#[derive(Debug, Clone)]
pub struct Pages {
    replicas: Replicas,
    directory: Arc<watch::Sender<Arc<Directory>>>,
    highest: StoredEpochs,
    /// One page at a time is stored and acted on.
    turn: Arc<Mutex<()>>,
}

impl Pages {
    /// Reads the pages that the volume kept. One that does not parse is left out, loudly: the operator pushes it again.
    pub fn start(replicas: Replicas, kept: Vec<storage::Page>) -> (Self, Vec<Entry>) {
        let mut directory = Directory::default();
        let mut highest = 0;
        for page in kept {
            match kept_page(&page) {
                Ok(held) => {
                    highest = highest.max(held.controller_epoch);
                    directory = directory.with(held).unwrap_or(directory);
                }
                Err(error) => warn!(page = page.number, %error, "a kept page is not understood"),
            }
        }
        let entries = directory.entries().map(|entry| entry.as_ref().clone()).collect();
        let (publish, _) = watch::channel(Arc::new(directory));
        let highest = Arc::new(AtomicU64::new(highest));
        (Self { replicas, directory: Arc::new(publish), highest, turn: Arc::default() }, entries)
    }

    /// Topics and entries as they change.
    pub fn directory(&self) -> Changing {
        self.directory.subscribe()
    }

    /// The highest tenure that was seen.
    pub fn controller_epoch(&self) -> u64 {
        self.highest.load(Ordering::Acquire)
    }

    /// A tenure showed itself.
    pub fn saw(&self, controller_epoch: u64) {
        self.highest.fetch_max(controller_epoch, Ordering::AcqRel);
    }

    /// What is held, for a hello.
    pub fn held(&self) -> Vec<proto::PageHeld> {
        let directory = self.directory.borrow().clone();
        directory.pages().map(page_held).collect()
    }

    /// Stores a page, then acts on it; an older one than the held changes nothing. Answers what is held now.
    pub async fn take(&self, page: proto::Page) -> Result<proto::PageHeld, PageError> {
        let number = page.number;
        let held = read_page(number, page.revision, page.controller_epoch, &page.lines)
            .map_err(|error| PageError::Malformed { number, what: error.to_string() })?;
        let _turn = self.turn.lock().await;
        let before = self.directory.borrow().clone();
        let Some(after) = before.with(held) else {
            debug!(page = number, "an old page came again");
            let kept = before.pages().find(|kept| kept.page.number == number);
            return Ok(kept.map(page_held).expect("a page that is not newer is held already"));
        };
        self.store(&page).await?;
        self.saw(page.controller_epoch);
        let changed = after.entries_of_page(number).filter(|entry| before.entry(entry.key) != Some(*entry));
        let changed: Vec<Entry> = changed.map(|entry| entry.as_ref().clone()).collect();
        self.directory.send_replace(Arc::new(after));
        info!(
            page = number,
            revision = page.revision,
            partitions = changed.len(),
            "a page of the table was taken"
        );
        let stopped = |error: crate::replica::Stopped| PageError::Stored { number, what: error.to_string() };
        self.replicas.send(Command::Assign(changed)).await.map_err(stopped)?;
        Ok(proto::PageHeld { number, revision: page.revision, controller_epoch: page.controller_epoch })
    }

    async fn store(&self, page: &proto::Page) -> Result<(), PageError> {
        let mut lines = Vec::with_capacity(page.lines.len() + 1);
        lines.push(format!("{STAMP}{}", page.controller_epoch));
        lines.extend(page.lines.iter().cloned());
        let stored = storage::Page { number: page.number, revision: page.revision, lines };
        let put = self.replicas.storage().put_page(stored).await;
        put.map_err(|error| PageError::Stored { number: page.number, what: error.to_string() })
    }

    /// The topics that the pages name, as the table writes them.
    pub fn topics(&self) -> Vec<String> {
        self.directory.borrow().topics().map(ToString::to_string).collect()
    }
}

fn kept_page(page: &storage::Page) -> Result<HeldPage, String> {
    let (stamp, lines) = page.lines.split_first().ok_or("it has no lines")?;
    let epoch = stamp.strip_prefix(STAMP).and_then(|epoch| epoch.parse().ok());
    let epoch = epoch.ok_or("its first line is not controllerEpoch N")?;
    read_page(page.number, page.revision, epoch, lines).map_err(|error| error.to_string())
}

fn page_held(held: &HeldPage) -> proto::PageHeld {
    proto::PageHeld {
        number: held.page.number,
        revision: held.revision,
        controller_epoch: held.controller_epoch,
    }
}
