//! One process that is started, killed, stopped and started again; what it says goes into a file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// See the module.
#[derive(Debug)]
pub(crate) struct Process {
    log: PathBuf,
    child: Option<Child>,
    /// Where the log stood when it was started last.
    log_from: u64,
}

impl Process {
    /// One that does not run yet.
    pub(crate) fn new(log: PathBuf) -> Self {
        Self { log, child: None, log_from: 0 }
    }

    /// Starts it.
    pub(crate) fn start(&mut self, mut command: Command) -> Result<()> {
        let open = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = open.with_context(|| format!("could not open {}", self.log.display()))?;
        self.log_from = log.metadata()?.len();
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).process_group(0);
        command.env("NO_COLOR", "1");
        self.child = Some(command.spawn().context("could not start a process")?);
        Ok(())
    }

    /// Whether it runs; if it has just ended: how.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(obituary(status, &last_line(&self.log)))
    }

    /// It was started and has not been seen to end.
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Sends a signal, if it runs.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid =
            self.child.as_ref().and_then(Child::id).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        if let Some(pid) = pid {
            // It may be gone already; waiting says so.
            let _ = kill_process(pid, signal);
        }
    }

    /// Kill -9, and wait until it is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await.context("could not kill a process")?;
        }
        Ok(())
    }

    /// Waits for its end; `None` if it goes on.
    pub(crate) async fn wait(&mut self, at_most: Duration) -> Result<Option<String>> {
        let Some(child) = self.child.as_mut() else { return Ok(Some("does not run".to_owned())) };
        let Ok(status) = tokio::time::timeout(at_most, child.wait()).await else { return Ok(None) };
        self.child = None;
        Ok(Some(obituary(status?, &last_line(&self.log))))
    }

    /// What it said since it was started last.
    pub(crate) fn said(&self) -> String {
        let mut text = String::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_from))?;
            file.read_to_string(&mut text)
        });
        match read {
            Ok(_) => text,
            Err(error) => format!("its log cannot be read: {error}"),
        }
    }
}

fn obituary(status: ExitStatus, last_line: &str) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "ended in order".to_owned(),
        (Some(code), _) => format!("ended with code {code}: {last_line}"),
        (None, signal) => format!("was killed by signal {}", signal.unwrap_or_default()),
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}
