//! One broker: a process with a volume.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::disk::Disk;
use super::process::Process;
use crate::room::Place;

/// Less is refused; much of what happens at the edges of memory happens sooner.
const MEMORY_LIMIT: &str = "128Mi";
/// The smallest slot: slots are reused, and the applier hurried, many times a run.
const SLOT_SIZE: &str = "16Mi";
/// What a stop in order may take, and what a pod would be given beyond it.
const SHUTDOWN_GRACE: &str = "15s";
const STOP_TIMEOUT: Duration = Duration::from_mins(1);

/// What a broker says once its volume is open and its ports are.
pub(crate) const SERVES: &str = "the broker serves";

/// Where a broker's file system is.
pub(crate) fn mount(folder: &Path, ordinal: u16) -> PathBuf {
    folder.join(format!("volume-{ordinal}"))
}

/// See the module.
pub(crate) struct Broker {
    pub(crate) ordinal: u16,
    pub(crate) process: Process,
    pub(crate) disk: Disk,
    /// Where its data is: its own volume's, but for blows that give it another one.
    pub(crate) data: PathBuf,
    /// It was told to stop since it was started, and nobody has waited for its end.
    pub(crate) told_to_stop: bool,
    /// It has said since it was started that it serves.
    serves: bool,
    program: PathBuf,
    tls: PathBuf,
    seeds: String,
}

impl Broker {
    /// One that does not run yet.
    pub(crate) fn new(folder: &Path, program: &Path, ordinal: u16, brokers: u16) -> Result<Self> {
        let seeds: Vec<String> =
            (0..brokers).map(|one| format!("{}:7946", Place::Broker(one).address())).collect();
        std::fs::create_dir_all(folder.join("logs"))?;
        Ok(Self {
            ordinal,
            process: Process::new(folder.join(format!("logs/broker-{ordinal}.log"))),
            disk: Disk::new(&folder.join(format!("disk-{ordinal}")))?,
            data: mount(folder, ordinal).join("data"),
            told_to_stop: false,
            serves: false,
            program: program.to_owned(),
            tls: folder.join("dev/tls"),
            seeds: seeds.join(","),
        })
    }

    /// Its place in the network.
    pub(crate) fn place(&self) -> Place {
        Place::Broker(self.ordinal)
    }

    /// Starts it on its data.
    pub(crate) fn start(&mut self) -> Result<()> {
        let command = self.command(50_050, &self.data);
        (self.told_to_stop, self.serves) = (false, false);
        self.process.start(command)
    }

    /// Whether the process that runs has its volume open and takes calls and signals.
    pub(crate) fn serves(&mut self) -> bool {
        self.serves |= self.process.said().lines().any(|line| line.contains(SERVES));
        self.serves
    }

    /// How it is started, with ports from `base` on, on some data.
    pub(crate) fn command(&self, base: u16, data: &Path) -> tokio::process::Command {
        let place = self.place();
        let mut command = place.command(&self.program);
        command
            .args(["broker", "run", "--name", &format!("faults-{}", self.ordinal)])
            .arg("--data")
            .arg(data)
            .arg("--tls")
            .arg(&self.tls)
            .args(["--grpc-address", &format!("0.0.0.0:{}", base + 1)])
            .args(["--internal-address", &format!("0.0.0.0:{}", base + 2)])
            .args(["--http-address", &format!("0.0.0.0:{}", base + 3)])
            .args(["--tcp-address", &format!("0.0.0.0:{}", base + 5)])
            .args(["--gossip-address", &format!("0.0.0.0:{}", if base == 50_050 { 7946 } else { base + 4 })])
            .args(["--advertise-host", &place.address().to_string(), "--seeds", &self.seeds])
            .args(["--memory-limit", MEMORY_LIMIT, "--journal-slot-size", SLOT_SIZE])
            .args(["--shutdown-grace", SHUTDOWN_GRACE, "--log-format", "text"])
            .env("FULMAR_FAULTY_DISK", self.disk.folder());
        command
    }

    /// SIGTERM, and wait. How it ended; an error if it did not.
    pub(crate) async fn terminate(&mut self) -> Result<String> {
        self.told_to_stop = true;
        self.process.signal(Signal::TERM);
        if let Some(how) = self.process.wait(STOP_TIMEOUT).await? {
            return Ok(how);
        }
        self.process.kill().await?;
        anyhow::bail!("broker {} did not stop within {STOP_TIMEOUT:?} of SIGTERM", self.ordinal)
    }
}
