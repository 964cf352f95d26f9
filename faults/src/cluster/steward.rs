//! The steward: `fulmar dev` that attends brokers which it has not started.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::process::Process;
use crate::room::Place;

/// Certificates are made at its first start.
const CERTIFICATES_MAX: Duration = Duration::from_mins(2);

/// See the module.
pub(crate) struct Steward {
    pub(crate) process: Process,
    program: PathBuf,
    file: PathBuf,
    data: PathBuf,
    brokers: u16,
}

impl Steward {
    /// One that does not run yet.
    pub(crate) fn new(folder: &Path, program: &Path, file: &Path, brokers: u16) -> Result<Self> {
        std::fs::create_dir_all(folder.join("logs"))?;
        Ok(Self {
            process: Process::new(folder.join("logs/steward.log")),
            program: program.to_owned(),
            file: file.to_owned(),
            data: folder.join("dev"),
            brokers,
        })
    }

    /// Starts it.
    pub(crate) fn start(&mut self) -> Result<()> {
        let addresses: Vec<Ipv4Addr> = (0..self.brokers).map(|one| Place::Broker(one).address()).collect();
        let addresses: Vec<String> = addresses.iter().map(Ipv4Addr::to_string).collect();
        let mut command = Place::Steward.command(&self.program);
        command.arg("dev").arg("-f").arg(&self.file).arg("--data").arg(&self.data);
        command.args(["--brokers-at", &addresses.join(",")]);
        self.process.start(command)
    }

    /// Waits until there is what brokers need to start.
    pub(crate) fn await_certificates(&mut self, last: &Path) -> Result<()> {
        let deadline = Instant::now() + CERTIFICATES_MAX;
        while !last.exists() {
            let ended = self.process.ended();
            ensure!(ended.is_none(), "the steward {}", ended.unwrap_or_default());
            ensure!(
                Instant::now() < deadline,
                "the steward made no certificates within {CERTIFICATES_MAX:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}
