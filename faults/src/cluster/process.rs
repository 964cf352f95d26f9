//! One process that is started, killed, stopped and started again; what it says goes into a file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// A thread that waits for a disk stops after that.
const FREEZE_WITHIN: Duration = Duration::from_mins(1);

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

    /// Whether it has ended; how, [`ended`](Self::ended) says later.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| matches!(child.try_wait(), Ok(Some(_))))
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

    /// SIGSTOP, and wait until no thread of it runs any more.
    pub(crate) async fn freeze(&self) -> Result<()> {
        let Some(pid) = self.child.as_ref().and_then(Child::id) else { return Ok(()) };
        self.signal(Signal::STOP);
        let deadline = Instant::now() + FREEZE_WITHIN;
        while Instant::now() < deadline {
            if is_frozen(pid) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("process {pid} did not stop within {FREEZE_WITHIN:?} of SIGSTOP")
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
        let mut bytes = Vec::new();
        let read = File::open(&self.log).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_from))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            // The last letter may be half written.
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => format!("its log cannot be read: {error}"),
        }
    }
}

/// Every thread is stopped, or the process is gone.
fn is_frozen(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { return true };
        // Behind the name, which is in parentheses and may hold any.
        stat.rsplit_once(") ").is_none_or(|(_, stat)| stat.starts_with(['T', 'Z', 'X']))
    })
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
    let mut lines = text.lines().rev().filter(|line| !line.trim().is_empty());
    let last = lines.next();
    // Why a program ends stands behind its name; another thread may still have logged something after it.
    let why = last.into_iter().chain(lines.take(20)).find(|line| line.starts_with("fulmar: "));
    why.or(last).unwrap_or("it said nothing").trim().to_owned()
}
