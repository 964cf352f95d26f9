//! Programs that run beside us, each with a folder of its own, and end with the values that hold them: above all `fulmar dev`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::workspace::Measured;

/// Each takes less than a second; a machine that is busy with other builds needs its time.
pub(crate) const START_AT_MOST: Duration = Duration::from_mins(2);

/// A broker hands its leaderships over and closes its files within seconds; one that has not is killed.
const END_AT_MOST: Duration = Duration::from_secs(30);

/// Between two looks at a program that was asked to end.
const LOOK: Duration = Duration::from_millis(10);

/// A program that was started.
pub(crate) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        if !self.is_ended_by_request() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

impl Running {
    /// Asks for its end first, and gives it time: what it started itself ends before it then, and writes no more to its folder.
    fn is_ended_by_request(&mut self) -> bool {
        let asked = Command::new("kill").args(["-s", "TERM", &self.0.id().to_string()]).status();
        if let Err(error) = &asked {
            eprintln!("a program is killed, for it cannot be asked to end: {error}");
        }
        let until = Instant::now() + END_AT_MOST;
        while asked.as_ref().is_ok_and(ExitStatus::success) && Instant::now() < until {
            match self.0.try_wait() {
                Ok(Some(_)) => return true,
                Ok(None) => thread::sleep(LOOK),
                Err(_) => return false,
            }
        }
        false
    }
}

/// Starts it; what it says goes where it was told to.
pub(crate) fn start(command: &mut Command) -> Result<Running> {
    let child = command.stdin(Stdio::null()).spawn();
    child.map(Running).with_context(|| format!("could not start {}", process::line(command)))
}

/// A command that ends when we do, however that may be, where the system can do that.
pub(crate) fn bound(program: &Path) -> Command {
    if cfg!(target_os = "linux") {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        return command;
    }
    Command::new(program)
}

pub(crate) fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))
}

/// Makes it, empty.
pub(crate) fn make_anew(folder: &Path) -> Result<()> {
    remove(folder)?;
    make(folder)
}

pub(crate) fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("could not empty {}", folder.display()))?;
    }
    Ok(())
}

pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("could not write {}", file.display()))
}

/// Where a program's log goes.
pub(crate) fn log(folder: &Path) -> Result<File> {
    let file = folder.join("log");
    File::options()
        .create(true)
        .append(true)
        .open(&file)
        .with_context(|| format!("could not make {}", file.display()))
}

/// A `fulmar dev`, and what it said.
pub(crate) struct Dev {
    _running: Running,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Dev {
    /// Starts it with these resources in a folder, broker 0 on the ports from `base` on.
    pub(crate) fn start(programs: &Measured, resources: &str, folder: &Path, base: u16) -> Result<Self> {
        make(folder)?;
        let file = folder.join("resources.yaml");
        write(&file, resources)?;
        let mut command = bound(&programs.program);
        command.arg("dev").arg("-f").arg(&file).arg("--data").arg(folder.join("data"));
        command.arg("--broker-program").arg(&programs.broker);
        command.args(["--port-base", &base.to_string()]).stdout(Stdio::piped()).stderr(log(folder)?);
        let mut running = start(&mut command)?;
        let stdout = running.0.stdout.take().context("standard output was asked to be piped")?;
        // Read on to the end: a process whose output nobody reads stops.
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Ok(Self { _running: running, lines, said: Vec::new() })
    }

    /// Waits for the next line that begins so.
    pub(crate) fn line(&mut self, beginning: &str) -> Result<String> {
        let until = Instant::now() + START_AT_MOST;
        while let Ok(line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.said.push(line);
            if let Some(line) = self.said.last().filter(|line| line.starts_with(beginning)) {
                return Ok(line.clone());
            }
        }
        bail!("fulmar dev did not say {beginning:?}; it said:\n{}", self.said.join("\n"))
    }
}
