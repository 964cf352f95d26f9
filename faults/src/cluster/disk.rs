//! What a broker's disk does: the files by which the broker's faulty disk is told (`broker/src/storage/faulty_disk`).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// The folder that a broker's disk reads its orders from and keeps its notes in.
#[derive(Debug)]
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// A disk that behaves.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn order(&self, text: &str) -> Result<()> {
        let path = self.folder.join("orders");
        let new = self.folder.join("orders.new");
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).context("could not order a disk")
    }

    /// Each sync takes so much longer.
    pub(crate) fn slow(&self, delay: Duration) -> Result<()> {
        self.order(&format!("delay_ms {}\n", delay.as_millis()))
    }

    /// Syncs hang until told otherwise.
    pub(crate) fn hang(&self) -> Result<()> {
        self.order("hang\n")
    }

    /// Syncs fail.
    pub(crate) fn fail(&self) -> Result<()> {
        self.order("fail\n")
    }

    /// As disks should.
    pub(crate) fn behave(&self) -> Result<()> {
        self.order("")
    }

    /// At the next start what was not synced is lost, whole or in parts.
    pub(crate) fn lose_unsynced(&self, seed: u64) -> Result<()> {
        fs::write(self.folder.join("power-cut"), format!("{seed}\n")).context("could not cut the power")
    }

    /// Forgets its notes: the volume is another one.
    pub(crate) fn forget(&self) -> Result<()> {
        fs::remove_dir_all(&self.folder)?;
        fs::create_dir_all(&self.folder).context("could not empty a disk's notes")
    }
}
